/* What reidc._core.GraphBuilder.node takes: attributes by name, and inputs of the kind that the
 * operation reads (operations themselves know shapes only). */
#include <string.h>

#include "py/py_graph.h"

/* Which operations take labels, as their second input. */
static bool
takes_labels(rc_op_id op)
{
    return op == RC_OP_cross_entropy || op == RC_OP_triplet || op == RC_OP_center
           || op == RC_OP_circle || op == RC_OP_circle_logits;
}

/* Which inputs are integers, and which must be parameters. All others are real numbers. */
static bool
input_is_int(rc_op_id op, int i)
{
    return i == 1 && (takes_labels(op) || op == RC_OP_region_pool || op == RC_OP_half_means);
}

static bool
input_is_parameter(rc_op_id op, int i)
{
    switch (op) {
    case RC_OP_conv2d:
    case RC_OP_linear:
        return i == 1 || i == 2;
    case RC_OP_instance_norm:
        return i >= 1;
    case RC_OP_relation_map:
    case RC_OP_center:
        return i == 2;
    case RC_OP_gem:
    case RC_OP_channel_conv:
        return i == 1;
    case RC_OP_relative_attention:
        return i >= 3;
    default:
        return false;
    }
}

bool
rc_py_graph_fits(const rc_graph *g, rc_op_id op, int n, const rc_value *in)
{
    const char *name = rc_op_table[op]->name;
    if (op == RC_OP_batch_norm) {
        rc_py_fail(RC_ARGUMENT, "op: batch_norm has a method of its own");
        return false;
    }
    for (int i = 0; i < n; i++) {
        if (in[i] == RC_NONE) {
            continue;
        }
        const rc_value_info *v = &g->values[in[i]];
        bool wants_labels = takes_labels(op);
        if (v->is_int != input_is_int(op, i)
            || (v->is_int && (in[i] == g->labels) != wants_labels)) {
            rc_py_fail(RC_ARGUMENT, "%s: input %d: expected %s", name, i,
                       !input_is_int(op, i) ? "real numbers, got integers"
                       : wants_labels ? "labels" : "planes");
            return false;
        }
        if (input_is_parameter(op, i) && v->kind != RC_VALUE_STATE) {
            rc_py_fail(RC_ARGUMENT, "%s: input %d: expected a parameter", name, i);
            return false;
        }
    }
    return true;
}

/* act="relu" */
static int64_t
act_of(PyObject *text)
{
    static const char *const names[] = {"none", "relu", "leaky_relu", "sigmoid"};
    for (int i = RC_ACT_NONE; i <= RC_ACT_SIGMOID; i++) {
        if (PyUnicode_CompareWithASCIIString(text, names[i]) == 0) {
            return i;
        }
    }
    rc_py_fail(RC_ARGUMENT, "act: expected 'none', 'relu', 'leaky_relu' or 'sigmoid'");
    return -1;
}

int
rc_py_graph_attrs(PyObject *dict, rc_attrs *a)
{
    Py_ssize_t position = 0;
    PyObject *key, *value; /* borrowed */
    while (PyDict_Next(dict, &position, &key, &value)) {
        const char *name = PyUnicode_Check(key) ? PyUnicode_AsUTF8(key) : NULL;
        bool known = false;
        if (!name) {
            rc_py_fail(RC_TYPE, "attributes: expected names as keys");
            return -1;
        }
#define INT(field)                                                                 \
    if (!strcmp(name, #field)) {                                                   \
        known = true;                                                              \
        a->field = PyUnicode_Check(value) ? act_of(value) : PyLong_AsLongLong(value); \
    }
#define REAL(field)                                 \
    if (!strcmp(name, #field)) {                    \
        known = true;                               \
        a->field = PyFloat_AsDouble(value);         \
    }
        RC_ATTR_LIST(INT, REAL)
#undef INT
#undef REAL
        if (PyErr_Occurred()) {
            return -1;
        }
        if (!known) {
            rc_py_fail(RC_TYPE, "op: unknown attribute '%.40s'", name);
            return -1;
        }
    }
    return 0;
}
