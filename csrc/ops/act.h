/* Activations inside other operations: value, and derivative from the value itself. */
#ifndef RC_OPS_ACT_H
#define RC_OPS_ACT_H

#include "ops/real.h"

static inline real
act_value(int64_t act, real slope, real v)
{
    switch (act) {
    case RC_ACT_RELU:
        return v > 0 ? v : 0;
    case RC_ACT_LEAKY_RELU:
        return v > 0 ? v : slope * v;
    case RC_ACT_SIGMOID:
        return 1 / (1 + R_EXP(-v));
    default:
        return v;
    }
}

/* dy times the derivative at the point whose activation is y (slope >= 0: y has its sign). */
static inline real
act_gradient(int64_t act, real slope, real y, real dy)
{
    switch (act) {
    case RC_ACT_RELU:
        return y > 0 ? dy : 0;
    case RC_ACT_LEAKY_RELU:
        return y > 0 ? dy : slope * dy;
    case RC_ACT_SIGMOID:
        return dy * y * (1 - y);
    default:
        return dy;
    }
}

#endif
