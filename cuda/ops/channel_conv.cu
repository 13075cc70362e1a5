/* A small kernel along the channels (csrc/ops/channel_conv.c). dw: a block a tap. */
#include "kernel.h"

namespace {

/* flip: backward to m. */
template <class T> struct values {
    const T *x;
    const float *w;
    T *y;
    int c, k;
    bool flip, add;
    __device__ void operator()(int i) const
    {
        int r = (k - 1) / 2, at = i % c;
        float sum = 0;
        for (int j = 0; j < k; j++) {
            int from = flip ? at - j + r : at + j - r;
            if (from >= 0 && from < c) {
                sum += w[j] * rc_get(x, i - at + from);
            }
        }
        rc_put(y, i, sum, add);
    }
};

template <class T>
__global__ void __launch_bounds__(RC_BLOCK)
weights_kernel(const T *m, const T *dy, float *dw, int count, int c, int r, bool add)
{
    RC_SHARED(double, s, 33);
    double sum = 0;
    int j = blockIdx.x;
    for (int i = threadIdx.x; i < count; i += RC_BLOCK) {
        int from = i % c + j - r;
        if (from >= 0 && from < c) {
            sum += static_cast<double>(rc_get(dy, i)) * rc_get(m, i - i % c + from);
        }
    }
    sum = rc_block_sum(sum, s);
    if (threadIdx.x == 0) {
        rc_put(dw, j, static_cast<float>(sum), add);
    }
}

template <class T>
void
forward(const rc_call *call, rc_cuda_stream stream)
{
    rc_each(stream, rc_shape_count(&call->ys),
            values<T>{static_cast<const T *>(call->x[0]), static_cast<const float *>(call->x[1]),
                      static_cast<T *>(call->y), static_cast<int>(call->ys.d[1]),
                      static_cast<int>(call->xs[1].d[2]), false, false});
}

template <class T>
void
backward(const rc_call *call, rc_cuda_stream stream)
{
    int c = static_cast<int>(call->ys.d[1]), k = static_cast<int>(call->xs[1].d[2]);
    const T *dy = static_cast<const T *>(call->dy);
    if (call->dx[0]) {
        rc_each(stream, rc_shape_count(&call->ys),
                values<T>{dy, static_cast<const float *>(call->x[1]),
                          static_cast<T *>(call->dx[0]), c, k, true, call->add[0]});
    }
    if (call->dx[1]) {
        rc_launch(weights_kernel<T>, dim3(static_cast<unsigned>(k)), dim3(RC_BLOCK), 0, stream,
                  static_cast<const T *>(call->x[0]), dy, static_cast<float *>(call->dx[1]),
                  rc_count(&call->ys), c, (k - 1) / 2, call->add[1]);
    }
}

} // namespace

RC_CUDA_LAUNCHER(channel_conv, forward)
RC_CUDA_LAUNCHER(channel_conv, backward)
