/* Self-attention with relative positions as matrix products; rules and letters:
 * csrc/ops/relative_attention.c. Heads are columns of the maps as they lie: no head is copied out.
 *
 * For all images first the products of queries with the tables, H (T x (2h-1)) and W
 * (T x (2w-1)) of every image and head. Then image by image, so that the T x T matrices of its
 * heads stay in the caches: L = q k^T, A = softmax(scale (L + H + W)), y = A v; backward makes A
 * again. There D = dy v^T becomes l = scale A (D - <A,D>), and the sums of l over a row or a
 * column of keys take the place of H and W, from which the tables' gradients and the rest of dq
 * are products again, over all images at once: one fixed order of summing. */
#include "cpu/cpu.h"
#include "cpu/kernels/simd/vmath.h"

enum { Q, K, V, REL_H, REL_W };

typedef struct job {
    const rc_call *call;
    int64_t n, c, h, w, t, heads, d, rows, cols; /* rows, cols: of the tables */
    float scale;
    float *by_row, *by_col; /* H (heads, n*T, rows), W (heads, n*T, cols) */
    float *a, *l;           /* (heads, T, T) of an image */
    float *scratch;
    int64_t image;          /* at hand */
    rc_cut cut;             /* of the heads*T rows of a and l */
} job;

static int64_t
lines(int64_t floats)
{
    return (floats + 15) / 16 * 16;
}

static job
sizes_of(const rc_attrs *at, const rc_shape *x)
{
    job j = {.n = x->d[0], .c = x->d[1], .h = x->d[2], .w = x->d[3], .t = x->d[2] * x->d[3],
             .heads = at->groups, .d = x->d[1] / at->groups, .rows = 2 * x->d[2] - 1,
             .cols = 2 * x->d[3] - 1, .scale = (float)at->scale};
    j.cut = cut_rows(j.heads * j.t, j.t);
    return j;
}

/* ---- the products ---------------------------------------------------------------------------- */

/* H: all queries of a head times a table (size rows); the heads are the batch. */
static rc_gemm_shape
with_table(const job *j, int64_t size)
{
    return (rc_gemm_shape){.batch = j->heads, .m = j->n * j->t, .n = size, .k = j->d, .lda = j->c,
                           .ldb = j->d, .ldc = size, .stride_a = j->d,
                           .stride_c = j->n * j->t * size, .trans_b = true};
}

/* T x T of an image: rows of one map times rows of another. */
static rc_gemm_shape
pairs(const job *j)
{
    return (rc_gemm_shape){.batch = j->heads, .m = j->t, .n = j->t, .k = j->d, .lda = j->c,
                           .ldb = j->c, .ldc = j->t, .stride_a = j->d, .stride_b = j->d,
                           .stride_c = j->t * j->t, .trans_b = true};
}

/* T x T, or its transpose, times rows of a map. */
static rc_gemm_shape
mix(const job *j, bool transposed)
{
    return (rc_gemm_shape){.batch = j->heads, .m = j->t, .n = j->d, .k = j->t, .lda = j->t,
                           .ldb = j->c, .ldc = j->c, .stride_a = j->t * j->t, .stride_b = j->d,
                           .stride_c = j->d, .trans_a = transposed};
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
    job j = sizes_of(at, &xs[Q]);
    rc_gemm_shape s[] = {with_table(&j, j.rows), with_table(&j, j.cols), pairs(&j), mix(&j, false),
                         mix(&j, true), from_table(&j, j.rows), from_table(&j, j.cols),
                         to_table(&j, j.rows), to_table(&j, j.cols)};
    int64_t most = 0, tables = lines(j.heads * j.n * j.t * j.rows)
                               + lines(j.heads * j.n * j.t * j.cols);
    for (int i = 0; i < (backward ? 9 : 4); i++) {
        int64_t floats = rc_gemm_scratch(&s[i], threads);
        most = floats > most ? floats : most;
    }
    int64_t square = lines(j.heads * j.t * j.t);
    return (tables + (backward ? 2 : 1) * square + most) * (int64_t)sizeof(float);
}

static job
job_new(const rc_call *call, bool backward)
{
    job j = sizes_of(call->attrs, &call->xs[Q]);
    int64_t square = lines(j.heads * j.t * j.t);
    j.call = call;
    j.by_row = call->tmp;
    j.by_col = j.by_row + lines(j.heads * j.n * j.t * j.rows);
    j.a = j.by_col + lines(j.heads * j.n * j.t * j.cols);
    j.l = j.a + square;
    j.scratch = backward ? j.l + square : j.l;
    return j;
}

static void
product(const job *j, rc_gemm_shape s, const float *a, const float *b, bool add, float *c)
{
    rc_gemm(&s, a, b, NULL, add, c, j->scratch, j->call->threads);
}

/* ---- rows of the T x T matrices --------------------------------------------------------------- */

/* Where query i of a head finds its products with the rows of keys (h of them), and the columns. */
static float *
rows_at(const job *j, int64_t head, int64_t i)
{
    return j->by_row + ((head * j->n + j->image) * j->t + i) * j->rows + j->h - 1 - i / j->w;
}

static float *
cols_at(const job *j, int64_t head, int64_t i)
{
    return j->by_col + ((head * j->n + j->image) * j->t + i) * j->cols + j->w - 1 - i % j->w;
}

static void
softmax_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const job *j = context;
    for (int64_t r = cut_from(j->cut, task); r < cut_to(j->cut, task); r++) {
        const float *by_row = rows_at(j, r / j->t, r % j->t);
        const float *by_col = cols_at(j, r / j->t, r % j->t);
        float *a = j->a + r * j->t, *at = a;
        for (int64_t row = 0; row < j->h; row++, at += j->w) {
            float shift = by_row[row];
            RC_IVDEP
            for (int64_t col = 0; col < j->w; col++) {
                at[col] = j->scale * (at[col] + (shift + by_col[col]));
            }
        }
        softmax_row(a, 1, j->t, a);
    }
}

/* A of the image at hand. */
static void
attend(job *j, int64_t image)
{
    int64_t begin = image * j->t * j->c;
    j->image = image;
    product(j, pairs(j), (const float *)j->call->x[Q] + begin, (const float *)j->call->x[K] + begin,
            false, j->a);
    rc_parallel(j->cut.tasks, j->call->threads, softmax_task, j);
}

static void
tables_ahead(const job *j)
{
    product(j, with_table(j, j->rows), j->call->x[Q], j->call->x[REL_H], false, j->by_row);
    product(j, with_table(j, j->cols), j->call->x[Q], j->call->x[REL_W], false, j->by_col);
}

static void
forward(const rc_call *call)
{
    job j = job_new(call, false);
    tables_ahead(&j);
    for (int64_t image = 0; image < j.n; image++) {
        int64_t begin = image * j.t * j.c;
        attend(&j, image);
        product(&j, mix(&j, false), j.a, (const float *)call->x[V] + begin, false,
                (float *)call->y + begin);
    }
}

/* l from D, in place; the row's places in H and W take its sums. */
static void
backward_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const job *j = context;
    for (int64_t r = cut_from(j->cut, task); r < cut_to(j->cut, task); r++) {
        int64_t head = r / j->t, i = r % j->t;
        float *by_row = rows_at(j, head, i), *by_col = cols_at(j, head, i);
        float *l = j->l + r * j->t;
        softmax_row_back(j->a + r * j->t, l, j->scale, j->t, l, false);
        memset(by_row - (j->h - 1 - i / j->w), 0, (size_t)j->rows * sizeof *by_row);
        memset(by_col - (j->w - 1 - i % j->w), 0, (size_t)j->cols * sizeof *by_col);
        for (int64_t row = 0; row < j->h; row++, l += j->w) {
            float sum = 0;
            for (int64_t col = 0; col < j->w; col++) {
                sum += l[col];
                by_col[col] += l[col];
            }
            by_row[row] = sum;
        }
    }
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

static void
backward(const rc_call *call)
{
    job j = job_new(call, true);
    const bool *add = call->add;
    bool logits = call->dx[Q] || call->dx[K] || call->dx[REL_H] || call->dx[REL_W];
    tables_ahead(&j);
    for (int64_t image = 0; image < j.n; image++) {
        int64_t begin = image * j.t * j.c;
        const float *dy = (const float *)call->dy + begin;
        attend(&j, image);
        if (call->dx[V]) {
            product(&j, mix(&j, true), j.a, dy, add[V], (float *)call->dx[V] + begin);
        }
        if (!logits) {
            continue;
        }
        product(&j, pairs(&j), dy, (const float *)call->x[V] + begin, false, j.l);
        rc_parallel(j.cut.tasks, call->threads, backward_task, &j);
        if (call->dx[K]) {
            product(&j, mix(&j, true), j.l, (const float *)call->x[Q] + begin, add[K],
                    (float *)call->dx[K] + begin);
        }
        if (call->dx[Q]) {
            product(&j, mix(&j, false), j.l, (const float *)call->x[K] + begin, add[Q],
                    (float *)call->dx[Q] + begin);
        }
    }
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
