/* Instance normalisation: each image and channel by its own mean and biased variance over the
 * positions, then gamma and beta per channel; the same in training and evaluation.
 *
 * x, y: (n,h,w,c)   gamma, beta: (c)   ws: (2,n,c): mean and 1/sqrt(var + eps). NULL in plans
 * without backward. Gradients as batch_norm, with m = h w. Sums are taken in double. */
#include "ops/real.h"
#include "ops/rules.h"

RC_DECLARE_KERNEL(instance_norm_forward)
RC_DECLARE_KERNEL(instance_norm_backward)

void
RC_KERNEL(instance_norm_forward)(const rc_call *call)
{
    const real *x = call->x[0], *gamma = call->x[1], *beta = call->x[2];
    real *y = call->y, *ws = call->ws;
    int64_t n = call->ys.d[0], c = call->ys.d[1], p = call->ys.d[2] * call->ys.d[3];
    for (int64_t i = 0; i < n * c; i++) {
        int64_t first = i / c * p * c + i % c;
        double sum = 0, square = 0;
        for (int64_t r = 0; r < p; r++) {
            sum += x[first + r * c];
        }
        double middle = sum / (double)p;
        for (int64_t r = 0; r < p; r++) {
            double d = x[first + r * c] - middle;
            square += d * d;
        }
        real mean = (real)middle;
        real inv = (real)(1 / sqrt(square / (double)p + call->attrs->eps));
        if (ws) {
            ws[i] = mean;
            ws[n * c + i] = inv;
        }
        for (int64_t r = 0; r < p; r++) {
            y[first + r * c] = (x[first + r * c] - mean) * (gamma[i % c] * inv) + beta[i % c];
        }
    }
}

void
RC_KERNEL(instance_norm_backward)(const rc_call *call)
{
    const real *x = call->x[0], *gamma = call->x[1], *dy = call->dy, *ws = call->ws;
    real *dx = call->dx[0], *dgamma = call->dx[1], *dbeta = call->dx[2];
    int64_t n = call->ys.d[0], c = call->ys.d[1], p = call->ys.d[2] * call->ys.d[3];
    for (int64_t k = 0; k < c; k++) {
        double all = 0, all_product = 0;
        for (int64_t b = 0; b < n; b++) {
            int64_t first = b * p * c + k;
            real mean = ws[b * c + k], inv = ws[(n + b) * c + k];
            double sum = 0, product = 0;
            for (int64_t r = 0; r < p; r++) {
                int64_t at = first + r * c;
                sum += dy[at];
                product += dx || dgamma ? (double)dy[at] * ((x[at] - mean) * inv) : 0;
            }
            all += sum;
            all_product += product;
            real mean_g = (real)(sum / (double)p), mean_gu = (real)(product / (double)p);
            for (int64_t r = 0; dx && r < p; r++) {
                int64_t at = first + r * c;
                real u = (x[at] - mean) * inv;
                rc_put(&dx[at], gamma[k] * inv * (dy[at] - mean_g - u * mean_gu),
                       call->add[0]);
            }
        }
        if (dgamma) {
            rc_put(&dgamma[k], (real)all_product, call->add[1]);
        }
        if (dbeta) {
            rc_put(&dbeta[k], (real)all, call->add[2]);
        }
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    const char *op = "instance_norm";
    (void)n_in;
    RC_TRY(rc_rule_rank(op, "x", &xs[0], 4, "N x C x H x W", err));
    RC_TRY(rc_rule_not_empty(op, "x", &xs[0], err));
    RC_TRY(rc_rule_vector(op, "weight", &xs[1], xs[0].d[1], err));
    RC_TRY(rc_rule_vector(op, "bias", &xs[2], xs[0].d[1], err));
    if (!(a->eps > 0)) {
        return rc_fail(err, RC_ARGUMENT, "instance_norm: eps: expected above 0, got %g", a->eps);
    }
    *y = xs[0];
    return RC_OK;
}

static uint32_t
reads(const rc_attrs *a, int n_in, const rc_shape *xs, uint32_t wants, bool training)
{
    (void)a, (void)n_in, (void)xs, (void)training;
    return (wants & RC_READS(0) ? RC_READS(0) | RC_READS(1) : 0)
           | (wants & RC_READS(1) ? RC_READS(0) : 0);
}

static int64_t
ws_size(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, size_t real_size)
{
    (void)a, (void)y;
    return 2 * xs[0].d[0] * xs[0].d[1] * (int64_t)real_size;
}

const rc_op rc_op_instance_norm = {
    .name = "instance_norm",
    .min_in = 3,
    .max_in = 3,
    .cheap = true,
    .in_place = true,
    .bwd_in_place = true,
    .infer = infer,
    .reads = reads,
    .ws_size = ws_size,
    .forward = RC_BOTH(instance_norm_forward),
    .backward = RC_BOTH(instance_norm_backward),
};
#endif
