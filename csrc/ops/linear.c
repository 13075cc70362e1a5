/* Fully connected layer: y = act(x w^T + b). x: (n,i)  w: (o,i)  b: (o)  y: (n,o).
 * Sums are taken in double in both builds. */
#include "ops/act.h"
#include "ops/rules.h"

RC_DECLARE_KERNEL(linear_forward)
RC_DECLARE_KERNEL(linear_backward)

void
RC_KERNEL(linear_forward)(const rc_call *call)
{
    const real *x = call->x[0], *w = call->x[1];
    const real *b = call->n_in > 2 ? call->x[2] : NULL;
    real *y = call->y;
    int64_t rows = call->ys.d[0], out = call->ys.d[1], in = call->xs[0].d[1];
    for (int64_t n = 0; n < rows; n++) {
        for (int64_t o = 0; o < out; o++) {
            double sum = b ? b[o] : 0;
            for (int64_t i = 0; i < in; i++) {
                sum += (double)x[n * in + i] * w[o * in + i];
            }
            y[n * out + o] = act_value((int)call->attrs->act, (real)call->attrs->slope, (real)sum);
        }
    }
}

/* Gradient before the activation. */
static double
before_act(const rc_call *call, int64_t i)
{
    const real *y = call->y, *dy = call->dy;
    return call->attrs->act == RC_ACT_NONE
               ? dy[i]
               : act_gradient((int)call->attrs->act, (real)call->attrs->slope, y[i], dy[i]);
}

void
RC_KERNEL(linear_backward)(const rc_call *call)
{
    const real *x = call->x[0], *w = call->x[1];
    real *dx = call->dx[0], *dw = call->dx[1], *db = call->n_in > 2 ? call->dx[2] : NULL;
    int64_t rows = call->ys.d[0], out = call->ys.d[1], in = call->xs[0].d[1];
    double *restrict sum = call->tmp; /* (in) */
    for (int64_t n = 0; dx && n < rows; n++) {
        memset(sum, 0, (size_t)in * sizeof *sum);
        for (int64_t o = 0; o < out; o++) {
            double d = before_act(call, n * out + o);
            for (int64_t i = 0; i < in; i++) {
                sum[i] += d * w[o * in + i];
            }
        }
        for (int64_t i = 0; i < in; i++) {
            rc_put(&dx[n * in + i], (real)sum[i], call->add[0]);
        }
    }
    for (int64_t o = 0; dw && o < out; o++) {
        memset(sum, 0, (size_t)in * sizeof *sum);
        for (int64_t n = 0; n < rows; n++) {
            double d = before_act(call, n * out + o);
            for (int64_t i = 0; i < in; i++) {
                sum[i] += d * x[n * in + i];
            }
        }
        for (int64_t i = 0; i < in; i++) {
            rc_put(&dw[o * in + i], (real)sum[i], call->add[1]);
        }
    }
    for (int64_t o = 0; db && o < out; o++) {
        double total = 0;
        for (int64_t n = 0; n < rows; n++) {
            total += before_act(call, n * out + o);
        }
        rc_put(&db[o], (real)total, call->add[2]);
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    const char *op = "linear";
    char text[64];
    RC_TRY(rc_rule_rank(op, "x", &xs[0], 2, "N x C", err));
    RC_TRY(rc_rule_rank(op, "weight", &xs[1], 2, "outputs x inputs", err));
    RC_TRY(rc_rule_not_empty(op, "weight", &xs[1], err));
    RC_TRY(rc_rule_act(op, a, true, err));
    if (xs[1].d[1] != xs[0].d[1]) {
        return rc_fail(err, RC_ARGUMENT, "linear: weight: expected %lld inputs, got %s",
                       (long long)xs[0].d[1], rc_shape_text(&xs[1], text));
    }
    if (n_in > 2 && xs[2].rank > 0) {
        RC_TRY(rc_rule_vector(op, "bias", &xs[2], xs[1].d[0], err));
    }
    *y = (rc_shape){2, {xs[0].d[0], xs[1].d[0], 1, 1}};
    return RC_OK;
}

static uint32_t
reads(const rc_attrs *a, int n_in, const rc_shape *xs, uint32_t wants, bool training)
{
    (void)n_in, (void)xs, (void)training;
    return (wants & RC_READS(0) ? RC_READS(1) : 0) | (wants & RC_READS(1) ? RC_READS(0) : 0)
           | (a->act != RC_ACT_NONE ? RC_READS_Y : 0);
}

static int64_t
tmp_size(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, size_t real_size,
         bool backward, int threads)
{
    (void)a, (void)y, (void)real_size, (void)threads;
    return backward ? xs[0].d[1] * 8 : 0;
}

static double
macs(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, bool literal)
{
    (void)a, (void)literal;
    return (double)rc_shape_count(y) * (double)xs[0].d[1];
}

const rc_op rc_op_linear = {
    .name = "linear",
    .min_in = 2,
    .max_in = 3,
    .infer = infer,
    .reads = reads,
    .tmp_size = tmp_size,
    .macs = macs,
    .forward = RC_BOTH(linear_forward),
    .backward = RC_BOTH(linear_backward),
};
#endif
