/* A model on a device: its weights there, and what plans do differently. The planner's own code
 * (fuse, lower, memory) is the same for both; here is what stands in the place of select.c and of
 * the loop in run.c.
 *
 * Weights live twice. What runs on the device works on the device's; the host's are brought up to
 * date by rc_model_fetch, which everything that reads them on the host calls first, and go back
 * before the next run once m->version says that they were written to. The host's order is the
 * users'; the device keeps the weights of convolutions, their gradients and what optimisers hold
 * of them as (k, kh, kw, c/groups), which its matrix kernels read at once. */
#ifndef RC_PLAN_DEVICE_H
#define RC_PLAN_DEVICE_H

#include "device/device.h"
#include "plan/plan.h"

struct rc_on_device {
    const rc_device_api *api;
    rc_device *d;
    char *weights;     /* of all state entries … */
    char *gradients;   /* … likewise; NULL before the first backward */
    int64_t *offset;   /* of each entry in such a block */
    int64_t bytes;     /* of a block */
    bool *turned;      /* per entry: the order differs from the host's */
    uint64_t version;  /* of the host's weights that are here too */
    bool newer;            /* the device's weights are ahead of the host's */
    bool gradients_newer;  /* the same of the gradients that are not of a step */
    uint64_t *counters;      /* on the device: seed, step; what dropout is drawn from */
    uint64_t *host_counters; /* page-locked, the same */
    char *staged;            /* page-locked: pictures on their way */
    int64_t staged_bytes;
};

static inline void *
rc_on_weight(const rc_on_device *on, int32_t state)
{
    return on->weights + on->offset[state];
}

/* ---- blocks of the size of all state entries (device.c) ------------------------------------- */

rc_status rc_block_new(const rc_on_device *on, char **out, rc_error *err); /* zeroed */
void rc_block_free(const rc_on_device *on, char *block);
/* Entries with host[i] NULL are passed over. Both wait until the copy is done. */
rc_status rc_block_put(const rc_model *m, char *block, void *const *host, rc_error *err);
rc_status rc_block_get(const rc_model *m, const char *block, void *const *host, rc_error *err);

/* ---- what goes with the weights: an optimiser's memory, an average ----------------------------- */

typedef struct rc_companion {
    void **host; /* per state entry, NULL: none; the owner's */
    char *block; /* the same on the model's device; NULL: not there */
    bool newer;  /* and it is ahead of the host's */
    struct rc_companion *next;
} rc_companion;

void rc_model_accompany(rc_model *m, rc_companion *c); /* until rc_model_part_with */
void rc_model_part_with(rc_model *m, rc_companion *c);
rc_status rc_companion_there(rc_model *m, rc_companion *c, rc_error *err); /* block holds it */
/* The host's was written to (after rc_model_fetch): the device's copy goes. */
void rc_companion_touch(rc_model *m, rc_companion *c);

/* ---- plans (device_select.c, device_run.c) ------------------------------------------------------ */

/* The kernel, name and scratch of a step whose call is filled; adds it to the plan. */
rc_status rc_device_forward_step(rc_model *m, rc_plan *p, rc_step step, rc_error *err);
rc_status rc_device_backward_step(rc_model *m, rc_plan *p, rc_step step, rc_error *err);
rc_status rc_device_commit_step(rc_model *m, rc_plan *p, rc_step step, rc_error *err);
rc_status rc_device_cast_step(rc_model *m, rc_plan *p, rc_step step, rc_error *err);
rc_status rc_device_fill_step(rc_model *m, rc_plan *p, rc_step step, float value, rc_error *err);

rc_status rc_device_ready(rc_model *m, rc_plan *p, rc_error *err);
rc_status rc_device_run(rc_model *m, rc_plan *p, int32_t from, int32_t to, const rc_poll *poll,
                        rc_error *err);
void rc_device_drop_arena(rc_plan *p); /* and its recorded runs */
/* Where status is RC_MEMORY, the plan's figure and the card's as its sentence; status. */
rc_status rc_device_room(const rc_model *m, const rc_plan *p, rc_status status, rc_error *err);

/* After something on the device has changed weights or statistics. */
rc_status rc_device_moved_on(rc_model *m, rc_error *err);

#endif
