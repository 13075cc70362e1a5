/* Numbers: the mean of several, and a + weight*b (csrc/ops/mean_scalars.c, add_scalars.c). In
 * double as there: sums of losses are few. */
#include "kernel.h"

namespace {

struct numbers {
    const float *x[RC_MAX_IN];
    float *dx[RC_MAX_IN];
    uint32_t add;
    int n;
};

numbers
numbers_of(const rc_call *call)
{
    numbers o = {};
    o.n = call->n_in;
    for (int i = 0; i < o.n; i++) {
        o.x[i] = static_cast<const float *>(call->x[i]);
        o.dx[i] = static_cast<float *>(call->dx[i]);
        o.add |= call->add[i] ? 1u << i : 0;
    }
    return o;
}

__global__ void
mean_kernel(numbers o, float *y)
{
    double sum = 0;
    if (threadIdx.x == 0) {
        for (int i = 0; i < o.n; i++) {
            sum += o.x[i][0];
        }
        y[0] = static_cast<float>(sum / o.n);
    }
}

/* A lane a number; dx of the first may be dy itself, so dy is read before anything is written. */
__global__ void
mean_backward_kernel(numbers o, const float *dy)
{
    int i = threadIdx.x;
    float share = dy[0] / static_cast<float>(o.n);
    __syncwarp();
    if (i < o.n && o.dx[i]) {
        rc_put(o.dx[i], 0, share, o.add >> i & 1);
    }
}

__global__ void
add_kernel(const float *a, const float *b, double weight, float *y)
{
    if (threadIdx.x == 0) {
        y[0] = static_cast<float>(a[0] + weight * b[0]);
    }
}

__global__ void
add_backward_kernel(const float *dy, double weight, float *da, float *db, bool add_a, bool add_b)
{
    if (threadIdx.x == 0) {
        float d = dy[0];
        if (db) {
            rc_put(db, 0, static_cast<float>(weight * d), add_b);
        }
        if (da) {
            rc_put(da, 0, d, add_a);
        }
    }
}

} // namespace

extern "C" void rc_cuda_mean_scalars_forward(const rc_call *, rc_cuda_stream);
extern "C" void
rc_cuda_mean_scalars_forward(const rc_call *call, rc_cuda_stream stream)
{
    rc_launch(mean_kernel, dim3(1), dim3(32), 0, stream, numbers_of(call),
              static_cast<float *>(call->y));
}

extern "C" void rc_cuda_mean_scalars_backward(const rc_call *, rc_cuda_stream);
extern "C" void
rc_cuda_mean_scalars_backward(const rc_call *call, rc_cuda_stream stream)
{
    rc_launch(mean_backward_kernel, dim3(1), dim3(32), 0, stream, numbers_of(call),
              static_cast<const float *>(call->dy));
}

extern "C" void rc_cuda_add_scalars_forward(const rc_call *, rc_cuda_stream);
extern "C" void
rc_cuda_add_scalars_forward(const rc_call *call, rc_cuda_stream stream)
{
    rc_launch(add_kernel, dim3(1), dim3(32), 0, stream, static_cast<const float *>(call->x[0]),
              static_cast<const float *>(call->x[1]), call->attrs->weight,
              static_cast<float *>(call->y));
}

extern "C" void rc_cuda_add_scalars_backward(const rc_call *, rc_cuda_stream);
extern "C" void
rc_cuda_add_scalars_backward(const rc_call *call, rc_cuda_stream stream)
{
    rc_launch(add_backward_kernel, dim3(1), dim3(32), 0, stream,
              static_cast<const float *>(call->dy), call->attrs->weight,
              static_cast<float *>(call->dx[0]), static_cast<float *>(call->dx[1]), call->add[0],
              call->add[1]);
}
