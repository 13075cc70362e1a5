/* DropBlock (spec/common.md 4): in training, seeds fall on each place of each channel where a
 * b x b block fits, with probability q/b^2 * HW/((H-b+1)(W-b+1)); a seed zeroes the block whose
 * top left corner it is; the rest is scaled by count/kept over the whole batch (0 when nothing
 * is kept). Evaluation: identity.
 *
 * x, y: (n,h,w,c)   random slot of a seed: its element of the row, c*H*W + y*W + x.
 * ws: one double, the scale, then (n,h,w,c) bytes: 1 where kept. */
#include "base/random.h"
#include "ops/real.h"
#include "ops/rules.h"

RC_DECLARE_KERNEL(drop_block_forward)
RC_DECLARE_KERNEL(drop_block_backward)

static void
draw(const rc_call *call, double *scale, uint8_t *keep)
{
    int64_t c = call->ys.d[1], h = call->ys.d[2], w = call->ys.d[3], b = call->attrs->kernel;
    int64_t count = rc_shape_count(&call->ys), places = (h - b + 1) * (w - b + 1), kept = 0;
    double chance = call->attrs->p / (double)(b * b) * (double)(h * w) / (double)places;
    memset(keep, 1, (size_t)count);
    for (int64_t n = 0; n < call->ys.d[0]; n++) {
        uint64_t stream = rc_random_stream(*call->seed, RC_RANDOM_DROP, *call->step,
                                           (uint64_t)call->node, (uint64_t)n);
        for (int64_t i = 0; i < c * places; i++) {
            int64_t k = i / places, top = i % places / (w - b + 1), left = i % (w - b + 1);
            uint64_t slot = (uint64_t)((k * h + top) * w + left);
            if (rc_uniform(rc_random_step(stream, slot)) >= chance) {
                continue;
            }
            for (int64_t j = 0; j < b * b; j++) {
                keep[((n * h + top + j / b) * w + left + j % b) * c + k] = 0;
            }
        }
    }
    for (int64_t i = 0; i < count; i++) {
        kept += keep[i];
    }
    *scale = kept ? (double)count / (double)kept : 0;
}

static void
apply(const rc_call *call, const real *from, real *to, bool add)
{
    int64_t count = rc_shape_count(&call->ys);
    if (!call->training) {
        for (int64_t i = 0; i < count; i++) {
            rc_put(&to[i], from[i], add);
        }
        return;
    }
    const double *ws = call->ws;
    const uint8_t *keep = (const uint8_t *)(ws + 1);
    for (int64_t i = 0; i < count; i++) {
        rc_put(&to[i], keep[i] ? from[i] * (real)ws[0] : 0, add);
    }
}

void
RC_KERNEL(drop_block_forward)(const rc_call *call)
{
    if (call->training && !call->again) {
        double *ws = call->ws;
        draw(call, ws, (uint8_t *)(ws + 1));
    }
    apply(call, call->x[0], call->y, false);
}

void
RC_KERNEL(drop_block_backward)(const rc_call *call)
{
    apply(call, call->dy, call->dx[0], call->add[0]);
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    const char *op = "drop_block";
    char text[64];
    (void)n_in;
    RC_TRY(rc_rule_rank(op, "x", &xs[0], 4, "N x C x H x W", err));
    RC_TRY(rc_rule_not_empty(op, "x", &xs[0], err));
    if (!(a->p >= 0 && a->p < 1)) {
        return rc_fail(err, RC_ARGUMENT, "drop_block: p: expected 0 <= p < 1, got %g", a->p);
    }
    RC_TRY(rc_rule_int(op, "block", a->kernel, 1, INT32_MAX, err));
    if (a->kernel > xs[0].d[2] || a->kernel > xs[0].d[3]) {
        return rc_fail(err, RC_ARGUMENT, "drop_block: block: %lld does not fit into %s",
                       (long long)a->kernel, rc_shape_text(&xs[0], text));
    }
    *y = xs[0];
    return RC_OK;
}

static int64_t
ws_size(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, size_t real_size)
{
    (void)a, (void)xs, (void)real_size;
    return 8 + rc_shape_count(y);
}

const rc_op rc_op_drop_block = {
    .name = "drop_block",
    .min_in = 1,
    .max_in = 1,
    .cheap = true,
    .in_place = true,
    .bwd_in_place = true,
    .infer = infer,
    .ws_size = ws_size,
    .forward = RC_BOTH(drop_block_forward),
    .backward = RC_BOTH(drop_block_backward),
};
#endif
