/* Product with a map, the same for all channels: y = a x. x, y: (n,h,w,c)  a: (n,h,w,1).
 * Backward: dx = a dy, da = sum over channels of x dy (in double). */
#include "ops/real.h"
#include "ops/rules.h"

RC_DECLARE_KERNEL(mul_map_forward)
RC_DECLARE_KERNEL(mul_map_backward)

void
RC_KERNEL(mul_map_forward)(const rc_call *call)
{
    const real *x = call->x[0], *a = call->x[1];
    real *y = call->y;
    int64_t c = call->ys.d[1], positions = rc_shape_count(&call->ys) / c;
    for (int64_t i = 0; i < positions; i++) {
        for (int64_t k = 0; k < c; k++) {
            y[i * c + k] = a[i] * x[i * c + k];
        }
    }
}

void
RC_KERNEL(mul_map_backward)(const rc_call *call)
{
    const real *x = call->x[0], *a = call->x[1], *dy = call->dy;
    real *dx = call->dx[0], *da = call->dx[1];
    int64_t c = call->ys.d[1], positions = rc_shape_count(&call->ys) / c;
    for (int64_t i = 0; i < positions; i++) {
        if (da) { /* first: dx may lie in the memory of dy */
            double sum = 0;
            for (int64_t k = 0; k < c; k++) {
                sum += (double)dy[i * c + k] * x[i * c + k];
            }
            rc_put(&da[i], (real)sum, call->add[1]);
        }
        for (int64_t k = 0; dx && k < c; k++) {
            rc_put(&dx[i * c + k], a[i] * dy[i * c + k], call->add[0]);
        }
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    (void)a, (void)n_in;
    RC_TRY(rc_rule_rank("mul_map", "x", &xs[0], 4, "N x C x H x W", err));
    RC_TRY(rc_rule_not_empty("mul_map", "x", &xs[0], err));
    rc_shape map = xs[0];
    map.d[1] = 1;
    RC_TRY(rc_rule_equal("mul_map", "map", &xs[1], &map, err));
    *y = xs[0];
    return RC_OK;
}

const rc_op rc_op_mul_map = {
    .name = "mul_map",
    .min_in = 2,
    .max_in = 2,
    .cheap = true,
    .in_place = true,
    .bwd_in_place = true,
    .infer = infer,
    .reads = rc_reads_other,
    .forward = RC_BOTH(mul_map_forward),
    .backward = RC_BOTH(mul_map_backward),
};
#endif
