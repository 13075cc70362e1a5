/* Channels [from, to) of x; backward zero for the others (csrc/ops/slice.c). */
#include "kernel.h"

namespace {

template <class T> struct cut {
    const T *x;
    T *y;
    int c, width, from;
    template <int V> __device__ void at(int i) const
    {
        float v[V];
        rc_get_pack<T, V>(x, static_cast<int64_t>(i / width) * c + from + i % width, v);
        rc_set_pack<T, V>(y, i, v);
    }
};

template <class T> struct spread {
    const T *dy;
    T *dx;
    int c, width, from;
    bool add;
    template <int V> __device__ void at(int i) const
    {
        int k = i % c - from;
        float v[V] = {};
        if (k >= 0 && k < width) {
            rc_get_pack<T, V>(dy, static_cast<int64_t>(i / c) * width + k, v);
        } else if (add) {
            return;
        }
        rc_put_pack<T, V>(dx, i, v, add);
    }
};

template <class T>
void
forward(const rc_call *call, rc_cuda_stream stream)
{
    int c = static_cast<int>(call->xs[0].d[1]), width = static_cast<int>(call->ys.d[1]);
    int from = static_cast<int>(call->attrs->from);
    rc_packs<T>(stream, rc_shape_count(&call->ys), c | width | from,
                cut<T>{static_cast<const T *>(call->x[0]), static_cast<T *>(call->y), c, width,
                       from});
}

template <class T>
void
backward(const rc_call *call, rc_cuda_stream stream)
{
    int c = static_cast<int>(call->xs[0].d[1]), width = static_cast<int>(call->ys.d[1]);
    int from = static_cast<int>(call->attrs->from);
    rc_packs<T>(stream, rc_shape_count(&call->xs[0]), c | width | from,
                spread<T>{static_cast<const T *>(call->dy), static_cast<T *>(call->dx[0]), c,
                          width, from, call->add[0]});
}

} // namespace

RC_CUDA_LAUNCHER(slice, forward)
RC_CUDA_LAUNCHER(slice, backward)
