/* One source, two builds: `real` is float or double, RC_KERNEL(name) the kernel's symbol.
 *
 *     RC_DECLARE_KERNEL(add_forward)                                 both symbols
 *     void RC_KERNEL(add_forward)(const rc_call *call) { … }         both builds
 *     #if RC_RULES                                                   float build only
 *     const rc_op rc_op_add = { …, .forward = RC_BOTH(add_forward) };
 *     #endif
 */
#ifndef RC_REAL_H
#define RC_REAL_H

#include <math.h>
#include <string.h>

#include "graph/op.h"

#if RC_REAL_IS_DOUBLE
typedef double real;
#define RC_KERNEL(name) rc_##name##_f64
#define RC_RULES 0
#define R_SQRT sqrt
#define R_EXP exp
#define R_LOG log
#define R_POW pow
#define R_FABS fabs
#define R_FMAX fmax
#else
typedef float real;
#define RC_KERNEL(name) rc_##name##_f32
#define RC_RULES 1
#define R_SQRT sqrtf
#define R_EXP expf
#define R_LOG logf
#define R_POW powf
#define R_FABS fabsf
#define R_FMAX fmaxf
#endif

#define RC_DECLARE_KERNEL(name)                \
    void rc_##name##_f32(const rc_call *call); \
    void rc_##name##_f64(const rc_call *call);
#define RC_BOTH(name) {rc_##name##_f32, rc_##name##_f64}

/* Add or assign, as call->add[i] says. */
static inline void
rc_put(real *to, real value, bool add)
{
    *to = add ? *to + value : value;
}

#endif
