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

/* Each step rounded, as on the CPU: a fused one might fall to the other side of an integer. */
__device__ __forceinline__ double
between(double low, double high, float u)
{
    return __dadd_rn(low, __dmul_rn(high - low, static_cast<double>(u)));
}

struct draw_all {
    rc_augment a;
    double log_ratio[2]; /* of a.ratio's ends, by the host */
    uint64_t seed;
    int64_t epoch, first;
    const rc_device_picture *pictures;
    const rc_device_resize *larger;
    rc_cuda_draws *to;

    __device__ void erase(const sample &s, rc_cuda_draws *d) const
    {
        int height = static_cast<int>(a.height), width = static_cast<int>(a.width);
        for (int t = 0; t < static_cast<int>(a.tries); t++) {
            int slot = SLOT_TRY + 4 * t;
            double area = between(a.area[0], a.area[1], s.draw(slot)) * height * width;
            float u = s.draw(slot + 1);
            double ratio = a.log_ratio ? exp(between(log_ratio[0], log_ratio[1], u))
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
        sample s = {rc_random_stream(seed, RC_RANDOM_AUGMENT, static_cast<uint64_t>(epoch),
                                     static_cast<uint64_t>(first + i), 0)};
        rc_cuda_draws d = {};
        d.mirror = static_cast<double>(s.draw(SLOT_MIRROR)) < a.mirror;
        if (static_cast<double>(s.draw(SLOT_SCALE)) < a.scale_crop) {
            const rc_device_resize &r = larger[pictures[i].resize];
            d.larger = 1;
            d.skip_y = s.below(SLOT_SCALE + 1, r.y.out - static_cast<int>(a.height) + 1);
            d.skip_x = s.below(SLOT_SCALE + 2, r.x.out - static_cast<int>(a.width) + 1);
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

/* Where the weights of an axis are. */
struct axis {
    const int64_t *first;
    const int32_t *weights;
    int count;
};

__device__ __forceinline__ axis
axis_of(const char *block, const rc_device_axis &a)
{
    return {reinterpret_cast<const int64_t *>(block + a.first),
            reinterpret_cast<const int32_t *>(block + a.weights), a.count};
}

/* A picture's bytes of one colour. */
struct plane {
    const uint8_t *bytes;
    int row, step;

    __device__ __forceinline__ int at(int y, int x) const { return bytes[y * row + x * step]; }
    /* Of row y, column `col` of the resize; of column x, row `line` of the resize. */
    __device__ __forceinline__ int across(const axis &a, int y, int col) const
    {
        int sum = 1 << (BITS - 1), from = static_cast<int>(a.first[col]);
        for (int k = 0; k < a.count; k++) {
            sum += a.weights[col * a.count + k] * at(y, from + k);
        }
        return clip(sum);
    }
    __device__ __forceinline__ int down(const axis &a, int line, int x) const
    {
        int sum = 1 << (BITS - 1), from = static_cast<int>(a.first[line]);
        for (int k = 0; k < a.count; k++) {
            sum += a.weights[line * a.count + k] * at(from + k, x);
        }
        return clip(sum);
    }
    /* Both passes, with bytes between them. */
    __device__ __forceinline__ int resized(const axis &x, const axis &y, bool vertical_first,
                                           int line, int col) const
    {
        if (!y.count) {
            return x.count ? across(x, line, col) : at(line, col);
        }
        if (!x.count) {
            return down(y, line, col);
        }
        const axis &last = vertical_first ? x : y;
        int to = vertical_first ? col : line;
        int sum = 1 << (BITS - 1), from = static_cast<int>(last.first[to]);
        for (int k = 0; k < last.count; k++) {
            int between = vertical_first ? down(y, line, from + k) : across(x, from + k, col);
            sum += last.weights[to * last.count + k] * between;
        }
        return clip(sum);
    }
};

struct pixels_to {
    rc_device_pictures p;
    const rc_cuda_draws *draws; /* NULL: none */
    float *out;
    float fill[3];

    __device__ void operator()(int i) const
    {
        int width = static_cast<int>(p.width), height = static_cast<int>(p.height);
        int col = i % width, row = i / width % height, n = i / width / height;
        col = p.mirror ? width - 1 - col : col; /* of what is asked for without it */
        rc_device_picture own = reinterpret_cast<const rc_device_picture *>(p.block + p.pictures)[n];
        rc_cuda_draws d = {};
        if (draws) {
            d = draws[n];
        }
        const rc_device_resize &r = reinterpret_cast<const rc_device_resize *>(
            p.block + (d.larger ? p.larger : p.plain))[own.resize];
        axis across = axis_of(p.block, r.x), down = axis_of(p.block, r.y);
        const uint8_t *base = p.there ? p.there
                                      : reinterpret_cast<const uint8_t *>(p.block + p.pixels);
        const float *lut = reinterpret_cast<const float *>(p.block + p.lut);
        int y = row - d.shift_y, x = col - d.shift_x; /* of the picture before it was shifted */
        bool inside = y >= 0 && y < height && x >= 0 && x < width;
        bool erased = row >= d.top && row < d.top + d.rows && col >= d.left
                      && col < d.left + d.columns;
        x = d.mirror ? width - 1 - x : x;
        for (int c = 0; c < 3; c++) {
            float v = fill[c];
            if (!erased) {
                plane from = {base + own.at + c * p.colour, own.row, p.step};
                int byte = !inside ? 0
                                   : from.resized(across, down, r.vertical_first != 0,
                                                  y + d.skip_y, x + d.skip_x);
                v = lut[c * 256 + byte];
            }
            out[static_cast<int64_t>(i) * 3 + c] = v;
        }
    }
};

} // namespace

void
rc_cuda_pictures(const rc_device_pictures *p, rc_cuda_draws *draws, float *out,
                 rc_cuda_stream stream)
{
    const rc_augment *a = p->augment;
    pixels_to to = {*p, a ? draws : nullptr, out, {}};
    if (a) {
        rc_each(stream, p->n,
                draw_all{*a, {log(a->ratio[0]), log(a->ratio[1])}, p->seed, p->epoch, p->first,
                         reinterpret_cast<const rc_device_picture *>(p->block + p->pictures),
                         reinterpret_cast<const rc_device_resize *>(p->block + p->larger), draws});
        for (int c = 0; c < 3; c++) {
            to.fill[c] = a->fill[c];
        }
    }
    rc_each(stream, p->n * p->height * p->width, to);
}
