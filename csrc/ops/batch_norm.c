/* Batch normalisation with fused activation and residual: y = act(bn(x) + residual).
 *
 * x, y, residual: (n,h,w,c) or (n,c)   gamma, beta, mean, var: (c)
 * ws: (3,c): mean, 1/sqrt(var + eps) and biased variance of the batch; booked outside training
 * too, but then not used. Training normalises with the batch's statistics, evaluation with the
 * running ones, in backward as well. Sums are taken in double.
 *
 * Backward, training, with g = dy before the activation and u = (x - mean) * inv:
 *     dbeta = sum g;  dgamma = sum g u;  dx = gamma inv (g - dbeta/m - u dgamma/m)
 * and dx = gamma inv g in evaluation. Without a residual the sign before the activation is
 * worked out again from x, by the expression of forward, so that y need not be kept.
 * ReLU at 0 has slope 0. */
#include "ops/act.h"
#include "ops/rules.h"

RC_DECLARE_KERNEL(batch_norm_forward)
RC_DECLARE_KERNEL(batch_norm_backward)
RC_DECLARE_KERNEL(batch_norm_commit)

/* Rows of c neighbours: positions for rank 4, images for rank 2. */
static int64_t
row_count(const rc_call *call)
{
    return rc_shape_count(&call->xs[0]) / call->xs[0].d[1];
}

static bool
has_residual(const rc_call *call)
{
    return call->n_in > 5 && call->xs[5].rank > 0;
}

static void
batch_statistics(const rc_call *call, real *mean, real *inv, real *var)
{
    const real *x = call->x[0];
    int64_t c = call->xs[0].d[1], m = row_count(call);
    for (int64_t i = 0; i < c; i++) {
        double sum = 0, square = 0;
        for (int64_t r = 0; r < m; r++) {
            sum += x[r * c + i];
        }
        double middle = sum / (double)m;
        for (int64_t r = 0; r < m; r++) {
            double d = x[r * c + i] - middle;
            square += d * d;
        }
        mean[i] = (real)middle;
        var[i] = (real)(square / (double)m);
        inv[i] = (real)(1 / sqrt(square / (double)m + call->attrs->eps));
    }
}

/* Channel i: y = (x - middle) * scale + beta. */
static void
statistics_of(const rc_call *call, int64_t i, real *middle, real *inv)
{
    if (call->training) {
        const real *ws = call->ws;
        *middle = ws[i];
        *inv = ws[call->xs[0].d[1] + i];
    } else {
        *middle = ((const real *)call->x[3])[i];
        *inv = (real)(1 / sqrt(((const real *)call->x[4])[i] + call->attrs->eps));
    }
}

void
RC_KERNEL(batch_norm_forward)(const rc_call *call)
{
    const real *x = call->x[0], *gamma = call->x[1], *beta = call->x[2];
    const real *residual = has_residual(call) ? call->x[5] : NULL;
    real *y = call->y, *ws = call->ws;
    int64_t c = call->xs[0].d[1], m = row_count(call);
    if (call->training && !call->again) {
        batch_statistics(call, ws, ws + c, ws + 2 * c);
    }
    for (int64_t i = 0; i < c; i++) {
        real middle, inv;
        statistics_of(call, i, &middle, &inv);
        real scale = gamma[i] * inv;
        for (int64_t r = 0; r < m; r++) {
            real v = (x[r * c + i] - middle) * scale + beta[i];
            v += residual ? residual[r * c + i] : 0;
            y[r * c + i] = act_value((int)call->attrs->act, (real)call->attrs->slope, v);
        }
    }
}

void
RC_KERNEL(batch_norm_backward)(const rc_call *call)
{
    const real *x = call->x[0], *gamma = call->x[1], *beta = call->x[2];
    const real *y = call->y, *dy = call->dy;
    real *dx = call->dx[0], *dgamma = call->dx[1], *dbeta = call->dx[2];
    real *dresidual = has_residual(call) ? call->dx[5] : NULL;
    int64_t c = call->xs[0].d[1], m = row_count(call), kind = call->attrs->act;
    real slope = (real)call->attrs->slope;
    bool from_x = kind != RC_ACT_NONE && !has_residual(call);
    bool products = dgamma || (dx && call->training);
    bool sums = dbeta || products;
    for (int64_t i = 0; i < c; i++) {
        real middle = 0, inv = 0, scale = 0;
        if (from_x || dx || dgamma) { /* else x is not asked for */
            statistics_of(call, i, &middle, &inv);
        }
        if (from_x || dx) {
            scale = gamma[i] * inv;
        }
        double sum = 0, product = 0;
        for (int pass = sums ? 0 : 1; pass < 2; pass++) {
            real mean_g = (real)(sum / (double)m), mean_gu = (real)(product / (double)m);
            for (int64_t r = 0; r < m; r++) {
                int64_t at = r * c + i;
                real g = dy[at];
                if (from_x) {
                    real v = (x[at] - middle) * scale + beta[i];
                    g = act_gradient(kind, slope, act_value(kind, slope, v), g);
                } else if (kind != RC_ACT_NONE) {
                    g = act_gradient(kind, slope, y[at], g);
                }
                if (pass == 0) {
                    sum += g;
                    product += products ? (double)g * ((x[at] - middle) * inv) : 0;
                    continue;
                }
                if (dresidual) {
                    rc_put(&dresidual[at], g, call->add[5]);
                }
                if (dx && call->training) {
                    real u = (x[at] - middle) * inv;
                    rc_put(&dx[at], scale * (g - mean_g - u * mean_gu), call->add[0]);
                } else if (dx) {
                    rc_put(&dx[at], scale * g, call->add[0]);
                }
            }
        }
        if (dgamma) {
            rc_put(&dgamma[i], (real)product, call->add[1]);
        }
        if (dbeta) {
            rc_put(&dbeta[i], (real)sum, call->add[2]);
        }
    }
}

void
RC_KERNEL(batch_norm_commit)(const rc_call *call)
{
    const real *ws = call->ws;
    real *mean = call->state[0], *var = call->state[1];
    int64_t c = call->xs[0].d[1];
    double m = (double)row_count(call), momentum = call->attrs->momentum;
    double unbiased = m > 1 ? m / (m - 1) : 1;
    for (int64_t i = 0; i < c; i++) {
        mean[i] = (real)((1 - momentum) * mean[i] + momentum * ws[i]);
        var[i] = (real)((1 - momentum) * var[i] + momentum * unbiased * ws[2 * c + i]);
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    const char *op = "batch_norm";
    static const char *const names[] = {"x", "weight", "bias", "running_mean", "running_var"};
    char text[64];
    if (xs[0].rank != 2 && xs[0].rank != 4) {
        return rc_fail(err, RC_ARGUMENT, "batch_norm: x: expected N x C or N x C x H x W, got %s",
                       rc_shape_text(&xs[0], text));
    }
    RC_TRY(rc_rule_not_empty(op, "x", &xs[0], err));
    for (int i = 1; i < 5; i++) {
        RC_TRY(rc_rule_vector(op, names[i], &xs[i], xs[0].d[1], err));
    }
    if (n_in > 5 && xs[5].rank > 0) {
        RC_TRY(rc_rule_equal(op, "residual", &xs[5], &xs[0], err));
    }
    RC_TRY(rc_rule_act(op, a, true, err));
    if (!(a->eps > 0)) {
        return rc_fail(err, RC_ARGUMENT, "batch_norm: eps: expected above 0, got %g", a->eps);
    }
    if (!(a->momentum >= 0 && a->momentum <= 1)) {
        return rc_fail(err, RC_ARGUMENT, "batch_norm: momentum: expected 0 to 1, got %g",
                       a->momentum);
    }
    *y = xs[0];
    return RC_OK;
}

static uint32_t
reads(const rc_attrs *a, int n_in, const rc_shape *xs, uint32_t wants, bool training)
{
    bool residual = n_in > 5 && xs[5].rank > 0;
    bool from_x = a->act != RC_ACT_NONE && !residual;
    uint32_t statistics = training ? 0 : RC_READS(3) | RC_READS(4);
    uint32_t bits = a->act != RC_ACT_NONE && residual ? RC_READS_Y : 0;
    if (from_x) {
        bits |= RC_READS(0) | RC_READS(1) | RC_READS(2) | statistics;
    }
    if (wants & RC_READS(0)) {
        bits |= RC_READS(1) | statistics | (training ? RC_READS(0) : 0);
    }
    if (wants & RC_READS(1)) {
        bits |= RC_READS(0) | statistics;
    }
    return bits;
}

static int64_t
ws_size(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, size_t real_size)
{
    (void)a, (void)y;
    return 3 * xs[0].d[1] * (int64_t)real_size;
}

const rc_op rc_op_batch_norm = {
    .name = "batch_norm",
    .min_in = 5,
    .max_in = 6,
    .cheap = true,
    .in_place = true,
    .bwd_in_place = true,
    .batch_statistics = true,
    .no_grad = RC_READS(3) | RC_READS(4),
    .infer = infer,
    .reads = reads,
    .ws_size = ws_size,
    .forward = RC_BOTH(batch_norm_forward),
    .backward = RC_BOTH(batch_norm_backward),
    .commit = RC_BOTH(batch_norm_commit),
};
#endif
