/* Optimizer.state_dict and load_state_dict. Loading is all or nothing. */
#include <string.h>

#include "py/py_follow.h"

/* Names of a kind's state: "m.<parameter>" and so on. */
static const char *
slot_name(rc_optimizer_kind kind, int slot)
{
    return kind == RC_OPT_SGD ? "momentum" : slot == 0 ? "m" : "v";
}

typedef struct slot_view {
    char name[RC_NAME + 16];
    void *data;
    rc_shape shape;
} slot_view;

/* State k (state entries times slots), or false where there is none. */
static bool
slot_at(rc_py_follow *f, int k, slot_view *out)
{
    int slots = rc_optimizer_slots(f->own);
    rc_state_view view;
    rc_model_state(f->shared->model, k / slots, &view);
    out->data = rc_optimizer_slot(f->own, k / slots, k % slots);
    out->shape = view.shape;
    PyOS_snprintf(out->name, sizeof out->name, "%s.%s",
                  slot_name(rc_optimizer_settings(f->own)->kind, k % slots), view.name);
    return out->data != NULL;
}

static int
slot_count(rc_py_follow *f)
{
    return rc_model_state_count(f->shared->model) * rc_optimizer_slots(f->own);
}

static PyObject *
copy_slots(rc_py_follow *f)
{
    const rc_model_info *info = rc_model_get_info(f->shared->model);
    PyObject *dict = PyDict_New(); /* new */
    for (int k = 0; dict && k < slot_count(f); k++) {
        slot_view slot;
        if (slot_at(f, k, &slot)
            && rc_py_put_copy(dict, slot.name, &slot.shape, info, slot.data) < 0) {
            Py_CLEAR(dict);
        }
    }
    return dict;
}

/* {parameter: steps that passed over it}, of those that were frozen. */
static PyObject *
copy_skipped(rc_py_follow *f)
{
    PyObject *dict = PyDict_New(); /* new */
    for (int i = 0; dict && i < rc_model_state_count(f->shared->model); i++) {
        rc_state_view view;
        int64_t skipped = rc_optimizer_get_skipped(f->own, i);
        rc_model_state(f->shared->model, i, &view);
        PyObject *count = skipped ? PyLong_FromLongLong(skipped) : NULL; /* new */
        if (skipped && (!count || PyDict_SetItemString(dict, view.name, count) < 0)) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(count);
    }
    return dict;
}

PyObject *
rc_py_optimizer_state_dict(PyObject *self, PyObject *Py_UNUSED(none))
{
    rc_py_follow *f = rc_py_follow_enter(self, RC_PY_OPTIMIZER);
    if (!f) {
        return NULL;
    }
    PyObject *state = rc_py_model_fetch(f->shared) == 0 ? copy_slots(f) : NULL; /* new */
    PyObject *skipped = state ? copy_skipped(f) : NULL; /* new */
    const rc_optimizer_config *c = rc_optimizer_settings(f->own);
    if (!skipped) {
        Py_CLEAR(state);
    }
    PyObject *result = !state ? NULL : Py_BuildValue(
        "{s:s,s:L,s:d,s:d,s:N,s:N}", "kind", rc_py_optimizer_kinds[c->kind], "step",
        (long long)rc_optimizer_get_t(f->own), "lr", c->lr, "weight_decay", c->weight_decay,
        "skipped", skipped, "state", state);
    rc_py_model_leave(f->shared);
    return result;
}

/* ---- in ---------------------------------------------------------------------------------------- */

/* Every slot's array, converted (new references in `arrays`), or an exception. */
static int
gather_slots(rc_py_follow *f, PyObject *state, PyObject *arrays)
{
    const rc_model_info *info = rc_model_get_info(f->shared->model);
    Py_ssize_t used = 0;
    for (int k = 0; k < slot_count(f); k++) {
        slot_view slot;
        if (!slot_at(f, k, &slot)) {
            continue;
        }
        PyObject *value = PyDict_GetItemString(state, slot.name); /* borrowed */
        if (!value) {
            rc_py_fail(RC_ARGUMENT, "state: '%s' is missing; is it another network's?", slot.name);
            return -1;
        }
        used++;
        PyArrayObject *array = rc_py_array_real(value, slot.name, slot.shape.rank,
                                                info->is_double); /* new */
        bool same = array != NULL;
        for (int i = 0; same && i < slot.shape.rank; i++) {
            same = PyArray_DIM(array, i) == slot.shape.d[i];
        }
        if (array && !same) {
            char wanted[64];
            rc_py_fail(RC_ARGUMENT, "state['%s']: expected shape %s, got another", slot.name,
                       rc_shape_text(&slot.shape, wanted));
        }
        int result = same ? PyList_Append(arrays, (PyObject *)array) : -1;
        Py_XDECREF(array);
        if (result < 0) {
            return -1;
        }
    }
    if (used != PyDict_Size(state)) {
        rc_py_fail(RC_ARGUMENT, "state: expected %zd arrays, got %zd; is it another network's?",
                   used, PyDict_Size(state));
        return -1;
    }
    return 0;
}

/* Check the counts of steps that passed over frozen parameters (`set`: take them over, too);
 * a state without them has none. */
static int
load_skipped(rc_py_follow *f, PyObject *dict, long long t, bool set)
{
    Py_ssize_t used = 0, given = dict ? PyDict_Size(dict) : 0;
    for (int i = 0; i < rc_model_state_count(f->shared->model); i++) {
        rc_state_view view;
        rc_model_state(f->shared->model, i, &view);
        PyObject *value = dict ? PyDict_GetItemString(dict, view.name) : NULL; /* borrowed */
        long long skipped = value ? PyLong_AsLongLong(value) : 0;
        if (skipped == -1 && PyErr_Occurred()) {
            return -1;
        }
        if (skipped < 0 || skipped > t) {
            rc_py_fail(RC_ARGUMENT, "state: skipped['%s']: expected 0 to the step, %lld",
                       view.name, t);
            return -1;
        }
        used += value != NULL;
        if (set) {
            rc_optimizer_set_skipped(f->own, i, skipped);
        }
    }
    if (used != given) {
        rc_py_fail(RC_ARGUMENT, "state: skipped: names of another network");
        return -1;
    }
    return 0;
}

static int
load(rc_py_follow *f, PyObject *dict)
{
    PyObject *kind = PyDict_GetItemString(dict, "kind"), *step = PyDict_GetItemString(dict, "step"),
             *lr = PyDict_GetItemString(dict, "lr"),
             *decay = PyDict_GetItemString(dict, "weight_decay"),
             *skipped = PyDict_GetItemString(dict, "skipped"), /* may be missing */
             *state = PyDict_GetItemString(dict, "state"); /* borrowed from our copy */
    rc_optimizer_config *c = rc_optimizer_settings(f->own);
    if (!kind || !step || !lr || !decay || !state || !PyDict_Check(state)
        || !PyUnicode_Check(kind) || !PyLong_Check(step) || (skipped && !PyDict_Check(skipped))) {
        rc_py_fail(RC_ARGUMENT, "state: expected what state_dict() gave: kind, step, lr, "
                   "weight_decay, state");
        return -1;
    }
    if (PyUnicode_CompareWithASCIIString(kind, rc_py_optimizer_kinds[c->kind]) != 0) {
        rc_py_fail(RC_ARGUMENT, "state: expected that of '%s', got that of another optimiser",
                   rc_py_optimizer_kinds[c->kind]);
        return -1;
    }
    double new_lr, new_decay;
    long long t = PyLong_AsLongLong(step);
    if ((t == -1 && PyErr_Occurred()) || rc_py_number(lr, "lr", &new_lr) < 0
        || rc_py_number(decay, "weight_decay", &new_decay) < 0) {
        return -1;
    }
    if (t < 0 || !(new_lr >= 0) || !(new_decay >= 0)) {
        rc_py_fail(RC_ARGUMENT, "state: expected step, lr and weight_decay >= 0");
        return -1;
    }
    if (load_skipped(f, skipped, t, false) < 0) {
        return -1;
    }
    PyObject *arrays = PyList_New(0), *own = PyDict_Copy(state); /* new */
    int result = arrays && own ? gather_slots(f, own, arrays) : -1;
    if (result == 0 && (result = rc_py_model_enter(f->shared)) == 0) {
        Py_ssize_t next = 0;
        result = rc_py_model_fetch(f->shared);
        for (int k = 0; result == 0 && k < slot_count(f); k++) {
            slot_view slot;
            if (slot_at(f, k, &slot)) {
                PyArrayObject *array = (PyArrayObject *)PyList_GET_ITEM(arrays, next++);
                memcpy(slot.data, PyArray_DATA(array), (size_t)PyArray_NBYTES(array));
            }
        }
        if (result == 0) {
            c->lr = new_lr;
            c->weight_decay = new_decay;
            rc_optimizer_set_t(f->own, t);
            result = load_skipped(f, skipped, t, true);
        }
        rc_py_model_leave(f->shared);
    }
    Py_XDECREF(arrays);
    Py_XDECREF(own);
    return result;
}

PyObject *
rc_py_optimizer_load_state_dict(PyObject *self, PyObject *dict)
{
    return rc_py_follow_load(self, dict, RC_PY_OPTIMIZER, load);
}
