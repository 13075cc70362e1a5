/* Elementary functions of the synthetic set: fixed polynomials of + - * / and square root in
 * double, absolute error below 1e-8 on the ranges used, so that every machine and every
 * vector width gives the same bits. No branches: loops around them vectorise. */
#ifndef RC_SYNTH_MATHF_H
#define RC_SYNTH_MATHF_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define RC_PI 3.14159265358979323846

/* Nearest integer, half to even, |x| < 2^51: adding 1.5 * 2^52 leaves no fraction bits. */
static inline double
rc_synth_rint(double x)
{
    return (x + 6755399441055744.0) - 6755399441055744.0;
}

static inline double
rc_synth_floor(double x)
{
    double r = rc_synth_rint(x);
    return r > x ? r - 1.0 : r;
}

static inline float
rc_synth_floorf(float x) /* |x| < 2^22 */
{
    float r = (x + 12582912.0f) - 12582912.0f;
    return r > x ? r - 1.0f : r;
}

static inline float
rc_synth_fracf(float x)
{
    return x - rc_synth_floorf(x);
}

/* sin(2 pi r), the turn folded into [-1/4, 1/4], then the Taylor series to x^15. */
static inline double
rc_synth_sin_turn(double t)
{
    double r = t - rc_synth_rint(t);
    double a = r < 0 ? -r : r;
    double f = a > 0.25 ? 0.5 - a : a;
    double x = f * (2 * RC_PI), z = x * x;
    double p = -1.0 / 1307674368000.0;
    p = p * z + 1.0 / 6227020800.0;
    p = p * z - 1.0 / 39916800.0;
    p = p * z + 1.0 / 362880.0;
    p = p * z - 1.0 / 5040.0;
    p = p * z + 1.0 / 120.0;
    p = p * z - 1.0 / 6.0;
    p = x + x * z * p;
    return r < 0 ? -p : p;
}

static inline double
rc_synth_sin(double x)
{
    return rc_synth_sin_turn(x * (0.5 / RC_PI));
}

static inline double
rc_synth_cos(double x)
{
    return rc_synth_sin_turn(x * (0.5 / RC_PI) + 0.25);
}

/* asin on [-1, 1]: its series below 1/2, above it pi/2 - 2 asin(sqrt((1 - x) / 2)). */
static inline double
rc_synth_asin(double x)
{
    double a = x < 0 ? -x : x;
    double half = (1.0 - a) * 0.5;
    half = half < 0 ? 0 : half;
    double root = sqrt(half);
    double y = a > 0.5 ? root : a, z = y * y;
    double p = 0.0097616095291940;
    p = p * z + 0.0115518008961220;
    p = p * z + 0.0139648437500000;
    p = p * z + 0.0173527644230769;
    p = p * z + 0.0223721590909091;
    p = p * z + 0.0303819444444444;
    p = p * z + 0.0446428571428571;
    p = p * z + 0.075;
    p = p * z + 1.0 / 6.0;
    p = y + y * z * p;
    p = a > 0.5 ? RC_PI / 2 - 2.0 * p : p;
    return x < 0 ? -p : p;
}

/* exp for |x| < 700: 2^n by its bits, the rest in [-ln2/2, ln2/2] by the series. */
static inline double
rc_synth_exp(double x)
{
    double n = rc_synth_rint(x * 1.4426950408889634);
    double r = (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
    double p = 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    uint64_t bits = (uint64_t)((int64_t)n + 1023) << 52;
    double scale;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

/* Natural logarithm of a normal x > 0: exponent and mantissa in [1/sqrt2, sqrt2). */
static inline double
rc_synth_log(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int64_t e = (int64_t)(bits >> 52) - 1023;
    bits = (bits & 0xfffffffffffffu) | 0x3ff0000000000000u;
    double m;
    memcpy(&m, &bits, sizeof m);
    if (m > 1.4142135623730951) {
        m *= 0.5;
        e++;
    }
    double z = (m - 1.0) / (m + 1.0), w = z * z;
    double p = 1.0 / 15.0;
    p = p * w + 1.0 / 13.0;
    p = p * w + 1.0 / 11.0;
    p = p * w + 1.0 / 9.0;
    p = p * w + 1.0 / 7.0;
    p = p * w + 1.0 / 5.0;
    p = p * w + 1.0 / 3.0;
    return (double)e * 0.69314718055994530942 + 2.0 * (z + z * w * p);
}

static inline double
rc_synth_pow(double x, double y) /* x >= 0 */
{
    return x < 1e-30 ? 0.0 : rc_synth_exp(y * rc_synth_log(x));
}

static inline uint32_t
rc_synth_mix32(uint32_t x)
{
    x ^= x >> 16;
    x *= 0x7FEB352Du;
    x ^= x >> 15;
    x *= 0x846CA68Bu;
    return x ^ x >> 16;
}

static inline double
rc_synth_clamp(double x, double low, double high)
{
    return x < low ? low : x > high ? high : x;
}

#endif
