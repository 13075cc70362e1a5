/* exp and log of whole vectors, and long sums in double: what softmax, GeM and attention share.
 *
 * exp: x = k ln2 + r with |r| <= ln2/2; e^r by its series up to r^7 (what follows is below 6e-9),
 * 2^k put into the exponent. Below -87 the result is 0: no denormals, which are slow and weigh
 * nothing beside a sum of at least 1. Above 88 it is infinite. log: x = 2^k m with m in
 * [sqrt(1/2), sqrt 2); ln m = 2 atanh(s), s = (m-1)/(m+1), by its series up to s^9 (the next term
 * is below 2e-9 of the first). Arguments of log are positive normal numbers. */
#ifndef RC_VMATH_H
#define RC_VMATH_H

#include "cpu/kernels/simd/element.h"

typedef double vd __attribute__((vector_size(VN * 8)));

#define LN2_HIGH 0.693145751953125f /* 15 bits: times an exponent it is exact */
#define LN2_LOW 1.42860682030941723e-6f

RC_INLINE vf
vf_set(float x)
{
    return (vf){0} + x;
}

RC_INLINE vf
vf_larger(vf a, vf b)
{
    return vf_select(a > b, a, b);
}

RC_INLINE vf
vf_exp(vf x)
{
    vf bounded = vf_select(x < vf_set(89), x, vf_set(89));
    bounded = vf_larger(bounded, vf_set(-87));
    vf shifted = bounded * 1.44269504f + vf_set(12582912.0f); /* 1.5*2^23: rounds to an integer */
    vi k = (vi)shifted - (vi)vf_set(12582912.0f);
    vf whole = shifted - vf_set(12582912.0f);
    vf r = bounded - whole * LN2_HIGH - whole * LN2_LOW;
    vf p = r * (1.0f / 5040) + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r * r + r + 1.0f;
    vi half = k >> 1; /* in two steps: 2^128 alone is no float */
    vf y = p * (vf)((half + 127) << 23) * (vf)((k - half + 127) << 23);
    return (vf)((x >= vf_set(-87)) & (vi)y);
}

RC_INLINE vf
vf_log(vf x)
{
    vi bits = (vi)x - 0x3f3504f3; /* sqrt(1/2) */
    vi k = bits >> 23;
    vf m = (vf)((bits & 0x7fffff) + 0x3f3504f3);
    vf s = (m - 1.0f) / (m + 1.0f), z = s * s;
    vf t = z * (2.0f / 9) + 2.0f / 7;
    t = t * z + 2.0f / 5;
    t = t * z + 2.0f / 3;
    t = t * z * s;
    vf e = __builtin_convertvector(k, vf);
    return e * LN2_HIGH + (2.0f * s + (t + e * LN2_LOW));
}

/* The first `count` (< VN) values at p; `fill` beyond them. */
RC_INLINE vf
vf_load_first(const float *p, int64_t count, float fill)
{
    float v[VN];
    for (int64_t i = 0; i < VN; i++) {
        v[i] = i < count ? p[i] : fill;
    }
    return vf_load(v);
}

RC_INLINE void
vf_store_first(float *p, vf v, int64_t count)
{
    memcpy(p, &v, (size_t)count * sizeof *p);
}

/* A vector of which `count` lanes are there: all, or the first few. */
RC_INLINE vf
load_lanes(const float *p, int64_t count, float fill)
{
    return count >= VN ? vf_load(p) : vf_load_first(p, count, fill);
}

RC_INLINE void
store_lanes(float *p, vf v, int64_t count)
{
    if (count >= VN) {
        vf_store(p, v);
    } else {
        vf_store_first(p, v, count);
    }
}

#if RC_BF16_MAPS
/* The same of elements of maps. */
RC_INLINE vf
load_some(const elem *p, int64_t count, float fill)
{
    float v[VN];
    for (int64_t i = 0; i < VN && count < VN; i++) {
        v[i] = i < count ? e_get(p[i]) : fill;
    }
    return count >= VN ? ve_load(p) : vf_load(v);
}

RC_INLINE void
store_some(elem *p, vf v, int64_t count)
{
    elem some[VN];
    ve_store(some, v);
    memcpy(p, some, (size_t)(count < VN ? count : VN) * sizeof *p);
}
#else
#define load_some load_lanes
#define store_some store_lanes
#endif

#define vd_of(v) __builtin_convertvector(v, vd) /* a function would have to return two registers */

/* Lanes added up in a fixed order. */
RC_INLINE double
vd_sum(vd v)
{
    double sum = 0;
    for (int i = 0; i < VN; i++) {
        sum += v[i];
    }
    return sum;
}

/* sum of a b over count values, products and sums in double: of floats, of elements of maps. */
#define DOT(name, type, load, get)                                              \
    RC_INLINE double                                                            \
    name(const type *a, const type *b, int64_t count)                           \
    {                                                                           \
        vd sum[2] = {{0}, {0}};                                                 \
        int64_t i = 0;                                                          \
        for (; i + 2 * VN <= count; i += 2 * VN) {                              \
            sum[0] += vd_of(load(a + i)) * vd_of(load(b + i));                  \
            sum[1] += vd_of(load(a + i + VN)) * vd_of(load(b + i + VN));        \
        }                                                                       \
        double rest = 0;                                                        \
        for (; i < count; i++) {                                                \
            rest += (double)get(a[i]) * get(b[i]);                              \
        }                                                                       \
        return vd_sum(sum[0] + sum[1]) + rest;                                  \
    }
DOT(dot_double, float, vf_load, )
DOT(dot_elements, elem, ve_load, e_get)

/* y = softmax(sign x) of one row; x and y may be the same memory. */
RC_INLINE void
softmax_row(const float *x, float sign, int64_t c, float *y)
{
    int64_t whole = c / VN * VN, rest = c - whole;
    vf top = vf_set(-INFINITY);
    for (int64_t i = 0; i < whole; i += VN) {
        top = vf_larger(top, sign * vf_load(x + i));
    }
    float most = -INFINITY;
    for (int i = 0; i < VN; i++) {
        most = top[i] > most ? top[i] : most;
    }
    for (int64_t i = whole; i < c; i++) {
        most = sign * x[i] > most ? sign * x[i] : most;
    }
    double sum = 0;
    for (int64_t i = 0; i < whole; ) {
        vf part = {0};
        int64_t end = i + 16 * VN < whole ? i + 16 * VN : whole; /* 16 values a lane in float */
        for (; i < end; i += VN) {
            vf e = vf_exp(sign * vf_load(x + i) - most);
            vf_store(y + i, e);
            part += e;
        }
        sum += vf_sum(part);
    }
    if (rest) {
        vf e = vf_exp(sign * vf_load_first(x + whole, rest, -sign * INFINITY) - most);
        vf_store_first(y + whole, e, rest);
        for (int64_t i = 0; i < rest; i++) {
            sum += e[i];
        }
    }
    float factor = (float)(1 / sum);
    RC_IVDEP
    for (int64_t i = 0; i < c; i++) {
        y[i] *= factor;
    }
}

/* dx (+)= sign y (dy - <y,dy>) of one row; dx and dy may be the same memory. The mean comes off in
 * two parts: where one y is nearly 1, dy - mean is a small difference of like numbers. */
RC_INLINE void
softmax_row_back(const float *y, const float *dy, float sign, int64_t c, float *dx, bool add)
{
    double mean = dot_double(y, dy, c);
    float high = (float)mean, low = (float)(mean - high);
    if (add) {
        RC_IVDEP
        for (int64_t i = 0; i < c; i++) {
            dx[i] += sign * y[i] * ((dy[i] - high) - low);
        }
    } else {
        RC_IVDEP
        for (int64_t i = 0; i < c; i++) {
            dx[i] = sign * y[i] * ((dy[i] - high) - low);
        }
    }
}

#endif
