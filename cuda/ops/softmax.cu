/* Softmax of each row, of -x where `negate` (csrc/ops/softmax.c). A warp a row, which is read three
 * times: rows of these networks (128 to 2048 values) stay in the first cache. */
#include "rows.h"

namespace {

template <class T> struct values {
    const T *x;
    T *y;
    int c;
    float sign;
    __device__ void operator()(int row, int lane) const
    {
        int64_t first = static_cast<int64_t>(row) * c;
        float top = -INFINITY, sum = 0;
        for (int k = lane; k < c; k += 32) {
            top = fmaxf(top, sign * rc_get(x, first + k));
        }
        top = rc_warp_max(top);
        for (int k = lane; k < c; k += 32) {
            sum += expf(sign * rc_get(x, first + k) - top);
        }
        sum = rc_warp_sum(sum);
        for (int k = lane; k < c; k += 32) {
            rc_set(y, first + k, expf(sign * rc_get(x, first + k) - top) / sum);
        }
    }
};

template <class T> struct gradients {
    const T *y, *dy;
    T *dx;
    int c;
    float sign;
    bool add;
    __device__ void operator()(int row, int lane) const
    {
        int64_t first = static_cast<int64_t>(row) * c;
        float mean = 0;
        for (int k = lane; k < c; k += 32) {
            mean += rc_get(y, first + k) * rc_get(dy, first + k);
        }
        mean = rc_warp_sum(mean);
        for (int k = lane; k < c; k += 32) {
            float d = sign * rc_get(y, first + k) * (rc_get(dy, first + k) - mean);
            rc_put(dx, first + k, d, add);
        }
    }
};

template <class T>
void
forward(const rc_call *call, rc_cuda_stream stream)
{
    rc_rows::warps(stream, call->ys.d[0] * call->ys.d[1],
                   values<T>{static_cast<const T *>(call->x[0]), static_cast<T *>(call->y),
                             static_cast<int>(call->ys.d[2]), call->attrs->negate ? -1.f : 1.f});
}

template <class T>
void
backward(const rc_call *call, rc_cuda_stream stream)
{
    rc_rows::warps(stream, call->ys.d[0] * call->ys.d[1],
                   gradients<T>{static_cast<const T *>(call->y), static_cast<const T *>(call->dy),
                                static_cast<T *>(call->dx[0]), static_cast<int>(call->ys.d[2]),
                                call->attrs->negate ? -1.f : 1.f, call->add[0]});
}

} // namespace

RC_CUDA_LAUNCHER(softmax, forward)
RC_CUDA_LAUNCHER(softmax, backward)
