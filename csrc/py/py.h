/* What the files of csrc/py share. The only folder that sees Python.h and NumPy.
 *
 * One file per part of the module (`py_<part>.c`); each has one `rc_py_add_<part>(module)`
 * that adds its functions and types, named in RC_PY_PARTS and called by module.c. */
#ifndef RC_PY_H
#define RC_PY_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#define NPY_TARGET_VERSION NPY_2_0_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL rc_numpy_api
#ifndef RC_PY_IMPORTS_NUMPY
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>

#include "reidc.h"

#define RC_PY_PARTS(X) \
    X(base) \
    X(cpu) \
    X(data) \
    X(device) \
    X(device_array) \
    X(eval) \
    X(explain) \
    X(io) \
    X(network) \
    X(optim) \
    X(ema) \
    X(graph) \
    X(int8) \
    X(losses) \
    X(ops) \
    X(synth)

#define RC_PY_DECLARE(part) int rc_py_add_##part(PyObject *module);
RC_PY_PARTS(RC_PY_DECLARE)
#undef RC_PY_DECLARE

/* Add a type to the module under the last part of its name; *type: made at the first call, kept
 * by the process. */
int rc_py_add_type(PyObject *module, PyTypeObject **type, PyType_Spec *spec);

/* ---- errors.c: the one place where a status becomes an exception ------------------------ */
int rc_py_add_errors(PyObject *module);
/* Raise what `status` and `err` say (an exception already set by a callback stays). NULL. */
PyObject *rc_py_raise(rc_status status, const rc_error *err);
/* The same with the words given here. NULL. */
PyObject *rc_py_fail(rc_status status, const char *format, ...) RC_PRINTF(2, 3);

/* ---- arrays.c: NumPy in, NumPy out --------------------------------------------------------
 * Each rc_py_array_* returns a new reference to an aligned C-contiguous array of the type
 * asked for (the input itself when it already is one), or NULL with TypeError (dtype) or
 * ValueError (rank) that names `what`. Inputs are never written to. `rank` < 0: any. */
PyArrayObject *rc_py_array_f32(PyObject *object, const char *what, int rank);
PyArrayObject *rc_py_array_u8(PyObject *object, const char *what, int rank);
/* Any integer dtype, converted to int64; bool and floats are a TypeError. */
PyArrayObject *rc_py_array_i64(PyObject *object, const char *what, int rank);
/* A number of Python's or NumPy's. 0, or -1 and an exception that names `what`. */
int rc_py_number(PyObject *value, const char *what, double *out);
/* A whole number from 1 on, likewise. */
int rc_py_count(PyObject *value, const char *what, int64_t *out);
/* Text, borrowed from `value`, likewise; `none`: None is fine, too, and gives NULL. */
int rc_py_text(PyObject *value, const char *what, bool none, const char **out);
/* py_cpu.c, for measurements: processor time of this thread for one thread (so that other
 * programs on the machine do not count), else the clock. */
double rc_py_clock(int threads);
/* For O& of PyArg_Parse: a rc_conv_shape from (n,h,w,c,k,kh,kw,stride,pad,groups). */
int rc_py_conv_shape(PyObject *object, void *shape);

/* ---- py_data.c: pictures and how they are augmented --------------------------------------- */

typedef struct rc_py_image_list { /* owned: both members */
    PyObject *holder;             /* the array (n,h,w,3), or a list of arrays */
    rc_image *images;
    Py_ssize_t n;
} rc_py_image_list;

/* 0, or -1 with an exception set and nothing to release. */
int rc_py_image_list_init(rc_py_image_list *list, PyObject *object);
void rc_py_image_list_fini(rc_py_image_list *list);
/* A dict with every member of rc_augment by name (reidc.Augment makes it). 0, or -1 likewise. */
int rc_py_augment_get(PyObject *dict, rc_augment *a);

/* ---- py_device_view.c: others' arrays on a card ------------------------------------------- */

#define RC_VIEW_RANK 4

typedef struct rc_py_view {
    PyObject *holder; /* owned: whoever keeps it */
    void *data;
    int card;         /* -1: it does not say */
    void *stream;     /* in which it is made ready; NULL: it is */
    char kind;        /* 'f', 'i', 'u'; another: something else */
    int bits, ndim;
    int64_t shape[RC_VIEW_RANK], strides[RC_VIEW_RANK]; /* in elements */
} rc_py_view;

/* 1: it is one (DLPack, the CUDA array interface); 0: it is not on a card; -1: an exception. */
int rc_py_view_get(PyObject *object, const char *what, rc_py_view *out);
bool rc_py_view_is_contiguous(const rc_py_view *view);

/* A fresh C-contiguous array. */
PyArrayObject *rc_py_new_array(int rank, const npy_intp *shape, int typenum);

#endif
