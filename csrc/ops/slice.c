/* Channels [from, to) of x: (n,h,w,c) or (n,c). Backward: zero for the others. */
#include "ops/real.h"
#include "ops/rules.h"

RC_DECLARE_KERNEL(slice_forward)
RC_DECLARE_KERNEL(slice_backward)

void
RC_KERNEL(slice_forward)(const rc_call *call)
{
    const real *x = call->x[0];
    real *y = call->y;
    int64_t c = call->xs[0].d[1], width = call->ys.d[1];
    int64_t rows = rc_shape_count(&call->ys) / width;
    for (int64_t r = 0; r < rows; r++) {
        memcpy(y + r * width, x + r * c + call->attrs->from, (size_t)width * sizeof(real));
    }
}

void
RC_KERNEL(slice_backward)(const rc_call *call)
{
    const real *dy = call->dy;
    real *dx = call->dx[0];
    int64_t c = call->xs[0].d[1], width = call->ys.d[1], from = call->attrs->from;
    int64_t rows = rc_shape_count(&call->ys) / width;
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t k = 0; k < c; k++) {
            bool inside = k >= from && k < from + width;
            rc_put(&dx[r * c + k], inside ? dy[r * width + k - from] : 0, call->add[0]);
        }
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    char text[64];
    (void)n_in;
    if (xs[0].rank != 2 && xs[0].rank != 4) {
        return rc_fail(err, RC_ARGUMENT, "slice: x: expected N x C or N x C x H x W, got %s",
                       rc_shape_text(&xs[0], text));
    }
    RC_TRY(rc_rule_not_empty("slice", "x", &xs[0], err));
    if (a->from < 0 || a->from >= a->to || a->to > xs[0].d[1]) {
        return rc_fail(err, RC_ARGUMENT,
                       "slice: channels [%lld, %lld) do not lie within 0 to %lld",
                       (long long)a->from, (long long)a->to, (long long)xs[0].d[1]);
    }
    *y = xs[0];
    y->d[1] = a->to - a->from;
    return RC_OK;
}

const rc_op rc_op_slice = {
    .name = "slice",
    .min_in = 1,
    .max_in = 1,
    .cheap = true,
    .infer = infer,
    .forward = RC_BOTH(slice_forward),
    .backward = RC_BOTH(slice_backward),
};
#endif
