/* y = s*a + b with a learnt number s; rules: csrc/ops/scale_add.c. Flat and cut by size. */
#include "cpu/kernels/simd/vmath.h"

#define TASKS 64 /* at most */

typedef struct job {
    const rc_call *call;
    rc_cut cut;
    double partial[TASKS]; /* of ds, a task each */
} job;

static job
job_new(const rc_call *call)
{
    return (job){.call = call, .cut = cut_even(rc_shape_count(&call->ys), 16384, TASKS, 64)};
}

static void
forward_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const job *j = context;
    const elem *a = j->call->x[1], *b = j->call->x[2];
    elem *y = j->call->y;
    float s = *(const float *)j->call->x[0];
    int64_t to = cut_to(j->cut, task);
    RC_IVDEP
    for (int64_t i = cut_from(j->cut, task); i < to; i++) {
        y[i] = e_put(s * e_get(a[i]) + e_get(b[i]));
    }
}

/* Strip by strip, so that dy is read from memory once. */
static void
backward_task(void *context, int64_t task, int worker)
{
    (void)worker;
    job *j = context;
    const rc_call *call = j->call;
    const elem *a = call->x[1], *dy = call->dy;
    elem *da = call->dx[1], *db = call->dx[2];
    float s = da ? *(const float *)call->x[0] : 0;
    int64_t to = cut_to(j->cut, task);
    double sum = 0;
    for (int64_t strip = cut_from(j->cut, task); strip < to; strip += 4 * STRIP) {
        int64_t end = strip + 4 * STRIP < to ? strip + 4 * STRIP : to;
        sum += call->dx[0] ? dot_elements(dy + strip, a + strip, end - strip) : 0;
        if (da && call->add[1]) {
            RC_IVDEP
            for (int64_t i = strip; i < end; i++) {
                da[i] = e_put(e_get(da[i]) + s * e_get(dy[i]));
            }
        } else if (da) {
            RC_IVDEP
            for (int64_t i = strip; i < end; i++) {
                da[i] = e_put(s * e_get(dy[i]));
            }
        }
        if (db && call->add[2]) {
            row_put(db + strip, dy + strip, end - strip, true);
        } else if (db && db != dy) {
            row_put(db + strip, dy + strip, end - strip, false);
        }
    }
    j->partial[task] = sum;
}

static void
forward(const rc_call *call)
{
    job j = job_new(call);
    rc_parallel(j.cut.tasks, call->threads, forward_task, &j);
}

static void
backward(const rc_call *call)
{
    job j = job_new(call);
    rc_parallel(j.cut.tasks, call->threads, backward_task, &j);
    float *ds = call->dx[0];
    if (ds) {
        double total = 0;
        for (int64_t i = 0; i < j.cut.tasks; i++) {
            total += j.partial[i];
        }
        *ds = call->add[0] ? *ds + (float)total : (float)total;
    }
}

const rc_fast_kernel FAST(scale_add) = {
    .name = FAST_TEXT("scale_add"),
    .op = RC_OP_scale_add,
    .element = ELEMENT,
    .refuse = maps_only,
    .forward = forward,
    .backward = backward,
};
