/* Circle loss, class-level form (spec/common.md 1): logits for a cross entropy. x: (n,k), cosines
 * times the scale g, labels: (n), margin m -> y: (n,k). With s = x/g:
 *     y = max(0, 1+m-s) (x - g(1-m)) on the true class, max(0, s+m) (x - g m) elsewhere
 * The max factors are detached, so dx = factor * dy. */
#include "ops/real.h"
#include "ops/rules.h"

RC_DECLARE_KERNEL(circle_logits_forward)
RC_DECLARE_KERNEL(circle_logits_backward)

static double
factor_of(const rc_attrs *at, bool positive, real x)
{
    double s = (double)x / at->scale;
    double alpha = positive ? 1 + at->margin - s : s + at->margin;
    return alpha > 0 ? alpha : 0;
}

void
RC_KERNEL(circle_logits_forward)(const rc_call *call)
{
    const rc_attrs *at = call->attrs;
    int64_t n = call->ys.d[0], k = call->ys.d[1];
    const real *x = call->x[0];
    const int64_t *labels = call->x[1];
    for (int64_t i = 0; i < n * k; i++) {
        bool positive = labels[i / k] == i % k;
        double middle = at->scale * (positive ? 1 - at->margin : at->margin);
        ((real *)call->y)[i] = (real)(factor_of(at, positive, x[i]) * ((double)x[i] - middle));
    }
}

void
RC_KERNEL(circle_logits_backward)(const rc_call *call)
{
    int64_t n = call->ys.d[0], k = call->ys.d[1];
    const real *x = call->x[0], *dy = call->dy;
    const int64_t *labels = call->x[1];
    for (int64_t i = 0; i < n * k; i++) {
        double factor = factor_of(call->attrs, labels[i / k] == i % k, x[i]);
        rc_put((real *)call->dx[0] + i, (real)(factor * (double)dy[i]), call->add[0]);
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    char got[64];
    (void)n_in;
    RC_TRY(rc_rule_rank("circle_logits", "cosines", &xs[0], 2, "N x classes", err));
    if (xs[1].rank != 1 || xs[1].d[0] != xs[0].d[0]) {
        return rc_fail(err, RC_ARGUMENT, "circle_logits: labels: expected %lld, one an image, got "
                       "%s", (long long)xs[0].d[0], rc_shape_text(&xs[1], got));
    }
    if (!(a->scale > 0 && isfinite(a->scale)) || !isfinite(a->margin)) {
        return rc_fail(err, RC_ARGUMENT, "circle_logits: expected a finite margin and a scale "
                       "above 0, got margin %g and scale %g", a->margin, a->scale);
    }
    *y = xs[0];
    return RC_OK;
}

const rc_op rc_op_circle_logits = {
    .name = "circle_logits",
    .min_in = 2,
    .max_in = 2,
    .no_grad = RC_READS(1),
    .in_place = true,
    .bwd_in_place = true,
    .infer = infer,
    .reads = rc_reads_both,
    .forward = RC_BOTH(circle_logits_forward),
    .backward = RC_BOTH(circle_logits_backward),
};
#endif
