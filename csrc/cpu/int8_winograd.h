/* 3x3 convolution of bytes by minimal filtering, F(2x2, 3x3) (Lavin and Gray, arXiv:1509.09308), in
 * integers: 2.25 times fewer products, the same sums. cpu/int8_conv.c asks for it; letters and
 * meanings as in cpu/int8.h. */
#ifndef RC_INT8_WINOGRAD_H
#define RC_INT8_WINOGRAD_H

#include "cpu/kernels/int8/tile.h"

/* Whether it pays; the answer does not depend on n. */
bool rc_int8_winograd_takes(const rc_conv_shape *s);
int64_t rc_int8_winograd_packed_size(const rc_conv_shape *s);
int64_t rc_int8_winograd_scratch_size(const rc_conv_shape *s, int threads);
void rc_int8_winograd_pack(const rc_conv_shape *s, const float *w, const float *factor, int8_t *packed,
                           int32_t *sums, int threads);
void rc_int8_winograd_run(const rc_int8_kernels *kernels, const rc_conv_shape *s,
                          const rc_int8_conv_args *call);

/* ---- what both drivers use ------------------------------------------------------------------ */

static inline int64_t
up(int64_t value, int64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

static inline int64_t
parts(int64_t value, int64_t unit)
{
    return (value + unit - 1) / unit;
}

static inline int64_t
lesser(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* A weight's byte. */
static inline int8_t
rc_int8_weight(float w, float factor)
{
    float near = __builtin_rintf(w * factor);
    return (int8_t)(near < -127 ? -127 : near < 127 ? near : 127);
}

#endif
