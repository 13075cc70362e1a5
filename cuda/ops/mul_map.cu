/* y = a x, a the same for all channels (csrc/ops/mul_map.c). Backward: a warp a position, which
 * reads its row of dy before anything of it is replaced by dx. */
#include "rows.h"

namespace {

template <class T> struct values {
    const T *x, *a;
    T *y;
    int c;
    template <int V> __device__ void at(int i) const
    {
        float v[V], s = rc_get(a, i / c);
        rc_get_pack<T, V>(x, i, v);
        for (int j = 0; j < V; j++) {
            v[j] *= s;
        }
        rc_set_pack<T, V>(y, i, v);
    }
};

template <class T, int V> struct gradients {
    const T *x, *a, *dy;
    T *dx, *da;
    int c;
    bool add_x, add_a;
    __device__ void operator()(int row, int lane) const
    {
        float s = dx ? rc_get(a, row) : 0, sum = 0;
        for (int k = lane * V; k < c; k += 32 * V) {
            int64_t i = static_cast<int64_t>(row) * c + k;
            float d[V], v[V];
            rc_get_pack<T, V>(dy, i, d);
            if (da) {
                rc_get_pack<T, V>(x, i, v);
                for (int j = 0; j < V; j++) {
                    sum += d[j] * v[j];
                }
            }
            if (dx) {
                for (int j = 0; j < V; j++) {
                    d[j] *= s;
                }
                rc_put_pack<T, V>(dx, i, d, add_x);
            }
        }
        if (da) {
            sum = rc_warp_sum(sum);
            if (lane == 0) {
                rc_put(da, row, sum, add_a);
            }
        }
    }
};

template <class T>
void
forward(const rc_call *call, rc_cuda_stream stream)
{
    rc_packs<T>(stream, rc_shape_count(&call->ys), call->ys.d[1],
                values<T>{static_cast<const T *>(call->x[0]), static_cast<const T *>(call->x[1]),
                          static_cast<T *>(call->y), static_cast<int>(call->ys.d[1])});
}

template <class T, int V>
void
backward_packs(const rc_call *call, rc_cuda_stream stream)
{
    int64_t c = call->ys.d[1];
    rc_rows::warps(stream, rc_shape_count(&call->ys) / c,
                   gradients<T, V>{static_cast<const T *>(call->x[0]),
                                   static_cast<const T *>(call->x[1]),
                                   static_cast<const T *>(call->dy),
                                   static_cast<T *>(call->dx[0]), static_cast<T *>(call->dx[1]),
                                   static_cast<int>(c), call->add[0], call->add[1]});
}

template <class T>
void
backward(const rc_call *call, rc_cuda_stream stream)
{
    if (rc_fits_wide<T>(call->ys.d[1])) {
        backward_packs<T, rc_wide<T>>(call, stream);
    } else {
        backward_packs<T, 1>(call, stream);
    }
}

} // namespace

RC_CUDA_LAUNCHER(mul_map, forward)
RC_CUDA_LAUNCHER(mul_map, backward)
