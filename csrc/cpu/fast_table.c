/* Which fast kernels there are: one line each, and the choice by instruction set.
 *
 * A kernel file of csrc/cpu/kernels/simd is built once per instruction set and defines
 * `const rc_fast_kernel RC_SIMD(rc_fast_<name>)`; hand-written ones of one instruction set
 * only go into its list alone, before the others. */
#include "cpu/fast.h"

#include "cpu/cast.h"
#include "cpu/linear.h"
#include "cpu/products.h"

/* Of csrc/cpu/kernels/simd, built for float and for bf16 (simd/element.h); with prefix rc_fast_ or
 * rc_fast_bf16_. */
#define MAP_KERNELS(X, prefix)  \
    X(prefix##batch_norm)       \
    X(prefix##activation)       \
    X(prefix##add)              \
    X(prefix##mul_map)          \
    X(prefix##mul_channel)      \
    X(prefix##concat)           \
    X(prefix##slice)            \
    X(prefix##dropout)          \
    X(prefix##max_pool2d)       \
    X(prefix##region_pool)      \
    X(prefix##channel_pool)     \
    X(prefix##avg_pool2d)       \
    X(prefix##gem)              \
    X(prefix##scale_add)        \
    X(prefix##instance_norm)

/* All of them, best first within an operation. */
#define SIMD_KERNELS(X)         \
    MAP_KERNELS(X, rc_fast_)    \
    MAP_KERNELS(X, rc_fast_bf16_) \
    X(rc_fast_involution)       \
    X(rc_fast_max_pool2d_bytes) \
    X(rc_fast_softmax)          \
    X(rc_fast_attention)        \
    X(rc_fast_relative_attention)

#define DECLARE_GENERIC(name) extern const rc_fast_kernel name##__generic;
#define ENTRY_GENERIC(name) &name##__generic,
SIMD_KERNELS(DECLARE_GENERIC)
extern const rc_cast_kernels rc_casts__generic;
extern const rc_cast_bytes rc_casts_bytes__generic;
static const rc_fast_kernel *const generic_kernels[] = {SIMD_KERNELS(ENTRY_GENERIC) NULL};

#if defined(__x86_64__)
#define DECLARE_AVX2(name) extern const rc_fast_kernel name##__avx2;
#define ENTRY_AVX2(name) &name##__avx2,
#define DECLARE_AVX512(name) extern const rc_fast_kernel name##__avx512;
#define ENTRY_AVX512(name) &name##__avx512,
SIMD_KERNELS(DECLARE_AVX2)
SIMD_KERNELS(DECLARE_AVX512)
extern const rc_cast_kernels rc_casts__avx2, rc_casts__avx512;
extern const rc_cast_bytes rc_casts_bytes__avx2, rc_casts_bytes__avx512;
static const rc_fast_kernel *const avx2_kernels[] = {SIMD_KERNELS(ENTRY_AVX2) NULL};
static const rc_fast_kernel *const avx512_kernels[] = {SIMD_KERNELS(ENTRY_AVX512) NULL};
#endif

typedef struct level {
    const rc_fast_kernel *const *kernels;
    const rc_cast_kernels *casts;
    const rc_cast_bytes *casts_bytes;
} level;

static const level *
in_use(void)
{
    static const level generic = {generic_kernels, &rc_casts__generic, &rc_casts_bytes__generic};
#if defined(__x86_64__)
    static const level avx2 = {avx2_kernels, &rc_casts__avx2, &rc_casts_bytes__avx2};
    static const level avx512 = {avx512_kernels, &rc_casts__avx512, &rc_casts_bytes__avx512};
    rc_isa isa = rc_isa_get();
    if (isa >= RC_ISA_AVX512) {
        return &avx512;
    }
    if (isa >= RC_ISA_AVX2) {
        return &avx2;
    }
#endif
    return &generic;
}

/* On the matrix kernels of cpu.h, which choose by instruction set themselves. */
static const rc_fast_kernel *const any_kernels[] = {
    &rc_fast_linear,
    &rc_fast_linear_act,
    &rc_fast_matmul,
    &rc_fast_relation_map,
    NULL,
};

static const rc_fast_kernel *
find_in(const rc_fast_kernel *const *list, rc_element element, rc_op_id op, const rc_attrs *a,
        int n_in, const rc_shape *xs, const rc_shape *y)
{
    for (; *list; list++) {
        if ((*list)->op == op && (*list)->element == element
            && (!(*list)->refuse || !(*list)->refuse(a, n_in, xs, y))) {
            return *list;
        }
    }
    return NULL;
}

const rc_fast_kernel *
rc_fast_find(rc_element element, rc_op_id op, const rc_attrs *a, int n_in, const rc_shape *xs,
             const rc_shape *y)
{
    const rc_fast_kernel *found = find_in(in_use()->kernels, element, op, a, n_in, xs, y);
    return found ? found : find_in(any_kernels, element, op, a, n_in, xs, y);
}

const rc_cast_kernels *
rc_cast_get(void)
{
    return in_use()->casts;
}

const rc_cast_bytes *
rc_cast_bytes_get(void)
{
    return in_use()->casts_bytes;
}
