/* Cosines of all pairs of an image's rows (csrc/ops/pair_cosine.c). Forward: a warp a pair.
 * Backward: a block a row. */
#include "double_rows.h"

namespace {

constexpr double SHORTEST = 1e-12;

__device__ __forceinline__ double
inverse(double length)
{
    return 1 / (length < SHORTEST ? SHORTEST : length);
}

__host__ __device__ __forceinline__ int
pair_at(int a, int b, int r)
{
    return a * r - a * (a + 1) / 2 + b - a - 1;
}

/* Row = image * r * r + a * r + b; a < b works. */
template <class T> struct cosines {
    const T *u;
    const double *lengths;
    T *y;
    int r, c;
    __device__ void operator()(int row, int lane) const
    {
        int image = row / (r * r), a = row / r % r, b = row % r, first = image * r;
        if (a < b) {
            double dot = rc_double::dot(u + static_cast<int64_t>(first + a) * c,
                                        u + static_cast<int64_t>(first + b) * c, c, lane);
            if (lane == 0) {
                rc_set(y, static_cast<int64_t>(image) * (r * (r - 1) / 2) + pair_at(a, b, r),
                       static_cast<float>(dot * inverse(lengths[first + a])
                                          * inverse(lengths[first + b])));
            }
        }
    }
};

template <class T>
__global__ void __launch_bounds__(RC_BLOCK)
backward_kernel(const T *u, const double *lengths, const T *dy, T *dx, int r, int c, bool add)
{
    RC_SHARED_AT_LAUNCH(double, du);
    RC_SHARED(double, s, 33);
    int row = blockIdx.x, a = row % r, first = row - a;
    const T *d = dy + static_cast<int64_t>(row / r) * (r * (r - 1) / 2);
    for (int l = threadIdx.x; l < c; l += RC_BLOCK) {
        double sum = 0;
        for (int b = 0; b < r; b++) {
            if (b != a) {
                sum += rc_get(d, a < b ? pair_at(a, b, r) : pair_at(b, a, r))
                       * inverse(lengths[first + b])
                       * rc_get(u, static_cast<int64_t>(first + b) * c + l);
            }
        }
        du[l] = sum;
    }
    rc_double::unit_backward(u + static_cast<int64_t>(row) * c, lengths[row], SHORTEST, du, s, c,
                             add, dx + static_cast<int64_t>(row) * c);
}

template <class T>
void
forward(const rc_call *call, rc_cuda_stream stream)
{
    int64_t n = call->xs[0].d[0], r = call->xs[0].d[1];
    rc_rows::warps(stream, n * r * r,
                   cosines<T>{static_cast<const T *>(call->x[0]), rc_double::lengths_of<T>(call, stream),
                              static_cast<T *>(call->y), static_cast<int>(r),
                              static_cast<int>(call->xs[0].d[2])});
}

template <class T>
void
backward(const rc_call *call, rc_cuda_stream stream)
{
    int64_t n = call->xs[0].d[0], r = call->xs[0].d[1], c = call->xs[0].d[2];
    const double *lengths = rc_double::lengths_of<T>(call, stream);
    rc_launch(backward_kernel<T>, dim3(static_cast<unsigned>(n * r)), dim3(RC_BLOCK),
              static_cast<size_t>(c) * 8, stream, static_cast<const T *>(call->x[0]), lengths,
              static_cast<const T *>(call->dy), static_cast<T *>(call->dx[0]),
              static_cast<int>(r), static_cast<int>(c), call->add[0]);
}

} // namespace

RC_CUDA_LAUNCHER(pair_cosine, forward)
RC_CUDA_LAUNCHER(pair_cosine, backward)
RC_CUDA_TMP(pair_cosine)
{
    (void)backward;
    return call->xs[0].d[0] * call->xs[0].d[1] * 8;
}
RC_CUDA_LIMIT(pair_cosine)
{
    return {backward ? call->xs[0].d[2] : 0, RC_SHARED_ROOM / 8, "channels"};
}
