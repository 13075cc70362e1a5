/* Convolution passes and matrix products of this instruction set: the tile of vec.h in the
 * drivers that all instruction sets share. */
#include "vec.h"

#include <stddef.h>
#include <string.h>

#include "../shared/elem_f32.inc"

#include "../shared/micro.inc"

#include "../shared/grid.inc"

#include "../shared/conv_direct.inc"

#include "../shared/winograd.inc"

#include "../shared/conv_bwd_w.inc"

#include "../shared/winograd_bwd_w.inc"

#include "../shared/gemm.inc"
