/* Products of bytes by vpdpbusd on 16 sums at a time: 14 rows x 32 channels in registers. */
#include <immintrin.h>

#include "tile.h"

#define UNROLL _Pragma("GCC unroll 16")

enum { ROWS = 14, POINTERS = (ROWS + 2) / 3 };

/* The intrinsic makes gcc 12 copy every sum to another register and back. */
static inline __attribute__((always_inline)) __m512i
dot(__m512i sum, __m512i bytes, __m512i weights)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(bytes), "v"(weights));
    return sum;
}

static inline __attribute__((always_inline)) void
multiply_rows(const int rows, const rc_int8_product *p, const rc_int8_tile *tile)
{
    __m512i sums[ROWS][2];
    UNROLL for (int r = 0; r < rows; r++) {
        sums[r][0] = sums[r][1] = _mm512_setzero_si512();
    }
    const int8_t *b = p->b;
    int64_t lda = p->lda;
    for (int64_t i = 0; i < p->runs; i++) {
        const uint8_t *a[POINTERS]; /* every third row's; the others are one and two lda on */
        UNROLL for (int j = 0; j < POINTERS; j++) {
            a[j] = tile->a + i * p->run_step + 3 * (3 * j < rows ? j : 0) * lda;
        }
        for (int64_t k = 0; k < p->steps * (STEP / 4); k++) {
            __m512i left = _mm512_loadu_si512(b);
            __m512i right = _mm512_loadu_si512(b + STEP_BYTES / 2);
            b += k % (STEP / 4) == STEP / 4 - 1 ? 64 + STEP_BYTES / 2 : 64;
            UNROLL for (int r = 0; r < rows; r++) {
                int32_t four;
                __builtin_memcpy(&four, a[r / 3] + (r % 3) * lda, sizeof four);
                __m512i bytes = _mm512_set1_epi32(four);
                sums[r][0] = dot(sums[r][0], bytes, left);
                sums[r][1] = dot(sums[r][1], bytes, right);
            }
            UNROLL for (int j = 0; j < POINTERS; j++) {
                a[j] += 4;
                __asm__("" : "+r"(a[j])); /* keeps the compiler from making a pointer a row */
            }
        }
    }
    UNROLL for (int r = 0; r < rows; r++) {
        _mm512_storeu_si512(p->sums + r * PANEL, sums[r][0]);
        _mm512_storeu_si512(p->sums + r * PANEL + 16, sums[r][1]);
    }
}

#define ALL(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14)
#define ROWS_CASE(n)                 \
    case n:                          \
        multiply_rows(n, p, tiles);  \
        break;

static void
multiply(rc_int8_product *p, const rc_int8_tile *tiles, int count)
{
    (void)count;
    switch (tiles->rows) { ALL(ROWS_CASE) }
}

/* ---- what becomes of the sums: as finish.h says, operation by operation ------------------- */

typedef struct half { /* of a panel: 16 channels */
    __m512 scale, bias;
    __mmask16 mask;
} half;

static inline __attribute__((always_inline)) __m512
finish_16(const bool residual, const bool leaky, const rc_int8_epilogue *e, const int32_t *sums,
          const half *h, int64_t at)
{
    __m512 t = _mm512_cvtepi32_ps(_mm512_loadu_si512(sums));
    t = _mm512_add_ps(_mm512_mul_ps(t, h->scale), h->bias);
    if (residual) {
        __m128i bytes = _mm_maskz_loadu_epi8(h->mask, e->residual + at);
        __m512 r = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
        t = _mm512_add_ps(t, _mm512_mul_ps(r, _mm512_set1_ps(e->residual_scale)));
    }
    if (leaky) {
        __mmask16 not_above = _mm512_cmp_ps_mask(t, _mm512_setzero_ps(), _CMP_NGT_UQ);
        t = _mm512_mask_mul_ps(t, not_above, t, _mm512_set1_ps(e->slope));
    }
    return t;
}

/* Bytes: max(t, 0) + zero = max(t + zero, zero), and what is above 255 saturates. */
static inline __attribute__((always_inline)) __m128i
bytes_of(__m512 t, __m512 zero, __m512 least)
{
    return _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(_mm512_max_ps(_mm512_add_ps(t, zero), least)));
}

static inline __attribute__((always_inline)) void
finish_rows(const bool residual, const bool leaky, const rc_int8_target *to,
            const rc_int8_tile *tile, const int32_t *sums, const half h[2])
{
    const rc_int8_epilogue e = *to->e;
    int64_t at = tile->row * to->pitch + to->channel, pitch = tile->next * to->pitch;
    bool relu = e.act == RC_ACT_RELU;
    if (e.to_float) {
        __m512 least = _mm512_set1_ps(relu ? 0 : -__builtin_inff());
        for (int r = 0; r < tile->rows; r++, at += pitch, sums += PANEL) {
            __m512 left = finish_16(residual, leaky, &e, sums, &h[0], at);
            __m512 right = finish_16(residual, leaky, &e, sums + 16, &h[1], at + 16);
            float *y = (float *)to->y + at;
            _mm512_mask_storeu_ps(y, h[0].mask, _mm512_max_ps(left, least));
            _mm512_mask_storeu_ps(y + 16, h[1].mask, _mm512_max_ps(right, least));
        }
        return;
    }
    __m512 zero = _mm512_set1_ps(e.zero), least = _mm512_set1_ps(relu ? e.zero : 0);
    __mmask32 mask = (__mmask32)h[0].mask | (__mmask32)h[1].mask << 16;
    for (int r = 0; r < tile->rows; r++, at += pitch, sums += PANEL) {
        __m512 left = finish_16(residual, leaky, &e, sums, &h[0], at);
        __m512 right = finish_16(residual, leaky, &e, sums + 16, &h[1], at + 16);
        __m256i both = _mm256_set_m128i(bytes_of(right, zero, least), bytes_of(left, zero, least));
        uint8_t *y = (uint8_t *)to->y + at;
        if (mask == 0xffffffff) {
            _mm256_storeu_si256((__m256i *)(void *)y, both);
        } else {
            _mm256_mask_storeu_epi8(y, mask, both);
        }
    }
}

static __mmask16
first(int columns)
{
    return (__mmask16)(columns >= 16 ? 0xffff : columns <= 0 ? 0 : (1u << columns) - 1);
}

void
rc_int8_finish__avx512(const rc_int8_target *to, const rc_int8_tile *tile, const int32_t *sums)
{
    half h[2];
    for (int i = 0; i < 2; i++) {
        h[i].mask = first(to->columns - 16 * i);
        h[i].scale = _mm512_maskz_loadu_ps(h[i].mask, to->e->scale + to->channel + 16 * i);
        h[i].bias = _mm512_maskz_loadu_ps(h[i].mask, to->e->bias + to->channel + 16 * i);
    }
    bool residual = to->e->residual != NULL, leaky = to->e->act == RC_ACT_LEAKY_RELU;
    if (residual) {
        if (leaky) {
            finish_rows(true, true, to, tile, sums, h);
        } else {
            finish_rows(true, false, to, tile, sums, h);
        }
    } else if (leaky) {
        finish_rows(false, true, to, tile, sums, h);
    } else {
        finish_rows(false, false, to, tile, sums, h);
    }
}

const rc_int8_kernels rc_int8_conv__avx512_vnni = {
    .name = "rc_int8_conv__avx512_vnni",
    .most_rows = ROWS, .together = 1, .multiply = multiply, .finish = rc_int8_finish__avx512,
};
