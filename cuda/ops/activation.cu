/* Element-wise activation; backward reads y alone (csrc/ops/activation.c). */
#include "kernel.h"

namespace {

template <class T> struct values {
    const T *x;
    T *y;
    rc_activation act;
    template <int V> __device__ void at(int i) const
    {
        float v[V];
        rc_get_pack<T, V>(x, i, v);
        for (int j = 0; j < V; j++) {
            v[j] = act.value(v[j]);
        }
        rc_set_pack<T, V>(y, i, v);
    }
};

template <class T> struct gradients {
    const T *y, *dy;
    T *dx;
    rc_activation act;
    bool add;
    template <int V> __device__ void at(int i) const
    {
        float v[V], d[V];
        rc_get_pack<T, V>(dy, i, d);
        if (act.kind != RC_ACT_NONE) {
            rc_get_pack<T, V>(y, i, v);
            for (int j = 0; j < V; j++) {
                d[j] = act.gradient(v[j], d[j]);
            }
        }
        rc_put_pack<T, V>(dx, i, d, add);
    }
};

template <class T>
void
forward(const rc_call *call, rc_cuda_stream stream)
{
    int64_t count = rc_shape_count(&call->ys);
    rc_packs<T>(stream, count, count,
                values<T>{static_cast<const T *>(call->x[0]), static_cast<T *>(call->y),
                          rc_activation_of(call->attrs)});
}

template <class T>
void
backward(const rc_call *call, rc_cuda_stream stream)
{
    int64_t count = rc_shape_count(&call->ys);
    rc_packs<T>(stream, count, count,
                gradients<T>{static_cast<const T *>(call->y), static_cast<const T *>(call->dy),
                             static_cast<T *>(call->dx[0]), rc_activation_of(call->attrs),
                             call->add[0]});
}

} // namespace

RC_CUDA_LAUNCHER(activation, forward)
RC_CUDA_LAUNCHER(activation, backward)
