/* The same memory under another shape (op_list.h gives the six modes): since rank 4 values
 * lie as (n,h,w,c), a map is already a matrix of positions by channels. */
#include "ops/real.h"
#include "ops/rules.h"

RC_DECLARE_KERNEL(view_forward)
RC_DECLARE_KERNEL(view_backward)

void
RC_KERNEL(view_forward)(const rc_call *call)
{
    memmove(call->y, call->x[0], (size_t)rc_shape_count(&call->ys) * sizeof(real));
}

void
RC_KERNEL(view_backward)(const rc_call *call)
{
    const real *dy = call->dy;
    real *dx = call->dx[0];
    int64_t count = rc_shape_count(&call->ys);
    for (int64_t i = 0; i < count; i++) {
        rc_put(&dx[i], dy[i], call->add[0]);
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    const char *op = "view";
    char text[64];
    const rc_shape *x = &xs[0];
    (void)n_in;
    RC_TRY(rc_rule_int(op, "mode", a->mode, 0, 5, err));
    switch (a->mode) {
    case 0:
        RC_TRY(rc_rule_rank(op, "x", x, 4, "N x C x 1 x 1", err));
        if (x->d[2] != 1 || x->d[3] != 1) {
            return rc_fail(err, RC_ARGUMENT, "view: x: expected N x C x 1 x 1, got %s",
                           rc_shape_text(x, text));
        }
        *y = (rc_shape){2, {x->d[0], x->d[1], 1, 1}};
        break;
    case 1:
        RC_TRY(rc_rule_rank(op, "x", x, 4, "N x C x H x W", err));
        *y = (rc_shape){3, {x->d[0], x->d[2] * x->d[3], x->d[1], 1}};
        break;
    case 2:
        RC_TRY(rc_rule_rank(op, "x", x, 3, "N x P x C", err));
        RC_TRY(rc_rule_int(op, "from", a->from, 1, INT32_MAX, err));
        RC_TRY(rc_rule_int(op, "to", a->to, 1, INT32_MAX, err));
        if (x->d[1] != a->from * a->to) {
            return rc_fail(err, RC_ARGUMENT, "view: x: expected %lldx%lld positions, got %s",
                           (long long)a->from, (long long)a->to, rc_shape_text(x, text));
        }
        *y = (rc_shape){4, {x->d[0], x->d[2], a->from, a->to}};
        break;
    case 3:
        RC_TRY(rc_rule_rank(op, "x", x, 2, "N x C", err));
        *y = (rc_shape){4, {x->d[0], x->d[1], 1, 1}};
        break;
    case 4:
        RC_TRY(rc_rule_rank(op, "x", x, 2, "N x C", err));
        RC_TRY(rc_rule_int(op, "from", a->from, 1, INT32_MAX, err));
        if (x->d[1] % a->from) {
            return rc_fail(err, RC_ARGUMENT, "view: x: expected channels in %lld equal rows, got %s",
                           (long long)a->from, rc_shape_text(x, text));
        }
        *y = (rc_shape){4, {x->d[0], x->d[1] / a->from, a->from, 1}};
        break;
    default:
        RC_TRY(rc_rule_there(op, "x", x, err));
        *y = *x;
    }
    return RC_OK;
}

const rc_op rc_op_view = {
    .name = "view",
    .min_in = 1,
    .max_in = 1,
    .cheap = true,
    .in_place = true,
    .bwd_in_place = true,
    .infer = infer,
    .forward = RC_BOTH(view_forward),
    .backward = RC_BOTH(view_backward),
};
#endif
