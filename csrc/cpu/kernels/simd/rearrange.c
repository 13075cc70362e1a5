/* Concatenation and slices over channels, and dropout; rules: csrc/ops/{concat,slice,dropout}.c.
 * Rows of channels are copied or added whole, cut by rows. */
#include "base/random.h"
#include "cpu/kernels/simd/element.h"

typedef struct job {
    const rc_call *call;
    rc_cut rows;
} job;

/* ---- concat ---------------------------------------------------------------------------------- */

static void
concat_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const job *j = context;
    const rc_call *call = j->call;
    elem *y = call->y;
    int64_t c = call->ys.d[1], at = 0, from = cut_from(j->rows, task);
    for (int i = 0; i < call->n_in; i++) {
        int64_t width = call->xs[i].d[1];
        for (int64_t r = from; r < cut_to(j->rows, task); r++) {
            const elem *x = (const elem *)call->x[i] + r * width;
            ask_strip(x, width);
            row_put(y + r * c + at, x, width, false);
        }
        at += width;
    }
}

static void
concat_backward_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const job *j = context;
    const rc_call *call = j->call;
    const elem *dy = call->dy;
    int64_t c = call->ys.d[1], at = 0, from = cut_from(j->rows, task);
    for (int i = 0; i < call->n_in; i++) {
        int64_t width = call->xs[i].d[1];
        for (int64_t r = from; call->dx[i] && r < cut_to(j->rows, task); r++) {
            row_put((elem *)call->dx[i] + r * width, dy + r * c + at, width, call->add[i]);
        }
        at += width;
    }
}

static void
concat_forward(const rc_call *call)
{
    job j = {call, cut_rows(rc_shape_count(&call->ys) / call->ys.d[1], call->ys.d[1])};
    rc_parallel(j.rows.tasks, call->threads, concat_task, &j);
}

static void
concat_backward(const rc_call *call)
{
    job j = {call, cut_rows(rc_shape_count(&call->ys) / call->ys.d[1], call->ys.d[1])};
    rc_parallel(j.rows.tasks, call->threads, concat_backward_task, &j);
}

/* ---- slice ----------------------------------------------------------------------------------- */

static void
slice_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const job *j = context;
    const rc_call *call = j->call;
    int64_t c = call->xs[0].d[1], width = call->ys.d[1];
    for (int64_t r = cut_from(j->rows, task); r < cut_to(j->rows, task); r++) {
        row_put((elem *)call->y + r * width,
                (const elem *)call->x[0] + r * c + call->attrs->from, width, false);
    }
}

static void
slice_backward_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const job *j = context;
    const rc_call *call = j->call;
    int64_t c = call->xs[0].d[1], width = call->ys.d[1], from = call->attrs->from;
    for (int64_t r = cut_from(j->rows, task); r < cut_to(j->rows, task); r++) {
        elem *dx = (elem *)call->dx[0] + r * c;
        if (!call->add[0]) {
            memset(dx, 0, (size_t)from * sizeof *dx);
            memset(dx + from + width, 0, (size_t)(c - from - width) * sizeof *dx);
        }
        row_put(dx + from, (const elem *)call->dy + r * width, width, call->add[0]);
    }
}

static void
slice_forward(const rc_call *call)
{
    job j = {call, cut_rows(rc_shape_count(&call->ys) / call->ys.d[1], call->ys.d[1])};
    rc_parallel(j.rows.tasks, call->threads, slice_task, &j);
}

static void
slice_backward(const rc_call *call)
{
    job j = {call, cut_rows(rc_shape_count(&call->ys) / call->ys.d[1], call->xs[0].d[1])};
    rc_parallel(j.rows.tasks, call->threads, slice_backward_task, &j);
}

/* ---- dropout --------------------------------------------------------------------------------- */

/* One row of a matrix, or one position of a map: slots slot, slot + step, … */
static void
drop(uint64_t stream, uint64_t slot, uint64_t step, float limit, float scale, const elem *from,
     elem *to, int64_t count, bool add)
{
    RC_IVDEP
    for (int64_t k = 0; k < count; k++) {
        float u = rc_uniform(rc_random_step(stream, slot + step * (uint64_t)k));
        float v = u >= limit ? e_get(from[k]) * scale : 0;
        to[k] = e_put(add ? e_get(to[k]) + v : v);
    }
}

static void
dropout_apply(const rc_call *call, const elem *from, elem *to, bool add)
{
    int64_t rows = call->ys.d[0], size = rc_shape_count(&call->ys) / rows;
    if (!call->training || call->attrs->p == 0) {
        if (add) {
            row_put(to, from, rows * size, true);
        } else {
            memmove(to, from, (size_t)(rows * size) * sizeof *to);
        }
        return;
    }
    int64_t p = call->ys.rank == 4 ? call->ys.d[2] * call->ys.d[3] : 1, width = size / p;
    float limit = (float)call->attrs->p, scale = (float)(1 / (1 - call->attrs->p));
    for (int64_t n = 0; n < rows; n++) {
        uint64_t stream = rc_random_stream(*call->seed, RC_RANDOM_DROP, *call->step,
                                           (uint64_t)call->node, (uint64_t)n);
        for (int64_t i = 0; i < p; i++) {
            int64_t at = n * size + i * width;
            drop(stream, (uint64_t)i, (uint64_t)p, limit, scale, from + at, to + at, width, add);
        }
    }
}

static void
dropout_forward(const rc_call *call)
{
    dropout_apply(call, call->x[0], call->y, false);
}

static void
dropout_backward(const rc_call *call)
{
    dropout_apply(call, call->dy, call->dx[0], call->add[0]);
}

const rc_fast_kernel FAST(concat) = {
    .name = FAST_TEXT("concat"),
    .op = RC_OP_concat,
    .element = ELEMENT,
    .refuse = maps_only,
    .forward = concat_forward,
    .backward = concat_backward,
};
const rc_fast_kernel FAST(slice) = {
    .name = FAST_TEXT("slice"),
    .op = RC_OP_slice,
    .element = ELEMENT,
    .refuse = maps_only,
    .forward = slice_forward,
    .backward = slice_backward,
};
const rc_fast_kernel FAST(dropout) = {
    .name = FAST_TEXT("dropout"),
    .op = RC_OP_dropout,
    .element = ELEMENT,
    .refuse = maps_only,
    .forward = dropout_forward,
    .backward = dropout_backward,
};
