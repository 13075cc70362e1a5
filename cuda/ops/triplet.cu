/* Batch-hard triplet loss (csrc/ops/triplet.c), mined on the device: a block an anchor, a warp a
 * distance, in double as there. ws: a `mined` an anchor. Backward: a block a row collects from the
 * anchors that chose it, in their order. */
#include "double_rows.h"

namespace {

constexpr double TINY = 1e-12;

struct mined {
    int64_t positive, negative; /* rows; negative -1: the batch has one identity */
    double ap, an, slope;
};

struct rule {
    bool cosine, soft, normalized;
    double margin;

    __device__ __forceinline__ double scale(double length) const
    {
        if (cosine) {
            return 1 / (length < TINY ? TINY : length);
        }
        return normalized ? 1 / (length + TINY) : 1;
    }
};

rule
rule_of(const rc_attrs *a)
{
    return {a->mode == 1, a->soft != 0, a->normalized != 0, a->margin};
}

template <class T>
__global__ void __launch_bounds__(RC_BLOCK)
mine_kernel(const T *x, const int64_t *labels, const double *lengths, rule r, int n, int c,
            mined *ws, double *losses)
{
    RC_SHARED_AT_LAUNCH(double, d);
    int a = blockIdx.x, t = threadIdx.x, lane = t % 32;
    const T *own = x + static_cast<int64_t>(a) * c;
    double s = r.scale(lengths[a]);
    for (int j = t / 32; j < n; j += RC_BLOCK / 32) {
        const T *other = x + static_cast<int64_t>(j) * c;
        double u = r.scale(lengths[j]), v = 0;
        if (r.cosine) {
            v = j == a ? 0 : 2 - 2 * s * u * rc_double::dot(own, other, c, lane);
        } else {
            double square = j == a ? 0 : rc_double::distance2(own, s, other, u, c, lane);
            v = sqrt(square > TINY ? square : TINY);
        }
        if (lane == 0) {
            d[j] = v;
        }
    }
    RC_SYNC();
    if (t >= 32) {
        return;
    }
    double ap = 0, an = 0;
    int positive = -1, negative = -1;
    for (int j = lane; j < n; j += 32) {
        bool same = labels[j] == labels[a];
        if (same && (positive < 0 || d[j] > ap)) {
            ap = d[j];
            positive = j;
        } else if (!same && (negative < 0 || d[j] < an)) {
            an = d[j];
            negative = j;
        }
    }
    for (int by = 16; by > 0; by /= 2) { /* ties: the lowest row */
        double v = __shfl_xor_sync(RC_ALL, ap, by), w = __shfl_xor_sync(RC_ALL, an, by);
        int p = __shfl_xor_sync(RC_ALL, positive, by), q = __shfl_xor_sync(RC_ALL, negative, by);
        if (p >= 0 && (positive < 0 || v > ap || (v == ap && p < positive))) {
            ap = v;
            positive = p;
        }
        if (q >= 0 && (negative < 0 || w < an || (w == an && q < negative))) {
            an = w;
            negative = q;
        }
    }
    if (lane == 0) {
        double v = ap - an, slope, loss;
        if (r.soft) {
            slope = 1 / (1 + exp(-v));
            loss = (v > 0 ? v : 0) + log1p(exp(-fabs(v)));
        } else {
            slope = v + r.margin >= 0 ? 1 : 0;
            loss = v + r.margin > 0 ? v + r.margin : 0;
        }
        losses[a] = loss;
        if (ws) {
            ws[a] = {positive, negative, ap, an, slope};
        }
    }
}

/* What a pair at distance d adds to the gradient of row i's z, channel by channel. dz: shared. */
template <class T, class D>
__device__ __forceinline__ void
pull(const T *xi, const T *xj, double si, double sj, const rule &r, bool none, double d,
     double weight, int c, D dz)
{
    if (none) {
        return;
    }
    for (int l = threadIdx.x; l < c; l += RC_BLOCK) {
        double part = r.cosine ? -2 * weight * sj * rc_get(xj, l)
                               : weight * (si * rc_get(xi, l) - sj * rc_get(xj, l)) / d;
        dz[l] = dz[l] + part;
    }
}

template <class T>
__global__ void __launch_bounds__(RC_BLOCK)
backward_kernel(const T *x, const mined *ws, const double *lengths, rule r, const float *dy, int n,
                int c, T *dx, bool add)
{
    RC_SHARED_AT_LAUNCH(double, dz);
    RC_SHARED(double, s, 33);
    int i = blockIdx.x, t = threadIdx.x;
    const T *own = x + static_cast<int64_t>(i) * c;
    double si = r.scale(lengths[i]), factor = static_cast<double>(dy[0]) / n;
    for (int l = t; l < c; l += RC_BLOCK) { /* a thread has its channels to itself */
        dz[l] = 0;
    }
    for (int a = 0; a < n; a++) {
        mined m = ws[a];
        double weight = factor * m.slope;
        if (m.negative < 0) {
            continue;
        }
        for (int side = 0; side < 2; side++) {
            int64_t other = side ? m.negative : m.positive;
            if (i != a && (i != other || (side && i == m.positive))) {
                continue;
            }
            int j = static_cast<int>(i == a ? other : a);
            double d = side ? m.an : m.ap;
            const T *xj = x + static_cast<int64_t>(j) * c;
            double sj = r.scale(lengths[j]);
            bool none = j == i;
            if (!none && !r.cosine && d <= 2e-6) { /* at the bound? */
                double square = 0;
                for (int l = t; l < c; l += RC_BLOCK) {
                    double v = si * rc_get(own, l) - sj * rc_get(xj, l);
                    square += v * v;
                }
                none = rc_block_sum(square, s) < TINY;
            }
            pull(own, xj, si, sj, r, none, d, side ? -weight : weight, c, dz);
        }
    }
    T *to = dx + static_cast<int64_t>(i) * c;
    if (r.cosine) {
        rc_double::unit_backward(own, lengths[i], TINY, dz, s, c, add, to);
        return;
    }
    double along = 0;
    if (r.normalized && lengths[i] > 0) { /* z = x s with s = 1/(|x| + tiny) */
        for (int l = t; l < c; l += RC_BLOCK) {
            along += rc_get(own, l) * dz[l];
        }
        along = rc_block_sum(along, s) * (si * si / lengths[i]);
    }
    for (int l = t; l < c; l += RC_BLOCK) {
        rc_put(to, l, static_cast<float>(dz[l] * si - rc_get(own, l) * along), add);
    }
}

template <class T>
void
forward(const rc_call *call, rc_cuda_stream stream)
{
    int64_t n = call->xs[0].d[0], c = call->xs[0].d[1];
    const double *lengths = rc_double::lengths_of<T>(call, stream);
    double *losses = static_cast<double *>(call->tmp) + n;
    rc_launch(mine_kernel<T>, dim3(static_cast<unsigned>(n)), dim3(RC_BLOCK),
              static_cast<size_t>(n) * 8, stream, static_cast<const T *>(call->x[0]),
              static_cast<const int64_t *>(call->x[1]), lengths, rule_of(call->attrs),
              static_cast<int>(n), static_cast<int>(c), static_cast<mined *>(call->ws), losses);
    rc_double::mean(stream, losses, n, static_cast<double>(n), call->y);
}

template <class T>
void
backward(const rc_call *call, rc_cuda_stream stream)
{
    int64_t n = call->xs[0].d[0], c = call->xs[0].d[1];
    const double *lengths = rc_double::lengths_of<T>(call, stream);
    rc_launch(backward_kernel<T>, dim3(static_cast<unsigned>(n)), dim3(RC_BLOCK),
              static_cast<size_t>(c) * 8, stream, static_cast<const T *>(call->x[0]),
              static_cast<const mined *>(call->ws), lengths, rule_of(call->attrs),
              static_cast<const float *>(call->dy), static_cast<int>(n), static_cast<int>(c),
              static_cast<T *>(call->dx[0]), call->add[0]);
}

} // namespace

RC_CUDA_LAUNCHER(triplet, forward)
RC_CUDA_LAUNCHER(triplet, backward)
RC_CUDA_TMP(triplet)
{
    return call->xs[0].d[0] * (backward ? 8 : 16);
}
RC_CUDA_LIMIT(triplet)
{
    return {call->xs[0].d[backward ? 1 : 0], RC_SHARED_ROOM / 8,
            backward ? "numbers in an embedding" : "images in a batch"};
}
