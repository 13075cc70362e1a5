/* Softmax cross entropy with label smoothing (spec/common.md 1). logits: (n,k)  labels: (n).
 *
 * Targets t: mode 0 ('all'): eps/k on every class and 1 - eps more on the true one; mode 1
 * ('others'): 1 - eps on the true class, eps/(k-1) on each other one. In both they sum to 1, so
 *     loss of a row = log sum exp(z) - sum t z,      its gradient = softmax(z) - t.
 * L is the mean over the rows; in mode 1 the sum over them divided by the number of rows whose
 * loss is not zero (at least 1), where zero means that softmax is exactly 1 in `real`.
 * ws: a double for the divisor, then for each row its maximum and sum of exponentials. */
#include "ops/exact.h"
#include "ops/loss.h"

RC_DECLARE_KERNEL(cross_entropy_forward)
RC_DECLARE_KERNEL(cross_entropy_backward)

/* Target on a wrong class, and what the true class has more. */
typedef struct targets {
    double base, more;
} targets;

static targets
targets_of(const rc_call *call)
{
    double eps = call->attrs->smoothing, k = (double)call->xs[0].d[1];
    targets t = {eps / k, 1 - eps};
    if (call->attrs->mode == 1) {
        t.base = k > 1 ? eps / (k - 1) : 0;
        t.more = 1 - eps - t.base;
    }
    return t;
}

void
RC_KERNEL(cross_entropy_forward)(const rc_call *call)
{
    int64_t n = call->xs[0].d[0], k = call->xs[0].d[1], counted = 0;
    const int64_t *labels = call->x[1];
    targets t = targets_of(call);
    double *ws = call->ws, total = 0;
    for (int64_t i = 0; i < n; i++) {
        const real *z = (const real *)call->x[0] + i * k;
        real top = z[0];
        for (int64_t j = 1; j < k; j++) {
            top = z[j] > top ? z[j] : top;
        }
        double sum = 0, below = 0; /* below: sum of z - top */
        for (int64_t j = 0; j < k; j++) {
            double v = (double)z[j] - (double)top;
            sum += exp(v);
            below += v;
        }
        double at_label = (double)z[labels[i]] - (double)top;
        total += log(sum) - t.base * below - t.more * at_label;
        counted += !(call->attrs->smoothing == 0 && at_label == 0 && (real)sum == 1);
        if (ws) {
            ws[1 + 2 * i] = (double)top;
            ws[2 + 2 * i] = sum;
        }
    }
    double divisor = (double)(call->attrs->mode != 1 ? n : counted > 0 ? counted : 1);
    if (ws) {
        ws[0] = divisor;
    }
    *(real *)call->y = (real)(total / divisor);
}

void
RC_KERNEL(cross_entropy_backward)(const rc_call *call)
{
    int64_t n = call->xs[0].d[0], k = call->xs[0].d[1];
    const int64_t *labels = call->x[1];
    targets t = targets_of(call);
    const double *ws = call->ws;
    double factor = rc_loss_upstream(call) / ws[0];
    for (int64_t i = 0; i < n; i++) {
        const real *z = (const real *)call->x[0] + i * k;
        real *dz = (real *)call->dx[0] + i * k;
        double top = ws[1 + 2 * i], sum = ws[2 + 2 * i];
        for (int64_t j = 0; j < k; j++) {
            double p = exp((double)z[j] - top) / sum;
            double d = p - t.base - (j == labels[i] ? t.more : 0);
            rc_put(&dz[j], (real)(factor * d), call->add[0]);
        }
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    (void)n_in;
    RC_TRY(rc_loss_infer("cross_entropy", "logits", xs, y, err));
    if (xs[0].d[1] < 1 || (a->mode == 1 && xs[0].d[1] < 2)) {
        return rc_fail(err, RC_ARGUMENT, "cross_entropy: logits: expected at least %d classes, "
                       "got %lld", a->mode == 1 ? 2 : 1, (long long)xs[0].d[1]);
    }
    if (!(a->smoothing >= 0 && a->smoothing <= 1)) {
        return rc_fail(err, RC_ARGUMENT, "cross_entropy: smoothing: expected 0..1, got %g",
                       a->smoothing);
    }
    if (a->mode != 0 && a->mode != 1) {
        return rc_fail(err, RC_ARGUMENT, "cross_entropy: mode: expected 0 (spread 'all') or 1 "
                       "('others'), got %lld", (long long)a->mode);
    }
    return RC_OK;
}

static int64_t
ws_size(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, size_t real_size)
{
    (void)a, (void)y, (void)real_size;
    return (1 + 2 * xs[0].d[0]) * 8;
}

const rc_op rc_op_cross_entropy = {
    .name = "cross_entropy",
    .min_in = 2,
    .max_in = 2,
    .no_grad = RC_READS(1),
    .infer = infer,
    .reads = rc_reads_both,
    .ws_size = ws_size,
    .forward = RC_BOTH(cross_entropy_forward),
    .backward = RC_BOTH(cross_entropy_backward),
};
#endif
