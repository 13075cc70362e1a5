/* What the numbers of a value are while a plan runs; users see float32 (or float64) and int64. */
#ifndef RC_ELEMENT_H
#define RC_ELEMENT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum rc_element {
    RC_REAL,  /* the model's own: float32, or float64 in a model of that precision */
    RC_BF16,  /* the upper half of a float32 */
    RC_U8,    /* bytes with a step and a zero of their own (cpu/int8.h) */
    RC_INT64, /* labels and planes; never cast */
    RC_ELEMENTS
} rc_element;

static inline size_t
rc_element_size(rc_element element, size_t real_size)
{
    return element == RC_REAL ? real_size : element == RC_BF16 ? 2 : element == RC_U8 ? 1 : 8;
}

static inline float
rc_from_bf16(uint16_t x)
{
    uint32_t bits = (uint32_t)x << 16;
    float y;
    memcpy(&y, &bits, sizeof y);
    return y;
}

/* To the nearest, ties to even; a NaN stays one. */
static inline uint16_t
rc_to_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7fffffff) > 0x7f800000) {
        return (uint16_t)(bits >> 16 | 0x40);
    }
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

#endif
