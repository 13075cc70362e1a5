/* Activations inside other operations: value, and derivative from the value itself (base/act.h). */
#ifndef RC_OPS_ACT_H
#define RC_OPS_ACT_H

#include "base/act.h"
#include "ops/real.h"

RC_ACT_FUNCTIONS(act, real, R_EXP, static inline)

#endif
