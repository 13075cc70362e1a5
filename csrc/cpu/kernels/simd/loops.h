/* What the loops of this folder share: how work is cut, and small vectors for sums.
 *
 * Element-wise loops are plain C with `RC_IVDEP` (input and output may be the same memory, never
 * shifted); sums use `vf`, as the compiler must not reorder them by itself. Everything here is
 * static: each instruction set has its own copy. */
#ifndef RC_LOOPS_H
#define RC_LOOPS_H

#include <math.h>
#include <string.h>

#include "base/act.h"
#include "base/base.h"
#include "cpu/fast.h"

#define RC_IVDEP _Pragma("GCC ivdep")
#define RC_INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__)
#define VN 16
#elif defined(__AVX2__)
#define VN 8
#else
#define VN 4
#endif
typedef float vf __attribute__((vector_size(VN * 4)));
typedef int32_t vi __attribute__((vector_size(VN * 4)));
typedef uint8_t vb __attribute__((vector_size(VN)));

RC_INLINE vf
vf_load(const float *p)
{
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}

RC_INLINE void
vf_store(float *p, vf v)
{
    memcpy(p, &v, sizeof v);
}

/* Ask for memory that a stream reads AHEAD bytes later. Long streams run up to twice as fast
 * with it where the hardware's own prefetching is weak; nothing is read, so the end of a buffer
 * does not matter. */
#ifndef AHEAD
#define AHEAD 8192
#endif
#define STRIP 256 /* elements worked on between two rounds of asking */

RC_INLINE void
ask(const void *p)
{
    __builtin_prefetch((const void *)((uintptr_t)p + AHEAD));
}

RC_INLINE void
ask_bytes(const void *p, int64_t bytes)
{
    for (int64_t i = 0; i < bytes; i += 64) {
        ask((const char *)p + i);
    }
}

#define ask_strip(p, count) ask_bytes(p, (count) * (int64_t)sizeof *(p))

/* mask ? a : b, mask from a comparison of vectors. */
RC_INLINE vf
vf_select(vi mask, vf a, vf b)
{
    return (vf)((mask & (vi)a) | (~mask & (vi)b));
}

RC_INLINE vi
vi_select(vi mask, vi a, vi b)
{
    return (mask & a) | (~mask & b);
}

/* Lanes added up in a fixed order, in double. */
RC_INLINE double
vf_sum(vf v)
{
    double sum = 0;
    for (int i = 0; i < VN; i++) {
        sum += v[i];
    }
    return sum;
}

/* Work on `count` things in tasks of `each`: the cut depends on the shape alone. */
typedef struct rc_cut {
    int64_t count, each, tasks;
} rc_cut;

RC_INLINE rc_cut
cut_even(int64_t count, int64_t least, int64_t most_tasks, int64_t multiple)
{
    int64_t each = (count + most_tasks - 1) / most_tasks;
    each = each < least ? least : each;
    each = (each + multiple - 1) / multiple * multiple;
    return (rc_cut){count, each, (count + each - 1) / each};
}

RC_INLINE int64_t
cut_from(rc_cut cut, int64_t task)
{
    return task * cut.each;
}

RC_INLINE int64_t
cut_to(rc_cut cut, int64_t task)
{
    int64_t to = (task + 1) * cut.each;
    return to < cut.count ? to : cut.count;
}

/* Rows of c floats: at least 64 KiB a task, at most 64 tasks. */
RC_INLINE rc_cut
cut_rows(int64_t rows, int64_t c)
{
    return cut_even(rows, (16384 + c - 1) / c, 64, 1);
}

/* act_value, act_gradient: the kind is a constant where they are inlined into a loop. */
RC_ACT_FUNCTIONS(act, float, expf, RC_INLINE)

/* Calls f(…, act) with act a constant in each branch, so that loops are built per activation. */
#define RC_EACH_ACT(act, f, ...)                 \
    do {                                         \
        switch (act) {                           \
        case RC_ACT_RELU:                        \
            f(__VA_ARGS__, RC_ACT_RELU);         \
            break;                               \
        case RC_ACT_LEAKY_RELU:                  \
            f(__VA_ARGS__, RC_ACT_LEAKY_RELU);   \
            break;                               \
        case RC_ACT_SIGMOID:                     \
            f(__VA_ARGS__, RC_ACT_SIGMOID);      \
            break;                               \
        default:                                 \
            f(__VA_ARGS__, RC_ACT_NONE);         \
        }                                        \
    } while (0)

#endif
