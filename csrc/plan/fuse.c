/* Which nodes of the graph run in a plan, and which of them run as one.
 *
 * Evaluation: conv + batch norm (folded into the packed weights) + add + ReLU in the kernel's
 * epilogue. Training: batch norm + add + ReLU. Both: product, softmax of its rows and product with
 * values, which then needs memory for the softmax of one image. A value is fused away only when
 * one node reads it and nobody outside asked for it. */
#include <string.h>

#include "plan/plan.h"

/* Per value: how many running nodes read it (outputs count as readers, too). */
typedef struct fusion {
    const rc_model *m;
    rc_plan *p;
    int32_t *readers;
    int32_t *reader; /* the last node that reads it */
    bool *runs;      /* per node: wanted, and not part of a unit that runs later */
    bool *has;       /* per node: a unit runs here */
} fusion;

static bool
is_output(const rc_plan_spec *spec, const rc_output *o)
{
    switch (spec->kind) {
    case RC_PLAN_EVAL:
        return o->role & RC_ROLE_EVAL;
    case RC_PLAN_TRAIN:
        return o->role & RC_ROLE_TRAIN;
    case RC_PLAN_LOSS:
        return o->role & RC_ROLE_LOSS;
    default:
        return false;
    }
}

static void
mark(fusion *f)
{
    const rc_graph *g = f->m->graph;
    const rc_plan_spec *spec = &f->p->spec;
    for (int32_t i = 0; i < g->n_outputs; i++) {
        if (is_output(spec, &g->outputs[i])) {
            f->readers[g->outputs[i].value] += 2; /* never fused away */
        }
    }
    for (rc_value v = 0; v < g->n_values; v++) {
        if (rc_explain_is_map(f->m, spec, v) || rc_explain_is_source(f->m, spec, v)) {
            f->readers[v] += 2;
        }
    }
    for (int32_t i = g->n_nodes - 1; i >= 0; i--) {
        const rc_node *node = &g->nodes[i];
        f->runs[i] = f->readers[node->out] > 0
                     && !(node->op == RC_OP_planes && spec->given_planes);
        for (int k = 0; f->runs[i] && k < node->n_in; k++) {
            if (node->in[k] != RC_NONE) {
                f->readers[node->in[k]]++;
                f->reader[node->in[k]] = i;
            }
        }
    }
}

/* The node that alone reads `value`, if it has this operation and is still free; else NULL. */
static rc_node *
only_reader(fusion *f, rc_value value, rc_op_id op)
{
    if (f->readers[value] != 1) {
        return NULL;
    }
    int32_t at = f->reader[value];
    rc_node *node = &f->m->graph->nodes[at];
    return node->op == op && f->runs[at] && !f->has[at] ? node : NULL;
}

static bool
is_relu(const rc_node *node)
{
    return node->attrs.act == RC_ACT_RELU || node->attrs.act == RC_ACT_LEAKY_RELU;
}

/* Let `unit` take over what follows its output: an addition (residual goes to input `slot`; < 0:
 * not able to) and a ReLU. `last` moves to the node at which the fused unit runs. */
static void
absorb(fusion *f, rc_unit *unit, int slot, int32_t *last)
{
    rc_node *add = slot < 0 ? NULL : only_reader(f, unit->node.out, RC_OP_add);
    if (add && add->attrs.act == RC_ACT_NONE && add->in[0] != add->in[1]) {
        rc_value other = add->in[add->in[0] == unit->node.out];
        int32_t at = f->reader[unit->node.out];
        while (unit->node.n_in < slot) {
            unit->node.in[unit->node.n_in++] = RC_NONE;
        }
        unit->node.in[slot] = other;
        unit->node.n_in = slot + 1;
        f->runs[*last] = false;
        *last = at;
        unit->node.out = add->out;
    }
    rc_node *relu = only_reader(f, unit->node.out, RC_OP_activation);
    if (relu && is_relu(relu)) {
        int32_t at = f->reader[unit->node.out];
        unit->node.attrs.act = relu->attrs.act;
        unit->node.attrs.slope = relu->attrs.slope;
        f->runs[*last] = false;
        *last = at;
        unit->node.out = relu->out;
    }
}

/* matmul, softmax and matmul as attention, if nobody else asks for what lies between. Doubles stay
 * free of it, as of every rearrangement. */
static void
fuse_attention(fusion *f, int32_t i, rc_unit *unit, int32_t *last)
{
    rc_value e = unit->node.out;
    rc_node *softmax = f->m->real_size == sizeof(float) ? only_reader(f, e, RC_OP_softmax) : NULL;
    rc_node *second = softmax ? only_reader(f, softmax->out, RC_OP_matmul) : NULL;
    if (!second || second->attrs.scale != 1 || second->attrs.trans_a) {
        return;
    }
    bool turned = second->in[1] == softmax->out; /* v S^T */
    if (turned != (bool)second->attrs.trans_b) {
        return;
    }
    int32_t between = f->reader[e], end = f->reader[softmax->out];
    unit->node.op = RC_OP_attention;
    unit->node.attrs.negate = softmax->attrs.negate;
    unit->node.attrs.mode = turned;
    unit->node.in[2] = second->in[turned ? 0 : 1];
    unit->node.n_in = 3;
    unit->node.out = second->out;
    f->runs[i] = f->runs[between] = false;
    *last = end;
}

static bool
can_fold(const fusion *f, const rc_unit *conv)
{
    if (!rc_plan_forward_only(f->p) || f->m->real_size != sizeof(float)) {
        return false;
    }
    if (f->m->on) { /* packed or not, its weights are made anew with the batch norm's scale */
        return true;
    }
    const rc_shape *shapes = f->p->shapes;
    rc_shape xs[2] = {shapes[conv->node.in[0]], shapes[conv->node.in[1]]};
    rc_conv_shape s = rc_conv_shape_of(&conv->node.attrs, xs, &shapes[conv->node.out]);
    const rc_conv_kernel *kernel = rc_select_conv(rc_conv_fwd_kernels(RC_REAL), &s);
    return kernel && kernel->packed_size(&s) > 0;
}

static void
fuse_from(fusion *f, int32_t i, rc_unit *unit, int32_t *last)
{
    if (unit->node.op == RC_OP_conv2d && can_fold(f, unit)) {
        rc_node *norm = only_reader(f, unit->node.out, RC_OP_batch_norm);
        if (norm && norm->in[0] == unit->node.out) {
            memcpy(unit->norm, norm->in + 1, sizeof unit->norm);
            unit->norm_eps = norm->attrs.eps;
            unit->folded = true;
            f->runs[i] = false;
            *last = f->reader[unit->node.out];
            unit->node.out = norm->out;
        }
        absorb(f, unit, 3, last);
    } else if (unit->node.op == RC_OP_batch_norm) {
        absorb(f, unit, 5, last);
    } else if (unit->node.op == RC_OP_matmul) {
        fuse_attention(f, i, unit, last);
    } else if (unit->node.op == RC_OP_linear && rc_plan_forward_only(f->p)) {
        absorb(f, unit, -1, last);
    }
}

rc_status
rc_plan_fuse(const rc_model *m, rc_plan *p, rc_error *err)
{
    const rc_graph *g = m->graph;
    rc_status status = RC_MEMORY;
    fusion f = {.m = m, .p = p};
    rc_unit *at = rc_alloc_zero(g->n_nodes, sizeof *at); /* the unit that runs at node i */
    bool *has = f.has = rc_alloc_zero(g->n_nodes, sizeof *has);
    f.readers = rc_alloc_zero(g->n_values, sizeof *f.readers);
    f.reader = rc_alloc_zero(g->n_values, sizeof *f.reader);
    f.runs = rc_alloc_zero(g->n_nodes, sizeof *f.runs);
    p->units = rc_alloc_zero(g->n_nodes, sizeof *p->units);
    if (!at || !has || !f.readers || !f.reader || !f.runs || !p->units) {
        rc_fail(err, RC_MEMORY, "out of memory while planning");
        goto done;
    }
    mark(&f);
    for (int32_t i = 0; i < g->n_nodes; i++) {
        if (!f.runs[i] || has[i]) {
            continue; /* not wanted, or the place of a fused unit */
        }
        rc_unit unit = {.node = g->nodes[i]};
        int32_t last = i;
        fuse_from(&f, i, &unit, &last);
        if (last != i) {
            f.runs[last] = true;
        }
        unit.index = last;
        at[last] = unit;
        has[last] = true;
    }
    for (int32_t i = 0; i < g->n_nodes; i++) {
        if (has[i]) {
            p->units[p->n_units++] = at[i];
        }
    }
    status = RC_OK;
done:
    rc_free(at);
    rc_free(has);
    rc_free(f.readers);
    rc_free(f.reader);
    rc_free(f.runs);
    return status;
}
