/* Softmax of each row, of -x where `negate` (the MFA page's channel part: rows of max - E).
 * x, y: (n,r,c). The largest exponent is subtracted, so the largest term is 1; the sum runs in
 * double. Backward reads y alone: dx = +-y (dy - <y,dy>). */
#include "ops/exact.h"

RC_DECLARE_KERNEL(softmax_forward)
RC_DECLARE_KERNEL(softmax_backward)

void
RC_KERNEL(softmax_forward)(const rc_call *call)
{
    int64_t c = call->ys.d[2], rows = call->ys.d[0] * call->ys.d[1];
    real sign = call->attrs->negate ? -1 : 1;
    for (int64_t i = 0; i < rows; i++) {
        const real *x = (const real *)call->x[0] + i * c;
        real *y = (real *)call->y + i * c;
        real top = sign * x[0];
        for (int64_t j = 1; j < c; j++) {
            top = sign * x[j] > top ? sign * x[j] : top;
        }
        double sum = 0;
        for (int64_t j = 0; j < c; j++) {
            y[j] = R_EXP(sign * x[j] - top);
            sum += (double)y[j];
        }
        for (int64_t j = 0; j < c; j++) {
            y[j] = (real)((double)y[j] / sum);
        }
    }
}

void
RC_KERNEL(softmax_backward)(const rc_call *call)
{
    int64_t c = call->ys.d[2], rows = call->ys.d[0] * call->ys.d[1];
    double sign = call->attrs->negate ? -1 : 1;
    for (int64_t i = 0; i < rows; i++) {
        const real *y = (const real *)call->y + i * c, *dy = (const real *)call->dy + i * c;
        real *dx = (real *)call->dx[0] + i * c;
        double mean = rc_exact_dot(y, dy, c);
        for (int64_t j = 0; j < c; j++) {
            rc_put(&dx[j], (real)(sign * (double)y[j] * ((double)dy[j] - mean)), call->add[0]);
        }
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    (void)a, (void)n_in;
    char got[64];
    if (xs[0].rank != 3) {
        return rc_fail(err, RC_ARGUMENT, "softmax: expected a stack of matrices (3 dimensions), "
                       "got %s", rc_shape_text(&xs[0], got));
    }
    *y = xs[0];
    return RC_OK;
}

const rc_op rc_op_softmax = {
    .name = "softmax",
    .min_in = 1,
    .max_in = 1,
    .in_place = true,
    .bwd_in_place = true,
    .infer = infer,
    .reads = rc_reads_result,
    .forward = RC_BOTH(softmax_forward),
    .backward = RC_BOTH(softmax_backward),
};
#endif
