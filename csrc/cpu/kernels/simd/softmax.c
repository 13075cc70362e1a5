/* Softmax of rows, forward and backward; rules and letters: csrc/ops/softmax.c. */
#include "cpu/kernels/simd/vmath.h"

typedef struct job {
    const rc_call *call;
    rc_cut rows;
} job;

static rc_cut
rows_of(const rc_call *call)
{
    return cut_rows(call->ys.d[0] * call->ys.d[1], call->ys.d[2]);
}

static void
forward_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const job *j = context;
    const float *x = j->call->x[0];
    float *y = j->call->y, sign = j->call->attrs->negate ? -1 : 1;
    int64_t c = j->call->ys.d[2];
    for (int64_t r = cut_from(j->rows, task); r < cut_to(j->rows, task); r++) {
        softmax_row(x + r * c, sign, c, y + r * c);
    }
}

static void
backward_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const job *j = context;
    const float *y = j->call->y, *dy = j->call->dy;
    float *dx = j->call->dx[0], sign = j->call->attrs->negate ? -1 : 1;
    int64_t c = j->call->ys.d[2];
    for (int64_t r = cut_from(j->rows, task); r < cut_to(j->rows, task); r++) {
        softmax_row_back(y + r * c, dy + r * c, sign, c, dx + r * c, j->call->add[0]);
    }
}

static void
forward(const rc_call *call)
{
    job j = {call, rows_of(call)};
    rc_parallel(j.rows.tasks, call->threads, forward_task, &j);
}

static void
backward(const rc_call *call)
{
    job j = {call, rows_of(call)};
    rc_parallel(j.rows.tasks, call->threads, backward_task, &j);
}

const rc_fast_kernel RC_SIMD(rc_fast_softmax) = {
    .name = "rc_f32_softmax__" RC_ISA_TEXT,
    .op = RC_OP_softmax,
    .forward = forward,
    .backward = backward,
};
