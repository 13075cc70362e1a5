/* Bytes to a network's input (device_input.h): a thread an output pixel, which resizes its own
 * neighbourhood in both passes, with bytes between them as Pillow has it, so no picture lies in
 * memory half done. What is drawn for a sample is drawn once, by a kernel before. */
#include <math.h>

#include "base/random.h"
#include "data/device_input.h"
#include "kernel.h"

namespace {

/* Slots of csrc/data/augment.c. */
enum { SLOT_MIRROR = 0, SLOT_PAD = 1, SLOT_SCALE = 3, SLOT_ERASE = 12, SLOT_TRY = 16 };

constexpr int BITS = 22; /* fixed point of the weights (cpu/pixels.h) */

struct sample {
    uint64_t stream;

    __device__ __forceinline__ float draw(int slot) const
    {
        return rc_uniform(rc_random_step(stream, static_cast<uint64_t>(slot)));
    }
    __device__ __forceinline__ int below(int slot, int n) const
    {
        return static_cast<int>(rc_below(rc_random_step(stream, static_cast<uint64_t>(slot)), n));
    }
};

__device__ __forceinline__ double
between(double low, double high, float u)
{
    return low + (high - low) * static_cast<double>(u);
}

struct draw_all {
    rc_augment a;
    const uint64_t *seed;
    int64_t epoch, first;
    int larger_h, larger_w;
    rc_cuda_draws *to;

    __device__ void erase(const sample &s, rc_cuda_draws *d) const
    {
        int height = static_cast<int>(a.height), width = static_cast<int>(a.width);
        for (int t = 0; t < static_cast<int>(a.tries); t++) {
            int slot = SLOT_TRY + 4 * t;
            double area = between(a.area[0], a.area[1], s.draw(slot)) * height * width;
            float u = s.draw(slot + 1);
            double ratio = a.log_ratio ? exp(between(log(a.ratio[0]), log(a.ratio[1]), u))
                                       : between(a.ratio[0], a.ratio[1], u);
            int h = static_cast<int>(rint(sqrt(area * ratio)));
            int w = static_cast<int>(rint(sqrt(area / ratio)));
            if (h < height && w < width) {
                d->top = s.below(slot + 2, height - h + 1);
                d->left = s.below(slot + 3, width - w + 1);
                d->rows = h;
                d->columns = w;
                return;
            }
        }
    }
    __device__ void operator()(int i) const
    {
        sample s = {rc_random_stream(*seed, RC_RANDOM_AUGMENT, static_cast<uint64_t>(epoch),
                                     static_cast<uint64_t>(first + i), 0)};
        rc_cuda_draws d = {};
        d.mirror = static_cast<double>(s.draw(SLOT_MIRROR)) < a.mirror;
        if (static_cast<double>(s.draw(SLOT_SCALE)) < a.scale_crop) {
            d.larger = 1;
            d.skip_y = s.below(SLOT_SCALE + 1, larger_h - static_cast<int>(a.height) + 1);
            d.skip_x = s.below(SLOT_SCALE + 2, larger_w - static_cast<int>(a.width) + 1);
        }
        if (a.pad) {
            int pad = static_cast<int>(a.pad);
            d.shift_y = pad - s.below(SLOT_PAD, 2 * pad + 1);
            d.shift_x = pad - s.below(SLOT_PAD + 1, 2 * pad + 1);
        }
        if (static_cast<double>(s.draw(SLOT_ERASE)) < a.erase) {
            erase(s, &d);
        }
        to[i] = d;
    }
};

__device__ __forceinline__ int
clip(int sum)
{
    int v = sum >> BITS;
    return v < 0 ? 0 : v > 255 ? 255 : v;
}

/* Byte c of column `col` of the resize (x alone) of a row of bytes, or of the column's sums. */
__device__ __forceinline__ int
across(const uint8_t *row, const rc_cuda_taps &x, int col, int c)
{
    if (!x.count) {
        return row[col * 3 + c];
    }
    int sum = 1 << (BITS - 1), from = static_cast<int>(x.first[col]);
    for (int k = 0; k < x.count; k++) {
        sum += x.weights[col * x.count + k] * row[(from + k) * 3 + c];
    }
    return clip(sum);
}

__device__ __forceinline__ int
down(const uint8_t *image, int w, const rc_cuda_taps &y, int row, int col, int c)
{
    int sum = 1 << (BITS - 1), from = static_cast<int>(y.first[row]);
    for (int k = 0; k < y.count; k++) {
        sum += y.weights[row * y.count + k] * image[((from + k) * w + col) * 3 + c];
    }
    return clip(sum);
}

__device__ __forceinline__ int
resized(const uint8_t *image, int w, const rc_cuda_resize &r, int row, int col, int c)
{
    if (!r.y.count) {
        return across(image + static_cast<int64_t>(row) * w * 3, r.x, col, c);
    }
    if (!r.x.count) {
        return down(image, w, r.y, row, col, c);
    }
    int sum = 1 << (BITS - 1);
    if (r.vertical_first) {
        int from = static_cast<int>(r.x.first[col]);
        for (int k = 0; k < r.x.count; k++) {
            sum += r.x.weights[col * r.x.count + k] * down(image, w, r.y, row, from + k, c);
        }
    } else {
        int from = static_cast<int>(r.y.first[row]);
        for (int k = 0; k < r.y.count; k++) {
            sum += r.y.weights[row * r.y.count + k]
                   * across(image + static_cast<int64_t>(from + k) * w * 3, r.x, col, c);
        }
    }
    return clip(sum);
}

template <class T> struct pixels_to {
    const uint8_t *pixels;
    rc_cuda_resize plain, larger;
    const float *lut;
    const rc_cuda_draws *draws; /* NULL: none, `mirror` for all */
    T *out;
    int h, w, height, width;
    bool mirror;
    float fill[3];

    __device__ void operator()(int i) const
    {
        int col = i % width, row = i / width % height, n = i / width / height;
        const uint8_t *image = pixels + static_cast<int64_t>(n) * h * w * 3;
        rc_cuda_draws d = {};
        if (draws) {
            d = draws[n];
        } else {
            d.mirror = mirror;
        }
        int y = row - d.shift_y, x = col - d.shift_x; /* of the picture before it was shifted */
        bool inside = y >= 0 && y < height && x >= 0 && x < width;
        bool erased = row >= d.top && row < d.top + d.rows && col >= d.left
                      && col < d.left + d.columns;
        x = d.mirror ? width - 1 - x : x;
        for (int c = 0; c < 3; c++) {
            float v = fill[c];
            if (!erased) {
                int byte = !inside ? 0
                                   : resized(image, w, d.larger ? larger : plain, y + d.skip_y,
                                             x + d.skip_x, c);
                v = lut[c * 256 + byte];
            }
            rc_set(out, static_cast<int64_t>(i) * 3 + c, v);
        }
    }
};

template <class T>
void
write(pixels_to<T> p, int64_t n, rc_cuda_stream stream)
{
    rc_each(stream, n * p.height * p.width, p);
}

} // namespace

void
rc_cuda_images(const uint8_t *pixels, int64_t n, int64_t h, int64_t w,
               const rc_cuda_resize *resize, const float *lut, bool mirror, void *out,
               rc_cuda_type type, rc_cuda_stream stream)
{
    int ih = static_cast<int>(h), iw = static_cast<int>(w);
    if (type == RC_CUDA_BF16) {
        write(pixels_to<rc_bf16>{pixels, *resize, *resize, lut, nullptr,
                                 static_cast<rc_bf16 *>(out), ih, iw, resize->out_h,
                                 resize->out_w, mirror, {}}, n, stream);
    } else {
        write(pixels_to<float>{pixels, *resize, *resize, lut, nullptr, static_cast<float *>(out),
                               ih, iw, resize->out_h, resize->out_w, mirror, {}}, n, stream);
    }
}

void
rc_cuda_augment(const rc_augment *a, const uint8_t *pixels, int64_t n, int64_t h, int64_t w,
                const rc_cuda_resize *plain, const rc_cuda_resize *larger, const float *lut,
                const uint64_t *seed, int64_t epoch, int64_t first, rc_cuda_draws *draws,
                void *out, rc_cuda_type type, rc_cuda_stream stream)
{
    const rc_cuda_resize *big = a->scale_crop > 0 ? larger : plain;
    int ih = static_cast<int>(h), iw = static_cast<int>(w);
    rc_each(stream, n, draw_all{*a, seed, epoch, first, big->out_h, big->out_w, draws});
    if (type == RC_CUDA_BF16) {
        write(pixels_to<rc_bf16>{pixels, *plain, *big, lut, draws, static_cast<rc_bf16 *>(out),
                                 ih, iw, plain->out_h, plain->out_w, false,
                                 {a->fill[0], a->fill[1], a->fill[2]}}, n, stream);
    } else {
        write(pixels_to<float>{pixels, *plain, *big, lut, draws, static_cast<float *>(out), ih,
                               iw, plain->out_h, plain->out_w, false,
                               {a->fill[0], a->fill[1], a->fill[2]}}, n, stream);
    }
}
