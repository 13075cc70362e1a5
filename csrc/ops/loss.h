/* What the loss operations share: their output is one number, labels get no gradient. */
#ifndef RC_LOSS_OP_H
#define RC_LOSS_OP_H

#include "ops/real.h"

/* The factor that every gradient of a loss carries: its own gradient, one number. */
static inline double
rc_loss_upstream(const rc_call *call)
{
    return (double)*(const real *)call->dy;
}

#if RC_RULES
/* Rank 2 rows and one label a row; y becomes one number. */
static inline rc_status
rc_loss_infer(const char *loss, const char *rows, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    char got[64];
    if (xs[0].rank != 2) {
        return rc_fail(err, RC_ARGUMENT, "%s: %s: expected 2 dimensions, one row an image, got "
                       "%s", loss, rows, rc_shape_text(&xs[0], got));
    }
    if (xs[1].rank != 1 || xs[1].d[0] != xs[0].d[0]) {
        return rc_fail(err, RC_ARGUMENT, "%s: labels: expected %lld, one an image, got %s", loss,
                       (long long)xs[0].d[0], rc_shape_text(&xs[1], got));
    }
    *y = (rc_shape){1, {1, 1, 1, 1}};
    return RC_OK;
}
#endif

#endif
