/* The vector of this folder: 16 floats of AVX-512, and the register tile that fits 32 registers:
 * 14 rows x 2 vectors of sums, 2 of B, 1 of A. Same names as in the other folders' vec.h. */
#ifndef RC_VEC_H
#define RC_VEC_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

#define VW 16
#define MR 14
#define MASKS_COST 0
#define TILE_NAME(pass) rc_f32_conv2d_##pass##_14x32__avx512
#define TILE_TEXT(pass) "rc_f32_conv2d_" pass "_14x32__avx512"
#define ISA_NAME(name) name##__avx512
#define ISA_TEXT(name) name "__avx512"

typedef __m512 vec;
typedef __mmask16 vmask;

static inline vec v_zero(void) { return _mm512_setzero_ps(); }
static inline vec v_set1(float x) { return _mm512_set1_ps(x); }
static inline vec v_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void v_store(float *p, vec x) { _mm512_storeu_ps(p, x); }
/* Past the caches, to whole lines; v_fence comes before others may read them. */
static inline void v_stream(float *p, vec x) { _mm512_stream_ps(p, x); }
static inline void v_fence(void) { _mm_sfence(); }
static inline vec v_add(vec a, vec b) { return _mm512_add_ps(a, b); }
static inline vec v_sub(vec a, vec b) { return _mm512_sub_ps(a, b); }
static inline vec v_mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
static inline vec v_fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
/* max(x, 0) and the leaky form; a NaN stays one. */
static inline vec v_relu(vec x) { return _mm512_max_ps(_mm512_setzero_ps(), x); }
static inline vec
v_leaky(vec x, vec slope)
{
    __mmask16 not_above = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_NGT_UQ);
    return _mm512_mask_mul_ps(x, not_above, x, slope);
}
/* The first n lanes; n may be negative (none) or beyond VW (all). */
static inline vmask
v_mask(int64_t n)
{
    return (vmask)(n >= VW ? 0xffff : n <= 0 ? 0 : (1u << n) - 1);
}
static inline vec v_load_some(const float *p, vmask m) { return _mm512_maskz_loadu_ps(m, p); }
static inline void v_store_some(float *p, vec x, vmask m) { _mm512_mask_storeu_ps(p, m, x); }

#endif
