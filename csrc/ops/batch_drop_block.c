/* Batch drop block (spec/common.md 4, spec/hamr.md): in training one rectangle of
 * round(height_ratio H) x round(width_ratio W) positions (halves to even), the same for the
 * whole batch and all channels, is zeroed; no rescaling. Evaluation: identity.
 *
 * x, y: (n,h,w,c). Its row and column are drawn with row 0 of the batch, slots 0 and 1; drawn
 * again in backward. */
#include "base/random.h"
#include "ops/real.h"
#include "ops/rules.h"

RC_DECLARE_KERNEL(batch_drop_block_forward)
RC_DECLARE_KERNEL(batch_drop_block_backward)

static void
apply(const rc_call *call, const real *from, real *to, bool add)
{
    int64_t c = call->ys.d[1], h = call->ys.d[2], w = call->ys.d[3];
    int64_t top = 0, left = 0, rows = 0, columns = 0;
    if (call->training) {
        uint64_t stream = rc_random_stream(*call->seed, RC_RANDOM_DROP, *call->step,
                                           (uint64_t)call->node, 0);
        rows = (int64_t)nearbyint(call->attrs->height_ratio * (double)h);
        columns = (int64_t)nearbyint(call->attrs->width_ratio * (double)w);
        top = rc_below(rc_random_step(stream, 0), h - rows + 1);
        left = rc_below(rc_random_step(stream, 1), w - columns + 1);
    }
    for (int64_t i = 0; i < call->ys.d[0] * h * w; i++) {
        int64_t y = i / w % h - top, x = i % w - left;
        bool inside = y >= 0 && y < rows && x >= 0 && x < columns;
        for (int64_t k = 0; k < c; k++) {
            rc_put(&to[i * c + k], inside ? 0 : from[i * c + k], add);
        }
    }
}

void
RC_KERNEL(batch_drop_block_forward)(const rc_call *call)
{
    apply(call, call->x[0], call->y, false);
}

void
RC_KERNEL(batch_drop_block_backward)(const rc_call *call)
{
    apply(call, call->dy, call->dx[0], call->add[0]);
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    const char *op = "batch_drop_block";
    (void)n_in;
    RC_TRY(rc_rule_rank(op, "x", &xs[0], 4, "N x C x H x W", err));
    RC_TRY(rc_rule_not_empty(op, "x", &xs[0], err));
    if (!(a->height_ratio >= 0 && a->height_ratio <= 1 && a->width_ratio >= 0
          && a->width_ratio <= 1)) {
        return rc_fail(err, RC_ARGUMENT,
                       "batch_drop_block: ratios: expected 0 to 1, got %g and %g",
                       a->height_ratio, a->width_ratio);
    }
    *y = xs[0];
    return RC_OK;
}

const rc_op rc_op_batch_drop_block = {
    .name = "batch_drop_block",
    .min_in = 1,
    .max_in = 1,
    .cheap = true,
    .in_place = true,
    .bwd_in_place = true,
    .infer = infer,
    .forward = RC_BOTH(batch_drop_block_forward),
    .backward = RC_BOTH(batch_drop_block_backward),
};
#endif
