/* Circle loss, class-level form (csrc/ops/circle_logits.c). In double where the margin is met: few
 * values, (n,k). */
#include "kernel.h"

namespace {

struct rule {
    const int64_t *labels;
    int k;
    double margin, scale;

    __device__ __forceinline__ double factor(bool positive, float x) const
    {
        double s = x / scale, alpha = positive ? 1 + margin - s : s + margin;
        return alpha > 0 ? alpha : 0;
    }
    __device__ __forceinline__ bool positive(int i) const { return labels[i / k] == i % k; }
};

template <class T> struct values {
    const T *x;
    T *y;
    rule r;
    __device__ void operator()(int i) const
    {
        bool positive = r.positive(i);
        float v = rc_get(x, i);
        double middle = r.scale * (positive ? 1 - r.margin : r.margin);
        rc_set(y, i, static_cast<float>(r.factor(positive, v) * (v - middle)));
    }
};

template <class T> struct gradients {
    const T *x, *dy;
    T *dx;
    rule r;
    bool add;
    __device__ void operator()(int i) const
    {
        double d = r.factor(r.positive(i), rc_get(x, i)) * rc_get(dy, i);
        rc_put(dx, i, static_cast<float>(d), add);
    }
};

rule
rule_of(const rc_call *call)
{
    return {static_cast<const int64_t *>(call->x[1]), static_cast<int>(call->ys.d[1]),
            call->attrs->margin, call->attrs->scale};
}

template <class T>
void
forward(const rc_call *call, rc_cuda_stream stream)
{
    rc_each(stream, rc_shape_count(&call->ys),
            values<T>{static_cast<const T *>(call->x[0]), static_cast<T *>(call->y),
                      rule_of(call)});
}

template <class T>
void
backward(const rc_call *call, rc_cuda_stream stream)
{
    rc_each(stream, rc_shape_count(&call->ys),
            gradients<T>{static_cast<const T *>(call->x[0]), static_cast<const T *>(call->dy),
                         static_cast<T *>(call->dx[0]), rule_of(call), call->add[0]});
}

} // namespace

RC_CUDA_LAUNCHER(circle_logits, forward)
RC_CUDA_LAUNCHER(circle_logits, backward)
