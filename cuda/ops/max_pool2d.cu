/* Maximum over square windows, ties to the first place in raster order; ws: the tap that won, a
 * byte an output (csrc/ops/max_pool2d.c). Backward gathers. */
#include "kernel.h"

namespace {

struct sizes {
    int h, w, c, oh, ow, kernel, stride, pad;
};

template <int V> struct alignas(V) bytes {
    uint8_t v[V];
};

template <class T> struct values {
    const T *x;
    T *y;
    uint8_t *ws;
    sizes s;
    template <int V> __device__ void at(int i) const
    {
        int k = i % s.c, p = i / s.c, n = p / (s.ow * s.oh);
        int top = p / s.ow % s.oh * s.stride - s.pad, left = p % s.ow * s.stride - s.pad;
        float best[V] = {}, v[V];
        bytes<V> won = {};
        bool first = true;
        for (int dy = 0; dy < s.kernel; dy++) {
            int iy = top + dy;
            if (iy < 0 || iy >= s.h) {
                continue;
            }
            for (int dx = 0; dx < s.kernel; dx++) {
                int ix = left + dx;
                if (ix < 0 || ix >= s.w) {
                    continue;
                }
                int64_t from = (static_cast<int64_t>(n) * s.h + iy) * s.w + ix;
                rc_get_pack<T, V>(x, from * s.c + k, v);
                for (int j = 0; j < V; j++) {
                    if (first || v[j] > best[j]) {
                        best[j] = v[j];
                        won.v[j] = static_cast<uint8_t>(dy * s.kernel + dx);
                    }
                }
                first = false;
            }
        }
        rc_set_pack<T, V>(y, i, best);
        if (ws) {
            *reinterpret_cast<bytes<V> *>(ws + i) = won;
        }
    }
};

template <class T> struct gradients {
    const T *dy;
    const uint8_t *ws;
    T *dx;
    sizes s;
    bool add;
    template <int V> __device__ void at(int i) const
    {
        int k = i % s.c, p = i / s.c, n = p / (s.w * s.h);
        int iy = p / s.w % s.h + s.pad, ix = p % s.w + s.pad;
        int low_y = iy < s.kernel ? 0 : (iy - s.kernel) / s.stride + 1;
        int low_x = ix < s.kernel ? 0 : (ix - s.kernel) / s.stride + 1;
        float sum[V] = {}, v[V];
        for (int oy = low_y; oy < s.oh && oy * s.stride <= iy; oy++) {
            for (int ox = low_x; ox < s.ow && ox * s.stride <= ix; ox++) {
                int64_t from = ((static_cast<int64_t>(n) * s.oh + oy) * s.ow + ox) * s.c + k;
                int tap = (iy - oy * s.stride) * s.kernel + ix - ox * s.stride;
                bytes<V> won = *reinterpret_cast<const bytes<V> *>(ws + from);
                rc_get_pack<T, V>(dy, from, v);
                for (int j = 0; j < V; j++) {
                    sum[j] += won.v[j] == tap ? v[j] : 0;
                }
            }
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
            static_cast<int>(call->attrs->kernel), static_cast<int>(call->attrs->stride),
            static_cast<int>(call->attrs->pad)};
}

template <class T>
void
forward(const rc_call *call, rc_cuda_stream stream)
{
    rc_packs<T>(stream, rc_shape_count(&call->ys), call->ys.d[1],
                values<T>{static_cast<const T *>(call->x[0]), static_cast<T *>(call->y),
                          static_cast<uint8_t *>(call->ws), sizes_of(call)});
}

template <class T>
void
backward(const rc_call *call, rc_cuda_stream stream)
{
    rc_packs<T>(stream, rc_shape_count(&call->xs[0]), call->ys.d[1],
                gradients<T>{static_cast<const T *>(call->dy),
                             static_cast<const uint8_t *>(call->ws),
                             static_cast<T *>(call->dx[0]), sizes_of(call), call->add[0]});
}

} // namespace

RC_CUDA_LAUNCHER(max_pool2d, forward)
RC_CUDA_LAUNCHER(max_pool2d, backward)
