/* conv2d on the card: 1x1 convolutions are matrix products, for which NHWC is the layout already;
 * others are cuDNN's. What follows in evaluation (shift of the folded batch norm, residual, ReLU) is
 * part of either, or a kernel of our own behind it where nothing fused fits. A gradient that is
 * added to another one is added by the product, or made in tmp and then added.
 *
 * In bfloat16 weights are turned into that before a step (or once, folded), and their gradient is
 * float again: a product writes it as such, cuDNN's is made in tmp. */
#include <string.h>

#include "runtime.h"

static rc_conv
conv_of(const rc_device_request *r)
{
    const rc_call *call = r->call;
    const rc_shape *x = &call->xs[0], *w = &call->xs[1], *y = &call->ys;
    rc_conv c = {.n = x->d[0], .c = x->d[1], .h = x->d[2], .w = x->d[3], .k = y->d[1],
                 .oh = y->d[2], .ow = y->d[3], .kh = w->d[2], .kw = w->d[3],
                 .stride = call->attrs->stride, .pad = call->attrs->pad,
                 .groups = call->attrs->groups,
                 .type = r->element == RC_BF16 ? RC_CUDA_BF16 : RC_CUDA_F32};
    if (r->pass == RC_DEVICE_FORWARD) {
        c.bias = r->folded || (r->has >> 2 & 1);
        c.residual = r->has >> 3 & 1;
        c.relu = call->attrs->act != RC_ACT_NONE;
        c.slope = call->attrs->act == RC_ACT_LEAKY_RELU ? (float)call->attrs->slope : 0;
    } else {
        c.pass = r->wanted & 1 ? RC_CONV_BACKWARD_X : RC_CONV_BACKWARD_W;
    }
    return c;
}

/* The convolution as a product; rows are positions. */
static rc_product
product_of(const rc_conv *c, bool adds)
{
    int64_t rows = c->n * c->h * c->w;
    switch (c->pass) {
    case RC_CONV_FORWARD: /* y = x w^T + residual + bias */
        return (rc_product){.m = rows, .n = c->k, .k = c->c, .batch = 1, .lda = c->c, .ldb = c->c,
                            .ldc = c->k, .trans_b = true, .bias = c->bias,
                            .relu = c->relu && c->slope == 0, .adds = c->residual, .alpha = 1};
    case RC_CONV_BACKWARD_X: /* dx = dy w */
        return (rc_product){.m = rows, .n = c->c, .k = c->k, .batch = 1, .lda = c->k, .ldb = c->c,
                            .ldc = c->c, .adds = adds, .alpha = 1};
    default: /* dw = dy^T x */
        return (rc_product){.m = c->k, .n = c->c, .k = rows, .batch = 1, .lda = c->k, .ldb = c->c,
                            .ldc = c->c, .trans_a = true, .adds = adds, .alpha = 1};
    }
}

static int64_t
size_of(rc_cuda_type type)
{
    return type == RC_CUDA_BF16 ? 2 : 4;
}

static int64_t
weight_count(const rc_conv *c)
{
    return c->k * (c->c / c->groups) * c->kh * c->kw;
}

/* Of the gradient that a backward pass makes. */
static int64_t
result_count(const rc_conv *c)
{
    return c->pass == RC_CONV_BACKWARD_X ? c->n * c->c * c->h * c->w : weight_count(c);
}

/* A place in tmp behind what there is. */
static int64_t
reserve(rc_choice *out, int64_t bytes)
{
    int64_t at = rc_tmp_up(out->tmp);
    out->tmp = at + bytes;
    return at;
}

static rc_status
choose_graph(rc_device *d, const rc_conv *c, rc_choice *out, rc_error *err)
{
    bool follow = c->bias || c->residual || c->relu;
    /* A bias of bfloat16 is there behind folded weights alone. */
    bool fits = c->type == RC_CUDA_F32 || !c->bias || out->folded;
    rc_status status = fits ? rc_conv_plan_make(d, c, &out->conv, err) : RC_UNSUPPORTED;
    if (status == RC_UNSUPPORTED && follow) {
        rc_conv bare = *c;
        bare.bias = bare.residual = bare.relu = false;
        out->separate = true;
        status = rc_conv_plan_make(d, &bare, &out->conv, err);
    }
    out->tmp = out->conv.workspace;
    return status;
}

static rc_status
choose_product(rc_device *d, const rc_conv *c, bool adds, rc_choice *out, rc_error *err)
{
    rc_product p = product_of(c, adds);
    bool floats = c->type == RC_CUDA_F32;
    p.factors = c->type;
    p.result = c->pass == RC_CONV_BACKWARD_W ? RC_CUDA_F32 : c->type;
    out->is_product = true;
    if (!floats && c->bias && !out->folded) { /* its bias is of another type */
        p.bias = p.relu = false;
        out->separate = true;
    }
    out->separate |= c->relu && !p.relu; /* LeakyReLU: bias and residual stay in the product */
    out->has_product[0] = true;
    RC_TRY(rc_product_plan_make(d, &p, &out->products[0], err));
    out->tmp = out->products[0].workspace;
    return RC_OK;
}

rc_status
rc_conv_choose(rc_device *d, const rc_device_request *r, rc_choice *out, rc_error *err)
{
    rc_conv c = conv_of(r);
    bool adds = r->pass == RC_DEVICE_BACKWARD && r->call->add[c.pass == RC_CONV_BACKWARD_X ? 0 : 1];
    bool floats = c.type == RC_CUDA_F32;
    out->asked = c;
    out->folded = r->folded;
    out->weights_at = -1;
    if (c.kh == 1 && c.kw == 1 && c.stride == 1 && c.pad == 0 && c.groups == 1) {
        RC_TRY(choose_product(d, &c, adds, out, err));
    } else {
        RC_TRY(choose_graph(d, &c, out, err));
        if (adds || (!floats && c.pass == RC_CONV_BACKWARD_W)) {
            out->separate = true;
            out->result_at = reserve(out, result_count(&c) * size_of(c.type));
        }
    }
    if (!floats && !out->folded && c.pass != RC_CONV_BACKWARD_W) {
        out->weights_at = reserve(out, weight_count(&c) * size_of(c.type));
    }
    return RC_OK;
}

static void
forward(rc_device *d, const rc_call *call, const rc_choice *c, void *w)
{
    const rc_conv *k = &c->asked;
    const rc_shape *ws = &call->xs[1];
    void *x, *residual = NULL;
    int64_t per = rc_shape_count(ws) / ws->d[0];
    memcpy(&x, &call->x[0], sizeof x); /* cuDNN's variant pack is not const */
    if (call->n_in > 3) {
        memcpy(&residual, &call->x[3], sizeof residual);
    }
    /* The same numbers twice: of the type, for the libraries, and as float. */
    const void *bias = call->n_in > 2 ? call->x[2] : NULL;
    const float *as_float = bias;
    if (c->folded) {
        bias = (const char *)w + rc_folded_shift(k->type, ws->d[0], per);
        as_float = (const void *)((const char *)w + rc_folded_float(k->type, ws->d[0], per));
    }
    if (c->is_product) {
        bool inside = c->products[0].p.bias;
        rc_product_run(d, &c->products[0], x, w, bias, residual, call->y, call->tmp);
        if (c->separate) {
            rc_help_epilogue(d->stream, k->type, call->y, inside ? NULL : as_float, NULL,
                             k->n * k->oh * k->ow, k->k, (int)call->attrs->act, k->slope);
        }
        return;
    }
    void *shift;
    memcpy(&shift, &bias, sizeof shift);
    rc_conv_run(d, &c->conv, x, w, call->y, shift, residual, call->tmp);
    if (c->separate) {
        rc_help_epilogue(d->stream, k->type, call->y, as_float, residual, k->n * k->oh * k->ow,
                         k->k, (int)call->attrs->act, k->slope);
    }
}

/* The weights as the libraries take them: a copy in tmp where that is another type. */
static void *
weights_of(rc_device *d, const rc_call *call, const rc_choice *c)
{
    void *w;
    memcpy(&w, &call->x[1], sizeof w);
    if (c->weights_at < 0) {
        return w;
    }
    void *copy = (char *)call->tmp + c->weights_at;
    rc_help_cast(d->stream, w, RC_CUDA_F32, copy, c->asked.type, weight_count(&c->asked), false);
    return copy;
}

void
rc_conv_step(rc_device *d, const rc_call *call, const void *choice)
{
    const rc_choice *c = choice;
    const rc_conv *k = &c->asked;
    if (k->pass == RC_CONV_FORWARD) {
        forward(d, call, c, weights_of(d, call, c));
        return;
    }
    bool to_x = k->pass == RC_CONV_BACKWARD_X;
    void *result = call->dx[to_x ? 0 : 1], *other, *dy;
    memcpy(&other, &call->x[0], sizeof other);
    memcpy(&dy, &call->dy, sizeof dy);
    other = to_x ? weights_of(d, call, c) : other;
    if (c->is_product) {
        rc_product_run(d, &c->products[0], dy, other, NULL, NULL, result, call->tmp);
        return;
    }
    void *made = c->separate ? (char *)call->tmp + c->result_at : result;
    rc_conv_run(d, &c->conv, to_x ? made : other, to_x ? other : made, dy, NULL, NULL, call->tmp);
    if (c->separate) {
        rc_help_cast(d->stream, made, k->type, result, to_x ? k->type : RC_CUDA_F32,
                     result_count(k), call->add[to_x ? 0 : 1]);
    }
}

/* The bias's gradient: dy over all positions. */
void
rc_sums_step(rc_device *d, const rc_call *call, const void *choice)
{
    rc_cuda_type type = ((const rc_choice *)choice)->record.type;
    rc_help_column_sums(d->stream, type, call->dy, call->ys.d[0] * call->ys.d[2] * call->ys.d[3],
                        call->ys.d[1], call->add[2], call->dx[2], call->tmp);
}
