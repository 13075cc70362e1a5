/* rc_update for float, built once per instruction set: see cpu/update.h and update_loops.inc. */
#include <math.h>

#include "cpu/fast.h"
#include "cpu/update.h"

typedef float real;
#define R_SQRT sqrtf
#define UPDATE_NAME RC_SIMD(rc_f32_update)
#define SQUARES_NAME RC_SIMD(rc_f32_squares)

void UPDATE_NAME(const rc_update *u, int64_t n, const float *g, float *w, float *s0, float *s1);
double SQUARES_NAME(int64_t n, const float *g);

#include "cpu/update_loops.inc"
