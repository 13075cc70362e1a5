/* Evaluation and explanation on the device: distances, ranks, nearest images, Grad-CAM. All
 * addresses are on the device; nothing is allocated or waited for (cuda.h's rules). Distances of
 * all pairs are never in memory together; results do not depend on the order in which blocks run. */
#ifndef RC_CUDA_EVAL_H
#define RC_CUDA_EVAL_H

#ifdef __cplusplus
extern "C" {
#endif

#include "cuda.h"

/* Two sets of rows, float32. Euclidean: squared, of the rows as given, by differences. Cosine: of
 * rows that rc_cuda_unit_rows has scaled, with their `lack`s. */
typedef struct rc_cuda_pairs {
    const float *query, *gallery;           /* (q,d), (g,d), rows at multiples of 16 bytes */
    const float *lack_query, *lack_gallery; /* (q), (g), or NULL: euclidean */
    int64_t queries, gallery_rows, dimension;
} rc_cuda_pairs;

/* rows (n,d) -> unit (n,d): lengths clamped at 1e-12; lack (n): (1 - |unit|^2)/2. */
void rc_cuda_unit_rows(const float *rows, int64_t n, int64_t d, float *unit, float *lack,
                       rc_cuda_stream stream);

/* out: (count, g), distances of queries first .. first+count-1. */
void rc_cuda_distances(const rc_cuda_pairs *pairs, int64_t first, int64_t count, float *out,
                       rc_cuda_stream stream);

/* The places of each query's matches in its ranking, from 1, ascending; junk is not counted.
 * start (q+1): the matches of query i are match[start[i]] .. match[start[i+1]-1], gallery indices
 * in ascending order; every other image of the query's id is junk, as is id -1.
 * Scratch: distance and sorted, as many floats as there are matches; place, as many int32.
 * ranks: as many int32. */
typedef struct rc_cuda_rank {
    const int32_t *start, *match;
    const int64_t *q_pids, *g_pids;
    int64_t matches; /* start[q], on the host */
    float *distance, *sorted;
    int32_t *place, *ranks;
} rc_cuda_rank;
void rc_cuda_ranks(const rc_cuda_pairs *pairs, const rc_cuda_rank *rank, rc_cuda_stream stream);

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
