/* Plans in bytes: which units compute with them, convolution steps and their weights.
 *
 * m->bytes says how every value is stored as bytes and m->in_bytes which values come from a unit that
 * computes with them, both filled by quantize.c (or from a checkpoint). A convolution reads its input
 * and its residual as bytes and writes bytes if a reader takes them, else float32 (types.c decides);
 * its batch norm is folded before its weights are rounded, one step an output channel. */
#include <math.h>
#include <string.h>

#include "plan/plan.h"

static bool
stored(const rc_model *m, rc_value v)
{
    return v == RC_NONE || m->bytes[v].step > 0;
}

/* A model of bytes runs evaluation alone, and only with what quantize found. */
rc_status
rc_int8_allows(const rc_model *m, const rc_plan_spec *spec, rc_error *err)
{
    if (m->compute != RC_U8 || spec->exact) {
        return RC_OK;
    }
    if (spec->kind == RC_PLAN_TRAIN || spec->kind == RC_PLAN_LOSS) {
        return rc_fail(err, RC_ARGUMENT,
                       "precision 'int8' is for inference alone: train in 'float32' or 'bfloat16', "
                       "then call quantize(images)");
    }
    if (spec->kind == RC_PLAN_EVAL && !m->bytes) {
        return rc_fail(err, RC_ARGUMENT,
                       "precision 'int8' needs to know the ranges of values first: call "
                       "quantize(images) with some of the images it is for");
    }
    return RC_OK;
}

bool
rc_int8_takes(const rc_model *m, const rc_plan *p, const rc_unit *u)
{
    const rc_node *node = &u->node;
    if (p->spec.kind != RC_PLAN_EVAL || !m->bytes || !m->in_bytes[node->out]
        || !stored(m, node->in[0]) || !stored(m, node->out)) {
        return false;
    }
    if (node->op == RC_OP_max_pool2d) {
        return true; /* quantize.c gave input and output the same bytes */
    }
    return node->op == RC_OP_conv2d && stored(m, node->n_in > 3 ? node->in[3] : RC_NONE);
}

/* ---- steps -------------------------------------------------------------------------------------- */

void
rc_int8_conv_call(const rc_call *call)
{
    const rc_conv_step *s = call->extra;
    const float *scale = (const float *)call->x[1] + s->packed;
    float unit = s->to_float ? 1 : s->y.step;
    rc_int8_epilogue e = {
        .scale = scale,
        .bias = scale + s->shape.k,
        .residual = call->n_in > 3 ? call->x[3] : NULL,
        .residual_scale = s->residual.step / unit,
        .act = (rc_act)call->attrs->act,
        .slope = (float)call->attrs->slope,
        .to_float = s->to_float,
        .zero = (float)s->y.zero,
    };
    rc_int8_conv_args args = {
        .x = call->x[0],
        .zero = (uint8_t)s->x.zero,
        .packed = call->x[1],
        .e = &e,
        .y = call->y,
        .scratch = call->tmp,
        .threads = call->threads,
    };
    rc_int8_conv_run(rc_isa_get(), &s->shape, &args);
}

rc_conv_step
rc_int8_conv(const rc_model *m, const rc_plan *p, const rc_unit *u, bool to_float)
{
    const rc_node *node = &u->node;
    rc_shape xs[2] = {p->shapes[node->in[0]], p->shapes[node->in[1]]};
    rc_conv_step conv = {
        .shape = rc_conv_shape_of(&node->attrs, xs, &p->shapes[node->out]),
        .folded = u->folded,
        .norm_eps = u->norm_eps,
        .in_bytes = true,
        .to_float = to_float,
        .x = m->bytes[node->in[0]],
    };
    if (node->n_in > 3 && node->in[3] != RC_NONE) {
        conv.residual = m->bytes[node->in[3]];
    }
    if (!to_float) {
        conv.y = m->bytes[node->out];
    }
    int64_t floats = (rc_int8_conv_packed_size(rc_isa_get(), &conv.shape) + 3) / 4;
    conv.packed = rc_whole_lines(floats);
    return conv;
}

rc_status
rc_int8_conv_step(rc_model *m, rc_plan *p, rc_step *step, rc_error *err)
{
    const rc_unit *u = &p->units[step->unit];
    step->run = rc_int8_conv_call;
    step->conv = rc_int8_conv(m, p, u, p->forward[step->unit].y == RC_REAL);
    step->kernel = rc_int8_conv_name(rc_isa_get(), &step->conv.shape);
    int32_t packed = rc_packed_for(m, u, &step->conv);
    if (packed < 0) {
        return rc_fail(err, RC_MEMORY, "out of memory for packed weights");
    }
    step->x[1] = (rc_ref){RC_REF_PACKED, packed};
    int64_t scratch = rc_int8_conv_scratch_size(rc_isa_get(), &step->conv.shape, m->info.threads);
    RC_TRY(rc_plan_scratch(p, step, scratch, err));
    return rc_plan_add_step(p, step, err);
}

/* ---- weights ------------------------------------------------------------------------------------ */

int64_t
rc_int8_packed_floats(const rc_conv_step *s)
{
    return s->packed + 4 * s->shape.k; /* scale, bias, factor, sums */
}

static float
largest(const float *w, int64_t count)
{
    float most = 0;
    for (int64_t i = 0; i < count; i++) {
        most = fabsf(w[i]) > most ? fabsf(w[i]) : most;
    }
    return most;
}

/* scale and bias take a sum of products of bytes to the output's unit: what the zeros of input,
 * residual and output add to it is a constant of each channel. */
void
rc_int8_packed_make(const rc_model *m, const rc_packed *packed, const rc_fold *fold)
{
    const rc_conv_step *s = &packed->conv;
    const float *w = m->data[m->graph->values[packed->weight].index];
    int64_t k = s->shape.k, each = s->shape.c * s->shape.kh * s->shape.kw;
    float *scale = packed->data + s->packed, *bias = scale + k, *factor = bias + k;
    int32_t *sums = (int32_t *)(void *)(factor + k);
    double unit = s->to_float ? 1 : s->y.step, zero = s->to_float ? 0 : s->y.zero;
    for (int64_t i = 0; i < k; i++) {
        double norm, shift;
        rc_fold_channel(fold, i, &norm, &shift);
        double most = largest(w + i * each, each);
        factor[i] = most > 0 ? (float)(127 / most) * (norm < 0 ? -1.0f : 1.0f) : 0;
        scale[i] = (float)(s->x.step * (most * fabs(norm) / 127) / unit);
        bias[i] = (float)((shift - (double)s->residual.step * s->residual.zero) / unit);
    }
    rc_int8_conv_pack(rc_isa_get(), &s->shape, w, factor, (int8_t *)(void *)packed->data, sums,
                      m->info.threads);
    for (int64_t i = 0; i < k; i++) {
        bias[i] = (float)(bias[i] + zero - (double)scale[i] * s->x.zero * sums[i]);
    }
}
