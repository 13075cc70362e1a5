/* Which squared-distance tile the CPU gets. */
#include "cpu/distance.h"

void rc_f32_sqdist_8x32__generic(int64_t kc, const float *a, const float *b, float *c,
                                 int64_t ldc, bool add);
#if defined(__x86_64__)
void rc_f32_sqdist_8x32__avx2(int64_t kc, const float *a, const float *b, float *c, int64_t ldc,
                              bool add);
void rc_f32_sqdist_8x32__avx512(int64_t kc, const float *a, const float *b, float *c, int64_t ldc,
                                bool add);
#endif

rc_sqdist_tile
rc_sqdist_tile_get(void)
{
#if defined(__x86_64__)
    rc_isa isa = rc_isa_get();
    if (isa >= RC_ISA_AVX512) {
        return rc_f32_sqdist_8x32__avx512;
    }
    if (isa >= RC_ISA_AVX2) {
        return rc_f32_sqdist_8x32__avx2;
    }
#endif
    return rc_f32_sqdist_8x32__generic;
}
