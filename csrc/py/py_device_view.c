/* Others' arrays on a card, looked at where they lie: DLPack and the CUDA array interface. */
#include "py/py_dlpack.h"
#include "py/py_network.h"

#define LEGACY_STREAM 1 /* the default stream, as both protocols number it */

static void
contiguous(int ndim, const int64_t *shape, int64_t *strides)
{
    int64_t step = 1;
    for (int i = ndim - 1; i >= 0; i--) {
        strides[i] = step;
        step *= shape[i];
    }
}

static int
too_many(const char *what, int ndim)
{
    rc_py_fail(RC_ARGUMENT, "%s: expected at most %d dimensions on the card, got %d", what,
               RC_VIEW_RANK, ndim);
    return -1;
}

static int
from_dlpack(PyObject *object, const char *what, rc_py_view *out)
{
    PyObject *method = PyObject_GetAttrString(object, "__dlpack__"); /* new */
    PyObject *args = method ? PyTuple_New(0) : NULL;                 /* new */
    PyObject *kw = args ? Py_BuildValue("{s:i}", "stream", LEGACY_STREAM) : NULL; /* new */
    PyObject *capsule = kw ? PyObject_Call(method, args, kw) : NULL; /* new */
    Py_XDECREF(method);
    Py_XDECREF(args);
    Py_XDECREF(kw);
    /* Its destructor gives the tensor back, as long as nobody says that it was taken over. */
    dl_managed *managed = capsule ? PyCapsule_GetPointer(capsule, "dltensor") : NULL;
    if (!managed) {
        Py_XDECREF(capsule);
        return -1;
    }
    const dl_tensor *t = &managed->tensor;
    if (t->ndim > RC_VIEW_RANK || t->ndim < 0) {
        Py_DECREF(capsule);
        return too_many(what, t->ndim);
    }
    *out = (rc_py_view){.data = (char *)t->data + t->byte_offset, .card = t->device.id,
                        .stream = (void *)(intptr_t)LEGACY_STREAM, .ndim = t->ndim,
                        .bits = t->dtype.lanes == 1 ? t->dtype.bits : 0};
    out->kind = t->dtype.code == DL_INT ? 'i' : t->dtype.code == DL_UINT ? 'u'
                : t->dtype.code == DL_FLOAT ? 'f' : '?';
    memcpy(out->shape, t->shape, (size_t)t->ndim * sizeof *t->shape);
    if (t->strides) {
        memcpy(out->strides, t->strides, (size_t)t->ndim * sizeof *t->strides);
    } else {
        contiguous(t->ndim, t->shape, out->strides);
    }
    out->holder = capsule;
    return 1;
}

/* Integers of a tuple of any length up to the most; their number, -1: an exception. */
static int
integers(PyObject *tuple, const char *what, int64_t *out)
{
    if (!tuple || !PyTuple_Check(tuple)) {
        rc_py_fail(RC_ARGUMENT, "%s: its __cuda_array_interface__ has no shape", what);
        return -1;
    }
    int n = (int)PyTuple_GET_SIZE(tuple);
    if (n > RC_VIEW_RANK) {
        return too_many(what, n);
    }
    for (int i = 0; i < n; i++) {
        out[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(tuple, i));
        if (out[i] == -1 && PyErr_Occurred()) {
            return -1;
        }
    }
    return n;
}

static int
from_interface(PyObject *object, PyObject *dict, const char *what, rc_py_view *out)
{
    PyObject *type = PyDict_GetItemString(dict, "typestr"), /* borrowed, as all here */
             *data = PyDict_GetItemString(dict, "data"),
             *strides = PyDict_GetItemString(dict, "strides"),
             *stream = PyDict_GetItemString(dict, "stream");
    const char *text = type && PyUnicode_Check(type) ? PyUnicode_AsUTF8(type) : NULL;
    if (!text || strlen(text) != 3 || text[0] == '>' || text[2] < '1' || text[2] > '8') {
        rc_py_fail(RC_TYPE, "%s: its __cuda_array_interface__ has no dtype that is known", what);
        return -1;
    }
    *out = (rc_py_view){.kind = text[1], .bits = 8 * (text[2] - '0'), .card = -1};
    out->ndim = integers(PyDict_GetItemString(dict, "shape"), what, out->shape);
    if (out->ndim < 0) {
        return -1;
    }
    contiguous(out->ndim, out->shape, out->strides);
    if (strides && strides != Py_None) {
        int64_t bytes[RC_VIEW_RANK];
        if (integers(strides, what, bytes) != out->ndim) {
            if (!PyErr_Occurred()) {
                rc_py_fail(RC_ARGUMENT, "%s: its strides do not fit its shape", what);
            }
            return -1;
        }
        for (int i = 0; i < out->ndim; i++) {
            out->strides[i] = bytes[i] / (out->bits / 8);
        }
    }
    if (!data || !PyTuple_Check(data) || PyTuple_GET_SIZE(data) < 1) {
        rc_py_fail(RC_ARGUMENT, "%s: its __cuda_array_interface__ has no data", what);
        return -1;
    }
    out->data = PyLong_AsVoidPtr(PyTuple_GET_ITEM(data, 0));
    out->stream = stream && stream != Py_None ? PyLong_AsVoidPtr(stream) : NULL;
    if (PyErr_Occurred()) {
        return -1;
    }
    out->holder = Py_NewRef(object);
    return 1;
}

int
rc_py_view_get(PyObject *object, const char *what, rc_py_view *out)
{
    if (PyArray_Check(object) || PyList_Check(object) || PyTuple_Check(object)) {
        return 0;
    }
    if (PyObject_HasAttrString(object, "__dlpack_device__")) {
        PyObject *where = PyObject_CallMethod(object, "__dlpack_device__", NULL); /* new */
        int type = 0, id = 0;
        bool fine = where && PyArg_ParseTuple(where, "ii", &type, &id);
        Py_XDECREF(where);
        if (!fine) {
            return -1;
        }
        return type == DL_CUDA || type == DL_CUDA_MANAGED ? from_dlpack(object, what, out) : 0;
    }
    if (!PyObject_HasAttrString(object, "__cuda_array_interface__")) {
        return 0;
    }
    PyObject *dict = PyObject_GetAttrString(object, "__cuda_array_interface__"); /* new */
    int result = -1;
    if (dict && PyDict_Check(dict)) {
        result = from_interface(object, dict, what, out);
    } else if (dict) {
        rc_py_fail(RC_TYPE, "%s: its __cuda_array_interface__ is no dict", what);
    }
    Py_XDECREF(dict);
    return result;
}

bool
rc_py_view_is_contiguous(const rc_py_view *view)
{
    int64_t wanted[RC_VIEW_RANK];
    contiguous(view->ndim, view->shape, wanted);
    for (int i = 0; i < view->ndim; i++) {
        if (view->shape[i] == 0) {
            return true;
        }
    }
    for (int i = 0; i < view->ndim; i++) {
        if (view->shape[i] > 1 && view->strides[i] != wanted[i]) {
            return false;
        }
    }
    return true;
}
