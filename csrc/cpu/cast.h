/* Values of one element as another: what a plan puts between kernels that do not take the same. */
#ifndef RC_CAST_H
#define RC_CAST_H

#include "graph/op.h"

typedef struct rc_cast_kernels {
    const char *to_bf16_name, *to_real_name;
    /* y (+)= x, call->ys values; call->add[0]: added to what is there. */
    rc_kernel to_bf16, to_real;
} rc_cast_kernels;

typedef struct rc_cast_bytes { /* call->extra: the value's rc_bytes (cpu/int8.h) */
    const char *to_name, *from_name;
    rc_kernel to, from;
} rc_cast_bytes;

const rc_cast_kernels *rc_cast_get(void); /* for the instruction set in use */
const rc_cast_bytes *rc_cast_bytes_get(void);

#endif
