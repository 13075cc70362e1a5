/* Pictures on the device: bytes to a network's input, plain or augmented as csrc/data/augment.c does it,
 * with the same draws (jitter apart: batches that want it are made on the CPU). Nothing is allocated
 * or waited for (cuda.h's rules). */
#ifndef RC_CUDA_INPUT_H
#define RC_CUDA_INPUT_H

#ifdef __cplusplus
extern "C" {
#endif

#include "cuda.h"
#include "data/data.h"
#include "device/device.h"

/* What is drawn for a sample, and where its erased rectangle lies. */
typedef struct rc_cuda_draws {
    int32_t mirror, larger;   /* larger: by the resize for scale and crop */
    int32_t skip_y, skip_x;   /* rows and columns of the resize left out by it */
    int32_t shift_y, shift_x; /* pad - row, pad - column */
    int32_t top, left, rows, columns; /* erased; rows 0: nothing */
} rc_cuda_draws;

/* p->block is on the device, p->augment on the host, read before this returns. draws: room for n where
 * it augments. out: (n,height,width,3). */
void rc_cuda_pictures(const rc_device_pictures *p, rc_cuda_draws *draws, float *out,
                      rc_cuda_stream stream);

#ifdef __cplusplus
}
#endif

#endif
