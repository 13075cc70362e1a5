/* Kernels with one mistake each, and their right forms, for test_host.py: what the host run must
 * notice. `which` chooses the mistake. */
#include "rows.h"

namespace {

enum mistake {
    NONE, NO_BARRIER, NO_WARP_BARRIER, OUTSIDE, UNWRITTEN, APART, ENDS_EARLY, HALF_A_WARP, GLOBAL
};

/* Reverses each block's 64 values through shared memory. */
__global__ void
reverse_kernel(const float *x, float *y, int n, int which)
{
    RC_SHARED(float, s, 64);
    int t = threadIdx.x, i = static_cast<int>(blockIdx.x) * 64 + t;
    if (which == ENDS_EARLY && i >= n) {
        return;
    }
    if (which != UNWRITTEN || t != 5) {
        s[which == OUTSIDE && t == 63 ? 64 : t] = i < n ? x[i] : 0.f;
    }
    if (which == APART) {
        if (t < 32) {
            RC_SYNC();
        }
    } else if (which != NO_BARRIER) {
        RC_SYNC();
    }
    float v = s[63 - t];
    if (i < n) {
        y[i] = v;
    }
}

/* Each lane takes its neighbour's value, by way of shared memory, then by a shuffle. */
__global__ void
turn_kernel(const float *x, float *y, int which)
{
    RC_SHARED(float, s, 32);
    int t = threadIdx.x;
    s[t] = x[t];
    if (which != NO_WARP_BARRIER) {
        __syncwarp();
    }
    float v = s[(t + 1) % 32];
    unsigned mask = which == HALF_A_WARP ? 0xffffu : RC_ALL;
    y[t] = v + __shfl_sync(mask, v, (t + 1) % 32);
}

/* A running sum through global memory: only one order of blocks gives it. */
__global__ void
sum_kernel(float *y, int which)
{
    if (threadIdx.x == 0) {
        int b = static_cast<int>(blockIdx.x);
        y[b] = which == GLOBAL && b > 0 ? y[b - 1] + 1 : static_cast<float>(b);
    }
}

} // namespace

extern "C" void
rc_broken_reverse(const float *x, float *y, int n, int which)
{
    rc_launch(reverse_kernel, dim3(static_cast<unsigned>(rc_up(n, 64))), dim3(64), 0, nullptr, x,
              y, n, which);
}
extern "C" void
rc_broken_turn(const float *x, float *y, int which)
{
    rc_launch(turn_kernel, dim3(1), dim3(32), 0, nullptr, x, y, which);
}
extern "C" void
rc_broken_sum(float *y, int n, int which)
{
    rc_launch(sum_kernel, dim3(static_cast<unsigned>(n)), dim3(32), 0, nullptr, y, which);
}
extern "C" void
rc_broken_total(const float *x, float *partial, float *to, int n)
{
    struct values {
        const float *x;
        __device__ float operator()(int i) const { return x[i]; }
    };
    rc_rows::total(nullptr, n, partial, to, false, values{x});
}
extern "C" void
rc_broken_block(float *y, int threads)
{
    rc_launch(sum_kernel, dim3(1), dim3(static_cast<unsigned>(threads)), 0, nullptr, y, 0);
}
