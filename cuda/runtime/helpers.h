/* Small kernels of the run time's own (helpers.cu); pointers are to the device, all go into
 * `stream`, sums are taken in a fixed order. */
#ifndef RC_HELPERS_H
#define RC_HELPERS_H

#include "cpu/update.h"
#include "cuda.h"
#include "device/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* "type": of values that are not told to be float. */

/* y (+)= x */
void rc_help_cast(rc_cuda_stream stream, const void *x, rc_cuda_type from, void *y,
                  rc_cuda_type to, int64_t count, bool add);
/* y = value */
void rc_help_fill(rc_cuda_stream stream, float *y, int64_t count, float value);
/* y (rows, c) = act(y + bias (c) + residual (rows, c)); bias (float), residual may be NULL */
void rc_help_epilogue(rc_cuda_stream stream, rc_cuda_type type, void *y, const float *bias,
                      const void *residual, int64_t rows, int64_t c, int act, float slope);
/* d = dy before the activation whose output is y */
void rc_help_before_act(rc_cuda_stream stream, const float *y, const float *dy, float *d,
                        int64_t count, int act, float slope);
/* out (c, float) (+)= sums over the rows of x (rows, c); parts: rc_help_sums_parts floats */
int64_t rc_help_sums_parts(int64_t rows, int64_t c);
void rc_help_column_sums(rc_cuda_stream stream, rc_cuda_type type, const void *x, int64_t rows,
                         int64_t c, bool add, float *out, float *parts);
/* out: w (k, per) times gamma/sqrt(var + eps), of `type`; behind it, at rc_folded_shift bytes, the
 * shift of that type, beta + (bias - mean) times the same (k); at rc_folded_float the same as float
 * (float weights: where the shift is) */
static inline int64_t
rc_folded_shift(rc_cuda_type type, int64_t k, int64_t per)
{
    return type == RC_CUDA_F32 ? 4 * k * per : (2 * k * per + 15) / 16 * 16;
}
static inline int64_t
rc_folded_float(rc_cuda_type type, int64_t k, int64_t per)
{
    int64_t shift = rc_folded_shift(type, k, per);
    return type == RC_CUDA_F32 ? shift : shift + (2 * k + 15) / 16 * 16;
}
void rc_help_fold(rc_cuda_stream stream, rc_cuda_type type, const float *w, const float *bias, const float *gamma,
                  const float *beta, const float *mean, const float *var, double eps, int64_t k,
                  int64_t per, void *out);
/* to (n,h,w,3) from maps of any strides, columns reversed if `mirror` */
void rc_help_gather(rc_cuda_stream stream, const rc_device_maps *from, float *to, int64_t n,
                    int64_t h, int64_t w, bool mirror);
/* a += share (w - a) */
void rc_help_blend(rc_cuda_stream stream, float *a, const float *w, int64_t count, float share);

/* ---- the optimisers' update ------------------------------------------------------------------- */

typedef struct rc_update_piece { /* of one item */
    int32_t item;
    int32_t from, count;
} rc_update_piece;

#define RC_UPDATE_PIECE 16384

typedef struct rc_update_tables {
    rc_device_item *items;         /* on the device … */
    rc_device_item *host_items[2]; /* … and page-locked, in turns: the last update may not have */
    int turn;                      /* been copied yet */
    int32_t most_items;
    rc_update_piece *pieces;    /* on the device */
    double *squares;            /* on the device, one a piece */
    double *clip;               /* on the device: the factor, the norm */
    double *host_norm;          /* page-locked */
    int64_t n_pieces, most_pieces;
    int64_t *counts;            /* of the items that the pieces were made for; host */
} rc_update_tables;

/* clip: NULL, or clip_norm > 0: squares and the factor are worked out first. */
void rc_help_update(rc_cuda_stream stream, const rc_update_tables *t, double clip_norm);

/* Whether this library has code for the current card. */
bool rc_help_fits(void);

#ifdef __cplusplus
}
#endif

#endif
