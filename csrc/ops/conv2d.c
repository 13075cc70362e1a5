/* 2D convolution (cross-correlation), zero padding, groups; in evaluation plans with a fused
 * residual and activation: y = act(conv(x, w) + b + residual). Backward is the unfused form.
 *
 * x: (n,h,w,c)  w: (k, c/groups, kh, kw)  b: (k)  y, residual: (n,oh,ow,k)
 *
 * Weights are first turned so that the inner loop runs over neighbours in memory; four outputs
 * of a row share each weight that is read. Sums are taken in double in both builds. The order
 * of a sum depends on nothing but the shape. */
#include "ops/act.h"
#include "ops/rules.h"

RC_DECLARE_KERNEL(conv2d_forward)
RC_DECLARE_KERNEL(conv2d_backward)

#define TILE 4 /* outputs of a row that share a weight */

typedef struct sizes {
    int64_t n, c, h, w, k, oh, ow, cg, kg, kh, kw, groups, stride, pad;
    int64_t count; /* weights */
} sizes;

static sizes
sizes_of(const rc_attrs *a, const rc_shape *xs, const rc_shape *y)
{
    const rc_shape *x = &xs[0], *w = &xs[1];
    return (sizes){
        .n = x->d[0], .c = x->d[1], .h = x->d[2], .w = x->d[3], .k = w->d[0], .oh = y->d[2],
        .ow = y->d[3], .cg = w->d[1], .kg = w->d[0] / a->groups, .kh = w->d[2], .kw = w->d[3],
        .groups = a->groups, .stride = a->stride, .pad = a->pad, .count = rc_shape_count(w),
    };
}

/* The input column that tap kx of output column ox reads, or -1. */
static int64_t
column(const sizes *s, int64_t ox, int64_t kx)
{
    int64_t ix = ox * s->stride + kx - s->pad;
    return ox < s->ow && ix >= 0 && ix < s->w ? ix : -1;
}

/* One row of outputs, (ow,k); wt: (groups,kh,kw,cg,kg); sum: (TILE,kg). */
static void
forward_row(const rc_call *call, const sizes *s, const real *wt, double *restrict sum,
            int64_t n, int64_t oy)
{
    const real *x = call->x[0];
    const real *b = call->n_in > 2 ? call->x[2] : NULL;
    const real *residual = call->n_in > 3 ? call->x[3] : NULL;
    int64_t taps = s->kh * s->kw, row = (n * s->oh + oy) * s->ow;
    for (int64_t g = 0; g < s->groups; g++) {
        for (int64_t ox = 0; ox < s->ow; ox += TILE) {
            memset(sum, 0, (size_t)(TILE * s->kg) * sizeof *sum);
            for (int64_t tap = 0; tap < taps; tap++) {
                int64_t iy = oy * s->stride + tap / s->kw - s->pad;
                if (iy < 0 || iy >= s->h) {
                    continue;
                }
                const real *wg = wt + (g * taps + tap) * s->cg * s->kg;
                for (int64_t c = 0; c < s->cg; c++) {
                    const real *restrict wc = wg + c * s->kg;
                    double v[TILE];
                    for (int t = 0; t < TILE; t++) {
                        int64_t ix = column(s, ox + t, tap % s->kw);
                        v[t] = ix < 0 ? 0
                                      : x[((n * s->h + iy) * s->w + ix) * s->c + g * s->cg + c];
                    }
                    for (int64_t k = 0; k < s->kg; k++) {
                        double weight = wc[k];
                        sum[k] += v[0] * weight;
                        sum[s->kg + k] += v[1] * weight;
                        sum[2 * s->kg + k] += v[2] * weight;
                        sum[3 * s->kg + k] += v[3] * weight;
                    }
                }
            }
            for (int64_t t = 0; t < TILE && ox + t < s->ow; t++) {
                for (int64_t k = 0; k < s->kg; k++) {
                    int64_t channel = g * s->kg + k, at = (row + ox + t) * s->k + channel;
                    double v = sum[t * s->kg + k];
                    v += b ? b[channel] : 0;
                    v += residual ? residual[at] : 0;
                    ((real *)call->y)[at] = act_value((int)call->attrs->act,
                                                      (real)call->attrs->slope, (real)v);
                }
            }
        }
    }
}

typedef struct job {
    const rc_call *call;
    sizes s;
    const real *wt;
    double *scratch;  /* one part per worker or per task, see each pass */
} job;

static void
forward_task(void *context, int64_t i, int worker)
{
    const job *j = context;
    forward_row(j->call, &j->s, j->wt, j->scratch + worker * TILE * j->s.kg, i / j->s.oh,
                i % j->s.oh);
}

void
RC_KERNEL(conv2d_forward)(const rc_call *call)
{
    sizes s = sizes_of(call->attrs, call->xs, &call->ys);
    const real *w = call->x[1];
    int64_t taps = s.kh * s.kw;
    double *scratch = call->tmp;
    real *wt = (real *)(scratch + call->threads * TILE * s.kg);
    for (int64_t k = 0; k < s.k; k++) {
        for (int64_t c = 0; c < s.cg; c++) {
            for (int64_t tap = 0; tap < taps; tap++) {
                wt[((k / s.kg * taps + tap) * s.cg + c) * s.kg + k % s.kg]
                    = w[(k * s.cg + c) * taps + tap];
            }
        }
    }
    job j = {call, s, wt, scratch};
    rc_parallel(s.n * s.oh, call->threads, forward_task, &j);
}

/* dx of one image: scattered into a double copy of it. wt: (kh,kw,k,cg). */
static void
backward_x_task(void *context, int64_t n, int worker)
{
    const job *j = context;
    const rc_call *call = j->call;
    const sizes *s = &j->s;
    const real *dy = call->dy;
    real *dx = call->dx[0];
    int64_t size = s->h * s->w * s->c, taps = s->kh * s->kw;
    double *image = j->scratch + worker * size;
    memset(image, 0, (size_t)size * sizeof *image);
    for (int64_t i = 0; i < s->oh * s->ow * taps; i++) {
        int64_t tap = i % taps, oy = i / taps / s->ow, ox = i / taps % s->ow;
        int64_t iy = oy * s->stride + tap / s->kw - s->pad, ix = column(s, ox, tap % s->kw);
        if (iy < 0 || iy >= s->h || ix < 0) {
            continue;
        }
        const real *from = dy + ((n * s->oh + oy) * s->ow + ox) * s->k;
        for (int64_t k = 0; k < s->k; k++) {
            double *restrict to = image + (iy * s->w + ix) * s->c + k / s->kg * s->cg;
            const real *restrict wk = j->wt + (tap * s->k + k) * s->cg;
            double d = from[k];
            for (int64_t c = 0; c < s->cg; c++) {
                to[c] += d * wk[c];
            }
        }
    }
    for (int64_t i = 0; i < size; i++) {
        rc_put(&dx[n * size + i], (real)image[i], call->add[0]);
    }
}

/* dw of one output channel: (kh,kw,cg) in double, over all images and positions. */
static void
backward_w_task(void *context, int64_t k, int worker)
{
    const job *j = context;
    const rc_call *call = j->call;
    const sizes *s = &j->s;
    const real *x = call->x[0], *dy = call->dy;
    int64_t taps = s->kh * s->kw;
    double *sum = j->scratch + worker * taps * s->cg;
    memset(sum, 0, (size_t)(taps * s->cg) * sizeof *sum);
    for (int64_t i = 0; i < s->n * s->oh * s->ow; i++) {
        double d = dy[i * s->k + k];
        int64_t n = i / (s->oh * s->ow), oy = i / s->ow % s->oh, ox = i % s->ow;
        for (int64_t tap = 0; tap < taps; tap++) {
            int64_t iy = oy * s->stride + tap / s->kw - s->pad, ix = column(s, ox, tap % s->kw);
            if (iy < 0 || iy >= s->h || ix < 0) {
                continue;
            }
            const real *restrict from = x + ((n * s->h + iy) * s->w + ix) * s->c
                                        + k / s->kg * s->cg;
            double *restrict to = sum + tap * s->cg;
            for (int64_t c = 0; c < s->cg; c++) {
                to[c] += d * from[c];
            }
        }
    }
    real *dw = (real *)call->dx[1] + k * s->cg * taps;
    for (int64_t c = 0; c < s->cg; c++) {
        for (int64_t tap = 0; tap < taps; tap++) {
            rc_put(&dw[c * taps + tap], (real)sum[tap * s->cg + c], call->add[1]);
        }
    }
}

void
RC_KERNEL(conv2d_backward)(const rc_call *call)
{
    sizes s = sizes_of(call->attrs, call->xs, &call->ys);
    int64_t taps = s.kh * s.kw;
    if (call->dx[0]) {
        double *images = call->tmp;
        real *wt = (real *)(images + call->threads * s.h * s.w * s.c);
        const real *w = call->x[1];
        for (int64_t k = 0; k < s.k; k++) {
            for (int64_t c = 0; c < s.cg; c++) {
                for (int64_t tap = 0; tap < taps; tap++) {
                    wt[(tap * s.k + k) * s.cg + c] = w[(k * s.cg + c) * taps + tap];
                }
            }
        }
        job j = {call, s, wt, images};
        rc_parallel(s.n, call->threads, backward_x_task, &j);
    }
    if (call->dx[1]) {
        job j = {call, s, NULL, call->tmp};
        rc_parallel(s.k, call->threads, backward_w_task, &j);
    }
    if (call->n_in > 2 && call->dx[2]) {
        const real *dy = call->dy;
        for (int64_t k = 0; k < s.k; k++) {
            double sum = 0;
            for (int64_t i = 0; i < s.n * s.oh * s.ow; i++) {
                sum += dy[i * s.k + k];
            }
            rc_put((real *)call->dx[2] + k, (real)sum, call->add[2]);
        }
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    const char *op = "conv2d";
    char text[64];
    const rc_shape *x = &xs[0], *w = &xs[1];
    RC_TRY(rc_rule_rank(op, "x", x, 4, "N x C x H x W", err));
    RC_TRY(rc_rule_rank(op, "weight", w, 4, "K x C/groups x kh x kw", err));
    RC_TRY(rc_rule_not_empty(op, "weight", w, err));
    RC_TRY(rc_rule_int(op, "stride", a->stride, 1, INT32_MAX, err));
    RC_TRY(rc_rule_int(op, "pad", a->pad, 0, INT32_MAX, err));
    RC_TRY(rc_rule_int(op, "groups", a->groups, 1, INT32_MAX, err));
    RC_TRY(rc_rule_act(op, a, false, err));
    if (x->d[1] % a->groups || w->d[0] % a->groups) {
        return rc_fail(err, RC_ARGUMENT,
                       "conv2d: groups: %lld does not divide the %lld input and %lld output "
                       "channels",
                       (long long)a->groups, (long long)x->d[1], (long long)w->d[0]);
    }
    if (w->d[1] != x->d[1] / a->groups) {
        return rc_fail(err, RC_ARGUMENT,
                       "conv2d: weight: expected %lld channels (input has %lld, groups %lld), "
                       "got %s",
                       (long long)(x->d[1] / a->groups), (long long)x->d[1],
                       (long long)a->groups, rc_shape_text(w, text));
    }
    *y = (rc_shape){4, {x->d[0], w->d[0], 0, 0}};
    for (int i = 2; i < 4; i++) {
        int64_t room = x->d[i] + 2 * a->pad - w->d[i];
        if (room < 0) {
            return rc_fail(err, RC_ARGUMENT,
                           "conv2d: x: %s with padding %lld is smaller than the %lldx%lld kernel",
                           rc_shape_text(x, text), (long long)a->pad, (long long)w->d[2],
                           (long long)w->d[3]);
        }
        y->d[i] = room / a->stride + 1;
    }
    if (n_in > 2 && xs[2].rank > 0) {
        RC_TRY(rc_rule_vector(op, "bias", &xs[2], w->d[0], err));
    }
    if (n_in > 3 && xs[3].rank > 0) {
        RC_TRY(rc_rule_equal(op, "residual", &xs[3], y, err));
    }
    return RC_OK;
}

static int64_t
tmp_size(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, size_t real_size,
         bool backward, int threads)
{
    sizes s = sizes_of(a, xs, y);
    int64_t weights = s.count * (int64_t)real_size;
    if (!backward) {
        return threads * TILE * s.kg * 8 + weights;
    }
    int64_t for_x = threads * s.h * s.w * s.c * 8 + weights;
    int64_t for_w = threads * s.kh * s.kw * s.cg * 8;
    return for_x > for_w ? for_x : for_w;
}

static double
macs(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, bool literal)
{
    (void)a, (void)literal;
    return (double)rc_shape_count(y) * (double)(xs[1].d[1] * xs[1].d[2] * xs[1].d[3]);
}

const rc_op rc_op_conv2d = {
    .name = "conv2d",
    .min_in = 2,
    .max_in = 4,
    .no_grad = RC_READS(3), /* a residual is set by fusion in evaluation plans only */
    .infer = infer,
    .reads = rc_reads_other,
    .tmp_size = tmp_size,
    .macs = macs,
    .forward = RC_BOTH(conv2d_forward),
    .backward = RC_BOTH(conv2d_backward),
};
#endif
