/* Of which element every value is, and what every kernel takes and gives.
 *
 * A plan of a model whose `compute` is RC_BF16 takes, for every unit and pass, the kernel of that
 * element where there is one; it reads and writes feature maps and sequences (rank 3 and more) as
 * bf16. Everything else is REAL: vectors (rank 1 and 2), what users see, states and statistics,
 * losses. A value's home is bf16 if its producer writes that or a reader wants it; lower.c puts a
 * cast before a kernel that takes another element than a value's home, and one after a kernel that
 * gives another; readers share a copy. Gradients are of the element of their value.
 *
 * Explanations (LOOK, EXPLAIN), REIDC_REF=1 and float64 models are REAL from end to end: there the
 * exact value matters and speed does not.
 *
 * A plan of a model that computes in bytes (RC_U8, evaluation alone) takes them where m->quantize
 * says so (int8.c); a convolution whose result nobody reads as bytes writes REAL at once.
 *
 * On a device a kernel takes all it is given as one element but states and integers: units with a
 * map among their values take vectors as bf16, too.
 *
 * Another element: a line in base/element.h with its size, kernels whose `element` it is (in the
 * lists of cpu/dispatch.c or cpu/fast_table.c), casts in rc_cast_step below, and its rule here: for
 * which units (`has_kernel`), and which of their inputs (`signature_of`). Nothing else of the
 * planner asks what an element is. */
#include "plan/device.h"

#include "cpu/cast.h"

static bool
has_kernel(const rc_model *m, rc_element element, const rc_plan *p, const rc_unit *u,
           const rc_shape *xs, bool backward)
{
    const rc_shape *y = &p->shapes[u->node.out];
    if (element == RC_U8) {
        return !backward && rc_int8_takes(m, p, u);
    }
    if (u->node.op == RC_OP_conv2d) {
        rc_conv_shape s = rc_conv_shape_of(&u->node.attrs, xs, y);
        return backward ? rc_select_conv(rc_conv_bwd_x_kernels(element), &s)
                              && rc_select_conv(rc_conv_bwd_w_kernels(element), &s)
                        : rc_select_conv(rc_conv_fwd_kernels(element), &s) != NULL;
    }
    const rc_fast_kernel *fast =
        rc_fast_find(element, u->node.op, &u->node.attrs, u->node.n_in, xs, y);
    return fast && (backward ? fast->backward : fast->forward);
}

static rc_element
plain_element(const rc_graph *g, rc_value v)
{
    return v != RC_NONE && g->values[v].is_int ? RC_INT64 : RC_REAL;
}

static bool
is_map(const rc_graph *g, const rc_plan *p, rc_value v)
{
    return v != RC_NONE && !g->values[v].is_int && g->values[v].kind != RC_VALUE_STATE
           && p->shapes[v].rank >= 3;
}

/* On a device. */
static rc_signature
signature_there(const rc_model *m, const rc_unit *u)
{
    const rc_graph *g = m->graph;
    rc_signature s = {.kernel = m->compute};
    for (int k = 0; k < u->node.n_in; k++) {
        rc_value v = u->node.in[k];
        bool state = v != RC_NONE && g->values[v].kind == RC_VALUE_STATE;
        s.x[k] = state || plain_element(g, v) != RC_REAL ? plain_element(g, v) : m->compute;
    }
    s.y = plain_element(g, u->node.out) != RC_REAL ? RC_INT64 : m->compute;
    return s;
}

static bool
has_map(const rc_graph *g, const rc_plan *p, const rc_unit *u)
{
    bool found = is_map(g, p, u->node.out);
    for (int k = 0; k < u->node.n_in; k++) {
        found |= is_map(g, p, u->node.in[k]);
    }
    return found;
}

static rc_signature
signature_of(const rc_model *m, const rc_plan *p, const rc_unit *u, bool backward)
{
    const rc_graph *g = m->graph;
    rc_signature s = {.kernel = RC_REAL};
    rc_shape xs[RC_MAX_IN] = {{0}};
    for (int k = 0; k < u->node.n_in; k++) {
        s.x[k] = plain_element(g, u->node.in[k]);
        xs[k] = u->node.in[k] == RC_NONE ? xs[k] : p->shapes[u->node.in[k]];
    }
    s.y = plain_element(g, u->node.out);
    bool plain = m->compute == RC_REAL || p->spec.exact || p->spec.kind == RC_PLAN_LOOK
                 || p->spec.kind == RC_PLAN_EXPLAIN || rc_reference_only();
    if (!plain && m->on) {
        return has_map(g, p, u) && m->on->api->takes(u->node.op, m->compute)
                   ? signature_there(m, u) : s;
    }
    if (plain || !has_kernel(m, m->compute, p, u, xs, backward)) {
        return s;
    }
    s.kernel = m->compute;
    for (int k = 0; k < u->node.n_in; k++) {
        s.x[k] = is_map(g, p, u->node.in[k]) ? m->compute : s.x[k];
    }
    s.y = is_map(g, p, u->node.out) ? m->compute : s.y;
    return s;
}

static bool
users_see(const rc_graph *g, rc_value v)
{
    for (int32_t i = 0; i < g->n_outputs; i++) {
        if (g->outputs[i].value == v) {
            return true;
        }
    }
    return false;
}

bool
rc_unit_passes_on(const rc_graph *g, const rc_plan *p, const rc_unit *u)
{
    bool same = u->node.op == RC_OP_view || u->node.op == RC_OP_stop_gradient
                || (!rc_plan_trains(p)
                    && (u->node.op == RC_OP_dropout || u->node.op == RC_OP_drop_block
                        || u->node.op == RC_OP_batch_drop_block));
    return same && g->values[u->node.in[0]].kind == RC_VALUE_COMPUTED;
}

/* wanted: per value, whether a reader takes it as the model's element. */
static void
choose_homes(const rc_model *m, rc_plan *p, bool *wanted)
{
    const rc_graph *g = m->graph;
    for (int32_t u = p->n_units - 1; u >= 0; u--) {
        const rc_node *node = &p->units[u].node;
        for (int k = 0; k < node->n_in; k++) {
            if (is_map(g, p, node->in[k])) { /* vectors stay what their producer gives */
                wanted[node->in[k]] |= p->forward[u].x[k] != RC_REAL
                                       || p->backward[u].x[k] != RC_REAL;
            }
        }
        if (rc_unit_passes_on(g, p, &p->units[u]) && is_map(g, p, node->in[0])) {
            wanted[node->in[0]] |= wanted[node->out];
        }
    }
    for (rc_value v = 0; v < g->n_values; v++) {
        p->elements[v] = plain_element(g, v);
    }
    for (int32_t u = 0; u < p->n_units; u++) {
        const rc_node *node = &p->units[u].node;
        rc_element *home = &p->elements[node->out];
        if (g->values[node->out].is_int || users_see(g, node->out)) {
            if (p->forward[u].y == RC_U8) {
                p->forward[u].y = node->op == RC_OP_conv2d ? RC_REAL : RC_U8;
            }
            continue;
        }
        if (rc_unit_passes_on(g, p, &p->units[u])) {
            *home = p->elements[node->in[0]];
        } else if (m->compute == RC_U8 && node->op == RC_OP_conv2d && !wanted[node->out]) {
            p->forward[u].y = RC_REAL;
        } else {
            *home = wanted[node->out] ? m->compute : p->forward[u].y;
        }
    }
}

rc_status
rc_plan_types(const rc_model *m, rc_plan *p, rc_error *err)
{
    const int32_t n = m->graph->n_values;
    bool *wanted = rc_alloc_zero(n, sizeof *wanted);
    p->elements = rc_alloc_zero(n, sizeof *p->elements);
    p->forward = rc_alloc_zero(p->n_units, sizeof *p->forward);
    p->backward = rc_alloc_zero(p->n_units, sizeof *p->backward);
    p->copies = rc_alloc((int64_t)n * RC_ELEMENTS, sizeof *p->copies);
    if (!wanted || !p->elements || !p->forward || !p->backward || !p->copies) {
        rc_free(wanted);
        return rc_fail(err, RC_MEMORY, "out of memory while planning");
    }
    for (int32_t u = 0; u < p->n_units; u++) {
        p->forward[u] = signature_of(m, p, &p->units[u], false);
        p->backward[u] = rc_plan_trains(p) ? signature_of(m, p, &p->units[u], true)
                                           : p->forward[u];
    }
    choose_homes(m, p, wanted);
    rc_free(wanted);
    return RC_OK;
}

rc_step
rc_cast_step(const rc_model *m, const rc_plan *p, rc_value v, rc_ref x, rc_element to, rc_ref y,
             bool add)
{
    const rc_cast_kernels *casts = rc_cast_get();
    rc_step step = {.pass = RC_PASS_CAST, .unit = -1, .value = v, .element = to};
    step.run = to == RC_BF16 ? casts->to_bf16 : casts->to_real;
    step.kernel = to == RC_BF16 ? casts->to_bf16_name : casts->to_real_name;
    if (m->compute == RC_U8) {
        const rc_cast_bytes *bytes = rc_cast_bytes_get();
        step.run = to == RC_U8 ? bytes->to : bytes->from;
        step.kernel = to == RC_U8 ? bytes->to_name : bytes->from_name;
        step.bytes = m->bytes[v];
    }
    step.x[0] = x;
    step.y = y;
    step.call = (rc_call){.n_in = 1, .xs = &p->shapes[v], .ys = p->shapes[v],
                          .threads = m->info.threads};
    step.call.add[0] = add;
    return step;
}
