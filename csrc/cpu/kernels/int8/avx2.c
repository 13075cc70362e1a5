/* Products of bytes without dot-product instructions: vpmaddubsw would saturate, so bytes are
 * widened to 16 bits and vpmaddwd adds pairs, which cannot overflow. 6 rows x 16 channels in
 * registers; a pair of a row is 32 bits to be broadcast. Rows are widened once for all panels, weights
 * as they are read. */
#include "avx2.h"
#include "finish.h"

static void
widen(const rc_int8_wide *w, const uint8_t *a, int rows, uint8_t *to)
{
    int64_t pieces = w->pieces + rows * w->row_pieces, length = w->bytes + rows * w->row_bytes;
    for (int64_t i = 0; i < w->parts; i++) {
        for (int64_t j = 0; j < pieces; j++) {
            const uint8_t *from = a + i * w->part_step + j * w->piece_step;
            uint8_t *line = to + i * w->part_to + j * w->piece_to;
            int64_t k = 0;
            for (; k + 16 <= length; k += 16) {
                __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(from + k));
                _mm256_storeu_si256((__m256i *)(void *)(line + 2 * k), _mm256_cvtepu8_epi16(bytes));
            }
            for (; k < length; k += 4) {
                _mm_storel_epi64((__m128i *)(void *)(line + 2 * k),
                                 _mm_cvtepu8_epi16(_mm_loadu_si32(from + k)));
            }
        }
    }
}

static inline __m256i
weights(const int8_t *b)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)b));
}

/* b: the first weights of a half of the panel. */
static inline __attribute__((always_inline)) void
sum_rows(const int rows, const rc_int8_product *p, const rc_int8_tile *tile, const int8_t *b,
         __m256i sums[ROWS][2])
{
    clear_sums(rows, sums);
    const int64_t lda = p->lda;
    int64_t room = STEP / 4; /* quads of this half's block to come */
    for (int64_t i = 0; i < p->runs; i++) {
        const uint8_t *a = tile->a + i * p->run_step;
        const uint8_t *a3 = a + (rows > 3 ? 3 * lda : 0);
        for (int64_t left = p->quads; left > 0;) {
            int64_t here = left < room ? left : room;
            left -= here;
            room -= here;
            for (; here > 0; here--) {
                add_pairs(rows, sums, a, a3, lda, weights(b), weights(b + 16));
                add_pairs(rows, sums, a + 4, a3 + 4, lda, weights(b + 32), weights(b + 48));
                a += 8;
                a3 += 8;
                b += 64;
            }
            if (!room) {
                room = STEP / 4;
                b += STEP_BYTES / 2;
            }
        }
    }
}

static inline __attribute__((always_inline)) void
multiply_rows(const int rows, const rc_int8_product *p, const rc_int8_tile *tile)
{
    for (int half = 0; half < 2; half++) {
        __m256i sums[ROWS][2];
        sum_rows(rows, p, tile, p->b + half * (STEP_BYTES / 2), sums);
        store_sums(rows, sums, p->sums + half * 16, PANEL);
    }
}

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

/* ---- both at once ------------------------------------------------------------------------- */

/* Bytes of half a panel. */
static inline __attribute__((always_inline)) void
complete_rows(const int rows, const bool residual, const rc_int8_product *p, const rc_int8_tile *tile,
              const rc_int8_target *to, int half)
{
    __m256i sums[ROWS + 1][2];
    sum_rows(rows, p, tile, p->b + half * (STEP_BYTES / 2), sums);
    const rc_int8_epilogue *e = to->e;
    const eight of[2] = {eight_at(e, to->channel + half * 16), eight_at(e, to->channel + half * 16 + 8)};
    int64_t pitch = tile->next * to->pitch, at = tile->row * to->pitch + to->channel + half * 16;
    uint8_t *y = to->y;
    UNROLL for (int r = 0; r < rows; r += 2, at += 2 * pitch) {
        const int second = r + 1 < rows ? r + 1 : r;
        int64_t at2 = second == r ? at : at + pitch;
        __m256i words = _mm256_packs_epi32(finish_sums(residual, e, sums[r][0], &of[0], at),
                                           finish_sums(residual, e, sums[r][1], &of[1], at + 8));
        __m256i words2 = words;
        if (second != r) {
            words2 = _mm256_packs_epi32(finish_sums(residual, e, sums[second][0], &of[0], at2),
                                        finish_sums(residual, e, sums[second][1], &of[1], at2 + 8));
        }
        store_bytes(words, words2, y + at, second == r ? NULL : y + at2);
    }
}

#define PLAIN_CASE(n)                                \
    case n:                                          \
        complete_rows(n, false, p, tile, to, half);  \
        break;
#define RESIDUAL_CASE(n)                             \
    case n:                                          \
        complete_rows(n, true, p, tile, to, half);   \
        break;

/* Whole panels of bytes whose floor is 0, the common case. */
static bool
complete(const rc_int8_product *p, const rc_int8_tile *tile, const rc_int8_target *to)
{
    const rc_int8_epilogue *e = to->e;
    if (!floor_is_0(e) || to->columns < PANEL) {
        return false;
    }
    for (int half = 0; half < 2; half++) {
        if (e->residual) {
            switch (tile->rows) { ALL(RESIDUAL_CASE) }
        } else {
            switch (tile->rows) { ALL(PLAIN_CASE) }
        }
    }
    return true;
}

const rc_int8_kernels rc_int8_conv__avx2 = {
    .name = "rc_int8_conv__avx2",
    .most_rows = ROWS, .together = 1, .widen = widen, .multiply = multiply, .complete = complete,
    .finish = rc_int8_finish__avx2,
    .winograd = &rc_int8_winograd__avx2, .winograd_name = "rc_int8_conv_winograd__avx2",
};
