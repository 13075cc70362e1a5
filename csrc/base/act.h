/* Activations: attribute of operations and part of the kernels' epilogues. */
#ifndef RC_ACT_H
#define RC_ACT_H

typedef enum rc_act { RC_ACT_NONE = 0, RC_ACT_RELU, RC_ACT_LEAKY_RELU, RC_ACT_SIGMOID } rc_act;

/* <name>_value: the activation of v; <name>_gradient: dy times the derivative at the point whose
 * activation is y (slope >= 0: y has its sign). For a type, its exponential and a kind of function. */
#define RC_ACT_FUNCTIONS(name, type, exponential, kind)            \
    kind type name##_value(int act, type slope, type v)            \
    {                                                              \
        switch (act) {                                             \
        case RC_ACT_RELU:                                          \
            return v > 0 ? v : 0;                                  \
        case RC_ACT_LEAKY_RELU:                                    \
            return v > 0 ? v : slope * v;                          \
        case RC_ACT_SIGMOID:                                       \
            return 1 / (1 + exponential(-v));                      \
        default:                                                   \
            return v;                                              \
        }                                                          \
    }                                                              \
    kind type name##_gradient(int act, type slope, type y, type dy) \
    {                                                              \
        switch (act) {                                             \
        case RC_ACT_RELU:                                          \
            return y > 0 ? dy : 0;                                 \
        case RC_ACT_LEAKY_RELU:                                    \
            return y > 0 ? dy : slope * dy;                        \
        case RC_ACT_SIGMOID:                                       \
            return dy * y * (1 - y);                               \
        default:                                                   \
            return dy;                                             \
        }                                                          \
    }

#endif
