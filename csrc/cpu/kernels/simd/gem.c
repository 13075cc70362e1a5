/* GeM pooling, channels as lanes; rules and letters: csrc/ops/gem.c. Powers are exp(p ln u), one
 * logarithm for both of backward's. A task is an image and 4 vectors of channels. */
#include "cpu/kernels/simd/vmath.h"

#define WIDE (4 * VN)

typedef struct job {
    const rc_call *call;
    int64_t n, c, positions, strips;
    float p, eps;
    double *dp; /* (n,c): what each channel gives to the gradient of p */
} job;

static job
job_new(const rc_call *call)
{
    const rc_shape *s = &call->xs[0];
    return (job){.call = call, .n = s->d[0], .c = s->d[1], .positions = s->d[2] * s->d[3],
                 .strips = (s->d[1] + WIDE - 1) / WIDE, .p = *(const float *)call->x[1],
                 .eps = (float)call->attrs->eps, .dp = call->tmp};
}

/* The vectors of a task: each a full one or the last, partly filled, one. */
typedef struct strip {
    int64_t image, first, width;
} strip;

static strip
strip_of(const job *j, int64_t task)
{
    int64_t first = task % j->strips * WIDE;
    return (strip){task / j->strips, first, j->c - first < WIDE ? j->c - first : WIDE};
}

static void
forward_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const job *j = context;
    strip s = strip_of(j, task);
    vf eps = vf_set(j->eps);
    for (int64_t at = 0; at < s.width; at += VN) {
        int64_t lanes = s.width - at, to = s.image * j->c + s.first + at;
        const elem *x = (const elem *)j->call->x[0] + s.image * j->positions * j->c + s.first
                         + at;
        vf top = eps;
        for (int64_t i = 0; i < j->positions; i++) {
            top = vf_larger(load_some(x + i * j->c, lanes, 1), top);
        }
        vd sum = {0};
        for (int64_t i = 0; i < j->positions; i++) {
            vf u = vf_larger(load_some(x + i * j->c, lanes, 1), eps) / top;
            sum += vd_of(vf_exp(j->p * vf_log(u)));
        }
        vf m = __builtin_convertvector(sum / (double)j->positions, vf);
        store_lanes((float *)j->call->y + to, top * vf_exp(vf_log(m) / j->p), lanes);
        if (j->call->ws) {
            store_lanes((float *)j->call->ws + to, top, lanes);
            store_lanes((float *)j->call->ws + j->n * j->c + to, m, lanes);
        }
    }
}

static void
backward_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const job *j = context;
    const rc_call *call = j->call;
    strip s = strip_of(j, task);
    vf eps = vf_set(j->eps);
    for (int64_t at = 0; at < s.width; at += VN) {
        int64_t lanes = s.width - at, to = s.image * j->c + s.first + at;
        int64_t from = s.image * j->positions * j->c + s.first + at;
        const elem *x = (const elem *)call->x[0] + from;
        elem *dx = call->dx[0] ? (elem *)call->dx[0] + from : NULL;
        vf top = load_lanes((const float *)call->ws + to, lanes, 1);
        vf m = load_lanes((const float *)call->ws + j->n * j->c + to, lanes, 1);
        vf dy = load_lanes((const float *)call->dy + to, lanes, 0), log_m = vf_log(m);
        vf factor = dy * vf_exp(log_m * ((1 - j->p) / j->p)) / (float)j->positions;
        vd logs = {0};
        for (int64_t i = 0; i < j->positions; i++) {
            vf value = load_some(x + i * j->c, lanes, 1);
            vf u = vf_larger(value, eps) / top, log_u = vf_log(u);
            vf power = vf_exp((j->p - 1) * log_u);
            if (dx) {
                vf d = (vf)((value >= eps) & (vi)(factor * power));
                d = call->add[0] ? load_some(dx + i * j->c, lanes, 0) + d : d;
                store_some(dx + i * j->c, d, lanes);
            }
            logs += vd_of(power * u * log_u);
        }
        for (int64_t i = 0; call->dx[1] && i < VN && i < lanes; i++) {
            double md = m[i], p = j->p, y = top[i] * exp(log((double)md) / p);
            j->dp[to + i] = dy[i] * y
                            * (logs[i] / (double)j->positions / (p * md) - log(md) / (p * p));
        }
    }
}

static void
forward(const rc_call *call)
{
    job j = job_new(call);
    rc_parallel(j.n * j.strips, call->threads, forward_task, &j);
}

static void
backward(const rc_call *call)
{
    job j = job_new(call);
    rc_parallel(j.n * j.strips, call->threads, backward_task, &j);
    if (call->dx[1]) {
        double total = 0;
        for (int64_t i = 0; i < j.n * j.c; i++) {
            total += j.dp[i];
        }
        float *dp = call->dx[1];
        *dp = call->add[1] ? *dp + (float)total : (float)total;
    }
}

static int64_t
tmp_size(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, bool backward, int threads)
{
    (void)a, (void)xs, (void)threads;
    return backward ? rc_shape_count(y) * (int64_t)sizeof(double) : 0;
}

const rc_fast_kernel FAST(gem) = {
    .name = FAST_TEXT("gem"),
    .op = RC_OP_gem,
    .element = ELEMENT,
    .refuse = maps_only,
    .tmp_size = tmp_size,
    .forward = forward,
    .backward = backward,
};
