/* Who runs a step: cuDNN and cuBLASLt for convolutions and products, launchers of cuda/ops for the
 * rest. What a library has chosen for a shape is kept, so that plans of one network share it. */
#include <stdlib.h>
#include <string.h>

#include "runtime.h"

static const char *const names[] = {
#define NAME(op) #op,
    RC_OP_LIST(NAME)
#undef NAME
};

static void
free_choice(const rc_device *d, rc_choice *c)
{
    rc_conv_plan_free(d, &c->conv);
    for (int i = 0; i < 3; i++) {
        if (c->has_product[i]) {
            rc_product_plan_free(d, &c->products[i]);
        }
    }
    free(c);
}

void
rc_choices_free(rc_device *d)
{
    while (d->choices) {
        rc_choice *next = d->choices->next;
        free_choice(d, d->choices);
        d->choices = next;
    }
}

/* ---- our own kernels ------------------------------------------------------------------------------- */

static void
own_step(rc_device *d, const rc_call *call, const void *choice)
{
    const rc_choice *c = choice;
    rc_call told = *call;
    told.extra = &c->record;
    c->launch(&told, d->stream);
}

static rc_cuda_type
type_of(int element)
{
    return element == RC_BF16 ? RC_CUDA_BF16 : RC_CUDA_F32;
}

static void
cast_step(rc_device *d, const rc_call *call, const void *choice)
{
    const rc_choice *c = choice;
    rc_help_cast(d->stream, call->x[0], c->from, call->y, c->record.type,
                 rc_shape_count(&call->ys), call->add[0]);
}

static void
fill_step(rc_device *d, const rc_call *call, const void *choice)
{
    rc_help_fill(d->stream, call->y, rc_shape_count(&call->ys), ((const rc_choice *)choice)->value);
}

static void
fold_step(rc_device *d, const rc_call *call, const void *choice)
{
    const rc_shape *w = &call->xs[0];
    const void *const *x = call->x;
    rc_help_fold(d->stream, ((const rc_choice *)choice)->record.type, x[0], x[1], x[2], x[3], x[4],
                 x[5], call->attrs->eps, w->d[0], rc_shape_count(w) / w->d[0], call->y);
}

/* tmp_size looks at which pointers are there; what they will point to does not matter. */
static int64_t
own_tmp(const rc_device_request *r, const rc_cuda_op *op)
{
    static char somewhere;
    rc_call call = *r->call;
    if (!op->tmp_size) {
        return 0;
    }
    for (int k = 0; k < call.n_in; k++) {
        call.x[k] = r->has >> k & 1 ? &somewhere : NULL;
        call.dx[k] = r->wanted >> k & 1 ? &somewhere : NULL;
    }
    call.ws = r->keeps ? &somewhere : NULL;
    rc_cuda_record record = {type_of(r->element)};
    call.extra = &record;
    return op->tmp_size(&call, r->pass == RC_DEVICE_BACKWARD);
}

/* What no kernel is written for, in the user's terms. */
static rc_status
check_size(const rc_shape *s, rc_error *err)
{
    int64_t count = s->rank ? rc_shape_count(s) : 0;
    return count <= RC_CUDA_MOST
               ? RC_OK
               : rc_fail(err, RC_ARGUMENT, "images: %lld at once make a value of %lld elements, and "
                         "on a card at most %d; take a smaller batch", (long long)s->d[0],
                         (long long)count, RC_CUDA_MOST);
}

static rc_status
check_sizes(const rc_device_request *r, rc_error *err)
{
    const rc_call *call = r->call;
    RC_TRY(check_size(&call->ys, err));
    for (int k = 0; k < call->n_in; k++) {
        RC_TRY(check_size(&call->xs[k], err));
    }
    if (call->xs[0].rank && call->xs[0].d[0] > RC_CUDA_BATCH) {
        return rc_fail(err, RC_ARGUMENT, "images: %lld at once, and on a card at most %d; take a "
                       "smaller batch", (long long)call->xs[0].d[0], RC_CUDA_BATCH);
    }
    return RC_OK;
}

static rc_status
check_limit(const rc_device_request *r, const rc_cuda_op *op, rc_error *err)
{
    if (!op->limit || r->pass == RC_DEVICE_COMMIT) {
        return RC_OK;
    }
    rc_cuda_limit l = op->limit(r->call, r->pass == RC_DEVICE_BACKWARD);
    return l.is <= l.most
               ? RC_OK
               : rc_fail(err, RC_ARGUMENT, "%s: %lld %s, and on a card at most %lld%s; smaller "
                         "images, or device='cpu'", names[r->op], (long long)l.is, l.what,
                         (long long)l.most, r->pass == RC_DEVICE_BACKWARD ? " in training" : "");
}

static rc_status
choose_own(const rc_device_request *r, rc_choice *out, rc_error *err)
{
    const rc_cuda_op *op = &rc_cuda_op_table[r->op];
    out->kind = RC_CHOICE_OWN;
    out->launch = r->pass == RC_DEVICE_FORWARD    ? op->forward
                  : r->pass == RC_DEVICE_BACKWARD ? op->backward
                                                  : op->commit;
    if (!out->launch) {
        return rc_fail(err, RC_UNSUPPORTED, "device: no CUDA kernel for '%s' (%s)",
                       names[r->op],
                       r->pass == RC_DEVICE_FORWARD ? "forward" : "backward or statistics");
    }
    out->tmp = r->pass == RC_DEVICE_COMMIT ? 0 : own_tmp(r, op);
    return check_limit(r, op, err);
}

/* ---- the choice --------------------------------------------------------------------------------------- */

static rc_status
choose(rc_device *d, const rc_device_request *r, rc_choice *out, rc_error *err)
{
    out->record.type = type_of(r->element);
    if (r->pass == RC_DEVICE_CAST) {
        out->kind = RC_CHOICE_CAST;
        out->from = type_of(r->from);
        return RC_OK;
    }
    if (r->pass == RC_DEVICE_FILL) {
        out->kind = RC_CHOICE_FILL;
        out->value = r->value;
        return RC_OK;
    }
    if (r->pass == RC_DEVICE_FOLD) {
        out->kind = RC_CHOICE_FOLD;
        return RC_OK;
    }
    RC_TRY(check_sizes(r, err));
    switch (r->op) {
    case RC_OP_conv2d:
        if (r->pass == RC_DEVICE_BACKWARD && r->wanted == 4) {
            int64_t rows = r->call->ys.d[0] * r->call->ys.d[2] * r->call->ys.d[3];
            out->kind = RC_CHOICE_SUMS;
            out->tmp = rc_help_sums_parts(rows, r->call->ys.d[1]) * (int64_t)sizeof(float);
            return RC_OK;
        }
        out->kind = RC_CHOICE_CONV;
        return rc_conv_choose(d, r, out, err);
    case RC_OP_linear:
        out->kind = RC_CHOICE_LINEAR;
        return rc_linear_choose(d, r, out, err);
    case RC_OP_matmul:
        out->kind = RC_CHOICE_MATMUL;
        return rc_matmul_choose(d, r, out, err);
    default:
        return choose_own(r, out, err);
    }
}

static void
tell(const rc_choice *c, const rc_device_request *r, rc_device_kernel *out)
{
    bool back = r->pass == RC_DEVICE_BACKWARD;
    *out = (rc_device_kernel){.choice = c, .tmp = c->tmp};
    switch (c->kind) {
    case RC_CHOICE_OWN:
        out->name = c->record.type == RC_CUDA_BF16 ? "own kernel, bf16" : "own kernel";
        out->run = own_step;
        break;
    case RC_CHOICE_CAST:
        out->name = "cast";
        out->run = cast_step;
        break;
    case RC_CHOICE_FILL:
        out->name = "fill";
        out->run = fill_step;
        break;
    case RC_CHOICE_FOLD:
        out->name = "fold";
        out->run = fold_step;
        break;
    case RC_CHOICE_CONV:
        out->name = c->is_product  ? "cublasLt"
                    : !c->separate ? "cudnn"
                                   : "cudnn, then own kernel";
        out->run = rc_conv_step;
        break;
    case RC_CHOICE_SUMS:
        out->name = "column sums";
        out->run = rc_sums_step;
        break;
    case RC_CHOICE_LINEAR:
        out->name = "cublasLt";
        out->run = back ? rc_linear_backward_step : rc_linear_step;
        break;
    case RC_CHOICE_MATMUL:
        out->name = "cublasLt";
        out->run = back ? rc_matmul_backward_step : rc_matmul_step;
        break;
    }
}

/* One that was made for the very same question. Plans of libraries take long to choose, and few
 * shapes occur many times; the rest is small and made anew. */
static rc_choice *
known(rc_device *d, const rc_choice_key *key)
{
    for (rc_choice *c = d->choices; c; c = c->next) {
        if (!memcmp(&c->key, key, sizeof *key)) {
            return c;
        }
    }
    return NULL;
}

static rc_choice_key
key_of(const rc_device_request *r)
{
    rc_choice_key key;
    memset(&key, 0, sizeof key); /* padding, too: keys are compared byte by byte */
    key.pass = (int32_t)r->pass;
    key.op = (int32_t)r->op;
    key.has = r->has;
    key.wanted = r->wanted;
    key.element = r->element;
    key.from = r->from;
    key.flags = (r->folded ? 1 : 0) | (r->keeps ? 2 : 0);
    key.value = r->value;
    if (r->call->attrs) {
        const rc_attrs *a = r->call->attrs;
#define COPY(name) key.attrs.name = a->name;
        RC_ATTR_LIST(COPY, COPY)
#undef COPY
    }
    key.y = r->call->ys;
    key.n_in = r->call->n_in;
    for (int k = 0; k < r->call->n_in; k++) {
        if (k < RC_KEY_INPUTS) {
            key.x[k] = r->call->xs[k];
        }
        key.add |= r->call->add[k] ? 1u << k : 0;
    }
    return key;
}

rc_status
rc_device_select(rc_device *d, const rc_device_request *r, rc_device_kernel *out, rc_error *err)
{
    rc_choice_key key = key_of(r);
    bool keyed = r->pass <= RC_DEVICE_BACKWARD && r->call->n_in <= RC_KEY_INPUTS;
    rc_choice *c = keyed ? known(d, &key) : NULL;
    RC_TRY(rc_device_use(d, err));
    if (!c) {
        c = calloc(1, sizeof *c);
        if (!c) {
            return rc_fail(err, RC_MEMORY, "out of memory while planning");
        }
        rc_status status = choose(d, r, c, err);
        if (status != RC_OK) {
            free_choice(d, c);
            return status;
        }
        c->key = key;
        c->next = d->choices;
        d->choices = c;
    }
    tell(c, r, out);
    return RC_OK;
}

bool
rc_device_takes(rc_op_id op, int element)
{
    if (element != RC_BF16) {
        return element == RC_REAL;
    }
    /* Vectors and losses stay float32 (csrc/plan/types.c); of maps our kernels take both types. */
    return op == RC_OP_conv2d || op == RC_OP_matmul || rc_cuda_op_table[op].forward;
}
