/* reidc._core: single operations for the tests and benchmarks: what there are, their rules. */
#include "py/py_ops.h"

#include <string.h>

/* ---- arguments ---------------------------------------------------------------------------- */

const rc_op *
rc_py_op_find(const char *name, rc_op_id *id)
{
    for (int i = 0; i < RC_OP_COUNT; i++) {
        if (strcmp(rc_op_table[i]->name, name) == 0) {
            *id = (rc_op_id)i;
            return rc_op_table[i];
        }
    }
    PyErr_Format(PyExc_ValueError, "no operation is called '%s'", name);
    return NULL;
}

int
rc_py_op_attrs(PyObject *dict, rc_attrs *a)
{
    *a = (rc_attrs){0};
    PyObject *key, *value; /* borrowed */
    Py_ssize_t at = 0;
    while (dict && PyDict_Next(dict, &at, &key, &value)) {
        const char *name = PyUnicode_AsUTF8(key);
        if (!name) {
            return -1;
        }
        bool known = false;
#define READ_INT(field)                        \
    if (strcmp(name, #field) == 0) {           \
        a->field = PyLong_AsLongLong(value);   \
        known = true;                          \
    }
#define READ_REAL(field)                       \
    if (strcmp(name, #field) == 0) {           \
        a->field = PyFloat_AsDouble(value);    \
        known = true;                          \
    }
        RC_ATTR_LIST(READ_INT, READ_REAL)
#undef READ_INT
#undef READ_REAL
        if (!known) {
            PyErr_Format(PyExc_TypeError, "no attribute is called '%s'", name);
        }
        if (PyErr_Occurred()) {
            return -1;
        }
    }
    return 0;
}

int
rc_py_op_count(const rc_op *op, Py_ssize_t n)
{
    if (n < op->min_in || n > op->max_in) {
        PyErr_SetString(PyExc_ValueError, "wrong number of inputs");
        return -1;
    }
    return 0;
}

/* ---- what an operation is ----------------------------------------------------------------- */

static PyObject *
op_names(PyObject *self, PyObject *Py_UNUSED(none))
{
    (void)self;
    PyObject *list = PyList_New(0);
    for (int i = 0; list && i < RC_OP_COUNT; i++) {
        PyObject *text = PyUnicode_FromString(rc_op_table[i]->name); /* new */
        if (!text || PyList_Append(list, text) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(text);
    }
    return list;
}

static PyObject *
op_info(PyObject *self, PyObject *argument)
{
    (void)self;
    const char *name = PyUnicode_AsUTF8(argument);
    rc_op_id id;
    const rc_op *op = name ? rc_py_op_find(name, &id) : NULL;
    if (!op) {
        return NULL;
    }
    return Py_BuildValue(
        "{s:i,s:i,s:N,s:N,s:N,s:N,s:N,s:k,s:N,s:N}", "min_in", op->min_in, "max_in", op->max_in,
        "y_is_int", PyBool_FromLong(op->y_is_int), "cheap", PyBool_FromLong(op->cheap),
        "in_place", PyBool_FromLong(op->in_place), "bwd_in_place",
        PyBool_FromLong(op->bwd_in_place), "batch_statistics",
        PyBool_FromLong(op->batch_statistics), "no_grad", (unsigned long)op->no_grad, "backward",
        PyBool_FromLong(op->backward[0] != NULL), "commit",
        PyBool_FromLong(op->commit[0] != NULL));
}

static PyObject *
op_rules(PyObject *self, PyObject *args, PyObject *keywords)
{
    (void)self;
    static char *names[] = {"name", "attrs", "shapes", "wants", "training", "real_size", NULL};
    const char *name;
    PyObject *attrs, *shapes;
    unsigned long wants = 1;
    int training = 0, real_size = 4;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "sO!O!|kpi", names, &name, &PyDict_Type,
                                     &attrs, &PyList_Type, &shapes, &wants, &training,
                                     &real_size)) {
        return NULL;
    }
    rc_op_id id;
    rc_attrs a;
    rc_shape xs[RC_MAX_IN] = {{0}}, y = {0};
    rc_error err = {0};
    const rc_op *op = rc_py_op_find(name, &id);
    if (!op || rc_py_op_attrs(attrs, &a) < 0) {
        return NULL;
    }
    Py_ssize_t n = PyList_Size(shapes);
    if (rc_py_op_count(op, n) < 0) {
        return NULL;
    }
    for (int i = 0; i < n; i++) {
        PyObject *item = PyList_GetItem(shapes, i); /* borrowed */
        if (item == Py_None) {
            continue;
        }
        Py_ssize_t rank = PySequence_Size(item);
        if (rank < 1 || rank > RC_MAX_RANK) {
            PyErr_SetString(PyExc_ValueError, "expected 1 to 4 dimensions");
            return NULL;
        }
        xs[i] = (rc_shape){(int32_t)rank, {1, 1, 1, 1}};
        for (int j = 0; j < rank; j++) {
            PyObject *size = PySequence_GetItem(item, j); /* new */
            xs[i].d[j] = size ? PyLong_AsLongLong(size) : -1;
            Py_XDECREF(size);
        }
    }
    if (PyErr_Occurred()) {
        return NULL;
    }
    rc_status status = op->infer(&a, (int)n, xs, &y, &err);
    if (status != RC_OK) {
        return rc_py_raise(status, &err);
    }
    PyObject *dims = PyTuple_New(y.rank);
    for (int i = 0; dims && i < y.rank; i++) {
        PyTuple_SetItem(dims, i, PyLong_FromLongLong(y.d[i])); /* steals */
    }
    size_t size = (size_t)real_size;
    return Py_BuildValue(
        "{s:N,s:k,s:L,s:L,s:L,s:d,s:d}", "y", dims, "reads",
        (unsigned long)(op->reads ? op->reads(&a, (int)n, xs, (uint32_t)wants, training) : 0),
        "ws", (long long)(op->ws_size ? op->ws_size(&a, xs, &y, size) : 0), "tmp_forward",
        (long long)(op->tmp_size ? op->tmp_size(&a, xs, &y, size, false, 1) : 0), "tmp_backward",
        (long long)(op->tmp_size ? op->tmp_size(&a, xs, &y, size, true, 1) : 0), "macs",
        op->macs ? op->macs(&a, xs, &y, false) : 0.0, "macs_literal",
        op->macs ? op->macs(&a, xs, &y, true) : 0.0);
}

static PyMethodDef methods[] = {
    {"_op_names", op_names, METH_NOARGS, "_op_names(): operations that there are (tests)."},
    {"_op_info", op_info, METH_O, "_op_info(name): flags as a dict (tests)."},
    {"_op_rules", (PyCFunction)(void (*)(void))op_rules, METH_VARARGS | METH_KEYWORDS,
     "_op_rules(name, attrs, shapes, wants=1, training=False, real_size=4)\n--\n\n"
     "Shape of y, bits read by backward, bytes, multiply-accumulates; shapes: list of tuples\n"
     "or None (tests)."},
    {"_op_run", (PyCFunction)(void (*)(void))rc_py_op_run, METH_VARARGS | METH_KEYWORDS,
     "_op_run(name, attrs, inputs, dtype='float32', *, dy=None, dx=None, wants=None,\n"
     "        training=False, seed=0, step=0, node=0, threads=1, kernel='reference',\n"
     "        in_place=False, bwd_in_place=False, again=False, repeat=1)\n--\n\n"
     "Runs one operation: {'y', 'kernel', 'seconds'} and, with dy, 'dx' (a list; with starting\n"
     "values in dx they are added to), and after a commit 'state'. Arrays are N x C x H x W;\n"
     "integer arrays stay int64; None: no such input. 'seconds': best of `repeat`, forward\n"
     "and backward (tests and benchmarks)."},
    {NULL, NULL, 0, NULL},
};

int
rc_py_add_ops(PyObject *module)
{
    return PyModule_AddFunctions(module, methods);
}
