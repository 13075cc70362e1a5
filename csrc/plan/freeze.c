/* Freezing layers: parameters that training leaves alone, and batch norms that then normalise with
 * their running statistics, as fast-reid and torchreid do when they put a frozen layer into
 * evaluation mode. What is frozen is part of the training plans: nothing is computed for it, and
 * no gradient goes further back than something that is trained. */
#include <fnmatch.h>
#include <string.h>

#include "plan/plan.h"

static void
drop_training_plans(rc_model *m)
{
    for (int i = 0; i < RC_PLAN_CACHE; i++) {
        rc_plan *p = m->plans[i];
        if (!p || !rc_plan_trains(p)) {
            continue;
        }
        if (m->ran == p) {
            m->ran = NULL;
            m->can_backward = false;
        }
        rc_plan_free(p);
        m->plans[i] = NULL;
    }
}

static void
replace_frozen(rc_model *m, const bool *frozen)
{
    size_t bytes = (size_t)m->graph->n_states * sizeof *frozen;
    if (memcmp(m->frozen, frozen, bytes) != 0) {
        memcpy(m->frozen, frozen, bytes);
        drop_training_plans(m);
    }
}

rc_status
rc_model_freeze(rc_model *m, const char *const *patterns, int n, rc_error *err)
{
    const rc_graph *g = m->graph;
    bool *frozen = rc_alloc_zero(g->n_states + 1, sizeof *frozen);
    rc_status status = RC_OK;
    if (!frozen) {
        return rc_fail(err, RC_MEMORY, "freeze: out of memory");
    }
    for (int k = 0; status == RC_OK && k < n; k++) {
        bool used = false;
        for (int32_t i = 0; i < g->n_states; i++) {
            if (g->states[i].kind != RC_STATE_BUFFER
                && fnmatch(patterns[k], g->states[i].name, 0) == 0) {
                used = frozen[i] = true;
            }
        }
        if (!used) {
            status = rc_fail(err, RC_ARGUMENT,
                             "freeze: no parameter's name matches '%.100s' (the first name is "
                             "'%s')", patterns[k], g->n_states ? g->states[0].name : "");
        }
    }
    if (status == RC_OK) {
        rc_model_lock(m);
        replace_frozen(m, frozen);
        rc_model_unlock(m);
    }
    rc_free(frozen);
    return status;
}

void
rc_model_freeze_like(rc_model *m, const rc_model *other)
{
    replace_frozen(m, other->frozen);
}

static bool
is_frozen(const rc_model *m, rc_value v)
{
    const rc_value_info *info = &m->graph->values[v];
    return info->kind == RC_VALUE_STATE && m->frozen[info->index];
}

bool
rc_unit_is_still(const rc_model *m, const rc_unit *u)
{
    return rc_op_table[u->node.op]->batch_statistics && is_frozen(m, u->node.in[1])
           && is_frozen(m, u->node.in[2]);
}
