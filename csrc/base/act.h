/* Activations: attribute of operations and part of the kernels' epilogues. */
#ifndef RC_ACT_H
#define RC_ACT_H

typedef enum rc_act { RC_ACT_NONE = 0, RC_ACT_RELU, RC_ACT_LEAKY_RELU, RC_ACT_SIGMOID } rc_act;

#endif
