/* A status becomes an exception here and nowhere else. What reidc raises is also a
 * reidc.Error, so that `except reidc.Error` catches all of it and `except ValueError` the
 * usual kinds. */
#include "py/py.h"

#include <stdarg.h>
#include <stdio.h>

#define KINDS(X)                                                   \
    X(RC_ARGUMENT, "ArgumentError", &PyExc_ValueError)             \
    X(RC_TYPE, "ArgumentTypeError", &PyExc_TypeError)              \
    X(RC_MEMORY, "OutOfMemoryError", &PyExc_MemoryError)           \
    X(RC_FILE, "FileError", &PyExc_OSError)                        \
    X(RC_NOT_FOUND, "FileMissingError", &PyExc_FileNotFoundError)  \
    X(RC_UNSUPPORTED, "UnsupportedError", &PyExc_NotImplementedError) \
    X(RC_DEVICE, "DeviceError", &PyExc_RuntimeError)               \
    X(RC_INTERNAL, "InternalError", &PyExc_RuntimeError)

/* Owned by the process: exception types are shared by every import of the module. */
static PyObject *types[RC_INTERNAL + 1]; /* lint: mutable static, filled once at import */
static PyObject *base_type;              /* lint: mutable static, as above */

static int
add_kind(PyObject *module, rc_status code, const char *name, PyObject *python_kind)
{
    char full[64];
    PyOS_snprintf(full, sizeof full, "reidc.%s", name);
    PyObject *bases = PyTuple_Pack(2, base_type, python_kind); /* new */
    if (!bases) {
        return -1;
    }
    PyObject *type = PyErr_NewException(full, bases, NULL); /* new */
    Py_DECREF(bases);
    if (!type) {
        return -1;
    }
    Py_XSETREF(types[code], type);
    return PyModule_AddObjectRef(module, name, type);
}

int
rc_py_add_errors(PyObject *module)
{
    if (!base_type) {
        base_type = PyErr_NewExceptionWithDoc(
            "reidc.Error", "What every exception raised by reidc also is.", NULL, NULL);
        if (!base_type) {
            return -1;
        }
    }
    if (PyModule_AddObjectRef(module, "Error", base_type) < 0) {
        return -1;
    }
#define ADD(code, name, kind)                             \
    if (add_kind(module, code, name, *(kind)) < 0) {      \
        return -1;                                        \
    }
    KINDS(ADD)
#undef ADD
    return 0;
}

PyObject *
rc_py_raise(rc_status status, const rc_error *err)
{
    if (PyErr_Occurred()) {
        return NULL;
    }
    if (status == RC_INTERRUPTED) {
        PyErr_SetNone(PyExc_KeyboardInterrupt);
        return NULL;
    }
    PyObject *type = status > RC_OK && status <= RC_INTERNAL ? types[status] : NULL;
    const char *text = err && err->text[0] ? err->text : "reidc: no message";
    if (status == RC_MEMORY && !(err && err->text[0])) {
        text = "out of memory";
    }
    PyErr_SetString(type ? type : PyExc_RuntimeError, text);
    return NULL;
}

PyObject *
rc_py_fail(rc_status status, const char *format, ...)
{
    rc_error err = {.code = status};
    va_list args;
    va_start(args, format);
    vsnprintf(err.text, sizeof err.text, format, args);
    va_end(args);
    return rc_py_raise(status, &err);
}
