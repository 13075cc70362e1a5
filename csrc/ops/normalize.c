/* Rows of one length: y = scale * x / max(|x|, eps), scale 0 meaning 1. x, y: (n,c). Lengths in
 * double. With u = y/scale: dx = scale * (dy - u <u,dy>)/|x|, or scale * dy/eps where |x| < eps. */
#include "ops/exact.h"

RC_DECLARE_KERNEL(normalize_forward)
RC_DECLARE_KERNEL(normalize_backward)

static double
scale_of(const rc_call *call)
{
    return call->attrs->scale != 0 ? call->attrs->scale : 1;
}

void
RC_KERNEL(normalize_forward)(const rc_call *call)
{
    int64_t n = call->ys.d[0], c = call->ys.d[1];
    double scale = scale_of(call);
    for (int64_t i = 0; i < n; i++) {
        const real *x = (const real *)call->x[0] + i * c;
        real *y = (real *)call->y + i * c;
        double length = rc_exact_length(x, c);
        double divisor = length > call->attrs->eps ? length : call->attrs->eps;
        for (int64_t j = 0; j < c; j++) {
            y[j] = (real)(scale * (double)x[j] / divisor);
        }
    }
}

void
RC_KERNEL(normalize_backward)(const rc_call *call)
{
    int64_t n = call->ys.d[0], c = call->ys.d[1];
    double eps = call->attrs->eps, scale = scale_of(call);
    for (int64_t i = 0; i < n; i++) {
        const real *x = (const real *)call->x[0] + i * c, *dy = (const real *)call->dy + i * c;
        real *dx = (real *)call->dx[0] + i * c;
        double length = rc_exact_length(x, c), inverse = 1 / (length < eps ? eps : length);
        double along = length < eps ? 0 : rc_exact_dot(x, dy, c) * inverse * inverse;
        for (int64_t j = 0; j < c; j++) {
            double d = ((double)dy[j] - (double)x[j] * along) * inverse;
            rc_put(&dx[j], (real)(scale * d), call->add[0]);
        }
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    (void)n_in;
    char got[64];
    if (xs[0].rank != 2) {
        return rc_fail(err, RC_ARGUMENT, "normalize: expected images x length, got %s",
                       rc_shape_text(&xs[0], got));
    }
    if (!(a->eps > 0)) {
        return rc_fail(err, RC_ARGUMENT, "normalize: eps: expected a number above 0, got %g",
                       a->eps);
    }
    if (!(a->scale >= 0 && isfinite(a->scale))) {
        return rc_fail(err, RC_ARGUMENT, "normalize: scale: expected a finite number >= 0, got %g",
                       a->scale);
    }
    *y = xs[0];
    return RC_OK;
}

const rc_op rc_op_normalize = {
    .name = "normalize",
    .min_in = 1,
    .max_in = 1,
    .in_place = true,
    .bwd_in_place = true,
    .infer = infer,
    .reads = rc_reads_first,
    .forward = RC_BOTH(normalize_forward),
    .backward = RC_BOTH(normalize_backward),
};
#endif
