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
sum_rows(const int rows, const rc_int8_product *p, const rc_int8_tile *tile, __m512i sums[ROWS][2])
{
    UNROLL for (int r = 0; r < rows; r++) {
        sums[r][0] = sums[r][1] = _mm512_setzero_si512();
    }
    const int8_t *b = p->b;
    int64_t lda = p->lda;
    for (int64_t i = 0, k = 0; i < p->runs; i++) {
        const uint8_t *a[POINTERS]; /* every third row's; the others are one and two lda on */
        UNROLL for (int j = 0; j < POINTERS; j++) {
            a[j] = tile->a + i * p->run_step + 3 * (3 * j < rows ? j : 0) * lda;
        }
        for (int64_t last = k + p->quads; k < last; k++) {
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
}

static inline __attribute__((always_inline)) void
multiply_rows(const int rows, const rc_int8_product *p, const rc_int8_tile *tile)
{
    __m512i sums[ROWS][2];
    sum_rows(rows, p, tile, sums);
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

/* floor: ReLU with a zero above 0, which has to be asked for; a zero of 0 comes with the bytes. */
typedef enum kind { PLAIN, FLOOR, LEAKY } kind;

static inline __attribute__((always_inline)) __m512
finish_16(const bool residual, const kind act, const rc_int8_epilogue *e, __m512i sums,
          const half *h, int64_t at)
{
    __m512 t = _mm512_cvtepi32_ps(sums);
    t = _mm512_fmadd_ps(t, h->scale, h->bias);
    if (residual) {
        __m128i bytes = _mm_maskz_loadu_epi8(h->mask, e->residual + at);
        __m512 r = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
        t = _mm512_fmadd_ps(r, _mm512_set1_ps(e->residual_scale), t);
    }
    __m512 zero = _mm512_set1_ps(e->zero);
    if (act == FLOOR) {
        t = _mm512_max_ps(t, zero);
    } else if (act == LEAKY) {
        __mmask16 not_above = _mm512_cmp_ps_mask(t, zero, _CMP_NGT_UQ);
        __m512 below = _mm512_fmadd_ps(_mm512_sub_ps(t, zero), _mm512_set1_ps(e->slope), zero);
        t = _mm512_mask_mov_ps(t, not_above, below);
    }
    return t;
}

/* Two rows of 32 as bytes: signed saturation makes 0 of what is negative; what is too large for an
 * integer would be negative, too. */
static inline __attribute__((always_inline)) __m512i
bytes_of(__m512 left, __m512 right, __m512 left2, __m512 right2)
{
    const __m512 most = _mm512_set1_ps(255);
    const __m512i order =
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i words = _mm512_packs_epi32(_mm512_cvtps_epi32(_mm512_min_ps(most, left)),
                                       _mm512_cvtps_epi32(_mm512_min_ps(most, right)));
    __m512i words2 = _mm512_packs_epi32(_mm512_cvtps_epi32(_mm512_min_ps(most, left2)),
                                        _mm512_cvtps_epi32(_mm512_min_ps(most, right2)));
    return _mm512_permutexvar_epi32(order, _mm512_packus_epi16(words, words2));
}

static inline __m512i
vector(const int32_t *sums)
{
    return _mm512_loadu_si512(sums);
}

static inline __attribute__((always_inline)) void
finish_rows(const bool residual, const kind act, const rc_int8_target *to,
            const rc_int8_tile *tile, const int32_t *sums, const half h[2])
{
    const rc_int8_epilogue e = *to->e;
    int64_t at = tile->row * to->pitch + to->channel, pitch = tile->next * to->pitch;
    if (e.to_float) {
        for (int r = 0; r < tile->rows; r++, at += pitch, sums += PANEL) {
            float *y = (float *)to->y + at;
            _mm512_mask_storeu_ps(y, h[0].mask, finish_16(residual, act, &e, vector(sums), &h[0], at));
            _mm512_mask_storeu_ps(y + 16, h[1].mask,
                                  finish_16(residual, act, &e, vector(sums + 16), &h[1], at + 16));
        }
        return;
    }
    __mmask32 mask = (__mmask32)h[0].mask | (__mmask32)h[1].mask << 16;
    for (int r = 0; r < tile->rows; r += 2, at += 2 * pitch, sums += 2 * PANEL) {
        bool second = r + 1 < tile->rows;
        int64_t at2 = second ? at + pitch : at;
        const int32_t *sums2 = second ? sums + PANEL : sums;
        __m512i both = bytes_of(finish_16(residual, act, &e, vector(sums), &h[0], at),
                                finish_16(residual, act, &e, vector(sums + 16), &h[1], at + 16),
                                finish_16(residual, act, &e, vector(sums2), &h[0], at2),
                                finish_16(residual, act, &e, vector(sums2 + 16), &h[1], at2 + 16));
        uint8_t *y = (uint8_t *)to->y + at, *y2 = (uint8_t *)to->y + at2;
        if (mask == 0xffffffff) {
            _mm256_storeu_si256((__m256i *)(void *)y, _mm512_castsi512_si256(both));
            _mm256_storeu_si256((__m256i *)(void *)y2, _mm512_extracti64x4_epi64(both, 1));
        } else {
            _mm256_mask_storeu_epi8(y, mask, _mm512_castsi512_si256(both));
            _mm256_mask_storeu_epi8(y2, mask, _mm512_extracti64x4_epi64(both, 1));
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
    const rc_int8_epilogue *e = to->e;
    half h[2];
    for (int i = 0; i < 2; i++) {
        h[i].mask = first(to->columns - 16 * i);
        h[i].scale = _mm512_maskz_loadu_ps(h[i].mask, e->scale + to->channel + 16 * i);
        h[i].bias = _mm512_maskz_loadu_ps(h[i].mask, e->bias + to->channel + 16 * i);
    }
    bool floor = e->act == RC_ACT_RELU && (e->to_float || e->zero > 0);
    kind act = e->act == RC_ACT_LEAKY_RELU ? LEAKY : floor ? FLOOR : PLAIN;
#define FINISH(add, shape)                                    \
    if ((e->residual != NULL) == (add) && act == (shape)) {   \
        finish_rows(add, shape, to, tile, sums, h);          \
        return;                                               \
    }
    FINISH(true, PLAIN)
    FINISH(false, PLAIN)
    FINISH(true, FLOOR)
    FINISH(false, FLOOR)
    FINISH(true, LEAKY)
    FINISH(false, LEAKY)
#undef FINISH
}

/* ---- both at once ------------------------------------------------------------------------- */

/* Bytes of whole panels: the sums never leave the registers, which saves 28 stores of 64 bytes, two
 * cycles each on Zen 4. */
static inline __attribute__((always_inline)) void
complete_rows(const int rows, const bool residual, const rc_int8_product *p,
              const rc_int8_tile *tile, const rc_int8_target *to)
{
    __m512i sums[ROWS + 1][2];
    sum_rows(rows, p, tile, sums);
    const rc_int8_epilogue *e = to->e;
    const half h[2] = {
        {_mm512_loadu_ps(e->scale + to->channel), _mm512_loadu_ps(e->bias + to->channel), 0xffff},
        {_mm512_loadu_ps(e->scale + to->channel + 16),
         _mm512_loadu_ps(e->bias + to->channel + 16), 0xffff}};
    int64_t pitch = tile->next * to->pitch, at = tile->row * to->pitch + to->channel;
    uint8_t *y = to->y;
    UNROLL for (int r = 0; r < rows; r += 2, at += 2 * pitch) {
        const int second = r + 1 < rows ? r + 1 : r;
        int64_t at2 = second == r ? at : at + pitch;
        __m512i both = bytes_of(finish_16(residual, PLAIN, e, sums[r][0], &h[0], at),
                                finish_16(residual, PLAIN, e, sums[r][1], &h[1], at + 16),
                                finish_16(residual, PLAIN, e, sums[second][0], &h[0], at2),
                                finish_16(residual, PLAIN, e, sums[second][1], &h[1], at2 + 16));
        _mm256_storeu_si256((__m256i *)(void *)(y + at), _mm512_castsi512_si256(both));
        if (second != r) {
            _mm256_storeu_si256((__m256i *)(void *)(y + at2), _mm512_extracti64x4_epi64(both, 1));
        }
    }
}

#define PLAIN_CASE(n)                          \
    case n:                                    \
        complete_rows(n, false, p, tile, to);  \
        return true;
#define RESIDUAL_CASE(n)                       \
    case n:                                    \
        complete_rows(n, true, p, tile, to);   \
        return true;

static bool
complete(const rc_int8_product *p, const rc_int8_tile *tile, const rc_int8_target *to)
{
    const rc_int8_epilogue *e = to->e;
    if (!floor_is_0(e) || to->columns < PANEL) {
        return false;
    }
    if (e->residual) {
        switch (tile->rows) { ALL(RESIDUAL_CASE) }
    } else {
        switch (tile->rows) { ALL(PLAIN_CASE) }
    }
    return false;
}

const rc_int8_kernels rc_int8_conv__avx512_vnni = {
    .name = "rc_int8_conv__avx512_vnni",
    .most_rows = ROWS, .together = 1, .multiply = multiply, .complete = complete,
    .finish = rc_int8_finish__avx512,
};
