/* The lists of matrix kernels for the instruction set in use, best first. */
#include <string.h>

#include "cpu/cpu.h"
#include "cpu/kernels/tables.h"

#define LISTS(isa, tile)                                                       \
    static const rc_conv_kernel *const fwd_##isa[] = {                         \
        &rc_f32_conv2d_fwd_winograd_4x4__##isa,                                \
        &rc_f32_conv2d_fwd_##tile##__##isa, NULL};                             \
    static const rc_conv_kernel *const bwd_x_##isa[] = {                       \
        &rc_f32_conv2d_bwd_x_winograd_4x4__##isa,                              \
        &rc_f32_conv2d_bwd_x_##tile##__##isa, NULL};                           \
    static const rc_conv_kernel *const bwd_w_##isa[] = {                       \
        &rc_f32_conv2d_bwd_w_winograd_4x4__##isa,                              \
        &rc_f32_conv2d_bwd_w_##tile##__##isa, NULL};

typedef struct conv_lists {
    const rc_conv_kernel *const *fwd, *const *bwd_x, *const *bwd_w;
} conv_lists;

typedef struct kernel_set {
    conv_lists conv;
    const rc_gemm_kernel *gemm;
    double (*peak)(int64_t rounds, float *sink);
} kernel_set;

#define SET(isa)                                                                        \
    static const kernel_set set_##isa = {{fwd_##isa, bwd_x_##isa, bwd_w_##isa},         \
                                         &rc_f32_gemm__##isa, rc_f32_peak__##isa};

LISTS(generic, 4x8)
SET(generic)
#if defined(__x86_64__)
LISTS(avx2, 6x16)
SET(avx2)
LISTS(avx512, 14x32)
SET(avx512)
#endif

/* Of bf16. Where products of bf16 are faster than those of floats by less than Winograd saves, that
 * is first. */
#define BF16_LISTS(isa)                                                        \
    static const rc_conv_kernel *const bf16_fwd_##isa[] = {                    \
        &rc_bf16_conv2d_fwd_winograd_4x4__##isa,                               \
        &rc_bf16_conv2d_fwd__##isa, NULL};                                     \
    static const rc_conv_kernel *const bf16_bwd_x_##isa[] = {                  \
        &rc_bf16_conv2d_bwd_x_winograd_4x4__##isa,                             \
        &rc_bf16_conv2d_bwd_x__##isa, NULL};                                   \
    static const rc_conv_kernel *const bf16_bwd_w_##isa[] = {                  \
        &rc_bf16_conv2d_bwd_w_winograd_4x4__##isa,                             \
        &rc_bf16_conv2d_bwd_w__##isa, NULL};                                   \
    static const conv_lists bf16_##isa = {bf16_fwd_##isa, bf16_bwd_x_##isa, bf16_bwd_w_##isa};

BF16_LISTS(generic)
#if defined(__x86_64__)
BF16_LISTS(avx2)
BF16_LISTS(avx512)
BF16_LISTS(avx512_bf16)
static const rc_conv_kernel *const bf16_fwd_amx[] = {
    &rc_bf16_conv2d_fwd__amx, &rc_bf16_conv2d_fwd_winograd_4x4__avx512_bf16,
    &rc_bf16_conv2d_fwd__avx512_bf16, NULL};
static const rc_conv_kernel *const bf16_bwd_x_amx[] = {
    &rc_bf16_conv2d_bwd_x__amx, &rc_bf16_conv2d_bwd_x_winograd_4x4__avx512_bf16,
    &rc_bf16_conv2d_bwd_x__avx512_bf16, NULL};
static const conv_lists bf16_amx = {bf16_fwd_amx, bf16_bwd_x_amx, bf16_bwd_w_avx512_bf16};
#endif

static const conv_lists *
bf16_in_use(void)
{
#if defined(__x86_64__)
    rc_isa isa = rc_isa_get();
    if (isa >= RC_ISA_AVX2) {
        return isa >= RC_ISA_AMX           ? &bf16_amx
               : isa >= RC_ISA_AVX512_BF16 ? &bf16_avx512_bf16
               : isa >= RC_ISA_AVX512      ? &bf16_avx512
                                           : &bf16_avx2;
    }
#endif
    return &bf16_generic;
}

static const kernel_set *
in_use(void)
{
#if defined(__x86_64__)
    rc_isa isa = rc_isa_get();
    if (isa >= RC_ISA_AVX512) {
        return &set_avx512;
    }
    if (isa >= RC_ISA_AVX2) {
        return &set_avx2;
    }
#endif
    return &set_generic;
}

static const conv_lists *
lists_of(rc_element element)
{
    return element == RC_REAL ? &in_use()->conv : bf16_in_use();
}

const rc_conv_kernel *const *
rc_conv_fwd_kernels(rc_element element)
{
    return lists_of(element)->fwd;
}

const rc_conv_kernel *const *
rc_conv_bwd_x_kernels(rc_element element)
{
    return lists_of(element)->bwd_x;
}

const rc_conv_kernel *const *
rc_conv_bwd_w_kernels(rc_element element)
{
    return lists_of(element)->bwd_w;
}

const rc_conv_kernel *
rc_conv_kernel_named(const char *name)
{
    for (int i = 0; i < 6; i++) {
        const conv_lists *lists = lists_of(i < 3 ? RC_REAL : RC_BF16);
        const rc_conv_kernel *const *k = i % 3 == 0   ? lists->fwd
                                         : i % 3 == 1 ? lists->bwd_x
                                                      : lists->bwd_w;
        for (; *k; k++) {
            if (!strcmp((*k)->name, name)) {
                return *k;
            }
        }
    }
    return NULL;
}

bool
rc_conv_shape_make(const int64_t v[10], rc_conv_shape *out)
{
    const int64_t most = 1 << 28;
    for (int i = 0; i < 10; i++) {
        if (v[i] < (i == 0 || i == 8 ? 0 : 1) || v[i] > most) {
            return false;
        }
    }
    rc_conv_shape s = {.n = v[0], .h = v[1], .w = v[2], .c = v[3], .k = v[4],
                       .kh = (int32_t)v[5], .kw = (int32_t)v[6], .stride = (int32_t)v[7],
                       .pad = (int32_t)v[8], .groups = (int32_t)v[9]};
    if (s.c % s.groups || s.k % s.groups || s.h + 2 * s.pad < s.kh || s.w + 2 * s.pad < s.kw) {
        return false;
    }
    s.oh = (s.h + 2 * (int64_t)s.pad - s.kh) / s.stride + 1;
    s.ow = (s.w + 2 * (int64_t)s.pad - s.kw) / s.stride + 1;
    *out = s;
    return true;
}

int64_t
rc_gemm_scratch(const rc_gemm_shape *s, int threads)
{
    return in_use()->gemm->scratch(s, threads);
}

void
rc_gemm(const rc_gemm_shape *s, const float *a, const float *b, const rc_epilogue *e, bool add,
        float *c, float *scratch, int threads)
{
    in_use()->gemm->run(s, a, b, e, add, c, scratch, threads);
}

int64_t
rc_block_packed(int64_t columns, int64_t k)
{
    return in_use()->gemm->packed(columns, k);
}

void
rc_block_pack(rc_factor right, int64_t columns, int64_t k, float *packed)
{
    in_use()->gemm->pack(right, columns, k, packed);
}

void
rc_block_multiply(rc_factor left, int64_t rows, const float *packed, int64_t columns, int64_t k,
                  bool add, float *c, int64_t ldc)
{
    in_use()->gemm->multiply(left, rows, packed, columns, k, add, c, ldc);
}

double
rc_cpu_peak(int64_t rounds, float *sink)
{
    return in_use()->peak(rounds, sink);
}
