/* Grad-CAM's arithmetic (csrc/eval/grad_cam.c), a block an image, in double as there. */
#include "eval/device_eval.h"
#include "rows.h"

namespace {

template <class T>
__global__ void __launch_bounds__(RC_BLOCK)
add_kernel(const T *map, const T *gradient, int positions, int c, double *cam)
{
    RC_SHARED_AT_LAUNCH(double, weights);
    int t = threadIdx.x, lane = t % 32;
    int64_t first = static_cast<int64_t>(blockIdx.x) * positions;
    for (int k = t; gradient && k < c; k += RC_BLOCK) {
        double sum = 0;
        for (int p = 0; p < positions; p++) {
            sum += rc_get(gradient, (first + p) * c + k);
        }
        weights[k] = sum / positions;
    }
    RC_SYNC();
    for (int p = t / 32; p < positions; p += RC_BLOCK / 32) {
        double sum = 0;
        for (int k = lane; k < c; k += 32) {
            double v = rc_get(map, (first + p) * c + k);
            sum += gradient ? weights[k] * v : v * v;
        }
        sum = rc_warp_sum(sum);
        if (lane == 0) {
            cam[first + p] += sum > 0 ? sum : 0;
        }
    }
}

/* Where pixel i of `to` lies among `from` samples, half-pixel centres. */
struct place {
    int low, high;
    double share;
};

__device__ __forceinline__ place
place_of(int i, int from, int to)
{
    double x = (i + 0.5) * from / to - 0.5;
    x = x > 0 ? x : 0;
    int low = static_cast<int>(x);
    low = low < from - 1 ? low : from - 1;
    return {low, low < from - 1 ? low + 1 : low, x - low};
}

__device__ __forceinline__ double
between(double a, double b, double share)
{
    return share * b + (1 - share) * a;
}

__global__ void __launch_bounds__(RC_BLOCK)
finish_kernel(double *cam, int h, int w, bool activation, int height, int width, float *out)
{
    RC_SHARED(double, s, 33);
    RC_SHARED(double, ends, 2 * RC_BLOCK / 32);
    int t = threadIdx.x, positions = h * w;
    double *m = cam + static_cast<int64_t>(blockIdx.x) * positions;
    double sum = 0, low = INFINITY, high = -INFINITY;
    for (int p = t; p < positions; p += RC_BLOCK) {
        sum += m[p] * m[p];
        low = m[p] < low ? m[p] : low;
        high = m[p] > high ? m[p] : high;
    }
    double length = sqrt(rc_block_sum(sum, s));
    double divisor = !activation ? 1 : length > 1e-12 ? length : 1e-12;
    for (int d = 16; d > 0; d /= 2) {
        double a = __shfl_xor_sync(RC_ALL, low, d), b = __shfl_xor_sync(RC_ALL, high, d);
        low = a < low ? a : low;
        high = b > high ? b : high;
    }
    if (t % 32 == 0) {
        ends[t / 32] = low;
        ends[RC_BLOCK / 32 + t / 32] = high;
    }
    RC_SYNC();
    for (int i = 0; i < RC_BLOCK / 32; i++) {
        double a = ends[i], b = ends[RC_BLOCK / 32 + i];
        low = a < low ? a : low;
        high = b > high ? b : high;
    }
    low /= divisor;
    double range = high / divisor - low;
    range = range > 1e-8 ? range : 1e-8;
    for (int p = t; p < positions; p += RC_BLOCK) {
        m[p] = (m[p] / divisor - low) / range;
    }
    RC_SYNC();
    for (int i = t; i < height * width; i += RC_BLOCK) {
        place y = place_of(i / width, h, height), x = place_of(i % width, w, width);
        const double *top = m + y.low * w, *bottom = m + y.high * w;
        double v = between(between(top[x.low], top[x.high], x.share),
                           between(bottom[x.low], bottom[x.high], x.share), y.share);
        out[static_cast<int64_t>(blockIdx.x) * height * width + i] =
            static_cast<float>(v < 1 ? v : 1);
    }
}

template <class T>
void
add(const void *map, const void *gradient, int64_t n, int64_t positions, int64_t c, double *cam,
    rc_cuda_stream stream)
{
    rc_launch(add_kernel<T>, dim3(static_cast<unsigned>(n)), dim3(RC_BLOCK),
              static_cast<size_t>(gradient ? c * 8 : 8), stream, static_cast<const T *>(map),
              static_cast<const T *>(gradient), static_cast<int>(positions), static_cast<int>(c),
              cam);
}

} // namespace

void
rc_cuda_cam_add(const void *map, const void *gradient, rc_cuda_type type, int64_t n,
                int64_t positions, int64_t c, double *cam, rc_cuda_stream stream)
{
    if (type == RC_CUDA_BF16) {
        add<rc_bf16>(map, gradient, n, positions, c, cam, stream);
    } else {
        add<float>(map, gradient, n, positions, c, cam, stream);
    }
}

void
rc_cuda_cam_finish(double *cam, int64_t n, int64_t h, int64_t w, bool activation, int64_t height,
                   int64_t width, float *out, rc_cuda_stream stream)
{
    rc_launch(finish_kernel, dim3(static_cast<unsigned>(n)), dim3(RC_BLOCK), 0, stream, cam,
              static_cast<int>(h), static_cast<int>(w), activation, static_cast<int>(height),
              static_cast<int>(width), out);
}
