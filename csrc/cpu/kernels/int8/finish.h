/* What becomes of one sum, in plain C: the definition that the vector code of avx2.c and
 * avx512_vnni.c follows operation by operation. */
#ifndef RC_INT8_FINISH_H
#define RC_INT8_FINISH_H

#include "tile.h"

/* Columns [from, columns) of a row; `at` is the element of y of the panel's first. */
static inline void
finish_plain(const rc_int8_target *to, const int32_t *sums, int64_t at, int from)
{
    const rc_int8_epilogue *e = to->e;
    for (int j = from; j < to->columns; j++) {
        float t = __builtin_fmaf((float)sums[j], e->scale[to->channel + j],
                                 e->bias[to->channel + j]);
        if (e->residual) {
            t = __builtin_fmaf((float)e->residual[at + j], e->residual_scale, t);
        }
        if (e->act == RC_ACT_RELU) {
            t = t > e->zero ? t : e->zero;
        } else if (e->act == RC_ACT_LEAKY_RELU) {
            t = t > e->zero ? t : __builtin_fmaf(t - e->zero, e->slope, e->zero);
        }
        if (e->to_float) {
            ((float *)to->y)[at + j] = t;
        } else {
            t = t > 0 ? t : 0;
            t = t < 255 ? t : 255;
            ((uint8_t *)to->y)[at + j] = (uint8_t)__builtin_rintf(t);
        }
    }
}

#endif
