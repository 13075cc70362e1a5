/* Batch-hard triplet loss (spec/common.md 1). x: (n,c)  labels: (n).
 *
 * For each anchor a: ap = the largest d(a,j) over j of its label (itself included), an = the
 * smallest over other labels, ties to the lowest j. L = mean of max(0, ap - an + margin), or with
 * `soft` of log(1 + exp(ap - an)). d(i,j) = sqrt(max(|z_i - z_j|^2, 1e-12)) as a sum of squared
 * differences in double, z = x, or x/(|x| + 1e-12) with `normalized`; mode 1 ('cos'):
 * d = 2 - 2 cos, lengths clamped at 1e-12, no root.
 *
 * The selection is detached. Gradient passes at a hinge of exactly 0, and is 0 where the bound
 * 1e-12 holds. ws: a `mined` for each anchor. */
#include "ops/exact.h"
#include "ops/loss.h"

RC_DECLARE_KERNEL(triplet_forward)
RC_DECLARE_KERNEL(triplet_backward)

#define TINY 1e-12
enum { COS = 1 };

typedef struct mined {
    int64_t positive, negative; /* rows; negative -1: the batch has one identity */
    double ap, an;
    double slope; /* d loss of this anchor / d (ap - an), before the mean */
} mined;

/* Factor that turns a row into z (or into the unit vector of 'cos'). */
static double
scale_of(const rc_attrs *at, double length)
{
    if (at->mode == COS) {
        return 1 / (length < TINY ? TINY : length);
    }
    return at->normalized ? 1 / (length + TINY) : 1;
}

static double
distance(const rc_attrs *at, const real *x, const double *scale, int64_t i, int64_t j, int64_t c)
{
    if (at->mode == COS) {
        return i == j ? 0 : 2 - 2 * scale[i] * scale[j] * rc_exact_dot(x + i * c, x + j * c, c);
    }
    double square = i == j ? 0 : rc_exact_distance2(x + i * c, scale[i], x + j * c, scale[j], c);
    return sqrt(square > TINY ? square : TINY);
}

/* tmp: scale (n) */
void
RC_KERNEL(triplet_forward)(const rc_call *call)
{
    const rc_attrs *at = call->attrs;
    int64_t n = call->xs[0].d[0], c = call->xs[0].d[1];
    const real *x = call->x[0];
    const int64_t *labels = call->x[1];
    double *scale = call->tmp, total = 0;
    for (int64_t i = 0; i < n; i++) {
        scale[i] = scale_of(at, rc_exact_length(x + i * c, c));
    }
    for (int64_t a = 0; a < n; a++) {
        mined m = {-1, -1, 0, 0, 0};
        for (int64_t j = 0; j < n; j++) {
            double d = distance(at, x, scale, a, j, c);
            if (labels[j] == labels[a] && (m.positive < 0 || d > m.ap)) {
                m.positive = j;
                m.ap = d;
            } else if (labels[j] != labels[a] && (m.negative < 0 || d < m.an)) {
                m.negative = j;
                m.an = d;
            }
        }
        double v = m.ap - m.an;
        if (at->soft) {
            m.slope = 1 / (1 + exp(-v));
            total += (v > 0 ? v : 0) + log1p(exp(-fabs(v)));
        } else {
            m.slope = v + at->margin >= 0 ? 1 : 0;
            total += v + at->margin > 0 ? v + at->margin : 0;
        }
        if (call->ws) {
            ((mined *)call->ws)[a] = m;
        }
    }
    *(real *)call->y = (real)(total / (double)n);
}

/* What pair (i, j) at distance d hands to z_i, times `weight`, added to dz. */
static void
pull(const rc_attrs *at, const real *x, const double *scale, int64_t i, int64_t j, int64_t c,
     double d, double weight, double *dz)
{
    const real *xi = x + i * c, *xj = x + j * c;
    if (weight == 0 || i == j) {
        return;
    }
    if (at->mode == COS) {
        for (int64_t l = 0; l < c; l++) {
            dz[l] -= 2 * weight * scale[j] * (double)xj[l];
        }
    } else if (d > 2e-6 || rc_exact_distance2(xi, scale[i], xj, scale[j], c) >= TINY) {
        for (int64_t l = 0; l < c; l++) {
            dz[l] += weight * (scale[i] * (double)xi[l] - scale[j] * (double)xj[l]) / d;
        }
    }
}

/* tmp: scale (n), then dz (c), the gradient of one row's z */
void
RC_KERNEL(triplet_backward)(const rc_call *call)
{
    const rc_attrs *at = call->attrs;
    int64_t n = call->xs[0].d[0], c = call->xs[0].d[1];
    const real *x = call->x[0];
    const mined *of = call->ws;
    double *scale = call->tmp, *dz = scale + n, factor = rc_loss_upstream(call) / (double)n;
    for (int64_t i = 0; i < n; i++) {
        scale[i] = scale_of(at, rc_exact_length(x + i * c, c));
    }
    for (int64_t i = 0; i < n; i++) {
        memset(dz, 0, (size_t)c * sizeof(double));
        for (int64_t a = 0; a < n; a++) {
            const mined *m = &of[a];
            double weight = factor * m->slope;
            if (m->negative < 0) {
                continue;
            }
            if (i == a) {
                pull(at, x, scale, i, m->positive, c, m->ap, weight, dz);
                pull(at, x, scale, i, m->negative, c, m->an, -weight, dz);
            } else if (i == m->positive) {
                pull(at, x, scale, i, a, c, m->ap, weight, dz);
            } else if (i == m->negative) {
                pull(at, x, scale, i, a, c, m->an, -weight, dz);
            }
        }
        const real *from = x + i * c;
        real *to = (real *)call->dx[0] + i * c;
        if (at->mode == COS) {
            rc_unit_backward(from, rc_exact_length(from, c), TINY, dz, c, call->add[0], to);
            continue;
        }
        double along = 0, length = at->normalized ? rc_exact_length(from, c) : 0;
        if (length > 0) { /* z = x s with s = 1/(|x| + tiny): ds = -s^2 x/|x| dx */
            for (int64_t l = 0; l < c; l++) {
                along += (double)from[l] * dz[l];
            }
            along *= scale[i] * scale[i] / length;
        }
        for (int64_t l = 0; l < c; l++) {
            rc_put(&to[l], (real)(dz[l] * scale[i] - (double)from[l] * along), call->add[0]);
        }
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    (void)n_in;
    RC_TRY(rc_loss_infer("triplet", "embeddings", xs, y, err));
    if (!a->soft && !(a->margin >= 0 && isfinite(a->margin))) {
        return rc_fail(err, RC_ARGUMENT, "triplet: margin: expected a number >= 0 or None "
                       "(soft), got %g", a->margin);
    }
    if (a->mode != 0 && a->mode != COS) {
        return rc_fail(err, RC_ARGUMENT, "triplet: mode: expected 0 (distance 'euclidean') or 1 "
                       "('cos'), got %lld", (long long)a->mode);
    }
    return RC_OK;
}

static int64_t
ws_size(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, size_t real_size)
{
    (void)a, (void)y, (void)real_size;
    return xs[0].d[0] * (int64_t)sizeof(mined);
}

static int64_t
tmp_size(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, size_t real_size,
         bool backward, int threads)
{
    (void)a, (void)y, (void)real_size, (void)threads;
    return (xs[0].d[0] + (backward ? xs[0].d[1] : 0)) * 8;
}

const rc_op rc_op_triplet = {
    .name = "triplet",
    .min_in = 2,
    .max_in = 2,
    .no_grad = RC_READS(1),
    .infer = infer,
    .reads = rc_reads_first,
    .ws_size = ws_size,
    .tmp_size = tmp_size,
    .forward = RC_BOTH(triplet_forward),
    .backward = RC_BOTH(triplet_backward),
};
#endif
