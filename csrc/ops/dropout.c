/* Dropout: in training each value is zeroed with probability p, kept ones times 1/(1-p);
 * evaluation: identity. Nothing is kept for backward: the numbers are counter-based (kind
 * RC_RANDOM_DROP, c: row, slot: element in the order C x H x W of the row), so they are drawn
 * again. */
#include "base/random.h"
#include "ops/real.h"
#include "ops/rules.h"

RC_DECLARE_KERNEL(dropout_forward)
RC_DECLARE_KERNEL(dropout_backward)

/* to (+)= from under the mask; both directions are this. */
static void
apply(const rc_call *call, const real *from, real *to, bool add)
{
    int64_t rows = call->ys.d[0], size = rc_shape_count(&call->ys) / rows;
    int64_t c = call->ys.rank == 4 ? call->ys.d[1] : 1, p = size / c;
    bool active = call->training && call->attrs->p > 0;
    real scale = active ? (real)(1 / (1 - call->attrs->p)) : 1;
    float limit = (float)call->attrs->p;
    for (int64_t n = 0; n < rows; n++) {
        uint64_t stream = active ? rc_random_stream(*call->seed, RC_RANDOM_DROP, *call->step,
                                                    (uint64_t)call->node, (uint64_t)n)
                                 : 0;
        for (int64_t i = 0; i < size; i++) {
            uint64_t slot = (uint64_t)(i % c * p + i / c); /* memory order is (h,w,c) */
            bool keep = !active || rc_uniform(rc_random_step(stream, slot)) >= limit;
            rc_put(&to[n * size + i], keep ? from[n * size + i] * scale : 0, add);
        }
    }
}

void
RC_KERNEL(dropout_forward)(const rc_call *call)
{
    apply(call, call->x[0], call->y, false);
}

void
RC_KERNEL(dropout_backward)(const rc_call *call)
{
    apply(call, call->dy, call->dx[0], call->add[0]);
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    (void)n_in;
    RC_TRY(rc_rule_there("dropout", "x", &xs[0], err));
    RC_TRY(rc_rule_not_empty("dropout", "x", &xs[0], err));
    if (!(a->p >= 0 && a->p < 1)) {
        return rc_fail(err, RC_ARGUMENT, "dropout: p: expected 0 <= p < 1, got %g", a->p);
    }
    *y = xs[0];
    return RC_OK;
}

const rc_op rc_op_dropout = {
    .name = "dropout",
    .min_in = 1,
    .max_in = 1,
    .cheap = true,
    .in_place = true,
    .bwd_in_place = true,
    .infer = infer,
    .forward = RC_BOTH(dropout_forward),
    .backward = RC_BOTH(dropout_backward),
};
#endif
