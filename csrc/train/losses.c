/* Runs one loss operation: checks what a network would have checked (labels, finite rows), books
 * what a plan would have booked (workspace, scratch), then forward and backward. */
#include "train/losses.h"

#include <math.h>

#include "graph/labels.h"

static rc_status
check_finite(const rc_loss_call *call, int input, const char *what, rc_error *err)
{
    int64_t count = rc_shape_count(&call->xs[input]);
    for (int64_t i = 0; i < count; i++) {
        double v = call->is_double ? ((const double *)call->x[input])[i]
                                   : (double)((const float *)call->x[input])[i];
        if (!isfinite(v)) {
            return rc_fail(err, RC_ARGUMENT, "%s: contains NaN or infinite values", what);
        }
    }
    return RC_OK;
}

static rc_status
check_values(const rc_loss_call *call, rc_error *err)
{
    const rc_shape *xs = call->xs;
    if (xs[0].d[0] < 1 || xs[0].d[1] < 1) {
        return rc_fail(err, RC_ARGUMENT, "%s: the batch is empty",
                       call->op == RC_OP_cross_entropy ? "logits" : "embeddings");
    }
    RC_TRY(check_finite(call, 0, call->op == RC_OP_cross_entropy ? "logits" : "embeddings", err));
    if (call->op == RC_OP_cosine_loss) {
        return check_finite(call, 1, "guides", err);
    }
    int64_t classes = 0;
    if (call->op == RC_OP_cross_entropy) {
        classes = xs[0].d[1];
    } else if (call->op == RC_OP_center) {
        classes = xs[2].d[0];
        if (classes < 1) {
            return rc_fail(err, RC_ARGUMENT, "centers: there are none");
        }
        RC_TRY(check_finite(call, 2, "centers", err));
    }
    return rc_labels_check(call->x[1], xs[1].d[0], classes, call->op == RC_OP_triplet, err);
}

static int64_t
larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

rc_status
rc_loss_run(const rc_loss_call *loss, double *value, rc_error *err)
{
    const rc_op *op = rc_op_table[loss->op];
    size_t size = loss->is_double ? 8 : 4;
    rc_call call = {.attrs = &loss->attrs, .n_in = loss->n_in, .xs = loss->xs, .training = true,
                    .threads = 1};
    RC_TRY(op->infer(&loss->attrs, loss->n_in, loss->xs, &call.ys, err));
    RC_TRY(check_values(loss, err));

    union {
        float f;
        double d;
    } y = {0}, dy = {0}; /* one real each */
    int64_t ws = op->ws_size ? op->ws_size(&loss->attrs, loss->xs, &call.ys, size) : 0, tmp = 0;
    for (int backward = 0; op->tmp_size && backward < 2; backward++) {
        tmp = larger(tmp, op->tmp_size(&loss->attrs, loss->xs, &call.ys, size, backward, 1));
    }
    call.ws = rc_alloc(larger(ws, 8), 1);
    call.tmp = rc_alloc(larger(tmp, 8), 1);
    rc_status status = RC_OK;
    if (call.ws && call.tmp) {
        for (int i = 0; i < loss->n_in; i++) {
            call.x[i] = loss->x[i];
            call.dx[i] = loss->dx[i];
        }
        call.y = &y;
        call.dy = &dy;
        if (loss->is_double) {
            dy.d = 1;
        } else {
            dy.f = 1;
        }
        op->forward[loss->is_double](&call);
        op->backward[loss->is_double](&call);
        *value = loss->is_double ? y.d : (double)y.f;
    } else {
        status = rc_fail(err, RC_MEMORY, "%s: out of memory for a batch of %lld", op->name,
                         (long long)loss->xs[0].d[0]);
    }
    rc_free(call.ws);
    rc_free(call.tmp);
    return status;
}
