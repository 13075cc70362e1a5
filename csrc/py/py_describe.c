/* What a network is, as plain Python data: graph(), memory_plan(), plan(). */
#include "py/py_network.h"

#include <string.h>

/* ---- names --------------------------------------------------------------------------------------- */

/* A value in the user's words: its name, its parameter's, its layer's, or operation and place. */
static PyObject *
value_name(const rc_graph *g, rc_value value)
{
    if (value == RC_NONE) {
        return Py_NewRef(Py_None);
    }
    char text[RC_NAME];
    if (rc_graph_value_name(g, value, text)) {
        return PyUnicode_FromString(text);
    }
    const rc_value_info *v = &g->values[value];
    if (v->kind == RC_VALUE_INPUT) {
        return PyUnicode_FromString(value == g->images ? "images"
                                    : value == g->labels ? "labels" : "input");
    }
    return PyUnicode_FromFormat("%s_%d", rc_op_table[g->nodes[v->index].op]->name, (int)v->index);
}

static PyObject *
input_names(const rc_graph *g, const rc_node *node)
{
    PyObject *list = PyList_New(node->n_in); /* new */
    for (int i = 0; list && i < node->n_in; i++) {
        PyObject *name = value_name(g, node->in[i]); /* new, stolen by the list */
        if (name) {
            PyList_SET_ITEM(list, i, name);
        } else {
            Py_CLEAR(list);
        }
    }
    return list;
}

/* The same inputs without words: the index of the node that gives it, a state's name, -1 for the
 * images (or another input), None for one left out. */
static PyObject *
input_links(const rc_graph *g, const rc_node *node)
{
    PyObject *list = PyList_New(node->n_in); /* new */
    for (int i = 0; list && i < node->n_in; i++) {
        rc_value value = node->in[i];
        const rc_value_info *v = value == RC_NONE ? NULL : &g->values[value];
        PyObject *link = !v ? Py_NewRef(Py_None) /* new, stolen by the list */
                         : v->kind == RC_VALUE_STATE
                             ? PyUnicode_FromString(g->states[v->index].name)
                             : PyLong_FromLong(v->kind == RC_VALUE_COMPUTED ? v->index : -1);
        if (link) {
            PyList_SET_ITEM(list, i, link);
        } else {
            Py_CLEAR(list);
        }
    }
    return list;
}

static int
put(PyObject *dict, const char *key, PyObject *value) /* steals value */
{
    int result = value ? PyDict_SetItemString(dict, key, value) : -1;
    Py_XDECREF(value);
    return result;
}

static PyObject *
act_name(int64_t act)
{
    static const char *const names[] = {
        [RC_ACT_RELU] = "relu", [RC_ACT_LEAKY_RELU] = "leaky_relu", [RC_ACT_SIGMOID] = "sigmoid"};
    bool known = act > 0 && act < (int64_t)(sizeof names / sizeof names[0]) && names[act];
    return known ? PyUnicode_FromString(names[act]) : PyLong_FromLongLong(act);
}

/* Those that are not zero. */
static PyObject *
attributes_of(const rc_attrs *a)
{
    PyObject *dict = PyDict_New(); /* new */
    int failed = dict ? 0 : -1;
#define INT(name)                                                                          \
    if (!failed && a->name != 0) {                                                         \
        failed = put(dict, #name, !strcmp(#name, "act") ? act_name(a->name)                \
                                                        : PyLong_FromLongLong(a->name));   \
    }
#define REAL(name)                                                \
    if (!failed && a->name != 0) {                                \
        failed = put(dict, #name, PyFloat_FromDouble(a->name));   \
    }
    RC_ATTR_LIST(INT, REAL)
#undef INT
#undef REAL
    if (failed) {
        Py_CLEAR(dict);
    }
    return dict;
}

static PyObject *
shape_tuple(const rc_shape *shape)
{
    PyObject *tuple = PyTuple_New(shape->rank); /* new */
    for (int i = 0; tuple && i < shape->rank; i++) {
        PyObject *size = PyLong_FromLongLong(shape->d[i]); /* new, stolen by the tuple */
        if (size) {
            PyTuple_SET_ITEM(tuple, i, size);
        } else {
            Py_CLEAR(tuple);
        }
    }
    return tuple;
}

/* ---- graph() ------------------------------------------------------------------------------------- */

/* Which values the evaluation outputs need. */
static void
mark_needed(const rc_graph *g, bool *needed)
{
    for (int i = 0; i < g->n_outputs; i++) {
        if (g->outputs[i].role & RC_ROLE_EVAL) {
            needed[g->outputs[i].value] = true;
        }
    }
    for (int i = g->n_nodes - 1; i >= 0; i--) {
        const rc_node *node = &g->nodes[i];
        for (int k = 0; needed[node->out] && k < node->n_in; k++) {
            if (node->in[k] != RC_NONE) {
                needed[node->in[k]] = true;
            }
        }
    }
}

static PyObject *
node_dict(const rc_graph *g, const rc_node *node, bool evaluation)
{
    const rc_op *op = rc_op_table[node->op];
    rc_shape xs[RC_MAX_IN] = {0}, y = g->values[node->out].shape;
    int64_t parameters = 0;
    for (int i = 0; i < node->n_in; i++) {
        const rc_value_info *in = node->in[i] == RC_NONE ? NULL : &g->values[node->in[i]];
        if (in) {
            xs[i] = in->shape;
        }
        if (in && in->kind == RC_VALUE_STATE && g->states[in->index].kind != RC_STATE_BUFFER) {
            parameters += rc_shape_count(&in->shape);
        }
    }
    double macs = op->macs ? op->macs(&node->attrs, xs, &y, false) : 0;
    return Py_BuildValue("{s:N,s:s,s:N,s:N,s:N,s:N,s:L,s:N,s:O}", "name",
                         value_name(g, node->out), "op", op->name, "inputs", input_names(g, node),
                         "links", input_links(g, node), "attributes",
                         attributes_of(&node->attrs), "shape", shape_tuple(&y), "parameters",
                         (long long)parameters, "macs", PyLong_FromDouble(macs), "evaluation",
                         evaluation ? Py_True : Py_False);
}

PyObject *
rc_py_network_graph(PyObject *self, PyObject *Py_UNUSED(none))
{
    rc_py_model *m = rc_py_network_get(self);
    if (!m) {
        return NULL;
    }
    const rc_graph *g = rc_model_get_graph(m->model);
    bool *needed = PyMem_Calloc((size_t)g->n_values, sizeof *needed);
    PyObject *list = needed ? PyList_New(0) : PyErr_NoMemory(); /* new */
    if (list) {
        mark_needed(g, needed);
    }
    for (int i = 0; list && i < g->n_nodes; i++) {
        PyObject *node = node_dict(g, &g->nodes[i], needed[g->nodes[i].out]); /* new */
        if (!node || PyList_Append(list, node) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(node);
    }
    PyMem_Free(needed);
    return list;
}

/* ---- plans --------------------------------------------------------------------------------------- */

/* Values a weight that an optimiser keeps; NULL: the page's. -1: unknown, an error is set. */
static int
states_of(const rc_model *m, const char *rule)
{
    if (!rule) {
        return rc_model_get_info(m)->optimizer_states;
    }
    if (!strcmp(rule, "adam") || !strcmp(rule, "adamw")) {
        return 2;
    }
    if (!strcmp(rule, "sgd")) {
        return 1;
    }
    rc_py_fail(RC_ARGUMENT, "optimizer: expected 'adam', 'adamw' or 'sgd', got '%.40s'", rule);
    return -1;
}

PyObject *
rc_py_network_memory_plan(PyObject *self, PyObject *args, PyObject *kw)
{
    static char *names[] = {"batch", "training", "optimizer", NULL};
    PyObject *batch_object, *rule_object = Py_None; /* borrowed */
    int64_t batch;
    int training = 1, states;
    const char *rule;
    rc_py_model *m = rc_py_network_get(self);
    if (!m || !PyArg_ParseTupleAndKeywords(args, kw, "O|pO:memory_plan", names, &batch_object,
                                           &training, &rule_object)
        || rc_py_count(batch_object, "batch", &batch) < 0
        || rc_py_text(rule_object, "optimizer", true, &rule) < 0
        || (states = states_of(m->model, rule)) < 0 || rc_py_model_enter(m) < 0) {
        return NULL;
    }
    rc_plan_bytes bytes;
    rc_error err = {0};
    rc_status status;
    Py_BEGIN_ALLOW_THREADS
    status = rc_model_memory(m->model, batch, training != 0, &bytes, &err);
    Py_END_ALLOW_THREADS
    int64_t optimizer = 0;
    size_t real = rc_model_get_info(m->model)->is_double ? 8 : 4;
    for (int i = 0; training && i < rc_model_state_count(m->model); i++) {
        rc_state_view view;
        rc_model_state(m->model, i, &view);
        if (view.kind == RC_STATE_PARAMETER && strncmp(view.name, "center", 6) != 0) {
            optimizer += states * rc_shape_count(&view.shape) * (int64_t)real;
        }
    }
    rc_py_model_leave(m);
    if (status != RC_OK) {
        return rc_py_raise(status, &err);
    }
    return Py_BuildValue(
        "{s:L,s:L,s:L,s:L,s:L,s:L,s:L}", "weights", (long long)bytes.weights, "gradients",
        (long long)bytes.gradients, "activations", (long long)bytes.activations, "workspace",
        (long long)bytes.workspace, "packed", (long long)bytes.packed, "optimizer",
        (long long)optimizer, "total",
        (long long)(bytes.weights + bytes.gradients + bytes.activations + bytes.workspace
                    + bytes.packed + optimizer));
}

PyObject *
rc_py_network_plan(PyObject *self, PyObject *args, PyObject *kw)
{
    static char *names[] = {"batch", "training", NULL};
    PyObject *batch_object = NULL; /* borrowed */
    int64_t batch = 1;
    int training = 0;
    rc_py_model *m = rc_py_network_get(self);
    if (!m || !PyArg_ParseTupleAndKeywords(args, kw, "|O$p:plan", names, &batch_object, &training)
        || (batch_object && rc_py_count(batch_object, "batch", &batch) < 0)
        || rc_py_model_enter(m) < 0) {
        return NULL;
    }
    char *text = NULL;
    rc_error err = {0};
    rc_status status;
    Py_BEGIN_ALLOW_THREADS
    status = rc_model_plan_text(m->model, batch, training != 0, &text, &err);
    Py_END_ALLOW_THREADS
    rc_py_model_leave(m);
    if (status != RC_OK) {
        return rc_py_raise(status, &err);
    }
    PyObject *result = PyUnicode_FromString(text);
    rc_free(text);
    return result;
}

PyObject *
rc_py_network_profile(PyObject *self, PyObject *args, PyObject *kw)
{
    static char *names[] = {"on", NULL};
    int on = 1;
    rc_py_model *m = rc_py_network_get(self);
    if (!m || !PyArg_ParseTupleAndKeywords(args, kw, "|p:profile", names, &on)
        || rc_py_model_enter(m) < 0) {
        return NULL;
    }
    rc_model_profile(m->model, on != 0);
    rc_py_model_leave(m);
    Py_RETURN_NONE;
}

PyObject *
rc_py_network__convolutions(PyObject *self, PyObject *args, PyObject *kw)
{
    static char *names[] = {"batch", "training", NULL};
    PyObject *batch_object; /* borrowed */
    int64_t batch;
    int training;
    rc_py_model *m = rc_py_network_get(self);
    if (!m || !PyArg_ParseTupleAndKeywords(args, kw, "Op:_convolutions", names, &batch_object,
                                          &training)
        || rc_py_count(batch_object, "batch", &batch) < 0 || rc_py_model_enter(m) < 0) {
        return NULL;
    }
    rc_conv_time *found = NULL;
    int64_t count = 0;
    rc_error err = {0};
    rc_status status;
    Py_BEGIN_ALLOW_THREADS
    status = rc_model_convs(m->model, batch, training != 0, &found, &count, &err);
    Py_END_ALLOW_THREADS
    rc_py_model_leave(m);
    if (status != RC_OK) {
        return rc_py_raise(status, &err);
    }
    PyObject *result = PyList_New((Py_ssize_t)count); /* new */
    for (int64_t i = 0; result && i < count; i++) {
        const rc_conv_shape *s = &found[i].shape;
        PyObject *row = Py_BuildValue( /* new */
            "s(LLLLLiiiii)dL", found[i].kernel->name, (long long)s->n, (long long)s->h,
            (long long)s->w, (long long)s->c, (long long)s->k, (int)s->kh, (int)s->kw,
            (int)s->stride, (int)s->pad, (int)s->groups, found[i].seconds,
            (long long)found[i].runs);
        if (!row) {
            Py_CLEAR(result);
        } else {
            PyList_SET_ITEM(result, (Py_ssize_t)i, row); /* stolen */
        }
    }
    rc_free(found);
    return result;
}
