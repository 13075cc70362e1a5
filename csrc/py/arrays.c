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
        rc_status status = rc_fail(&err, RC_TYPE, "%s: expected a %s array, got %s", what,
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
            rc_py_raise(rc_fail(&err, RC_TYPE, "%s: expected %s, got %s%s", what, expected, text,
                                other_float ? " (.astype(numpy.float32) makes it fit)" : ""),
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
    return checked(object, what, rank, NPY_INT64, "integer", true);
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
