/* What the files of csrc/data share: a resize as a plan (weights computed once, then any
 * stripe of output rows by any thread), and the row kernels behind it. */
#ifndef RC_DATA_IMPL_H
#define RC_DATA_IMPL_H

#include "cpu/pixels.h"
#include "data/data.h"

#define RC_STRIPE 32         /* output rows per task: fixed, so work is cut by shape only */
#define RC_MAX_SIDE (1 << 20)

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

/* The side of the resize for scale and crop (csrc/data/augment.c). */
int64_t rc_scaled_up(int64_t side);

rc_status rc_rule_check(const float *std, rc_error *err) RC_CHECK_RESULT;
rc_status rc_image_check(const rc_image *image, int64_t index, rc_error *err) RC_CHECK_RESULT;

void rc_normaliser_init(rc_normaliser *n, const float *mean, const float *std);

#endif
