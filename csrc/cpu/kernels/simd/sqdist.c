/* One tile of squared Euclidean distances, by differences: c[i][j] (+)= sum_p (a_ip - b_jp)^2.
 *
 * Differences cost one subtraction more per term than the expanded |a|^2 + |b|^2 - 2ab, and
 * buy what a ranking needs: near pairs keep all their digits, equal rows are at exactly 0, and
 * d(a,b) = d(b,a). Compiled once per instruction set (RC_ISA); vectors are GCC's, so that the
 * tile stays in registers. a: (kc, RC_SQDIST_MR) packed, b: (kc, RC_SQDIST_NR) packed. */
#include "cpu/distance.h"

#define PASTE_(name, isa) name##__##isa
#define PASTE(name, isa) PASTE_(name, isa)

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX2__)
#define BYTES 32
#else
#define BYTES 16
#endif
#define LANES (BYTES / 4)
#define STEP_ROWS (BYTES == 64 ? 8 : 4)      /* rows of a held in registers at a time */
#define STEP_VECTORS (BYTES == 64 ? 2 : BYTES == 32 ? 2 : 2)

typedef float vector __attribute__((vector_size(BYTES), aligned(4), may_alias));

static inline __attribute__((always_inline)) void
step(int64_t kc, const float *restrict a, const float *restrict b, float *restrict c, int64_t ldc,
     bool add)
{
    vector sum[STEP_ROWS][STEP_VECTORS];
#pragma GCC unroll 8
    for (int i = 0; i < STEP_ROWS; i++) {
#pragma GCC unroll 2
        for (int j = 0; j < STEP_VECTORS; j++) {
            vector *at = (vector *)(c + i * ldc + j * LANES);
            sum[i][j] = add ? *at : (vector){0};
        }
    }
    for (int64_t p = 0; p < kc; p++) {
        vector right[STEP_VECTORS];
#pragma GCC unroll 2
        for (int j = 0; j < STEP_VECTORS; j++) {
            right[j] = *(const vector *)(b + j * LANES);
        }
#pragma GCC unroll 8
        for (int i = 0; i < STEP_ROWS; i++) {
#pragma GCC unroll 2
            for (int j = 0; j < STEP_VECTORS; j++) {
                vector t = a[i] - right[j];
                sum[i][j] += t * t;
            }
        }
        a += RC_SQDIST_MR;
        b += RC_SQDIST_NR;
    }
#pragma GCC unroll 8
    for (int i = 0; i < STEP_ROWS; i++) {
#pragma GCC unroll 2
        for (int j = 0; j < STEP_VECTORS; j++) {
            *(vector *)(c + i * ldc + j * LANES) = sum[i][j];
        }
    }
}

void
PASTE(rc_f32_sqdist_8x32, RC_ISA)(int64_t kc, const float *a, const float *b, float *c,
                                  int64_t ldc, bool add)
{
    for (int j = 0; j < RC_SQDIST_NR; j += STEP_VECTORS * LANES) {
        for (int i = 0; i < RC_SQDIST_MR; i += STEP_ROWS) {
            step(kc, a + i, b + j, c + i * ldc + j, ldc, add);
        }
    }
}
