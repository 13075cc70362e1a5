/* The peak that this instruction set reaches when nothing waits for memory: independent
 * multiply-adds in registers. Only the benchmarks call it. */
#include "cpu/fast.h"
#include "cpu/kernels/tables.h"

#ifdef __AVX512F__
typedef float wide __attribute__((vector_size(64)));
#define SUMS 24
#elif defined(__AVX2__)
typedef float wide __attribute__((vector_size(32)));
#define SUMS 12
#else
typedef float wide __attribute__((vector_size(16)));
#define SUMS 12
#endif

double
RC_SIMD(rc_f32_peak)(int64_t rounds, float *sink)
{
    wide sum[SUMS] = {0}, a, b;
    for (unsigned i = 0; i < sizeof(wide) / sizeof(float); i++) {
        a[i] = 1.0f - *sink * 1e-7f;
        b[i] = *sink;
    }
    for (int i = 0; i < SUMS; i++) {
        sum[i] += *sink * (float)i; /* all different: equal sums would be computed once */
    }
    for (int64_t r = 0; r < rounds; r++) {
        _Pragma("GCC unroll 24") for (int i = 0; i < SUMS; i++) {
            sum[i] = sum[i] * a + b;
        }
    }
    float total = 0;
    for (int i = 0; i < SUMS; i++) {
        for (unsigned j = 0; j < sizeof(wide) / sizeof(float); j++) {
            total += sum[i][j];
        }
    }
    *sink = total;
    return 2.0 * (double)rounds * SUMS * (double)(sizeof(wide) / sizeof(float));
}
