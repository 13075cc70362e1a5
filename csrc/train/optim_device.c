/* An optimiser's step on the model's device: one call for all entries. Its memory is there while
 * the model is, and comes back with rc_model_fetch. */
#include <math.h>

#include "train/optim_impl.h"

rc_status
rc_optimizer_join(rc_optimizer *o, rc_error *err)
{
    o->items = rc_alloc_zero(o->n_states + 1, sizeof *o->items);
    for (int k = 0; k < o->slots; k++) {
        o->copies[k].host = rc_alloc_zero(o->n_states + 1, sizeof(void *));
    }
    if (!o->items || (o->slots > 0 && !o->copies[0].host) || (o->slots > 1 && !o->copies[1].host)) {
        return rc_fail(err, RC_MEMORY, "optimizer: out of memory");
    }
    for (int k = 0; k < o->slots; k++) {
        for (int i = 0; i < o->n_states; i++) {
            o->copies[k].host[i] = rc_optimizer_slot(o, i, k);
        }
        rc_model_accompany(o->model, &o->copies[k]);
    }
    return RC_OK;
}

void
rc_optimizer_leave(rc_optimizer *o)
{
    for (int k = 0; k < 2; k++) {
        if (o->copies[k].host) {
            rc_model_part_with(o->model, &o->copies[k]);
        }
        rc_free(o->copies[k].host);
    }
    rc_free(o->items);
}

/* Where entry i's gradient is: of this step alone, in the arena, or the model's. */
static const float *
gradient_of(const rc_model *m, int32_t i)
{
    const rc_plan *p = m->stepping;
    if (!p) {
        return m->on->gradients ? (const void *)(m->on->gradients + m->on->offset[i]) : NULL;
    }
    int32_t own = p->state_gradient[i];
    return own < 0 ? NULL : (const void *)(p->arena + p->buffers[own].offset);
}

rc_status
rc_optimizer_device_step(rc_optimizer *o, rc_error *err)
{
    rc_model *m = o->model;
    int n = 0;
    for (int k = 0; k < o->slots; k++) {
        RC_TRY(rc_companion_there(m, &o->copies[k], err));
    }
    for (int32_t i = 0; i < o->n_states; i++) {
        const slot_set *set = &o->sets[i];
        const float *gradient = gradient_of(m, i);
        if (!set->trained || !gradient || o->views[i].frozen) {
            continue;
        }
        float *slot[2] = {NULL, NULL};
        for (int k = 0; k < o->slots && set->start >= 0; k++) {
            slot[k] = (void *)(o->copies[k].block + m->on->offset[i]);
        }
        o->items[n++] = (rc_device_item){
            .w = rc_on_weight(m->on, i), .s0 = slot[0], .s1 = slot[1], .g = gradient,
            .count = rc_shape_count(&o->views[i].shape), .clipped = !set->center,
            .rule = o->rules[i]};
    }
    RC_TRY(m->on->api->update(m->on->d, o->items, n, o->config.clip_norm, err));
    o->clipped_there = o->config.clip_norm > 0;
    for (int k = 0; k < o->slots; k++) {
        o->copies[k].newer = true;
    }
    return m->stepping ? RC_OK : rc_device_moved_on(m, err); /* a whole step ends elsewhere */
}
