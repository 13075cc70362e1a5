/* Convolution in eight bits, as the planner sees it: bytes of activations times bytes of weights,
 * summed exactly in 32 bits, then scaled in float32 and written as bytes or as float32.
 *
 * A value x is stored as the byte q with x = step * (q - zero); zero is 0 for what is never
 * negative. Weights are signed bytes with a step for each output channel. Sums
 * are integers and every float operation has one order and one rounding, so the bits are the same
 * on every instruction set, for any number of threads. Letters as in cpu/cpu.h. */
#ifndef RC_INT8_H
#define RC_INT8_H

#include "cpu/cpu.h"

typedef struct rc_bytes {
    float step;   /* 0: not known, so never stored as bytes */
    int32_t zero; /* 0 to 255 */
} rc_bytes;

/* What becomes of a sum: t = sum * scale[k] + bias[k] [+ residual * residual_scale], each product and
 * its sum rounded once (a fused multiply-add); t = act(t), as if zero were 0; then t itself, or the
 * byte nearest to it. */
typedef struct rc_int8_epilogue {
    const float *scale, *bias; /* (k); y's zero is part of the bias */
    const uint8_t *residual;   /* like y, or NULL; its own zero is part of the bias */
    float residual_scale;
    rc_act act;                /* NONE, RELU or LEAKY_RELU */
    float slope;               /* of LEAKY_RELU */
    bool to_float;             /* y is float32; else bytes */
    float zero;                /* of y's bytes; 0 where y is float32 */
} rc_int8_epilogue;

/* NULL if the shape can run, else the reason in a few words. */
const char *rc_int8_conv_refuse(const rc_conv_shape *s);
/* What a run reads and writes, and where. */
typedef struct rc_int8_conv_args {
    const uint8_t *x;
    uint8_t zero;          /* x's, which stands for the padding */
    const int8_t *packed;
    const rc_int8_epilogue *e;
    void *y;
    void *scratch;
    int threads;
} rc_int8_conv_args;

/* isa: the instruction set to use, rc_isa_get() but in tests, and the same in all calls: the packed form
 * depends on it. Sizes are in bytes; scratch is for `threads` threads. */
int64_t rc_int8_conv_packed_size(rc_isa isa, const rc_conv_shape *s);
int64_t rc_int8_conv_scratch_size(rc_isa isa, const rc_conv_shape *s, int threads);
/* w: as users see it; its bytes are the integers nearest to w * factor[k], at most 127 in size, and
 * their sums go to sums[k]. */
void rc_int8_conv_pack(rc_isa isa, const rc_conv_shape *s, const float *w, const float *factor,
                       int8_t *packed, int32_t *sums, int threads);
void rc_int8_conv_run(rc_isa isa, const rc_conv_shape *s, const rc_int8_conv_args *args);
const char *rc_int8_conv_name(rc_isa isa, const rc_conv_shape *s); /* as rc_int8_conv__amx */

#endif
