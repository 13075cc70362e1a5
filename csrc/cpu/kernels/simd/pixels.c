/* The two passes of a resize on bytes, 22-bit fixed point, as Pillow rounds them
 * (spec/common.md 4). Integers only, so that every instruction set gives the same bytes.
 * Compiled once per instruction set; data/resize.c chooses. */
#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "cpu/fast.h"
#include "cpu/pixels.h"

typedef int32_t v4i __attribute__((vector_size(16)));
typedef uint8_t v4b __attribute__((vector_size(4)));

/* LANES sums at a time, as wide as the registers are: GCC splits wider vectors badly. */
#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX2__)
#define LANES 8
#else
#define LANES 4
#endif
typedef int32_t vi __attribute__((vector_size(4 * LANES)));

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

/* The sums of one pixel, rounded and clipped -> four bytes at `to`. */
static inline void
store_pixel(v4i sum, uint8_t *to)
{
    sum >>= RC_WEIGHT_BITS;
#if defined(__SSE2__)
    __m128i v = _mm_packs_epi32((__m128i)sum, (__m128i)sum);
    int32_t bytes = _mm_cvtsi128_si32(_mm_packus_epi16(v, v));
#else
    sum &= ~(sum < 0);
    sum |= sum > 255; /* all ones; the low byte of -1 is 255 */
    v4b bytes = __builtin_convertvector(sum, v4b);
#endif
    memcpy(to, &bytes, 4);
}

static inline v4i
load_pixel(const uint8_t *from)
{
#if defined(__SSE2__) /* written out: GCC takes the four bytes apart one by one */
    int32_t bytes;
    memcpy(&bytes, from, sizeof bytes);
    __m128i v = _mm_cvtsi32_si128(bytes);
#if defined(__SSE4_1__)
    return (v4i)_mm_cvtepu8_epi32(v);
#else
    __m128i zero = _mm_setzero_si128();
    return (v4i)_mm_unpacklo_epi16(_mm_unpacklo_epi8(v, zero), zero);
#endif
#else
    v4b bytes;
    memcpy(&bytes, from, sizeof bytes);
    return __builtin_convertvector(bytes, v4i);
#endif
}

/* A pixel is read and written as four bytes; the fourth belongs to the next pixel (or to the
 * padding) and is overwritten by it, since pixels are written in order. `count` is a constant
 * where this is expanded for the usual numbers of taps. */
static inline __attribute__((always_inline)) void
horizontal(const uint8_t *in, const rc_taps *taps, int64_t count, uint8_t *out)
{
    const int32_t *w = taps->weights;
    for (int64_t x = 0; x < taps->out; x++, w += count) {
        const uint8_t *p = in + 3 * taps->first[x];
        v4i sum = {HALF, HALF, HALF, HALF};
        for (int64_t k = 0; k < count; k++) {
            sum += w[k] * load_pixel(p + 3 * k);
        }
        store_pixel(sum, out + 3 * x);
    }
}

void
RC_SIMD(rc_pixel_horizontal)(const uint8_t *in, const rc_taps *taps, uint8_t *out)
{
    switch (taps->count) {
    case 1: horizontal(in, taps, 1, out); break;
    case 2: horizontal(in, taps, 2, out); break;
    case 3: horizontal(in, taps, 3, out); break;
    case 4: horizontal(in, taps, 4, out); break;
    case 5: horizontal(in, taps, 5, out); break;
    default: horizontal(in, taps, taps->count, out); break;
    }
}

/* LANES bytes as sums' terms. */
#if LANES == 4
#define load_bytes load_pixel
#elif LANES == 8
#define load_bytes(from) ((vi)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(from))))
#else
#define load_bytes(from) ((vi)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(from))))
#endif

static inline __attribute__((always_inline)) void
vertical(const uint8_t *in, int64_t stride, const int32_t *weights, int64_t count,
         int64_t bytes, uint8_t *out)
{
    int64_t i = 0;
    for (; i + LANES <= bytes; i += LANES) {
        vi sum = {0};
        sum += HALF;
        for (int64_t k = 0; k < count; k++) {
            sum += weights[k] * load_bytes(in + k * stride + i);
        }
#if LANES == 16
        __m512i v = _mm512_max_epi32((__m512i)(sum >> RC_WEIGHT_BITS), _mm512_setzero_si512());
        __m128i result = _mm512_cvtusepi32_epi8(v);
#elif LANES == 8
        __m256i wide = (__m256i)(sum >> RC_WEIGHT_BITS);
        __m128i v = _mm_packs_epi32(_mm256_castsi256_si128(wide),
                                    _mm256_extracti128_si256(wide, 1));
        int64_t result = _mm_cvtsi128_si64(_mm_packus_epi16(v, v));
#else
        store_pixel(sum, out + i);
        continue;
#endif
#if LANES > 4
        memcpy(out + i, &result, LANES);
#endif
    }
    for (; i < bytes; i++) {
        int32_t sum = HALF;
        for (int64_t k = 0; k < count; k++) {
            sum += weights[k] * in[k * stride + i];
        }
        out[i] = clip(sum);
    }
}

void
RC_SIMD(rc_pixel_vertical)(const uint8_t *in, int64_t stride, const int32_t *weights,
                           int64_t count, int64_t bytes, uint8_t *out)
{
    switch (count) {
    case 2: vertical(in, stride, weights, 2, bytes, out); break;
    case 3: vertical(in, stride, weights, 3, bytes, out); break;
    case 4: vertical(in, stride, weights, 4, bytes, out); break;
    default: vertical(in, stride, weights, count, bytes, out); break;
    }
}
