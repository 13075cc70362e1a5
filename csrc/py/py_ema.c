/* reidc._core.EMA: a moving average of a network's weights and running statistics. It holds its
 * network. reidc/optim.py gives it its signature and `applied`. */
#include <string.h>

#include "py/py_follow.h"

#define WHO "EMA"

static PyTypeObject *ema_type; /* lint: mutable static, filled once at import */

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
    rc_py_follow *f = rc_py_follow_of(object, m, WHO, "ema");
    *out = f ? f->own : NULL;
    return f ? 0 : -1;
}

static int
ema_init(PyObject *self, PyObject *args, PyObject *kw)
{
    static char *names[] = {"network", "decay", NULL};
    PyObject *network, *value;
    double decay;
    if (!PyArg_ParseTupleAndKeywords(args, kw, "OO:EMA", names, &network, &value)
        || rc_py_number(value, "decay", &decay) < 0) {
        return -1;
    }
    rc_py_model *m = rc_py_follow_begin(self, network, WHO);
    if (!m || rc_py_model_enter(m) < 0) {
        return -1;
    }
    rc_ema *ema = NULL;
    rc_error err = {0};
    rc_status status;
    Py_BEGIN_ALLOW_THREADS
    status = rc_ema_new(m->model, decay, &ema, &err);
    Py_END_ALLOW_THREADS
    rc_py_model_leave(m);
    if (status != RC_OK) {
        rc_py_raise(status, &err);
        return -1;
    }
    rc_py_follow_set(self, network, m, ema);
    return 0;
}

static void
ema_dealloc(PyObject *self)
{
    rc_ema_free(((rc_py_follow *)self)->own);
    rc_py_follow_dealloc(self);
}

/* ---- updates, in and out ------------------------------------------------------------------------- */

static rc_status
update(void *own, rc_error *err)
{
    return rc_ema_update(own, err);
}

static PyObject *
ema_update(PyObject *self, PyObject *Py_UNUSED(none))
{
    return rc_py_follow_run(self, WHO, update);
}

static PyObject *
swap(PyObject *self, bool apply)
{
    rc_py_follow *f = rc_py_follow_enter(self, WHO);
    if (!f) {
        return NULL;
    }
    bool fits = rc_ema_is_applied(f->own) != apply;
    if (fits && rc_py_model_fetch(f->shared) < 0) {
        rc_py_model_leave(f->shared);
        return NULL;
    }
    if (fits) {
        Py_BEGIN_ALLOW_THREADS
        rc_model_lock(f->shared->model);
        rc_ema_swap(f->own);
        rc_model_unlock(f->shared->model);
        Py_END_ALLOW_THREADS
    }
    rc_py_model_leave(f->shared);
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

/* Copies of the average, or of the network's own weights, by name. */
static PyObject *
copies(rc_py_follow *f, bool average)
{
    rc_model *model = f->shared->model;
    const rc_model_info *info = rc_model_get_info(model);
    PyObject *dict = PyDict_New(); /* new */
    for (int i = 0; dict && i < rc_model_state_count(model); i++) {
        rc_state_view view;
        rc_model_state(model, i, &view);
        const void *from = average ? rc_ema_average(f->own, i) : rc_ema_weights(f->own, i);
        if (rc_py_put_copy(dict, view.name, &view.shape, info, from) < 0) {
            Py_CLEAR(dict);
        }
    }
    return dict;
}

static PyObject *
ema_weights(PyObject *self, PyObject *Py_UNUSED(none))
{
    rc_py_follow *f = rc_py_follow_enter(self, WHO);
    if (!f) {
        return NULL;
    }
    PyObject *dict = rc_py_model_fetch(f->shared) == 0 ? copies(f, false) : NULL;
    rc_py_model_leave(f->shared);
    return dict;
}

static PyObject *
ema_state_dict(PyObject *self, PyObject *Py_UNUSED(none))
{
    rc_py_follow *f = rc_py_follow_enter(self, WHO);
    if (!f) {
        return NULL;
    }
    PyObject *state = rc_py_model_fetch(f->shared) == 0 ? copies(f, true) : NULL; /* new */
    PyObject *result = state ? Py_BuildValue("{s:d,s:L,s:N}", "decay", rc_ema_get_decay(f->own),
                                             "updates", (long long)rc_ema_get_updates(f->own),
                                             "state", state)
                             : NULL;
    rc_py_model_leave(f->shared);
    return result;
}

static int
load(rc_py_follow *f, PyObject *dict)
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
    if ((updates == -1 && PyErr_Occurred()) || rc_py_number(decay_object, "decay", &decay) < 0) {
        return -1;
    }
    if (updates < 0 || !(decay >= 0 && decay < 1)) {
        rc_py_fail(RC_ARGUMENT, "state: expected updates >= 0 and a decay from 0 to below 1");
        return -1;
    }
    PyObject *arrays = rc_py_states_get(f->shared->model, state); /* new */
    if (!arrays || rc_py_model_enter(f->shared) < 0) {
        Py_XDECREF(arrays);
        return -1;
    }
    rc_error err = {0};
    rc_status status = rc_ema_check(f->own, f->shared->model, &err);
    if (status == RC_OK && rc_py_model_fetch(f->shared) < 0) {
        rc_py_model_leave(f->shared);
        Py_DECREF(arrays);
        return -1;
    }
    if (status == RC_OK) {
        status = rc_ema_set_decay(f->own, decay, &err);
    }
    for (int i = 0; status == RC_OK && i < rc_model_state_count(f->shared->model); i++) {
        PyArrayObject *array = (PyArrayObject *)PyList_GET_ITEM(arrays, i); /* borrowed */
        memcpy(rc_ema_average(f->own, i), PyArray_DATA(array), (size_t)PyArray_NBYTES(array));
    }
    if (status == RC_OK) {
        rc_ema_set_updates(f->own, updates);
    }
    rc_py_model_leave(f->shared);
    Py_DECREF(arrays);
    if (status != RC_OK) {
        rc_py_raise(status, &err);
    }
    return status == RC_OK ? 0 : -1;
}

static PyObject *
ema_load_state_dict(PyObject *self, PyObject *dict)
{
    return rc_py_follow_load(self, dict, WHO, load);
}

/* ---- attributes ---------------------------------------------------------------------------------- */

static PyObject *
get_decay(PyObject *self, void *closure)
{
    (void)closure;
    rc_py_follow *f = rc_py_follow_ready(self, WHO);
    return f ? PyFloat_FromDouble(rc_ema_get_decay(f->own)) : NULL;
}

static int
set_decay(PyObject *self, PyObject *value, void *closure)
{
    (void)closure;
    double decay;
    rc_error err = {0};
    rc_py_follow *f = rc_py_follow_settable(self, value, WHO, "decay");
    if (!f || rc_py_number(value, "decay", &decay) < 0 || rc_py_model_enter(f->shared) < 0) {
        return -1;
    }
    rc_status status = rc_ema_set_decay(f->own, decay, &err);
    rc_py_model_leave(f->shared);
    if (status != RC_OK) {
        rc_py_raise(status, &err);
    }
    return status == RC_OK ? 0 : -1;
}

static PyObject *
get_updates(PyObject *self, void *closure)
{
    (void)closure;
    rc_py_follow *f = rc_py_follow_ready(self, WHO);
    return f ? PyLong_FromLongLong(rc_ema_get_updates(f->own)) : NULL;
}

static PyObject *
get_is_applied(PyObject *self, void *closure)
{
    (void)closure;
    rc_py_follow *f = rc_py_follow_ready(self, WHO);
    return f ? PyBool_FromLong(rc_ema_is_applied(f->own)) : NULL;
}

static PyGetSetDef attributes[] = {
    {"decay", get_decay, set_decay, "What stays of the average in an update; settable.", NULL},
    {"updates", get_updates, NULL, "How many there were.", NULL},
    {"is_applied", get_is_applied, NULL, "Whether the network holds the average now.", NULL},
    {"network", rc_py_follow_get_network, NULL, "The network whose weights are averaged.", WHO},
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
    {Py_tp_traverse, rc_py_follow_traverse},
    {Py_tp_clear, rc_py_follow_clear},
    {Py_tp_methods, methods},
    {Py_tp_getset, attributes},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "reidc._core.EMA",
    .basicsize = sizeof(rc_py_follow),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};

int
rc_py_add_ema(PyObject *module)
{
    return rc_py_add_type(module, &ema_type, &spec);
}
