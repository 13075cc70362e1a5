/* Concatenation over channels: y = [x0, x1, …]. x_i: (n,h,w,c_i) or (n,c_i). */
#include "ops/real.h"
#include "ops/rules.h"

RC_DECLARE_KERNEL(concat_forward)
RC_DECLARE_KERNEL(concat_backward)

void
RC_KERNEL(concat_forward)(const rc_call *call)
{
    real *y = call->y;
    int64_t c = call->ys.d[1], rows = rc_shape_count(&call->ys) / c, at = 0;
    for (int i = 0; i < call->n_in; i++) {
        int64_t width = call->xs[i].d[1];
        for (int64_t r = 0; r < rows; r++) {
            memcpy(y + r * c + at, (const real *)call->x[i] + r * width,
                   (size_t)width * sizeof(real));
        }
        at += width;
    }
}

void
RC_KERNEL(concat_backward)(const rc_call *call)
{
    const real *dy = call->dy;
    int64_t c = call->ys.d[1], rows = rc_shape_count(&call->ys) / c, at = 0;
    for (int i = 0; i < call->n_in; i++) {
        real *dx = call->dx[i];
        int64_t width = call->xs[i].d[1];
        for (int64_t r = 0; dx && r < rows; r++) {
            for (int64_t k = 0; k < width; k++) {
                rc_put(&dx[r * width + k], dy[r * c + at + k], call->add[i]);
            }
        }
        at += width;
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    char text[64], first[64];
    (void)a;
    if (xs[0].rank != 2 && xs[0].rank != 4) {
        return rc_fail(err, RC_ARGUMENT,
                       "concat: input 0: expected N x C or N x C x H x W, got %s",
                       rc_shape_text(&xs[0], text));
    }
    *y = xs[0];
    y->d[1] = 0;
    for (int i = 0; i < n_in; i++) {
        rc_shape like = xs[0];
        like.d[1] = xs[i].d[1];
        if (!rc_shape_equal(&like, &xs[i])) {
            return rc_fail(err, RC_ARGUMENT,
                           "concat: input %d: expected %s but for the channels, got %s", i,
                           rc_shape_text(&xs[0], first), rc_shape_text(&xs[i], text));
        }
        RC_TRY(rc_rule_not_empty("concat", "an input", &xs[i], err));
        y->d[1] += xs[i].d[1];
    }
    return RC_OK;
}

const rc_op rc_op_concat = {
    .name = "concat",
    .min_in = 1,
    .max_in = RC_MAX_IN,
    .cheap = true,
    .infer = infer,
    .forward = RC_BOTH(concat_forward),
    .backward = RC_BOTH(concat_backward),
};
#endif
