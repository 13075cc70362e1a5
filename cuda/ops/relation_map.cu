/* The MBGN page's relation in factored form (csrc/ops/relation_map.c): u = w a, y = b u^T, of each
 * image; never the P x P relation. ws: u, (n,q,c), float. Sums are compensated, since a batch norm
 * that follows subtracts a mean far above the deviation.
 *     du = dy^T b      db += dy u      dw += du a^T (sum over images)      da += w^T du */
#include "products.h"

namespace {

struct sizes {
    int n, p, c, q;
};

/* u = w a: (q,c) */
template <class T> struct make_u {
    const float *w;
    const T *x;
    float *u;
    sizes s;
    static constexpr bool a_by_k = true, b_by_k = false;
    __device__ float a(int, int i, int k) const { return w[static_cast<int64_t>(i) * s.p + k]; }
    __device__ float b(int image, int k, int j) const
    {
        return rc_get(x, (static_cast<int64_t>(image) * s.p + k) * s.c + j);
    }
    __device__ void put(int image, int i, int j, float v) const
    {
        u[(static_cast<int64_t>(image) * s.q + i) * s.c + j] = v;
    }
};

/* y = b u^T: (p,q) */
template <class T> struct make_y {
    const T *x;
    const float *u;
    T *y;
    sizes s;
    static constexpr bool a_by_k = true, b_by_k = true;
    __device__ float a(int image, int i, int k) const
    {
        return rc_get(x, (static_cast<int64_t>(image) * s.p + i) * s.c + k);
    }
    __device__ float b(int image, int k, int j) const
    {
        return u[(static_cast<int64_t>(image) * s.q + j) * s.c + k];
    }
    __device__ void put(int image, int i, int j, float v) const
    {
        rc_set(y, (static_cast<int64_t>(image) * s.p + i) * s.q + j, v);
    }
};

/* db = dy u: (p,c) */
template <class T> struct make_db {
    const T *dy;
    const float *u;
    T *db;
    sizes s;
    bool add;
    static constexpr bool a_by_k = true, b_by_k = false;
    __device__ float a(int image, int i, int k) const
    {
        return rc_get(dy, (static_cast<int64_t>(image) * s.p + i) * s.q + k);
    }
    __device__ float b(int image, int k, int j) const
    {
        return u[(static_cast<int64_t>(image) * s.q + k) * s.c + j];
    }
    __device__ void put(int image, int i, int j, float v) const
    {
        rc_put(db, (static_cast<int64_t>(image) * s.p + i) * s.c + j, v, add);
    }
};

/* du = dy^T b: (q,c) */
template <class T> struct make_du {
    const T *dy, *x;
    float *du;
    sizes s;
    static constexpr bool a_by_k = false, b_by_k = false;
    __device__ float a(int image, int i, int k) const
    {
        return rc_get(dy, (static_cast<int64_t>(image) * s.p + k) * s.q + i);
    }
    __device__ float b(int image, int k, int j) const
    {
        return rc_get(x, (static_cast<int64_t>(image) * s.p + k) * s.c + j);
    }
    __device__ void put(int image, int i, int j, float v) const
    {
        du[(static_cast<int64_t>(image) * s.q + i) * s.c + j] = v;
    }
};

/* da = w^T du: (p,c) */
template <class T> struct make_da {
    const float *w, *du;
    T *da;
    sizes s;
    bool add;
    static constexpr bool a_by_k = false, b_by_k = false;
    __device__ float a(int, int i, int k) const { return w[static_cast<int64_t>(k) * s.p + i]; }
    __device__ float b(int image, int k, int j) const
    {
        return du[(static_cast<int64_t>(image) * s.q + k) * s.c + j];
    }
    __device__ void put(int image, int i, int j, float v) const
    {
        rc_put(da, (static_cast<int64_t>(image) * s.p + i) * s.c + j, v, add);
    }
};

/* dw = du a^T over all images, one long sum: (q,p), k = image * c + channel */
template <class T> struct make_dw {
    const float *du;
    const T *x;
    float *dw;
    sizes s;
    bool add;
    static constexpr bool a_by_k = true, b_by_k = true;
    __device__ float a(int, int i, int k) const
    {
        return du[(static_cast<int64_t>(k / s.c) * s.q + i) * s.c + k % s.c];
    }
    __device__ float b(int, int k, int j) const
    {
        return rc_get(x, (static_cast<int64_t>(k / s.c) * s.p + j) * s.c + k % s.c);
    }
    __device__ void put(int, int i, int j, float v) const
    {
        rc_put(dw, static_cast<int64_t>(i) * s.p + j, v, add);
    }
};

sizes
sizes_of(const rc_call *call)
{
    const rc_shape *x = &call->xs[0];
    return {static_cast<int>(x->d[0]), static_cast<int>(x->d[2] * x->d[3]),
            static_cast<int>(x->d[1]), static_cast<int>(call->xs[2].d[0])};
}

template <class T>
void
forward(const rc_call *call, rc_cuda_stream stream)
{
    sizes s = sizes_of(call);
    float *u = static_cast<float *>(call->ws ? call->ws : call->tmp);
    if (!call->again || !call->ws) {
        rc_products::matrix(stream, s.n, s.q, s.c, s.p,
                            make_u<T>{static_cast<const float *>(call->x[2]),
                                      static_cast<const T *>(call->x[0]), u, s});
    }
    rc_products::matrix(stream, s.n, s.p, s.q, s.c,
                        make_y<T>{static_cast<const T *>(call->x[1]), u,
                                  static_cast<T *>(call->y), s});
}

template <class T>
void
backward(const rc_call *call, rc_cuda_stream stream)
{
    sizes s = sizes_of(call);
    const T *a = static_cast<const T *>(call->x[0]), *b = static_cast<const T *>(call->x[1]);
    const T *dy = static_cast<const T *>(call->dy);
    float *du = static_cast<float *>(call->tmp);
    if (call->dx[1]) {
        rc_products::matrix(stream, s.n, s.p, s.c, s.q,
                            make_db<T>{dy, static_cast<const float *>(call->ws),
                                       static_cast<T *>(call->dx[1]), s, call->add[1]});
    }
    if (!call->dx[0] && !call->dx[2]) {
        return;
    }
    rc_products::matrix(stream, s.n, s.q, s.c, s.p, make_du<T>{dy, b, du, s});
    if (call->dx[0]) {
        rc_products::matrix(stream, s.n, s.p, s.c, s.q,
                            make_da<T>{static_cast<const float *>(call->x[2]), du,
                                       static_cast<T *>(call->dx[0]), s, call->add[0]});
    }
    if (call->dx[2]) {
        rc_products::matrix(stream, 1, s.q, s.p, static_cast<int64_t>(s.n) * s.c,
                            make_dw<T>{du, a, static_cast<float *>(call->dx[2]), s,
                                       call->add[2]});
    }
}

} // namespace

RC_CUDA_LAUNCHER(relation_map, forward)
RC_CUDA_LAUNCHER(relation_map, backward)
RC_CUDA_TMP(relation_map)
{
    sizes s = sizes_of(call);
    bool needed = backward ? call->dx[0] || call->dx[2] : !call->ws;
    return needed ? static_cast<int64_t>(s.n) * s.q * s.c * 4 : 0;
}
