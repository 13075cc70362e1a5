/* y = s*a + b, s: (1); ds = sum dy a, da = s dy, db = dy (csrc/ops/scale_add.c). */
#include "rows.h"

namespace {

template <class T> struct values {
    const float *s;
    const T *a, *b;
    T *y;
    template <int V> __device__ void at(int i) const
    {
        float v[V], w[V];
        rc_get_pack<T, V>(a, i, v);
        rc_get_pack<T, V>(b, i, w);
        for (int j = 0; j < V; j++) {
            v[j] = s[0] * v[j] + w[j];
        }
        rc_set_pack<T, V>(y, i, v);
    }
};

template <class T> struct gradients {
    const float *s;
    const T *dy;
    T *da, *db;
    bool add_a, add_b;
    template <int V> __device__ void at(int i) const
    {
        float d[V];
        rc_get_pack<T, V>(dy, i, d);
        if (db) {
            rc_put_pack<T, V>(db, i, d, add_b);
        }
        if (da) {
            for (int j = 0; j < V; j++) {
                d[j] *= s[0];
            }
            rc_put_pack<T, V>(da, i, d, add_a);
        }
    }
};

template <class T> struct product {
    const T *dy, *a;
    __device__ float operator()(int i) const { return rc_get(dy, i) * rc_get(a, i); }
};

template <class T>
void
forward(const rc_call *call, rc_cuda_stream stream)
{
    int64_t count = rc_shape_count(&call->ys);
    rc_packs<T>(stream, count, count,
                values<T>{static_cast<const float *>(call->x[0]),
                          static_cast<const T *>(call->x[1]), static_cast<const T *>(call->x[2]),
                          static_cast<T *>(call->y)});
}

template <class T>
void
backward(const rc_call *call, rc_cuda_stream stream)
{
    int64_t count = rc_shape_count(&call->ys);
    const T *dy = static_cast<const T *>(call->dy);
    if (call->dx[0]) {
        rc_rows::total(stream, count, static_cast<float *>(call->tmp),
                       static_cast<float *>(call->dx[0]), call->add[0],
                       product<T>{dy, static_cast<const T *>(call->x[1])});
    }
    if (call->dx[1] || call->dx[2]) {
        rc_packs<T>(stream, count, count,
                    gradients<T>{static_cast<const float *>(call->x[0]), dy,
                                 static_cast<T *>(call->dx[1]), static_cast<T *>(call->dx[2]),
                                 call->add[1], call->add[2]});
    }
}

} // namespace

RC_CUDA_LAUNCHER(scale_add, forward)
RC_CUDA_LAUNCHER(scale_add, backward)
RC_CUDA_TMP(scale_add)
{
    return backward && call->dx[0] ? rc_rows::TOTAL_BLOCKS * 4 : 0;
}
