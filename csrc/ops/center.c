/* Centre loss (spec/common.md 1): L = (1/n) sum over all n x k of clamp(mask D^2, 1e-12, 1e12),
 * D^2 = |x_i - c_label|^2 where the label is k's and 0 elsewhere, so a row's other k-1 classes
 * add 1e-12 each. x: (n,c)  labels: (n)  centers: (k,c). Gradient 2(x_i - c)/n to x_i, the
 * opposite to the centre, zero where the clamp holds. */
#include "ops/exact.h"
#include "ops/loss.h"

RC_DECLARE_KERNEL(center_forward)
RC_DECLARE_KERNEL(center_backward)

#define LEAST 1e-12
#define MOST 1e12

static double
square_of(const rc_call *call, int64_t i)
{
    int64_t c = call->xs[0].d[1], label = ((const int64_t *)call->x[1])[i];
    return rc_exact_distance2((const real *)call->x[0] + i * c, 1,
                              (const real *)call->x[2] + label * c, 1, c);
}

void
RC_KERNEL(center_forward)(const rc_call *call)
{
    int64_t n = call->xs[0].d[0], k = call->xs[2].d[0];
    double total = 0;
    for (int64_t i = 0; i < n; i++) {
        double square = square_of(call, i);
        total += (square < LEAST ? LEAST : square > MOST ? MOST : square);
        total += (double)(k - 1) * LEAST;
    }
    *(real *)call->y = (real)(total / (double)n);
}

void
RC_KERNEL(center_backward)(const rc_call *call)
{
    int64_t n = call->xs[0].d[0], c = call->xs[0].d[1];
    const int64_t *labels = call->x[1];
    real *dx = call->dx[0], *dc = call->dx[2];
    double factor = 2 * rc_loss_upstream(call) / (double)n;
    if (dc && !call->add[2]) {
        memset(dc, 0, (size_t)rc_shape_count(&call->xs[2]) * sizeof(real));
    }
    for (int64_t i = 0; i < n; i++) {
        const real *x = (const real *)call->x[0] + i * c;
        const real *center = (const real *)call->x[2] + labels[i] * c;
        double square = square_of(call, i), f = square < LEAST || square > MOST ? 0 : factor;
        for (int64_t j = 0; j < c; j++) {
            real d = (real)(f * ((double)x[j] - (double)center[j]));
            if (dx) {
                rc_put(&dx[i * c + j], d, call->add[0]);
            }
            if (dc) {
                dc[labels[i] * c + j] -= d;
            }
        }
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    (void)a, (void)n_in;
    char got[64];
    RC_TRY(rc_loss_infer("center", "embeddings", xs, y, err));
    if (xs[2].rank != 2 || xs[2].d[1] != xs[0].d[1]) {
        return rc_fail(err, RC_ARGUMENT, "center: centers: expected classes x %lld, got %s",
                       (long long)xs[0].d[1], rc_shape_text(&xs[2], got));
    }
    return RC_OK;
}

static uint32_t
reads(const rc_attrs *a, int n_in, const rc_shape *xs, uint32_t wants, bool training)
{
    (void)a, (void)n_in, (void)xs, (void)wants, (void)training;
    return RC_READS(0) | RC_READS(1) | RC_READS(2);
}

const rc_op rc_op_center = {
    .name = "center",
    .min_in = 3,
    .max_in = 3,
    .no_grad = RC_READS(1),
    .infer = infer,
    .reads = reads,
    .forward = RC_BOTH(center_forward),
    .backward = RC_BOTH(center_backward),
};
#endif
