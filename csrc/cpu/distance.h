/* The CPU's kernel for squared distances: one packed tile of 8 x 32 per call. Used by
 * eval/distance.c, which packs and cuts; chosen once by instruction set. */
#ifndef RC_CPU_DISTANCE_H
#define RC_CPU_DISTANCE_H

#include "base/base.h"

#define RC_SQDIST_MR 8
#define RC_SQDIST_NR 32

/* c[i*ldc + j] (+)= sum over p < kc of (a[p*8 + i] - b[p*32 + j])^2, 8 rows by 32 columns.
 * `add` false assigns. Terms are added in the order of p. Cannot fail. */
typedef void (*rc_sqdist_tile)(int64_t kc, const float *a, const float *b, float *c, int64_t ldc,
                               bool add);

rc_sqdist_tile rc_sqdist_tile_get(void);

#endif
