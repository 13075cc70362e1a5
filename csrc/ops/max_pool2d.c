/* Maximum over square windows; places outside x never win. Ties and the gradient: the first
 * place in raster order. x: (n,h,w,c)  y: (n,oh,ow,c)
 * ws: (n,oh,ow,c) bytes, the tap ky*kernel + kx that won (hence kernel <= 16). */
#include "ops/real.h"
#include "ops/rules.h"

RC_DECLARE_KERNEL(max_pool2d_forward)
RC_DECLARE_KERNEL(max_pool2d_backward)

void
RC_KERNEL(max_pool2d_forward)(const rc_call *call)
{
    const real *x = call->x[0];
    real *y = call->y;
    uint8_t *ws = call->ws;
    int64_t h = call->xs[0].d[2], w = call->xs[0].d[3], c = call->ys.d[1];
    int64_t oh = call->ys.d[2], ow = call->ys.d[3], kernel = call->attrs->kernel;
    for (int64_t i = 0; i < call->ys.d[0] * oh * ow; i++) {
        int64_t n = i / (oh * ow);
        int64_t top = i / ow % oh * call->attrs->stride - call->attrs->pad;
        int64_t left = i % ow * call->attrs->stride - call->attrs->pad;
        for (int64_t k = 0; k < c; k++) {
            real best = 0;
            int64_t won = -1;
            for (int64_t tap = 0; tap < kernel * kernel; tap++) {
                int64_t iy = top + tap / kernel, ix = left + tap % kernel;
                if (iy < 0 || iy >= h || ix < 0 || ix >= w) {
                    continue;
                }
                real v = x[((n * h + iy) * w + ix) * c + k];
                if (won < 0 || v > best) {
                    best = v;
                    won = tap;
                }
            }
            y[i * c + k] = best;
            if (ws) {
                ws[i * c + k] = (uint8_t)won;
            }
        }
    }
}

/* Gathers: windows may overlap, and each place of dx is written once. */
void
RC_KERNEL(max_pool2d_backward)(const rc_call *call)
{
    const real *dy = call->dy;
    real *dx = call->dx[0];
    const uint8_t *ws = call->ws;
    int64_t h = call->xs[0].d[2], w = call->xs[0].d[3], c = call->ys.d[1];
    int64_t oh = call->ys.d[2], ow = call->ys.d[3];
    int64_t kernel = call->attrs->kernel, stride = call->attrs->stride, pad = call->attrs->pad;
    for (int64_t i = 0; i < call->xs[0].d[0] * h * w; i++) {
        int64_t n = i / (h * w), iy = i / w % h + pad, ix = i % w + pad;
        for (int64_t k = 0; k < c; k++) {
            double sum = 0;
            for (int64_t tap = 0; tap < kernel * kernel; tap++) {
                int64_t dy_row = iy - tap / kernel, dy_column = ix - tap % kernel;
                if (dy_row < 0 || dy_column < 0 || dy_row % stride || dy_column % stride) {
                    continue;
                }
                int64_t oy = dy_row / stride, ox = dy_column / stride;
                int64_t at = ((n * oh + oy) * ow + ox) * c + k;
                if (oy < oh && ox < ow && ws[at] == tap) {
                    sum += dy[at];
                }
            }
            rc_put(&dx[i * c + k], (real)sum, call->add[0]);
        }
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    const char *op = "max_pool2d";
    char text[64];
    (void)n_in;
    RC_TRY(rc_rule_rank(op, "x", &xs[0], 4, "N x C x H x W", err));
    RC_TRY(rc_rule_not_empty(op, "x", &xs[0], err));
    RC_TRY(rc_rule_int(op, "kernel", a->kernel, 1, 16, err));
    RC_TRY(rc_rule_int(op, "stride", a->stride, 1, INT32_MAX, err));
    RC_TRY(rc_rule_int(op, "pad", a->pad, 0, a->kernel / 2, err));
    *y = xs[0];
    for (int i = 2; i < 4; i++) {
        int64_t room = xs[0].d[i] + 2 * a->pad - a->kernel;
        if (room < 0) {
            return rc_fail(err, RC_ARGUMENT,
                           "max_pool2d: x: %s with padding %lld is smaller than the kernel %lld",
                           rc_shape_text(&xs[0], text), (long long)a->pad,
                           (long long)a->kernel);
        }
        y->d[i] = room / a->stride + 1;
    }
    return RC_OK;
}

static int64_t
ws_size(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, size_t real_size)
{
    (void)a, (void)xs, (void)real_size;
    return rc_shape_count(y);
}

const rc_op rc_op_max_pool2d = {
    .name = "max_pool2d",
    .min_in = 1,
    .max_in = 1,
    .infer = infer,
    .ws_size = ws_size,
    .forward = RC_BOTH(max_pool2d_forward),
    .backward = RC_BOTH(max_pool2d_backward),
};
#endif
