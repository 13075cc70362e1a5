/* One small kernel along the channel axis, zero padded, stride 1 (the FSAC page, ECA):
 * y[n,c] = sum_j w[j] * m[n, c + j - (K-1)/2].   m, y: (n,c)   w: (1,1,K), K odd. */
#include "ops/real.h"

RC_DECLARE_KERNEL(channel_conv_forward)
RC_DECLARE_KERNEL(channel_conv_backward)

void
RC_KERNEL(channel_conv_forward)(const rc_call *call)
{
    int64_t n = call->ys.d[0], c = call->ys.d[1], k = call->xs[1].d[2], r = (k - 1) / 2;
    const real *m = call->x[0], *w = call->x[1];
    real *y = call->y;
    for (int64_t i = 0; i < n * c; i++) {
        real sum = 0;
        for (int64_t j = 0; j < k; j++) {
            int64_t at = i % c + j - r;
            if (at >= 0 && at < c) {
                sum += w[j] * m[i - i % c + at];
            }
        }
        y[i] = sum;
    }
}

void
RC_KERNEL(channel_conv_backward)(const rc_call *call)
{
    int64_t n = call->ys.d[0], c = call->ys.d[1], k = call->xs[1].d[2], r = (k - 1) / 2;
    const real *m = call->x[0], *w = call->x[1], *dy = call->dy;
    real *dm = call->dx[0], *dw = call->dx[1];
    for (int64_t i = 0; dm && i < n * c; i++) {
        real sum = 0;
        for (int64_t j = 0; j < k; j++) {
            int64_t at = i % c - j + r; /* the y whose tap j is here */
            if (at >= 0 && at < c) {
                sum += w[j] * dy[i - i % c + at];
            }
        }
        rc_put(&dm[i], sum, call->add[0]);
    }
    for (int64_t j = 0; dw && j < k; j++) {
        double sum = 0;
        for (int64_t i = 0; i < n * c; i++) {
            int64_t at = i % c + j - r;
            if (at >= 0 && at < c) {
                sum += (double)dy[i] * (double)m[i - i % c + at];
            }
        }
        rc_put(&dw[j], (real)sum, call->add[1]);
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    (void)a, (void)n_in;
    char got[64];
    if (xs[0].rank != 2) {
        return rc_fail(err, RC_ARGUMENT, "channel_conv: expected images x channels, got %s",
                       rc_shape_text(&xs[0], got));
    }
    if (xs[1].rank != 3 || xs[1].d[0] != 1 || xs[1].d[1] != 1 || xs[1].d[2] % 2 == 0) {
        return rc_fail(err, RC_ARGUMENT, "channel_conv: weight: expected 1x1xK with an odd K, "
                       "got %s", rc_shape_text(&xs[1], got));
    }
    *y = xs[0];
    return RC_OK;
}

static double
macs(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, bool literal)
{
    (void)a, (void)literal;
    return (double)rc_shape_count(y) * (double)xs[1].d[2];
}

const rc_op rc_op_channel_conv = {
    .name = "channel_conv",
    .min_in = 2,
    .max_in = 2,
    .infer = infer,
    .reads = rc_reads_other,
    .macs = macs,
    .forward = RC_BOTH(channel_conv_forward),
    .backward = RC_BOTH(channel_conv_backward),
};
#endif
