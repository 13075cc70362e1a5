/* The same memory under another shape: a copy where the planner did not pass it on
 * (csrc/ops/view.c). */
#include "kernel.h"

namespace {

template <class T> struct copy {
    const T *x;
    T *y;
    bool add;
    template <int V> __device__ void at(int i) const
    {
        float v[V];
        rc_get_pack<T, V>(x, i, v);
        rc_put_pack<T, V>(y, i, v, add);
    }
};

template <class T>
void
run(const rc_call *call, const void *from, void *to, bool add, rc_cuda_stream stream)
{
    int64_t count = rc_shape_count(&call->ys);
    if (from != to || add) {
        rc_packs<T>(stream, count, count,
                    copy<T>{static_cast<const T *>(from), static_cast<T *>(to), add});
    }
}

template <class T>
void
forward(const rc_call *call, rc_cuda_stream stream)
{
    run<T>(call, call->x[0], call->y, false, stream);
}

template <class T>
void
backward(const rc_call *call, rc_cuda_stream stream)
{
    run<T>(call, call->dy, call->dx[0], call->add[0], stream);
}

} // namespace

RC_CUDA_LAUNCHER(view, forward)
RC_CUDA_LAUNCHER(view, backward)
RC_CUDA_LAUNCHER(stop_gradient, forward)
