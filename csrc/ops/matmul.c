/* Products of matrices, one pair an image: y = scale * op(a) op(b), op transposing as trans_a and
 * trans_b say. a: (n,m,k) or (n,k,m)   b: (n,k,l) or (n,l,k)   y: (n,m,l). Sums in double (the
 * MFA page: logits of hundreds go into an exponential). With D = scale * dy:
 *     d op(a) = D op(b)^T      d op(b) = op(a)^T D */
#include "ops/real.h"

RC_DECLARE_KERNEL(matmul_forward)
RC_DECLARE_KERNEL(matmul_backward)

typedef struct matrix {
    const real *at;
    int64_t rows, cols; /* steps: element (i, j) is at[i*rows + j*cols] */
} matrix;

/* The i-th image's matrix, as op() sees it. `shape` is as stored. */
static matrix
matrix_of(const void *data, const rc_shape *shape, int64_t i, bool transposed)
{
    matrix o = {(const real *)data + i * shape->d[1] * shape->d[2], shape->d[2], 1};
    if (transposed) {
        o.rows = 1;
        o.cols = shape->d[2];
    }
    return o;
}

static matrix
turned(matrix a)
{
    return (matrix){a.at, a.cols, a.rows};
}

/* to (m x l, walked as `as` says) (+)= scale * a b */
static void
multiply(matrix a, matrix b, int64_t m, int64_t l, int64_t k, double scale, bool add,
         matrix as, real *to)
{
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < l; j++) {
            double sum = 0;
            for (int64_t s = 0; s < k; s++) {
                sum += (double)a.at[i * a.rows + s * a.cols]
                       * (double)b.at[s * b.rows + j * b.cols];
            }
            rc_put(&to[i * as.rows + j * as.cols], (real)(scale * sum), add);
        }
    }
}

void
RC_KERNEL(matmul_forward)(const rc_call *call)
{
    const rc_attrs *at = call->attrs;
    const rc_shape *xs = call->xs, *ys = &call->ys;
    int64_t m = ys->d[1], l = ys->d[2], k = xs[0].d[at->trans_a ? 1 : 2];
    for (int64_t i = 0; i < ys->d[0]; i++) {
        matrix y = matrix_of(call->y, ys, i, false);
        multiply(matrix_of(call->x[0], &xs[0], i, at->trans_a),
                 matrix_of(call->x[1], &xs[1], i, at->trans_b), m, l, k, at->scale, false, y,
                 (real *)call->y + i * m * l);
    }
}

void
RC_KERNEL(matmul_backward)(const rc_call *call)
{
    const rc_attrs *at = call->attrs;
    const rc_shape *xs = call->xs, *ys = &call->ys;
    int64_t m = ys->d[1], l = ys->d[2], k = xs[0].d[at->trans_a ? 1 : 2];
    for (int64_t i = 0; i < ys->d[0]; i++) {
        matrix d = matrix_of(call->dy, ys, i, false);
        if (call->dx[0]) {
            matrix to = matrix_of(call->dx[0], &xs[0], i, at->trans_a);
            multiply(d, turned(matrix_of(call->x[1], &xs[1], i, at->trans_b)), m, k, l,
                     at->scale, call->add[0], to, (real *)call->dx[0] + i * m * k);
        }
        if (call->dx[1]) {
            matrix to = matrix_of(call->dx[1], &xs[1], i, at->trans_b);
            multiply(turned(matrix_of(call->x[0], &xs[0], i, at->trans_a)), d, k, l, m,
                     at->scale, call->add[1], to, (real *)call->dx[1] + i * k * l);
        }
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    (void)n_in;
    char first[64], second[64];
    const char *left = rc_shape_text(&xs[0], first), *right = rc_shape_text(&xs[1], second);
    if (xs[0].rank != 3 || xs[1].rank != 3 || xs[0].d[0] != xs[1].d[0]) {
        return rc_fail(err, RC_ARGUMENT, "matmul: expected two stacks of as many matrices (3 "
                       "dimensions), got %s and %s", left, right);
    }
    int64_t k = xs[0].d[a->trans_a ? 1 : 2], with = xs[1].d[a->trans_b ? 2 : 1];
    if (k != with) {
        return rc_fail(err, RC_ARGUMENT, "matmul: inner sizes differ: %s%s has %lld columns, "
                       "%s%s has %lld rows", left, a->trans_a ? " transposed" : "", (long long)k,
                       right, a->trans_b ? " transposed" : "", (long long)with);
    }
    if (!isfinite(a->scale) || a->scale == 0) {
        return rc_fail(err, RC_ARGUMENT, "matmul: scale: expected a number other than 0, got %g",
                       a->scale);
    }
    *y = (rc_shape){3, {xs[0].d[0], xs[0].d[a->trans_a ? 2 : 1], xs[1].d[a->trans_b ? 1 : 2], 1}};
    return RC_OK;
}

static double
macs(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, bool literal)
{
    (void)literal;
    return (double)rc_shape_count(y) * (double)xs[0].d[a->trans_a ? 1 : 2];
}

const rc_op rc_op_matmul = {
    .name = "matmul",
    .min_in = 2,
    .max_in = 2,
    .infer = infer,
    .reads = rc_reads_other,
    .macs = macs,
    .forward = RC_BOTH(matmul_forward),
    .backward = RC_BOTH(matmul_backward),
};
#endif
