/* Mean or maximum over channels, ties to the lowest; ws (maximum): the channel that won
 * (csrc/ops/channel_pool.c). A warp a position. */
#include "rows.h"

namespace {

template <class T, int V> struct values {
    const T *x;
    T *y;
    int32_t *ws;
    int c;
    bool maximum;
    __device__ void operator()(int row, int lane) const
    {
        float sum = 0, best = -INFINITY, v[V];
        int won = c;
        for (int k = lane * V; k < c; k += 32 * V) {
            rc_get_pack<T, V>(x, static_cast<int64_t>(row) * c + k, v);
            for (int j = 0; j < V; j++) {
                sum += v[j];
                if (v[j] > best || won == c) {
                    best = v[j];
                    won = k + j;
                }
            }
        }
        if (!maximum) {
            sum = rc_warp_sum(sum);
            if (lane == 0) {
                rc_set(y, row, sum / static_cast<float>(c));
            }
            return;
        }
        for (int d = 16; d > 0; d /= 2) {
            float other = __shfl_xor_sync(RC_ALL, best, d);
            int at = __shfl_xor_sync(RC_ALL, won, d);
            if (at < c && (won == c || other > best || (other == best && at < won))) {
                best = other;
                won = at;
            }
        }
        if (lane == 0) {
            rc_set(y, row, best);
            if (ws) {
                ws[row] = won;
            }
        }
    }
};

template <class T> struct gradients {
    const T *dy;
    const int32_t *ws; /* NULL: mean */
    T *dx;
    int c;
    bool add;
    template <int V> __device__ void at(int i) const
    {
        int row = i / c, k = i % c, won = ws ? ws[row] : 0;
        float d = rc_get(dy, row), v[V];
        for (int j = 0; j < V; j++) {
            v[j] = !ws ? d / static_cast<float>(c) : k + j == won ? d : 0;
        }
        rc_put_pack<T, V>(dx, i, v, add);
    }
};

template <class T, int V>
void
forward_packs(const rc_call *call, rc_cuda_stream stream)
{
    rc_rows::warps(stream, rc_shape_count(&call->ys),
                   values<T, V>{static_cast<const T *>(call->x[0]), static_cast<T *>(call->y),
                                static_cast<int32_t *>(call->ws),
                                static_cast<int>(call->xs[0].d[1]), call->attrs->mode == 1});
}

template <class T>
void
forward(const rc_call *call, rc_cuda_stream stream)
{
    if (rc_fits_wide<T>(call->xs[0].d[1])) {
        forward_packs<T, rc_wide<T>>(call, stream);
    } else {
        forward_packs<T, 1>(call, stream);
    }
}

template <class T>
void
backward(const rc_call *call, rc_cuda_stream stream)
{
    const int32_t *ws = call->attrs->mode == 1 ? static_cast<const int32_t *>(call->ws) : nullptr;
    rc_packs<T>(stream, rc_shape_count(&call->xs[0]), call->xs[0].d[1],
                gradients<T>{static_cast<const T *>(call->dy), ws, static_cast<T *>(call->dx[0]),
                             static_cast<int>(call->xs[0].d[1]), call->add[0]});
}

} // namespace

RC_CUDA_LAUNCHER(channel_pool, forward)
RC_CUDA_LAUNCHER(channel_pool, backward)
