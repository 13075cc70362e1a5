/* What is known about a model from its graph: sizes, multiply-accumulates, class heads. */
#include <string.h>

#include "plan/plan.h"

/* Which nodes a set of outputs needs. */
static void
mark_needed(const rc_graph *g, int roles, bool *node_needed, bool *value_needed)
{
    memset(value_needed, 0, (size_t)g->n_values);
    for (int32_t i = 0; i < g->n_outputs; i++) {
        if ((int)g->outputs[i].role & roles) {
            value_needed[g->outputs[i].value] = true;
        }
    }
    for (int32_t i = g->n_nodes - 1; i >= 0; i--) {
        node_needed[i] = value_needed[g->nodes[i].out];
        for (int k = 0; node_needed[i] && k < g->nodes[i].n_in; k++) {
            if (g->nodes[i].in[k] != RC_NONE) {
                value_needed[g->nodes[i].in[k]] = true;
            }
        }
    }
}

static void
count_macs(const rc_graph *g, const bool *needed, rc_model_info *info)
{
    for (int32_t i = 0; i < g->n_nodes; i++) {
        const rc_node *node = &g->nodes[i];
        const rc_op *op = rc_op_table[node->op];
        if (!needed[i] || !op->macs) {
            continue;
        }
        rc_shape xs[RC_MAX_IN] = {0};
        for (int k = 0; k < node->n_in; k++) {
            xs[k] = rc_graph_shape(g, node->in[k] == RC_NONE ? node->in[0] : node->in[k]);
        }
        info->macs += op->macs(&node->attrs, xs, &g->values[node->out].shape, false);
        info->macs_literal += op->macs(&node->attrs, xs, &g->values[node->out].shape, true);
    }
}

/* The last node's output that is a map and needed; RC_NONE. */
static rc_value
last_map(const rc_graph *g, const bool *needed)
{
    for (int32_t i = g->n_nodes - 1; i >= 0; i--) {
        rc_shape s = g->values[g->nodes[i].out].shape;
        if (needed[g->nodes[i].out] && s.rank == 4 && s.d[2] * s.d[3] > 1) {
            return g->nodes[i].out;
        }
    }
    return RC_NONE;
}

static bool
has_identity_loss(const rc_graph *g, rc_value logits)
{
    for (int32_t i = 0; i < g->n_nodes; i++) {
        rc_op_id op = g->nodes[i].op; /* circle_logits stands before a cross entropy */
        if ((op == RC_OP_cross_entropy || op == RC_OP_circle_logits)
            && g->nodes[i].in[0] == logits) {
            return true;
        }
    }
    return false;
}

static rc_status
find_heads(rc_model *m, rc_error *err)
{
    const rc_graph *g = m->graph;
    m->heads = rc_alloc(g->n_outputs + 1, sizeof *m->heads);
    if (!m->heads) {
        return rc_fail(err, RC_MEMORY, "out of memory while describing the network");
    }
    for (int32_t i = 0; i < g->n_outputs; i++) {
        rc_value v = g->outputs[i].value;
        bool counted = !(g->outputs[i].role & RC_ROLE_TRAIN) || !has_identity_loss(g, v);
        for (int32_t k = 0; k < m->n_heads; k++) {
            counted |= m->heads[k] == v;
        }
        if (!counted) {
            m->heads[m->n_heads++] = v;
        }
    }
    return RC_OK;
}

rc_status
rc_model_work_out(rc_model *m, rc_error *err)
{
    const rc_graph *g = m->graph;
    rc_model_info *info = &m->info;
    bool *nodes = rc_alloc_zero(g->n_nodes + 1, sizeof *nodes);
    bool *values = rc_alloc_zero(g->n_values + 1, sizeof *values);
    if (!nodes || !values) {
        rc_free(nodes);
        rc_free(values);
        return rc_fail(err, RC_MEMORY, "out of memory while describing the network");
    }
    mark_needed(g, g->macs_of_heads ? RC_ROLE_EVAL | RC_ROLE_TRAIN : RC_ROLE_EVAL, nodes, values);
    count_macs(g, nodes, info);
    mark_needed(g, RC_ROLE_EVAL, nodes, values);
    for (int32_t i = 0; i < g->n_states; i++) {
        if (g->states[i].kind != RC_STATE_BUFFER) {
            int64_t count = rc_shape_count(&g->states[i].shape);
            info->parameters += count;
            info->inference_parameters += values[g->states[i].value] ? count : 0;
        }
    }
    for (int32_t i = 0; i < g->n_outputs; i++) {
        rc_shape s = rc_graph_shape(g, g->outputs[i].value);
        info->has_loss |= (g->outputs[i].role & RC_ROLE_LOSS) != 0;
        if (g->outputs[i].role & RC_ROLE_EVAL) {
            info->dimension = rc_shape_count(&s);
        }
    }
    for (int32_t i = 0; i < g->n_nodes; i++) {
        const rc_node *node = &g->nodes[i];
        rc_shape x = rc_graph_shape(g, node->in[0]);
        if (node->op == RC_OP_cross_entropy) {
            info->classes = x.d[1];
        } else if (node->op == RC_OP_center) {
            info->classes = rc_graph_shape(g, node->in[2]).d[0];
        } else if (node->op == RC_OP_planes) {
            info->takes_planes = true;
            info->map_height = x.d[2];
        }
        info->needs_two_identities |= node->op == RC_OP_triplet;
    }
    if (g->images != RC_NONE) {
        info->height = rc_graph_shape(g, g->images).d[2];
        info->width = rc_graph_shape(g, g->images).d[3];
    }
    info->center_weight = g->center_weight;
    info->system = m->system;
    if (!g->n_cams) { /* described without a word on it: the last map that the embedding needs */
        rc_graph_cam(m->graph, last_map(g, values));
    }
    rc_free(nodes);
    rc_free(values);
    return find_heads(m, err);
}
