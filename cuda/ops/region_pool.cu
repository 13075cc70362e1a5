/* Mean or maximum over a rectangle of positions, whose rows may come from planes, image by image;
 * ties to the first place; ws (maximum): the place that won (csrc/ops/region_pool.c). */
#include "columns.h"

namespace {

struct region {
    const int64_t *planes; /* NULL: the same rows for all */
    int from, to, left, right, h, w;

    __device__ __forceinline__ void rows(int n, int *top, int *bottom) const
    {
        int t = from, b = to;
        if (planes) {
            t = from == 0 ? 0 : static_cast<int>(planes[n * 4LL + from - 1]);
            b = to == 5 ? h : static_cast<int>(planes[n * 4LL + to - 1]);
            t = t < 0 ? 0 : t > h ? h : t;
            b = b < t ? t : b > h ? h : b;
        }
        *top = t;
        *bottom = b;
    }
};

region
region_of(const rc_call *call)
{
    const rc_attrs *a = call->attrs;
    int h = static_cast<int>(call->xs[0].d[2]), w = static_cast<int>(call->xs[0].d[3]);
    bool given = rc_has(call, 1);
    return {given ? static_cast<const int64_t *>(call->x[1]) : nullptr, static_cast<int>(a->from),
            a->to ? static_cast<int>(a->to) : given ? 5 : h, static_cast<int>(a->col_from),
            a->col_to ? static_cast<int>(a->col_to) : w, h, w};
}

/* Eight warps over the places of a rectangle, 32 packs of channels a block. */
template <class T, int V, bool MAXIMUM>
__global__ void __launch_bounds__(256)
pool_kernel(const T *x, region r, T *y, int32_t *ws, int c, int blocks)
{
    RC_SHARED(float, s, 8 * 32 * V);
    RC_SHARED(int, places, MAXIMUM ? 8 * 32 * V : 1);
    int tx = threadIdx.x, ty = threadIdx.y, n = blockIdx.x / blocks;
    int k = (static_cast<int>(blockIdx.x) % blocks * 32 + tx) * V, top, bottom;
    r.rows(n, &top, &bottom);
    int width = r.right - r.left, count = (bottom - top) * width;
    float v[V], sum[V];
    int won[V];
    for (int j = 0; j < V; j++) {
        sum[j] = 0;
        won[j] = INT32_MAX;
    }
    if (k < c) {
#pragma unroll 4
        for (int i = ty; i < count; i += 8) {
            int at = (top + i / width) * r.w + r.left + i % width;
            rc_get_pack<T, V>(x, (static_cast<int64_t>(n) * r.h * r.w + at) * c + k, v);
            for (int j = 0; j < V; j++) {
                if (!MAXIMUM) {
                    sum[j] += v[j];
                } else if (won[j] == INT32_MAX || v[j] > sum[j]) {
                    sum[j] = v[j];
                    won[j] = at;
                }
            }
        }
    }
    if constexpr (!MAXIMUM) {
        rc_columns::across<float, V>(sum, s, tx, ty);
        for (int j = 0; ty == 0 && k < c && j < V; j++) {
            rc_set(y, static_cast<int64_t>(n) * c + k + j,
                   count ? sum[j] / static_cast<float>(count) : 0);
        }
    } else {
        for (int j = 0; j < V; j++) {
            s[(j * 8 + ty) * 32 + tx] = sum[j];
            places[(j * 8 + ty) * 32 + tx] = won[j];
        }
        RC_SYNC();
        for (int j = 0; ty == 0 && k < c && j < V; j++) {
            for (int o = 1; o < 8; o++) {
                float other = s[(j * 8 + o) * 32 + tx];
                int at = places[(j * 8 + o) * 32 + tx];
                if (at != INT32_MAX
                    && (won[j] == INT32_MAX || other > sum[j] || (other == sum[j] && at < won[j]))) {
                    sum[j] = other;
                    won[j] = at;
                }
            }
            rc_set(y, static_cast<int64_t>(n) * c + k + j, won[j] == INT32_MAX ? 0 : sum[j]);
            if (ws) {
                ws[static_cast<int64_t>(n) * c + k + j] = won[j];
            }
        }
    }
}

template <class T> struct gradients {
    const T *dy;
    const int32_t *ws; /* NULL: mean */
    T *dx;
    region r;
    int c;
    bool add;
    template <int V> __device__ void at(int i) const
    {
        int p = i / c, k = i % c, n = p / (r.w * r.h), place = p % (r.w * r.h), top, bottom;
        float d[V];
        rc_get_pack<T, V>(dy, static_cast<int64_t>(n) * c + k, d);
        if (ws) {
            for (int j = 0; j < V; j++) {
                d[j] = ws[static_cast<int64_t>(n) * c + k + j] == place ? d[j] : 0;
            }
        } else {
            r.rows(n, &top, &bottom);
            int row = place / r.w, col = place % r.w;
            bool inside = row >= top && row < bottom && col >= r.left && col < r.right;
            float share = 1 / static_cast<float>((bottom - top) * (r.right - r.left));
            for (int j = 0; j < V; j++) {
                d[j] = inside ? d[j] * share : 0;
            }
        }
        rc_put_pack<T, V>(dx, i, d, add);
    }
};

template <class T, int V>
void
forward_packs(const rc_call *call, rc_cuda_stream stream)
{
    int64_t n = call->xs[0].d[0], c = call->xs[0].d[1], blocks = rc_up(c, 32 * V);
    dim3 grid(static_cast<unsigned>(n * blocks)), block(32, 8);
    const T *x = static_cast<const T *>(call->x[0]);
    rc_launch(call->attrs->mode == 1 ? pool_kernel<T, V, true> : pool_kernel<T, V, false>, grid,
              block, 0, stream, x, region_of(call), static_cast<T *>(call->y),
              static_cast<int32_t *>(call->ws), static_cast<int>(c), static_cast<int>(blocks));
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
                             region_of(call), static_cast<int>(call->xs[0].d[1]), call->add[0]});
}

} // namespace

RC_CUDA_LAUNCHER(region_pool, forward)
RC_CUDA_LAUNCHER(region_pool, backward)
