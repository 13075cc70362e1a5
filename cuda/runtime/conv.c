/* conv2d on the card: 1x1 convolutions are matrix products, for which NHWC is the layout already;
 * others are cuDNN's. What follows in evaluation (shift of the folded batch norm, residual, ReLU) is
 * part of either, or a kernel of our own behind it where nothing fused fits. A gradient that is
 * added to another one is added by the product, or made in tmp and then added. */
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
                 .groups = call->attrs->groups};
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
result_bytes(const rc_conv *c)
{
    int64_t x = c->n * c->c * c->h * c->w, w = c->k * (c->c / c->groups) * c->kh * c->kw;
    return (c->pass == RC_CONV_BACKWARD_X ? x : w) * (int64_t)sizeof(float);
}

rc_status
rc_conv_choose(rc_device *d, const rc_device_request *r, rc_choice *out, rc_error *err)
{
    rc_conv c = out->asked = conv_of(r);
    bool adds = r->pass == RC_DEVICE_BACKWARD && r->call->add[c.pass == RC_CONV_BACKWARD_X ? 0 : 1];
    if (c.kh == 1 && c.kw == 1 && c.stride == 1 && c.pad == 0 && c.groups == 1) {
        rc_product p = product_of(&c, adds);
        out->is_product = true;
        out->separate = c.relu && !p.relu; /* LeakyReLU: bias and residual stay in the product */
        out->has_product[0] = true;
        RC_TRY(rc_product_plan_make(d, &p, &out->products[0], err));
        out->tmp = out->products[0].workspace;
        return RC_OK;
    }
    rc_status status = rc_conv_plan_make(d, &c, &out->conv, err);
    if (status == RC_UNSUPPORTED && (c.bias || c.residual || c.relu)) {
        rc_conv bare = c;
        bare.bias = bare.residual = bare.relu = false;
        out->separate = true;
        status = rc_conv_plan_make(d, &bare, &out->conv, err);
    }
    RC_TRY(status);
    out->tmp = out->conv.workspace;
    if (adds) {
        out->separate = true;
        out->result_at = rc_tmp_up(out->tmp);
        out->tmp = out->result_at + result_bytes(&c);
    }
    return RC_OK;
}

static void
forward(rc_device *d, const rc_call *call, const rc_choice *c)
{
    const rc_conv *k = &c->asked;
    void *x, *w, *residual = NULL;
    memcpy(&x, &call->x[0], sizeof x); /* cuDNN's variant pack is not const */
    memcpy(&w, &call->x[1], sizeof w);
    if (call->n_in > 3) {
        memcpy(&residual, &call->x[3], sizeof residual);
    }
    const void *bias = call->n_in > 2 ? call->x[2] : NULL;
    if (k->bias && !bias) { /* folded: behind the weights */
        bias = (const float *)w + rc_shape_count(&call->xs[1]);
    }
    if (c->is_product) {
        rc_product_run(d, &c->products[0], x, w, bias, residual, call->y, call->tmp);
        if (c->separate) {
            rc_help_epilogue(d->stream, call->y, NULL, NULL, k->n * k->oh * k->ow, k->k,
                             (int)call->attrs->act, k->slope);
        }
        return;
    }
    void *shift;
    memcpy(&shift, &bias, sizeof shift);
    rc_conv_run(d, &c->conv, x, w, call->y, shift, residual, call->tmp);
    if (c->separate) {
        rc_help_epilogue(d->stream, call->y, bias, residual, k->n * k->oh * k->ow, k->k,
                         (int)call->attrs->act, k->slope);
    }
}

void
rc_conv_step(rc_device *d, const rc_call *call, const void *choice)
{
    const rc_choice *c = choice;
    const rc_conv *k = &c->asked;
    if (k->pass == RC_CONV_FORWARD) {
        forward(d, call, c);
        return;
    }
    bool to_x = k->pass == RC_CONV_BACKWARD_X;
    void *result = call->dx[to_x ? 0 : 1], *other, *dy;
    memcpy(&other, &call->x[to_x ? 1 : 0], sizeof other);
    memcpy(&dy, &call->dy, sizeof dy);
    if (c->is_product) {
        rc_product_run(d, &c->products[0], dy, other, NULL, NULL, result, call->tmp);
        return;
    }
    void *made = c->separate ? (char *)call->tmp + c->result_at : result;
    rc_conv_run(d, &c->conv, to_x ? made : other, to_x ? other : made, dy, NULL, NULL, call->tmp);
    if (c->separate) {
        rc_help_accumulate(d->stream, made, result, result_bytes(k) / (int64_t)sizeof(float));
    }
}

/* The bias's gradient: dy over all positions. */
void
rc_sums_step(rc_device *d, const rc_call *call, const void *choice)
{
    (void)choice;
    rc_help_column_sums(d->stream, call->dy, call->ys.d[0] * call->ys.d[2] * call->ys.d[3],
                        call->ys.d[1], call->add[2], call->dx[2], call->tmp);
}
