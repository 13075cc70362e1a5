/* Multi-head self-attention with two tables of relative positions, and its weights
 * (csrc/ops/relative_attention.c; attention.h says how). What a query gives with the h + w rows of
 * the tables is made first, (n, heads, T, h + w); backward the sums of l over a row or column of
 * keys lie in a second such array, from which dq and the tables' gradients come. */
#include "attention.h"
#include "rows.h"

namespace {

enum { Q, K, V, REL_H, REL_W };

struct sizes {
    int n, channels, h, w, heads, d;
    __host__ __device__ int t() const { return h * w; }
    __host__ __device__ int tables() const { return h + w; }
};

sizes
sizes_of(const rc_call *call)
{
    const rc_shape *x = &call->xs[Q];
    int heads = static_cast<int>(call->attrs->groups), c = static_cast<int>(x->d[1]);
    return {static_cast<int>(x->d[0]), c, static_cast<int>(x->d[2]), static_cast<int>(x->d[3]),
            heads, c / heads};
}

/* Row of a table that query i sees at place p of h + w: rows of keys, then columns. */
__device__ __forceinline__ const float *
table_row(const float *rel_h, const float *rel_w, const sizes &s, int i, int p)
{
    return p < s.h ? rel_h + (p - i / s.w + s.h - 1) * s.d
                   : rel_w + (p - s.h - i % s.w + s.w - 1) * s.d;
}

/* Row = (image * heads + head) * T + i: a warp a query. */
template <class T> struct make_tables {
    const T *q;
    const float *rel_h, *rel_w;
    float *to;
    sizes s;
    __device__ void operator()(int row, int lane) const
    {
        int i = row % s.t(), at = row / s.t(), head = at % s.heads;
        const T *own = q + (static_cast<int64_t>(at / s.heads) * s.t() + i) * s.channels
                       + head * s.d;
        for (int p = 0; p < s.tables(); p++) {
            const float *table = table_row(rel_h, rel_w, s, i, p);
            float sum = 0;
            for (int l = lane; l < s.d; l += 32) {
                sum += rc_get(own, l) * table[l];
            }
            sum = rc_warp_sum(sum);
            if (lane == 0) {
                to[static_cast<int64_t>(row) * s.tables() + p] = sum;
            }
        }
    }
};

template <class T, bool ROWS> struct problem {
    const T *pq, *pk, *pv, *pdy;
    T *py, *dq, *dk, *dv;
    const float *rel_h, *rel_w, *tables;
    float *sums; /* of l */
    sizes s;
    int r, c, k, e;
    float factor;
    bool add_q, add_k, add_v, rel;
    static constexpr bool only_rows = ROWS;

    __device__ __forceinline__ void at(int image)
    {
        int64_t t = s.t(), from = image / s.heads * t * s.channels + image % s.heads * s.d;
        pq += from;
        pk += from;
        pv = pv ? pv + from : pv;
        pdy = pdy ? pdy + from : pdy;
        py = py ? py + (ROWS ? image * t * t : from) : py;
        dq = dq ? dq + from : dq;
        dk = dk ? dk + from : dk;
        dv = dv ? dv + from : dv;
        tables += image * t * s.tables();
        sums = sums ? sums + image * t * s.tables() : sums;
    }
    __device__ float a(int i, int l) const { return rc_get(pq, i * s.channels + l); }
    __device__ float b(int l, int j) const { return rc_get(pk, j * s.channels + l); }
    __device__ float v(int j, int l) const { return rc_get(pv, j * s.channels + l); }
    __device__ float dy(int i, int l) const { return rc_get(pdy, i * s.channels + l); }
    __device__ bool a_by_k() const { return true; }
    __device__ bool b_by_k() const { return true; }
    __device__ bool v_by_key() const { return false; }
    __device__ bool y_by_query() const { return false; }
    __device__ float logit(int i, int j, float sum) const
    {
        const float *of = tables + i * s.tables();
        return factor * (sum + of[j / s.w] + of[s.h + j % s.w]);
    }
    __device__ void put_y(int i, int l, float x) const
    {
        rc_set(py, ROWS ? i * s.t() + l : i * s.channels + l, x);
    }
    __device__ void put_a(int i, int l, float x) const
    {
        for (int p = 0; p < s.tables(); p++) {
            x += sums[i * s.tables() + p] * table_row(rel_h, rel_w, s, i, p)[l];
        }
        rc_put(dq, i * s.channels + l, x, add_q);
    }
    __device__ void put_b(int l, int j, float x) const { rc_put(dk, j * s.channels + l, x, add_k); }
    __device__ void put_v(int j, int l, float x) const { rc_put(dv, j * s.channels + l, x, add_v); }
    __host__ __device__ bool wants_a() const { return dq != nullptr; }
    __host__ __device__ bool wants_b() const { return dk != nullptr; }
    __host__ __device__ bool wants_v() const { return dv != nullptr; }
    __host__ __device__ bool wants_logits() const { return dq || dk || rel; }
    bool shared_gradients() const { return dk == dv; }

    /* Sums of the BR rows of l over rows and columns of keys; known to the block afterwards. */
    template <int BR, class S> __device__ void collect(int i0, S l) const
    {
        for (int o = threadIdx.x; o < BR * s.tables(); o += 256) {
            int i = o / s.tables(), p = o % s.tables();
            if (i0 + i < r) {
                int from = p < s.h ? p * s.w : p - s.h, step = p < s.h ? 1 : s.w;
                int count = p < s.h ? s.w : s.h;
                float sum = 0;
                for (int j = 0; j < count; j++) {
                    sum += l[i * c + from + j * step];
                }
                sums[(i0 + i) * s.tables() + p] = sum;
            }
        }
        RC_SYNC();
    }
};

/* Gradient of a table, (2*size - 1, d): row p collects sums[.., offset + place] q of all queries
 * whose place for it is inside. A block a row of the table and 32 channels. */
template <class T>
__global__ void __launch_bounds__(256, 2)
table_kernel(const T *q, const float *sums, float *to, sizes s, int size, bool columns, int blocks,
             bool add)
{
    RC_SHARED(double, parts, 256);
    int tx = threadIdx.x % 32, ty = threadIdx.x / 32, p = static_cast<int>(blockIdx.x) / blocks;
    int l = static_cast<int>(blockIdx.x) % blocks * 32 + tx, t = s.t();
    double total = 0;
    for (int at = ty; l < s.d && at < s.n * s.heads; at += 8) {
        const T *of = q + static_cast<int64_t>(at / s.heads) * t * s.channels
                      + at % s.heads * s.d + l;
        float sum = 0;
        for (int i = 0; i < t; i++) {
            int place = p - (size - 1) + (columns ? i % s.w : i / s.w);
            if (place >= 0 && place < size) {
                sum += sums[(static_cast<int64_t>(at) * t + i) * s.tables()
                            + (columns ? s.h : 0) + place]
                       * rc_get(of, static_cast<int64_t>(i) * s.channels);
            }
        }
        total += sum;
    }
    parts[ty * 32 + tx] = total;
    RC_SYNC();
    if (ty == 0 && l < s.d) {
        for (int o = 1; o < 8; o++) {
            total += parts[o * 32 + tx];
        }
        rc_put(to, static_cast<int64_t>(p) * s.d + l, static_cast<float>(total), add);
    }
}

template <class T, bool ROWS>
problem<T, ROWS>
problem_of(const rc_call *call, rc_cuda_stream stream)
{
    problem<T, ROWS> p = {};
    p.s = sizes_of(call);
    p.r = p.c = p.s.t();
    p.k = p.e = p.s.d;
    p.factor = static_cast<float>(call->attrs->scale);
    p.pq = static_cast<const T *>(call->x[Q]);
    p.pk = static_cast<const T *>(call->x[K]);
    p.pv = static_cast<const T *>(call->x[V]);
    p.rel_h = static_cast<const float *>(call->x[REL_H]);
    p.rel_w = static_cast<const float *>(call->x[REL_W]);
    float *tables = static_cast<float *>(call->tmp);
    p.tables = tables;
    rc_rows::warps(stream, static_cast<int64_t>(p.s.n) * p.s.heads * p.r,
                   make_tables<T>{p.pq, p.rel_h, p.rel_w, tables, p.s});
    return p;
}

template <class T, bool ROWS>
void
run(const rc_call *call, rc_cuda_stream stream)
{
    problem<T, ROWS> p = problem_of<T, ROWS>(call, stream);
    p.py = static_cast<T *>(call->y);
    rc_attend::forward(stream, static_cast<int64_t>(p.s.n) * p.s.heads, p);
}

template <class T>
void
forward(const rc_call *call, rc_cuda_stream stream)
{
    run<T, false>(call, stream);
}

template <class T>
void
weights(const rc_call *call, rc_cuda_stream stream)
{
    run<T, true>(call, stream);
}

template <class T>
void
table(const rc_call *call, const sizes &s, const float *sums, int input, int size,
      rc_cuda_stream stream)
{
    if (call->dx[input]) {
        int blocks = static_cast<int>(rc_up(s.d, 32));
        rc_launch(table_kernel<T>, dim3(static_cast<unsigned>((2 * size - 1) * blocks)),
                  dim3(256), 0, stream, static_cast<const T *>(call->x[Q]), sums,
                  static_cast<float *>(call->dx[input]), s, size, input == REL_W, blocks,
                  call->add[input]);
    }
}

template <class T>
void
backward(const rc_call *call, rc_cuda_stream stream)
{
    problem<T, false> p = problem_of<T, false>(call, stream);
    int64_t images = static_cast<int64_t>(p.s.n) * p.s.heads, rows = images * p.r;
    float *sums = static_cast<float *>(call->tmp) + rows * p.s.tables();
    p.sums = sums;
    p.pdy = static_cast<const T *>(call->dy);
    p.dq = static_cast<T *>(call->dx[Q]);
    p.dk = static_cast<T *>(call->dx[K]);
    p.dv = static_cast<T *>(call->dx[V]);
    p.add_q = call->add[Q];
    p.add_k = call->add[K];
    p.add_v = call->add[V];
    p.rel = call->dx[REL_H] || call->dx[REL_W];
    rc_attend::backward(stream, images, p, sums + rows * p.s.tables());
    table<T>(call, p.s, sums, REL_H, p.s.h, stream);
    table<T>(call, p.s, sums, REL_W, p.s.w, stream);
}

int64_t
tmp_of(const rc_call *call, bool backward)
{
    sizes s = sizes_of(call);
    int64_t rows = static_cast<int64_t>(s.n) * s.heads * s.t();
    return rows * (backward ? 2 * s.tables() + 3 : s.tables()) * 4;
}

} // namespace

RC_CUDA_LAUNCHER(relative_attention, forward)
RC_CUDA_LAUNCHER(relative_attention, backward)
RC_CUDA_TMP(relative_attention)
{
    return tmp_of(call, backward);
}
RC_CUDA_LIMIT(relative_attention)
{
    sizes s = sizes_of(call);
    return rc_attend::limit(s.t(), s.t(), backward);
}
RC_CUDA_LIMIT(relative_attention_map)
{
    sizes s = sizes_of(call);
    return rc_attend::limit(s.t(), s.t(), backward);
}
RC_CUDA_TMP(relative_attention_map)
{
    return backward ? 0 : tmp_of(call, false);
}
extern "C" void rc_cuda_relative_attention_map_forward(const rc_call *, rc_cuda_stream);
extern "C" void
rc_cuda_relative_attention_map_forward(const rc_call *call, rc_cuda_stream stream)
{
    if (rc_cuda_type_of(call) == RC_CUDA_BF16) {
        weights<rc_bf16>(call, stream);
    } else {
        weights<float>(call, stream);
    }
}
