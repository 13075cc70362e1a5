/* Arrays on a card without a copy: others' as images (DLPack, the CUDA array interface), and
 * reidc.DeviceArray, what `embed(..., device_output=True)` gives. */
#include "py/py_network.h"

#define DL_CUDA 2
#define DL_CUDA_MANAGED 13
#define DL_FLOAT 2
#define LEGACY_STREAM 1 /* the default stream, as both protocols number it */

/* DLPack's structures (its specification, version 0.8). */
typedef struct dl_tensor {
    void *data;
    struct {
        int32_t type, id;
    } device;
    int32_t ndim;
    struct {
        uint8_t code, bits;
        uint16_t lanes;
    } dtype;
    int64_t *shape, *strides;
    uint64_t byte_offset;
} dl_tensor;

typedef struct dl_managed {
    dl_tensor tensor;
    void *context;
    void (*deleter)(struct dl_managed *self);
} dl_managed;

/* ---- in -------------------------------------------------------------------------------------------- */

static int
take(const rc_model_info *info, int ndim, const int64_t *shape, bool some, rc_py_images *out)
{
    if (ndim != 4 || shape[1] != 3 || shape[2] != info->height || shape[3] != info->width) {
        rc_py_fail(RC_ARGUMENT, "images: expected float32 N×3×%lld×%lld on the card, got %d "
                   "dimensions%s", (long long)info->height, (long long)info->width, ndim,
                   ndim == 4 ? " of another size" : "");
        return -1;
    }
    if (some && shape[0] == 0) {
        rc_py_fail(RC_ARGUMENT, "images: expected one or more images for training, got an empty "
                   "batch");
        return -1;
    }
    out->images.there = true;
    out->images.n = shape[0];
    out->images.c = 3;
    out->images.h = shape[2];
    out->images.w = shape[3];
    return 1;
}

static void
contiguous(const int64_t shape[4], int64_t strides[4])
{
    strides[3] = 1;
    for (int i = 2; i >= 0; i--) {
        strides[i] = strides[i + 1] * shape[i + 1];
    }
}

static int
from_dlpack(PyObject *object, const rc_model_info *info, bool some, rc_py_images *out)
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
    int result = managed ? 1 : -1;
    if (managed) {
        const dl_tensor *t = &managed->tensor;
        if (t->dtype.code != DL_FLOAT || t->dtype.bits != 32 || t->dtype.lanes != 1) {
            rc_py_fail(RC_TYPE, "images: expected float32 on the card, got another dtype");
            result = -1;
        } else {
            result = take(info, t->ndim, t->shape, some, out);
        }
        if (result > 0) {
            out->images.data = (const char *)t->data + t->byte_offset;
            out->images.card = t->device.id;
            out->images.stream = (void *)(intptr_t)LEGACY_STREAM;
            if (t->strides) {
                memcpy(out->images.strides, t->strides, sizeof out->images.strides);
            } else {
                contiguous(t->shape, out->images.strides);
            }
        }
    }
    if (result < 0) {
        Py_XDECREF(capsule);
    } else {
        out->array = capsule;
    }
    return result;
}

/* Four integers of a tuple; -1: an exception. */
static int
four(PyObject *tuple, int64_t out[4])
{
    if (!tuple || !PyTuple_Check(tuple) || PyTuple_GET_SIZE(tuple) != 4) {
        rc_py_fail(RC_ARGUMENT, "images: expected 4 dimensions, N×3×height×width, on the card");
        return -1;
    }
    for (int i = 0; i < 4; i++) {
        out[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(tuple, i));
        if (out[i] == -1 && PyErr_Occurred()) {
            return -1;
        }
    }
    return 0;
}

static int
from_interface(PyObject *object, PyObject *dict, const rc_model_info *info, bool some,
               rc_py_images *out)
{
    int64_t shape[4], bytes[4];
    PyObject *type = PyDict_GetItemString(dict, "typestr"), /* borrowed, as all here */
             *data = PyDict_GetItemString(dict, "data"),
             *strides = PyDict_GetItemString(dict, "strides"),
             *stream = PyDict_GetItemString(dict, "stream");
    if (!type || !PyUnicode_Check(type) || PyUnicode_CompareWithASCIIString(type, "<f4") != 0) {
        rc_py_fail(RC_TYPE, "images: expected float32 on the card, got another dtype");
        return -1;
    }
    if (four(PyDict_GetItemString(dict, "shape"), shape) < 0
        || take(info, 4, shape, some, out) < 0) {
        return -1;
    }
    contiguous(shape, out->images.strides);
    if (strides && strides != Py_None) {
        if (four(strides, bytes) < 0) {
            return -1;
        }
        for (int i = 0; i < 4; i++) {
            out->images.strides[i] = bytes[i] / (int64_t)sizeof(float);
        }
    }
    if (!data || !PyTuple_Check(data) || PyTuple_GET_SIZE(data) < 1) {
        rc_py_fail(RC_ARGUMENT, "images: its __cuda_array_interface__ has no data");
        return -1;
    }
    void *address = PyLong_AsVoidPtr(PyTuple_GET_ITEM(data, 0));
    void *ready = stream && stream != Py_None ? PyLong_AsVoidPtr(stream) : NULL;
    if (PyErr_Occurred()) {
        return -1;
    }
    out->images.data = address;
    out->images.stream = ready;
    out->images.card = -1; /* it does not say */
    out->array = Py_NewRef(object);
    return 1;
}

int
rc_py_device_images(PyObject *object, const rc_model_info *info, bool some, rc_py_images *out)
{
    if (PyArray_Check(object) || PyList_Check(object) || PyTuple_Check(object)) {
        return 0;
    }
    memset(&out->images, 0, sizeof out->images);
    if (PyObject_HasAttrString(object, "__dlpack_device__")) {
        PyObject *where = PyObject_CallMethod(object, "__dlpack_device__", NULL); /* new */
        int type = 0, id = 0;
        bool fine = where && PyArg_ParseTuple(where, "ii", &type, &id);
        Py_XDECREF(where);
        if (!fine) {
            return -1;
        }
        return type == DL_CUDA || type == DL_CUDA_MANAGED ? from_dlpack(object, info, some, out)
                                                          : 0;
    }
    if (!PyObject_HasAttrString(object, "__cuda_array_interface__")) {
        return 0;
    }
    PyObject *dict = PyObject_GetAttrString(object, "__cuda_array_interface__"); /* new */
    int result = -1;
    if (dict && PyDict_Check(dict)) {
        result = from_interface(object, dict, info, some, out);
    } else if (dict) {
        rc_py_fail(RC_TYPE, "images: its __cuda_array_interface__ is no dict");
    }
    Py_XDECREF(dict);
    return result;
}

/* ---- out --------------------------------------------------------------------------------------------- */

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

int
rc_py_add_device_array(PyObject *module)
{
    return rc_py_add_type(module, &array_type, &spec);
}
