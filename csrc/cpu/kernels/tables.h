/* What the folders of this directory give to dispatch.c: one convolution list of each pass, one
 * matrix product and a measure of the peak for each instruction set. */
#ifndef RC_CPU_TABLES_H
#define RC_CPU_TABLES_H

#include "cpu/cpu.h"

typedef struct rc_gemm_kernel {
    const char *name;
    int64_t (*scratch)(const rc_gemm_shape *s, int threads);
    void (*run)(const rc_gemm_shape *s, const float *a, const float *b, const rc_epilogue *e,
                bool add, float *c, float *scratch, int threads);
    int64_t (*packed)(int64_t columns, int64_t k); /* of blocks: cpu.h */
    void (*pack)(rc_factor right, int64_t columns, int64_t k, float *packed);
    void (*multiply)(rc_factor left, int64_t rows, const float *packed, int64_t columns, int64_t k,
                     bool add, float *c, int64_t ldc);
} rc_gemm_kernel;

#define RC_CPU_KERNELS(X, isa, tile)                                       \
    X(rc_f32_conv2d_fwd_winograd_4x4__##isa)                               \
    X(rc_f32_conv2d_bwd_x_winograd_4x4__##isa)                             \
    X(rc_f32_conv2d_bwd_w_winograd_4x4__##isa)                             \
    X(rc_f32_conv2d_fwd_##tile##__##isa)                                   \
    X(rc_f32_conv2d_bwd_x_##tile##__##isa)                                 \
    X(rc_f32_conv2d_bwd_w_##tile##__##isa)

#define RC_CPU_DECLARE(kernel) extern const rc_conv_kernel kernel;
RC_CPU_KERNELS(RC_CPU_DECLARE, generic, 4x8)
RC_CPU_KERNELS(RC_CPU_DECLARE, avx2, 6x16)
RC_CPU_KERNELS(RC_CPU_DECLARE, avx512, 14x32)

#define RC_BF16_KERNELS(X, isa)                                              \
    X(rc_bf16_conv2d_fwd_winograd_4x4__##isa)                                \
    X(rc_bf16_conv2d_bwd_x_winograd_4x4__##isa)                              \
    X(rc_bf16_conv2d_bwd_w_winograd_4x4__##isa)                              \
    X(rc_bf16_conv2d_fwd__##isa)                                             \
    X(rc_bf16_conv2d_bwd_x__##isa)                                           \
    X(rc_bf16_conv2d_bwd_w__##isa)
RC_BF16_KERNELS(RC_CPU_DECLARE, generic)
RC_BF16_KERNELS(RC_CPU_DECLARE, avx2)
RC_BF16_KERNELS(RC_CPU_DECLARE, avx512)
RC_BF16_KERNELS(RC_CPU_DECLARE, avx512_bf16)
RC_CPU_DECLARE(rc_bf16_conv2d_fwd__amx)
RC_CPU_DECLARE(rc_bf16_conv2d_bwd_x__amx)
#undef RC_CPU_DECLARE

extern const rc_gemm_kernel rc_f32_gemm__generic, rc_f32_gemm__avx2, rc_f32_gemm__avx512;

/* Multiply-adds of independent vectors that never leave the registers, for the benchmarks:
 * returns the number of floating-point operations done in `rounds` rounds. */
double rc_f32_peak__generic(int64_t rounds, float *sink);
double rc_f32_peak__avx2(int64_t rounds, float *sink);
double rc_f32_peak__avx512(int64_t rounds, float *sink);

#endif
