/* Mean over square windows (csrc/ops/avg_pool2d.c). Backward gathers: each place of dx is written
 * once, by the thread that adds up the windows over it. */
#include "kernel.h"

namespace {

struct sizes {
    int h, w, c, oh, ow, kernel, stride;
};

template <class T> struct values {
    const T *x;
    T *y;
    sizes s;
    template <int V> __device__ void at(int i) const
    {
        int k = i % s.c, p = i / s.c, n = p / (s.ow * s.oh);
        int top = p / s.ow % s.oh * s.stride, left = p % s.ow * s.stride;
        float sum[V] = {}, v[V];
        for (int dy = 0; dy < s.kernel; dy++) {
            for (int dx = 0; dx < s.kernel; dx++) {
                int64_t from = (static_cast<int64_t>(n) * s.h + top + dy) * s.w + left + dx;
                rc_get_pack<T, V>(x, from * s.c + k, v);
                for (int j = 0; j < V; j++) {
                    sum[j] += v[j];
                }
            }
        }
        for (int j = 0; j < V; j++) {
            sum[j] /= static_cast<float>(s.kernel * s.kernel);
        }
        rc_set_pack<T, V>(y, i, sum);
    }
};

template <class T> struct gradients {
    const T *dy;
    T *dx;
    sizes s;
    bool add;
    template <int V> __device__ void at(int i) const
    {
        int k = i % s.c, p = i / s.c, n = p / (s.w * s.h), iy = p / s.w % s.h, ix = p % s.w;
        int low_y = iy < s.kernel ? 0 : (iy - s.kernel) / s.stride + 1;
        int low_x = ix < s.kernel ? 0 : (ix - s.kernel) / s.stride + 1;
        float sum[V] = {}, v[V];
        for (int oy = low_y; oy < s.oh && oy * s.stride <= iy; oy++) {
            for (int ox = low_x; ox < s.ow && ox * s.stride <= ix; ox++) {
                int64_t from = (static_cast<int64_t>(n) * s.oh + oy) * s.ow + ox;
                rc_get_pack<T, V>(dy, from * s.c + k, v);
                for (int j = 0; j < V; j++) {
                    sum[j] += v[j];
                }
            }
        }
        for (int j = 0; j < V; j++) {
            sum[j] /= static_cast<float>(s.kernel * s.kernel);
        }
        rc_put_pack<T, V>(dx, i, sum, add);
    }
};

sizes
sizes_of(const rc_call *call)
{
    const rc_shape *x = &call->xs[0], *y = &call->ys;
    return {static_cast<int>(x->d[2]), static_cast<int>(x->d[3]), static_cast<int>(x->d[1]),
            static_cast<int>(y->d[2]), static_cast<int>(y->d[3]),
            static_cast<int>(call->attrs->kernel), static_cast<int>(call->attrs->stride)};
}

template <class T>
void
forward(const rc_call *call, rc_cuda_stream stream)
{
    rc_packs<T>(stream, rc_shape_count(&call->ys), call->ys.d[1],
                values<T>{static_cast<const T *>(call->x[0]), static_cast<T *>(call->y),
                          sizes_of(call)});
}

template <class T>
void
backward(const rc_call *call, rc_cuda_stream stream)
{
    rc_packs<T>(stream, rc_shape_count(&call->xs[0]), call->ys.d[1],
                gradients<T>{static_cast<const T *>(call->dy), static_cast<T *>(call->dx[0]),
                             sizes_of(call), call->add[0]});
}

} // namespace

RC_CUDA_LAUNCHER(avg_pool2d, forward)
RC_CUDA_LAUNCHER(avg_pool2d, backward)
