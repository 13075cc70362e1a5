/* The vector of this folder: 4 floats as the compiler's own vector type, which it turns into
 * whatever the machine has (SSE2, NEON, or plain floats), and a 4 x 8 register tile.
 * Same names as in the other folders' vec.h. */
#ifndef RC_VEC_H
#define RC_VEC_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define VW 4
#define MR 4
#define MASKS_COST 0
#define TILE_NAME(pass) rc_f32_conv2d_##pass##_4x8__generic
#define TILE_TEXT(pass) "rc_f32_conv2d_" pass "_4x8__generic"
#define ISA_NAME(name) name##__generic
#define ISA_TEXT(name) name "__generic"

typedef float vec __attribute__((vector_size(16)));
typedef int32_t vec_int __attribute__((vector_size(16)));
typedef int64_t vmask; /* valid lanes, 0..VW */

static inline vec v_zero(void) { return (vec){0, 0, 0, 0}; }
static inline vec v_set1(float x) { return (vec){x, x, x, x}; }
static inline vec
v_load(const float *p)
{
    vec x;
    memcpy(&x, p, sizeof x);
    return x;
}
static inline void v_store(float *p, vec x) { memcpy(p, &x, sizeof x); }
/* Past the caches, to whole lines; v_fence comes before others may read them. */
static inline void v_stream(float *p, vec x) { memcpy(p, &x, sizeof x); }
static inline void v_fence(void) {  }
static inline vec v_add(vec a, vec b) { return a + b; }
static inline vec v_sub(vec a, vec b) { return a - b; }
static inline vec v_mul(vec a, vec b) { return a * b; }
static inline vec v_fma(vec a, vec b, vec c) { return a * b + c; }
/* max(x, 0) and the leaky form; a NaN stays one. */
static inline vec v_relu(vec x) { return (vec)((vec_int)x & ~(x <= v_zero())); }
static inline vec
v_leaky(vec x, vec slope)
{
    vec_int above = x > v_zero();
    return (vec)(((vec_int)x & above) | ((vec_int)(x * slope) & ~above));
}
/* The first n lanes; n may be negative (none) or beyond VW (all). */
static inline vmask v_mask(int64_t n) { return n >= VW ? VW : n <= 0 ? 0 : n; }
static inline vec
v_load_some(const float *p, vmask m)
{
    vec x = v_zero();
    if (m == VW) {
        return v_load(p);
    }
    for (vmask i = 0; i < m; i++) {
        x[i] = p[i];
    }
    return x;
}
static inline void
v_store_some(float *p, vec x, vmask m)
{
    if (m == VW) {
        v_store(p, x);
        return;
    }
    for (vmask i = 0; i < m; i++) {
        p[i] = x[i];
    }
}

#endif
