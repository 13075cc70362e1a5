/* reidc.DeviceArray, what `embed(..., device_output=True)` gives: an array on a card that others take
 * without a copy (DLPack, the CUDA array interface). */
#include "py/py_dlpack.h"
#include "py/py_network.h"

typedef struct device_array {
    PyObject_HEAD
    const rc_device_api *api;
    void *block;     /* owned */
    int64_t shape[2];
    int card;
} device_array;

static PyTypeObject *array_type; /* lint: mutable static, filled once at import */

PyObject *
rc_py_device_array(void *block, int64_t rows, int64_t columns, int card)
{
    const rc_device_api *api;
    const char *folders;
    if (rc_device_get(&api, &folders, NULL) != RC_OK) {
        return rc_py_fail(RC_INTERNAL, "device: its library is gone");
    }
    device_array *a = (device_array *)array_type->tp_alloc(array_type, 0); /* new */
    if (!a) {
        api->release_any(block);
        return NULL;
    }
    a->api = api;
    a->block = block;
    a->shape[0] = rows;
    a->shape[1] = columns;
    a->card = card;
    return (PyObject *)a;
}

static void
array_dealloc(PyObject *self)
{
    device_array *a = (device_array *)self;
    PyTypeObject *type = Py_TYPE(self);
    if (a->block) {
        a->api->release_any(a->block);
    }
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
array_shape(PyObject *self, void *closure)
{
    (void)closure;
    const device_array *a = (device_array *)self;
    return Py_BuildValue("(LL)", (long long)a->shape[0], (long long)a->shape[1]);
}

/* Ready when the call that made it returned: nobody needs to wait for a stream. */
static PyObject *
array_interface(PyObject *self, void *closure)
{
    (void)closure;
    const device_array *a = (device_array *)self;
    return Py_BuildValue("{s:(LL),s:s,s:(NO),s:i,s:O}", "shape", (long long)a->shape[0],
                         (long long)a->shape[1], "typestr", "<f4", "data",
                         PyLong_FromVoidPtr(a->block), Py_False, "version", 3, "strides", Py_None);
}

static PyObject *
array_device(PyObject *self, PyObject *Py_UNUSED(none))
{
    return Py_BuildValue("(ii)", DL_CUDA, ((device_array *)self)->card);
}

static void
managed_delete(dl_managed *managed)
{
    PyGILState_STATE state = PyGILState_Ensure();
    Py_DECREF((PyObject *)managed->context);
    PyMem_RawFree(managed);
    PyGILState_Release(state);
}

static void
capsule_delete(PyObject *capsule)
{
    if (PyCapsule_IsValid(capsule, "dltensor")) { /* nobody took it over */
        dl_managed *managed = PyCapsule_GetPointer(capsule, "dltensor");
        managed->deleter(managed);
    }
}

static PyObject *
array_dlpack(PyObject *self, PyObject *args, PyObject *kw)
{
    (void)args, (void)kw; /* any stream will do: the array is ready */
    device_array *a = (device_array *)self;
    dl_managed *managed = PyMem_RawCalloc(1, sizeof *managed);
    if (!managed) {
        return PyErr_NoMemory();
    }
    managed->tensor.data = a->block;
    managed->tensor.device.type = DL_CUDA;
    managed->tensor.device.id = a->card;
    managed->tensor.ndim = 2;
    managed->tensor.dtype.code = DL_FLOAT;
    managed->tensor.dtype.bits = 32;
    managed->tensor.dtype.lanes = 1;
    managed->tensor.shape = a->shape;
    managed->context = Py_NewRef(self);
    managed->deleter = managed_delete;
    PyObject *capsule = PyCapsule_New(managed, "dltensor", capsule_delete); /* new */
    if (!capsule) {
        managed_delete(managed);
    }
    return capsule;
}

static PyGetSetDef attributes[] = {
    {"shape", array_shape, NULL, "(N, D).", NULL},
    {"__cuda_array_interface__", array_interface, NULL, "As CuPy and Numba take it.", NULL},
    {0},
};

static PyMethodDef methods[] = {
    {"__dlpack__", (PyCFunction)(void (*)(void))array_dlpack, METH_VARARGS | METH_KEYWORDS,
     "A DLPack capsule: torch.from_dlpack(array), cupy.from_dlpack(array)."},
    {"__dlpack_device__", array_device, METH_NOARGS, "(2, card)."},
    {0},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Float32 N×D on a card, made by embed(..., device_output=True).\n\n"
                "torch.from_dlpack and cupy.from_dlpack take it without a copy; it lives as long as\n"
                "they need it. Nothing of it can be read on the host."},
    {Py_tp_dealloc, array_dealloc},
    {Py_tp_getset, attributes},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "reidc.DeviceArray",
    .basicsize = sizeof(device_array),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

/* One array of the rows of several, on the same card. */
static PyObject *
join_arrays(PyObject *self, PyObject *list)
{
    (void)self;
    PyObject *parts = PySequence_Fast(list, "arrays: expected a list"); /* new */
    Py_ssize_t n = parts ? PySequence_Fast_GET_SIZE(parts) : 0;
    device_array *first = NULL; /* borrowed, as all of them */
    int64_t rows = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        device_array *a = (device_array *)PySequence_Fast_GET_ITEM(parts, i);
        first = first ? first : a;
        if (!Py_IS_TYPE(a, array_type) || a->shape[1] != first->shape[1]
            || a->card != first->card) {
            rc_py_fail(RC_ARGUMENT, "arrays: expected DeviceArrays of one card and width");
            first = NULL;
            break;
        }
        rows += a->shape[0];
    }
    if (!first) {
        Py_XDECREF(parts);
        return PyErr_Occurred() ? NULL : rc_py_fail(RC_ARGUMENT, "arrays: expected one or more");
    }
    int64_t columns = first->shape[1], at = 0;
    const rc_device_api *api = first->api;
    rc_device *d = NULL;
    void *block = NULL;
    rc_error err = {0};
    rc_status status = api->open(first->card, NULL, &d, &err);
    if (status == RC_OK) {
        status = api->alloc(d, rows * columns * (int64_t)sizeof(float), &block, &err);
    }
    for (Py_ssize_t i = 0; status == RC_OK && i < n; i++) {
        const device_array *a = (device_array *)PySequence_Fast_GET_ITEM(parts, i);
        int64_t bytes = a->shape[0] * columns * (int64_t)sizeof(float);
        status = api->copy(d, (char *)block + at, a->block, bytes, &err);
        at += bytes;
    }
    status = status == RC_OK ? api->wait(d, &err) : status;
    if (status != RC_OK && d) {
        api->release(d, block);
    }
    if (d) {
        api->close(d);
    }
    int card = first->card;
    Py_DECREF(parts);
    return status == RC_OK ? rc_py_device_array(block, rows, columns, card)
                           : rc_py_raise(status, &err);
}

static PyMethodDef functions[] = {
    {"_device_join", join_arrays, METH_O,
     "_device_join(arrays, /)\n--\n\nOne DeviceArray of the rows of several, of one card."},
    {0},
};

int
rc_py_add_device_array(PyObject *module)
{
    return PyModule_AddFunctions(module, functions) < 0 ? -1
                                                        : rc_py_add_type(module, &array_type, &spec);
}
