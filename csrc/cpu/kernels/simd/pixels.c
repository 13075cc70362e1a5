/* The two passes of a resize on bytes, 22-bit fixed point, as Pillow rounds them
 * (spec/common.md 4), in integers, so that every instruction set gives the same bytes; mirrored
 * rows; bytes to normalised planes. Compiled once per instruction set; data/resize.c chooses. */
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
void RC_SIMD(rc_pixel_mirror)(const uint8_t *in, int64_t w, uint8_t *out);
void RC_SIMD(rc_pixel_planes)(const uint8_t *in, int64_t count, const rc_normaliser *n,
                              float *out);

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

/* ---- mirrored rows, normalised planes ---------------------------------------------------- */

void
RC_SIMD(rc_pixel_mirror)(const uint8_t *in, int64_t w, uint8_t *out)
{
    int64_t x = 0;
#if defined(__SSSE3__)
    /* Five pixels at a time, read with the byte before them and written with a sixteenth that the
     * next ones overwrite: the loop below has the last ones. */
    const __m128i order = _mm_setr_epi8(13, 14, 15, 10, 11, 12, 7, 8, 9, 4, 5, 6, 1, 2, 3, 0);
    for (; x + 6 <= w; x += 5) {
        __m128i v = _mm_loadu_si128((const __m128i *)(in + 3 * (w - 5 - x) - 1));
        _mm_storeu_si128((__m128i *)(out + 3 * x), _mm_shuffle_epi8(v, order));
    }
#endif
    for (; x < w; x++) {
        memcpy(out + 3 * x, in + 3 * (w - 1 - x), 3);
    }
}

#if LANES > 4

#if LANES == 16
typedef __m512 vf;
#define set_all _mm512_set1_ps
#define multiply_add _mm512_fmadd_ps
#define store_floats _mm512_storeu_ps
#else
typedef __m256 vf;
#define set_all _mm256_set1_ps
#define multiply_add _mm256_fmadd_ps
#define store_floats _mm256_storeu_ps
#endif

/* a / b from the rounded inverse of b: what is left over is exact in one multiply-add and corrects
 * the quotient. */
static inline vf
divide(vf a, float b, float inverse)
{
    vf q = a * set_all(inverse);
    return multiply_add(multiply_add(set_all(-b), q, a), set_all(inverse), q);
}

/* Sixteen bytes of one colour. */
static inline void
normalise_16(__m128i bytes, const rc_normaliser *n, int c, float *out)
{
    for (int i = 0; i < 16; i += LANES) {
#if LANES == 16
        vf v = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
#else
        vf v = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(i ? _mm_srli_si128(bytes, 8) : bytes));
#endif
        v = divide(v, 255.0f, 1.0f / 255.0f) - set_all(n->mean[c]);
        store_floats(out + i, divide(v, n->std[c], n->inverse[c]));
    }
}

#define NO (-1) /* a place that another of the three loads fills */

static inline __m128i
gather(const __m128i in[3], __m128i a, __m128i b, __m128i c)
{
    return _mm_or_si128(_mm_or_si128(_mm_shuffle_epi8(in[0], a), _mm_shuffle_epi8(in[1], b)),
                        _mm_shuffle_epi8(in[2], c));
}

/* Whole groups of sixteen pixels; the number of pixels done. */
static int64_t
planes_16(const uint8_t *in, int64_t count, const rc_normaliser *n, float *out)
{
    const __m128i r0 = _mm_setr_epi8(0, 3, 6, 9, 12, 15, NO, NO,
                                    NO, NO, NO, NO, NO, NO, NO, NO);
    const __m128i r1 = _mm_setr_epi8(NO, NO, NO, NO, NO, NO, 2, 5,
                                    8, 11, 14, NO, NO, NO, NO, NO);
    const __m128i r2 = _mm_setr_epi8(NO, NO, NO, NO, NO, NO, NO, NO,
                                    NO, NO, NO, 1, 4, 7, 10, 13);
    const __m128i g0 = _mm_setr_epi8(1, 4, 7, 10, 13, NO, NO, NO,
                                    NO, NO, NO, NO, NO, NO, NO, NO);
    const __m128i g1 = _mm_setr_epi8(NO, NO, NO, NO, NO, 0, 3, 6,
                                    9, 12, 15, NO, NO, NO, NO, NO);
    const __m128i g2 = _mm_setr_epi8(NO, NO, NO, NO, NO, NO, NO, NO,
                                    NO, NO, NO, 2, 5, 8, 11, 14);
    const __m128i b0 = _mm_setr_epi8(2, 5, 8, 11, 14, NO, NO, NO,
                                    NO, NO, NO, NO, NO, NO, NO, NO);
    const __m128i b1 = _mm_setr_epi8(NO, NO, NO, NO, NO, 1, 4, 7,
                                    10, 13, NO, NO, NO, NO, NO, NO);
    const __m128i b2 = _mm_setr_epi8(NO, NO, NO, NO, NO, NO, NO, NO,
                                    NO, NO, 0, 3, 6, 9, 12, 15);
    int64_t i = 0;
    for (; i + 16 <= count; i += 16) {
        const __m128i *p = (const __m128i *)(in + 3 * i);
        const __m128i v[3] = {_mm_loadu_si128(p), _mm_loadu_si128(p + 1), _mm_loadu_si128(p + 2)};
        normalise_16(gather(v, r0, r1, r2), n, 0, out + i);
        normalise_16(gather(v, g0, g1, g2), n, 1, out + count + i);
        normalise_16(gather(v, b0, b1, b2), n, 2, out + 2 * count + i);
    }
    return i;
}

#else

static int64_t
planes_16(const uint8_t *in, int64_t count, const rc_normaliser *n, float *out)
{
    (void)in, (void)count, (void)n, (void)out;
    return 0;
}

#endif

void
RC_SIMD(rc_pixel_planes)(const uint8_t *in, int64_t count, const rc_normaliser *n,
                         float *out)
{
    int64_t i = n->arithmetic ? planes_16(in, count, n, out) : 0;
    for (; i < count; i++) {
        for (int c = 0; c < 3; c++) {
            out[c * count + i] = n->lut[c][in[3 * i + c]];
        }
    }
}
