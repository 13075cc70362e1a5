/* Sum of two equal shapes: y = act(a + b). Backward: both get dy before the activation, whose
 * sign it takes from y. */
#include "ops/act.h"
#include "ops/rules.h"

RC_DECLARE_KERNEL(add_forward)
RC_DECLARE_KERNEL(add_backward)

void
RC_KERNEL(add_forward)(const rc_call *call)
{
    const real *a = call->x[0], *b = call->x[1];
    real *y = call->y;
    int64_t count = rc_shape_count(&call->ys);
    for (int64_t i = 0; i < count; i++) {
        y[i] = act_value((int)call->attrs->act, (real)call->attrs->slope, a[i] + b[i]);
    }
}

void
RC_KERNEL(add_backward)(const rc_call *call)
{
    const real *y = call->y, *dy = call->dy;
    real *da = call->dx[0], *db = call->dx[1];
    int64_t count = rc_shape_count(&call->ys), kind = call->attrs->act;
    for (int64_t i = 0; i < count; i++) {
        real g = kind == RC_ACT_NONE
                     ? dy[i]
                     : act_gradient(kind, (real)call->attrs->slope, y[i], dy[i]);
        if (db) {
            rc_put(&db[i], g, call->add[1]);
        }
        if (da) {
            rc_put(&da[i], g, call->add[0]);
        }
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    (void)n_in;
    RC_TRY(rc_rule_there("add", "a", &xs[0], err));
    RC_TRY(rc_rule_equal("add", "b", &xs[1], &xs[0], err));
    RC_TRY(rc_rule_act("add", a, true, err));
    *y = xs[0];
    return RC_OK;
}

static uint32_t
reads(const rc_attrs *a, int n_in, const rc_shape *xs, uint32_t wants, bool training)
{
    (void)n_in, (void)xs, (void)wants, (void)training;
    return a->act != RC_ACT_NONE ? RC_READS_Y : 0;
}

const rc_op rc_op_add = {
    .name = "add",
    .min_in = 2,
    .max_in = 2,
    .in_place = true,
    .bwd_in_place = true,
    .infer = infer,
    .reads = reads,
    .forward = RC_BOTH(add_forward),
    .backward = RC_BOTH(add_backward),
};
#endif
