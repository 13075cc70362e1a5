/* One optimiser's update of a run of weights: SGD, Adam, AdamW as spec/common.md 2 writes them.
 *
 * Scalars are double and become the element's type once per call. Every element is its own, so
 * callers may cut the run anywhere; the bits do not change. csrc/train/optim.c calls it. */
#ifndef RC_UPDATE_H
#define RC_UPDATE_H

#include "base/base.h"

typedef enum rc_update_kind { RC_UPDATE_SGD, RC_UPDATE_ADAM } rc_update_kind;

typedef struct rc_update {
    rc_update_kind kind;
    double scale;    /* times the gradient, first of all; 1 but for the centres of a loss */
    double shrink;   /* times the weight before anything else: 1 - rate*decay in AdamW, else 1 */
    double decay;    /* times the weight, added to the gradient: L2 */
    double step;     /* SGD: the rate; Adam: rate / (1 - beta1^t) */
    double beta1, beta2, eps;
    double root2;    /* Adam: sqrt(1 - beta2^t) */
    double momentum; /* SGD; 0: s0 is not touched */
    double keep;     /* SGD: what of the gradient enters the momentum, 1 - dampening */
    bool first;      /* SGD: the first step, s0 = gradient */
    bool nesterov;
} rc_update;

/* g, w: (n). s0: (n) momentum, or Adam's m. s1: (n) Adam's v. NULL where not used. */
typedef void (*rc_update_f32)(const rc_update *u, int64_t n, const float *g, float *w, float *s0,
                              float *s1);

rc_update_f32 rc_update_f32_get(void); /* for the instruction set in use */
void rc_update_run_f64(const rc_update *u, int64_t n, const double *g, double *w, double *s0,
                       double *s1);

/* The sum of squares of g: (n), in double and in an order that n alone decides. */
typedef double (*rc_squares_f32)(int64_t n, const float *g);

rc_squares_f32 rc_squares_f32_get(void);
double rc_squares_f64(int64_t n, const double *g);

#endif
