/* The value itself, through which no gradient goes back. */
#include "ops/real.h"
#include "ops/rules.h"

RC_DECLARE_KERNEL(stop_gradient_forward)

void
RC_KERNEL(stop_gradient_forward)(const rc_call *call)
{
    memmove(call->y, call->x[0], (size_t)rc_shape_count(&call->ys) * sizeof(real));
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    (void)a, (void)n_in;
    RC_TRY(rc_rule_there("stop_gradient", "x", &xs[0], err));
    *y = xs[0];
    return RC_OK;
}

const rc_op rc_op_stop_gradient = {
    .name = "stop_gradient",
    .min_in = 1,
    .max_in = 1,
    .cheap = true,
    .in_place = true,
    .no_grad = RC_READS(0),
    .infer = infer,
    .forward = RC_BOTH(stop_gradient_forward),
};
#endif
