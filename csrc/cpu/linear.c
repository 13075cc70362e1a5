/* Linear layers as matrix products: y = x w^T + b, dx = dy w, dw = dy^T x. */
#include "cpu/linear.h"

#include "cpu/cpu.h"

#define CHUNKS 32 /* of rows, whatever the number of threads */

int64_t
rc_column_sums_scratch(int64_t rows, int64_t k)
{
    return (rows < CHUNKS ? rows : CHUNKS) * k * 2; /* doubles */
}

typedef struct sums {
    const void *x;
    rc_element element;
    int64_t rows, k, chunks;
    double *partial;
} sums;

static void
sum_chunk(void *context, int64_t i, int worker)
{
    const sums *s = context;
    double *partial = s->partial + i * s->k;
    (void)worker;
    for (int64_t k = 0; k < s->k; k++) {
        partial[k] = 0;
    }
    for (int64_t r = i * s->rows / s->chunks; r < (i + 1) * s->rows / s->chunks; r++) {
        if (s->element == RC_BF16) {
            const uint16_t *row = (const uint16_t *)s->x + r * s->k;
            for (int64_t k = 0; k < s->k; k++) {
                partial[k] += rc_from_bf16(row[k]);
            }
        } else {
            const float *row = (const float *)s->x + r * s->k;
            for (int64_t k = 0; k < s->k; k++) {
                partial[k] += row[k];
            }
        }
    }
}

void
rc_column_sums(const void *x, rc_element element, int64_t rows, int64_t k, bool add, float *out,
               float *scratch, int threads)
{
    sums s = {x, element, rows, k, rows < CHUNKS ? rows : CHUNKS, (double *)(void *)scratch};
    rc_parallel(s.chunks, threads, sum_chunk, &s);
    for (int64_t j = 0; j < k; j++) {
        double total = 0;
        for (int64_t i = 0; i < s.chunks; i++) {
            total += s.partial[i * k + j];
        }
        out[j] = (float)(add ? out[j] + total : total);
    }
}

/* m = n rows, k = inputs, n = outputs; w is stored n x k. */
static rc_gemm_shape
forward_shape(const rc_shape *xs, const rc_shape *y)
{
    int64_t rows = xs[0].d[0], in = xs[0].d[1], out = y->d[1];
    return (rc_gemm_shape){.batch = 1, .m = rows, .n = out, .k = in, .lda = in, .ldb = in,
                           .ldc = out, .trans_b = true};
}

static rc_gemm_shape
backward_x_shape(const rc_shape *xs, const rc_shape *y)
{
    int64_t rows = xs[0].d[0], in = xs[0].d[1], out = y->d[1];
    return (rc_gemm_shape){.batch = 1, .m = rows, .n = in, .k = out, .lda = out, .ldb = in,
                           .ldc = in};
}

static rc_gemm_shape
backward_w_shape(const rc_shape *xs, const rc_shape *y)
{
    int64_t rows = xs[0].d[0], in = xs[0].d[1], out = y->d[1];
    return (rc_gemm_shape){.batch = 1, .m = out, .n = in, .k = rows, .lda = out, .ldb = in,
                           .ldc = in, .trans_a = true};
}

static int64_t
tmp_size(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, bool backward, int threads)
{
    (void)a;
    rc_gemm_shape s[3] = {forward_shape(xs, y), backward_x_shape(xs, y),
                          backward_w_shape(xs, y)};
    int64_t most = backward ? rc_column_sums_scratch(xs[0].d[0], y->d[1]) : 0;
    for (int i = backward; i < (backward ? 3 : 1); i++) {
        int64_t floats = rc_gemm_scratch(&s[i], threads);
        most = floats > most ? floats : most;
    }
    return most * (int64_t)sizeof(float);
}

static void
forward(const rc_call *call)
{
    rc_gemm_shape s = forward_shape(call->xs, &call->ys);
    rc_epilogue e = {.bias = call->n_in > 2 ? call->x[2] : NULL,
                     .act = (rc_act)call->attrs->act,
                     .slope = (float)call->attrs->slope};
    rc_gemm(&s, call->x[0], call->x[1], &e, false, call->y, call->tmp, call->threads);
}

static void
backward(const rc_call *call)
{
    if (call->dx[1]) {
        rc_gemm_shape s = backward_w_shape(call->xs, &call->ys);
        rc_gemm(&s, call->dy, call->x[0], NULL, call->add[1], call->dx[1], call->tmp,
                call->threads);
    }
    if (call->n_in > 2 && call->dx[2]) {
        rc_column_sums(call->dy, RC_REAL, call->xs[0].d[0], call->ys.d[1], call->add[2],
                       call->dx[2], call->tmp, call->threads);
    }
    if (call->dx[0]) {
        rc_gemm_shape s = backward_x_shape(call->xs, &call->ys);
        rc_gemm(&s, call->dy, call->x[1], NULL, call->add[0], call->dx[0], call->tmp,
                call->threads);
    }
}

static const char *
refuse_activation(const rc_attrs *a, int n_in, const rc_shape *xs, const rc_shape *y)
{
    (void)n_in, (void)xs, (void)y;
    return a->act == RC_ACT_NONE ? NULL : "backward has no activation";
}

static const char *
refuse_sigmoid(const rc_attrs *a, int n_in, const rc_shape *xs, const rc_shape *y)
{
    (void)n_in, (void)xs, (void)y;
    return a->act == RC_ACT_SIGMOID ? "epilogue has no sigmoid" : NULL;
}

const rc_fast_kernel rc_fast_linear = {
    .name = "rc_f32_linear",
    .op = RC_OP_linear,
    .refuse = refuse_activation,
    .tmp_size = tmp_size,
    .forward = forward,
    .backward = backward,
};

const rc_fast_kernel rc_fast_linear_act = {
    .name = "rc_f32_linear_act",
    .op = RC_OP_linear,
    .refuse = refuse_sigmoid,
    .tmp_size = tmp_size,
    .forward = forward,
};
