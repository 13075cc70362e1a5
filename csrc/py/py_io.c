/* reidc._core: safetensors files to and from dicts of arrays, and bytes to float32. Used by
 * reidc/weights.py and by what saves and loads networks. */
#include "py/py.h"

static const struct {
    rc_io_dtype dtype;
    int typenum;
} types[] = {
    {RC_IO_BOOL, NPY_BOOL},  {RC_IO_U8, NPY_UINT8},   {RC_IO_I8, NPY_INT8},
    {RC_IO_I16, NPY_INT16},  {RC_IO_U16, NPY_UINT16}, {RC_IO_F16, NPY_FLOAT16},
    {RC_IO_I32, NPY_INT32},  {RC_IO_U32, NPY_UINT32}, {RC_IO_F32, NPY_FLOAT32},
    {RC_IO_F64, NPY_FLOAT64}, {RC_IO_I64, NPY_INT64}, {RC_IO_U64, NPY_UINT64},
};
enum { TYPES = sizeof types / sizeof *types };

/* The type an array gets in memory: float types become float32. */
static int
typenum_of(rc_io_dtype dtype)
{
    if (rc_io_is_float(dtype)) {
        return NPY_FLOAT32;
    }
    for (int i = 0; i < TYPES; i++) {
        if (types[i].dtype == dtype) {
            return types[i].typenum;
        }
    }
    return -1;
}

static bool
dtype_of(PyArrayObject *array, rc_io_dtype *dtype)
{
    PyArray_Descr *mine = PyArray_DESCR(array); /* borrowed */
    for (int i = 0; i < TYPES; i++) {
        PyArray_Descr *other = PyArray_DescrFromType(types[i].typenum); /* new */
        bool same = other && PyArray_EquivTypes(mine, other); /* long and long long */
        Py_XDECREF(other);
        if (same) {
            *dtype = types[i].dtype;
            return true;
        }
    }
    return false;
}

static PyObject *
read_metadata(const rc_io_header *header)
{
    PyObject *dict = PyDict_New(); /* new */
    for (int64_t i = 0; dict && i < header->pairs; i++) {
        PyObject *value = PyUnicode_FromString(header->pair[i].value); /* new */
        if (!value || PyDict_SetItemString(dict, header->pair[i].key, value) < 0) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(value);
    }
    return dict;
}

static PyObject *
read_safetensors(PyObject *self, PyObject *args, PyObject *keywords)
{
    (void)self;
    static char *names[] = {"path", NULL};
    PyObject *path = NULL, *tensors = NULL, *metadata = NULL; /* owned */
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O&", names, PyUnicode_FSConverter, &path)) {
        return NULL;
    }
    const char *name = PyBytes_AS_STRING(path);
    rc_safetensors file;
    rc_error err = {0};
    rc_status status;
    Py_BEGIN_ALLOW_THREADS
    status = rc_safetensors_open(name, &file, &err);
    Py_END_ALLOW_THREADS
    if (status != RC_OK) {
        Py_DECREF(path);
        return rc_py_raise(status, &err);
    }
    tensors = PyDict_New();
    metadata = read_metadata(&file.header);
    if (!tensors || !metadata) {
        goto fail;
    }
    for (int64_t i = 0; i < file.header.tensors; i++) {
        const rc_tensor_info *t = &file.header.tensor[i];
        npy_intp shape[RC_IO_MAX_RANK];
        for (int axis = 0; axis < t->rank; axis++) {
            shape[axis] = t->shape[axis];
        }
        PyArrayObject *array = rc_py_new_array(t->rank, shape, typenum_of(t->dtype)); /* new */
        if (!array) {
            goto fail;
        }
        void *data = PyArray_DATA(array);
        Py_BEGIN_ALLOW_THREADS
        status = rc_safetensors_read(&file, i, data, &err);
        Py_END_ALLOW_THREADS
        if (status == RC_OK && t->dtype == RC_IO_BOOL) {
            for (int64_t j = 0; j < t->count; j++) { /* NumPy wants exactly 0 or 1 */
                ((uint8_t *)data)[j] = ((uint8_t *)data)[j] != 0;
            }
        }
        if (status != RC_OK || PyDict_SetItemString(tensors, t->name, (PyObject *)array) < 0) {
            Py_DECREF(array);
            goto fail;
        }
        Py_DECREF(array);
    }
    rc_safetensors_close(&file);
    Py_DECREF(path);
    return Py_BuildValue("NN", tensors, metadata); /* N steals both */
fail:
    rc_safetensors_close(&file);
    Py_DECREF(path);
    Py_XDECREF(tensors);
    Py_XDECREF(metadata);
    return PyErr_Occurred() ? NULL : rc_py_raise(status, &err);
}

static PyObject *
read_safetensors_header(PyObject *self, PyObject *argument)
{
    (void)self;
    PyObject *path = NULL, *tensors = NULL, *metadata = NULL; /* owned */
    if (!PyUnicode_FSConverter(argument, &path)) {
        return NULL;
    }
    rc_safetensors file;
    rc_error err = {0};
    rc_status status = rc_safetensors_open(PyBytes_AS_STRING(path), &file, &err);
    Py_DECREF(path);
    if (status != RC_OK) {
        return rc_py_raise(status, &err);
    }
    tensors = PyDict_New();
    metadata = read_metadata(&file.header);
    for (int64_t i = 0; tensors && i < file.header.tensors; i++) {
        const rc_tensor_info *t = &file.header.tensor[i];
        PyObject *shape = PyTuple_New(t->rank); /* new */
        for (int axis = 0; shape && axis < t->rank; axis++) {
            PyObject *size = PyLong_FromLongLong(t->shape[axis]); /* new, stolen */
            if (size) {
                PyTuple_SET_ITEM(shape, axis, size);
            } else {
                Py_CLEAR(shape);
            }
        }
        PyObject *entry =
            shape ? Py_BuildValue("sN", rc_io_dtype_name(t->dtype), shape) : NULL; /* new */
        if (!entry || PyDict_SetItemString(tensors, t->name, entry) < 0) {
            Py_CLEAR(tensors);
        }
        Py_XDECREF(entry);
    }
    rc_safetensors_close(&file);
    if (!tensors || !metadata) {
        Py_XDECREF(tensors);
        Py_XDECREF(metadata);
        return NULL;
    }
    return Py_BuildValue("NN", tensors, metadata);
}

/* A str without NUL as UTF-8, borrowed from the object. */
static const char *
utf8_get(PyObject *object, const char *what)
{
    if (!PyUnicode_Check(object)) {
        rc_error err;
        rc_py_raise(rc_fail(&err, RC_TYPE, "%s: expected str, got %s", what,
                            Py_TYPE(object)->tp_name), &err);
        return NULL;
    }
    Py_ssize_t size;
    const char *text = PyUnicode_AsUTF8AndSize(object, &size);
    if (text && strlen(text) != (size_t)size) {
        rc_error err;
        rc_py_raise(rc_fail(&err, RC_ARGUMENT, "%s: holds a NUL character", what), &err);
        return NULL;
    }
    return text;
}

static bool
pairs_get(PyObject *metadata, rc_io_pair *pairs)
{
    Py_ssize_t place = 0, i = 0;
    PyObject *key, *value; /* borrowed */
    while (PyDict_Next(metadata, &place, &key, &value)) {
        pairs[i].key = utf8_get(key, "metadata key");
        pairs[i].value = pairs[i].key ? utf8_get(value, "metadata value") : NULL;
        if (!pairs[i].value) {
            return false;
        }
        i++;
    }
    return true;
}

/* Fills out[i] and keeps the arrays in the tuple `hold` (their memory must live on). */
static bool
tensors_get(PyObject *tensors, rc_tensor_out *out, PyObject *hold)
{
    Py_ssize_t place = 0, i = 0;
    PyObject *key, *value; /* borrowed */
    rc_error err;
    while (PyDict_Next(tensors, &place, &key, &value)) {
        rc_tensor_out *t = &out[i];
        t->name = utf8_get(key, "tensors: a name");
        if (!t->name) {
            return false;
        }
        if (!PyArray_Check(value) || !dtype_of((PyArrayObject *)value, &t->dtype)
            || PyArray_NDIM((PyArrayObject *)value) > RC_IO_MAX_RANK) {
            rc_py_raise(rc_fail(&err, RC_TYPE,
                                "tensors: %.200s: expected an array of floats, integers or bools "
                                "with up to %d dimensions", t->name, RC_IO_MAX_RANK), &err);
            return false;
        }
        PyArrayObject *array = (PyArrayObject *)PyArray_FROM_OF(
            value, NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_NOTSWAPPED); /* new, stolen below */
        if (!array) {
            return false;
        }
        PyTuple_SET_ITEM(hold, i, (PyObject *)array);
        t->rank = PyArray_NDIM(array);
        for (int axis = 0; axis < t->rank; axis++) {
            t->shape[axis] = PyArray_DIM(array, axis);
        }
        t->data = PyArray_DATA(array);
        i++;
    }
    return true;
}

static PyObject *
write_safetensors(PyObject *self, PyObject *args, PyObject *keywords)
{
    (void)self;
    static char *names[] = {"path", "tensors", "metadata", NULL};
    PyObject *path = NULL, *tensors_in, *metadata_in = Py_None; /* path owned */
    PyObject *hold = NULL, *tensors = NULL, *metadata = NULL;   /* owned */
    rc_tensor_out *out = NULL;
    rc_io_pair *pairs = NULL;
    PyObject *result = NULL;
    rc_error err = {0};
    rc_status status = RC_OK;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O&O|O", names, PyUnicode_FSConverter, &path,
                                     &tensors_in, &metadata_in)) {
        return NULL;
    }
    if (!PyDict_Check(tensors_in) || (metadata_in != Py_None && !PyDict_Check(metadata_in))) {
        bool which = PyDict_Check(tensors_in);
        status = rc_fail(&err, RC_TYPE, "%s: expected a dict, got %s",
                         which ? "metadata" : "tensors",
                         Py_TYPE(which ? metadata_in : tensors_in)->tp_name);
        goto done;
    }
    tensors = PyDict_Copy(tensors_in); /* nobody else's to change while we walk it */
    metadata = metadata_in == Py_None ? PyDict_New() : PyDict_Copy(metadata_in);
    if (!tensors || !metadata) {
        goto done;
    }
    Py_ssize_t count = PyDict_Size(tensors), pair_count = PyDict_Size(metadata);
    hold = PyTuple_New(count);
    out = rc_alloc_zero(count + 1, sizeof *out);
    pairs = rc_alloc_zero(pair_count + 1, sizeof *pairs);
    if (!hold || !out || !pairs) {
        status = hold ? rc_fail(&err, RC_MEMORY, "out of memory: names of tensors") : RC_OK;
        goto done;
    }
    if (!tensors_get(tensors, out, hold) || !pairs_get(metadata, pairs)) {
        goto done;
    }
    const char *name = PyBytes_AS_STRING(path);
    Py_BEGIN_ALLOW_THREADS
    status = rc_safetensors_write(name, out, count, pairs, pair_count, &err);
    Py_END_ALLOW_THREADS
    result = status == RC_OK ? Py_NewRef(Py_None) : NULL;
done:
    if (status != RC_OK) {
        rc_py_raise(status, &err);
    }
    rc_free(out);
    rc_free(pairs);
    Py_XDECREF(hold);
    Py_XDECREF(tensors);
    Py_XDECREF(metadata);
    Py_DECREF(path);
    return result;
}

static PyObject *
to_float32(PyObject *self, PyObject *args)
{
    (void)self;
    Py_buffer buffer;
    const char *name;
    if (!PyArg_ParseTuple(args, "y*s", &buffer, &name)) {
        return NULL;
    }
    rc_io_dtype dtype = RC_IO_F32;
    rc_error err = {0};
    PyArrayObject *out = NULL;
    if (!rc_io_dtype_find(name, &dtype) || !rc_io_is_float(dtype)) {
        rc_py_raise(rc_fail(&err, RC_ARGUMENT, "dtype: expected F16, BF16, F32 or F64, got '%.50s'",
                            name), &err);
    } else if (buffer.len % rc_io_dtype_size(dtype)) {
        rc_py_raise(rc_fail(&err, RC_ARGUMENT, "%lld bytes are no whole number of %s",
                            (long long)buffer.len, name), &err);
    } else {
        npy_intp shape[1] = {buffer.len / rc_io_dtype_size(dtype)};
        out = rc_py_new_array(1, shape, NPY_FLOAT32);
        if (out) {
            float *data = PyArray_DATA(out);
            Py_BEGIN_ALLOW_THREADS
            rc_io_to_f32(dtype, buffer.buf, shape[0], data);
            Py_END_ALLOW_THREADS
        }
    }
    PyBuffer_Release(&buffer);
    return (PyObject *)out;
}

static PyMethodDef methods[] = {
    {"read_safetensors", (PyCFunction)(void (*)(void))read_safetensors,
     METH_VARARGS | METH_KEYWORDS,
     "read_safetensors(path)\n--\n\n"
     "All tensors and the metadata of a safetensors file: ({name: array}, {str: str}). F16, BF16 "
     "and F64 become float32; integers and bools stay. FileNotFoundError; OSError: unreadable, "
     "truncated, or not what the format allows."},
    {"read_safetensors_header", read_safetensors_header, METH_O,
     "read_safetensors_header(path, /)\n--\n\n"
     "Names without the tensors: ({name: (dtype, shape)}, {str: str})."},
    {"write_safetensors", (PyCFunction)(void (*)(void))write_safetensors,
     METH_VARARGS | METH_KEYWORDS,
     "write_safetensors(path, tensors, metadata=None)\n--\n\n"
     "Write {name: array} and {str: str}, whole or not at all. The same content gives the same "
     "bytes, whatever its order."},
    {"_to_float32", to_float32, METH_VARARGS,
     "_to_float32(bytes, dtype): F16, BF16, F32 or F64 bytes as a float32 array."},
    {NULL, NULL, 0, NULL},
};

int
rc_py_add_io(PyObject *module)
{
    return PyModule_AddFunctions(module, methods);
}
