/* Pairwise circle loss (spec/common.md 1). x: (n,c)  labels: (n)  margin m, scale g.
 *
 * s = cosines, lengths clamped at 1e-12. Positives (same label, not the anchor): lp = -g max(0,
 * 1+m-s) (s - (1-m)); negatives: ln = g max(0, s+m) (s - m); the max factors are detached.
 *     L = mean over rows of softplus(logsumexp lp + logsumexp ln)
 * A row without positives or without negatives gives 0. Double throughout.
 * ws: ds (n,n), the gradient of L in s(anchor, j). tmp: scale (n), then s (n) or dz (c). */
#include "ops/exact.h"
#include "ops/loss.h"

RC_DECLARE_KERNEL(circle_forward)
RC_DECLARE_KERNEL(circle_backward)

#define TINY 1e-12

static void
fill_scales(const rc_call *call, double *scale)
{
    int64_t n = call->xs[0].d[0], c = call->xs[0].d[1];
    for (int64_t i = 0; i < n; i++) {
        double length = rc_exact_length((const real *)call->x[0] + i * c, c);
        scale[i] = 1 / (length < TINY ? TINY : length);
    }
}

/* The detached factor of pair (a, j), with the sign of dl/ds. */
static double
factor_of(const rc_attrs *at, bool positive, double s)
{
    double alpha = positive ? 1 + at->margin - s : s + at->margin;
    alpha = alpha > 0 ? alpha : 0;
    return positive ? -at->scale * alpha : at->scale * alpha;
}

void
RC_KERNEL(circle_forward)(const rc_call *call)
{
    const rc_attrs *at = call->attrs;
    int64_t n = call->xs[0].d[0], c = call->xs[0].d[1];
    const real *x = call->x[0];
    const int64_t *labels = call->x[1];
    double *scale = call->tmp, *s = scale + n, *ds = call->ws, total = 0;
    fill_scales(call, scale);
    for (int64_t a = 0; a < n; a++) {
        double top[2] = {0, 0}, sum[2] = {0, 0}; /* of negatives, of positives */
        int64_t count[2] = {0, 0};
        for (int pass = 0; pass < 2; pass++) { /* the largest exponent first, then the sums */
            for (int64_t j = 0; j < n; j++) {
                bool positive = labels[j] == labels[a];
                if (j == a) {
                    continue;
                }
                if (pass == 0) {
                    s[j] = scale[a] * scale[j] * rc_exact_dot(x + a * c, x + j * c, c);
                }
                double l = factor_of(at, positive, s[j])
                           * (s[j] - (positive ? 1 - at->margin : at->margin));
                if (pass == 1) {
                    sum[positive] += exp(l - top[positive]);
                } else if (count[positive]++ == 0 || l > top[positive]) {
                    top[positive] = l;
                }
            }
        }
        bool both = count[0] > 0 && count[1] > 0;
        double v = both ? top[0] + log(sum[0]) + top[1] + log(sum[1]) : 0;
        total += both ? (v > 0 ? v : 0) + log1p(exp(-fabs(v))) : 0;
        for (int64_t j = 0; ds && j < n; j++) {
            bool positive = labels[j] == labels[a];
            ds[a * n + j] = 0;
            if (both && j != a) {
                double f = factor_of(at, positive, s[j]);
                double l = f * (s[j] - (positive ? 1 - at->margin : at->margin));
                double share = exp(l - top[positive]) / sum[positive];
                ds[a * n + j] = share * f / (1 + exp(-v)) / (double)n;
            }
        }
    }
    *(real *)call->y = (real)(total / (double)n);
}

void
RC_KERNEL(circle_backward)(const rc_call *call)
{
    int64_t n = call->xs[0].d[0], c = call->xs[0].d[1];
    const real *x = call->x[0];
    const double *ds = call->ws;
    double *scale = call->tmp, *dz = scale + n, upstream = rc_loss_upstream(call);
    fill_scales(call, scale);
    for (int64_t i = 0; i < n; i++) {
        memset(dz, 0, (size_t)c * sizeof(double));
        for (int64_t j = 0; j < n; j++) { /* s(i,j) as anchor i's and as anchor j's */
            double d = upstream * (ds[i * n + j] + ds[j * n + i]) * scale[j];
            for (int64_t l = 0; d != 0 && l < c; l++) {
                dz[l] += d * (double)x[j * c + l];
            }
        }
        rc_unit_backward(x + i * c, rc_exact_length(x + i * c, c), TINY, dz, c, call->add[0],
                         (real *)call->dx[0] + i * c);
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    (void)n_in;
    RC_TRY(rc_loss_infer("circle", "embeddings", xs, y, err));
    if (!(a->scale > 0 && isfinite(a->scale)) || !isfinite(a->margin)) {
        return rc_fail(err, RC_ARGUMENT, "circle: expected a finite margin and a scale above 0, "
                       "got margin %g and scale %g", a->margin, a->scale);
    }
    return RC_OK;
}

static int64_t
ws_size(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, size_t real_size)
{
    (void)a, (void)y, (void)real_size;
    return xs[0].d[0] * xs[0].d[0] * 8;
}

static int64_t
tmp_size(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, size_t real_size,
         bool backward, int threads)
{
    (void)a, (void)y, (void)real_size, (void)threads;
    return (xs[0].d[0] + (backward ? xs[0].d[1] : xs[0].d[0])) * 8;
}

const rc_op rc_op_circle = {
    .name = "circle",
    .min_in = 2,
    .max_in = 2,
    .no_grad = RC_READS(1),
    .infer = infer,
    .reads = rc_reads_first,
    .ws_size = ws_size,
    .tmp_size = tmp_size,
    .forward = RC_BOTH(circle_forward),
    .backward = RC_BOTH(circle_backward),
};
#endif
