/* Products of bytes by vpdpbusd on 8 sums at a time: 6 rows x 16 channels in registers. */
#include <immintrin.h>

#include "tile.h"

#define UNROLL _Pragma("GCC unroll 16")

enum { ROWS = 6 };

/* As in avx512_vnni.c; {vex}: the form that CPUs without AVX-512 have. */
static inline __attribute__((always_inline)) __m256i
dot(__m256i sum, __m256i bytes, __m256i weights)
{
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(bytes), "x"(weights));
    return sum;
}

static inline __attribute__((always_inline)) void
multiply_rows(const int rows, const rc_int8_product *p, const rc_int8_tile *tile, int half)
{
    __m256i sums[ROWS][2];
    UNROLL for (int r = 0; r < rows; r++) {
        sums[r][0] = sums[r][1] = _mm256_setzero_si256();
    }
    const int8_t *b = p->b + half * (STEP_BYTES / 2);
    for (int64_t i = 0, k = 0; i < p->runs; i++) {
        const uint8_t *a = tile->a + i * p->run_step;
        const uint8_t *a3 = a + (rows > 3 ? 3 * p->lda : 0);
        for (int64_t last = k + p->quads; k < last; k++) {
            __m256i left = _mm256_loadu_si256((const __m256i *)(const void *)b);
            __m256i right = _mm256_loadu_si256((const __m256i *)(const void *)(b + 32));
            b += k % (STEP / 4) == STEP / 4 - 1 ? 64 + STEP_BYTES / 2 : 64;
            UNROLL for (int r = 0; r < rows; r++) {
                int32_t four;
                __builtin_memcpy(&four, (r < 3 ? a : a3) + r % 3 * p->lda, sizeof four);
                __m256i bytes = _mm256_set1_epi32(four);
                sums[r][0] = dot(sums[r][0], bytes, left);
                sums[r][1] = dot(sums[r][1], bytes, right);
            }
            a += 4;
            a3 += 4;
        }
    }
    UNROLL for (int r = 0; r < rows; r++) {
        int32_t *to = p->sums + r * PANEL + half * 16;
        _mm256_storeu_si256((__m256i *)(void *)to, sums[r][0]);
        _mm256_storeu_si256((__m256i *)(void *)(to + 8), sums[r][1]);
    }
}

#define ALL(X) X(1) X(2) X(3) X(4) X(5) X(6)
#define ROWS_CASE(n)                       \
    case n:                                \
        multiply_rows(n, p, tiles, half);  \
        break;

static void
multiply(rc_int8_product *p, const rc_int8_tile *tiles, int count)
{
    (void)count;
    for (int half = 0; half < 2; half++) {
        switch (tiles->rows) { ALL(ROWS_CASE) }
    }
}

const rc_int8_kernels rc_int8_conv__avx2_vnni = {
    .name = "rc_int8_conv__avx2_vnni",
    .most_rows = ROWS, .together = 1, .multiply = multiply, .finish = rc_int8_finish__avx2,
};
