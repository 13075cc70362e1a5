/* Winograd convolutions of bf16 images: floats within, so that four times less arithmetic costs no
 * accuracy; elements change in the transforms. Built once per instruction set with -DRC_ISA=<isa>. */
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

#define UNIT 1
#include "../shared/elem_bf16.inc"

#include "../shared/micro.inc"

#include "../shared/grid.inc"

#include "../shared/winograd.inc"

#include "../shared/winograd_bwd_w.inc"
