/* Sums over rows in double, whatever `real` is: eight partial sums, added in a fixed order. What
 * losses, cosines and distances stand on (spec/common.md 1: squared distances are sums of squared
 * differences, so near pairs do not drown in rounding). */
#ifndef RC_EXACT_H
#define RC_EXACT_H

#include "ops/real.h"

#define RC_SUM8(term)                                                        \
    double part[8] = {0};                                                    \
    int64_t i = 0;                                                           \
    for (; i + 8 <= count; i += 8) {                                         \
        for (int j = 0; j < 8; j++) {                                        \
            part[j] += term(i + j);                                          \
        }                                                                    \
    }                                                                        \
    for (int j = 0; i < count; i++, j++) {                                   \
        part[j] += term(i);                                                  \
    }                                                                        \
    return ((part[0] + part[4]) + (part[2] + part[6]))                       \
           + ((part[1] + part[5]) + (part[3] + part[7]));

static inline double
rc_exact_dot(const real *a, const real *b, int64_t count)
{
#define RC_TERM(at) ((double)a[at] * (double)b[at])
    RC_SUM8(RC_TERM)
#undef RC_TERM
}

static inline double
rc_exact_sum(const real *a, int64_t count)
{
#define RC_TERM(at) ((double)a[at])
    RC_SUM8(RC_TERM)
#undef RC_TERM
}

/* |s*a - t*b| squared. */
static inline double
rc_exact_distance2(const real *a, double s, const real *b, double t, int64_t count)
{
#define RC_DIFFERENCE(at) (s * (double)a[at] - t * (double)b[at])
#define RC_TERM(at) (RC_DIFFERENCE(at) * RC_DIFFERENCE(at))
    RC_SUM8(RC_TERM)
#undef RC_DIFFERENCE
#undef RC_TERM
}

static inline double
rc_exact_length(const real *a, int64_t count)
{
    return sqrt(rc_exact_dot(a, a, count));
}

/* Gradient through u = x / max(|x|, eps): to (+)= (du - u<u,du>)/|x|, or du/eps where |x| < eps
 * (there the divisor is a constant). du may be in double and is not changed. */
static inline void
rc_unit_backward(const real *x, double length, double eps, const double *du, int64_t count,
                 bool add, real *to)
{
    double inverse = 1 / (length < eps ? eps : length);
    double along = 0;
    if (length >= eps) {
        for (int64_t i = 0; i < count; i++) {
            along += (double)x[i] * inverse * du[i];
        }
    }
    for (int64_t i = 0; i < count; i++) {
        rc_put(&to[i], (real)((du[i] - (double)x[i] * inverse * along) * inverse), add);
    }
}

#endif
