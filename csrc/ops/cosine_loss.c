/* Global local aligned loss (the MFA page): L = mean over images of 1 - cos(f, r), both divided by
 * max(length, 1e-12). f, r: (n,c). r guides and is detached. Gradient to f, with unit vectors u of
 * f and w of r: -(w - (u.w) u)/|f| / n (-w/1e-12/n where |f| < 1e-12). */
#include "ops/exact.h"
#include "ops/loss.h"

RC_DECLARE_KERNEL(cosine_loss_forward)
RC_DECLARE_KERNEL(cosine_loss_backward)

#define TINY 1e-12

static double
inverse_length(const real *x, int64_t c)
{
    double length = rc_exact_length(x, c);
    return 1 / (length < TINY ? TINY : length);
}

void
RC_KERNEL(cosine_loss_forward)(const rc_call *call)
{
    int64_t n = call->xs[0].d[0], c = call->xs[0].d[1];
    double total = 0;
    for (int64_t i = 0; i < n; i++) {
        const real *f = (const real *)call->x[0] + i * c, *r = (const real *)call->x[1] + i * c;
        total += 1 - rc_exact_dot(f, r, c) * inverse_length(f, c) * inverse_length(r, c);
    }
    *(real *)call->y = (real)(total / (double)n);
}

/* tmp: the gradient of one unit vector (c) */
void
RC_KERNEL(cosine_loss_backward)(const rc_call *call)
{
    int64_t n = call->xs[0].d[0], c = call->xs[0].d[1];
    double *du = call->tmp;
    for (int64_t i = 0; i < n; i++) {
        const real *f = (const real *)call->x[0] + i * c, *r = (const real *)call->x[1] + i * c;
        double factor = -rc_loss_upstream(call) / (double)n * inverse_length(r, c);
        for (int64_t j = 0; j < c; j++) {
            du[j] = factor * (double)r[j];
        }
        rc_unit_backward(f, rc_exact_length(f, c), TINY, du, c, call->add[0],
                         (real *)call->dx[0] + i * c);
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    (void)a, (void)n_in;
    char first[64], second[64];
    if (xs[0].rank != 2 || !rc_shape_equal(&xs[0], &xs[1])) {
        return rc_fail(err, RC_ARGUMENT, "cosine_loss: expected features and guides of one shape "
                       "with 2 dimensions, got %s and %s", rc_shape_text(&xs[0], first),
                       rc_shape_text(&xs[1], second));
    }
    *y = (rc_shape){1, {1, 1, 1, 1}};
    return RC_OK;
}

static int64_t
tmp_size(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, size_t real_size,
         bool backward, int threads)
{
    (void)a, (void)y, (void)real_size, (void)threads;
    return backward ? xs[0].d[1] * 8 : 0;
}

const rc_op rc_op_cosine_loss = {
    .name = "cosine_loss",
    .min_in = 2,
    .max_in = 2,
    .no_grad = RC_READS(1),
    .infer = infer,
    .reads = rc_reads_both,
    .tmp_size = tmp_size,
    .forward = RC_BOTH(cosine_loss_forward),
    .backward = RC_BOTH(cosine_loss_backward),
};
#endif
