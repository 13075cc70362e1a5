/* Softmax cross entropy with label smoothing (csrc/ops/cross_entropy.c, whose ws it has: a double for
 * the divisor, then each row's maximum and sum of exponentials). A warp a row, in double. */
#include "double_rows.h"

namespace {

struct targets {
    double base, more;
    bool hard; /* no smoothing */
};

targets
targets_of(const rc_call *call)
{
    double eps = call->attrs->smoothing, k = static_cast<double>(call->xs[0].d[1]);
    targets t = {eps / k, 1 - eps, eps == 0};
    if (call->attrs->mode == 1) {
        t.base = k > 1 ? eps / (k - 1) : 0;
        t.more = 1 - eps - t.base;
    }
    return t;
}

/* rows: (n,2), the loss and whether it counts. */
template <class T> struct losses {
    const T *z;
    const int64_t *labels;
    double *ws, *rows;
    int k;
    targets t;
    __device__ void operator()(int row, int lane) const
    {
        const T *of = z + static_cast<int64_t>(row) * k;
        float top = -INFINITY;
        for (int j = lane; j < k; j += 32) {
            top = fmaxf(top, rc_get(of, j));
        }
        top = rc_warp_max(top);
        double sum = 0, below = 0;
        for (int j = lane; j < k; j += 32) {
            double v = static_cast<double>(rc_get(of, j)) - top;
            sum += exp(v);
            below += v;
        }
        sum = rc_warp_sum(sum);
        below = rc_warp_sum(below);
        if (lane == 0) {
            double at_label = static_cast<double>(rc_get(of, labels[row])) - top;
            bool zero = t.hard && at_label == 0 && static_cast<float>(sum) == 1;
            rows[2 * row] = log(sum) - t.base * below - t.more * at_label;
            rows[2 * row + 1] = zero ? 0 : 1;
            if (ws) {
                ws[1 + 2 * row] = top;
                ws[2 + 2 * row] = sum;
            }
        }
    }
};

__global__ void __launch_bounds__(RC_BLOCK)
end_kernel(const double *rows, int n, bool by_count, double *ws, float *y)
{
    RC_SHARED(double, s, 33);
    double sum = 0, counted = 0;
    for (int i = threadIdx.x; i < n; i += RC_BLOCK) {
        sum += rows[2 * i];
        counted += rows[2 * i + 1];
    }
    sum = rc_block_sum(sum, s);
    counted = rc_block_sum(counted, s);
    if (threadIdx.x == 0) {
        double divisor = !by_count ? n : counted > 0 ? counted : 1;
        if (ws) {
            ws[0] = divisor;
        }
        *y = static_cast<float>(sum / divisor);
    }
}

template <class T> struct gradients {
    const T *z;
    const int64_t *labels;
    const double *ws;
    const float *dy;
    T *dz;
    int k;
    targets t;
    bool add;
    __device__ void operator()(int i) const
    {
        int row = i / k;
        double p = exp(rc_get(z, i) - ws[1 + 2 * row]) / ws[2 + 2 * row];
        double d = p - t.base - (i % k == labels[row] ? t.more : 0);
        rc_put(dz, i, static_cast<float>(dy[0] / ws[0] * d), add);
    }
};

template <class T>
void
forward(const rc_call *call, rc_cuda_stream stream)
{
    int64_t n = call->xs[0].d[0];
    double *ws = static_cast<double *>(call->ws), *rows = static_cast<double *>(call->tmp);
    rc_rows::warps(stream, n,
                   losses<T>{static_cast<const T *>(call->x[0]),
                             static_cast<const int64_t *>(call->x[1]), ws, rows,
                             static_cast<int>(call->xs[0].d[1]), targets_of(call)});
    rc_launch(end_kernel, dim3(1), dim3(RC_BLOCK), 0, stream, static_cast<const double *>(rows),
              static_cast<int>(n), call->attrs->mode == 1, ws, static_cast<float *>(call->y));
}

template <class T>
void
backward(const rc_call *call, rc_cuda_stream stream)
{
    rc_each(stream, rc_shape_count(&call->xs[0]),
            gradients<T>{static_cast<const T *>(call->x[0]),
                         static_cast<const int64_t *>(call->x[1]),
                         static_cast<const double *>(call->ws),
                         static_cast<const float *>(call->dy), static_cast<T *>(call->dx[0]),
                         static_cast<int>(call->xs[0].d[1]), targets_of(call), call->add[0]});
}

} // namespace

RC_CUDA_LAUNCHER(cross_entropy, forward)
RC_CUDA_LAUNCHER(cross_entropy, backward)
RC_CUDA_TMP(cross_entropy)
{
    return backward ? 0 : call->xs[0].d[0] * 16;
}
