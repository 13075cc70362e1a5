/* relation_map and matmul on the matrix kernels of cpu.h. */
#ifndef RC_PRODUCTS_H
#define RC_PRODUCTS_H

#include "cpu/cpu.h"
#include "cpu/fast.h"

/* op(x) op(z) of stacks of stored matrices (rank 3), as many of each. */
rc_gemm_shape rc_product(const rc_shape *x, bool trans_x, const rc_shape *z, bool trans_z);
/* The gradient of stored factor `input` (0, 1) of op(a) op(b), whose product has shape y: factors
 * in this order: dy and b for a, a and dy for b, turned round where that one is transposed. */
rc_gemm_shape rc_product_gradient(const rc_attrs *at, const rc_shape *xs, const rc_shape *y,
                                  int input);

extern const rc_fast_kernel rc_fast_relation_map;
extern const rc_fast_kernel rc_fast_matmul;

#endif
