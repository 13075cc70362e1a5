/* Weight updates: the float build for the instruction set in use, and the double one. */
#include "cpu/update.h"

#include <math.h>

typedef double real;
#define R_SQRT sqrt
#define UPDATE_NAME rc_update_run_f64
#define SQUARES_NAME rc_squares_f64
#include "cpu/update_loops.inc"

#define DECLARE(isa)                                                                        \
    void rc_f32_update__##isa(const rc_update *u, int64_t n, const float *g, float *w,      \
                              float *s0, float *s1);                                        \
    double rc_f32_squares__##isa(int64_t n, const float *g);
DECLARE(generic)
#if defined(__x86_64__)
DECLARE(avx2)
DECLARE(avx512)
#endif

rc_update_f32
rc_update_f32_get(void)
{
#if defined(__x86_64__)
    rc_isa isa = rc_isa_get();
    if (isa >= RC_ISA_AVX512) {
        return rc_f32_update__avx512;
    }
    if (isa >= RC_ISA_AVX2) {
        return rc_f32_update__avx2;
    }
#endif
    return rc_f32_update__generic;
}

rc_squares_f32
rc_squares_f32_get(void)
{
#if defined(__x86_64__)
    rc_isa isa = rc_isa_get();
    if (isa >= RC_ISA_AVX512) {
        return rc_f32_squares__avx512;
    }
    if (isa >= RC_ISA_AVX2) {
        return rc_f32_squares__avx2;
    }
#endif
    return rc_f32_squares__generic;
}
