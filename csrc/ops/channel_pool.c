/* Mean or maximum over channels. x: (n,h,w,c)  y: (n,h,w,1), as N x 1 x H x W.
 * Ties and the gradient of a maximum: the lowest channel.
 * ws (maximum): (n,h,w) int32, the channel that won. */
#include "ops/real.h"
#include "ops/rules.h"

RC_DECLARE_KERNEL(channel_pool_forward)
RC_DECLARE_KERNEL(channel_pool_backward)

void
RC_KERNEL(channel_pool_forward)(const rc_call *call)
{
    const real *x = call->x[0];
    real *y = call->y;
    int32_t *ws = call->ws;
    int64_t c = call->xs[0].d[1], positions = rc_shape_count(&call->ys);
    for (int64_t i = 0; i < positions; i++) {
        double sum = 0;
        int64_t won = 0;
        for (int64_t k = 0; k < c; k++) {
            sum += x[i * c + k];
            won = x[i * c + k] > x[i * c + won] ? k : won;
        }
        if (call->attrs->mode == 0) {
            y[i] = (real)(sum / (double)c);
            continue;
        }
        y[i] = x[i * c + won];
        if (ws) {
            ws[i] = (int32_t)won;
        }
    }
}

void
RC_KERNEL(channel_pool_backward)(const rc_call *call)
{
    const real *dy = call->dy;
    real *dx = call->dx[0];
    const int32_t *ws = call->ws;
    int64_t c = call->xs[0].d[1], positions = rc_shape_count(&call->ys);
    for (int64_t i = 0; i < positions; i++) {
        for (int64_t k = 0; k < c; k++) {
            real d = call->attrs->mode == 0 ? dy[i] / (real)c : ws[i] == k ? dy[i] : 0;
            rc_put(&dx[i * c + k], d, call->add[0]);
        }
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    (void)n_in;
    RC_TRY(rc_rule_rank("channel_pool", "x", &xs[0], 4, "N x C x H x W", err));
    RC_TRY(rc_rule_not_empty("channel_pool", "x", &xs[0], err));
    RC_TRY(rc_rule_int("channel_pool", "mode", a->mode, 0, 1, err));
    *y = xs[0];
    y->d[1] = 1;
    return RC_OK;
}

static int64_t
ws_size(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, size_t real_size)
{
    (void)xs, (void)real_size;
    return a->mode == 1 ? rc_shape_count(y) * 4 : 0;
}

const rc_op rc_op_channel_pool = {
    .name = "channel_pool",
    .min_in = 1,
    .max_in = 1,
    .infer = infer,
    .ws_size = ws_size,
    .forward = RC_BOTH(channel_pool_forward),
    .backward = RC_BOTH(channel_pool_backward),
};
#endif
