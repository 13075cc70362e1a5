/* Mean over square windows without padding. x: (n,h,w,c)  y: (n,oh,ow,c) */
#include "ops/real.h"
#include "ops/rules.h"

RC_DECLARE_KERNEL(avg_pool2d_forward)
RC_DECLARE_KERNEL(avg_pool2d_backward)

void
RC_KERNEL(avg_pool2d_forward)(const rc_call *call)
{
    const real *x = call->x[0];
    real *y = call->y;
    int64_t h = call->xs[0].d[2], w = call->xs[0].d[3], c = call->ys.d[1];
    int64_t oh = call->ys.d[2], ow = call->ys.d[3];
    int64_t kernel = call->attrs->kernel, stride = call->attrs->stride;
    for (int64_t i = 0; i < call->ys.d[0] * oh * ow; i++) {
        int64_t n = i / (oh * ow), top = i / ow % oh * stride, left = i % ow * stride;
        for (int64_t k = 0; k < c; k++) {
            double sum = 0;
            for (int64_t tap = 0; tap < kernel * kernel; tap++) {
                sum += x[((n * h + top + tap / kernel) * w + left + tap % kernel) * c + k];
            }
            y[i * c + k] = (real)(sum / (double)(kernel * kernel));
        }
    }
}

void
RC_KERNEL(avg_pool2d_backward)(const rc_call *call)
{
    const real *dy = call->dy;
    real *dx = call->dx[0];
    int64_t h = call->xs[0].d[2], w = call->xs[0].d[3], c = call->ys.d[1];
    int64_t oh = call->ys.d[2], ow = call->ys.d[3];
    int64_t kernel = call->attrs->kernel, stride = call->attrs->stride;
    for (int64_t i = 0; i < call->xs[0].d[0] * h * w; i++) {
        int64_t n = i / (h * w), iy = i / w % h, ix = i % w;
        for (int64_t k = 0; k < c; k++) {
            double sum = 0;
            for (int64_t tap = 0; tap < kernel * kernel; tap++) {
                int64_t row = iy - tap / kernel, column = ix - tap % kernel;
                if (row < 0 || column < 0 || row % stride || column % stride
                    || row / stride >= oh || column / stride >= ow) {
                    continue;
                }
                sum += dy[((n * oh + row / stride) * ow + column / stride) * c + k];
            }
            rc_put(&dx[i * c + k], (real)(sum / (double)(kernel * kernel)), call->add[0]);
        }
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    const char *op = "avg_pool2d";
    char text[64];
    (void)n_in;
    RC_TRY(rc_rule_rank(op, "x", &xs[0], 4, "N x C x H x W", err));
    RC_TRY(rc_rule_not_empty(op, "x", &xs[0], err));
    RC_TRY(rc_rule_int(op, "kernel", a->kernel, 1, INT32_MAX, err));
    RC_TRY(rc_rule_int(op, "stride", a->stride, 1, INT32_MAX, err));
    *y = xs[0];
    for (int i = 2; i < 4; i++) {
        int64_t room = xs[0].d[i] - a->kernel;
        if (room < 0) {
            return rc_fail(err, RC_ARGUMENT, "avg_pool2d: x: %s is smaller than the kernel %lld",
                           rc_shape_text(&xs[0], text), (long long)a->kernel);
        }
        y->d[i] = room / a->stride + 1;
    }
    return RC_OK;
}

const rc_op rc_op_avg_pool2d = {
    .name = "avg_pool2d",
    .min_in = 1,
    .max_in = 1,
    .infer = infer,
    .forward = RC_BOTH(avg_pool2d_forward),
    .backward = RC_BOTH(avg_pool2d_backward),
};
#endif
