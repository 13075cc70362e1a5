/* What py_ops.c (operations by name, what they are) and py_op_run.c (running one) share. */
#ifndef RC_PY_OPS_H
#define RC_PY_OPS_H

#include "py/py.h"

/* The operation of this name, or NULL and an exception. */
const rc_op *rc_py_op_find(const char *name, rc_op_id *id);
/* Attributes from a dict (NULL: none); -1: an exception. */
int rc_py_op_attrs(PyObject *dict, rc_attrs *a);
/* 0 where an operation takes n inputs, else -1 and an exception. */
int rc_py_op_count(const rc_op *op, Py_ssize_t n);
PyObject *rc_py_op_run(PyObject *self, PyObject *args, PyObject *keywords);

#endif
