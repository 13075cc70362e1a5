/* Element-wise activation: ReLU, leaky ReLU (slope), sigmoid. Backward reads y alone: the sign
 * of y is that of x for the first two (slope >= 0), and s' = s(1-s) for the third. */
#include "ops/act.h"
#include "ops/rules.h"

RC_DECLARE_KERNEL(activation_forward)
RC_DECLARE_KERNEL(activation_backward)

void
RC_KERNEL(activation_forward)(const rc_call *call)
{
    const real *x = call->x[0];
    real *y = call->y, slope = (real)call->attrs->slope;
    int64_t count = rc_shape_count(&call->ys);
    for (int64_t i = 0; i < count; i++) {
        y[i] = act_value((int)call->attrs->act, slope, x[i]);
    }
}

void
RC_KERNEL(activation_backward)(const rc_call *call)
{
    const real *y = call->y, *dy = call->dy;
    real *dx = call->dx[0], slope = (real)call->attrs->slope;
    int64_t count = rc_shape_count(&call->ys);
    for (int64_t i = 0; i < count; i++) {
        rc_put(&dx[i], act_gradient((int)call->attrs->act, slope, y[i], dy[i]), call->add[0]);
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    (void)n_in;
    RC_TRY(rc_rule_there("activation", "x", &xs[0], err));
    RC_TRY(rc_rule_act("activation", a, true, err));
    *y = xs[0];
    return RC_OK;
}

const rc_op rc_op_activation = {
    .name = "activation",
    .min_in = 1,
    .max_in = 1,
    .cheap = true,
    .in_place = true,
    .bwd_in_place = true,
    .infer = infer,
    .reads = rc_reads_result,
    .forward = RC_BOTH(activation_forward),
    .backward = RC_BOTH(activation_backward),
};
#endif
