/* Cosines of all pairs of rows (the MBGN page, section 4): sim = <u_a, u_b> of unit vectors
 * u / max(|u|, 1e-12), pairs a < b in the order (0,1), (0,2), ..., (r-2,r-1).
 * u: (n,r,c)   y: (n, r(r-1)/2). Backward: each row collects dsim times its partners' unit
 * vectors, then goes through its own scaling. Sums in double. */
#include "ops/exact.h"

#define SHORTEST 1e-12

RC_DECLARE_KERNEL(pair_cosine_forward)
RC_DECLARE_KERNEL(pair_cosine_backward)

static void
inverse_lengths(const real *u, int64_t r, int64_t c, double *inverse)
{
    for (int64_t a = 0; a < r; a++) {
        double length = rc_exact_length(u + a * c, c);
        inverse[a] = 1 / (length < SHORTEST ? SHORTEST : length);
    }
}

/* Place of the pair a < b. */
static int64_t
pair_at(int64_t a, int64_t b, int64_t r)
{
    return a * r - a * (a + 1) / 2 + b - a - 1;
}

void
RC_KERNEL(pair_cosine_forward)(const rc_call *call)
{
    int64_t r = call->xs[0].d[1], c = call->xs[0].d[2];
    double *inverse = call->tmp;
    real *y = call->y;
    for (int64_t i = 0; i < call->xs[0].d[0]; i++) {
        const real *u = (const real *)call->x[0] + i * r * c;
        inverse_lengths(u, r, c, inverse);
        for (int64_t a = 0; a < r; a++) {
            for (int64_t b = a + 1; b < r; b++) {
                *y++ = (real)(rc_exact_dot(u + a * c, u + b * c, c) * inverse[a] * inverse[b]);
            }
        }
    }
}

/* tmp: inverse (r), then the gradient of one unit vector (c) */
void
RC_KERNEL(pair_cosine_backward)(const rc_call *call)
{
    int64_t r = call->xs[0].d[1], c = call->xs[0].d[2];
    double *inverse = call->tmp, *du = inverse + r;
    for (int64_t i = 0; i < call->xs[0].d[0]; i++) {
        const real *u = (const real *)call->x[0] + i * r * c;
        const real *dy = (const real *)call->dy + i * r * (r - 1) / 2;
        inverse_lengths(u, r, c, inverse);
        for (int64_t a = 0; a < r; a++) {
            memset(du, 0, (size_t)c * sizeof(double));
            for (int64_t b = 0; b < r; b++) {
                if (b == a) {
                    continue;
                }
                double d = (double)dy[a < b ? pair_at(a, b, r) : pair_at(b, a, r)] * inverse[b];
                for (int64_t j = 0; j < c; j++) {
                    du[j] += d * (double)u[b * c + j];
                }
            }
            rc_unit_backward(u + a * c, rc_exact_length(u + a * c, c), SHORTEST, du, c,
                             call->add[0], (real *)call->dx[0] + (i * r + a) * c);
        }
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    (void)a, (void)n_in;
    char got[64];
    if (xs[0].rank != 3 || xs[0].d[1] < 2) {
        return rc_fail(err, RC_ARGUMENT, "pair_cosine: expected images x vectors x length with "
                       "at least two vectors, got %s", rc_shape_text(&xs[0], got));
    }
    *y = (rc_shape){2, {xs[0].d[0], xs[0].d[1] * (xs[0].d[1] - 1) / 2, 1, 1}};
    return RC_OK;
}

static int64_t
tmp_size(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, size_t real_size,
         bool backward, int threads)
{
    (void)a, (void)y, (void)real_size, (void)threads;
    return (xs[0].d[1] + (backward ? xs[0].d[2] : 0)) * 8;
}

const rc_op rc_op_pair_cosine = {
    .name = "pair_cosine",
    .min_in = 1,
    .max_in = 1,
    .infer = infer,
    .reads = rc_reads_first,
    .tmp_size = tmp_size,
    .forward = RC_BOTH(pair_cosine_forward),
    .backward = RC_BOTH(pair_cosine_backward),
};
#endif
