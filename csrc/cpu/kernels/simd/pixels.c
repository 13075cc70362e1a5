/* The two passes of a resize on bytes, 22-bit fixed point, as Pillow rounds them
 * (spec/common.md 4). Integers only, so that every instruction set gives the same bytes.
 * Compiled once per instruction set; data/resize.c chooses. */
#include <string.h>

#include "cpu/fast.h"
#include "data/data_impl.h"

typedef int32_t v4i __attribute__((vector_size(16)));
typedef uint8_t v4b __attribute__((vector_size(4)));
typedef int32_t v16i __attribute__((vector_size(64)));
typedef uint8_t v16b __attribute__((vector_size(16)));

#define HALF (1 << (RC_WEIGHT_BITS - 1))

void RC_SIMD(rc_pixel_horizontal)(const uint8_t *in, const rc_taps *taps, uint8_t *out);
void RC_SIMD(rc_pixel_vertical)(const uint8_t *in, int64_t stride, const int32_t *weights,
                                int64_t count, int64_t bytes, uint8_t *out);

static inline uint8_t
clip(int32_t sum)
{
    int32_t v = sum >> RC_WEIGHT_BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* A pixel is read and written as four bytes; the fourth belongs to the next pixel (or to the
 * padding) and is overwritten by it, since pixels are written in order. */
void
RC_SIMD(rc_pixel_horizontal)(const uint8_t *in, const rc_taps *taps, uint8_t *out)
{
    for (int64_t x = 0; x < taps->out; x++) {
        const int32_t *w = taps->weights + x * taps->ksize;
        const uint8_t *p = in + 3 * taps->first[x];
        int64_t count = taps->count[x];
        v4i sum = {HALF, HALF, HALF, HALF};
        for (int64_t k = 0; k < count; k++) {
            v4b pixel;
            memcpy(&pixel, p + 3 * k, sizeof pixel);
            sum += w[k] * __builtin_convertvector(pixel, v4i);
        }
        sum >>= RC_WEIGHT_BITS;
        sum &= ~(sum < 0);
        sum |= sum > 255; /* all ones; the low byte of -1 is 255 */
        v4b bytes = __builtin_convertvector(sum, v4b);
        memcpy(out + 3 * x, &bytes, sizeof bytes);
    }
}

void
RC_SIMD(rc_pixel_vertical)(const uint8_t *in, int64_t stride, const int32_t *weights,
                           int64_t count, int64_t bytes, uint8_t *out)
{
    int64_t i = 0;
    for (; i + 16 <= bytes; i += 16) {
        v16i sum = {0};
        sum += HALF;
        for (int64_t k = 0; k < count; k++) {
            v16b pixels;
            memcpy(&pixels, in + k * stride + i, sizeof pixels);
            sum += weights[k] * __builtin_convertvector(pixels, v16i);
        }
        sum >>= RC_WEIGHT_BITS;
        sum &= ~(sum < 0);
        sum |= sum > 255;
        v16b result = __builtin_convertvector(sum, v16b);
        memcpy(out + i, &result, sizeof result);
    }
    for (; i < bytes; i++) {
        int32_t sum = HALF;
        for (int64_t k = 0; k < count; k++) {
            sum += weights[k] * in[k * stride + i];
        }
        out[i] = clip(sum);
    }
}
