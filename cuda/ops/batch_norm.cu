/* Batch normalisation with residual and activation, in training and evaluation, both directions
 * (csrc/ops/batch_norm.c; ws: mean, 1/sqrt(var + eps), biased variance of the batch, (3,c)).
 *
 * Forward in training reads x twice: moments by Welford's rule in each thread, joined by Chan's
 * formula across threads and chunks (chunks in double), then one fused pass. Backward: sums of g
 * and g u, then one fused pass. With everything vectorised that is 2 reads and 1 write forward,
 * 4 reads (5 with a residual's y) and 1 or 2 writes backward. */
#include "columns.h"

namespace {

using rc_columns::LANES;
using rc_columns::ROWS;

/* Two sets of values, each by its count, mean and sum of squared distances from it, to one: Chan's
 * formula; counts may be zero. */
template <class A>
__device__ __forceinline__ void
join(A &count, A &mean, A &m2, A other_count, A other_mean, A other_m2)
{
    A n = count + other_count;
    if (n > 0) {
        A d = other_mean - mean, share = other_count / n;
        mean += d * share;
        m2 += other_m2 + d * d * count * share;
        count = n;
    }
}

/* partial: (chunks,2,c): mean and sum of squared distances from it. */
template <class T, int V>
__global__ void __launch_bounds__(LANES * ROWS, 3)
moments_kernel(const T *x, int c, int blocks, int rows, int height, float *partial)
{
    RC_SHARED(float, means, ROWS * LANES * V);
    RC_SHARED(float, squares, ROWS * LANES * V);
    int tx = threadIdx.x, ty = threadIdx.y, id = blockIdx.x;
    int k = (id % blocks * LANES + tx) * V, chunk = id / blocks, first = chunk * height;
    int end = rows - first < height ? rows : first + height;
    float mean[V], m2[V], v[V];
    for (int j = 0; j < V; j++) {
        mean[j] = m2[j] = 0;
    }
    float count = 0;
    if (k < c) {
#pragma unroll 2
        for (int r = first + ty; r < end; r += ROWS) {
            rc_get_pack<T, V>(x, static_cast<int64_t>(r) * c + k, v);
            count += 1;
            float share = 1 / count;
            for (int j = 0; j < V; j++) {
                float d = v[j] - mean[j];
                mean[j] += d * share;
                m2[j] += d * (v[j] - mean[j]);
            }
        }
    }
    for (int j = 0; j < V; j++) {
        means[(j * ROWS + ty) * LANES + tx] = mean[j];
        squares[(j * ROWS + ty) * LANES + tx] = m2[j];
    }
    RC_SYNC();
    if (ty > 0 || k >= c) {
        return;
    }
    for (int j = 0; j < V; j++) {
        float n = count;
        for (int o = 1; o < ROWS; o++) {
            int left = end - first - o;
            float rows_of_o = left > 0 ? static_cast<float>((left + ROWS - 1) / ROWS) : 0;
            join<float>(n, mean[j], m2[j], rows_of_o, means[(j * ROWS + o) * LANES + tx],
                        squares[(j * ROWS + o) * LANES + tx]);
        }
        partial[(static_cast<int64_t>(chunk) * 2) * c + k + j] = mean[j];
        partial[(static_cast<int64_t>(chunk) * 2 + 1) * c + k + j] = m2[j];
    }
}

__global__ void __launch_bounds__(LANES * ROWS)
statistics_kernel(const float *partial, int c, int rows, int chunks, int height, double eps,
                  float *ws)
{
    RC_SHARED(double, counts, ROWS * LANES);
    RC_SHARED(double, means, ROWS * LANES);
    RC_SHARED(double, squares, ROWS * LANES);
    int tx = threadIdx.x, ty = threadIdx.y, k = static_cast<int>(blockIdx.x) * LANES + tx;
    double n = 0, mean = 0, m2 = 0;
    for (int u = ty; k < c && u < chunks; u += ROWS) {
        int left = rows - u * height;
        join<double>(n, mean, m2, left < height ? left : height,
                     partial[static_cast<int64_t>(u) * 2 * c + k],
                     partial[(static_cast<int64_t>(u) * 2 + 1) * c + k]);
    }
    counts[ty * LANES + tx] = n;
    means[ty * LANES + tx] = mean;
    squares[ty * LANES + tx] = m2;
    RC_SYNC();
    if (ty > 0 || k >= c) {
        return;
    }
    for (int o = 1; o < ROWS; o++) {
        join<double>(n, mean, m2, counts[o * LANES + tx], means[o * LANES + tx],
                     squares[o * LANES + tx]);
    }
    ws[k] = static_cast<float>(mean);
    ws[c + k] = static_cast<float>(1 / sqrt(m2 / n + eps));
    ws[2 * c + k] = static_cast<float>(m2 / n);
}

struct channels {
    const float *gamma, *beta;
    const float *mean, *inv; /* training: of ws; evaluation: running mean, and inv NULL */
    const float *var;        /* evaluation */
    float eps;
    int c;
};

/* V channels from k: u = (x - mean) inv, y = (x - mean) scale + shift. */
template <int V> struct channel {
    float mean[V], inv[V], scale[V], shift[V];

    __device__ __forceinline__ channel(const channels &of, int k)
    {
        get(of.mean, k, mean);
        get(of.inv ? of.inv : of.var, k, inv);
        get(of.gamma, k, scale);
        get(of.beta, k, shift);
#pragma unroll
        for (int j = 0; j < V; j++) {
            inv[j] = of.inv ? inv[j] : 1 / sqrtf(inv[j] + of.eps);
            scale[j] *= inv[j];
        }
    }
    /* Backward is not given what it does not need. */
    static __device__ __forceinline__ void get(const float *x, int k, float (&to)[V])
    {
        if (x) {
            rc_get_floats<V>(x, k, to);
        } else {
#pragma unroll
            for (int j = 0; j < V; j++) {
                to[j] = 0;
            }
        }
    }
    __device__ __forceinline__ float normal(float x, int j) const
    {
        return (x - mean[j]) * scale[j] + shift[j];
    }
};

template <class T> struct values {
    const T *x, *residual;
    T *y;
    channels of;
    rc_activation act;
    template <int V> __device__ void at(int i) const
    {
        channel<V> to(of, i % of.c);
        float v[V], r[V];
        rc_get_pack<T, V>(x, i, v);
        if (residual) {
            rc_get_pack<T, V>(residual, i, r);
        }
        for (int j = 0; j < V; j++) {
            v[j] = to.normal(v[j], j);
            v[j] = act.value(residual ? v[j] + r[j] : v[j]);
        }
        rc_set_pack<T, V>(y, i, v);
    }
};

/* g: dy before the activation, whose sign comes from y where there is a residual, else from x. */
template <class T> struct upstream {
    const T *x, *y, *dy; /* y NULL: not needed */
    channels of;
    rc_activation act;
    bool from_x;

    template <int V>
    __device__ __forceinline__ void get(int64_t i, const channel<V> &of_k, const float (&xs)[V],
                                        float (&g)[V]) const
    {
        float v[V];
        rc_get_pack<T, V>(dy, i, g);
        if (from_x) {
            for (int j = 0; j < V; j++) {
                g[j] = act.gradient(act.value(of_k.normal(xs[j], j)), g[j]);
            }
        } else if (y) {
            rc_get_pack<T, V>(y, i, v);
            for (int j = 0; j < V; j++) {
                g[j] = act.gradient(v[j], g[j]);
            }
        }
    }
};

template <class T> struct sums_of {
    upstream<T> up;
    bool reads_x;
    float *means, *dgamma, *dbeta; /* means: (2,c), of g and g u; each may be NULL */
    float m;
    bool add_gamma, add_beta;

    template <int V>
    __device__ __forceinline__ void add(int, int row, int k, float (&sums)[2][V]) const
    {
        int64_t i = static_cast<int64_t>(row) * up.of.c + k;
        float x[V] = {}, g[V];
        if (reads_x) {
            rc_get_pack<T, V>(up.x, i, x);
        }
        channel<V> of_k(up.of, k);
        up.template get<V>(i, of_k, x, g);
        for (int j = 0; j < V; j++) {
            sums[0][j] += g[j];
            sums[1][j] += g[j] * ((x[j] - of_k.mean[j]) * of_k.inv[j]);
        }
    }
    template <class A>
    __device__ __forceinline__ void finish(int, int k, const A (&sums)[2]) const
    {
        if (means) {
            means[k] = static_cast<float>(sums[0] / m);
            means[up.of.c + k] = static_cast<float>(sums[1] / m);
        }
        if (dgamma) {
            rc_put(dgamma, k, static_cast<float>(sums[1]), add_gamma);
        }
        if (dbeta) {
            rc_put(dbeta, k, static_cast<float>(sums[0]), add_beta);
        }
    }
};

template <class T> struct gradients {
    upstream<T> up;
    const float *means; /* NULL: evaluation */
    T *dx, *dresidual;
    bool reads_x, add_x, add_residual;
    template <int V> __device__ void at(int i) const
    {
        int k = i % up.of.c;
        channel<V> of_k(up.of, k);
        float x[V] = {}, g[V], m[2][V] = {};
        if (reads_x) {
            rc_get_pack<T, V>(up.x, i, x);
        }
        up.template get<V>(i, of_k, x, g);
        if (dresidual) {
            rc_put_pack<T, V>(dresidual, i, g, add_residual);
        }
        if (!dx) {
            return;
        }
        if (means) {
            rc_get_floats<V>(means, k, m[0]);
            rc_get_floats<V>(means, up.of.c + k, m[1]);
        }
        for (int j = 0; j < V; j++) {
            float u = (x[j] - of_k.mean[j]) * of_k.inv[j];
            g[j] = of_k.scale[j] * (means ? g[j] - m[0][j] - u * m[1][j] : g[j]);
        }
        rc_put_pack<T, V>(dx, i, g, add_x);
    }
};

int64_t
rows_of(const rc_call *call)
{
    return rc_shape_count(&call->xs[0]) / call->xs[0].d[1];
}

channels
channels_of(const rc_call *call)
{
    int c = static_cast<int>(call->xs[0].d[1]);
    channels o = {static_cast<const float *>(call->x[1]), static_cast<const float *>(call->x[2]),
                  static_cast<const float *>(call->x[3]), nullptr,
                  static_cast<const float *>(call->x[4]), static_cast<float>(call->attrs->eps), c};
    if (call->training) {
        o.mean = static_cast<const float *>(call->ws);
        o.inv = o.mean + c;
    }
    return o;
}

template <class T, int V>
void
moments_of(const rc_call *call, rc_cuda_stream stream)
{
    int64_t c = call->xs[0].d[1], rows = rows_of(call), blocks = rc_up(c, LANES * V);
    rc_columns::cut u = rc_columns::cut_of(rows, blocks);
    float *partial = static_cast<float *>(call->tmp);
    rc_launch(moments_kernel<T, V>, dim3(static_cast<unsigned>(u.chunks * blocks)),
              dim3(LANES, ROWS), 0, stream, static_cast<const T *>(call->x[0]),
              static_cast<int>(c), static_cast<int>(blocks), static_cast<int>(rows),
              static_cast<int>(u.rows), partial);
    rc_launch(statistics_kernel, dim3(static_cast<unsigned>(rc_up(c, LANES))), dim3(LANES, ROWS),
              0, stream, static_cast<const float *>(partial), static_cast<int>(c),
              static_cast<int>(rows), static_cast<int>(u.chunks), static_cast<int>(u.rows),
              call->attrs->eps, static_cast<float *>(call->ws));
}

template <class T>
void
forward(const rc_call *call, rc_cuda_stream stream)
{
    int64_t c = call->xs[0].d[1];
    if (call->training && !call->again) {
        if (rc_fits_wide<T>(c)) {
            moments_of<T, rc_wide<T>>(call, stream);
        } else {
            moments_of<T, 1>(call, stream);
        }
    }
    const void *residual = rc_has(call, 5) ? call->x[5] : nullptr;
    rc_packs<T>(stream, rc_shape_count(&call->xs[0]), c,
                values<T>{static_cast<const T *>(call->x[0]), static_cast<const T *>(residual),
                          static_cast<T *>(call->y), channels_of(call),
                          rc_activation_of(call->attrs)});
}

template <class T>
void
backward(const rc_call *call, rc_cuda_stream stream)
{
    int64_t c = call->xs[0].d[1], rows = rows_of(call);
    bool residual = rc_has(call, 5), active = call->attrs->act != RC_ACT_NONE;
    upstream<T> up = {static_cast<const T *>(call->x[0]),
                      static_cast<const T *>(active && residual ? call->y : nullptr),
                      static_cast<const T *>(call->dy), channels_of(call),
                      rc_activation_of(call->attrs), active && !residual};
    float *dgamma = static_cast<float *>(call->dx[1]), *dbeta = static_cast<float *>(call->dx[2]);
    T *dx = static_cast<T *>(call->dx[0]);
    T *dresidual = residual ? static_cast<T *>(call->dx[5]) : nullptr;
    bool whole = dx && call->training;
    float *means = whole ? static_cast<float *>(call->tmp) : nullptr;
    if (dgamma || dbeta || whole) {
        bool products = dgamma || whole;
        rc_columns::run<T, 2>(stream, 1, rows, c,
                              static_cast<float *>(call->tmp) + (whole ? 2 * c : 0),
                              sums_of<T>{up, products || up.from_x, means, dgamma,
                                         dbeta, static_cast<float>(rows), call->add[1],
                                         call->add[2]});
    }
    if (dx || dresidual) {
        rc_packs<T>(stream, rc_shape_count(&call->xs[0]), c,
                    gradients<T>{up, means, dx, dresidual, whole || up.from_x, call->add[0],
                                 residual && call->add[5]});
    }
}

__global__ void __launch_bounds__(RC_BLOCK)
commit_kernel(const float *ws, float *mean, float *var, int c, double momentum, double unbiased)
{
    int k = static_cast<int>(blockIdx.x) * RC_BLOCK + static_cast<int>(threadIdx.x);
    if (k < c) {
        mean[k] = static_cast<float>((1 - momentum) * mean[k] + momentum * ws[k]);
        var[k] = static_cast<float>((1 - momentum) * var[k] + momentum * unbiased * ws[2 * c + k]);
    }
}

void
commit(const rc_call *call, rc_cuda_stream stream)
{
    double m = static_cast<double>(rows_of(call));
    int c = static_cast<int>(call->xs[0].d[1]);
    rc_launch(commit_kernel, dim3(static_cast<unsigned>(rc_up(c, RC_BLOCK))), dim3(RC_BLOCK), 0,
              stream, static_cast<const float *>(call->ws), static_cast<float *>(call->state[0]),
              static_cast<float *>(call->state[1]), c, call->attrs->momentum,
              m > 1 ? m / (m - 1) : 1.0);
}

} // namespace

RC_CUDA_LAUNCHER(batch_norm, forward)
RC_CUDA_LAUNCHER(batch_norm, backward)
RC_CUDA_LAUNCHER_F32(batch_norm, commit)
RC_CUDA_TMP(batch_norm)
{
    int64_t c = call->xs[0].d[1], rows = rows_of(call);
    if (!backward) { /* moments are written for a single chunk, too */
        int64_t blocks = rc_cuda_type_of(call) == RC_CUDA_BF16 ? rc_columns::blocks_of<rc_bf16>(c)
                                                               : rc_columns::blocks_of<float>(c);
        return call->training ? rc_columns::cut_of(rows, blocks).chunks * 2 * c * 4 : 0;
    }
    return 2 * c * 4 + rc_columns::scratch(call, 1, rows, c, 2);
}
