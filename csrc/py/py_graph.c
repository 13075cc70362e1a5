/* reidc._core.GraphBuilder: the description of a network, node by node, from Python.
 *
 * Values are integers here; reidc/graph.py wraps them and gives each layer its method. A call
 * that fails takes back what it had added, so that the graph is as it was. What would let a
 * graph read memory as something it is not (labels, planes, weights, statistics in the wrong
 * place) is refused here: the operations themselves know shapes only. */
#include "py/py_graph.h"
#include "py/py_network.h"

#include <math.h>
#include <string.h>

typedef struct rc_py_builder {
    PyObject_HEAD
    rc_graph *graph; /* owned; NULL before __new__ is through */
} rc_py_builder;

static PyTypeObject *builder_type; /* lint: mutable static, filled once at import */

/* ---- adding, or not having added -------------------------------------------------------------- */

typedef struct mark {
    int32_t nodes, values, states, outputs;
    rc_value images, labels;
} mark;

static mark
mark_of(const rc_graph *g)
{
    return (mark){g->n_nodes, g->n_values, g->n_states, g->n_outputs, g->images, g->labels};
}

/* The value as a Python integer, or the graph's failure as an exception and the graph as before. */
static PyObject *
added(rc_graph *g, const mark *before, rc_value value)
{
    if (g->status == RC_OK) {
        return PyLong_FromLong(value);
    }
    rc_status status = g->status;
    rc_error error = g->error;
    g->n_nodes = before->nodes;
    g->n_values = before->values;
    g->n_states = before->states;
    g->n_outputs = before->outputs;
    g->images = before->images;
    g->labels = before->labels;
    g->status = RC_OK;
    g->error = (rc_error){0};
    return rc_py_raise(status, &error);
}

static rc_graph *
graph_of(PyObject *self)
{
    return ((rc_py_builder *)self)->graph;
}

static bool
value_fits(const rc_graph *g, long value, const char *what)
{
    bool fits = value >= 0 && value < g->n_values;
    if (!fits) {
        rc_py_fail(RC_ARGUMENT, "%s: no value of this graph", what);
    }
    return fits;
}

static bool
name_fits(const char *name, const char *what)
{
    size_t length = strlen(name);
    bool fits = length > 0 && length + 16 < RC_NAME;
    if (!fits) {
        rc_py_fail(RC_ARGUMENT, "%s: expected a name of 1 to %d characters, got '%.80s'", what,
                   RC_NAME - 17, name);
    }
    return fits;
}

static bool
in_range(const char *what, long long value, long long low, long long high)
{
    bool fits = value >= low && value <= high;
    if (!fits) {
        rc_py_fail(RC_ARGUMENT, "%s: expected %lld to %lld, got %lld", what, low, high, value);
    }
    return fits;
}

#define MOST ((long long)1 << 31)

/* A layer's input: an existing value, real numbers, of the rank (0: 2 or 4). */
static bool
layer_fits(const rc_graph *g, long x, int rank, const char *layer)
{
    if (!value_fits(g, x, layer)) {
        return false;
    }
    const rc_value_info *v = &g->values[x];
    bool fits = !v->is_int && (rank ? v->shape.rank == rank : v->shape.rank == 2
                                                                  || v->shape.rank == 4);
    if (!fits) {
        char got[64];
        rc_py_fail(RC_ARGUMENT, "%s: expected %s, got %s%s", layer,
                   rank == 4 ? "N×C×H×W" : rank == 2 ? "N×C" : "N×C×H×W or N×C",
                   v->is_int ? "integers " : "", rc_shape_text(&v->shape, got));
    }
    return fits;
}

/* ---- inputs and layers ------------------------------------------------------------------------ */

static PyObject *
builder_input(PyObject *self, PyObject *args)
{
    long long c, h, w;
    rc_graph *g = graph_of(self);
    if (!PyArg_ParseTuple(args, "LLL:input", &c, &h, &w)) {
        return NULL;
    }
    if (c != 3) {
        return rc_py_fail(RC_ARGUMENT, "channels: expected 3 (RGB images), got %lld", c);
    }
    if (!in_range("height", h, 1, 1 << 16) || !in_range("width", w, 1, 1 << 16)) {
        return NULL;
    }
    if (g->images != RC_NONE) {
        return rc_py_fail(RC_ARGUMENT, "input: this graph has one already");
    }
    mark before = mark_of(g);
    return added(g, &before, rc_graph_images(g, c, h, w));
}

static PyObject *
builder_labels(PyObject *self, PyObject *Py_UNUSED(none))
{
    rc_graph *g = graph_of(self);
    mark before = mark_of(g);
    return added(g, &before, rc_graph_labels(g));
}

static PyObject *
builder_conv2d(PyObject *self, PyObject *args)
{
    long x;
    const char *name;
    long long out, kernel, stride, pad, groups;
    int bias;
    rc_graph *g = graph_of(self);
    if (!PyArg_ParseTuple(args, "lsLLLLLp:conv2d", &x, &name, &out, &kernel, &stride, &pad,
                          &groups, &bias)
        || !layer_fits(g, x, 4, "conv2d") || !name_fits(name, "name")
        || !in_range("out_channels", out, 1, MOST) || !in_range("kernel", kernel, 1, 255)
        || !in_range("stride", stride, 1, 255) || !in_range("padding", pad, 0, kernel)
        || !in_range("groups", groups, 1, MOST)) {
        return NULL;
    }
    int64_t in = rc_channels(g, (rc_value)x);
    if (in % groups || out % groups) {
        return rc_py_fail(RC_ARGUMENT, "groups: expected a divisor of %lld and %lld channels, "
                          "got %lld", (long long)in, out, groups);
    }
    mark before = mark_of(g);
    rc_conv_spec spec = {.out = out, .kernel = kernel, .stride = stride, .pad = pad,
                         .groups = groups, .bias = bias != 0};
    return added(g, &before, rc_conv2d(g, (rc_value)x, name, spec));
}

static PyObject *
builder_linear(PyObject *self, PyObject *args)
{
    long x;
    const char *name, *init;
    long long out;
    int bias;
    rc_graph *g = graph_of(self);
    if (!PyArg_ParseTuple(args, "lsLps:linear", &x, &name, &out, &bias, &init)
        || !layer_fits(g, x, 2, "linear") || !name_fits(name, "name")
        || !in_range("out_features", out, 1, (long long)1 << 40)) {
        return NULL;
    }
    static const struct {
        const char *name;
        rc_weight_init init;
    } inits[] = {{"kaiming_fan_out", RC_KAIMING_FAN_OUT}, {"kaiming_fan_in", RC_KAIMING_FAN_IN},
                 {"classifier", RC_CLASSIFIER}, {"uniform", RC_UNIFORM_FAN_IN}};
    for (size_t i = 0; i < sizeof inits / sizeof inits[0]; i++) {
        if (!strcmp(inits[i].name, init)) {
            mark before = mark_of(g);
            rc_linear_spec spec = {out, bias != 0, inits[i].init};
            return added(g, &before, rc_linear(g, (rc_value)x, name, spec));
        }
    }
    return rc_py_fail(RC_ARGUMENT, "init: expected 'kaiming_fan_out', 'kaiming_fan_in', "
                      "'classifier' or 'uniform', got '%.40s'", init);
}

static PyObject *
builder_norm(PyObject *self, PyObject *args)
{
    long x;
    const char *name, *kind;
    rc_graph *g = graph_of(self);
    if (!PyArg_ParseTuple(args, "lss:norm", &x, &name, &kind) || !name_fits(name, "name")) {
        return NULL;
    }
    static const struct {
        const char *kind;
        int rank;
        rc_value (*build)(rc_graph *g, rc_value x, const char *name);
    } kinds[] = {{"batch", 0, rc_batch_norm},
                 {"bnneck", 0, rc_bn_neck},
                 {"instance", 4, rc_instance_norm},
                 {"ibn", 4, rc_ibn}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (!strcmp(kinds[i].kind, kind)) {
            if (!layer_fits(g, x, kinds[i].rank, "norm")) {
                return NULL;
            }
            mark before = mark_of(g);
            return added(g, &before, kinds[i].build(g, (rc_value)x, name));
        }
    }
    return rc_py_fail(RC_ARGUMENT, "kind: no norm called '%.40s'", kind);
}

static PyObject *
builder_parameter(PyObject *self, PyObject *args)
{
    const char *name;
    PyObject *shape;
    double mean, spread;
    int trained;
    rc_graph *g = graph_of(self);
    if (!PyArg_ParseTuple(args, "sO!ddp:parameter", &name, &PyTuple_Type, &shape, &mean, &spread,
                          &trained)
        || !name_fits(name, "name")) {
        return NULL;
    }
    Py_ssize_t rank = PyTuple_GET_SIZE(shape);
    int64_t d[RC_MAX_RANK];
    if (rank < 1 || rank > RC_MAX_RANK) {
        return rc_py_fail(RC_ARGUMENT, "shape: expected 1 to %d sizes, got %zd", RC_MAX_RANK, rank);
    }
    for (Py_ssize_t i = 0; i < rank; i++) {
        d[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(shape, i));
        if ((d[i] == -1 && PyErr_Occurred()) || !in_range("shape", d[i], 1, MOST)) {
            return NULL;
        }
    }
    if (!isfinite(mean) || !isfinite(spread) || spread < 0) {
        return rc_py_fail(RC_ARGUMENT, "mean, std: expected finite numbers, std >= 0");
    }
    mark before = mark_of(g);
    rc_init init = {spread > 0 ? RC_INIT_NORMAL : RC_INIT_CONSTANT, mean, spread};
    rc_state_kind kind = trained ? RC_STATE_PARAMETER : RC_STATE_FROZEN;
    return added(g, &before, rc_graph_state(g, kind, "", name, (int)rank, d, init));
}

/* ---- any other operation ---------------------------------------------------------------------- */

static PyObject *
builder_node(PyObject *self, PyObject *args)
{
    const char *name;
    PyObject *inputs, *dict;
    rc_graph *g = graph_of(self);
    rc_attrs attributes = {0};
    rc_value in[RC_MAX_IN];
    if (!PyArg_ParseTuple(args, "sO!O!:node", &name, &PyTuple_Type, &inputs, &PyDict_Type, &dict)
        || rc_py_graph_attrs(dict, &attributes) < 0) {
        return NULL;
    }
    int op = 0;
    while (op < RC_OP_COUNT && strcmp(rc_op_table[op]->name, name) != 0) {
        op++;
    }
    Py_ssize_t n = PyTuple_GET_SIZE(inputs);
    if (op == RC_OP_COUNT) {
        return rc_py_fail(RC_ARGUMENT, "op: no operation called '%.40s'", name);
    }
    if (n < 1 || n > RC_MAX_IN) {
        return rc_py_fail(RC_ARGUMENT, "%s: expected 1 to %d inputs, got %zd", name, RC_MAX_IN, n);
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = PyTuple_GET_ITEM(inputs, i); /* borrowed */
        long value = item == Py_None ? RC_NONE : PyLong_AsLong(item);
        if (PyErr_Occurred() || (item != Py_None && !value_fits(g, value, name))) {
            return NULL;
        }
        in[i] = (rc_value)value;
    }
    if (!rc_py_graph_fits(g, (rc_op_id)op, (int)n, in)) {
        return NULL;
    }
    mark before = mark_of(g);
    return added(g, &before, rc_graph_node(g, (rc_op_id)op, &attributes, (int)n, in));
}

/* ---- names, outputs, the whole ---------------------------------------------------------------- */

static PyObject *
builder_shape(PyObject *self, PyObject *args)
{
    long x;
    rc_graph *g = graph_of(self);
    if (!PyArg_ParseTuple(args, "l:shape", &x) || !value_fits(g, x, "shape")) {
        return NULL;
    }
    const rc_shape *s = &g->values[x].shape;
    PyObject *tuple = PyTuple_New(s->rank); /* new */
    for (int i = 0; tuple && i < s->rank; i++) {
        PyObject *size = PyLong_FromLongLong(s->d[i]); /* new, stolen by the tuple */
        if (!size) {
            Py_CLEAR(tuple);
            break;
        }
        PyTuple_SET_ITEM(tuple, i, size);
    }
    return tuple;
}

static PyObject *
builder_output(PyObject *self, PyObject *args)
{
    long x;
    int role;
    const char *name;
    rc_graph *g = graph_of(self);
    if (!PyArg_ParseTuple(args, "isl:output", &role, &name, &x) || !value_fits(g, x, "outputs")
        || !name_fits(name, "outputs")) {
        return NULL;
    }
    if (role < 1 || role > (RC_ROLE_TRAIN | RC_ROLE_EVAL | RC_ROLE_LOSS)) {
        return rc_py_fail(RC_ARGUMENT, "role: expected 1 to 7, got %d", role);
    }
    if (g->values[x].kind != RC_VALUE_COMPUTED) {
        return rc_py_fail(RC_ARGUMENT, "outputs['%s']: expected something computed, got an input "
                          "or a parameter", name);
    }
    mark before = mark_of(g);
    rc_graph_output(g, (rc_role)role, name, (rc_value)x);
    return added(g, &before, (rc_value)x);
}

static PyObject *
builder_name(PyObject *self, PyObject *args)
{
    long x;
    const char *name;
    rc_graph *g = graph_of(self);
    if (!PyArg_ParseTuple(args, "ls:name", &x, &name) || !value_fits(g, x, "name")
        || !name_fits(name, "name")) {
        return NULL;
    }
    rc_graph_name(g, (rc_value)x, name);
    Py_RETURN_NONE;
}

static PyObject *
builder_new(PyTypeObject *type, PyObject *args, PyObject *kw)
{
    (void)args;
    (void)kw;
    PyObject *self = type->tp_alloc(type, 0); /* new */
    if (self) {
        ((rc_py_builder *)self)->graph = rc_graph_new();
        if (!graph_of(self)) {
            Py_CLEAR(self);
            PyErr_NoMemory();
        }
    }
    return self;
}

static PyObject *
builder_copy(PyObject *self, PyObject *Py_UNUSED(none))
{
    rc_graph *graph = rc_graph_copy(graph_of(self));
    PyObject *copy = graph ? builder_new(builder_type, NULL, NULL) : PyErr_NoMemory(); /* new */
    if (!copy) {
        rc_graph_free(graph);
        return NULL;
    }
    rc_graph_free(graph_of(copy));
    ((rc_py_builder *)copy)->graph = graph;
    return copy;
}

/* build(network, settings, description, center_weight): gives `network` a model. */
static PyObject *
builder_build(PyObject *self, PyObject *args)
{
    PyObject *network, *dict, *description;
    double center_weight;
    rc_py_settings settings;
    if (!PyArg_ParseTuple(args, "OO!Od:build", &network, &PyDict_Type, &dict, &description,
                          &center_weight)) {
        return NULL;
    }
    if (!rc_py_network_check(network)) {
        return rc_py_fail(RC_TYPE, "network: expected a Network");
    }
    if (rc_py_settings_get(dict, &settings) < 0) {
        return NULL;
    }
    rc_graph *graph = rc_graph_copy(graph_of(self));
    rc_model *model = NULL;
    rc_error err = {0};
    rc_status status = RC_MEMORY;
    if (graph) {
        graph->center_weight = center_weight;
        Py_BEGIN_ALLOW_THREADS
        status = rc_model_from_graph(graph, settings.items, settings.count, &model, &err);
        Py_END_ALLOW_THREADS
    }
    PyObject *result = NULL;
    if (status != RC_OK) {
        rc_py_raise(status, &err);
    } else {
        PyObject *config = Py_BuildValue("{s:s,s:O,s:O}", "system", "graph", "settings",
                                         settings.plain, "description", description); /* new */
        if (!config) {
            rc_model_free(model);
        } else if (rc_py_network_fill(network, model, config) == 0) {
            result = Py_NewRef(Py_None);
        }
        Py_XDECREF(config);
    }
    rc_py_settings_free(&settings);
    return result;
}

static void
builder_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    rc_graph_free(graph_of(self));
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"input", builder_input, METH_VARARGS, "input(channels, height, width): the images."},
    {"labels", builder_labels, METH_NOARGS, "labels(): what losses compare with."},
    {"conv2d", builder_conv2d, METH_VARARGS,
     "conv2d(x, name, out, kernel, stride, padding, groups, bias)"},
    {"linear", builder_linear, METH_VARARGS, "linear(x, name, out, bias, init)"},
    {"norm", builder_norm, METH_VARARGS, "norm(x, name, kind): batch, bnneck, instance, ibn."},
    {"parameter", builder_parameter, METH_VARARGS, "parameter(name, shape, mean, std, trained)"},
    {"node", builder_node, METH_VARARGS, "node(op, inputs, attributes)"},
    {"shape", builder_shape, METH_VARARGS, "shape(value): for a batch of one."},
    {"name", builder_name, METH_VARARGS, "name(value, name)"},
    {"output", builder_output, METH_VARARGS, "output(role, name, value): 1 training, 2 "
                                             "evaluation, 4 loss, added up."},
    {"copy", builder_copy, METH_NOARGS, "copy(): the same description again."},
    {"build", builder_build, METH_VARARGS,
     "build(network, settings, description, center_weight): give an empty Network its model."},
    {0},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)"GraphBuilder()\n--\n\nWhat reidc.Graph builds with."},
    {Py_tp_new, builder_new},
    {Py_tp_dealloc, builder_dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "reidc._core.GraphBuilder",
    .basicsize = sizeof(rc_py_builder),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

int
rc_py_add_graph(PyObject *module)
{
    return rc_py_add_type(module, &builder_type, &spec);
}
