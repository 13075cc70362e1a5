/* A graph as a value: everything in it is flat, so a copy is six blocks. Bindings use it to
 * copy a network, and to try an addition that may fail and be taken back. */
#include <string.h>

#include "graph/graph.h"

static bool
copy_array(void *to, const void *from, int32_t count, int32_t *capacity, size_t size)
{
    void **target = to;
    *capacity = count;
    *target = count ? rc_alloc(count, size) : NULL;
    if (count && *target) {
        memcpy(*target, from, (size_t)count * size);
    }
    return !count || *target;
}

rc_graph *
rc_graph_copy(const rc_graph *g)
{
    rc_graph *c = rc_graph_new();
    if (!c) {
        return NULL;
    }
    *c = *g;
    c->nodes = NULL;
    c->values = NULL;
    c->states = NULL;
    c->outputs = NULL;
    c->attentions = NULL;
    if (!copy_array(&c->nodes, g->nodes, g->n_nodes, &c->cap_nodes, sizeof *g->nodes)
        || !copy_array(&c->values, g->values, g->n_values, &c->cap_values, sizeof *g->values)
        || !copy_array(&c->states, g->states, g->n_states, &c->cap_states, sizeof *g->states)
        || !copy_array(&c->outputs, g->outputs, g->n_outputs, &c->cap_outputs,
                       sizeof *g->outputs)
        || !copy_array(&c->attentions, g->attentions, g->n_attentions, &c->cap_attentions,
                       sizeof *g->attentions)) {
        rc_graph_free(c);
        return NULL;
    }
    return c;
}
