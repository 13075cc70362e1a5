/* Pictures on the device: bytes of one size to a network's input, plain or augmented as
 * csrc/data/augment.c does it, with the same draws (jitter apart: batches that want it are made on
 * the CPU). Addresses are on the device; nothing is allocated or waited for (cuda.h's rules). */
#ifndef RC_CUDA_INPUT_H
#define RC_CUDA_INPUT_H

#ifdef __cplusplus
extern "C" {
#endif

#include "cuda.h"
#include "data/data.h"

/* The weights of one axis of a resize, as data/resize.c makes them (rc_taps), on the device. */
typedef struct rc_cuda_taps {
    const int64_t *first;   /* (out) */
    const int32_t *weights; /* (out, count) */
    int32_t count;          /* 0: this axis keeps its size */
} rc_cuda_taps;

/* One resize: x and y to (out_h, out_w). vertical_first: Pillow's rule, as rc_resize has it. */
typedef struct rc_cuda_resize {
    rc_cuda_taps x, y;
    int32_t out_h, out_w;
    bool vertical_first;
} rc_cuda_resize;

/* What is drawn for a sample, and where its erased rectangle lies. */
typedef struct rc_cuda_draws {
    int32_t mirror, larger;   /* larger: by the resize for scale and crop */
    int32_t skip_y, skip_x;   /* rows and columns of the resize left out by it */
    int32_t shift_y, shift_x; /* pad - row, pad - column */
    int32_t top, left, rows, columns; /* erased; rows 0: nothing */
} rc_cuda_draws;

/* pixels (n,h,w,3) -> out (n,height,width,3) of `type`, columns reversed if `mirror`; lut:
 * (3,256) floats (rc_normalise_table). */
void rc_cuda_images(const uint8_t *pixels, int64_t n, int64_t h, int64_t w,
                    const rc_cuda_resize *resize, const float *lut, bool mirror, void *out,
                    rc_cuda_type type, rc_cuda_stream stream);

/* The augmentation `a` (its jitter must be 0) of pixels (n,h,w,3), the batch's first sample being
 * number `first` of `epoch`. `plain` resizes to a->height x a->width, `larger` to 1.125 times
 * that (read where a->scale_crop > 0). draws: room for n, the seed one number on the device. */
void rc_cuda_augment(const rc_augment *a, const uint8_t *pixels, int64_t n, int64_t h, int64_t w,
                     const rc_cuda_resize *plain, const rc_cuda_resize *larger, const float *lut,
                     const uint64_t *seed, int64_t epoch, int64_t first, rc_cuda_draws *draws,
                     void *out, rc_cuda_type type, rc_cuda_stream stream);

#ifdef __cplusplus
}
#endif

#endif
