/* The two passes of a resize on rows of bytes: what data/resize.c hands to the kernels in
 * cpu/kernels/simd/pixels.c (one build per instruction set, the same bytes from all). */
#ifndef RC_PIXELS_H
#define RC_PIXELS_H

#include "base/base.h"

#define RC_PIXEL_PAD 64   /* bytes that row kernels may touch behind a row in scratch */
#define RC_WEIGHT_BITS 22 /* fixed point of the weights; sums fit 32 bits for bytes */

/* The weights of one axis: output i reads inputs first[i] .. first[i] + count - 1. The same
 * count for all (the largest; the others have zeros), so that the inner loop is predictable. */
typedef struct rc_taps {
    int64_t out, count;
    int64_t *first;   /* (out), ascending; first + count never leaves the axis */
    int32_t *weights; /* (out, count) */
} rc_taps;

/* Horizontal pass of one row: in (w,3) and out (taps->out,3), both with RC_PIXEL_PAD bytes
 * behind them. */
typedef void (*rc_pixel_horizontal)(const uint8_t *in, const rc_taps *taps, uint8_t *out);
/* Vertical pass of one row: out[i] = sum over k of weights[k] * in[k * stride + i]. */
typedef void (*rc_pixel_vertical)(const uint8_t *in, int64_t stride, const int32_t *weights,
                                  int64_t count, int64_t bytes, uint8_t *out);
typedef struct rc_pixel_kernels {
    rc_pixel_horizontal horizontal;
    rc_pixel_vertical vertical;
} rc_pixel_kernels;

const rc_pixel_kernels *rc_pixel_kernels_get(void);

#endif
