/* relation_map and matmul on the matrix kernels of cpu.h. */
#ifndef RC_PRODUCTS_H
#define RC_PRODUCTS_H

#include "cpu/fast.h"

extern const rc_fast_kernel rc_fast_relation_map;
extern const rc_fast_kernel rc_fast_matmul;

#endif
