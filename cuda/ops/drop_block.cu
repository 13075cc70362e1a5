/* DropBlock, with the CPU's seeds (csrc/ops/drop_block.c). ws: the scale, a double, then a byte a
 * value: 1 where kept. A value looks for seeds in the b x b places to its upper left, so nothing
 * is scattered; kept values are counted block by block and added in order. */
#include "base/random.h"
#include "rows.h"

namespace {

constexpr int AT_A_TIME = 4096; /* values a block counts */

struct sizes {
    int c, h, w, b, count;
};

__global__ void __launch_bounds__(RC_BLOCK)
draw_kernel(sizes s, const uint64_t *seed, const uint64_t *step, int node, double chance,
            uint8_t *keep, int32_t *counts)
{
    RC_SHARED(int, part, 33);
    int first = static_cast<int>(blockIdx.x) * AT_A_TIME, kept = 0;
    int left = s.count - first, end = left < AT_A_TIME ? left : AT_A_TIME;
    for (int i = first + static_cast<int>(threadIdx.x); i - first < end; i += RC_BLOCK) {
        int k = i % s.c, x = i / s.c % s.w, y = i / s.c / s.w % s.h, n = i / s.c / s.w / s.h;
        uint64_t stream = rc_random_stream(*seed, RC_RANDOM_DROP, *step,
                                           static_cast<uint64_t>(node), static_cast<uint64_t>(n));
        bool keeps = true;
        for (int top = y - s.b + 1; keeps && top <= y; top++) {
            for (int at = x - s.b + 1; keeps && at <= x; at++) {
                if (top >= 0 && at >= 0 && top + s.b <= s.h && at + s.b <= s.w) {
                    uint64_t slot = (static_cast<uint64_t>(k) * s.h + top) * s.w + at;
                    keeps = !(rc_uniform(rc_random_step(stream, slot)) < chance);
                }
            }
        }
        keep[i] = keeps;
        kept += keeps;
    }
    kept = rc_block_sum(kept, part);
    if (threadIdx.x == 0) {
        counts[blockIdx.x] = kept;
    }
}

__global__ void __launch_bounds__(RC_BLOCK)
scale_kernel(const int32_t *counts, int blocks, int count, double *scale)
{
    RC_SHARED(int, part, 33);
    int kept = rc_parts_sum<int>(counts, blocks, part);
    if (threadIdx.x == 0) {
        *scale = kept ? static_cast<double>(count) / kept : 0;
    }
}

template <class T> struct masked {
    const T *from;
    T *to;
    const double *scale; /* NULL: evaluation */
    const uint8_t *keep;
    bool add;
    template <int V> __device__ void at(int i) const
    {
        float v[V];
        rc_get_pack<T, V>(from, i, v);
        for (int j = 0; scale && j < V; j++) {
            v[j] = keep[i + j] ? v[j] * static_cast<float>(*scale) : 0;
        }
        rc_put_pack<T, V>(to, i, v, add);
    }
};

template <class T>
void
apply(const rc_call *call, const void *from, void *to, bool add, rc_cuda_stream stream)
{
    int64_t count = rc_shape_count(&call->ys);
    const double *ws = call->training ? static_cast<const double *>(call->ws) : nullptr;
    rc_packs<T>(stream, count, count,
                masked<T>{static_cast<const T *>(from), static_cast<T *>(to), ws,
                          reinterpret_cast<const uint8_t *>(ws ? ws + 1 : ws), add});
}

template <class T>
void
forward(const rc_call *call, rc_cuda_stream stream)
{
    if (call->training && !call->again) {
        const rc_shape *y = &call->ys;
        int64_t h = y->d[2], w = y->d[3], b = call->attrs->kernel;
        double places = static_cast<double>((h - b + 1) * (w - b + 1));
        double chance = call->attrs->p / static_cast<double>(b * b)
                        * static_cast<double>(h * w) / places;
        sizes s = {static_cast<int>(y->d[1]), static_cast<int>(h), static_cast<int>(w),
                   static_cast<int>(b), rc_count(y)};
        int blocks = static_cast<int>(rc_up(s.count, AT_A_TIME));
        double *ws = static_cast<double *>(call->ws);
        int32_t *counts = static_cast<int32_t *>(call->tmp);
        rc_launch(draw_kernel, dim3(static_cast<unsigned>(blocks)), dim3(RC_BLOCK), 0, stream, s,
                  call->seed, call->step, call->node, chance,
                  reinterpret_cast<uint8_t *>(ws + 1), counts);
        rc_launch(scale_kernel, dim3(1), dim3(RC_BLOCK), 0, stream,
                  static_cast<const int32_t *>(counts), blocks, s.count, ws);
    }
    apply<T>(call, call->x[0], call->y, false, stream);
}

RC_CUDA_BACKWARD_APPLIES

} // namespace

RC_CUDA_LAUNCHER(drop_block, forward)
RC_CUDA_LAUNCHER(drop_block, backward)
RC_CUDA_TMP(drop_block)
{
    return !backward && call->training ? rc_up(rc_shape_count(&call->ys), AT_A_TIME) * 4 : 0;
}
