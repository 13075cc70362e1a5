/* The kernel of every step: convolutions from the lists of cpu/cpu.h (with a packing step before
 * them), other operations from cpu/fast.h, and the plain C of csrc/ops where nothing else takes
 * the shape, in double models, or with REIDC_REF=1. */
#include <stdlib.h>
#include <string.h>

#include "plan/device.h"

bool
rc_reference_only(void)
{
    const char *wish = getenv("REIDC_REF");
    return wish && !strcmp(wish, "1");
}

const rc_conv_kernel *
rc_select_conv(const rc_conv_kernel *const *list, const rc_conv_shape *s)
{
    return rc_reference_only() ? NULL : rc_conv_choose(list, s);
}

rc_conv_shape
rc_conv_shape_of(const rc_attrs *a, const rc_shape *xs, const rc_shape *y)
{
    return (rc_conv_shape){
        .n = xs[0].d[0], .c = xs[0].d[1], .h = xs[0].d[2], .w = xs[0].d[3],
        .k = y->d[1], .oh = y->d[2], .ow = y->d[3],
        .kh = (int32_t)xs[1].d[2], .kw = (int32_t)xs[1].d[3],
        .stride = (int32_t)a->stride, .pad = (int32_t)a->pad, .groups = (int32_t)a->groups,
    };
}

rc_status
rc_plan_add_step(rc_plan *p, const rc_step *step, rc_error *err)
{
    if (p->n_steps == p->cap_steps) {
        int32_t wanted = p->cap_steps ? 2 * p->cap_steps : 256;
        rc_step *bigger = rc_alloc(wanted, sizeof *bigger);
        if (!bigger) {
            return rc_fail(err, RC_MEMORY, "out of memory while planning");
        }
        if (p->n_steps) {
            memcpy(bigger, p->steps, (size_t)p->n_steps * sizeof *bigger);
        }
        rc_free(p->steps);
        p->steps = bigger;
        p->cap_steps = wanted;
    }
    p->steps[p->n_steps++] = *step;
    return RC_OK;
}

rc_status
rc_plan_scratch(rc_plan *p, rc_step *step, int64_t bytes, rc_error *err)
{
    if (bytes > 0) {
        int32_t buffer = rc_plan_buffer(p, bytes, p->n_steps);
        if (buffer < 0) {
            return rc_fail(err, RC_MEMORY, "out of memory while planning");
        }
        step->tmp = (rc_ref){RC_REF_BUFFER, buffer};
    }
    return RC_OK;
}

/* ---- convolution steps ------------------------------------------------------------------ */

static void
conv_pack(const rc_call *call)
{
    const rc_conv_step *s = call->extra;
    s->kernel->pack(&s->shape, call->x[1], NULL, call->y, call->threads);
}

static void
conv_forward(const rc_call *call)
{
    const rc_conv_step *s = call->extra;
    const float *weights = call->x[1];
    rc_epilogue e = {
        .bias = s->folded ? weights + s->packed : call->x[2],
        .residual = call->n_in > 3 ? call->x[3] : NULL,
        .act = (rc_act)call->attrs->act,
        .slope = (float)call->attrs->slope,
    };
    s->kernel->run(&s->shape, call->x[0], weights, &e, false, call->y, call->tmp, call->threads);
}

static void
conv_backward_x(const rc_call *call)
{
    const rc_conv_step *s = call->extra;
    s->kernel->run(&s->shape, call->dy, call->x[1], NULL, call->add[0], call->dx[0], call->tmp,
                   call->threads);
}

static void
conv_backward_w(const rc_call *call)
{
    const rc_conv_step *s = call->extra;
    s->kernel->run(&s->shape, call->dy, call->x[0], NULL, call->add[1], call->dx[1], call->tmp,
                   call->threads);
}

static void
conv_backward_bias(const rc_call *call)
{
    const rc_conv_step *s = call->extra;
    rc_column_sums(call->dy, s->element, call->ys.d[0] * call->ys.d[2] * call->ys.d[3],
                   call->ys.d[1], call->add[2], call->dx[2], call->tmp, call->threads);
}

int64_t
rc_packed_floats(const rc_packed *packed)
{
    if (packed->conv.in_bytes) {
        return rc_int8_packed_floats(&packed->conv);
    }
    return packed->conv.packed + (packed->conv.folded ? 2 * packed->conv.shape.k : 0);
}

void
rc_fold_channel(const rc_fold *fold, int64_t k, double *norm, double *shift)
{
    double bias = fold->bias ? fold->bias[k] : 0.0;
    *norm = 1;
    *shift = bias;
    if (fold->norm[0]) {
        *norm = fold->norm[0][k] / __builtin_sqrt((double)fold->norm[3][k] + fold->eps);
        *shift = fold->norm[1][k] + (bias - fold->norm[2][k]) * *norm;
    }
}

/* Scale and shift of the folded batch norm, then the packing with that scale; the shifted bias
 * goes behind the packed weights. */
void
rc_packed_make(const rc_model *m, rc_packed *packed)
{
    const rc_conv_step *s = &packed->conv;
    const rc_graph *g = m->graph;
    const float *w = m->data[g->values[packed->weight].index];
    rc_fold fold = {.eps = packed->norm_eps};
    for (int i = 0; s->folded && i < 4; i++) {
        fold.norm[i] = m->data[g->values[packed->norm[i]].index];
    }
    if (packed->bias != RC_NONE) {
        fold.bias = m->data[g->values[packed->bias].index];
    }
    if (s->in_bytes) {
        rc_int8_packed_make(m, packed, &fold);
        return;
    }
    if (!s->folded) {
        s->kernel->pack(&s->shape, w, NULL, packed->data, m->info.threads);
        return;
    }
    float *shift = packed->data + s->packed, *scale = shift + s->shape.k;
    for (int64_t k = 0; k < s->shape.k; k++) {
        double f, moved;
        rc_fold_channel(&fold, k, &f, &moved);
        scale[k] = (float)f;
        shift[k] = (float)moved;
    }
    s->kernel->pack(&s->shape, w, scale, packed->data, m->info.threads);
}

int32_t
rc_packed_add(rc_model *m, const rc_packed *packed)
{
    if (m->n_packed == m->cap_packed) {
        int32_t wanted = m->cap_packed ? 2 * m->cap_packed : 64;
        rc_packed *bigger = rc_alloc(wanted, sizeof *bigger);
        if (!bigger) {
            return -1;
        }
        if (m->n_packed) {
            memcpy(bigger, m->packed, (size_t)m->n_packed * sizeof *bigger);
        }
        rc_free(m->packed);
        m->packed = bigger;
        m->cap_packed = wanted;
    }
    m->packed[m->n_packed] = *packed;
    return m->n_packed++;
}

static bool
same_bytes(const rc_conv_step *a, const rc_conv_step *b)
{
    return a->in_bytes == b->in_bytes && a->to_float == b->to_float
           && !memcmp(&a->x, &b->x, sizeof a->x) && !memcmp(&a->y, &b->y, sizeof a->y)
           && !memcmp(&a->residual, &b->residual, sizeof a->residual);
}

int32_t
rc_packed_for(rc_model *m, const rc_unit *u, const rc_conv_step *conv)
{
    for (int32_t i = 0; i < m->n_packed; i++) {
        const rc_packed *q = &m->packed[i];
        if (q->weight == u->node.in[1] && q->conv.kernel == conv->kernel
            && q->conv.packed == conv->packed && q->conv.folded == conv->folded
            && same_bytes(&q->conv, conv)) {
            return i;
        }
    }
    rc_packed q = {.weight = u->node.in[1],
                   .bias = u->node.n_in > 2 ? u->node.in[2] : RC_NONE,
                   .norm_eps = u->norm_eps,
                   .conv = *conv,
                   .version = UINT64_MAX};
    memcpy(q.norm, u->norm, sizeof q.norm);
    return rc_packed_add(m, &q);
}

static rc_status
pack_step(rc_plan *p, rc_step *step, rc_ref weight, rc_error *err)
{
    if (!step->conv.packed) {
        return RC_OK;
    }
    rc_step pack = *step;
    pack.pass = RC_PASS_PACK;
    pack.run = conv_pack;
    pack.kernel = "pack";
    memset(pack.x, 0, sizeof pack.x);
    memset(pack.dx, 0, sizeof pack.dx);
    pack.dy = pack.ws = pack.tmp = (rc_ref){0};
    pack.x[1] = weight;
    int32_t buffer = rc_plan_buffer(p, step->conv.packed * (int64_t)sizeof(float), p->n_steps);
    if (buffer < 0) {
        return rc_fail(err, RC_MEMORY, "out of memory while planning");
    }
    pack.y = step->x[1] = (rc_ref){RC_REF_BUFFER, buffer};
    return rc_plan_add_step(p, &pack, err);
}

static rc_status
conv_forward_step(rc_model *m, rc_plan *p, rc_step *step, const rc_conv_kernel *kernel,
                  rc_error *err)
{
    const rc_unit *u = &p->units[step->unit];
    step->run = conv_forward;
    step->kernel = kernel->name;
    step->conv = (rc_conv_step){
        .kernel = kernel,
        .shape = rc_conv_shape_of(&u->node.attrs, step->call.xs, &step->call.ys),
        .folded = u->folded,
        .norm_eps = u->norm_eps,
    };
    step->conv.packed = kernel->packed_size(&step->conv.shape);
    if (rc_plan_forward_only(p) && step->conv.packed) {
        int32_t packed = rc_packed_for(m, u, &step->conv);
        if (packed < 0) {
            return rc_fail(err, RC_MEMORY, "out of memory for packed weights");
        }
        step->x[1] = (rc_ref){RC_REF_PACKED, packed};
    } else {
        RC_TRY(pack_step(p, step, step->x[1], err));
    }
    int64_t scratch = kernel->scratch_size(&step->conv.shape, m->info.threads);
    RC_TRY(rc_plan_scratch(p, step, scratch * (int64_t)sizeof(float), err));
    return rc_plan_add_step(p, step, err);
}

rc_status
rc_select_forward(rc_model *m, rc_plan *p, rc_step step, rc_error *err)
{
    const rc_unit *u = &p->units[step.unit];
    const rc_op *op = rc_op_table[u->node.op];
    const bool is_double = m->real_size == sizeof(double);
    const rc_attrs *a = &u->node.attrs;
    if (m->on) {
        return rc_device_forward_step(m, p, step, err);
    }
    step.run = op->forward[is_double];
    step.kernel = "reference";
    if (u->node.op == RC_OP_conv2d && p->forward[step.unit].kernel == RC_U8) {
        return rc_int8_conv_step(m, p, &step, err);
    }
    if (!is_double && u->node.op == RC_OP_conv2d) {
        rc_conv_shape shape = rc_conv_shape_of(a, step.call.xs, &step.call.ys);
        const rc_conv_kernel *kernel =
            rc_select_conv(rc_conv_fwd_kernels(p->forward[step.unit].kernel), &shape);
        if (kernel) {
            return conv_forward_step(m, p, &step, kernel, err);
        }
    } else if (!is_double && !rc_reference_only()) {
        const rc_fast_kernel *fast =
            rc_fast_find(p->forward[step.unit].kernel, u->node.op, a, u->node.n_in, step.call.xs,
                         &step.call.ys);
        if (fast && fast->forward) {
            step.run = fast->forward;
            step.kernel = fast->name;
            int64_t bytes = fast->tmp_size ? fast->tmp_size(a, step.call.xs, &step.call.ys, false,
                                                            m->info.threads) : 0;
            RC_TRY(rc_plan_scratch(p, &step, bytes, err));
            return rc_plan_add_step(p, &step, err);
        }
    }
    int64_t bytes = op->tmp_size ? op->tmp_size(a, step.call.xs, &step.call.ys, m->real_size,
                                                false, m->info.threads) : 0;
    RC_TRY(rc_plan_scratch(p, &step, bytes, err));
    return rc_plan_add_step(p, &step, err);
}

/* ---- backward ------------------------------------------------------------------------------- */

static rc_status
reference_backward(rc_model *m, rc_plan *p, rc_step step, rc_error *err)
{
    const rc_unit *u = &p->units[step.unit];
    const rc_op *op = rc_op_table[u->node.op];
    step.run = op->backward[m->real_size == sizeof(double)];
    step.kernel = "reference";
    int64_t bytes = op->tmp_size ? op->tmp_size(&u->node.attrs, step.call.xs, &step.call.ys,
                                                m->real_size, true, m->info.threads) : 0;
    RC_TRY(rc_plan_scratch(p, &step, bytes, err));
    return rc_plan_add_step(p, &step, err);
}

rc_step
rc_step_for_input(const rc_step *step, int k)
{
    rc_step part = *step;
    for (int i = 0; i < RC_MAX_IN; i++) {
        if (i != k) {
            part.dx[i] = (rc_ref){0};
        }
    }
    return part;
}

static rc_status
conv_backward_part(rc_model *m, rc_plan *p, const rc_step *whole, int k, rc_error *err)
{
    const rc_unit *u = &p->units[whole->unit];
    rc_step part = rc_step_for_input(whole, k);
    part.conv.shape = rc_conv_shape_of(&u->node.attrs, whole->call.xs, &whole->call.ys);
    if (k == 2) {
        part.run = conv_backward_bias;
        part.conv.element = p->backward[whole->unit].y;
        part.kernel = "rc_column_sums";
        int64_t rows = part.conv.shape.n * part.conv.shape.oh * part.conv.shape.ow;
        int64_t bytes = rc_column_sums_scratch(rows, part.conv.shape.k) * (int64_t)sizeof(float);
        RC_TRY(rc_plan_scratch(p, &part, bytes, err));
        return rc_plan_add_step(p, &part, err);
    }
    rc_element element = p->backward[whole->unit].kernel;
    const rc_conv_kernel *kernel = rc_select_conv(
        k == 0 ? rc_conv_bwd_x_kernels(element) : rc_conv_bwd_w_kernels(element),
        &part.conv.shape);
    if (!kernel) {
        return reference_backward(m, p, part, err);
    }
    part.conv.kernel = kernel;
    part.kernel = kernel->name;
    part.run = k == 0 ? conv_backward_x : conv_backward_w;
    if (k == 0) {
        part.conv.packed = kernel->packed_size(&part.conv.shape);
        part.x[0] = (rc_ref){0};
        RC_TRY(pack_step(p, &part, part.x[1], err));
    } else {
        part.x[1] = (rc_ref){0};
    }
    int64_t scratch = kernel->scratch_size(&part.conv.shape, m->info.threads);
    RC_TRY(rc_plan_scratch(p, &part, scratch * (int64_t)sizeof(float), err));
    return rc_plan_add_step(p, &part, err);
}

rc_status
rc_select_backward(rc_model *m, rc_plan *p, rc_step step, rc_error *err)
{
    const rc_unit *u = &p->units[step.unit];
    const rc_attrs *a = &u->node.attrs;
    if (m->on) {
        return rc_device_backward_step(m, p, step, err);
    }
    if (m->real_size == sizeof(double) || rc_reference_only()) {
        return reference_backward(m, p, step, err);
    }
    if (u->node.op == RC_OP_conv2d) {
        static const int order[3] = {1, 2, 0}; /* weights first: dx may then take dy's place */
        for (int i = 0; i < 3; i++) {
            if (step.dx[order[i]].kind != RC_REF_NONE) {
                RC_TRY(conv_backward_part(m, p, &step, order[i], err));
            }
        }
        return RC_OK;
    }
    const rc_fast_kernel *fast =
        rc_fast_find(p->backward[step.unit].kernel, u->node.op, a, u->node.n_in, step.call.xs,
                     &step.call.ys);
    if (!fast || !fast->backward) {
        return reference_backward(m, p, step, err);
    }
    step.run = fast->backward;
    step.kernel = fast->name;
    int64_t bytes = fast->tmp_size ? fast->tmp_size(a, step.call.xs, &step.call.ys, true,
                                                    m->info.threads) : 0;
    RC_TRY(rc_plan_scratch(p, &step, bytes, err));
    return rc_plan_add_step(p, &step, err);
}

/* ---- beside forward and backward ------------------------------------------------------------ */

rc_status
rc_select_cast(rc_model *m, rc_plan *p, rc_step step, rc_error *err)
{
    return m->on ? rc_device_cast_step(m, p, step, err) : rc_plan_add_step(p, &step, err);
}

static void
write_one_f32(const rc_call *call)
{
    *(float *)call->y = 1;
}

static void
write_one_f64(const rc_call *call)
{
    *(double *)call->y = 1;
}

static void
write_zeros_f32(const rc_call *call)
{
    memset(call->y, 0, (size_t)rc_shape_count(&call->ys) * sizeof(float));
}

static void
write_zeros_f64(const rc_call *call)
{
    memset(call->y, 0, (size_t)rc_shape_count(&call->ys) * sizeof(double));
}

static rc_status
select_fill(rc_model *m, rc_plan *p, int32_t buffer, rc_shape shape, bool one, rc_error *err)
{
    static const rc_kernel fill[2][2] = {{write_zeros_f32, write_zeros_f64},
                                         {write_one_f32, write_one_f64}};
    rc_step step = {.pass = RC_PASS_SEED, .unit = -1, .kernel = one ? "one" : "zero",
                    .run = fill[one][m->real_size == sizeof(double)],
                    .y = {RC_REF_BUFFER, buffer}, .call.ys = shape};
    return m->on ? rc_device_fill_step(m, p, step, one, err) : rc_plan_add_step(p, &step, err);
}

rc_status
rc_select_one(rc_model *m, rc_plan *p, int32_t buffer, rc_shape shape, rc_error *err)
{
    return select_fill(m, p, buffer, shape, true, err);
}

rc_status
rc_select_zeros(rc_model *m, rc_plan *p, int32_t buffer, rc_shape shape, rc_error *err)
{
    return select_fill(m, p, buffer, shape, false, err);
}

rc_status
rc_select_commit(rc_model *m, rc_plan *p, rc_step step, rc_error *err)
{
    step.run = rc_op_table[p->units[step.unit].node.op]->commit[m->real_size == sizeof(double)];
    step.kernel = "statistics";
    return m->on ? rc_device_commit_step(m, p, step, err) : rc_plan_add_step(p, &step, err);
}
