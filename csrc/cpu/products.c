/* Batched matrix products of the attention modules on rc_gemm: relation_map (the MBGN page,
 * section 2, factored) and matmul. Letters and ws as in csrc/ops/relation_map.c. */
#include "cpu/products.h"

#include "cpu/cpu.h"

static int64_t
larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* The most scratch that any of these products takes, in floats. */
static int64_t
scratch_of(const rc_gemm_shape *s, int count, int threads)
{
    int64_t most = 0;
    for (int i = 0; i < count; i++) {
        most = larger(most, rc_gemm_scratch(&s[i], threads));
    }
    return most;
}

/* ---- relation_map -------------------------------------------------------------------------- */

/* Products in the order in which they run: 0 u, 1 y; 2 db, 3 du, 4 da, 5 dw (one image). */
enum { U, Y, DB, DU, DA, DW, PRODUCTS };

static void
relation_products(const rc_shape *xs, rc_gemm_shape s[PRODUCTS])
{
    int64_t n = xs[0].d[0], p = xs[0].d[2] * xs[0].d[3], c = xs[0].d[1], q = xs[2].d[0];
    s[U] = (rc_gemm_shape){.batch = n, .m = q, .n = c, .k = p, .lda = p, .ldb = c, .ldc = c,
                           .stride_b = p * c, .stride_c = q * c};
    s[Y] = (rc_gemm_shape){.batch = n, .m = p, .n = q, .k = c, .lda = c, .ldb = c, .ldc = q,
                           .stride_a = p * c, .stride_b = q * c, .stride_c = p * q,
                           .trans_b = true};
    s[DB] = (rc_gemm_shape){.batch = n, .m = p, .n = c, .k = q, .lda = q, .ldb = c, .ldc = c,
                            .stride_a = p * q, .stride_b = q * c, .stride_c = p * c};
    s[DU] = (rc_gemm_shape){.batch = n, .m = q, .n = c, .k = p, .lda = q, .ldb = c, .ldc = c,
                            .stride_a = p * q, .stride_b = p * c, .stride_c = q * c,
                            .trans_a = true};
    s[DA] = (rc_gemm_shape){.batch = n, .m = p, .n = c, .k = q, .lda = p, .ldb = c, .ldc = c,
                            .stride_b = q * c, .stride_c = p * c, .trans_a = true};
    s[DW] = (rc_gemm_shape){.batch = 1, .m = q, .n = p, .k = c, .lda = c, .ldb = c, .ldc = p,
                            .trans_b = true};
}

/* tmp: u (n,q,c) where there is no ws, or du (n,q,c); then the scratch of a product. */
static int64_t
relation_tmp(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, bool backward, int threads)
{
    (void)a, (void)y;
    rc_gemm_shape s[PRODUCTS];
    relation_products(xs, s);
    int64_t factor = rc_whole_lines(xs[0].d[0] * xs[2].d[0] * xs[0].d[1]);
    int64_t scratch = backward ? scratch_of(s + DB, PRODUCTS - DB, threads)
                               : scratch_of(s, DB, threads);
    return (factor + scratch) * (int64_t)sizeof(float);
}

static void
relation_forward(const rc_call *call)
{
    rc_gemm_shape s[PRODUCTS];
    relation_products(call->xs, s);
    float *u = call->ws ? call->ws : call->tmp;
    float *scratch = (float *)call->tmp + rc_whole_lines(s[U].batch * s[U].m * s[U].n);
    if (!call->again || !call->ws) {
        rc_gemm(&s[U], call->x[2], call->x[0], NULL, false, u, scratch, call->threads);
    }
    rc_gemm(&s[Y], call->x[1], u, NULL, false, call->y, scratch, call->threads);
}

static void
relation_backward(const rc_call *call)
{
    rc_gemm_shape s[PRODUCTS];
    relation_products(call->xs, s);
    const float *a = call->x[0], *dy = call->dy;
    float *du = call->tmp, *scratch = du + rc_whole_lines(s[U].batch * s[U].m * s[U].n);
    if (call->dx[1]) {
        rc_gemm(&s[DB], dy, call->ws, NULL, call->add[1], call->dx[1], scratch, call->threads);
    }
    if (call->dx[0] || call->dx[2]) {
        rc_gemm(&s[DU], dy, call->x[1], NULL, false, du, scratch, call->threads);
    }
    if (call->dx[0]) {
        rc_gemm(&s[DA], call->x[2], du, NULL, call->add[0], call->dx[0], scratch, call->threads);
    }
    for (int64_t i = 0; call->dx[2] && i < s[DU].batch; i++) {
        rc_gemm(&s[DW], du + i * s[DU].stride_c, a + i * s[DU].stride_b, NULL,
                call->add[2] || i > 0, call->dx[2], scratch, call->threads);
    }
}

const rc_fast_kernel rc_fast_relation_map = {
    .name = "rc_f32_relation_map",
    .op = RC_OP_relation_map,
    .tmp_size = relation_tmp,
    .forward = relation_forward,
    .backward = relation_backward,
};

/* ---- matmul -------------------------------------------------------------------------------- */

rc_gemm_shape
rc_product(const rc_shape *x, bool trans_x, const rc_shape *z, bool trans_z)
{
    int64_t m = x->d[trans_x ? 2 : 1], k = x->d[trans_x ? 1 : 2], n = z->d[trans_z ? 1 : 2];
    return (rc_gemm_shape){.batch = x->d[0], .m = m, .n = n, .k = k, .lda = x->d[2],
                           .ldb = z->d[2], .ldc = n, .stride_a = x->d[1] * x->d[2],
                           .stride_b = z->d[1] * z->d[2], .stride_c = m * n,
                           .trans_a = trans_x, .trans_b = trans_z};
}

/* With D = dy, da = D op(b)^T or, where a is stored transposed, op(b) D^T; db = op(a)^T D or
 * D^T op(a). */
rc_gemm_shape
rc_product_gradient(const rc_attrs *at, const rc_shape *xs, const rc_shape *y, int input)
{
    if (input == 0) {
        return at->trans_a ? rc_product(&xs[1], at->trans_b, y, true)
                           : rc_product(y, false, &xs[1], !at->trans_b);
    }
    return at->trans_b ? rc_product(y, true, &xs[0], at->trans_a)
                       : rc_product(&xs[0], !at->trans_a, y, false);
}

/* Other scales than 1 are left to a copy of one factor: y's in forward (multiplied in place), dy's
 * in backward (in tmp). */
static int64_t
matmul_tmp(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, bool backward, int threads)
{
    rc_gemm_shape s[3] = {rc_product(&xs[0], a->trans_a, &xs[1], a->trans_b),
                          rc_product_gradient(a, xs, y, 0), rc_product_gradient(a, xs, y, 1)};
    int64_t copy = backward && a->scale != 1 ? rc_whole_lines(rc_shape_count(y)) : 0;
    return (copy + (backward ? scratch_of(s + 1, 2, threads) : scratch_of(s, 1, threads)))
           * (int64_t)sizeof(float);
}

static void
matmul_forward(const rc_call *call)
{
    const rc_attrs *at = call->attrs;
    rc_gemm_shape s = rc_product(&call->xs[0], at->trans_a, &call->xs[1], at->trans_b);
    rc_gemm(&s, call->x[0], call->x[1], NULL, false, call->y, call->tmp, call->threads);
    float *y = call->y, scale = (float)at->scale;
    for (int64_t i = 0; scale != 1 && i < rc_shape_count(&call->ys); i++) {
        y[i] *= scale;
    }
}

static void
matmul_backward(const rc_call *call)
{
    const rc_attrs *at = call->attrs;
    const float *dy = call->dy;
    float *scratch = call->tmp, scale = (float)at->scale;
    if (scale != 1) {
        for (int64_t i = 0; i < rc_shape_count(&call->ys); i++) {
            scratch[i] = scale * dy[i];
        }
        dy = scratch;
        scratch += rc_whole_lines(rc_shape_count(&call->ys));
    }
    if (call->dx[0]) {
        rc_gemm_shape s = rc_product_gradient(at, call->xs, &call->ys, 0);
        rc_gemm(&s, at->trans_a ? call->x[1] : dy, at->trans_a ? dy : call->x[1], NULL,
                call->add[0], call->dx[0], scratch, call->threads);
    }
    if (call->dx[1]) {
        rc_gemm_shape s = rc_product_gradient(at, call->xs, &call->ys, 1);
        rc_gemm(&s, at->trans_b ? dy : call->x[0], at->trans_b ? call->x[0] : dy, NULL,
                call->add[1], call->dx[1], scratch, call->threads);
    }
}

const rc_fast_kernel rc_fast_matmul = {
    .name = "rc_f32_matmul",
    .op = RC_OP_matmul,
    .tmp_size = matmul_tmp,
    .forward = matmul_forward,
    .backward = matmul_backward,
};
