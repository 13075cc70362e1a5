/* Rows of bytes: the two passes of a resize, mirroring, bytes to normalised planes. What data/
 * hands to the kernels in cpu/kernels/simd/pixels.c (one build per instruction set, the same bits
 * from all). */
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
/* out (w,3) = the pixels of in (w,3), last first. */
typedef void (*rc_pixel_mirror)(const uint8_t *in, int64_t w, uint8_t *out);

/* y = (byte / 255 - mean) / std, each step rounded to float: a table of all bytes, which defines
 * it, and the numbers for kernels that multiply and correct instead of looking up. */
typedef struct rc_normaliser {
    float lut[3][256];
    float mean[3], std[3], inverse[3]; /* inverse: 1 / std, rounded */
    bool arithmetic; /* that gives the table's bits for every byte: tried, not proved */
} rc_normaliser;

/* in (count,3) -> out (3,count). */
typedef void (*rc_pixel_planes)(const uint8_t *in, int64_t count, const rc_normaliser *n,
                                float *out);

typedef struct rc_pixel_kernels {
    rc_pixel_horizontal horizontal;
    rc_pixel_vertical vertical;
    rc_pixel_mirror mirror;
    rc_pixel_planes planes;
} rc_pixel_kernels;

const rc_pixel_kernels *rc_pixel_kernels_get(void);

#endif
