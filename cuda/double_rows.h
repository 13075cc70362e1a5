/* What losses and cosines share: rows in double (csrc/ops/exact.h), few as they are. */
#ifndef RC_CUDA_DOUBLE_ROWS_H
#define RC_CUDA_DOUBLE_ROWS_H

#include "rows.h"

namespace rc_double {

/* By the lanes of a warp together, known to all: <a, b>, and |s a - t b| squared. */
template <class T, class U>
static __device__ __forceinline__ double
dot(const T *a, const U *b, int count, int lane)
{
    double sum = 0;
    for (int i = lane; i < count; i += 32) {
        sum += static_cast<double>(rc_get(a, i)) * rc_get(b, i);
    }
    return rc_warp_sum(sum);
}

template <class T, class U>
static __device__ __forceinline__ double
distance2(const T *a, double s, const U *b, double t, int count, int lane)
{
    double sum = 0;
    for (int i = lane; i < count; i += 32) {
        double d = s * rc_get(a, i) - t * rc_get(b, i);
        sum += d * d;
    }
    return rc_warp_sum(sum);
}

/* Lengths of rows, x: (n,c) -> (n). */
template <class T> struct lengths {
    const T *x;
    double *to;
    int c;
    __device__ void operator()(int row, int lane) const
    {
        const T *from = x + static_cast<int64_t>(row) * c;
        double length = sqrt(dot(from, from, c, lane));
        if (lane == 0) {
            to[row] = length;
        }
    }
};

/* A block: gradient through u = x / max(|x|, eps) (rc_unit_backward); du: (c), shared; s: 33. */
template <class T, class D, class S>
static __device__ __forceinline__ void
unit_backward(const T *x, double length, double eps, D du, S s, int c, bool add, T *to)
{
    double inverse = 1 / (length < eps ? eps : length), along = 0;
    for (int l = threadIdx.x; l < c; l += blockDim.x) {
        along += rc_get(x, l) * inverse * du[l];
    }
    along = rc_block_sum(along, s);
    along = length < eps ? 0 : along;
    for (int l = threadIdx.x; l < c; l += blockDim.x) {
        rc_put(to, l, static_cast<float>((du[l] - rc_get(x, l) * inverse * along) * inverse), add);
    }
}

static __global__ void __launch_bounds__(RC_BLOCK)
mean_kernel(const double *parts, int count, double divisor, float *y)
{
    RC_SHARED(double, s, 33);
    double sum = rc_parts_sum<double>(parts, count, s);
    if (threadIdx.x == 0) {
        *y = static_cast<float>(sum / divisor);
    }
}

/* Those of the rows of x[0], whose last dimension (of two or three) is a row, at the start of tmp. */
template <class T>
static inline const double *
lengths_of(const rc_call *call, rc_cuda_stream stream)
{
    const rc_shape *s = &call->xs[0];
    int64_t width = s->d[s->rank - 1];
    double *to = static_cast<double *>(call->tmp);
    rc_rows::warps(stream, rc_shape_count(s) / width,
                   lengths<T>{static_cast<const T *>(call->x[0]), to, static_cast<int>(width)});
    return to;
}

/* *y = sum of parts / divisor. */
static inline void
mean(rc_cuda_stream stream, const double *parts, int64_t count, double divisor, void *y)
{
    rc_launch(mean_kernel, dim3(1), dim3(RC_BLOCK), 0, stream, parts, static_cast<int>(count),
              divisor, static_cast<float *>(y));
}

} // namespace rc_double

#endif
