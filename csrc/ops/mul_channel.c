/* Product with a vector, the same at all positions: y = s x. x, y: (n,h,w,c)  s: (n,c).
 * Backward: dx = s dy, ds = sum over positions of x dy (in double). */
#include "ops/real.h"
#include "ops/rules.h"

RC_DECLARE_KERNEL(mul_channel_forward)
RC_DECLARE_KERNEL(mul_channel_backward)

void
RC_KERNEL(mul_channel_forward)(const rc_call *call)
{
    const real *x = call->x[0], *s = call->x[1];
    real *y = call->y;
    int64_t c = call->ys.d[1], p = call->ys.d[2] * call->ys.d[3];
    for (int64_t i = 0; i < call->ys.d[0] * p; i++) {
        for (int64_t k = 0; k < c; k++) {
            y[i * c + k] = s[i / p * c + k] * x[i * c + k];
        }
    }
}

void
RC_KERNEL(mul_channel_backward)(const rc_call *call)
{
    const real *x = call->x[0], *s = call->x[1], *dy = call->dy;
    real *dx = call->dx[0], *ds = call->dx[1];
    int64_t c = call->ys.d[1], p = call->ys.d[2] * call->ys.d[3];
    for (int64_t i = 0; ds && i < call->ys.d[0] * c; i++) { /* first: dx may replace dy */
        double sum = 0;
        for (int64_t r = 0; r < p; r++) {
            int64_t at = (i / c * p + r) * c + i % c;
            sum += (double)dy[at] * x[at];
        }
        rc_put(&ds[i], (real)sum, call->add[1]);
    }
    for (int64_t i = 0; dx && i < call->ys.d[0] * p; i++) {
        for (int64_t k = 0; k < c; k++) {
            rc_put(&dx[i * c + k], s[i / p * c + k] * dy[i * c + k], call->add[0]);
        }
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    (void)a, (void)n_in;
    RC_TRY(rc_rule_rank("mul_channel", "x", &xs[0], 4, "N x C x H x W", err));
    RC_TRY(rc_rule_not_empty("mul_channel", "x", &xs[0], err));
    rc_shape vector = {2, {xs[0].d[0], xs[0].d[1], 1, 1}};
    RC_TRY(rc_rule_equal("mul_channel", "scale", &xs[1], &vector, err));
    *y = xs[0];
    return RC_OK;
}

const rc_op rc_op_mul_channel = {
    .name = "mul_channel",
    .min_in = 2,
    .max_in = 2,
    .cheap = true,
    .in_place = true,
    .bwd_in_place = true,
    .infer = infer,
    .reads = rc_reads_other,
    .forward = RC_BOTH(mul_channel_forward),
    .backward = RC_BOTH(mul_channel_backward),
};
#endif
