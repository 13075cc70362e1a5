/* Mean over windows of NHWC maps; rules: csrc/ops/avg_pool2d.c. A task is some rows of y (forward)
 * or of x (backward); strips of channels of a position at a time, taps one after the other. */
#include "cpu/kernels/simd/element.h"

#define WIDE 128 /* channels whose sums stay in float */

typedef struct job {
    const rc_call *call;
    int64_t h, w, c, oh, ow, kernel, stride, strips;
    float share;
    rc_cut rows;
} job;

static job
job_new(const rc_call *call, const rc_shape *of)
{
    const rc_attrs *a = call->attrs;
    return (job){call, call->xs[0].d[2], call->xs[0].d[3], call->ys.d[1], call->ys.d[2],
                 call->ys.d[3], a->kernel, a->stride, (call->xs[0].d[1] + WIDE - 1) / WIDE,
                 1 / (float)(a->kernel * a->kernel), cut_rows(of->d[0] * of->d[2], of->d[1] * of->d[3])};
}

static void
forward_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const job *j = context;
    const elem *x = j->call->x[0];
    for (int64_t r = cut_from(j->rows, task); r < cut_to(j->rows, task); r++) {
        const elem *top = x + (r / j->oh * j->h + r % j->oh * j->stride) * j->w * j->c;
        elem *y = (elem *)j->call->y + r * j->ow * j->c;
        for (int64_t i = 0; i < j->ow * j->strips; i++) {
            int64_t first = i % j->strips * WIDE, column = i / j->strips;
            int64_t width = j->c - first < WIDE ? j->c - first : WIDE;
            float sum[WIDE] = {0};
            for (int64_t tap = 0; tap < j->kernel * j->kernel; tap++) {
                int64_t at = tap / j->kernel * j->w + column * j->stride + tap % j->kernel;
                const elem *from = top + at * j->c + first;
                for (int64_t k = 0; k < width; k++) {
                    sum[k] += e_get(from[k]);
                }
            }
            for (int64_t k = 0; k < width; k++) {
                y[column * j->c + first + k] = e_put(sum[k] * j->share);
            }
        }
    }
}

/* The first and last window (of `count`) that have position `at`; none: first > last. */
static void
windows_at(const job *j, int64_t at, int64_t count, int64_t *first, int64_t *last)
{
    *first = at < j->kernel ? 0 : (at - j->kernel) / j->stride + 1;
    *last = at / j->stride < count - 1 ? at / j->stride : count - 1;
}

static void
backward_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const job *j = context;
    const elem *dy = j->call->dy;
    bool add = j->call->add[0];
    for (int64_t r = cut_from(j->rows, task); r < cut_to(j->rows, task); r++) {
        int64_t top, bottom, left, right;
        windows_at(j, r % j->h, j->oh, &top, &bottom);
        for (int64_t i = 0; i < j->w * j->strips; i++) {
            int64_t first = i % j->strips * WIDE;
            int64_t width = j->c - first < WIDE ? j->c - first : WIDE;
            elem *dx = (elem *)j->call->dx[0] + (r * j->w + i / j->strips) * j->c + first;
            float sum[WIDE];
            windows_at(j, i / j->strips, j->ow, &left, &right);
            for (int64_t k = 0; k < width; k++) {
                sum[k] = add ? e_get(dx[k]) : 0;
            }
            for (int64_t row = top; row <= bottom; row++) {
                for (int64_t column = left; column <= right; column++) {
                    const elem *from =
                        dy + ((r / j->h * j->oh + row) * j->ow + column) * j->c + first;
                    for (int64_t k = 0; k < width; k++) {
                        sum[k] += j->share * e_get(from[k]);
                    }
                }
            }
            for (int64_t k = 0; k < width; k++) {
                dx[k] = e_put(sum[k]);
            }
        }
    }
}

static void
forward(const rc_call *call)
{
    job j = job_new(call, &call->ys);
    rc_parallel(j.rows.tasks, call->threads, forward_task, &j);
}

static void
backward(const rc_call *call)
{
    job j = job_new(call, &call->xs[0]);
    rc_parallel(j.rows.tasks, call->threads, backward_task, &j);
}

const rc_fast_kernel FAST(avg_pool2d) = {
    .name = FAST_TEXT("avg_pool2d"),
    .op = RC_OP_avg_pool2d,
    .element = ELEMENT,
    .refuse = maps_only,
    .forward = forward,
    .backward = backward,
};
