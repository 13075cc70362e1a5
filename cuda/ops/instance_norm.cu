/* Instance normalisation (csrc/ops/instance_norm.c; ws: mean and 1/sqrt(var + eps), (2,n,c), NULL
 * where nobody needs them). A block has 32 packs of channels of one image and walks over its
 * positions three times; the second and third walk find them in a cache. */
#include "columns.h"

namespace {

using rc_columns::LANES;
using rc_columns::ROWS;

/* What the first warp's threads know of their channels, to the others of their column; right after
 * `across`, whose sums they hold. A barrier comes before s is used again. */
template <int V, class S>
__device__ __forceinline__ void
share(float (&v)[V], S s, int tx, int ty)
{
    if (ty == 0) {
        for (int j = 0; j < V; j++) {
            s[j * LANES + tx] = v[j];
        }
    }
    RC_SYNC();
    for (int j = 0; j < V; j++) {
        v[j] = s[j * LANES + tx];
    }
}

template <class T, int V>
__global__ void __launch_bounds__(LANES * ROWS, 3)
forward_kernel(const T *x, const float *gamma, const float *beta, T *y, float *ws, int n, int c,
               int p, int blocks, double eps)
{
    RC_SHARED(float, s, ROWS * LANES * V);
    int tx = threadIdx.x, ty = threadIdx.y, image = static_cast<int>(blockIdx.x) / blocks;
    int k = (static_cast<int>(blockIdx.x) % blocks * LANES + tx) * V;
    int64_t first = static_cast<int64_t>(image) * p * c + k;
    bool mine = k < c;
    float mean[V], var[V], v[V];
    for (int j = 0; j < V; j++) {
        mean[j] = var[j] = 0;
    }
    for (int r = ty; mine && r < p; r += ROWS) {
        rc_get_pack<T, V>(x, first + static_cast<int64_t>(r) * c, v);
        for (int j = 0; j < V; j++) {
            mean[j] += v[j];
        }
    }
    rc_columns::across<float, V>(mean, s, tx, ty);
    share<V>(mean, s, tx, ty);
    RC_SYNC();
    for (int j = 0; j < V; j++) {
        mean[j] /= static_cast<float>(p);
    }
    for (int r = ty; mine && r < p; r += ROWS) {
        rc_get_pack<T, V>(x, first + static_cast<int64_t>(r) * c, v);
        for (int j = 0; j < V; j++) {
            var[j] += (v[j] - mean[j]) * (v[j] - mean[j]);
        }
    }
    rc_columns::across<float, V>(var, s, tx, ty);
    share<V>(var, s, tx, ty);
    if (!mine) {
        return;
    }
    float scale[V], shift[V];
    for (int j = 0; j < V; j++) {
        float inv = static_cast<float>(1 / sqrt(static_cast<double>(var[j]) / p + eps));
        scale[j] = gamma[k + j] * inv;
        shift[j] = beta[k + j];
        if (ws && ty == 0) {
            ws[static_cast<int64_t>(image) * c + k + j] = mean[j];
            ws[(static_cast<int64_t>(n) + image) * c + k + j] = inv;
        }
    }
    for (int r = ty; r < p; r += ROWS) {
        int64_t i = first + static_cast<int64_t>(r) * c;
        rc_get_pack<T, V>(x, i, v);
        for (int j = 0; j < V; j++) {
            v[j] = (v[j] - mean[j]) * scale[j] + shift[j];
        }
        rc_set_pack<T, V>(y, i, v);
    }
}

/* sums: (2,n,c), of dy and dy u. */
template <class T, int V>
__global__ void __launch_bounds__(LANES * ROWS)
backward_kernel(const T *x, const float *gamma, const T *dy, const float *ws, T *dx, float *sums,
                int n, int c, int p, int blocks, bool add)
{
    RC_SHARED(float, s, ROWS * LANES * V);
    int tx = threadIdx.x, ty = threadIdx.y, image = static_cast<int>(blockIdx.x) / blocks;
    int k = (static_cast<int>(blockIdx.x) % blocks * LANES + tx) * V;
    int64_t first = static_cast<int64_t>(image) * p * c + k;
    int64_t at = static_cast<int64_t>(image) * c + k, other = static_cast<int64_t>(n) * c;
    bool mine = k < c;
    float mean[V], inv[V], sum[V], product[V], v[V], d[V];
    for (int j = 0; j < V; j++) {
        mean[j] = mine ? ws[at + j] : 0;
        inv[j] = mine ? ws[other + at + j] : 0;
        sum[j] = product[j] = 0;
    }
    for (int r = ty; mine && r < p; r += ROWS) {
        int64_t i = first + static_cast<int64_t>(r) * c;
        rc_get_pack<T, V>(dy, i, d);
        if (x) {
            rc_get_pack<T, V>(x, i, v);
        }
        for (int j = 0; j < V; j++) {
            sum[j] += d[j];
            product[j] += x ? d[j] * ((v[j] - mean[j]) * inv[j]) : 0;
        }
    }
    rc_columns::across<float, V>(sum, s, tx, ty);
    RC_SYNC();
    rc_columns::across<float, V>(product, s, tx, ty);
    if (ty == 0 && mine) {
        for (int j = 0; j < V; j++) {
            sums[at + j] = sum[j];
            sums[other + at + j] = product[j];
        }
    }
    if (!dx) {
        return;
    }
    share<V>(product, s, tx, ty);
    RC_SYNC();
    share<V>(sum, s, tx, ty);
    if (!mine) {
        return;
    }
    for (int r = ty; r < p; r += ROWS) {
        int64_t i = first + static_cast<int64_t>(r) * c;
        rc_get_pack<T, V>(dy, i, d);
        rc_get_pack<T, V>(x, i, v);
        for (int j = 0; j < V; j++) {
            float u = (v[j] - mean[j]) * inv[j], m = 1 / static_cast<float>(p);
            d[j] = gamma[k + j] * inv[j] * (d[j] - sum[j] * m - u * (product[j] * m));
        }
        rc_put_pack<T, V>(dx, i, d, add);
    }
}

/* Of all images, in double. */
struct parameters {
    const float *sums;
    float *dgamma, *dbeta;
    int n, c;
    bool add_gamma, add_beta;
    __device__ void operator()(int k) const
    {
        double sum = 0, product = 0;
        for (int i = 0; i < n; i++) {
            sum += sums[static_cast<int64_t>(i) * c + k];
            product += sums[static_cast<int64_t>(n + i) * c + k];
        }
        if (dgamma) {
            rc_put(dgamma, k, static_cast<float>(product), add_gamma);
        }
        if (dbeta) {
            rc_put(dbeta, k, static_cast<float>(sum), add_beta);
        }
    }
};

struct sizes {
    int n, c, p;
};

sizes
sizes_of(const rc_call *call)
{
    const rc_shape *y = &call->ys;
    return {static_cast<int>(y->d[0]), static_cast<int>(y->d[1]),
            static_cast<int>(y->d[2] * y->d[3])};
}

template <class T, int V>
void
forward_packs(const rc_call *call, rc_cuda_stream stream)
{
    sizes s = sizes_of(call);
    int blocks = static_cast<int>(rc_up(s.c, LANES * V));
    rc_launch(forward_kernel<T, V>, dim3(static_cast<unsigned>(s.n) * blocks), dim3(LANES, ROWS),
              0, stream, static_cast<const T *>(call->x[0]),
              static_cast<const float *>(call->x[1]), static_cast<const float *>(call->x[2]),
              static_cast<T *>(call->y), static_cast<float *>(call->ws), s.n, s.c, s.p, blocks,
              call->attrs->eps);
}

template <class T, int V>
void
backward_packs(const rc_call *call, rc_cuda_stream stream)
{
    sizes s = sizes_of(call);
    int blocks = static_cast<int>(rc_up(s.c, LANES * V));
    float *sums = static_cast<float *>(call->tmp);
    rc_launch(backward_kernel<T, V>, dim3(static_cast<unsigned>(s.n) * blocks), dim3(LANES, ROWS),
              0, stream, static_cast<const T *>(call->x[0]),
              static_cast<const float *>(call->x[1]), static_cast<const T *>(call->dy),
              static_cast<const float *>(call->ws), static_cast<T *>(call->dx[0]), sums, s.n, s.c,
              s.p, blocks, call->add[0]);
    if (call->dx[1] || call->dx[2]) {
        rc_each(stream, s.c,
                parameters{sums, static_cast<float *>(call->dx[1]),
                           static_cast<float *>(call->dx[2]), s.n, s.c, call->add[1],
                           call->add[2]});
    }
}

template <class T>
void
forward(const rc_call *call, rc_cuda_stream stream)
{
    if (rc_fits_wide<T>(call->ys.d[1])) {
        forward_packs<T, rc_wide<T>>(call, stream);
    } else {
        forward_packs<T, 1>(call, stream);
    }
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

RC_CUDA_LAUNCHER(instance_norm, forward)
RC_CUDA_LAUNCHER(instance_norm, backward)
RC_CUDA_TMP(instance_norm)
{
    return backward ? 2 * call->ys.d[0] * call->ys.d[1] * 4 : 0;
}
