/* reidc._core.EMA: a moving average of a network's weights and running statistics. It holds its
 * network. reidc/optim.py gives it its signature and `applied`. */
#include <string.h>

#include "py/py_optim.h"

typedef struct rc_py_ema {
    PyObject_HEAD
    /* owned */
    PyObject *network;
    rc_py_model *shared;
    rc_ema *ema; /* NULL before __init__ */
} rc_py_ema;

static PyTypeObject *ema_type; /* lint: mutable static, filled once at import */

static rc_py_ema *
ready(PyObject *self)
{
    rc_py_ema *e = (rc_py_ema *)self;
    if (!e->ema) {
        rc_py_fail(RC_ARGUMENT, "EMA: its __init__ was never called or has failed");
        return NULL;
    }
    return e;
}

int
rc_py_ema_get(PyObject *object, const rc_py_model *m, rc_ema **out)
{
    *out = NULL;
    if (object == Py_None) {
        return 0;
    }
    if (!PyObject_TypeCheck(object, ema_type)) {
        rc_py_fail(RC_TYPE, "ema: expected reidc.EMA or None, got %s", Py_TYPE(object)->tp_name);
        return -1;
    }
    rc_py_ema *e = ready(object);
    if (e && e->shared != m) {
        rc_py_fail(RC_ARGUMENT, "ema: it was made for another network");
        return -1;
    }
    *out = e ? e->ema : NULL;
    return e ? 0 : -1;
}

static int
decay_of(PyObject *value, double *out)
{
    if (!PyFloat_Check(value) && !PyLong_Check(value) && !PyArray_IsScalar(value, Number)) {
        rc_py_fail(RC_TYPE, "decay: expected a number, got %s", Py_TYPE(value)->tp_name);
        return -1;
    }
    *out = PyFloat_AsDouble(value);
    return PyErr_Occurred() ? -1 : 0;
}

static int
ema_init(PyObject *self, PyObject *args, PyObject *kw)
{
    static char *names[] = {"network", "decay", NULL};
    rc_py_ema *e = (rc_py_ema *)self;
    PyObject *network, *value;
    double decay;
    if (!PyArg_ParseTupleAndKeywords(args, kw, "OO:EMA", names, &network, &value)
        || decay_of(value, &decay) < 0) {
        return -1;
    }
    if (e->ema) {
        rc_py_fail(RC_ARGUMENT, "EMA: __init__ was called a second time");
        return -1;
    }
    if (!rc_py_network_check(network)) {
        rc_py_fail(RC_TYPE, "network: expected a reidc network, got %s",
                   Py_TYPE(network)->tp_name);
        return -1;
    }
    rc_py_model *m = rc_py_network_get(network);
    if (!m || rc_py_model_enter(m) < 0) {
        return -1;
    }
    rc_error err = {0};
    rc_status status;
    Py_BEGIN_ALLOW_THREADS
    status = rc_ema_new(m->model, decay, &e->ema, &err);
    Py_END_ALLOW_THREADS
    rc_py_model_leave(m);
    if (status != RC_OK) {
        rc_py_raise(status, &err);
        return -1;
    }
    e->shared = rc_py_model_ref(m);
    e->network = Py_NewRef(network);
    return 0;
}

static int
ema_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((rc_py_ema *)self)->network);
    return 0;
}

static int
ema_clear(PyObject *self)
{
    Py_CLEAR(((rc_py_ema *)self)->network);
    return 0;
}

static void
ema_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    rc_py_ema *e = (rc_py_ema *)self;
    PyObject_GC_UnTrack(self);
    ema_clear(self);
    rc_ema_free(e->ema);
    rc_py_model_release(e->shared);
    type->tp_free(self);
    Py_DECREF(type);
}

/* ---- updates, in and out ------------------------------------------------------------------------- */

static PyObject *
ema_update(PyObject *self, PyObject *Py_UNUSED(none))
{
    rc_py_ema *e = ready(self);
    if (!e || rc_py_model_enter(e->shared) < 0) {
        return NULL;
    }
    rc_error err = {0};
    rc_status status;
    Py_BEGIN_ALLOW_THREADS
    rc_model_lock(e->shared->model);
    status = rc_ema_update(e->ema, &err);
    rc_model_unlock(e->shared->model);
    Py_END_ALLOW_THREADS
    rc_py_model_leave(e->shared);
    return status == RC_OK ? Py_NewRef(Py_None) : rc_py_raise(status, &err);
}

static PyObject *
swap(PyObject *self, bool apply)
{
    rc_py_ema *e = ready(self);
    if (!e || rc_py_model_enter(e->shared) < 0) {
        return NULL;
    }
    bool fits = rc_ema_is_applied(e->ema) != apply;
    if (fits) {
        Py_BEGIN_ALLOW_THREADS
        rc_model_lock(e->shared->model);
        rc_ema_swap(e->ema);
        rc_model_unlock(e->shared->model);
        Py_END_ALLOW_THREADS
    }
    rc_py_model_leave(e->shared);
    if (!fits) {
        return rc_py_fail(RC_ARGUMENT, apply ? "apply: the network holds the average already"
                                             : "restore: the network holds its own weights");
    }
    Py_RETURN_NONE;
}

static PyObject *
ema_apply(PyObject *self, PyObject *Py_UNUSED(none))
{
    return swap(self, true);
}

static PyObject *
ema_restore(PyObject *self, PyObject *Py_UNUSED(none))
{
    return swap(self, false);
}

/* ---- checkpoints --------------------------------------------------------------------------------- */

static PyObject *
copies(rc_py_ema *e, bool average)
{
    rc_model *model = e->shared->model;
    const rc_model_info *info = rc_model_get_info(model);
    PyObject *dict = PyDict_New(); /* new */
    for (int i = 0; dict && i < rc_model_state_count(model); i++) {
        rc_state_view view;
        npy_intp d[RC_MAX_RANK];
        rc_model_state(model, i, &view);
        for (int k = 0; k < view.shape.rank; k++) {
            d[k] = view.shape.d[k];
        }
        PyArrayObject *array = rc_py_new_array(view.shape.rank, d, rc_py_real(info)); /* new */
        if (array) {
            const void *from = average ? rc_ema_average(e->ema, i) : rc_ema_weights(e->ema, i);
            memcpy(PyArray_DATA(array), from, (size_t)PyArray_NBYTES(array));
        }
        if (!array || PyDict_SetItemString(dict, view.name, (PyObject *)array) < 0) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(array);
    }
    return dict;
}

static PyObject *
ema_weights(PyObject *self, PyObject *Py_UNUSED(none))
{
    rc_py_ema *e = ready(self);
    if (!e || rc_py_model_enter(e->shared) < 0) {
        return NULL;
    }
    PyObject *dict = copies(e, false);
    rc_py_model_leave(e->shared);
    return dict;
}

static PyObject *
ema_state_dict(PyObject *self, PyObject *Py_UNUSED(none))
{
    rc_py_ema *e = ready(self);
    if (!e || rc_py_model_enter(e->shared) < 0) {
        return NULL;
    }
    PyObject *state = copies(e, true); /* new */
    PyObject *result = state ? Py_BuildValue("{s:d,s:L,s:N}", "decay", rc_ema_get_decay(e->ema),
                                             "updates", (long long)rc_ema_get_updates(e->ema),
                                             "state", state)
                             : NULL;
    rc_py_model_leave(e->shared);
    return result;
}

static int
load(rc_py_ema *e, PyObject *dict)
{
    PyObject *decay_object = PyDict_GetItemString(dict, "decay"),
             *updates_object = PyDict_GetItemString(dict, "updates"),
             *state = PyDict_GetItemString(dict, "state"); /* borrowed from our copy */
    double decay;
    if (!decay_object || !updates_object || !state || !PyDict_Check(state)
        || !PyLong_Check(updates_object)) {
        rc_py_fail(RC_ARGUMENT, "state: expected what state_dict() gave: decay, updates, state");
        return -1;
    }
    long long updates = PyLong_AsLongLong(updates_object);
    if ((updates == -1 && PyErr_Occurred()) || decay_of(decay_object, &decay) < 0) {
        return -1;
    }
    if (updates < 0 || !(decay >= 0 && decay < 1)) {
        rc_py_fail(RC_ARGUMENT, "state: expected updates >= 0 and a decay from 0 to below 1");
        return -1;
    }
    PyObject *arrays = rc_py_states_get(e->shared->model, state); /* new */
    if (!arrays || rc_py_model_enter(e->shared) < 0) {
        Py_XDECREF(arrays);
        return -1;
    }
    rc_error err = {0};
    rc_status status = rc_ema_check(e->ema, e->shared->model, &err);
    if (status == RC_OK) {
        status = rc_ema_set_decay(e->ema, decay, &err);
    }
    for (int i = 0; status == RC_OK && i < rc_model_state_count(e->shared->model); i++) {
        PyArrayObject *array = (PyArrayObject *)PyList_GET_ITEM(arrays, i); /* borrowed */
        memcpy(rc_ema_average(e->ema, i), PyArray_DATA(array), (size_t)PyArray_NBYTES(array));
    }
    if (status == RC_OK) {
        rc_ema_set_updates(e->ema, updates);
    }
    rc_py_model_leave(e->shared);
    Py_DECREF(arrays);
    if (status != RC_OK) {
        rc_py_raise(status, &err);
    }
    return status == RC_OK ? 0 : -1;
}

static PyObject *
ema_load_state_dict(PyObject *self, PyObject *dict)
{
    rc_py_ema *e = ready(self);
    if (!e) {
        return NULL;
    }
    if (!PyDict_Check(dict)) {
        return rc_py_fail(RC_TYPE, "state: expected a dict, got %s", Py_TYPE(dict)->tp_name);
    }
    PyObject *own = PyDict_Copy(dict); /* new */
    int result = own ? load(e, own) : -1;
    Py_XDECREF(own);
    return result == 0 ? Py_NewRef(Py_None) : NULL;
}

/* ---- attributes ---------------------------------------------------------------------------------- */

static PyObject *
get_decay(PyObject *self, void *closure)
{
    (void)closure;
    rc_py_ema *e = ready(self);
    return e ? PyFloat_FromDouble(rc_ema_get_decay(e->ema)) : NULL;
}

static int
set_decay(PyObject *self, PyObject *value, void *closure)
{
    (void)closure;
    double decay;
    rc_error err = {0};
    rc_py_ema *e = ready(self);
    if (!e || !value) {
        if (e) {
            rc_py_fail(RC_TYPE, "decay: cannot be deleted");
        }
        return -1;
    }
    if (decay_of(value, &decay) < 0 || rc_py_model_enter(e->shared) < 0) {
        return -1;
    }
    rc_status status = rc_ema_set_decay(e->ema, decay, &err);
    rc_py_model_leave(e->shared);
    if (status != RC_OK) {
        rc_py_raise(status, &err);
    }
    return status == RC_OK ? 0 : -1;
}

static PyObject *
get_updates(PyObject *self, void *closure)
{
    (void)closure;
    rc_py_ema *e = ready(self);
    return e ? PyLong_FromLongLong(rc_ema_get_updates(e->ema)) : NULL;
}

static PyObject *
get_is_applied(PyObject *self, void *closure)
{
    (void)closure;
    rc_py_ema *e = ready(self);
    return e ? PyBool_FromLong(rc_ema_is_applied(e->ema)) : NULL;
}

static PyObject *
get_network(PyObject *self, void *closure)
{
    (void)closure;
    rc_py_ema *e = ready(self);
    return e ? Py_XNewRef(e->network) : NULL;
}

static PyGetSetDef attributes[] = {
    {"decay", get_decay, set_decay, "What stays of the average in an update; settable.", NULL},
    {"updates", get_updates, NULL, "How many there were.", NULL},
    {"is_applied", get_is_applied, NULL, "Whether the network holds the average now.", NULL},
    {"network", get_network, NULL, "The network whose weights are averaged.", NULL},
    {0},
};

static PyMethodDef methods[] = {
    {"update", ema_update, METH_NOARGS,
     "update($self)\n--\n\n"
     "average <- average + (1 - decay) (weights - average). train_step(..., ema=...) does it at\n"
     "the end of its step. ValueError: the network holds the average."},
    {"apply", ema_apply, METH_NOARGS,
     "apply($self)\n--\n\n"
     "Put the average into the network, until `restore`."},
    {"restore", ema_restore, METH_NOARGS,
     "restore($self)\n--\n\n"
     "Give the network its own weights back, bit by bit."},
    {"weights", ema_weights, METH_NOARGS,
     "weights($self)\n--\n\n"
     "Copies of the network's own weights and statistics by name, also while the average is\n"
     "applied."},
    {"state_dict", ema_state_dict, METH_NOARGS,
     "state_dict($self)\n--\n\n"
     "decay, updates and `state`: copies of the average by name."},
    {"load_state_dict", ema_load_state_dict, METH_O,
     "load_state_dict($self, state, /)\n--\n\n"
     "Take over what state_dict() gave, all of it or nothing."},
    {0},
};

PyDoc_STRVAR(documentation,
             "EMA(network, decay)\n--\n\n"
             "What reidc.EMA is made of.");

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)documentation},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_init, ema_init},
    {Py_tp_dealloc, ema_dealloc},
    {Py_tp_traverse, ema_traverse},
    {Py_tp_clear, ema_clear},
    {Py_tp_methods, methods},
    {Py_tp_getset, attributes},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "reidc._core.EMA",
    .basicsize = sizeof(rc_py_ema),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};

int
rc_py_add_ema(PyObject *module)
{
    if (!ema_type) {
        ema_type = (PyTypeObject *)PyType_FromSpec(&spec);
        if (!ema_type) {
            return -1;
        }
    }
    return PyModule_AddObjectRef(module, "EMA", (PyObject *)ema_type);
}
