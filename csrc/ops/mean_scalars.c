/* The mean of 1..RC_MAX_IN numbers: a loss part that several heads share. Inputs and y: (1). */
#include "ops/real.h"

RC_DECLARE_KERNEL(mean_scalars_forward)
RC_DECLARE_KERNEL(mean_scalars_backward)

void
RC_KERNEL(mean_scalars_forward)(const rc_call *call)
{
    double sum = 0;
    for (int32_t i = 0; i < call->n_in; i++) {
        sum += (double)*(const real *)call->x[i];
    }
    *(real *)call->y = (real)(sum / call->n_in);
}

void
RC_KERNEL(mean_scalars_backward)(const rc_call *call)
{
    real share = *(const real *)call->dy / (real)call->n_in;
    for (int32_t i = 0; i < call->n_in; i++) {
        if (call->dx[i]) {
            rc_put(call->dx[i], share, call->add[i]);
        }
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    (void)a;
    char got[64];
    for (int i = 0; i < n_in; i++) {
        if (xs[i].rank != 1 || xs[i].d[0] != 1) {
            return rc_fail(err, RC_ARGUMENT, "mean_scalars: expected single numbers, got %s",
                           rc_shape_text(&xs[i], got));
        }
    }
    *y = (rc_shape){1, {1, 1, 1, 1}};
    return RC_OK;
}

const rc_op rc_op_mean_scalars = {
    .name = "mean_scalars",
    .min_in = 1,
    .max_in = RC_MAX_IN,
    .in_place = true,
    .bwd_in_place = true,
    .infer = infer,
    .reads = rc_reads_nothing,
    .forward = RC_BOTH(mean_scalars_forward),
    .backward = RC_BOTH(mean_scalars_backward),
};
#endif
