/* Products of bytes without dot-product instructions: vpmaddubsw would saturate, so bytes are
 * widened to 16 bits and vpmaddwd adds pairs, which cannot overflow. 3 rows x 16 channels, two
 * partial sums each. */
#include <immintrin.h>

#include "finish.h"

#define UNROLL _Pragma("GCC unroll 16")

enum { ROWS = 3 };

static inline __attribute__((always_inline)) void
multiply_rows(const int rows, const rc_int8_product *p, const rc_int8_tile *tile, int half)
{
    __m256i sums[ROWS][4]; /* four channels each */
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int q = 0; q < 4; q++) {
            sums[r][q] = _mm256_setzero_si256();
        }
    }
    const int8_t *b = p->b + half * (STEP_BYTES / 2);
    for (int64_t i = 0, k = 0; i < p->runs; i++) {
        const uint8_t *a = tile->a + i * p->run_step;
        for (int64_t last = k + p->quads; k < last; k++, a += 4) {
            __m256i bytes[ROWS];
            UNROLL for (int r = 0; r < rows; r++) {
                __m128i four = _mm_cvtepu8_epi16(_mm_loadu_si32(a + r * p->lda));
                bytes[r] = _mm256_broadcastq_epi64(four);
            }
            UNROLL for (int q = 0; q < 4; q++) {
                __m128i narrow = _mm_loadu_si128((const __m128i *)(const void *)(b + 16 * q));
                __m256i weights = _mm256_cvtepi8_epi16(narrow);
                UNROLL for (int r = 0; r < rows; r++) {
                    sums[r][q] = _mm256_add_epi32(sums[r][q],
                                                  _mm256_madd_epi16(bytes[r], weights));
                }
            }
            b += k % (STEP / 4) == STEP / 4 - 1 ? 64 + STEP_BYTES / 2 : 64;
        }
    }
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int q = 0; q < 4; q += 2) {
            __m256i pairs = _mm256_hadd_epi32(sums[r][q], sums[r][q + 1]);
            _mm256_storeu_si256((__m256i *)(p->sums + r * PANEL + half * 16 + q * 4),
                                _mm256_permute4x64_epi64(pairs, 0xd8));
        }
    }
}

static void
multiply(rc_int8_product *p, const rc_int8_tile *tiles, int count)
{
    (void)count;
    for (int half = 0; half < 2; half++) {
        switch (tiles->rows) {
        case 1:
            multiply_rows(1, p, tiles, half);
            break;
        case 2:
            multiply_rows(2, p, tiles, half);
            break;
        default:
            multiply_rows(3, p, tiles, half);
        }
    }
}

static inline __attribute__((always_inline)) void
finish_8(const rc_int8_epilogue *e, const int32_t *sums, __m256 scale, __m256 bias, int64_t at,
         void *y)
{
    __m256 zero = _mm256_set1_ps(e->zero);
    __m256 t = _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(const void *)sums));
    t = _mm256_fmadd_ps(t, scale, bias);
    if (e->residual) {
        __m128i bytes = _mm_loadl_epi64((const __m128i *)(const void *)(e->residual + at));
        __m256 r = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
        t = _mm256_fmadd_ps(r, _mm256_set1_ps(e->residual_scale), t);
    }
    if (e->act == RC_ACT_RELU) {
        t = _mm256_max_ps(t, zero);
    } else if (e->act == RC_ACT_LEAKY_RELU) {
        __m256 above = _mm256_cmp_ps(t, zero, _CMP_GT_OQ);
        __m256 below = _mm256_fmadd_ps(_mm256_sub_ps(t, zero), _mm256_set1_ps(e->slope), zero);
        t = _mm256_blendv_ps(below, t, above);
    }
    if (e->to_float) {
        _mm256_storeu_ps((float *)y + at, t);
        return;
    }
    t = _mm256_min_ps(_mm256_max_ps(t, _mm256_setzero_ps()), _mm256_set1_ps(255));
    __m256i wide = _mm256_cvtps_epi32(t);
    __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(wide),
                                     _mm256_extracti128_si256(wide, 1));
    _mm_storel_epi64((__m128i *)(void *)((uint8_t *)y + at), _mm_packus_epi16(words, words));
}

void
rc_int8_finish__avx2(const rc_int8_target *to, const rc_int8_tile *tile, const int32_t *sums)
{
    const rc_int8_epilogue e = *to->e;
    int whole = to->columns / 8 * 8;
    int64_t at = tile->row * to->pitch + to->channel;
    for (int r = 0; r < tile->rows; r++, at += tile->next * to->pitch) {
        for (int j = 0; j < whole; j += 8) {
            finish_8(&e, sums + r * PANEL + j, _mm256_loadu_ps(e.scale + to->channel + j),
                     _mm256_loadu_ps(e.bias + to->channel + j), at + j, to->y);
        }
        finish_plain(to, sums + r * PANEL, at, whole);
    }
}

const rc_int8_kernels rc_int8_conv__avx2 = {
    .name = "rc_int8_conv__avx2",
    .most_rows = ROWS, .together = 1, .multiply = multiply, .finish = rc_int8_finish__avx2,
};
