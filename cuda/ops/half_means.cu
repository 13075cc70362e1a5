/* Means of the left and right half of the five body parts: (n,10,c) (csrc/ops/half_means.c). Group
 * 10 n + 2 i + s is half s of part i of image n; its rows are all places of the map, those outside
 * add nothing. */
#include "columns.h"

namespace {

struct half {
    const int64_t *planes;
    int h, w;

    /* Group 10 n + k: first row, end, first column, end. */
    __device__ __forceinline__ void of(int group, int (&b)[4]) const
    {
        int n = group / 10, i = group % 10 / 2, right = group % 2;
        b[0] = i > 0 ? static_cast<int>(planes[n * 4LL + i - 1]) : 0;
        b[1] = i < 4 ? static_cast<int>(planes[n * 4LL + i]) : h;
        b[2] = right ? w / 2 : 0;
        b[3] = right ? w : w / 2;
    }
};

template <class T, int V>
__global__ void __launch_bounds__(256)
means_kernel(const T *x, half o, T *y, int c, int blocks)
{
    RC_SHARED(float, s, 8 * 32 * V);
    int tx = threadIdx.x, ty = threadIdx.y, group = blockIdx.x / blocks, b[4];
    int k = (static_cast<int>(blockIdx.x) % blocks * 32 + tx) * V;
    o.of(group, b);
    int width = b[3] - b[2], count = (b[1] - b[0]) * width;
    float v[V], sum[V];
    for (int j = 0; j < V; j++) {
        sum[j] = 0;
    }
    for (int i = ty; k < c && i < count; i += 8) {
        int at = (b[0] + i / width) * o.w + b[2] + i % width;
        rc_get_pack<T, V>(x, (static_cast<int64_t>(group / 10) * o.h * o.w + at) * c + k, v);
        for (int j = 0; j < V; j++) {
            sum[j] += v[j];
        }
    }
    rc_columns::across<float, V>(sum, s, tx, ty);
    for (int j = 0; ty == 0 && k < c && j < V; j++) {
        rc_set(y, static_cast<int64_t>(group) * c + k + j, sum[j] / static_cast<float>(count));
    }
}

template <class T> struct gradients {
    const T *dy;
    T *dx;
    half o;
    int c;
    bool add;
    template <int V> __device__ void at(int i) const
    {
        int p = i / c, k = i % c, n = p / (o.w * o.h), row = p / o.w % o.h, col = p % o.w, b[4];
        int part = 0;
        while (part < 4 && row >= planes_at(n, part)) {
            part++;
        }
        int group = n * 10 + part * 2 + (col >= o.w / 2);
        o.of(group, b);
        float share = 1 / static_cast<float>((b[1] - b[0]) * (b[3] - b[2])), d[V];
        rc_get_pack<T, V>(dy, static_cast<int64_t>(group) * c + k, d);
        for (int j = 0; j < V; j++) {
            d[j] *= share;
        }
        rc_put_pack<T, V>(dx, i, d, add);
    }
    __device__ __forceinline__ int planes_at(int n, int i) const
    {
        return static_cast<int>(o.planes[n * 4LL + i]);
    }
};

half
half_of(const rc_call *call)
{
    return {static_cast<const int64_t *>(call->x[1]), static_cast<int>(call->xs[0].d[2]),
            static_cast<int>(call->xs[0].d[3])};
}

template <class T, int V>
void
forward_packs(const rc_call *call, rc_cuda_stream stream)
{
    int64_t n = call->xs[0].d[0], c = call->xs[0].d[1], blocks = rc_up(c, 32 * V);
    rc_launch(means_kernel<T, V>, dim3(static_cast<unsigned>(n * 10 * blocks)), dim3(32, 8), 0,
              stream, static_cast<const T *>(call->x[0]), half_of(call),
              static_cast<T *>(call->y), static_cast<int>(c), static_cast<int>(blocks));
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
    rc_packs<T>(stream, rc_shape_count(&call->xs[0]), call->xs[0].d[1],
                gradients<T>{static_cast<const T *>(call->dy), static_cast<T *>(call->dx[0]),
                             half_of(call), static_cast<int>(call->xs[0].d[1]), call->add[0]});
}

} // namespace

RC_CUDA_LAUNCHER(half_means, forward)
RC_CUDA_LAUNCHER(half_means, backward)
