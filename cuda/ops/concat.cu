/* Channels side by side and, backward, apart again (csrc/ops/concat.c). One kernel for all inputs:
 * their starts travel with the launch. */
#include "kernel.h"

namespace {

template <class T> struct parts {
    const T *in[RC_MAX_IN];
    T *out[RC_MAX_IN]; /* backward; NULL: not wanted */
    int first[RC_MAX_IN + 1], n, c;
    uint32_t add;

    __device__ __forceinline__ int part_of(int k) const
    {
        int p = 0;
        while (p + 1 < n && k >= first[p + 1]) {
            p++;
        }
        return p;
    }
};

template <class T> struct gather {
    parts<T> p;
    T *y;
    template <int V> __device__ void at(int i) const
    {
        int row = i / p.c, k = i % p.c, from = p.part_of(k);
        float v[V];
        rc_get_pack<T, V>(p.in[from], static_cast<int64_t>(row)
                          * (p.first[from + 1] - p.first[from]) + k - p.first[from], v);
        rc_set_pack<T, V>(y, i, v);
    }
};

template <class T> struct scatter {
    parts<T> p;
    const T *dy;
    template <int V> __device__ void at(int i) const
    {
        int row = i / p.c, k = i % p.c, to = p.part_of(k);
        if (p.out[to]) {
            float v[V];
            rc_get_pack<T, V>(dy, i, v);
            rc_put_pack<T, V>(p.out[to], static_cast<int64_t>(row)
                              * (p.first[to + 1] - p.first[to]) + k - p.first[to], v,
                              p.add >> to & 1);
        }
    }
};

/* *width: what divides all parts and may be a pack. */
template <class T>
parts<T>
parts_of(const rc_call *call, int64_t *width)
{
    parts<T> p = {};
    p.n = call->n_in;
    p.c = static_cast<int>(call->ys.d[1]);
    *width = 0;
    for (int i = 0; i < p.n; i++) {
        p.in[i] = static_cast<const T *>(call->x[i]);
        p.out[i] = static_cast<T *>(call->dx[i]);
        p.add |= call->add[i] ? 1u << i : 0;
        p.first[i + 1] = p.first[i] + static_cast<int>(call->xs[i].d[1]);
        *width |= call->xs[i].d[1]; /* a multiple of a power of two if they all are */
    }
    return p;
}

template <class T>
void
forward(const rc_call *call, rc_cuda_stream stream)
{
    int64_t width;
    parts<T> p = parts_of<T>(call, &width);
    rc_packs<T>(stream, rc_shape_count(&call->ys), width,
                gather<T>{p, static_cast<T *>(call->y)});
}

template <class T>
void
backward(const rc_call *call, rc_cuda_stream stream)
{
    int64_t width;
    parts<T> p = parts_of<T>(call, &width);
    rc_packs<T>(stream, rc_shape_count(&call->ys), width,
                scatter<T>{p, static_cast<const T *>(call->dy)});
}

} // namespace

RC_CUDA_LAUNCHER(concat, forward)
RC_CUDA_LAUNCHER(concat, backward)
