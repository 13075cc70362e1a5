/* A learned share of one value added to another: y = s*a + b, s: (1).
 * Backward: ds = sum dy a (in double), da = s dy, db = dy. */
#include "ops/real.h"
#include "ops/rules.h"

RC_DECLARE_KERNEL(scale_add_forward)
RC_DECLARE_KERNEL(scale_add_backward)

void
RC_KERNEL(scale_add_forward)(const rc_call *call)
{
    const real *a = call->x[1], *b = call->x[2];
    real s = *(const real *)call->x[0], *y = call->y;
    int64_t count = rc_shape_count(&call->ys);
    for (int64_t i = 0; i < count; i++) {
        y[i] = s * a[i] + b[i];
    }
}

void
RC_KERNEL(scale_add_backward)(const rc_call *call)
{
    const real *a = call->x[1], *dy = call->dy;
    real *ds = call->dx[0], *da = call->dx[1], *db = call->dx[2];
    int64_t count = rc_shape_count(&call->ys);
    if (ds) {
        double sum = 0;
        for (int64_t i = 0; i < count; i++) {
            sum += (double)dy[i] * a[i];
        }
        rc_put(ds, (real)sum, call->add[0]);
    }
    for (int64_t i = 0; db && i < count; i++) {
        rc_put(&db[i], dy[i], call->add[2]);
    }
    if (da) {
        real s = *(const real *)call->x[0];
        for (int64_t i = 0; i < count; i++) {
            rc_put(&da[i], s * dy[i], call->add[1]);
        }
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    (void)a, (void)n_in;
    RC_TRY(rc_rule_vector("scale_add", "s", &xs[0], 1, err));
    RC_TRY(rc_rule_there("scale_add", "a", &xs[1], err));
    RC_TRY(rc_rule_equal("scale_add", "b", &xs[2], &xs[1], err));
    *y = xs[1];
    return RC_OK;
}

const rc_op rc_op_scale_add = {
    .name = "scale_add",
    .min_in = 3,
    .max_in = 3,
    .infer = infer,
    .reads = rc_reads_other,
    .forward = RC_BOTH(scale_add_forward),
    .backward = RC_BOTH(scale_add_backward),
};
#endif
