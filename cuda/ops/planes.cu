/* AABS (csrc/ops/planes.c, the MBGN page's section 3): the planes that cut a map into five parts, a
 * block an image. Row means in float and in the CPU's order, the Gram matrix in double by a warp a
 * pair, the walk of the planes by the first warp, whose lanes share the sums of a likeness. */
#include "double_rows.h"
#include "ops/aabs.h"

namespace {

constexpr int THREADS = 512;

struct planes {
    int64_t at[4];
};

template <class S>
__device__ __forceinline__ double
score(S gram, int h, int y, int lo, int hi, int lane)
{
    int count = hi - lo;
    double m = 0, q = 0;
    for (int i = lane; i < count * count; i += 32) {
        q += gram[(lo + i / count) * h + lo + i % count];
    }
    for (int v = lo + lane; v < hi; v += 32) {
        m += gram[y * h + v];
    }
    m = rc_warp_sum(m) / count;
    q = rc_warp_sum(q) / (static_cast<double>(count) * count);
    return m / sqrt(q > 1e-12 ? q : 1e-12);
}

/* +1: row y is more like [l, hi), -1: more like [lo, l), 0: equal within 1e-5. */
template <class S>
__device__ __forceinline__ int
side(S gram, int h, int y, int lo, int l, int hi, int lane)
{
    double s = score(gram, h, y, lo, l, lane), t = score(gram, h, y, l, hi, lane);
    double near = 1e-5 * (s > t ? s : t);
    return t - s > near ? 1 : s - t > near ? -1 : 0;
}

/* rows: (n,h,c) scratch */
template <class T>
__global__ void __launch_bounds__(THREADS)
aabs_kernel(const T *x, planes start, float *rows, int64_t *to, int h, int w, int c)
{
    RC_SHARED_AT_LAUNCH(double, gram);
    int t = threadIdx.x, lane = t % 32, image = blockIdx.x;
    float *own = rows + static_cast<int64_t>(image) * h * c;
    for (int i = t; i < h * c; i += THREADS) {
        const T *from = x + (static_cast<int64_t>(image) * h + i / c) * w * c + i % c;
        float sum = 0;
        for (int j = 0; j < w; j++) {
            sum += rc_get(from, static_cast<int64_t>(j) * c);
        }
        own[i] = sum / static_cast<float>(w);
    }
    RC_SYNC();
    for (int pair = t / 32; pair < h * h; pair += THREADS / 32) {
        int u = pair / h, v = pair % h;
        if (v <= u) {
            double dot = rc_double::dot(own + u * c, own + v * c, c, lane);
            if (lane == 0) {
                gram[u * h + v] = dot;
                if (u != v) {
                    gram[v * h + u] = dot;
                }
            }
        }
    }
    RC_SYNC();
    if (t >= 32) {
        return;
    }
    int at[6] = {0, 0, 0, 0, 0, h};
    for (int i = 0; i < 4; i++) {
        at[i + 1] = static_cast<int>(start.at[i]);
    }
    bool changed = true;
    for (int pass = 0; pass < h && changed; pass++) {
        changed = false;
#pragma unroll
        for (int i = 1; i <= 4; i++) {
            int l = at[i], lo = at[i - 1], hi = at[i + 1];
            int above = side(gram, h, l - 1, lo, l, hi, lane);
            int below = side(gram, h, l, lo, l, hi, lane);
            if (above == 1 && below == 1 && l - lo >= 2) {
                at[i] = l - 1;
                changed = true;
            } else if (above == -1 && below == -1 && hi - l >= 2) {
                at[i] = l + 1;
                changed = true;
            }
        }
    }
    if (lane == 0) {
        for (int i = 0; i < 4; i++) {
            to[image * 4LL + i] = at[i + 1];
        }
    }
}

struct same {
    planes p;
    int64_t *to;
    __device__ void operator()(int i) const { to[i] = p.at[i % 4]; }
};

template <class T>
void
forward(const rc_call *call, rc_cuda_stream stream)
{
    const rc_shape *x = &call->xs[0];
    int64_t *to = static_cast<int64_t *>(call->y), h = x->d[2];
    planes p;
    if (call->attrs->mode == 2) {
        rc_planes_uniform(h, p.at);
    } else {
        rc_planes_body(h, p.at);
    }
    if (call->attrs->mode != 0) {
        rc_each(stream, x->d[0] * 4, same{p, to});
        return;
    }
    rc_launch(aabs_kernel<T>, dim3(static_cast<unsigned>(x->d[0])), dim3(THREADS),
              static_cast<size_t>(h * h) * 8, stream, static_cast<const T *>(call->x[0]), p,
              static_cast<float *>(call->tmp), to, static_cast<int>(h),
              static_cast<int>(x->d[3]), static_cast<int>(x->d[1]));
}

} // namespace

RC_CUDA_LAUNCHER(planes, forward)
RC_CUDA_TMP(planes)
{
    const rc_shape *x = &call->xs[0];
    return backward || call->attrs->mode != 0 ? 0 : x->d[0] * x->d[2] * x->d[1] * 4;
}
RC_CUDA_LIMIT(planes)
{
    int64_t rows = call->attrs->mode == 0 && !backward ? call->xs[0].d[2] : 0, most = 1;
    while ((most + 1) * (most + 1) * 8 <= RC_SHARED_ROOM) {
        most++;
    }
    return {rows, most, "rows of a feature map"};
}
