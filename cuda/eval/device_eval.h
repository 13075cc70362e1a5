/* Evaluation and explanation on the device: distances, ranks, nearest images, Grad-CAM. All
 * addresses are on the device; nothing is allocated or waited for (cuda.h's rules). Distances of
 * all pairs are never in memory together; results do not depend on the order in which blocks run. */
#ifndef RC_CUDA_EVAL_H
#define RC_CUDA_EVAL_H

#ifdef __cplusplus
extern "C" {
#endif

#include "cuda.h"
#include "device/device.h"

/* rc_device_api's unit_rows, find_bad, distances and rank (device/device.h). */
void rc_cuda_unit_rows(const float *rows, int64_t n, int64_t d, float *unit, float *lack,
                       rc_cuda_stream stream);
void rc_cuda_find_bad(const float *rows, int64_t n, int64_t d, int32_t *bad, rc_cuda_stream stream);
void rc_cuda_distances(const rc_device_pairs *pairs, int64_t first, int64_t count, float *out,
                       rc_cuda_stream stream);
void rc_cuda_rank(const rc_device_pairs *pairs, const rc_device_ranking *ranking, int64_t first,
                  int64_t count, rc_cuda_stream stream);

/* The k smallest of each row, (rows,n) -> index, value (rows,k), ascending, ties by index;
 * 1 <= k <= min(n, RC_CUDA_NEAREST). */
#define RC_CUDA_NEAREST 1024
void rc_cuda_nearest(const float *distances, int64_t rows, int64_t n, int64_t k, int32_t *index,
                     float *value, rc_cuda_stream stream);

/* Grad-CAM of one layer (csrc/eval/eval.h: rc_cam_add). map, gradient: (n,h,w,c) of `type`;
 * cam (n,h,w), double, is added to. gradient NULL: activation. c <= 10240. */
void rc_cuda_cam_add(const void *map, const void *gradient, rc_cuda_type type, int64_t n,
                     int64_t positions, int64_t c, double *cam, rc_cuda_stream stream);
/* To [0, 1] and to height x width (rc_cam_finish). cam is changed; out: (n,height,width). */
void rc_cuda_cam_finish(double *cam, int64_t n, int64_t h, int64_t w, bool activation,
                        int64_t height, int64_t width, float *out, rc_cuda_stream stream);

#ifdef __cplusplus
}
#endif

#endif
