/* a + weight*b of two numbers: how loss parts become the total. a, b, y: (1). */
#include "ops/real.h"

RC_DECLARE_KERNEL(add_scalars_forward)
RC_DECLARE_KERNEL(add_scalars_backward)

void
RC_KERNEL(add_scalars_forward)(const rc_call *call)
{
    const real *a = call->x[0], *b = call->x[1];
    *(real *)call->y = (real)((double)*a + call->attrs->weight * (double)*b);
}

void
RC_KERNEL(add_scalars_backward)(const rc_call *call)
{
    real d = *(const real *)call->dy;
    if (call->dx[0]) {
        rc_put(call->dx[0], d, call->add[0]);
    }
    if (call->dx[1]) {
        rc_put(call->dx[1], (real)(call->attrs->weight * (double)d), call->add[1]);
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    (void)n_in;
    char first[64], second[64];
    if (xs[0].rank != 1 || xs[0].d[0] != 1 || xs[1].rank != 1 || xs[1].d[0] != 1) {
        return rc_fail(err, RC_ARGUMENT, "add_scalars: expected two single numbers, got %s and "
                       "%s", rc_shape_text(&xs[0], first), rc_shape_text(&xs[1], second));
    }
    if (!isfinite(a->weight)) {
        return rc_fail(err, RC_ARGUMENT, "add_scalars: weight: expected a finite number, got %g",
                       a->weight);
    }
    *y = xs[0];
    return RC_OK;
}

const rc_op rc_op_add_scalars = {
    .name = "add_scalars",
    .min_in = 2,
    .max_in = 2,
    .in_place = true,
    .bwd_in_place = true,
    .infer = infer,
    .reads = rc_reads_nothing,
    .forward = RC_BOTH(add_scalars_forward),
    .backward = RC_BOTH(add_scalars_backward),
};
#endif
