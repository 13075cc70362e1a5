/* A loss on its own: the very operations that networks train with, run once on given rows. */
#ifndef RC_LOSSES_H
#define RC_LOSSES_H

#include "graph/op.h"

typedef struct rc_loss_call {
    rc_op_id op;    /* cross_entropy, triplet, center, circle or cosine_loss */
    rc_attrs attrs; /* as op_list.h names them */
    int n_in;
    rc_shape xs[3];
    const void *x[3]; /* real, or int64 for labels */
    void *dx[3];      /* where gradients go; NULL where not wanted */
    bool is_double;   /* real is double */
} rc_loss_call;

/* *value is the loss; dx its gradients. RC_ARGUMENT for shapes that do not fit, an empty batch,
 * rows that are not finite, labels out of range, one identity where triplet needs two. */
rc_status rc_loss_run(const rc_loss_call *call, double *value, rc_error *err);

#endif
