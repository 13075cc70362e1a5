/* A 1x1 convolution of the relation of all pairs of positions, without the relation (the MBGN
 * page, section 2, "Memory of R"): Y = W (A^T B) = (W A^T) B = U B.
 *
 * Per image, with P = h*w: a, b: (P,c) in memory, w: (q,P), u: (q,c), y: (P,q).
 *     u = w a          y = b u^T
 *     du = dy^T b      db += dy u      dw += du a^T (sum over images)      da += w^T du
 * For the transposed relation (the page's map2) a and b change places. u is kept in ws.
 * Sums run in double: the batch norm that follows subtracts a mean far above the deviation. */
#include "ops/real.h"

RC_DECLARE_KERNEL(relation_map_forward)
RC_DECLARE_KERNEL(relation_map_backward)

typedef struct sizes {
    int64_t n, p, c, q;
} sizes;

static sizes
sizes_of(const rc_shape *xs)
{
    return (sizes){xs[0].d[0], xs[0].d[2] * xs[0].d[3], xs[0].d[1], xs[2].d[0]};
}

/* A matrix as it is walked: element (i, j) is at[i*rows + j*cols]. */
typedef struct matrix {
    const real *at;
    int64_t rows, cols;
} matrix;

/* c (m x n, row-major) (+)= a (m x k) b (k x n) */
static void
multiply(matrix a, matrix b, int64_t m, int64_t n, int64_t k, bool add, real *c)
{
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) {
            double sum = 0;
            for (int64_t l = 0; l < k; l++) {
                sum += (double)a.at[i * a.rows + l * a.cols]
                       * (double)b.at[l * b.rows + j * b.cols];
            }
            rc_put(&c[i * n + j], (real)sum, add);
        }
    }
}

void
RC_KERNEL(relation_map_forward)(const rc_call *call)
{
    sizes s = sizes_of(call->xs);
    const real *a = call->x[0], *b = call->x[1], *w = call->x[2];
    real *y = call->y, *u = call->ws ? call->ws : call->tmp;
    for (int64_t i = 0; i < s.n; i++, a += s.p * s.c, b += s.p * s.c, u += s.q * s.c) {
        if (!call->again || !call->ws) {
            multiply((matrix){w, s.p, 1}, (matrix){a, s.c, 1}, s.q, s.c, s.p, false, u);
        }
        multiply((matrix){b, s.c, 1}, (matrix){u, 1, s.c}, s.p, s.q, s.c, false,
                 y + i * s.p * s.q);
    }
}

void
RC_KERNEL(relation_map_backward)(const rc_call *call)
{
    sizes s = sizes_of(call->xs);
    const real *a = call->x[0], *b = call->x[1], *w = call->x[2], *u = call->ws, *dy = call->dy;
    real *da = call->dx[0], *db = call->dx[1], *dw = call->dx[2], *du = call->tmp;
    for (int64_t i = 0; i < s.n; i++) {
        const real *d = dy + i * s.p * s.q;
        int64_t map = i * s.p * s.c;
        if (db) {
            multiply((matrix){d, s.q, 1}, (matrix){u + i * s.q * s.c, s.c, 1}, s.p, s.c, s.q,
                     call->add[1], db + map);
        }
        if (!da && !dw) {
            continue;
        }
        multiply((matrix){d, 1, s.q}, (matrix){b + map, s.c, 1}, s.q, s.c, s.p, false, du);
        if (da) {
            multiply((matrix){w, 1, s.p}, (matrix){du, s.c, 1}, s.p, s.c, s.q, call->add[0],
                     da + map);
        }
        if (dw) {
            multiply((matrix){du, s.c, 1}, (matrix){a + map, 1, s.c}, s.q, s.p, s.c,
                     call->add[2] || i > 0, dw);
        }
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    (void)a, (void)n_in;
    char first[64], second[64];
    if (xs[0].rank != 4 || !rc_shape_equal(&xs[0], &xs[1])) {
        return rc_fail(err, RC_ARGUMENT, "relation_map: expected two maps of one shape, got %s "
                       "and %s", rc_shape_text(&xs[0], first), rc_shape_text(&xs[1], second));
    }
    int64_t p = xs[0].d[2] * xs[0].d[3];
    if (xs[2].rank != 4 || xs[2].d[1] != p || xs[2].d[2] != 1 || xs[2].d[3] != 1) {
        return rc_fail(err, RC_ARGUMENT, "relation_map: for maps of %s the weight must have %lld "
                       "columns, one a position (q x %lld x 1 x 1), got %s",
                       rc_shape_text(&xs[0], first), (long long)p, (long long)p,
                       rc_shape_text(&xs[2], second));
    }
    *y = xs[0];
    y->d[1] = xs[2].d[0];
    return RC_OK;
}

static uint32_t
reads(const rc_attrs *a, int n_in, const rc_shape *xs, uint32_t wants, bool training)
{
    (void)a, (void)n_in, (void)xs, (void)training;
    uint32_t set = 0;
    if (wants & (RC_READS(0) | RC_READS(2))) {
        set |= RC_READS(1); /* du */
    }
    if (wants & RC_READS(0)) {
        set |= RC_READS(2);
    }
    if (wants & RC_READS(2)) {
        set |= RC_READS(0);
    }
    return set;
}

static int64_t
ws_size(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, size_t real_size)
{
    (void)a, (void)y;
    sizes s = sizes_of(xs);
    return s.n * s.q * s.c * (int64_t)real_size; /* u */
}

static int64_t
tmp_size(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, size_t real_size,
         bool backward, int threads)
{
    (void)a, (void)y, (void)threads;
    sizes s = sizes_of(xs);
    /* forward: u where there is no ws; backward: du of one image */
    return (backward ? 1 : s.n) * s.q * s.c * (int64_t)real_size;
}

/* Literal: the relation, which the page's two maps share, and the map's q*P*P. */
static double
macs(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, bool literal)
{
    (void)a, (void)y;
    sizes s = sizes_of(xs);
    double p = (double)s.p, c = (double)s.c, q = (double)s.q;
    return (double)s.n * (literal ? p * p * c / 2 + q * p * p : 2 * q * p * c);
}

const rc_op rc_op_relation_map = {
    .name = "relation_map",
    .min_in = 3,
    .max_in = 3,
    .infer = infer,
    .reads = reads,
    .ws_size = ws_size,
    .tmp_size = tmp_size,
    .macs = macs,
    .forward = RC_BOTH(relation_map_forward),
    .backward = RC_BOTH(relation_map_backward),
};
#endif
