/* What the files of an optimiser share (optim.c: rules and the CPU's step; optim_device.c). */
#ifndef RC_OPTIM_IMPL_H
#define RC_OPTIM_IMPL_H

#include "cpu/update.h"
#include "plan/device.h"
#include "train/optim.h"

typedef struct slot_set { /* of one state entry */
    int64_t start;        /* into memory[slot], -1: none */
    int32_t group;        /* -1: none */
    bool trained;
    bool center;
    int64_t skipped;      /* steps for which it was frozen */
    int64_t first_piece, n_pieces;
} slot_set;

typedef struct piece {
    int32_t state;
    int64_t from, count;
} piece;

struct rc_optimizer {
    rc_model *model;
    rc_optimizer_config config;
    int64_t t;
    int n_states, slots, n_groups;
    int64_t n_pieces, n_values; /* n_values: of one memory */
    slot_set *sets;
    piece *pieces;
    rc_optimizer_group *groups;
    rc_update *rules;      /* of the step at hand, per state */
    rc_state_view *views;  /* of the step at hand */
    double *squares;       /* per piece, of the step at hand; NULL until one clips */
    double norm;           /* of the gradients of the last step that clipped, or NaN */
    void *memory[2];
    rc_companion copies[2];   /* of `memory`, on the model's device */
    rc_device_item *items;    /* of the step at hand, on a device */
    bool clipped_there;       /* the last step that clipped ran there: its norm is to be asked for */
};

/* optim_device.c. Rules and views of the step at hand are there. */
rc_status rc_optimizer_device_step(rc_optimizer *o, rc_error *err);
rc_status rc_optimizer_join(rc_optimizer *o, rc_error *err); /* companions, once memory is there */
void rc_optimizer_leave(rc_optimizer *o);

#endif
