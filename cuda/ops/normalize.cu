/* Rows of one length (csrc/ops/normalize.c). A warp a row; lengths in double, as cosines stand on
 * them. */
#include "rows.h"

namespace {

template <class T> struct values {
    const T *x;
    T *y;
    int c;
    double eps, scale;
    __device__ void operator()(int row, int lane) const
    {
        int64_t first = static_cast<int64_t>(row) * c;
        double sum = 0;
        for (int k = lane; k < c; k += 32) {
            double v = rc_get(x, first + k);
            sum += v * v;
        }
        double length = sqrt(rc_warp_sum(sum)), factor = scale / (length > eps ? length : eps);
        for (int k = lane; k < c; k += 32) {
            rc_set(y, first + k, static_cast<float>(rc_get(x, first + k) * factor));
        }
    }
};

template <class T> struct gradients {
    const T *x, *dy;
    T *dx;
    int c;
    double eps, scale;
    bool add;
    __device__ void operator()(int row, int lane) const
    {
        int64_t first = static_cast<int64_t>(row) * c;
        double square = 0, dot = 0;
        for (int k = lane; k < c; k += 32) {
            double v = rc_get(x, first + k);
            square += v * v;
            dot += v * rc_get(dy, first + k);
        }
        double length = sqrt(rc_warp_sum(square)), inverse = 1 / (length < eps ? eps : length);
        double along = rc_warp_sum(dot) * inverse * inverse;
        along = length < eps ? 0 : along;
        for (int k = lane; k < c; k += 32) {
            double d = (rc_get(dy, first + k) - rc_get(x, first + k) * along) * inverse;
            rc_put(dx, first + k, static_cast<float>(scale * d), add);
        }
    }
};

double
scale_of(const rc_call *call)
{
    return call->attrs->scale != 0 ? call->attrs->scale : 1;
}

template <class T>
void
forward(const rc_call *call, rc_cuda_stream stream)
{
    rc_rows::warps(stream, call->ys.d[0],
                   values<T>{static_cast<const T *>(call->x[0]), static_cast<T *>(call->y),
                             static_cast<int>(call->ys.d[1]), call->attrs->eps, scale_of(call)});
}

template <class T>
void
backward(const rc_call *call, rc_cuda_stream stream)
{
    rc_rows::warps(stream, call->ys.d[0],
                   gradients<T>{static_cast<const T *>(call->x[0]),
                                static_cast<const T *>(call->dy), static_cast<T *>(call->dx[0]),
                                static_cast<int>(call->ys.d[1]), call->attrs->eps, scale_of(call),
                                call->add[0]});
}

} // namespace

RC_CUDA_LAUNCHER(normalize, forward)
RC_CUDA_LAUNCHER(normalize, backward)
