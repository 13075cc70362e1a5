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
        float t = (float)sums[j] * e->scale[to->channel + j];
        t = t + e->bias[to->channel + j];
        if (e->residual) {
            t = t + (float)e->residual[at + j] * e->residual_scale;
        }
        if (e->act != RC_ACT_NONE) {
            t = t > 0 ? t : e->act == RC_ACT_RELU ? 0 : t * e->slope;
        }
        if (e->to_float) {
            ((float *)to->y)[at + j] = t;
        } else {
            t = t + e->zero;
            t = t > 0 ? t : 0;
            t = t < 255 ? t : 255;
            ((uint8_t *)to->y)[at + j] = (uint8_t)__builtin_rintf(t);
        }
    }
}

#endif
