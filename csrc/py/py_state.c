/* Network.state_dict, load_state_dict, parameters, gradients, zero_grad.
 *
 * Loading is all or nothing: every array is found, checked and converted before the first byte
 * of the network is written. */
#include "py/py_network.h"

#include <string.h>

/* ---- out ----------------------------------------------------------------------------------------- */

int
rc_py_put_copy(PyObject *dict, const char *name, const rc_shape *shape, const rc_model_info *info,
               const void *data)
{
    npy_intp d[RC_MAX_RANK];
    for (int i = 0; i < shape->rank; i++) {
        d[i] = shape->d[i];
    }
    PyArrayObject *array = rc_py_new_array(shape->rank, d, rc_py_real(info)); /* new */
    int result = -1;
    if (array) {
        if (data) {
            memcpy(PyArray_DATA(array), data, (size_t)PyArray_NBYTES(array));
        } else {
            memset(PyArray_DATA(array), 0, (size_t)PyArray_NBYTES(array));
        }
        result = PyDict_SetItemString(dict, name, (PyObject *)array);
    }
    Py_XDECREF(array);
    return result;
}

static size_t
bytes_of(const rc_state_view *view, const rc_model_info *info)
{
    return (size_t)rc_shape_count(&view->shape) * (info->is_double ? 8 : 4);
}

/* Copies of weights, or of gradients (parameters only; what has none holds zeros). */
static PyObject *
copies(rc_py_model *m, bool gradients)
{
    const rc_model_info *info = rc_model_get_info(m->model);
    PyObject *dict = PyDict_New(); /* new */
    for (int i = 0; dict && i < rc_model_state_count(m->model); i++) {
        rc_state_view view;
        rc_model_state(m->model, i, &view);
        if (gradients && view.kind == RC_STATE_BUFFER) {
            continue;
        }
        const void *from = gradients ? view.gradient : view.data;
        if (rc_py_put_copy(dict, view.name, &view.shape, info, from) < 0) {
            Py_CLEAR(dict);
        }
    }
    return dict;
}

PyObject *
rc_py_network_state_dict(PyObject *self, PyObject *Py_UNUSED(none))
{
    rc_py_model *m = rc_py_network_get(self);
    if (!m || rc_py_model_enter(m) < 0) {
        return NULL;
    }
    PyObject *dict = rc_py_model_fetch(m) == 0 ? copies(m, false) : NULL;
    rc_py_model_leave(m);
    return dict;
}

PyObject *
rc_py_network_gradients(PyObject *self, PyObject *Py_UNUSED(none))
{
    rc_py_model *m = rc_py_network_get(self);
    if (!m || rc_py_model_enter(m) < 0) {
        return NULL;
    }
    PyObject *dict = NULL; /* new */
    if (rc_py_model_fetch(m) == 0) {
        dict = rc_model_has_gradients(m->model) ? copies(m, true) : PyDict_New();
    }
    rc_py_model_leave(m);
    return dict;
}

PyObject *
rc_py_network_zero_grad(PyObject *self, PyObject *Py_UNUSED(none))
{
    rc_py_model *m = rc_py_network_get(self);
    if (!m || rc_py_model_enter(m) < 0) {
        return NULL;
    }
    rc_error err = {0};
    rc_status status;
    Py_BEGIN_ALLOW_THREADS
    status = rc_model_zero_grad(m->model, &err);
    Py_END_ALLOW_THREADS
    rc_py_model_leave(m);
    return status == RC_OK ? Py_NewRef(Py_None) : rc_py_raise(status, &err);
}

/* ---- views --------------------------------------------------------------------------------------- */

static const char capsule_name[] = "reidc.weights";

static void
capsule_free(PyObject *capsule)
{
    rc_py_model *m = PyCapsule_GetPointer(capsule, capsule_name);
    if (m) {
        rc_model_views(m->model, -1);
        rc_py_model_release(m);
    }
}

/* One capsule is the base of all views of a call: while one of them lives, runs look again. */
PyObject *
rc_py_network_parameters(PyObject *self, PyObject *Py_UNUSED(none))
{
    rc_py_model *m = rc_py_network_get(self);
    if (!m) {
        return NULL;
    }
    if (rc_py_model_enter(m) < 0) { /* not while a step on a device moves the weights */
        return NULL;
    }
    PyObject *capsule = rc_py_model_fetch(m) == 0
                            ? PyCapsule_New(m, capsule_name, capsule_free) : NULL; /* new */
    if (capsule) {
        rc_py_model_ref(m);
        rc_model_views(m->model, +1);
    }
    rc_py_model_leave(m);
    if (!capsule) {
        return NULL;
    }
    const rc_model_info *info = rc_model_get_info(m->model);
    PyObject *dict = PyDict_New(); /* new */
    for (int i = 0; dict && i < rc_model_state_count(m->model); i++) {
        rc_state_view view;
        npy_intp d[RC_MAX_RANK];
        rc_model_state(m->model, i, &view);
        if (view.kind == RC_STATE_BUFFER) {
            continue;
        }
        for (int k = 0; k < view.shape.rank; k++) {
            d[k] = view.shape.d[k];
        }
        PyObject *array = PyArray_SimpleNewFromData(view.shape.rank, d, rc_py_real(info),
                                                    view.data); /* new */
        /* SetBaseObject takes the reference to the capsule, even when it fails. */
        if (!array || PyArray_SetBaseObject((PyArrayObject *)array, Py_NewRef(capsule)) < 0
            || PyDict_SetItemString(dict, view.name, array) < 0) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(array);
    }
    Py_DECREF(capsule);
    return dict;
}

/* ---- in ------------------------------------------------------------------------------------------ */

static bool
is_counter(const char *name)
{
    const char *dot = strrchr(name, '.');
    return !strcmp(dot ? dot + 1 : name, "num_batches_tracked");
}

/* The entry as an array of the network's type and shape: new reference, or NULL. */
static PyArrayObject *
converted(PyObject *value, const rc_state_view *view, const rc_model_info *info)
{
    PyArrayObject *array = (PyArrayObject *)PyArray_FROM_O(value); /* new */
    if (!array) {
        return NULL;
    }
    if (!PyTypeNum_ISFLOAT(PyArray_TYPE(array))) {
        PyObject *got = PyObject_Str((PyObject *)PyArray_DESCR(array)); /* new */
        const char *text = got ? PyUnicode_AsUTF8(got) : NULL;
        if (text) {
            rc_py_fail(RC_TYPE, "state['%s']: expected floating point numbers, got %s",
                       view->name, text);
        }
        Py_XDECREF(got);
        Py_DECREF(array);
        return NULL;
    }
    bool same = PyArray_NDIM(array) == view->shape.rank;
    for (int i = 0; same && i < view->shape.rank; i++) {
        same = PyArray_DIM(array, i) == view->shape.d[i];
    }
    if (!same) {
        char wanted[64];
        PyObject *got = PyObject_GetAttrString((PyObject *)array, "shape"); /* new */
        PyObject *got_text = got ? PyObject_Str(got) : NULL;                /* new */
        const char *text = got_text ? PyUnicode_AsUTF8(got_text) : NULL;
        if (text) {
            rc_py_fail(RC_ARGUMENT, "state['%s']: expected shape %s, got %s", view->name,
                       rc_shape_text(&view->shape, wanted), text);
        }
        Py_XDECREF(got_text);
        Py_XDECREF(got);
        Py_DECREF(array);
        return NULL;
    }
    PyArrayObject *ready = (PyArrayObject *)PyArray_FROM_OTF(
        (PyObject *)array, rc_py_real(info), NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED
            | NPY_ARRAY_NOTSWAPPED | NPY_ARRAY_FORCECAST); /* new */
    Py_DECREF(array);
    return ready;
}

static int
append_name(PyObject *list, const char *name)
{
    PyObject *text = PyUnicode_FromString(name); /* new */
    int result = text ? PyList_Append(list, text) : -1;
    Py_XDECREF(text);
    return result;
}

/* Arrays for every state entry (None where missing); names of those missing, those unexpected. */
static int
gather(rc_model *model, PyObject *state, PyObject *arrays, PyObject *missing,
       PyObject *unexpected)
{
    const rc_model_info *info = rc_model_get_info(model);
    PyObject *known = PyDict_New(); /* new */
    int result = known ? 0 : -1;
    for (int i = 0; result == 0 && i < rc_model_state_count(model); i++) {
        rc_state_view view;
        rc_model_state(model, i, &view);
        PyObject *value = PyDict_GetItemString(state, view.name); /* borrowed */
        PyObject *array = value ? (PyObject *)converted(value, &view, info)
                                : Py_NewRef(Py_None); /* new */
        if (!array || PyList_Append(arrays, array) < 0
            || PyDict_SetItemString(known, view.name, Py_None) < 0
            || (!value && append_name(missing, view.name) < 0)) {
            result = -1;
        }
        Py_XDECREF(array);
    }
    Py_ssize_t position = 0;
    PyObject *key, *value; /* borrowed */
    while (result == 0 && PyDict_Next(state, &position, &key, &value)) {
        const char *name = PyUnicode_Check(key) ? PyUnicode_AsUTF8(key) : NULL;
        if (!name) {
            rc_py_fail(RC_TYPE, "state: expected names as keys, got %s", Py_TYPE(key)->tp_name);
            result = -1;
        } else if (!PyDict_GetItemString(known, name) && !is_counter(name)) {
            result = append_name(unexpected, name);
        }
    }
    Py_XDECREF(known);
    return result;
}

/* "12 missing ('a', 'b', …)" */
static void
list_text(PyObject *list, const char *what, char *text, size_t size)
{
    Py_ssize_t n = PyList_GET_SIZE(list);
    int used = PyOS_snprintf(text, size, "%zd %s", n, what);
    for (Py_ssize_t i = 0; i < n && i < 3; i++) {
        const char *name = PyUnicode_AsUTF8(PyList_GET_ITEM(list, i));
        if (name && (size_t)used + strlen(name) + 16 < size) {
            used += PyOS_snprintf(text + used, size - (size_t)used, "%s'%s'", i ? ", " : " (",
                                  name);
        }
    }
    if (n) {
        PyOS_snprintf(text + used, size - (size_t)used, n > 3 ? ", …)" : ")");
    }
}

static int
refuse_others(PyObject *missing, PyObject *unexpected, const char *hint)
{
    char a[192], b[192];
    if (!PyList_GET_SIZE(missing) && !PyList_GET_SIZE(unexpected)) {
        return 0;
    }
    list_text(missing, "missing", a, sizeof a);
    list_text(unexpected, "unexpected", b, sizeof b);
    rc_py_fail(RC_ARGUMENT, "state: names of another network: %s, %s%s", a, b, hint);
    return -1;
}

PyObject *
rc_py_states_get(rc_model *model, PyObject *state)
{
    PyObject *arrays = PyList_New(0), *missing = PyList_New(0), *unexpected = PyList_New(0);
    PyObject *own = PyDict_Copy(state); /* new, as the three lists */
    if (!arrays || !missing || !unexpected || !own
        || gather(model, own, arrays, missing, unexpected) < 0
        || refuse_others(missing, unexpected, "") < 0) {
        Py_CLEAR(arrays);
    }
    Py_XDECREF(own);
    Py_XDECREF(missing);
    Py_XDECREF(unexpected);
    return arrays;
}

static void
write_states(rc_model *model, PyObject *arrays)
{
    const rc_model_info *info = rc_model_get_info(model);
    for (int i = 0; i < rc_model_state_count(model); i++) {
        PyObject *array = PyList_GET_ITEM(arrays, i); /* borrowed */
        rc_state_view view;
        rc_model_state(model, i, &view);
        if (array != Py_None) {
            memcpy(view.data, PyArray_DATA((PyArrayObject *)array), bytes_of(&view, info));
        }
    }
    rc_model_touch(model);
}

static PyObject *
load(rc_py_model *m, PyObject *state, bool strict)
{
    PyObject *arrays = PyList_New(0), *missing = PyList_New(0), *unexpected = PyList_New(0);
    PyObject *result = NULL; /* new, as the three lists */
    if (arrays && missing && unexpected
        && gather(m->model, state, arrays, missing, unexpected) == 0) {
        if ((!strict || refuse_others(missing, unexpected, " (strict=False passes over them)") == 0)
            && rc_py_model_enter(m) == 0) {
            if (rc_py_model_fetch(m) == 0) {
                write_states(m->model, arrays);
                result = PyTuple_Pack(2, missing, unexpected);
            }
            rc_py_model_leave(m);
        }
    }
    Py_XDECREF(arrays);
    Py_XDECREF(missing);
    Py_XDECREF(unexpected);
    return result;
}

PyObject *
rc_py_network_load_state_dict(PyObject *self, PyObject *args, PyObject *kw)
{
    static char *names[] = {"state", "strict", NULL};
    PyObject *object;
    int strict = 1;
    rc_py_model *m = rc_py_network_get(self);
    if (!m || !PyArg_ParseTupleAndKeywords(args, kw, "O|p:load_state_dict", names, &object,
                                           &strict)) {
        return NULL;
    }
    PyObject *state; /* new: our own, for converting entries may run the user's code */
    if (PyDict_Check(object)) {
        state = PyDict_Copy(object);
    } else if (PyMapping_Check(object) && PyObject_HasAttrString(object, "keys")) {
        state = PyDict_New();
        if (state && PyDict_Update(state, object) < 0) {
            Py_CLEAR(state);
        }
    } else {
        return rc_py_fail(RC_TYPE, "state: expected a mapping from names to arrays, got %s",
                          Py_TYPE(object)->tp_name);
    }
    PyObject *result = state ? load(m, state, strict != 0) : NULL;
    Py_XDECREF(state);
    return result;
}

/* ---- frozen -------------------------------------------------------------------------------------- */

PyObject *
rc_py_network_freeze(PyObject *self, PyObject *args, PyObject *kw)
{
    static char *names[] = {"patterns", NULL};
    PyObject *object;
    rc_py_model *m = rc_py_network_get(self);
    if (!m || !PyArg_ParseTupleAndKeywords(args, kw, "O:freeze", names, &object)) {
        return NULL;
    }
    if (!PyList_Check(object) && !PyTuple_Check(object)) {
        return rc_py_fail(RC_TYPE, "patterns: expected a list of name patterns, got %s",
                          Py_TYPE(object)->tp_name);
    }
    PyObject *own = PySequence_Tuple(object); /* new */
    Py_ssize_t n = own ? PyTuple_GET_SIZE(own) : 0;
    const char **patterns = own ? PyMem_Calloc((size_t)n + 1, sizeof *patterns) : NULL;
    if (!patterns) {
        Py_XDECREF(own);
        return PyErr_NoMemory();
    }
    bool fine = true;
    for (Py_ssize_t i = 0; fine && i < n; i++) {
        PyObject *item = PyTuple_GET_ITEM(own, i); /* borrowed */
        patterns[i] = PyUnicode_Check(item) ? PyUnicode_AsUTF8(item) : NULL;
        fine = patterns[i] != NULL;
        if (!fine && !PyErr_Occurred()) {
            rc_py_fail(RC_TYPE, "patterns: expected words, got %s", Py_TYPE(item)->tp_name);
        }
    }
    if (fine && (fine = rc_py_model_enter(m) == 0)) {
        rc_error err = {0};
        rc_status status = rc_model_freeze(m->model, patterns, (int)n, &err);
        rc_py_model_leave(m);
        fine = status == RC_OK;
        if (!fine) {
            rc_py_raise(status, &err);
        }
    }
    PyMem_Free(patterns);
    Py_DECREF(own);
    return fine ? Py_NewRef(Py_None) : NULL;
}

PyObject *
rc_py_network_frozen(PyObject *self, void *closure)
{
    (void)closure;
    rc_py_model *m = rc_py_network_get(self);
    PyObject *list = m ? PyList_New(0) : NULL; /* new */
    for (int i = 0; list && i < rc_model_state_count(m->model); i++) {
        rc_state_view view;
        rc_model_state(m->model, i, &view);
        if (view.frozen && append_name(list, view.name) < 0) {
            Py_CLEAR(list);
        }
    }
    PyObject *result = list ? PyList_AsTuple(list) : NULL;
    Py_XDECREF(list);
    return result;
}
