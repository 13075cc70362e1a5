/* Pairwise circle loss (csrc/ops/circle.c; ws: ds, (n,n), the loss's gradient in each cosine). A
 * block an anchor, a warp a cosine; everything in double as there. */
#include "double_rows.h"

namespace {

constexpr double TINY = 1e-12;

__device__ __forceinline__ double
inverse(double length)
{
    return 1 / (length < TINY ? TINY : length);
}

struct rule {
    double margin, scale;

    __device__ __forceinline__ double factor(bool positive, double s) const
    {
        double alpha = positive ? 1 + margin - s : s + margin;
        alpha = alpha > 0 ? alpha : 0;
        return positive ? -scale * alpha : scale * alpha;
    }
    __device__ __forceinline__ double exponent(bool positive, double s) const
    {
        return factor(positive, s) * (s - (positive ? 1 - margin : margin));
    }
};

__device__ __forceinline__ double
warp_max(double v)
{
    for (int d = 16; d > 0; d /= 2) {
        double other = __shfl_xor_sync(RC_ALL, v, d);
        v = other > v ? other : v;
    }
    return v;
}

template <class T>
__global__ void __launch_bounds__(RC_BLOCK)
forward_kernel(const T *x, const int64_t *labels, const double *lengths, rule r, int n, int c,
               double *ds, double *losses)
{
    RC_SHARED_AT_LAUNCH(double, s);
    int a = blockIdx.x, t = threadIdx.x, lane = t % 32;
    const T *own = x + static_cast<int64_t>(a) * c;
    for (int j = t / 32; j < n; j += RC_BLOCK / 32) {
        double v = rc_double::dot(own, x + static_cast<int64_t>(j) * c, c, lane);
        if (lane == 0) {
            s[j] = inverse(lengths[a]) * inverse(lengths[j]) * v;
        }
    }
    RC_SYNC();
    if (t >= 32) {
        return;
    }
    double top[2], sum[2] = {0, 0}; /* of negatives, of positives */
    int count[2] = {0, 0};
    top[0] = top[1] = -INFINITY;
    for (int j = lane; j < n; j += 32) {
        bool positive = labels[j] == labels[a];
        if (j != a) {
            double l = r.exponent(positive, s[j]);
            top[positive] = l > top[positive] ? l : top[positive];
            count[positive]++;
        }
    }
    for (int side = 0; side < 2; side++) {
        top[side] = warp_max(top[side]);
        count[side] = rc_warp_sum(count[side]);
    }
    for (int j = lane; j < n; j += 32) {
        bool positive = labels[j] == labels[a];
        if (j != a) {
            sum[positive] += exp(r.exponent(positive, s[j]) - top[positive]);
        }
    }
    sum[0] = rc_warp_sum(sum[0]);
    sum[1] = rc_warp_sum(sum[1]);
    bool both = count[0] > 0 && count[1] > 0;
    double v = both ? top[0] + log(sum[0]) + top[1] + log(sum[1]) : 0;
    if (lane == 0) {
        losses[a] = both ? (v > 0 ? v : 0) + log1p(exp(-fabs(v))) : 0;
    }
    for (int j = lane; ds && j < n; j += 32) {
        bool positive = labels[j] == labels[a];
        double d = 0;
        if (both && j != a) {
            double share = exp(r.exponent(positive, s[j]) - top[positive]) / sum[positive];
            d = share * r.factor(positive, s[j]) / (1 + exp(-v)) / n;
        }
        ds[static_cast<int64_t>(a) * n + j] = d;
    }
}

template <class T>
__global__ void __launch_bounds__(RC_BLOCK)
backward_kernel(const T *x, const double *ds, const double *lengths, const float *dy, int n, int c,
                T *dx, bool add)
{
    RC_SHARED_AT_LAUNCH(double, dz);
    RC_SHARED(double, s, 33);
    int i = blockIdx.x;
    for (int l = threadIdx.x; l < c; l += RC_BLOCK) {
        double sum = 0;
        for (int j = 0; j < n; j++) { /* s(i,j) as anchor i's and as anchor j's */
            double d = dy[0] * (ds[static_cast<int64_t>(i) * n + j]
                                + ds[static_cast<int64_t>(j) * n + i]) * inverse(lengths[j]);
            sum += d * rc_get(x, static_cast<int64_t>(j) * c + l);
        }
        dz[l] = sum;
    }
    rc_double::unit_backward(x + static_cast<int64_t>(i) * c, lengths[i], TINY, dz, s, c, add,
                             dx + static_cast<int64_t>(i) * c);
}

template <class T>
void
forward(const rc_call *call, rc_cuda_stream stream)
{
    int64_t n = call->xs[0].d[0];
    const double *lengths = rc_double::lengths_of<T>(call, stream);
    double *losses = static_cast<double *>(call->tmp) + n;
    rc_launch(forward_kernel<T>, dim3(static_cast<unsigned>(n)), dim3(RC_BLOCK),
              static_cast<size_t>(n) * 8, stream, static_cast<const T *>(call->x[0]),
              static_cast<const int64_t *>(call->x[1]), lengths,
              rule{call->attrs->margin, call->attrs->scale}, static_cast<int>(n),
              static_cast<int>(call->xs[0].d[1]), static_cast<double *>(call->ws), losses);
    rc_double::mean(stream, losses, n, static_cast<double>(n), call->y);
}

template <class T>
void
backward(const rc_call *call, rc_cuda_stream stream)
{
    int64_t n = call->xs[0].d[0], c = call->xs[0].d[1];
    const double *lengths = rc_double::lengths_of<T>(call, stream);
    rc_launch(backward_kernel<T>, dim3(static_cast<unsigned>(n)), dim3(RC_BLOCK),
              static_cast<size_t>(c) * 8, stream, static_cast<const T *>(call->x[0]),
              static_cast<const double *>(call->ws), lengths,
              static_cast<const float *>(call->dy), static_cast<int>(n), static_cast<int>(c),
              static_cast<T *>(call->dx[0]), call->add[0]);
}

} // namespace

RC_CUDA_LAUNCHER(circle, forward)
RC_CUDA_LAUNCHER(circle, backward)
RC_CUDA_TMP(circle)
{
    return call->xs[0].d[0] * (backward ? 8 : 16);
}
RC_CUDA_LIMIT(circle)
{
    return {call->xs[0].d[backward ? 1 : 0], RC_SHARED_ROOM / 8,
            backward ? "numbers in an embedding" : "images in a batch"};
}
