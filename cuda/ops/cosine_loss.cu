/* Mean of 1 - cos(f, r), r detached (csrc/ops/cosine_loss.c). A warp an image. */
#include "double_rows.h"

namespace {

constexpr double TINY = 1e-12;

__device__ __forceinline__ double
inverse(double square)
{
    double length = sqrt(square);
    return 1 / (length < TINY ? TINY : length);
}

template <class T> struct losses {
    const T *f, *r;
    double *to;
    int c;
    __device__ void operator()(int row, int lane) const
    {
        const T *a = f + static_cast<int64_t>(row) * c, *b = r + static_cast<int64_t>(row) * c;
        double dot = rc_double::dot(a, b, c, lane), aa = rc_double::dot(a, a, c, lane);
        double bb = rc_double::dot(b, b, c, lane);
        if (lane == 0) {
            to[row] = 1 - dot * inverse(aa) * inverse(bb);
        }
    }
};

template <class T> struct gradients {
    const T *f, *r;
    const float *dy;
    T *df;
    int n, c;
    bool add;
    __device__ void operator()(int row, int lane) const
    {
        int64_t first = static_cast<int64_t>(row) * c;
        const T *a = f + first, *b = r + first;
        double dot = rc_double::dot(a, b, c, lane), aa = rc_double::dot(a, a, c, lane);
        double factor = -static_cast<double>(dy[0]) / n * inverse(rc_double::dot(b, b, c, lane));
        double scale = inverse(aa), along = sqrt(aa) < TINY ? 0 : factor * dot * scale;
        for (int l = lane; l < c; l += 32) {
            double d = (factor * rc_get(b, l) - rc_get(a, l) * scale * along) * scale;
            rc_put(df, first + l, static_cast<float>(d), add);
        }
    }
};

template <class T>
void
forward(const rc_call *call, rc_cuda_stream stream)
{
    int64_t n = call->xs[0].d[0];
    double *to = static_cast<double *>(call->tmp);
    rc_rows::warps(stream, n,
                   losses<T>{static_cast<const T *>(call->x[0]),
                             static_cast<const T *>(call->x[1]), to,
                             static_cast<int>(call->xs[0].d[1])});
    rc_double::mean(stream, to, n, static_cast<double>(n), call->y);
}

template <class T>
void
backward(const rc_call *call, rc_cuda_stream stream)
{
    int64_t n = call->xs[0].d[0];
    rc_rows::warps(stream, n,
                   gradients<T>{static_cast<const T *>(call->x[0]),
                                static_cast<const T *>(call->x[1]),
                                static_cast<const float *>(call->dy),
                                static_cast<T *>(call->dx[0]), static_cast<int>(n),
                                static_cast<int>(call->xs[0].d[1]), call->add[0]});
}

} // namespace

RC_CUDA_LAUNCHER(cosine_loss, forward)
RC_CUDA_LAUNCHER(cosine_loss, backward)
RC_CUDA_TMP(cosine_loss)
{
    return backward ? 0 : call->xs[0].d[0] * 8;
}
