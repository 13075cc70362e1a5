/* GeM pooling with a learnt exponent (csrc/ops/gem.c; ws: the largest t and the mean of u^p, (2,n,c)
 * of float). A block has 32 channels of one image; positions are walked over twice. Powers are
 * exp2f(p log2f(u)) of u in (0, 1]; u = 1 stays exactly 1. */
#include "columns.h"
#include "rows.h"

namespace {

using rc_columns::LANES;
using rc_columns::ROWS;

__device__ __forceinline__ float
power(float u, float p)
{
    return exp2f(p * log2f(u));
}

template <class T>
__global__ void __launch_bounds__(LANES * ROWS)
forward_kernel(const T *x, const float *p, T *y, float *ws, int n, int c, int positions,
               int blocks, float eps)
{
    RC_SHARED(float, s, ROWS * LANES);
    int tx = threadIdx.x, ty = threadIdx.y, image = static_cast<int>(blockIdx.x) / blocks;
    int k = static_cast<int>(blockIdx.x) % blocks * LANES + tx;
    int64_t first = static_cast<int64_t>(image) * positions * c + k;
    float top = eps, sum[1] = {0}, e = p[0];
    for (int r = ty; k < c && r < positions; r += ROWS) {
        top = fmaxf(top, rc_get(x, first + static_cast<int64_t>(r) * c));
    }
    s[ty * LANES + tx] = top;
    RC_SYNC();
    for (int r = 0; r < ROWS; r++) {
        top = fmaxf(top, s[r * LANES + tx]);
    }
    RC_SYNC();
    for (int r = ty; k < c && r < positions; r += ROWS) {
        float t = fmaxf(rc_get(x, first + static_cast<int64_t>(r) * c), eps);
        sum[0] += power(t / top, e);
    }
    rc_columns::across<float, 1>(sum, s, tx, ty);
    if (ty > 0 || k >= c) {
        return;
    }
    float m = sum[0] / static_cast<float>(positions);
    int64_t at = static_cast<int64_t>(image) * c + k;
    rc_set(y, at, top * powf(m, 1 / e));
    if (ws) {
        ws[at] = top;
        ws[static_cast<int64_t>(n) * c + at] = m;
    }
}

/* dps: (n,c), what each channel adds to the exponent's gradient; NULL: not wanted. */
template <class T>
__global__ void __launch_bounds__(LANES * ROWS)
backward_kernel(const T *x, const float *p, const T *dy, const float *ws, T *dx, float *dps, int n,
                int c, int positions, int blocks, float eps, bool add)
{
    RC_SHARED(float, s, ROWS * LANES);
    int tx = threadIdx.x, ty = threadIdx.y, image = static_cast<int>(blockIdx.x) / blocks;
    int k = static_cast<int>(blockIdx.x) % blocks * LANES + tx;
    int64_t first = static_cast<int64_t>(image) * positions * c + k;
    int64_t at = static_cast<int64_t>(image) * c + k;
    bool mine = k < c;
    float e = p[0], top = mine ? ws[at] : 1;
    float m = mine ? ws[static_cast<int64_t>(n) * c + at] : 1, d = mine ? rc_get(dy, at) : 0;
    float factor = d * powf(m, (1 - e) / e) / static_cast<float>(positions), logs[1] = {0};
    for (int r = ty; mine && r < positions; r += ROWS) {
        int64_t i = first + static_cast<int64_t>(r) * c;
        float v = rc_get(x, i), l = log2f(fmaxf(v, eps) / top);
        if (dx) {
            rc_put(dx, i, v >= eps ? factor * exp2f((e - 1) * l) : 0, add);
        }
        logs[0] += exp2f(e * l) * (l * 0.693147180559945f);
    }
    rc_columns::across<float, 1>(logs, s, tx, ty);
    if (dps && ty == 0 && mine) {
        float y = top * powf(m, 1 / e);
        dps[at] = d * y * (logs[0] / static_cast<float>(positions) / (e * m)
                           - logf(m) / (e * e));
    }
}

struct values {
    const float *x;
    __device__ float operator()(int i) const { return x[i]; }
};

template <class T>
void
forward(const rc_call *call, rc_cuda_stream stream)
{
    const rc_shape *x = &call->xs[0];
    int blocks = static_cast<int>(rc_up(x->d[1], LANES));
    rc_launch(forward_kernel<T>, dim3(static_cast<unsigned>(x->d[0]) * blocks), dim3(LANES, ROWS),
              0, stream, static_cast<const T *>(call->x[0]),
              static_cast<const float *>(call->x[1]), static_cast<T *>(call->y),
              static_cast<float *>(call->ws), static_cast<int>(x->d[0]),
              static_cast<int>(x->d[1]), static_cast<int>(x->d[2] * x->d[3]), blocks,
              static_cast<float>(call->attrs->eps));
}

template <class T>
void
backward(const rc_call *call, rc_cuda_stream stream)
{
    const rc_shape *x = &call->xs[0];
    int blocks = static_cast<int>(rc_up(x->d[1], LANES));
    float *dps = call->dx[1] ? static_cast<float *>(call->tmp) : nullptr;
    int64_t count = x->d[0] * x->d[1];
    rc_launch(backward_kernel<T>, dim3(static_cast<unsigned>(x->d[0]) * blocks),
              dim3(LANES, ROWS), 0, stream, static_cast<const T *>(call->x[0]),
              static_cast<const float *>(call->x[1]), static_cast<const T *>(call->dy),
              static_cast<const float *>(call->ws), static_cast<T *>(call->dx[0]), dps,
              static_cast<int>(x->d[0]), static_cast<int>(x->d[1]),
              static_cast<int>(x->d[2] * x->d[3]), blocks,
              static_cast<float>(call->attrs->eps), call->add[0]);
    if (dps) {
        rc_rows::total(stream, count, dps + count, static_cast<float *>(call->dx[1]),
                       call->add[1], values{dps});
    }
}

} // namespace

RC_CUDA_LAUNCHER(gem, forward)
RC_CUDA_LAUNCHER(gem, backward)
RC_CUDA_TMP(gem)
{
    return backward && call->dx[1]
               ? (call->xs[0].d[0] * call->xs[0].d[1] + rc_rows::TOTAL_BLOCKS) * 4
               : 0;
}
