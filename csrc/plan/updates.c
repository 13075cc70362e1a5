/* What a training plan does around forward and backward: the gradients that start it, those of
 * weights that nothing reaches, the updates, and the running statistics last. */
#include <string.h>

#include "plan/lower.h"

/* Gradients that come from outside: 1 for the total loss, the caller's for outputs. */
rc_status
rc_lower_sources(rc_facts *f, rc_error *err)
{
    rc_plan *p = f->p;
    const rc_graph *g = f->m->graph;
    for (rc_value v = 0; v < g->n_values; v++) {
        bool source = rc_explain_is_source(f->m, &p->spec, v);
        for (int32_t i = 0; i < g->n_outputs; i++) {
            const rc_output *o = &g->outputs[i];
            source |= o->value == v && p->spec.kind == RC_PLAN_TRAIN
                      && (o->role & RC_ROLE_TRAIN);
            source |= o->value == v && p->spec.kind == RC_PLAN_LOSS
                      && (o->role & RC_ROLE_LOSS) && !strcmp(o->name, "total");
        }
        if (!source || !f->flows[v]) {
            continue;
        }
        RC_TRY(rc_lower_buffer(p, rc_value_bytes(f, v), &p->gradient_buffer[v], err));
        if (p->spec.kind == RC_PLAN_LOSS) {
            RC_TRY(rc_select_one(f->m, p, p->gradient_buffer[v], p->shapes[v], err));
        }
    }
    return RC_OK;
}

/* Within a step, weights that nothing gives a gradient to have one of zero: decay moves them. */
rc_status
rc_lower_untouched(rc_facts *f, rc_error *err)
{
    rc_plan *p = f->p;
    const rc_graph *g = f->m->graph;
    for (int32_t i = 0; p->spec.in_step && i < g->n_states; i++) {
        const rc_state_info *s = &g->states[i];
        if (s->kind != RC_STATE_PARAMETER || p->state_gradient[i] >= 0 || f->m->frozen[i]) {
            continue;
        }
        RC_TRY(rc_lower_buffer(p, rc_value_bytes(f, s->value), &p->state_gradient[i], err));
        RC_TRY(rc_select_zeros(f->m, p, p->state_gradient[i], s->shape, err));
    }
    return RC_OK;
}

/* For each state entry the last step so far that reads it or writes its gradient, or -1. */
static void
find_last_uses(const rc_facts *f, int32_t *last, int32_t *owner)
{
    const rc_plan *p = f->p;
    for (int32_t b = 0; b < p->n_buffers; b++) {
        owner[b] = -1;
    }
    for (int32_t i = 0; i < f->m->graph->n_states; i++) {
        last[i] = -1;
        if (p->state_gradient[i] >= 0) {
            owner[p->state_gradient[i]] = i;
        }
    }
    for (int32_t s = 0; s < p->n_steps; s++) {
        const rc_step *step = &p->steps[s];
        for (int k = 0; k < RC_MAX_IN; k++) {
            if (step->x[k].kind == RC_REF_STATE) {
                last[step->x[k].index] = s;
            }
            if (step->dx[k].kind == RC_REF_BUFFER && owner[step->dx[k].index] >= 0) {
                last[owner[step->dx[k].index]] = s;
            }
        }
        if (step->y.kind == RC_REF_BUFFER && owner[step->y.index] >= 0) {
            last[owner[step->y.index]] = s; /* zeros */
        }
    }
}

/* Updates among the steps of backward, each as early as it may be. */
rc_status
rc_lower_updates(rc_facts *f, rc_error *err)
{
    rc_plan *p = f->p;
    const int32_t n_states = f->m->graph->n_states, n_steps = p->n_steps;
    int32_t *last = rc_alloc(n_states, sizeof *last);
    int32_t *owner = rc_alloc(p->n_buffers, sizeof *owner);
    int32_t *now = rc_alloc(n_steps + 1, sizeof *now); /* where a step has moved */
    int32_t *first = rc_alloc(n_steps + 1, sizeof *first), /* updated after each step, as a list … */
            *next = rc_alloc(n_states + 1, sizeof *next);
    rc_step *steps = p->steps, *wider = rc_alloc(n_steps + n_states, sizeof *wider);
    rc_status status = last && owner && now && first && next && wider ? RC_OK : rc_planning_failed(err);
    if (status == RC_OK) {
        find_last_uses(f, last, owner);
        p->steps = wider;
        p->cap_steps = n_steps + n_states;
        p->n_steps = 0;
        for (int32_t s = 0; s < n_steps; s++) {
            first[s] = -1;
        }
        for (int32_t i = n_states - 1; i >= 0; i--) { /* … in the order of states */
            if (p->state_gradient[i] >= 0 && last[i] >= 0) {
                next[i] = first[last[i]];
                first[last[i]] = i;
            }
        }
        for (int32_t s = 0; s < n_steps; s++) {
            now[s] = p->n_steps;
            p->steps[p->n_steps++] = steps[s];
            for (int32_t i = first[s]; i >= 0; i = next[i]) {
                p->steps[p->n_steps++] = (rc_step){
                    .pass = RC_PASS_UPDATE, .unit = -1, .kernel = "update",
                    .dy = {RC_REF_BUFFER, p->state_gradient[i]},
                    .state = {{RC_REF_STATE, i}},
                    .call.ys = f->m->graph->states[i].shape};
            }
        }
        for (int32_t b = 0; b < p->n_buffers; b++) {
            p->buffers[b].first = p->buffers[b].last = now[p->buffers[b].first];
        }
        wider = steps;
    }
    rc_free(now);
    rc_free(first);
    rc_free(next);
    rc_free(last);
    rc_free(owner);
    rc_free(wider);
    return status;
}

rc_status
rc_lower_commits(rc_facts *f, rc_error *err)
{
    rc_plan *p = f->p;
    for (int32_t u = 0; rc_plan_trains(p) && u < p->n_units; u++) {
        const rc_unit *unit = &p->units[u];
        if (!rc_unit_rules(unit)->commit[0] || !rc_unit_trains(f, u)) {
            continue;
        }
        rc_step step = rc_lower_step(f, u, RC_PASS_COMMIT);
        for (int k = 0; k < 2; k++) {
            step.state[k] = rc_data_ref(f, unit->node.in[3 + k]);
        }
        RC_TRY(rc_select_commit(f->m, p, step, err));
    }
    return RC_OK;
}
