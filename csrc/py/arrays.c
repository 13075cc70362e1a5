/* NumPy arrays in and out, checked in the user's words. */
#include "py/py.h"

static PyArrayObject *
checked(PyObject *object, const char *what, int rank, int typenum, const char *expected,
        bool any_integer)
{
    PyArrayObject *array;
    if (PyArray_Check(object)) {
        array = (PyArrayObject *)Py_NewRef(object);
    } else if (PyList_Check(object) || PyTuple_Check(object) || PyIndex_Check(object)
               || PyObject_HasAttrString(object, "__array__")) {
        array = (PyArrayObject *)PyArray_FROM_O(object); /* new */
        if (!array) {
            return NULL;
        }
    } else {
        rc_error err;
        rc_status status = rc_fail(&err, RC_TYPE, "%s: expected an array of %s, got %s", what,
                                   expected, Py_TYPE(object)->tp_name);
        return (PyArrayObject *)rc_py_raise(status, &err);
    }
    int type = PyArray_TYPE(array);
    /* An empty list has dtype float64 and means "no integers". */
    bool fits = any_integer ? PyTypeNum_ISINTEGER(type)
                                  || (PyArray_SIZE(array) == 0 && !PyArray_Check(object))
                            : type == typenum;
    if (!fits) {
        PyObject *got = PyObject_Str((PyObject *)PyArray_DESCR(array)); /* new */
        const char *text = got ? PyUnicode_AsUTF8(got) : NULL;
        rc_error err;
        if (text) {
            bool other_float = typenum == NPY_FLOAT32 && PyTypeNum_ISFLOAT(type);
            bool none = PyArray_SIZE(array) == 0 && !PyArray_Check(object); /* [] is float64 */
            rc_py_raise(
                none ? rc_fail(&err, RC_ARGUMENT, "%s: expected %s, got an empty list", what, expected)
                     : rc_fail(&err, RC_TYPE, "%s: expected %s, got %s%s", what, expected, text,
                               other_float ? " (numpy.asarray(…, numpy.float32) makes it fit)" : ""),
                &err);
        }
        Py_XDECREF(got);
        Py_DECREF(array);
        return NULL;
    }
    if (rank >= 0 && PyArray_NDIM(array) != rank) {
        rc_error err;
        rc_py_raise(rc_fail(&err, RC_ARGUMENT, "%s: expected %d dimension%s, got %d", what, rank,
                            rank == 1 ? "" : "s", PyArray_NDIM(array)), &err);
        Py_DECREF(array);
        return NULL;
    }
    PyArrayObject *ready = (PyArrayObject *)PyArray_FROM_OTF(
        (PyObject *)array, typenum,
        NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED | NPY_ARRAY_NOTSWAPPED
            | (any_integer ? NPY_ARRAY_FORCECAST : 0)); /* new; uint64 and [] are fine */
    Py_DECREF(array);
    return ready;
}

PyArrayObject *
rc_py_array_f32(PyObject *object, const char *what, int rank)
{
    return checked(object, what, rank, NPY_FLOAT32, "float32", false);
}

PyArrayObject *
rc_py_array_u8(PyObject *object, const char *what, int rank)
{
    return checked(object, what, rank, NPY_UINT8, "uint8", false);
}

PyArrayObject *
rc_py_array_i64(PyObject *object, const char *what, int rank)
{
    return checked(object, what, rank, NPY_INT64, "integers", true);
}

PyArrayObject *
rc_py_new_array(int rank, const npy_intp *shape, int typenum)
{
    return (PyArrayObject *)PyArray_SimpleNew(rank, shape, typenum);
}

int
rc_py_number(PyObject *value, const char *what, double *out)
{
    if (!PyFloat_Check(value) && !PyLong_Check(value) && !PyArray_IsScalar(value, Number)) {
        rc_py_fail(RC_TYPE, "%s: expected a number, got %s", what, Py_TYPE(value)->tp_name);
        return -1;
    }
    *out = PyFloat_AsDouble(value);
    return PyErr_Occurred() ? -1 : 0;
}

int
rc_py_count(PyObject *value, const char *what, int64_t *out)
{
    PyObject *index = PyIndex_Check(value) && !PyBool_Check(value) ? PyNumber_Index(value)
                                                                   : NULL; /* new */
    if (!index) {
        PyErr_Clear();
        rc_py_fail(RC_TYPE, "%s: expected an integer, got %s", what, Py_TYPE(value)->tp_name);
        return -1;
    }
    int overflow = 0;
    *out = PyLong_AsLongLongAndOverflow(index, &overflow);
    Py_DECREF(index);
    if (overflow) {
        rc_py_fail(RC_ARGUMENT, "%s: expected 1 or more, and fewer than 2^63", what);
        return -1;
    }
    if (*out < 1) {
        rc_py_fail(RC_ARGUMENT, "%s: expected 1 or more, got %lld", what, (long long)*out);
        return -1;
    }
    return 0;
}

int
rc_py_text(PyObject *value, const char *what, bool none, const char **out)
{
    *out = NULL;
    if (none && value == Py_None) {
        return 0;
    }
    if (!PyUnicode_Check(value)) {
        rc_py_fail(RC_TYPE, "%s: expected text%s, got %s", what, none ? " or None" : "",
                   Py_TYPE(value)->tp_name);
        return -1;
    }
    Py_ssize_t size = 0;
    *out = PyUnicode_AsUTF8AndSize(value, &size);
    if (*out && strlen(*out) != (size_t)size) {
        rc_py_fail(RC_ARGUMENT, "%s: expected text, got a zero byte in it", what);
        return -1;
    }
    return *out ? 0 : -1;
}
