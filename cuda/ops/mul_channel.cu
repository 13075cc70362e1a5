/* y = s x, s the same at all positions (csrc/ops/mul_channel.c): ds = sum over positions of x dy,
 * taken before dx, which may lie in the memory of dy. */
#include "columns.h"

namespace {

template <class T> struct scaled {
    const T *x, *s;
    T *y;
    int c, p;
    bool add;
    template <int V> __device__ void at(int i) const
    {
        float v[V], w[V];
        rc_get_pack<T, V>(x, i, v);
        rc_get_pack<T, V>(s, static_cast<int64_t>(i / c / p) * c + i % c, w);
        for (int j = 0; j < V; j++) {
            v[j] *= w[j];
        }
        rc_put_pack<T, V>(y, i, v, add);
    }
};

template <class T> struct products {
    const T *x, *dy;
    T *ds;
    int c, p;
    bool add_to;
    template <int V>
    __device__ __forceinline__ void add(int group, int row, int k, float (&sums)[1][V]) const
    {
        float v[V], d[V];
        int64_t i = (static_cast<int64_t>(group) * p + row) * c + k;
        rc_get_pack<T, V>(x, i, v);
        rc_get_pack<T, V>(dy, i, d);
        for (int j = 0; j < V; j++) {
            sums[0][j] += v[j] * d[j];
        }
    }
    template <class A>
    __device__ __forceinline__ void finish(int group, int k, const A (&sums)[1]) const
    {
        rc_put(ds, static_cast<int64_t>(group) * c + k, static_cast<float>(sums[0]), add_to);
    }
};

template <class T>
void
scale(const rc_call *call, const void *from, void *to, bool add, rc_cuda_stream stream)
{
    rc_packs<T>(stream, rc_shape_count(&call->ys), call->ys.d[1],
                scaled<T>{static_cast<const T *>(from), static_cast<const T *>(call->x[1]),
                          static_cast<T *>(to), static_cast<int>(call->ys.d[1]),
                          static_cast<int>(call->ys.d[2] * call->ys.d[3]), add});
}

template <class T>
void
forward(const rc_call *call, rc_cuda_stream stream)
{
    scale<T>(call, call->x[0], call->y, false, stream);
}

template <class T>
void
backward(const rc_call *call, rc_cuda_stream stream)
{
    int64_t n = call->ys.d[0], c = call->ys.d[1], p = call->ys.d[2] * call->ys.d[3];
    if (call->dx[1]) {
        rc_columns::run<T, 1>(stream, n, p, c, static_cast<float *>(call->tmp),
                              products<T>{static_cast<const T *>(call->x[0]),
                                          static_cast<const T *>(call->dy),
                                          static_cast<T *>(call->dx[1]), static_cast<int>(c),
                                          static_cast<int>(p), call->add[1]});
    }
    if (call->dx[0]) {
        scale<T>(call, call->dy, call->dx[0], call->add[0], stream);
    }
}

} // namespace

RC_CUDA_LAUNCHER(mul_channel, forward)
RC_CUDA_LAUNCHER(mul_channel, backward)
RC_CUDA_TMP(mul_channel)
{
    int64_t n = call->ys.d[0], c = call->ys.d[1], p = call->ys.d[2] * call->ys.d[3];
    return backward && call->dx[1] ? rc_columns::scratch(call, n, p, c, 1) : 0;
}
