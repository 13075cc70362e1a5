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

/* ---- pictures -> input of a network (data/input.c) --------------------------------------- */

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

/* ---- resize (data/resize.c) -------------------------------------------------------------- */

/* image -> out (height,width,3), contiguous. */
rc_status rc_image_resize(const rc_image *image, int64_t height, int64_t width,
                          rc_filter filter, uint8_t *out, int threads,
                          rc_error *err) RC_CHECK_RESULT;

/* ---- augmentation of training samples (data/augment.c, jitter.c) ------------------------- */

/* The chain, in this order: [jitter if jitter_first,] resize (or scale and crop), mirror, pad
 * and crop, jitter, normalise, erase. A probability of 0 switches a step off. */
typedef struct rc_augment {
    int64_t height, width;
    rc_filter filter;
    double mirror;       /* probability */
    double scale_crop;   /* probability of: resize to round(1.125 * size), crop uniformly */
    int64_t pad;         /* black pixels on every side, then a uniform crop; 0: off */
    double jitter;       /* probability that colours are jittered at all */
    double brightness, contrast, saturation; /* factors uniform in [max(0, 1-b), 1+b]; 0: off */
    double hue;          /* shift uniform in [-hue, hue] of the circle, <= 0.5; 0: off */
    bool jitter_first;   /* on the original picture, before it is resized */
    double erase;        /* probability */
    double area[2];      /* shares of the picture, uniform */
    double ratio[2];     /* height / width of the rectangle */
    bool log_ratio;      /* ratio log-uniform instead of uniform */
    int64_t tries;       /* at most RC_ERASE_TRIES; none fits: the picture stays */
    float fill[3];       /* written after normalisation */
    float mean[3], std[3];
} rc_augment;

#define RC_ERASE_TRIES 100

rc_status rc_augment_check(const rc_augment *a, rc_error *err) RC_CHECK_RESULT;

/* n pictures of any sizes -> out (n,3,height,width). Sample i draws from
 * h(seed, RC_RANDOM_AUGMENT, epoch, first + i, 0, slot), slots as in data/augment.c, so `first`
 * is the running number in the epoch of the batch's first sample. */
rc_status rc_augment_batch(const rc_augment *a, const rc_image *images, int64_t n,
                           uint64_t seed, int64_t epoch, int64_t first, float *out, int threads,
                           rc_error *err) RC_CHECK_RESULT;

/* One jitter on (count,3) bytes in place: ops[i] of RC_JITTER_* with its factor, in order. */
enum { RC_JITTER_BRIGHTNESS, RC_JITTER_CONTRAST, RC_JITTER_SATURATION, RC_JITTER_HUE };
void rc_jitter_apply(uint8_t *pixels, int64_t count, int op, double factor);

/* ---- samplers (data/sampler.c) ----------------------------------------------------------- */

typedef enum rc_sampler_kind {
    RC_SAMPLER_PK = 0,   /* identities drawn while enough are left (spec/common.md 5) */
    RC_SAMPLER_ONCE,     /* each identity once an epoch */
    RC_SAMPLER_BALANCED, /* each once, images from different cameras */
} rc_sampler_kind;

typedef struct rc_sampler {
    const int64_t *labels;  /* (n), 0 .. classes - 1 */
    const int64_t *cameras; /* (n); needed by RC_SAMPLER_BALANCED only */
    int64_t n, classes;
    int64_t identities, images; /* of a batch: P and K */
    rc_sampler_kind kind;
} rc_sampler;

/* *order: count indices, to be released with rc_free; a batch is the next identities * images
 * of them, images of one identity adjacent (with RC_SAMPLER_ONCE the last may be shorter).
 * RC_ARGUMENT if there is not one batch. */
rc_status rc_sampler_epoch(const rc_sampler *s, uint64_t seed, int64_t epoch, int64_t **order,
                           int64_t *count, rc_error *err) RC_CHECK_RESULT;

/* A permutation of 0 .. n-1 from h(seed, RC_RANDOM_SPLIT, 0, draw, 0, 0): which identities of
 * a folder are tested. n < 2^24. */
void rc_split_permutation(int64_t n, uint64_t seed, int64_t *out);

#endif
