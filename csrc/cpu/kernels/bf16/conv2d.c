/* Convolution passes in bf16, products of bf16 with sums in float: the drivers that the float kernels
 * use, built once per instruction set with -DRC_ISA=<isa>. */
#if defined(__AVX512F__)
#include "../avx512/vec.h"
#elif defined(__AVX2__)
#include "../avx2/vec.h"
#else
#include "../generic/vec.h"
#endif

#include <stddef.h>
#include <string.h>

#include "base/element.h"

#define UNIT 2
#include "../shared/elem_bf16.inc"

#include "../shared/micro.inc"

#include "../shared/grid.inc"

#include "../shared/conv_direct.inc"

#include "../shared/conv_bwd_w.inc"
