/* Linear layers on rc_gemm, and column sums (bias gradients). */
#ifndef RC_LINEAR_H
#define RC_LINEAR_H

#include "cpu/fast.h"

extern const rc_fast_kernel rc_fast_linear;     /* no activation: both passes */
extern const rc_fast_kernel rc_fast_linear_act; /* with a fused ReLU: forward */

/* out[k] (+)= sum over rows of x (rows, k), floats or bf16; summed in chunks of rows fixed by shape,
 * chunks added in order, in double. */
int64_t rc_column_sums_scratch(int64_t rows, int64_t k); /* floats */
void rc_column_sums(const void *x, rc_element element, int64_t rows, int64_t k, bool add,
                    float *out, float *scratch, int threads);

#endif
