/* Graphs as growing arrays. Shapes are inferred as nodes are added, so that a description that
 * does not fit is refused at the line that is wrong, in the operation's own words. */
#include "graph/graph.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "graph/op.h"

rc_graph *
rc_graph_new(void)
{
    rc_graph *g = rc_alloc_zero(1, sizeof *g);
    if (g) {
        g->images = g->labels = RC_NONE;
    }
    return g;
}

void
rc_graph_free(rc_graph *g)
{
    if (g) {
        rc_free(g->nodes);
        rc_free(g->values);
        rc_free(g->states);
        rc_free(g->outputs);
        rc_free(g->attentions);
        rc_free(g);
    }
}

rc_value
rc_graph_fail(rc_graph *g, rc_status code, const char *format, ...)
{
    if (g->status == RC_OK) {
        va_list args;
        va_start(args, format);
        g->status = g->error.code = code;
        vsnprintf(g->error.text, sizeof g->error.text, format, args);
        va_end(args);
    }
    return RC_NONE;
}

/* Room for one more element in an array that doubles; the new one is zeroed. NULL: no memory. */
static void *
grow(rc_graph *g, void *array_pointer, int32_t *count, int32_t *capacity, size_t size)
{
    void **array = array_pointer;
    if (*count == *capacity) {
        int32_t wanted = *capacity ? 2 * *capacity : 64;
        void *bigger = rc_alloc(wanted, size);
        if (!bigger) {
            rc_graph_fail(g, RC_MEMORY, "out of memory while describing the network");
            return NULL;
        }
        if (*count) {
            memcpy(bigger, *array, (size_t)*count * size);
        }
        rc_free(*array);
        *array = bigger;
        *capacity = wanted;
    }
    char *element = (char *)*array + (size_t)*count * size;
    memset(element, 0, size);
    ++*count;
    return element;
}

static void
set_name(char to[RC_NAME], const char *from)
{
    snprintf(to, RC_NAME, "%s", from);
}

static rc_value
add_value(rc_graph *g, rc_value_kind kind, int32_t index, const rc_shape *shape, bool is_int)
{
    if (g->status != RC_OK) {
        return RC_NONE;
    }
    rc_value_info *v =
        grow(g, (void *)&g->values, &g->n_values, &g->cap_values, sizeof *g->values);
    if (!v) {
        return RC_NONE;
    }
    v->kind = kind;
    v->index = index;
    v->shape = *shape;
    v->is_int = is_int;
    return g->n_values - 1;
}

rc_value
rc_graph_images(rc_graph *g, int64_t c, int64_t h, int64_t w)
{
    if (g->images == RC_NONE) {
        rc_shape s = {4, {1, c, h, w}};
        g->images = add_value(g, RC_VALUE_INPUT, 0, &s, false);
    }
    return g->images;
}

rc_value
rc_graph_labels(rc_graph *g)
{
    if (g->labels == RC_NONE) {
        rc_shape s = {1, {1, 1, 1, 1}};
        g->labels = add_value(g, RC_VALUE_INPUT, 1, &s, true);
    }
    return g->labels;
}

rc_value
rc_graph_input(rc_graph *g, const rc_shape *shape, bool is_int)
{
    return add_value(g, RC_VALUE_INPUT, 2, shape, is_int);
}

rc_value
rc_graph_state(rc_graph *g, rc_state_kind kind, const char *prefix, const char *name, int rank,
               const int64_t *d, rc_init init)
{
    if (g->status != RC_OK) {
        return RC_NONE;
    }
    rc_shape shape = {rank, {1, 1, 1, 1}};
    for (int i = 0; i < rank; i++) {
        shape.d[i] = d[i];
    }
    rc_state_info *s =
        grow(g, (void *)&g->states, &g->n_states, &g->cap_states, sizeof *g->states);
    if (!s) {
        return RC_NONE;
    }
    int length = snprintf(s->name, RC_NAME, "%s%s%s", prefix, *prefix ? "." : "", name);
    if (length >= RC_NAME) {
        return rc_graph_fail(g, RC_ARGUMENT, "name: expected fewer than %d characters, got '%s.%s'",
                             RC_NAME, prefix, name);
    }
    for (int32_t i = 0; i + 1 < g->n_states; i++) {
        if (!strcmp(g->states[i].name, s->name)) {
            return rc_graph_fail(g, RC_ARGUMENT, "name: '%s' is taken by another layer", s->name);
        }
    }
    s->kind = kind;
    s->shape = shape;
    s->init = init;
    s->value = add_value(g, RC_VALUE_STATE, g->n_states - 1, &shape, false);
    return s->value;
}

rc_value
rc_graph_node(rc_graph *g, rc_op_id op, const rc_attrs *attrs, int n_in, const rc_value *in)
{
    const rc_op *rules = rc_op_table[op];
    if (g->status != RC_OK) {
        return RC_NONE;
    }
    if (n_in < rules->min_in || n_in > rules->max_in) {
        return rc_graph_fail(g, RC_ARGUMENT, "%s: expected %d to %d inputs, got %d", rules->name,
                             rules->min_in, rules->max_in, n_in);
    }
    rc_shape xs[RC_MAX_IN] = {0}, y = {0};
    for (int i = 0; i < n_in; i++) {
        if (in[i] != RC_NONE) {
            if (in[i] < 0 || in[i] >= g->n_values) {
                return rc_graph_fail(g, RC_ARGUMENT, "%s: input %d is no value of this graph",
                                     rules->name, i);
            }
            xs[i] = g->values[in[i]].shape;
        } else if (i < rules->min_in) {
            return rc_graph_fail(g, RC_ARGUMENT, "%s: input %d is missing", rules->name, i);
        }
    }
    rc_attrs attributes = attrs ? *attrs : (rc_attrs){0};
    rc_status status = rules->infer(&attributes, n_in, xs, &y, &g->error);
    if (status != RC_OK) {
        g->status = status;
        return RC_NONE;
    }
    rc_node *node = grow(g, (void *)&g->nodes, &g->n_nodes, &g->cap_nodes, sizeof *g->nodes);
    if (!node) {
        return RC_NONE;
    }
    node->op = op;
    node->attrs = attributes;
    node->n_in = n_in;
    memcpy(node->in, in, (size_t)n_in * sizeof *in);
    int32_t index = g->n_nodes - 1;
    rc_value out = add_value(g, RC_VALUE_COMPUTED, index, &y, rules->y_is_int);
    g->nodes[index].out = out;
    return out;
}

void
rc_graph_name(rc_graph *g, rc_value value, const char *name)
{
    if (g->status == RC_OK && value != RC_NONE) {
        set_name(g->values[value].name, name);
    }
}

void
rc_graph_output(rc_graph *g, rc_role role, const char *name, rc_value value)
{
    if (g->status != RC_OK) {
        return;
    }
    rc_output *o =
        grow(g, (void *)&g->outputs, &g->n_outputs, &g->cap_outputs, sizeof *g->outputs);
    if (o) {
        set_name(o->name, name);
        o->value = value;
        o->role = role;
    }
}

void
rc_graph_attention(rc_graph *g, const char *name, rc_value value, int64_t heads)
{
    if (g->status != RC_OK) {
        return;
    }
    rc_attention *a = grow(g, (void *)&g->attentions, &g->n_attentions, &g->cap_attentions,
                           sizeof *g->attentions);
    if (a) {
        set_name(a->name, name);
        a->value = value;
        a->heads = heads;
    }
}

void
rc_graph_cam(rc_graph *g, rc_value map)
{
    if (g->status == RC_OK && map != RC_NONE && g->n_cams < RC_MAX_IN) {
        g->cams[g->n_cams++] = map;
    }
}

/* The layer whose parameters made a computed value. */
static bool
layer_name(const rc_graph *g, rc_value value, char *text)
{
    const rc_node *node = &g->nodes[g->values[value].index];
    for (int i = 0; i < node->n_in; i++) {
        const rc_value_info *in = node->in[i] == RC_NONE ? NULL : &g->values[node->in[i]];
        if (in && in->kind == RC_VALUE_STATE) {
            set_name(text, g->states[in->index].name);
            char *dot = strrchr(text, '.');
            if (dot) {
                *dot = 0;
            }
            return true;
        }
    }
    return false;
}

bool
rc_graph_value_name(const rc_graph *g, rc_value value, char *text)
{
    const rc_value_info *v = &g->values[value];
    if (v->name[0] || v->kind == RC_VALUE_STATE) {
        set_name(text, v->name[0] ? v->name : g->states[v->index].name);
        return true;
    }
    return v->kind == RC_VALUE_COMPUTED && layer_name(g, value, text);
}

rc_value
rc_graph_find_map(const rc_graph *g, const char *name)
{
    char text[RC_NAME];
    for (int own = 1; own >= 0; own--) {
        for (rc_value v = 0; v < g->n_values; v++) {
            const rc_value_info *info = &g->values[v];
            bool map = info->kind == RC_VALUE_COMPUTED && info->shape.rank == 4 && !info->is_int;
            if (map && own && info->name[0] && !strcmp(info->name, name)) {
                return v;
            }
            if (map && !own && layer_name(g, v, text) && !strcmp(text, name)) {
                return v;
            }
        }
    }
    return RC_NONE;
}

rc_shape
rc_graph_shape(const rc_graph *g, rc_value value)
{
    return value == RC_NONE ? (rc_shape){4, {1, 1, 1, 1}} : g->values[value].shape;
}

void
rc_graph_order_states(rc_graph *g, const char *prefix)
{
    if (g->status != RC_OK || !g->n_states) {
        return;
    }
    rc_state_info *ordered = rc_alloc(g->cap_states, sizeof *ordered);
    if (!ordered) {
        rc_graph_fail(g, RC_MEMORY, "out of memory while describing the network");
        return;
    }
    int32_t to = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int32_t i = 0; i < g->n_states; i++) {
            bool first = !strncmp(g->states[i].name, prefix, strlen(prefix));
            if (first == (pass == 0)) {
                g->values[g->states[i].value].index = to;
                ordered[to++] = g->states[i];
            }
        }
    }
    rc_free(g->states);
    g->states = ordered;
}

rc_status
rc_graph_shapes(const rc_graph *g, int64_t n, rc_shape *shapes, rc_error *err)
{
    for (int32_t v = 0; v < g->n_values; v++) {
        shapes[v] = g->values[v].shape;
        if (g->values[v].kind == RC_VALUE_INPUT) {
            shapes[v].d[0] = n;
        }
    }
    for (int32_t i = 0; i < g->n_nodes; i++) {
        const rc_node *node = &g->nodes[i];
        rc_shape xs[RC_MAX_IN] = {0};
        for (int k = 0; k < node->n_in; k++) {
            if (node->in[k] != RC_NONE) {
                xs[k] = shapes[node->in[k]];
            }
        }
        RC_TRY(rc_op_table[node->op]->infer(&node->attrs, node->n_in, xs, &shapes[node->out],
                                            err));
    }
    return RC_OK;
}
