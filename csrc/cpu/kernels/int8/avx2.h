/* Products of 16-bit integers, 6 rows x 16 channels in registers: shared by avx2.c and
 * avx2_winograd.c. */
#ifndef RC_INT8_AVX2_H
#define RC_INT8_AVX2_H

#include <immintrin.h>

#include "tile.h"

#define UNROLL _Pragma("GCC unroll 16")

enum { ROWS = RC_INT8_WIDE_ROWS };
#define ALL(X) X(1) X(2) X(3) X(4) X(5) X(6)

static inline __m256i
pair(const uint8_t *a)
{
    int32_t two;
    __builtin_memcpy(&two, a, sizeof two);
    return _mm256_set1_epi32(two);
}

/* Without the asm gcc 12 adds products to each other first, more than registers hold, or copies sums. */
static inline __attribute__((always_inline)) void
add(__m256i *sum, __m256i more)
{
    __asm__("vpaddd %1, %0, %0" : "+x"(*sum) : "x"(more));
}

/* A pair of each row, bytes at a + lda r (a3: the fourth's), with 8 channels' weights left and right. */
static inline __attribute__((always_inline)) void
add_pairs(const int rows, __m256i sums[ROWS][2], const uint8_t *a, const uint8_t *a3, int64_t lda,
          __m256i left, __m256i right)
{
    UNROLL for (int r = 0; r < rows; r++) {
        __m256i two = pair((r < 3 ? a : a3) + r % 3 * lda);
        add(&sums[r][0], _mm256_madd_epi16(two, left));
        add(&sums[r][1], _mm256_madd_epi16(two, right));
    }
}

static inline __m256i
vector(const void *from)
{
    return _mm256_loadu_si256(from);
}

static inline __attribute__((always_inline)) void
clear_sums(const int rows, __m256i sums[ROWS][2])
{
    UNROLL for (int r = 0; r < rows; r++) {
        sums[r][0] = sums[r][1] = _mm256_setzero_si256();
    }
}

static inline __attribute__((always_inline)) void
store_sums(const int rows, __m256i sums[ROWS][2], int32_t *to, int64_t next)
{
    UNROLL for (int r = 0; r < rows; r++, to += next) {
        _mm256_storeu_si256((__m256i *)(void *)to, sums[r][0]);
        _mm256_storeu_si256((__m256i *)(void *)(to + 8), sums[r][1]);
    }
}

/* ---- the common epilogue: bytes whose floor is 0; operation by operation as finish.h says --- */

typedef struct eight { /* channels */
    __m256 scale, bias;
} eight;

static inline __attribute__((always_inline)) eight
eight_at(const rc_int8_epilogue *e, int64_t channel)
{
    return (eight){_mm256_loadu_ps(e->scale + channel), _mm256_loadu_ps(e->bias + channel)};
}

static inline __attribute__((always_inline)) __m256i
finish_sums(const bool residual, const rc_int8_epilogue *e, __m256i sums, const eight *of, int64_t at)
{
    __m256 t = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), of->scale, of->bias);
    if (residual) {
        __m128i bytes = _mm_loadl_epi64((const __m128i *)(const void *)(e->residual + at));
        __m256 r = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
        t = _mm256_fmadd_ps(r, _mm256_set1_ps(e->residual_scale), t);
    }
    return _mm256_cvtps_epi32(_mm256_min_ps(t, _mm256_set1_ps(255)));
}

/* Twice 16 channels, each in two packed eights. Signed saturation makes 0 of what is negative. */
static inline __attribute__((always_inline)) void
store_bytes(__m256i words, __m256i words2, uint8_t *y, uint8_t *y2)
{
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256i both = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(words, words2), order);
    _mm_storeu_si128((__m128i *)(void *)y, _mm256_castsi256_si128(both));
    if (y2) {
        _mm_storeu_si128((__m128i *)(void *)y2, _mm256_extracti128_si256(both, 1));
    }
}

#endif
