/* The element of maps and sequences in the kernels of this folder: float, and bf16 where a file is
 * built once more with -DRC_BF16_MAPS=1. A bf16 becomes a float in the register that loads it, all
 * arithmetic is float, and what is stored is rounded to the nearest, ties to even. Vectors (rank 1
 * and 2), statistics and what is kept for backward are float in both builds.
 *
 * A file that is built twice declares maps as `elem`, reads them with e_get or ve_load, writes them
 * with e_put or ve_store, takes its names from FAST and FAST_TEXT and refuses what is no map
 * (`maps_only`); with that it goes into MAP_KERNELS of cpu/fast_table.c and MAPS of setup.py. */
#ifndef RC_SIMD_ELEMENT_H
#define RC_SIMD_ELEMENT_H

#include "base/element.h"
#include "cpu/kernels/simd/loops.h"

#if RC_BF16_MAPS

typedef uint16_t elem;
typedef uint16_t vh __attribute__((vector_size(VN * 2)));
#define ELEMENT RC_BF16
#define FAST(name) RC_SIMD(rc_fast_bf16_##name)
#define FAST_TEXT(name) "rc_bf16_" name "__" RC_ISA_TEXT

RC_INLINE float
e_get(elem x)
{
    return rc_from_bf16(x);
}

RC_INLINE elem
e_put(float x)
{
    return rc_to_bf16(x);
}

RC_INLINE vf
ve_load(const elem *p)
{
    vh half;
    memcpy(&half, p, sizeof half);
    return (vf)(__builtin_convertvector(half, vi) << 16);
}

RC_INLINE void
ve_store(elem *p, vf v)
{
    vi bits = (vi)v, odd = bits >> 16 & 1;
    vi up = vi_select(v == v, bits + (odd + 0x7fff), bits | 0x400000);
    vh half = __builtin_convertvector(up >> 16, vh);
    memcpy(p, &half, sizeof half);
}

#else

typedef float elem;
#define ELEMENT RC_REAL
#define FAST(name) RC_SIMD(rc_fast_##name)
#define FAST_TEXT(name) "rc_f32_" name "__" RC_ISA_TEXT
#define e_get(x) (x)
#define e_put(x) (x)
#define ve_load vf_load
#define ve_store vf_store

#endif

/* A row of channels: to += from, or to = from. */
RC_INLINE void
row_put(elem *to, const elem *from, int64_t count, bool add)
{
    if (!add) {
        memcpy(to, from, (size_t)count * sizeof *to);
        return;
    }
    RC_IVDEP
    for (int64_t k = 0; k < count; k++) {
        to[k] = e_put(e_get(to[k]) + e_get(from[k]));
    }
}

/* For `refuse`: in the bf16 build whatever neither takes nor gives a map. */
RC_INLINE const char *
maps_only(const rc_attrs *a, int n_in, const rc_shape *xs, const rc_shape *y)
{
    (void)a;
    bool found = ELEMENT == RC_REAL || y->rank >= 3;
    for (int i = 0; i < n_in; i++) {
        found |= xs[i].rank >= 3;
    }
    return found ? NULL : "no map";
}

#endif
