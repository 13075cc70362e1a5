/* The one random number generator: counter-based, so that a value depends on what it is for
 * and never on who drew before, how many threads run or which device asks.
 * `spec/synthetic.md` 1 and `spec/common.md` 4 in the project's notes; kinds below. */
#ifndef RC_RANDOM_H
#define RC_RANDOM_H

#include <math.h>
#include <stdint.h>

#include "base/base.h"

enum rc_random_kind { /* 1..10 belong to the synthetic set (synth/) */
    RC_RANDOM_INIT = 32,    /* a: place in state_dict order; slot: element */
    RC_RANDOM_SAMPLER = 33, /* a: epoch, b: draw */
    RC_RANDOM_AUGMENT = 34, /* a: epoch, b: running number of the sample; slot: draw */
    RC_RANDOM_DROP = 35,    /* a: training forwards so far, b: node, c: row; slot: element */
    RC_RANDOM_EVAL = 36,    /* a: query, b: draw, c: identity */
    RC_RANDOM_SPLIT = 37,   /* b: draw; which identities of a folder are tested */
};

RC_ANYWHERE uint64_t
rc_mix64(uint64_t x) /* SplitMix64's finaliser */
{
    x ^= x >> 30;
    x *= 0xBF58476D1CE4E5B9u;
    x ^= x >> 27;
    x *= 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

RC_ANYWHERE uint64_t
rc_random_step(uint64_t x, uint64_t v)
{
    return rc_mix64(x ^ (v * 0x9E3779B97F4A7C15u + 0xD1B54A32D192ED03u));
}

/* h(seed, kind, a, b, c, slot): 64 random bits. */
RC_ANYWHERE uint64_t
rc_random(uint64_t seed, uint64_t kind, uint64_t a, uint64_t b, uint64_t c, uint64_t slot)
{
    uint64_t x = rc_random_step(seed, kind);
    x = rc_random_step(x, a);
    x = rc_random_step(x, b);
    x = rc_random_step(x, c);
    return rc_random_step(x, slot);
}

/* The state after all but the slot, for a run of slots: rc_random_step(state, slot). */
RC_ANYWHERE uint64_t
rc_random_stream(uint64_t seed, uint64_t kind, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t x = rc_random_step(seed, kind);
    x = rc_random_step(x, a);
    x = rc_random_step(x, b);
    return rc_random_step(x, c);
}

/* U: a multiple of 2^-24 in [0, 1). */
RC_ANYWHERE float
rc_uniform(uint64_t h)
{
    return (float)(h >> 40) * 0x1p-24f;
}

/* An integer in [0, n), n < 2^24. */
RC_ANYWHERE int64_t
rc_below(uint64_t h, int64_t n)
{
    return (int64_t)(((h >> 40) * (uint64_t)n) >> 24);
}

/* N: sum of four 16-bit fields, mean 0, deviation 1, |N| <= 3.47 (the synthetic set). */
RC_ANYWHERE double
rc_normal4(uint64_t h)
{
    uint64_t sum = (h & 0xffff) + (h >> 16 & 0xffff) + (h >> 32 & 0xffff) + (h >> 48);
    return ((double)sum * 0x1p-16 - 2.0) * 1.7320508075688772;
}

/* A normal deviate by Box-Muller from one word (initial weights: tails matter there). */
RC_ANYWHERE double
rc_normal(uint64_t h)
{
    double u = ((double)(h >> 32) + 0.5) * 0x1p-32;
    double v = (double)(h & 0xffffffffu) * 0x1p-32;
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

#endif
