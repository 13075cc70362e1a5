/* The vector of this folder: 8 floats of AVX2, and the register tile that fits 16 registers:
 * 6 rows x 2 vectors of sums, 2 of B, 1 of A. Same names as in the other folders' vec.h. */
#ifndef RC_VEC_H
#define RC_VEC_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

#define VW 8
#define v_madd_f32 v_fma_there
#define MR 6
#define MASKS_COST 1 /* tiles of full vectors have code of their own */
#define TILE_NAME(pass) rc_f32_conv2d_##pass##_6x16__avx2
#define TILE_TEXT(pass) "rc_f32_conv2d_" pass "_6x16__avx2"
#define ISA_NAME(name) name##__avx2
#define ISA_TEXT(name) name "__avx2"

typedef __m256 vec;
typedef struct vmask {
    __m256i lanes;
    bool full; /* masked stores are slow on many CPUs: used only where needed */
} vmask;

static inline vec v_zero(void) { return _mm256_setzero_ps(); }
static inline vec v_set1(float x) { return _mm256_set1_ps(x); }
static inline vec v_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void v_store(float *p, vec x) { _mm256_storeu_ps(p, x); }
/* Past the caches, to whole lines; v_fence comes before others may read them. */
static inline void v_stream(float *p, vec x) { _mm256_stream_ps(p, x); }
static inline void v_fence(void) { _mm_sfence(); }
static inline vec v_add(vec a, vec b) { return _mm256_add_ps(a, b); }
static inline vec v_sub(vec a, vec b) { return _mm256_sub_ps(a, b); }
static inline vec v_mul(vec a, vec b) { return _mm256_mul_ps(a, b); }
static inline vec v_fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
/* For the tile: the sum stays in its register, else gcc moves the 12 of them about and spills some. */
static inline vec
v_fma_there(vec a, vec b, vec c)
{
    __asm__("vfmadd231ps %2, %1, %0" : "+x"(c) : "x"(a), "x"(b));
    return c;
}
/* max(x, 0) and the leaky form; a NaN stays one. */
static inline vec v_relu(vec x) { return _mm256_max_ps(_mm256_setzero_ps(), x); }
static inline vec
v_leaky(vec x, vec slope)
{
    __m256 above = _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GT_OQ);
    return _mm256_blendv_ps(_mm256_mul_ps(x, slope), x, above);
}
/* The first n lanes; n may be negative (none) or beyond VW (all). */
static inline vmask
v_mask(int64_t n)
{
    int32_t count = n >= VW ? VW : n <= 0 ? 0 : (int32_t)n;
    __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return (vmask){_mm256_cmpgt_epi32(_mm256_set1_epi32(count), index), count == VW};
}
static inline vec
v_load_some(const float *p, vmask m)
{
    if (__builtin_constant_p(m.full) && m.full) {
        return _mm256_loadu_ps(p);
    }
    return _mm256_maskload_ps(p, m.lanes);
}
static inline void
v_store_some(float *p, vec x, vmask m)
{
    if (m.full) {
        _mm256_storeu_ps(p, x);
    } else {
        _mm256_maskstore_ps(p, m.lanes, x);
    }
}

#endif
