/* Fast float kernels of single operations, beside the plain C ones of csrc/ops (convolution and
 * linear layers have their own lists in cpu.h, because they pack weights).
 *
 * A kernel may replace one pass or both; ws has the layout of the plain C operation, so that
 * passes mix. Same contract as there: no allocation, same bits for any number of threads. */
#ifndef RC_FAST_H
#define RC_FAST_H

#include "base/element.h"
#include "graph/op.h"

typedef struct rc_fast_kernel {
    const char *name; /* as rc_f32_batch_norm__avx512 */
    rc_op_id op;
    /* Of its inputs and its result of rank 3 and more (and of their gradients); states and values of
     * lower rank are float whatever this is. */
    rc_element element;
    /* NULL if it can run these shapes, else the reason in a few words. NULL pointer: always. */
    const char *(*refuse)(const rc_attrs *a, int n_in, const rc_shape *xs, const rc_shape *y);
    /* Bytes of call->tmp; NULL: none. */
    int64_t (*tmp_size)(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, bool backward,
                        int threads);
    rc_kernel forward, backward; /* NULL: the plain C operation runs that pass */
} rc_fast_kernel;

/* The best kernel for the instruction set in use, or NULL (cpu/fast_table.c). */
const rc_fast_kernel *rc_fast_find(rc_element element, rc_op_id op, const rc_attrs *a, int n_in,
                                   const rc_shape *xs, const rc_shape *y);

/* For csrc/cpu/kernels/simd/<op>.c: one source of plain loops, built once per instruction set
 * with -DRC_ISA=<isa>; RC_SIMD(rc_f32_add) is rc_f32_add__avx512 in the AVX-512 build. */
#ifdef RC_ISA
#define RC_SIMD_PASTE_(name, isa) name##__##isa
#define RC_SIMD_PASTE(name, isa) RC_SIMD_PASTE_(name, isa)
#define RC_SIMD(name) RC_SIMD_PASTE(name, RC_ISA)
#define RC_ISA_TEXT_(isa) #isa
#define RC_ISA_TEXT_OF(isa) RC_ISA_TEXT_(isa)
#define RC_ISA_TEXT RC_ISA_TEXT_OF(RC_ISA)
#endif

#endif
