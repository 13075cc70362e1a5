/* What backward needs: where gradients lead, and which values are kept for them. What it reads is
 * kept, unless it is cheap to compute again from what is kept anyway (a batch norm's ReLU output,
 * a product with a mask). */
#include <string.h>

#include "plan/lower.h"

static void
mark_wants(rc_facts *f)
{
    const rc_graph *g = f->m->graph;
    const rc_plan *p = f->p;
    for (int32_t v = 0; v < g->n_values; v++) {
        const rc_value_info *info = &g->values[v];
        f->wants[v] = rc_plan_trains(p) && info->kind == RC_VALUE_STATE
                      && g->states[info->index].kind == RC_STATE_PARAMETER
                      && !f->m->frozen[info->index];
    }
    if (p->spec.input_gradient && g->images != RC_NONE) {
        f->wants[g->images] = true;
    }
    for (int32_t u = 0; u < p->n_units; u++) {
        const rc_node *node = &p->units[u].node;
        const rc_op *op = rc_unit_rules(&p->units[u]);
        for (int k = 0; op->backward[0] && k < node->n_in; k++) {
            if (node->in[k] != RC_NONE && f->wants[node->in[k]] && !(op->no_grad >> k & 1)) {
                f->wants[node->out] = true;
            }
        }
        if (rc_explain_is_map(f->m, &p->spec, node->out)) {
            f->wants[node->out] = true;
        }
    }
}

uint32_t
rc_wanted_inputs(const rc_facts *f, const rc_unit *u)
{
    uint32_t wanted = 0;
    for (int k = 0; k < u->node.n_in; k++) {
        rc_value v = u->node.in[k];
        if (v != RC_NONE && f->wants[v] && !(rc_unit_rules(u)->no_grad >> k & 1)) {
            wanted |= 1u << k;
        }
    }
    return wanted;
}

bool
rc_unit_trains(const rc_facts *f, int32_t u)
{
    return rc_plan_trains(f->p) && !rc_unit_is_still(f->m, &f->p->units[u]);
}

uint32_t
rc_reads_of(const rc_facts *f, int32_t u, uint32_t wanted)
{
    const rc_unit *unit = &f->p->units[u];
    const rc_op *op = rc_unit_rules(unit);
    return op->reads ? op->reads(&unit->node.attrs, unit->node.n_in, rc_unit_shapes(f->p, u),
                                 wanted, rc_unit_trains(f, u))
                     : 0;
}

static void
mark_flows(rc_facts *f)
{
    const rc_graph *g = f->m->graph;
    rc_plan *p = f->p;
    for (int32_t i = 0; i < g->n_outputs; i++) {
        const rc_output *o = &g->outputs[i];
        bool source = (p->spec.kind == RC_PLAN_TRAIN && (o->role & RC_ROLE_TRAIN))
                      || (p->spec.kind == RC_PLAN_LOSS && (o->role & RC_ROLE_LOSS)
                          && !strcmp(o->name, "total"));
        if (source && f->wants[o->value]) {
            f->flows[o->value] = true;
        }
    }
    for (rc_value v = 0; v < g->n_values; v++) {
        f->flows[v] |= rc_explain_is_source(f->m, &p->spec, v) && f->wants[v];
    }
    for (int32_t u = p->n_units - 1; u >= 0; u--) {
        const rc_unit *unit = &p->units[u];
        uint32_t wanted = rc_wanted_inputs(f, unit);
        if (!f->flows[unit->node.out] || !wanted || !rc_unit_rules(unit)->backward[0]) {
            continue;
        }
        f->backward[u] = true;
        for (int k = 0; k < unit->node.n_in; k++) {
            if (wanted >> k & 1) {
                f->flows[unit->node.in[k]] = true;
            }
        }
        uint32_t reads = rc_reads_of(f, u, wanted);
        for (int k = 0; k < unit->node.n_in; k++) {
            if ((reads >> k & 1) && unit->node.in[k] != RC_NONE) {
                f->kept[unit->node.in[k]] = true;
            }
        }
        if (reads & RC_READS_Y) {
            f->kept[unit->node.out] = true;
        }
    }
}

/* Worth computing again instead of being kept: what passes over memory once or twice, and
 * convolutions of few products a value whose result is larger than what they read. */
#define FEW_PRODUCTS 64

static bool
is_cheap(const rc_facts *f, int32_t u)
{
    const rc_unit *unit = &f->p->units[u];
    const rc_shape *xs = rc_unit_shapes(f->p, u), *y = &f->p->shapes[unit->node.out];
    if (unit->node.op == RC_OP_conv2d) {
        return xs[1].d[1] * xs[1].d[2] * xs[1].d[3] <= FEW_PRODUCTS
               && rc_shape_count(y) >= 2 * rc_shape_count(&xs[0]);
    }
    return rc_unit_rules(unit)->cheap;
}

static bool can_recompute(rc_facts *f, rc_value v);

static bool
inputs_at_hand(rc_facts *f, const rc_unit *u)
{
    for (int k = 0; k < u->node.n_in; k++) {
        rc_value v = u->node.in[k];
        if (v == RC_NONE || f->producer[v] < 0 || f->kept[v]) {
            continue;
        }
        if (!can_recompute(f, v)) {
            return false;
        }
    }
    return true;
}

static bool
can_recompute(rc_facts *f, rc_value v)
{
    if (!f->known[v]) {
        int32_t u = f->producer[v];
        bool yes = u >= 0 && is_cheap(f, u) && inputs_at_hand(f, &f->p->units[u]);
        f->known[v] = yes ? 1 : 2;
    }
    return f->known[v] == 1;
}

static void
mark_dropped(rc_facts *f)
{
    const rc_graph *g = f->m->graph;
    for (int32_t v = 0; v < g->n_values; v++) { /* what users look at stays where it is */
        f->known[v] = f->seen[v] ? 2 : f->known[v];
    }
    for (int32_t v = 0; v < g->n_values; v++) {
        const rc_advice *a = f->advice;
        bool may = f->producer[v] >= 0 && !f->seen[v];
        f->dropped[v] = f->kept[v] && (can_recompute(f, v) || (a && a->again[f->root[v]] && may));
    }
}

void
rc_mark_needs(rc_facts *f)
{
    mark_wants(f);
    mark_flows(f);
    mark_dropped(f);
}
