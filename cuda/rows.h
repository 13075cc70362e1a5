/* A warp for each row, a block for each row, and sums over everything. */
#ifndef RC_CUDA_ROWS_H
#define RC_CUDA_ROWS_H

#include "kernel.h"

namespace rc_rows {

template <class F>
static __global__ void __launch_bounds__(RC_BLOCK)
warps_kernel(F f, int rows)
{
    int row = static_cast<int>(blockIdx.x) * (RC_BLOCK / 32) + static_cast<int>(threadIdx.x / 32);
    if (row < rows) {
        f(row, static_cast<int>(threadIdx.x % 32));
    }
}

/* f(row, lane), by the 32 lanes of a warp together. */
template <class F>
static void
warps(rc_cuda_stream stream, int64_t rows, F f)
{
    rc_launch(warps_kernel<F>, dim3(static_cast<unsigned>(rc_up(rows, RC_BLOCK / 32))),
              dim3(RC_BLOCK), 0, stream, f, static_cast<int>(rows));
}

constexpr int TOTAL_BLOCKS = 264;

template <class F>
static __global__ void __launch_bounds__(RC_BLOCK)
total_kernel(F f, int count, float *partial)
{
    RC_SHARED(float, s, 33);
    float sum = 0;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * RC_BLOCK + threadIdx.x; i < count;
         i += static_cast<int64_t>(gridDim.x) * RC_BLOCK) {
        sum += f(static_cast<int>(i));
    }
    sum = rc_block_sum(sum, s);
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = sum;
    }
}

static __global__ void __launch_bounds__(RC_BLOCK)
total_end_kernel(const float *partial, int count, float *to, bool add)
{
    RC_SHARED(double, s, 33);
    double sum = rc_parts_sum<double>(partial, count, s);
    if (threadIdx.x == 0) {
        rc_put(to, 0, static_cast<float>(sum), add);
    }
}

/* *to (+)= sum of f(i) over [0, count). partial: TOTAL_BLOCKS floats. */
template <class F>
static void
total(rc_cuda_stream stream, int64_t count, float *partial, float *to, bool add, F f)
{
    int64_t blocks = rc_up(count, RC_BLOCK * 8);
    blocks = blocks > TOTAL_BLOCKS ? TOTAL_BLOCKS : blocks;
    rc_launch(total_kernel<F>, dim3(static_cast<unsigned>(blocks)), dim3(RC_BLOCK), 0, stream, f,
              static_cast<int>(count), partial);
    rc_launch(total_end_kernel, dim3(1), dim3(RC_BLOCK), 0, stream,
              static_cast<const float *>(partial), static_cast<int>(blocks), to, add);
}

} // namespace rc_rows

#endif
