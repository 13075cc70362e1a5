/* What py_graph.c (the builder) and py_graph_op.c (arguments of its node()) share. */
#ifndef RC_PY_GRAPH_H
#define RC_PY_GRAPH_H

#include "py/py.h"

/* Attributes from a dict; -1: an exception. */
int rc_py_graph_attrs(PyObject *dict, rc_attrs *a);
/* Whether the inputs are labels, planes, parameters and real numbers where the operation takes
 * them; false: an exception. */
bool rc_py_graph_fits(const rc_graph *g, rc_op_id op, int n, const rc_value *in);

#endif
