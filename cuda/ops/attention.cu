/* Softmax attention as one (csrc/ops/attention.c; attention.h says how). Inputs may be one value:
 * gradients are written in their order, those of b and v by kernels of their own then. */
#include "attention.h"

namespace {

template <class T> struct problem {
    const T *pa, *pb, *pv, *pdy;
    T *py, *da, *db, *dv;
    int r, c, k, e;
    int sa[2], sb[2], sv[2], sy[2]; /* steps: (i,k) of a, (k,j) of b, (j,e) of v, (i,e) of y */
    float factor;
    bool add_a, add_b, add_v;
    static constexpr bool only_rows = false;

    __device__ __forceinline__ void at(int image)
    {
        int64_t a = static_cast<int64_t>(image) * r * k, b = static_cast<int64_t>(image) * k * c;
        int64_t v = static_cast<int64_t>(image) * c * e, y = static_cast<int64_t>(image) * r * e;
        pa += a;
        pb += b;
        pv = pv ? pv + v : pv;
        pdy = pdy ? pdy + y : pdy;
        py = py ? py + y : py;
        da = da ? da + a : da;
        db = db ? db + b : db;
        dv = dv ? dv + v : dv;
    }
    __device__ float a(int i, int l) const { return rc_get(pa, i * sa[0] + l * sa[1]); }
    __device__ float b(int l, int j) const { return rc_get(pb, l * sb[0] + j * sb[1]); }
    __device__ float v(int j, int l) const { return rc_get(pv, j * sv[0] + l * sv[1]); }
    __device__ float dy(int i, int l) const { return rc_get(pdy, i * sy[0] + l * sy[1]); }
    __device__ bool a_by_k() const { return sa[1] == 1; }
    __device__ bool b_by_k() const { return sb[0] == 1; }
    __device__ bool v_by_key() const { return sv[0] == 1; }
    __device__ bool y_by_query() const { return sy[0] == 1; }
    __device__ float logit(int, int, float sum) const { return factor * sum; }
    __device__ void put_y(int i, int l, float x) const { rc_set(py, i * sy[0] + l * sy[1], x); }
    __device__ void put_a(int i, int l, float x) const
    {
        rc_put(da, i * sa[0] + l * sa[1], x, add_a);
    }
    __device__ void put_b(int l, int j, float x) const
    {
        rc_put(db, l * sb[0] + j * sb[1], x, add_b);
    }
    __device__ void put_v(int j, int l, float x) const
    {
        rc_put(dv, j * sv[0] + l * sv[1], x, add_v);
    }
    __host__ __device__ bool wants_a() const { return da != nullptr; }
    __host__ __device__ bool wants_b() const { return db != nullptr; }
    __host__ __device__ bool wants_v() const { return dv != nullptr; }
    __host__ __device__ bool wants_logits() const { return da || db; }
    bool shared_gradients() const { return db == dv; }
    template <int BR, class S> __device__ void collect(int, S) const {}
};

template <class T>
problem<T>
problem_of(const rc_call *call)
{
    const rc_attrs *at = call->attrs;
    const rc_shape *xs = call->xs;
    bool by_column = at->mode == 1;
    problem<T> p = {};
    p.r = static_cast<int>(xs[0].d[at->trans_a ? 2 : 1]);
    p.k = static_cast<int>(xs[0].d[at->trans_a ? 1 : 2]);
    p.c = static_cast<int>(xs[1].d[at->trans_b ? 1 : 2]);
    p.e = static_cast<int>(xs[2].d[by_column ? 1 : 2]);
    p.factor = static_cast<float>(at->negate ? -at->scale : at->scale);
    p.sa[0] = at->trans_a ? 1 : p.k, p.sa[1] = at->trans_a ? p.r : 1;
    p.sb[0] = at->trans_b ? 1 : p.c, p.sb[1] = at->trans_b ? p.k : 1;
    p.sv[0] = by_column ? 1 : p.e, p.sv[1] = by_column ? p.c : 1;
    p.sy[0] = by_column ? 1 : p.e, p.sy[1] = by_column ? p.r : 1;
    p.pa = static_cast<const T *>(call->x[0]);
    p.pb = static_cast<const T *>(call->x[1]);
    p.pv = static_cast<const T *>(call->x[2]);
    return p;
}

template <class T>
void
forward(const rc_call *call, rc_cuda_stream stream)
{
    problem<T> p = problem_of<T>(call);
    p.py = static_cast<T *>(call->y);
    rc_attend::forward(stream, call->xs[0].d[0], p);
}

template <class T>
void
backward(const rc_call *call, rc_cuda_stream stream)
{
    problem<T> p = problem_of<T>(call);
    p.pdy = static_cast<const T *>(call->dy);
    p.da = static_cast<T *>(call->dx[0]);
    p.db = static_cast<T *>(call->dx[1]);
    p.dv = static_cast<T *>(call->dx[2]);
    p.add_a = call->add[0];
    p.add_b = call->add[1];
    p.add_v = call->add[2];
    rc_attend::backward(stream, call->xs[0].d[0], p, static_cast<float *>(call->tmp));
}

} // namespace

RC_CUDA_LAUNCHER(attention, forward)
RC_CUDA_LAUNCHER(attention, backward)
RC_CUDA_TMP(attention)
{
    return backward ? call->xs[0].d[0] * call->xs[0].d[call->attrs->trans_a ? 2 : 1] * 12 : 0;
}
RC_CUDA_LIMIT(attention)
{
    const rc_shape *xs = call->xs;
    return rc_attend::limit(xs[0].d[call->attrs->trans_a ? 2 : 1],
                            xs[1].d[call->attrs->trans_b ? 1 : 2], backward);
}
