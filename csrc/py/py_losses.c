/* reidc._core: losses as functions of arrays, and AABS's planes of a given map. The public
 * functions with their defaults and docstrings are in reidc/losses.py; these check dtypes. */
#include "py/py.h"

#include <string.h>

/* float32 or float64, C-contiguous, of rank `rank`; `type` NPY_NOTYPE takes either, and is then
 * what came. New reference. */
static PyArrayObject *
real_array(PyObject *object, const char *what, int rank, int *type)
{
    rc_error err;
    PyArrayObject *array = (PyArrayObject *)PyArray_FROM_O(object); /* new */
    if (!array) {
        return NULL;
    }
    int got = PyArray_TYPE(array);
    bool fits = *type == NPY_NOTYPE ? got == NPY_FLOAT || got == NPY_DOUBLE : got == *type;
    rc_status status = RC_OK;
    if (!fits) {
        PyObject *text = PyObject_Str((PyObject *)PyArray_DESCR(array)); /* new */
        const char *name = text ? PyUnicode_AsUTF8(text) : "?";
        status = rc_fail(&err, RC_TYPE, "%s: expected %s, got %s", what,
                         *type == NPY_NOTYPE  ? "float32 or float64"
                         : *type == NPY_FLOAT ? "float32 as the first array"
                                              : "float64 as the first array",
                         name ? name : "?");
        Py_XDECREF(text);
    } else if (PyArray_NDIM(array) != rank) {
        status = rc_fail(&err, RC_ARGUMENT, "%s: expected %d dimensions, got %d", what, rank,
                         PyArray_NDIM(array));
    }
    if (status != RC_OK) {
        Py_DECREF(array);
        return (PyArrayObject *)rc_py_raise(status, &err);
    }
    *type = got;
    PyArrayObject *ready = (PyArrayObject *)PyArray_FROM_OTF((PyObject *)array, got,
                                                             NPY_ARRAY_IN_ARRAY); /* new */
    Py_DECREF(array);
    return ready;
}

static rc_shape
shape_of(PyArrayObject *array)
{
    rc_shape s = {PyArray_NDIM(array), {1, 1, 1, 1}};
    for (int i = 0; i < s.rank; i++) {
        s.d[i] = PyArray_DIM(array, i);
    }
    return s;
}

/* ---- settings ----------------------------------------------------------------------------- */

/* A choice among words, as the page names them; false with ValueError. */
static bool
read_choice(PyObject *value, const char *what, const char *first, const char *second,
            int64_t *mode)
{
    const char *text = PyUnicode_Check(value) ? PyUnicode_AsUTF8(value) : NULL;
    if (text && strcmp(text, first) == 0) {
        *mode = 0;
        return true;
    }
    if (text && strcmp(text, second) == 0) {
        *mode = 1;
        return true;
    }
    PyObject *shown = PyObject_Repr(value); /* new */
    const char *got = shown ? PyUnicode_AsUTF8(shown) : NULL;
    rc_error err;
    rc_py_raise(rc_fail(&err, RC_ARGUMENT, "%s: expected '%s' or '%s', got %.100s", what, first,
                        second, got ? got : "?"), &err);
    Py_XDECREF(shown);
    return false;
}

static bool
read_number(PyObject *value, const char *what, double *number)
{
    *number = PyFloat_AsDouble(value);
    if (*number == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        rc_error err;
        rc_py_raise(rc_fail(&err, RC_TYPE, "%s: expected a number, got %s", what,
                            Py_TYPE(value)->tp_name), &err);
        return false;
    }
    return true;
}

static bool
read_settings(PyObject *settings, rc_attrs *a)
{
    PyObject *key, *value; /* borrowed */
    Py_ssize_t at = 0;
    while (PyDict_Next(settings, &at, &key, &value)) {
        const char *name = PyUnicode_AsUTF8(key);
        bool good = name != NULL;
        if (good && strcmp(name, "spread") == 0) {
            good = read_choice(value, name, "all", "others", &a->mode);
        } else if (good && strcmp(name, "distance") == 0) {
            good = read_choice(value, name, "euclidean", "cos", &a->mode);
        } else if (good && strcmp(name, "normalize") == 0) {
            a->normalized = PyObject_IsTrue(value);
            good = a->normalized >= 0;
        } else if (good && strcmp(name, "margin") == 0 && value == Py_None) {
            a->soft = 1;
        } else if (good && strcmp(name, "margin") == 0) {
            good = read_number(value, name, &a->margin);
        } else if (good && strcmp(name, "smoothing") == 0) {
            good = read_number(value, name, &a->smoothing);
        } else if (good && strcmp(name, "scale") == 0) {
            good = read_number(value, name, &a->scale);
        }
        if (!good) {
            return false;
        }
    }
    return true;
}

/* ---- losses ------------------------------------------------------------------------------- */

/* One row a loss: its inputs by name. */
static const struct kind {
    const char *name;
    rc_op_id op;
    const char *inputs[3];
    bool is_int[3];
} kinds[] = {
    {"cross_entropy", RC_OP_cross_entropy, {"logits", "labels", NULL}, {false, true, false}},
    {"triplet", RC_OP_triplet, {"embeddings", "labels", NULL}, {false, true, false}},
    {"center", RC_OP_center, {"embeddings", "labels", "centers"}, {false, true, false}},
    {"circle", RC_OP_circle, {"embeddings", "labels", NULL}, {false, true, false}},
    {"gla", RC_OP_cosine_loss, {"embeddings", "guides", NULL}, {false, false, false}},
};

static const struct kind *
find_kind(const char *name)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kinds[i].name, name) == 0) {
            return &kinds[i];
        }
    }
    PyErr_Format(PyExc_ValueError, "no loss is called '%s'", name);
    return NULL;
}

static PyObject *
loss(PyObject *self, PyObject *args)
{
    (void)self;
    const char *name;
    PyObject *inputs, *settings;
    if (!PyArg_ParseTuple(args, "sO!O!", &name, &PyTuple_Type, &inputs, &PyDict_Type,
                          &settings)) {
        return NULL;
    }
    const struct kind *kind = find_kind(name);
    rc_loss_call call = {0};
    PyArrayObject *x[3] = {NULL}, *dx[3] = {NULL}; /* owned */
    PyObject *out = NULL;
    int type = NPY_NOTYPE;
    if (!kind || !read_settings(settings, &call.attrs)) {
        return NULL;
    }
    call.op = kind->op;
    for (int i = 0; i < 3 && kind->inputs[i]; i++) {
        PyObject *item = PyTuple_GetItem(inputs, i); /* borrowed */
        if (item) {
            x[i] = kind->is_int[i] ? rc_py_array_i64(item, kind->inputs[i], 1)
                                   : real_array(item, kind->inputs[i], 2, &type);
        }
        if (!x[i]) {
            goto done;
        }
        call.n_in = i + 1;
        call.x[i] = PyArray_DATA(x[i]);
        call.xs[i] = shape_of(x[i]);
        if (!kind->is_int[i] && !(rc_op_table[kind->op]->no_grad >> i & 1)) {
            dx[i] = rc_py_new_array(PyArray_NDIM(x[i]), PyArray_DIMS(x[i]), type);
            if (!dx[i]) {
                goto done;
            }
            call.dx[i] = PyArray_DATA(dx[i]);
        }
    }
    call.is_double = type == NPY_DOUBLE;
    double value = 0;
    rc_error err = {0};
    rc_status status;
    Py_BEGIN_ALLOW_THREADS
    status = rc_loss_run(&call, &value, &err);
    Py_END_ALLOW_THREADS
    if (status != RC_OK) {
        rc_py_raise(status, &err);
    } else if (dx[2]) {
        out = Py_BuildValue("(d(OO))", value, dx[0], dx[2]);
    } else {
        out = Py_BuildValue("(dO)", value, dx[0]);
    }
done:
    for (int i = 0; i < 3; i++) {
        Py_XDECREF(x[i]);
        Py_XDECREF(dx[i]);
    }
    return out;
}

/* ---- AABS --------------------------------------------------------------------------------- */

static PyObject *
aabs(PyObject *self, PyObject *argument)
{
    (void)self;
    PyArrayObject *f = rc_py_array_f32(argument, "F", 4); /* new */
    if (!f) {
        return NULL;
    }
    const npy_intp *d = PyArray_DIMS(f);
    rc_aabs_maps maps = {PyArray_DATA(f), d[0], d[1], d[2], d[3], true};
    PyArrayObject *planes = rc_py_new_array(2, (npy_intp[]){d[0], 4}, NPY_INT64); /* new */
    if (planes) {
        rc_error err = {0};
        rc_status status;
        Py_BEGIN_ALLOW_THREADS
        status = rc_aabs(&maps, PyArray_DATA(planes), &err);
        Py_END_ALLOW_THREADS
        if (status != RC_OK) {
            Py_CLEAR(planes);
            rc_py_raise(status, &err);
        }
    }
    Py_DECREF(f);
    return (PyObject *)planes;
}

static PyMethodDef methods[] = {
    {"_loss", loss, METH_VARARGS,
     "_loss(name, inputs, settings)\n--\n\n(value, gradient); see reidc.losses."},
    {"aabs", aabs, METH_O,
     "aabs(F, /)\n--\n\n"
     "Planes of adaptively adjusted body segmentation (the MBGN page, section 3).\n\n"
     "F: float32, N x C x H x w, H >= 5, finite. Returns int64 N x 4, in each row\n"
     "0 < l0 < l1 < l2 < l3 < H: the rows where parts 2, 3, 4 and 5 begin. One image's planes\n"
     "do not depend on the others. TypeError: dtype; ValueError: rank, H, NaN."},
    {NULL, NULL, 0, NULL},
};

int
rc_py_add_losses(PyObject *module)
{
    return PyModule_AddFunctions(module, methods);
}
