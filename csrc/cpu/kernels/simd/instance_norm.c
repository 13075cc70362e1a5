/* Instance normalisation, channels as lanes; rules, letters and ws: csrc/ops/instance_norm.c. A
 * task is an image and 4 vectors of channels; its rows stay in the second cache between passes. */
#include "cpu/kernels/simd/vmath.h"

#define VECTORS 4
#define WIDE (VECTORS * VN)

typedef struct job {
    const rc_call *call;
    int64_t n, c, p, strips;
    double *sums; /* backward: (2,n,c), of dy and of dy u */
} job;

static job
job_new(const rc_call *call)
{
    const rc_shape *s = &call->xs[0];
    return (job){.call = call, .n = s->d[0], .c = s->d[1], .p = s->d[2] * s->d[3],
                 .strips = (s->d[1] + WIDE - 1) / WIDE, .sums = call->tmp};
}

static void
forward_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const job *j = context;
    int64_t image = task / j->strips, first = task % j->strips * WIDE;
    int64_t width = j->c - first < WIDE ? j->c - first : WIDE, from = image * j->p * j->c + first;
    const elem *x = (const elem *)j->call->x[0] + from;
    elem *y = (elem *)j->call->y + from;
    float *ws = j->call->ws;
    double sum[WIDE] = {0}, square[WIDE] = {0};
    float mean[WIDE], inv[WIDE], scale[WIDE], beta[WIDE];
    for (int64_t r = 0; r < j->p; r++) {
        for (int64_t k = 0; k < width; k++) {
            sum[k] += e_get(x[r * j->c + k]);
        }
    }
    for (int64_t k = 0; k < width; k++) {
        sum[k] /= (double)j->p;
        mean[k] = (float)sum[k];
    }
    for (int64_t r = 0; r < j->p; r++) {
        for (int64_t k = 0; k < width; k++) {
            double d = e_get(x[r * j->c + k]) - sum[k];
            square[k] += d * d;
        }
    }
    for (int64_t k = 0; k < width; k++) {
        inv[k] = (float)(1 / sqrt(square[k] / (double)j->p + j->call->attrs->eps));
        scale[k] = ((const float *)j->call->x[1])[first + k] * inv[k];
        beta[k] = ((const float *)j->call->x[2])[first + k];
        if (ws) {
            ws[image * j->c + first + k] = mean[k];
            ws[(j->n + image) * j->c + first + k] = inv[k];
        }
    }
    for (int64_t r = 0; r < j->p; r++) {
        RC_IVDEP
        for (int64_t k = 0; k < width; k++) {
            float v = (e_get(x[r * j->c + k]) - mean[k]) * scale[k] + beta[k];
            y[r * j->c + k] = e_put(v);
        }
    }
}

static void
backward_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const job *j = context;
    const rc_call *call = j->call;
    int64_t image = task / j->strips, first = task % j->strips * WIDE;
    int64_t width = j->c - first < WIDE ? j->c - first : WIDE, from = image * j->p * j->c + first;
    const elem *x = call->x[0] ? (const elem *)call->x[0] + from : NULL;
    const elem *dy = (const elem *)call->dy + from;
    elem *dx = call->dx[0] ? (elem *)call->dx[0] + from : NULL;
    const float *ws = call->ws;
    double sum[WIDE] = {0}, product[WIDE] = {0};
    float mean[WIDE], inv[WIDE], scale[WIDE], mean_g[WIDE], mean_gu[WIDE];
    for (int64_t k = 0; k < width; k++) {
        mean[k] = ws[image * j->c + first + k];
        inv[k] = ws[(j->n + image) * j->c + first + k];
    }
    for (int64_t r = 0; r < j->p; r++) {
        for (int64_t k = 0; k < width; k++) {
            sum[k] += e_get(dy[r * j->c + k]);
        }
        for (int64_t k = 0; x && k < width; k++) {
            float u = (e_get(x[r * j->c + k]) - mean[k]) * inv[k];
            product[k] += (double)e_get(dy[r * j->c + k]) * u;
        }
    }
    for (int64_t k = 0; k < width; k++) {
        j->sums[image * j->c + first + k] = sum[k];
        j->sums[(j->n + image) * j->c + first + k] = product[k];
        mean_g[k] = (float)(sum[k] / (double)j->p);
        mean_gu[k] = (float)(product[k] / (double)j->p);
        scale[k] = dx ? ((const float *)call->x[1])[first + k] * inv[k] : 0;
    }
    for (int64_t r = 0; dx && r < j->p; r++) {
        const elem *g = dy + r * j->c, *xr = x + r * j->c;
        elem *to = dx + r * j->c;
        RC_IVDEP
        for (int64_t k = 0; k < width; k++) {
            float u = (e_get(xr[k]) - mean[k]) * inv[k];
            float v = scale[k] * (e_get(g[k]) - mean_g[k] - u * mean_gu[k]);
            to[k] = e_put(call->add[0] ? e_get(to[k]) + v : v);
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
put_sums(const job *j, int input, const double *sums)
{
    float *to = j->call->dx[input];
    for (int64_t k = 0; to && k < j->c; k++) {
        double total = 0;
        for (int64_t i = 0; i < j->n; i++) {
            total += sums[i * j->c + k];
        }
        to[k] = j->call->add[input] ? to[k] + (float)total : (float)total;
    }
}

static void
backward(const rc_call *call)
{
    job j = job_new(call);
    rc_parallel(j.n * j.strips, call->threads, backward_task, &j);
    put_sums(&j, 1, j.sums + j.n * j.c);
    put_sums(&j, 2, j.sums);
}

static int64_t
tmp_size(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, bool backward, int threads)
{
    (void)a, (void)y, (void)threads;
    return backward ? 2 * xs[0].d[0] * xs[0].d[1] * (int64_t)sizeof(double) : 0;
}

const rc_fast_kernel FAST(instance_norm) = {
    .name = FAST_TEXT("instance_norm"),
    .op = RC_OP_instance_norm,
    .element = ELEMENT,
    .refuse = maps_only,
    .tmp_size = tmp_size,
    .forward = forward,
    .backward = backward,
};
