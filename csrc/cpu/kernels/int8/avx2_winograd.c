/* Transforms and products of F(2x2, 3x3) in integers (cpu/int8_winograd.c). */
#include "avx2.h"

static inline __m256i
sum(__m256i a, __m256i b)
{
    return _mm256_add_epi16(a, b);
}

static inline __m256i
difference(__m256i a, __m256i b)
{
    return _mm256_sub_epi16(a, b);
}

/* V = Bt d B: of every four a b c d, by columns and then by rows: a - c, b + c, c - b, b - d. */
static void
input(const uint8_t *const from[16], int64_t channels, int16_t *to, int64_t step)
{
    for (int64_t c = 0; c < channels; c += 16) {
        __m256i v[4][4];
        UNROLL for (int x = 0; x < 4; x++) {
            __m256i d[4];
            UNROLL for (int y = 0; y < 4; y++) {
                d[y] = _mm256_cvtepu8_epi16(
                    _mm_loadu_si128((const __m128i *)(const void *)(from[y * 4 + x] + c)));
            }
            v[0][x] = difference(d[0], d[2]);
            v[1][x] = sum(d[1], d[2]);
            v[2][x] = difference(d[2], d[1]);
            v[3][x] = difference(d[1], d[3]);
        }
        UNROLL for (int y = 0; y < 4; y++) {
            const __m256i row[4] = {
                difference(v[y][0], v[y][2]), sum(v[y][1], v[y][2]),
                difference(v[y][2], v[y][1]), difference(v[y][1], v[y][3])};
            UNROLL for (int x = 0; x < 4; x++) {
                _mm256_storeu_si256((__m256i *)(void *)(to + (y * 4 + x) * step + c), row[x]);
            }
        }
    }
}

static inline __attribute__((always_inline)) void
multiply_rows(const int rows, int64_t channels, const int16_t *v, const int16_t *u, int32_t *m)
{
    __m256i sums[ROWS][2];
    clear_sums(rows, sums);
    const uint8_t *a = (const uint8_t *)v, *end = a + channels * 2;
    const int64_t lda = channels * 2;
    const uint8_t *a3 = a + (rows > 3 ? 3 * lda : 0);
    for (; a < end; a += 16, a3 += 16, u += 128) {
        UNROLL for (int i = 0; i < 4; i++) {
            add_pairs(rows, sums, a + 4 * i, a3 + 4 * i, lda, vector(u + 32 * i),
                      vector(u + 32 * i + 16));
        }
    }
    store_sums(rows, sums, m, RC_INT8_UNIT);
}

#define ROWS_CASE(n)                             \
    case n:                                      \
        multiply_rows(n, channels, v, u, m);     \
        break;

static void
multiply(int rows, int64_t channels, const int16_t *v, const int16_t *u, int32_t *m)
{
    switch (rows) { ALL(ROWS_CASE) }
}

/* At M A, of every four a b c d: a + b + c, b - c - d; a quarter of it is the sum. Eight channels. */
static inline __attribute__((always_inline)) void
sums_of(const int32_t *m, int64_t step, __m256i sums[4])
{
    __m256i t[2][4];
    UNROLL for (int x = 0; x < 4; x++) {
        __m256i b = vector(m + (4 + x) * step), c = vector(m + (8 + x) * step);
        t[0][x] = _mm256_add_epi32(_mm256_add_epi32(b, c), vector(m + x * step));
        t[1][x] = _mm256_sub_epi32(_mm256_sub_epi32(b, c), vector(m + (12 + x) * step));
    }
    UNROLL for (int y = 0; y < 2; y++) {
        __m256i left = _mm256_add_epi32(_mm256_add_epi32(t[y][1], t[y][2]), t[y][0]);
        __m256i right = _mm256_sub_epi32(_mm256_sub_epi32(t[y][1], t[y][2]), t[y][3]);
        sums[2 * y] = _mm256_srai_epi32(left, 2);
        sums[2 * y + 1] = _mm256_srai_epi32(right, 2);
    }
}

static inline __attribute__((always_inline)) void
finish_tiles(const bool residual, const int32_t *m, int64_t step, int tiles,
             const int64_t (*pixels)[4], const rc_int8_target *to)
{
    const rc_int8_epilogue e = *to->e;
    const eight of[2] = {eight_at(&e, to->channel), eight_at(&e, to->channel + 8)};
    uint8_t *y = (uint8_t *)to->y;
    for (int i = 0; i < tiles; i++, m += RC_INT8_UNIT) {
        int64_t at[4];
        UNROLL for (int k = 0; k < 4; k++) { /* outside: again what is inside */
            at[k] = pixels[i][pixels[i][k] < 0 ? 0 : k] * to->pitch + to->channel;
        }
        __m256i sums[2][4];
        sums_of(m, step, sums[0]);
        sums_of(m + 8, step, sums[1]);
        UNROLL for (int k = 0; k < 4; k++) {
            sums[0][k] = _mm256_packs_epi32(finish_sums(residual, &e, sums[0][k], &of[0], at[k]),
                                            finish_sums(residual, &e, sums[1][k], &of[1], at[k] + 8));
        }
        store_bytes(sums[0][2], sums[0][3], y + at[2], y + at[3]);
        store_bytes(sums[0][1], sums[0][0], y + at[1], y + at[0]); /* the first, always inside, last */
    }
}

static void
finish(const int32_t *m, int64_t step, int tiles, const int64_t (*pixels)[4],
       const rc_int8_target *to)
{
    if (floor_is_0(to->e) && to->columns == RC_INT8_UNIT) {
        if (to->e->residual) {
            finish_tiles(true, m, step, tiles, pixels, to);
        } else {
            finish_tiles(false, m, step, tiles, pixels, to);
        }
        return;
    }
    for (int i = 0; i < tiles; i++, m += RC_INT8_UNIT) {
        __m256i left[4], right[4];
        sums_of(m, step, left);
        sums_of(m + 8, step, right);
        for (int k = 0; k < 4; k++) {
            int32_t sums[PANEL];
            rc_int8_tile tile = {.row = pixels[i][k], .rows = pixels[i][k] >= 0};
            _mm256_storeu_si256((__m256i *)(void *)sums, left[k]);
            _mm256_storeu_si256((__m256i *)(void *)(sums + 8), right[k]);
            rc_int8_finish__avx2(to, &tile, sums);
        }
    }
}

const rc_int8_winograd rc_int8_winograd__avx2 = {
    .input = input, .multiply = multiply, .finish = finish,
};
