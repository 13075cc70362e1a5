/* GeM pooling (the MFA page): y = (mean over h,w of t^p)^(1/p), t = max(x, eps), p learnt.
 * x: (n,h,w,c)   p: (1)   y: (n,c)   ws: top (n,c), the largest t, and m (n,c).
 *
 * t is divided by `top` first: eps^p is no float from p = 7.5 on. With u = t/top, m = mean(u^p):
 *     y = top * m^(1/p)
 *     dy/dx = u^(p-1) * m^((1-p)/p) / P where x >= eps, else 0
 *     dy/dp = y * (mean(u^p ln u)/(p m) - ln(m)/p^2)      (ln top cancels) */
#include "ops/real.h"

RC_DECLARE_KERNEL(gem_forward)
RC_DECLARE_KERNEL(gem_backward)

static real
bounded(real x, real eps)
{
    return x >= eps ? x : eps;
}

void
RC_KERNEL(gem_forward)(const rc_call *call)
{
    const rc_shape *s = &call->xs[0];
    int64_t n = s->d[0], c = s->d[1], positions = s->d[2] * s->d[3];
    real p = ((const real *)call->x[1])[0], eps = (real)call->attrs->eps;
    for (int64_t i = 0; i < n * c; i++) {
        const real *x = (const real *)call->x[0] + i / c * positions * c + i % c;
        real top = eps;
        for (int64_t j = 0; j < positions; j++) {
            top = x[j * c] > top ? x[j * c] : top;
        }
        double sum = 0;
        for (int64_t j = 0; j < positions; j++) {
            sum += (double)R_POW(bounded(x[j * c], eps) / top, p);
        }
        real m = (real)(sum / (double)positions);
        ((real *)call->y)[i] = top * R_POW(m, 1 / p);
        if (call->ws) {
            ((real *)call->ws)[i] = top;
            ((real *)call->ws)[n * c + i] = m;
        }
    }
}

void
RC_KERNEL(gem_backward)(const rc_call *call)
{
    const rc_shape *s = &call->xs[0];
    int64_t n = s->d[0], c = s->d[1], positions = s->d[2] * s->d[3];
    real p = ((const real *)call->x[1])[0], eps = (real)call->attrs->eps;
    double dp = 0;
    for (int64_t i = 0; i < n * c; i++) {
        int64_t at = i / c * positions * c + i % c;
        const real *x = (const real *)call->x[0] + at;
        real top = ((const real *)call->ws)[i], m = ((const real *)call->ws)[n * c + i];
        real dy = ((const real *)call->dy)[i];
        real factor = dy * R_POW(m, (1 - p) / p) / (real)positions;
        double logs = 0;
        for (int64_t j = 0; j < positions; j++) {
            real u = bounded(x[j * c], eps) / top;
            if (call->dx[0]) {
                real d = x[j * c] >= eps ? factor * R_POW(u, p - 1) : 0;
                rc_put((real *)call->dx[0] + at + j * c, d, call->add[0]);
            }
            if (call->dx[1]) {
                logs += (double)R_POW(u, p) * log((double)u);
            }
        }
        if (call->dx[1]) {
            double md = (double)m, pd = (double)p, y = (double)top * pow(md, 1 / pd);
            dp += (double)dy * y * (logs / (double)positions / (pd * md) - log(md) / (pd * pd));
        }
    }
    if (call->dx[1]) {
        rc_put(call->dx[1], (real)dp, call->add[1]);
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    (void)n_in;
    char got[64];
    if (xs[0].rank != 4) {
        return rc_fail(err, RC_ARGUMENT, "gem: expected a map of 4 dimensions, got %s",
                       rc_shape_text(&xs[0], got));
    }
    if (xs[1].rank != 1 || xs[1].d[0] != 1) {
        return rc_fail(err, RC_ARGUMENT, "gem: p: expected one number, got %s",
                       rc_shape_text(&xs[1], got));
    }
    if (!(a->eps > 0)) {
        return rc_fail(err, RC_ARGUMENT, "gem: eps: expected a number above 0, got %g", a->eps);
    }
    *y = (rc_shape){2, {xs[0].d[0], xs[0].d[1], 1, 1}};
    return RC_OK;
}

static int64_t
ws_size(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, size_t real_size)
{
    (void)a, (void)xs;
    return 2 * rc_shape_count(y) * (int64_t)real_size;
}

const rc_op rc_op_gem = {
    .name = "gem",
    .min_in = 2,
    .max_in = 2,
    .infer = infer,
    .reads = rc_reads_both,
    .ws_size = ws_size,
    .forward = RC_BOTH(gem_forward),
    .backward = RC_BOTH(gem_backward),
};
#endif
