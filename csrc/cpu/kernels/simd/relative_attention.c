/* Self-attention with relative positions; rules and letters: csrc/ops/relative_attention.c. Heads
 * are columns of the maps as they lie: no head is copied out.
 *
 * For all images first the products of queries with the tables, H (T x (2h-1)) and W
 * (T x (2w-1)) of every image and head. Then head by head (attend.h) A = softmax(scale (q k^T + H +
 * W)) and y = A v; in backward the sums of l over a row or a column of keys take the place of H
 * and W, from which the tables' gradients and the rest of dq are products again, over all images
 * at once: one fixed order of summing. */
#include "cpu/kernels/simd/attend.h"

enum { Q, K, V, REL_H, REL_W };

typedef struct job {
    const rc_call *call;
    int64_t n, c, h, w, t, heads, d, rows, cols; /* rows, cols: of the tables */
    float scale;
    float *by_row, *by_col; /* H (heads, n*T, rows), W (heads, n*T, cols) */
    attend one;
    int64_t each;           /* floats of scratch of a thread */
    float *scratch;
} job;

typedef struct head_of { /* whose softmax it is */
    const job *j;
    int64_t image, head;
} head_of;

static void softmax(const attend *o, int64_t row, int64_t rows, float *s);
static void back(const attend *o, int64_t row, int64_t rows, const float *s, float *l);

static job
sizes_of(const rc_attrs *at, const rc_shape *x, bool backward)
{
    job j = {.n = x->d[0], .c = x->d[1], .h = x->d[2], .w = x->d[3], .t = x->d[2] * x->d[3],
             .heads = at->groups, .d = x->d[1] / at->groups, .rows = 2 * x->d[2] - 1,
             .cols = 2 * x->d[3] - 1, .scale = (float)at->scale};
    j.one = (attend){.r = j.t, .c = j.t, .k = j.d, .e = j.d, .a = {NULL, j.c, false},
                     .b = {NULL, j.c, true}, .v = {NULL, j.c, false}, .softmax = softmax,
                     .back = back};
    attend_cut(&j.one);
    attend_parts p;
    j.each = attend_scratch(&j.one, backward, NULL, &p);
    return j;
}

/* ---- the products with tables ------------------------------------------------------------------ */

/* H: all queries of a head times a table (size rows); the heads are the batch. */
static rc_gemm_shape
with_table(const job *j, int64_t size)
{
    return (rc_gemm_shape){.batch = j->heads, .m = j->n * j->t, .n = size, .k = j->d, .lda = j->c,
                           .ldb = j->d, .ldc = size, .stride_a = j->d,
                           .stride_c = j->n * j->t * size, .trans_b = true};
}

/* Sums by row or column times the table: what it gives to dq. */
static rc_gemm_shape
from_table(const job *j, int64_t size)
{
    return (rc_gemm_shape){.batch = j->heads, .m = j->n * j->t, .n = j->d, .k = size, .lda = size,
                           .ldb = j->d, .ldc = j->c, .stride_a = j->n * j->t * size,
                           .stride_c = j->d};
}

/* … and, transposed, times the queries of one head: the table's gradient. */
static rc_gemm_shape
to_table(const job *j, int64_t size)
{
    return (rc_gemm_shape){.batch = 1, .m = size, .n = j->d, .k = j->n * j->t, .lda = size,
                           .ldb = j->c, .ldc = j->d, .trans_a = true};
}

static int64_t
tmp_size(const rc_attrs *at, const rc_shape *xs, const rc_shape *y, bool backward, int threads)
{
    (void)y;
    job j = sizes_of(at, &xs[Q], backward);
    rc_gemm_shape s[] = {with_table(&j, j.rows), with_table(&j, j.cols), from_table(&j, j.rows),
                         from_table(&j, j.cols), to_table(&j, j.rows), to_table(&j, j.cols)};
    int64_t most = threads * j.each;
    for (int i = 0; i < (backward ? 6 : 2); i++) {
        most = attend_larger(most, rc_gemm_scratch(&s[i], threads));
    }
    int64_t tables = rc_whole_lines(j.heads * j.n * j.t * j.rows)
                     + rc_whole_lines(j.heads * j.n * j.t * j.cols);
    return (tables + most) * (int64_t)sizeof(float);
}

static job
job_new(const rc_call *call, bool backward)
{
    job j = sizes_of(call->attrs, &call->xs[Q], backward);
    j.call = call;
    j.by_row = call->tmp;
    j.by_col = j.by_row + rc_whole_lines(j.heads * j.n * j.t * j.rows);
    j.scratch = j.by_col + rc_whole_lines(j.heads * j.n * j.t * j.cols);
    return j;
}

static void
product(const job *j, rc_gemm_shape s, const float *a, const float *b, bool add, float *c)
{
    rc_gemm(&s, a, b, NULL, add, c, j->scratch, j->call->threads);
}

static void
tables_ahead(const job *j)
{
    product(j, with_table(j, j->rows), j->call->x[Q], j->call->x[REL_H], false, j->by_row);
    product(j, with_table(j, j->cols), j->call->x[Q], j->call->x[REL_W], false, j->by_col);
}

static void
table_gradient(const job *j, int input, int64_t size, const float *sums)
{
    for (int64_t head = 0; j->call->dx[input] && head < j->heads; head++) {
        product(j, to_table(j, size), sums + head * j->n * j->t * size,
                (const float *)j->call->x[Q] + head * j->d, j->call->add[input] || head > 0,
                j->call->dx[input]);
    }
}

/* ---- heads ------------------------------------------------------------------------------------- */

/* Where query i finds its products with the rows of keys (h of them), and with the columns. */
static float *
rows_at(const head_of *of, int64_t i)
{
    const job *j = of->j;
    return j->by_row + ((of->head * j->n + of->image) * j->t + i) * j->rows + j->h - 1 - i / j->w;
}

static float *
cols_at(const head_of *of, int64_t i)
{
    const job *j = of->j;
    return j->by_col + ((of->head * j->n + of->image) * j->t + i) * j->cols + j->w - 1 - i % j->w;
}

static void
softmax(const attend *o, int64_t row, int64_t rows, float *s)
{
    const head_of *of = o->context;
    const job *j = of->j;
    for (int64_t i = row; i < row + rows; i++, s += o->pitch) {
        const float *by_row = rows_at(of, i), *by_col = cols_at(of, i);
        float *at = s;
        for (int64_t y = 0; y < j->h; y++, at += j->w) {
            float shift = by_row[y];
            RC_IVDEP
            for (int64_t x = 0; x < j->w; x++) {
                at[x] = j->scale * (at[x] + (shift + by_col[x]));
            }
        }
        softmax_row(s, 1, j->t, s);
    }
}

/* The query's places in H and W take the sums of l. */
static void
back(const attend *o, int64_t row, int64_t rows, const float *s, float *l)
{
    const head_of *of = o->context;
    const job *j = of->j;
    for (int64_t i = row; i < row + rows; i++, s += o->pitch, l += o->pitch) {
        float *by_row = rows_at(of, i), *by_col = cols_at(of, i);
        const float *at = l;
        softmax_row_back(s, l, j->scale, j->t, l, false);
        memset(by_row - (j->h - 1 - i / j->w), 0, (size_t)j->rows * sizeof *by_row);
        memset(by_col - (j->w - 1 - i % j->w), 0, (size_t)j->cols * sizeof *by_col);
        for (int64_t y = 0; y < j->h; y++, at += j->w) {
            float sum = 0;
            for (int64_t x = 0; x < j->w; x++) {
                sum += at[x];
                by_col[x] += at[x];
            }
            by_row[y] = sum;
        }
    }
}

/* Floats from the beginning of a map to a head of an image. */
static int64_t
begin(const head_of *of)
{
    return of->image * of->j->t * of->j->c + of->head * of->j->d;
}

static attend
attend_of(const head_of *of)
{
    attend o = of->j->one;
    const void *const *x = of->j->call->x;
    o.a.at = (const float *)x[Q] + begin(of);
    o.b.at = (const float *)x[K] + begin(of);
    o.v.at = (const float *)x[V] + begin(of);
    o.context = of;
    return o;
}

static attend_place
place_of(const head_of *of, int input)
{
    const job *j = of->j;
    float *at = j->call->dx[input];
    return (attend_place){at ? at + begin(of) : NULL, j->c, j->call->add[input]};
}

static void
forward_task(void *context, int64_t task, int worker)
{
    const job *j = context;
    head_of of = {j, task / j->heads, task % j->heads};
    attend o = attend_of(&of);
    attend_forward(&o, 0, j->t, (float *)j->call->y + begin(&of), j->c,
                   j->scratch + worker * j->each);
}

static void
backward_task(void *context, int64_t task, int worker)
{
    const job *j = context;
    const rc_call *call = j->call;
    head_of of = {j, task / j->heads, task % j->heads};
    attend o = attend_of(&of);
    float *scratch = j->scratch + worker * j->each;
    attend_parts p;
    attend_scratch(&o, true, scratch, &p);
    attend_place dk = place_of(&of, K), dv = place_of(&of, V);
    bool logits = call->dx[Q] || call->dx[K] || call->dx[REL_H] || call->dx[REL_W];
    attend_backward(&o, 0, j->t, (rc_factor){(const float *)call->dy + begin(&of), j->c, false},
                    place_of(&of, Q), logits, dv.at, p.sums, scratch);
    attend_give(&o, p.sums, 1, dk, dv);
}

static void
forward(const rc_call *call)
{
    job j = job_new(call, false);
    tables_ahead(&j);
    rc_parallel(j.n * j.heads, call->threads, forward_task, &j);
}

static void
backward(const rc_call *call)
{
    job j = job_new(call, true);
    tables_ahead(&j);
    rc_parallel(j.n * j.heads, call->threads, backward_task, &j);
    if (call->dx[Q]) {
        product(&j, from_table(&j, j.rows), j.by_row, call->x[REL_H], true, call->dx[Q]);
        product(&j, from_table(&j, j.cols), j.by_col, call->x[REL_W], true, call->dx[Q]);
    }
    table_gradient(&j, REL_H, j.rows, j.by_row);
    table_gradient(&j, REL_W, j.cols, j.by_col);
}

const rc_fast_kernel RC_SIMD(rc_fast_relative_attention) = {
    .name = "rc_f32_relative_attention__" RC_ISA_TEXT,
    .op = RC_OP_relative_attention,
    .tmp_size = tmp_size,
    .forward = forward,
    .backward = backward,
};
