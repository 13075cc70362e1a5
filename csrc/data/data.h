/* Pictures on their way into a network: Pillow's resize byte for byte, normalisation, the
 * augmentation chain of a training sample, and the samplers that say which images a batch has.
 *
 * Called by the engine (embed, forward), the loader's threads and the bindings. Everything is
 * spec/common.md 4 and 5; RGB order throughout; all functions check their arguments before
 * anything is written and give the same bits for any number of threads. */
#ifndef RC_DATA_H
#define RC_DATA_H

#include "base/base.h"

/* One uint8 RGB picture, borrowed. Rows may lie apart (a box cut out of a frame). */
typedef struct rc_image {
    const uint8_t *pixels; /* (height, width, 3), pixels of a row adjacent */
    int64_t height, width;
    int64_t stride;        /* bytes from row to row; 0: 3 * width */
} rc_image;

typedef enum rc_filter {
    RC_FILTER_BILINEAR = 0, /* both antialiased when shrinking, as Pillow >= 13 does it */
    RC_FILTER_BICUBIC,
} rc_filter;

/* What a network wants to be fed. y = (byte / 255 - mean) / std, each step rounded to float. */
typedef struct rc_input_rule {
    int64_t height, width; /* the network's size */
    rc_filter filter;
    bool mirror;           /* columns reversed (the second pass of flip averaging) */
    bool nchw;             /* layout of the destination: (n,3,h,w) instead of (n,h,w,3) */
    float mean[3], std[3];
} rc_input_rule;

/* ImageNet's mean and deviation, bilinear, NHWC. */
rc_input_rule rc_input_rule_default(int64_t height, int64_t width);

/* ---- pictures -> input of a network (data/input.c) ---------------------------------------- */

/* pixels: (n,h,w,3) contiguous, any h and w -> out: (n,height,width,3), or NCHW if the rule
 * says so. n = 0 does nothing. RC_ARGUMENT: a size that is not positive; RC_MEMORY. */
rc_status rc_images_to_input(const uint8_t *pixels, int64_t n, int64_t h, int64_t w,
                             const rc_input_rule *rule, float *out, int threads,
                             rc_error *err) RC_CHECK_RESULT;
/* The same for n pictures that may differ in size (or be boxes of frames). */
rc_status rc_image_list_to_input(const rc_image *images, int64_t n, const rc_input_rule *rule,
                                 float *out, int threads, rc_error *err) RC_CHECK_RESULT;

/* Already normalised pictures: x (n,3,h,w) -> y (n,h,w,3), columns reversed if `mirror`.
 * RC_ARGUMENT if a value is NaN or infinite, naming the first image that has one; y holds
 * the copy even then and must not be used. */
rc_status rc_floats_to_input(const float *x, int64_t n, int64_t h, int64_t w, bool mirror,
                             float *y, int threads, rc_error *err) RC_CHECK_RESULT;

/* ---- resize (data/resize.c) --------------------------------------------------------------- */

/* image -> out (height,width,3), contiguous. */
rc_status rc_image_resize(const rc_image *image, int64_t height, int64_t width,
                          rc_filter filter, uint8_t *out, int threads,
                          rc_error *err) RC_CHECK_RESULT;

#endif
