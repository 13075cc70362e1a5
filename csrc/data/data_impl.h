/* What the files of csrc/data share: a resize as a plan (weights computed once, then any
 * stripe of output rows by any thread), and the row kernels behind it. */
#ifndef RC_DATA_IMPL_H
#define RC_DATA_IMPL_H

#include "data/data.h"

#define RC_PIXEL_PAD 64      /* bytes that row kernels may touch behind a row in scratch */
#define RC_STRIPE 32         /* output rows per task: fixed, so work is cut by shape only */
#define RC_WEIGHT_BITS 22    /* fixed point of the weights; sums fit 32 bits for bytes */
#define RC_MAX_SIDE (1 << 20)

/* The weights of one axis: output i reads inputs first[i] .. first[i] + count - 1. The same
 * count for all (the largest; the others have zeros), so that the inner loop is predictable. */
typedef struct rc_taps {
    int64_t out, count;
    int64_t *first;   /* (out), ascending; first + count never leaves the axis */
    int32_t *weights; /* (out, count) */
} rc_taps;

typedef struct rc_resize {
    int64_t in_h, in_w, out_h, out_w;
    bool horizontal, vertical; /* which passes change a size and therefore run */
    bool vertical_first;
    rc_taps x, y;
    int64_t scratch;           /* bytes that one thread needs for a stripe of RC_STRIPE rows */
} rc_resize;

rc_status rc_resize_init(rc_resize *r, int64_t in_h, int64_t in_w, int64_t out_h,
                         int64_t out_w, rc_filter filter, rc_error *err) RC_CHECK_RESULT;
void rc_resize_fini(rc_resize *r); /* an all-zero one is fine */

/* The plans of pictures that may differ in size: one per distinct size. */
typedef struct rc_resize_set {
    rc_resize *plans;
    int32_t *plan_of; /* (n) */
    int64_t count;
    int64_t scratch;  /* of the neediest, in whole cache lines */
} rc_resize_set;

rc_status rc_resize_set_init(rc_resize_set *set, const rc_image *images, int64_t n,
                             int64_t out_h, int64_t out_w, rc_filter filter,
                             rc_error *err) RC_CHECK_RESULT;
void rc_resize_set_fini(rc_resize_set *set); /* an all-zero one is fine */

/* Rows y0 .. y1-1 of the result, each handed to sink(context, y, row). A stripe: y0 is a
 * multiple of RC_STRIPE and y1 the next one, or the height. */
typedef void (*rc_row_sink)(void *context, int64_t y, const uint8_t *row);
void rc_resize_rows(const rc_resize *r, const rc_image *image, int64_t y0, int64_t y1,
                    uint8_t *scratch, rc_row_sink sink, void *context);

rc_status rc_rule_check(const float *std, rc_error *err) RC_CHECK_RESULT;
rc_status rc_image_check(const rc_image *image, int64_t index, rc_error *err) RC_CHECK_RESULT;

/* lut[c][byte] = (byte / 255 - mean[c]) / std[c] */
void rc_normalise_table(const float *mean, const float *std, float lut[3][256]);

/* ---- row kernels (cpu/kernels/simd/pixels.c, one build per instruction set) -------------- */

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
