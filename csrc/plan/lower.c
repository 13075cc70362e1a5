/* From units to steps: forward, and backward derived from it.
 *
 * Gradients with several sources: the first writer assigns, the others add. What backward reads
 * and may be computed again (needs.c): its buffer dies in forward, and the step is repeated just
 * before its first reader in backward. */
#include <string.h>

#include "plan/lower.h"

int32_t
rc_plan_buffer(rc_plan *p, int64_t bytes, int32_t first)
{
    if (p->n_buffers == p->cap_buffers) {
        int32_t wanted = p->cap_buffers ? 2 * p->cap_buffers : 256;
        rc_buffer *bigger = rc_alloc(wanted, sizeof *bigger);
        if (!bigger) {
            return -1;
        }
        if (p->n_buffers) {
            memcpy(bigger, p->buffers, (size_t)p->n_buffers * sizeof *bigger);
        }
        rc_free(p->buffers);
        p->buffers = bigger;
        p->cap_buffers = wanted;
    }
    p->buffers[p->n_buffers] = (rc_buffer){bytes, 0, first, first, -1};
    return p->n_buffers++;
}

static int64_t
bytes_as(const rc_facts *f, rc_value v, rc_element element)
{
    return rc_shape_count(&f->p->shapes[v])
           * (int64_t)rc_element_size(element, f->m->real_size);
}

int64_t
rc_value_bytes(const rc_facts *f, rc_value v)
{
    return bytes_as(f, v, f->p->elements[v]);
}

/* ---- steps ----------------------------------------------------------------------------------- */

rc_ref
rc_data_ref(const rc_facts *f, rc_value v)
{
    const rc_value_info *info = &f->m->graph->values[v];
    if (info->kind == RC_VALUE_STATE) {
        return (rc_ref){RC_REF_STATE, info->index};
    }
    return (rc_ref){RC_REF_BUFFER, f->p->value_buffer[v]};
}

rc_step
rc_lower_step(const rc_facts *f, int32_t u, rc_pass pass)
{
    const rc_unit *unit = &f->p->units[u];
    rc_step step = {.pass = pass, .unit = u, .ws = f->ws[u]};
    step.call = (rc_call){.attrs = &unit->node.attrs,
                          .n_in = unit->node.n_in,
                          .node = unit->index,
                          .xs = rc_unit_shapes(f->p, u),
                          .ys = f->p->shapes[unit->node.out],
                          .training = rc_unit_trains(f, u),
                          .again = pass == RC_PASS_AGAIN,
                          .threads = f->m->info.threads,
                          .seed = &f->m->seed,
                          .step = &f->m->current_step};
    return step;
}

rc_status
rc_planning_failed(rc_error *err)
{
    return rc_fail(err, RC_MEMORY, "out of memory while planning");
}

rc_status
rc_lower_buffer(rc_plan *p, int64_t bytes, int32_t *out, rc_error *err)
{
    *out = rc_plan_buffer(p, bytes < 1 ? 1 : bytes, p->n_steps);
    return *out < 0 ? rc_planning_failed(err) : RC_OK;
}

/* ---- elements: copies of values as a kernel takes them --------------------------------------- */

static int32_t *
copy_of(const rc_facts *f, rc_value v, rc_element element)
{
    return &f->p->copies[(int64_t)element * f->m->graph->n_values + v];
}

static void
forget_copies(const rc_facts *f)
{
    memset(f->p->copies, 0xff,
           (size_t)f->m->graph->n_values * RC_ELEMENTS * sizeof *f->p->copies);
}

static rc_status
add_cast(rc_facts *f, rc_value v, rc_ref x, rc_element to, rc_ref y, bool add, rc_error *err)
{
    rc_step step = rc_cast_step(f->m, f->p, v, x, to, y, add);
    return rc_select_cast(f->m, f->p, step, err);
}

/* A new buffer for what is at x, like value v, as another element. */
static rc_status
cast_to(rc_facts *f, rc_value v, rc_ref x, rc_element to, int32_t *buffer, rc_error *err)
{
    RC_TRY(rc_lower_buffer(f->p, bytes_as(f, v, to), buffer, err));
    return add_cast(f, v, x, to, (rc_ref){RC_REF_BUFFER, *buffer}, false, err);
}

/* Where v's data is as this element; cast before, unless another reader has asked already. */
static rc_status
data_as(rc_facts *f, rc_value v, rc_element element, rc_ref *ref, rc_error *err)
{
    *ref = rc_data_ref(f, v);
    if (ref->kind != RC_REF_BUFFER || f->p->elements[v] == element) {
        return RC_OK;
    }
    int32_t *copy = copy_of(f, v, element);
    if (*copy < 0) {
        RC_TRY(cast_to(f, v, *ref, element, copy, err));
    }
    ref->index = *copy;
    return RC_OK;
}

static rc_status
lower_forward(rc_facts *f, int32_t u, rc_pass pass, rc_error *err)
{
    rc_plan *p = f->p;
    const rc_unit *unit = &p->units[u];
    const rc_op *op = rc_unit_rules(unit);
    rc_value out = unit->node.out;
    const rc_signature *takes = &p->forward[u];
    if (rc_unit_passes_on(f->m->graph, p, unit)) {
        rc_value in = unit->node.in[0];
        p->value_buffer[out] = p->value_buffer[in];
        if (p->elements[in] != p->elements[out]) {
            *copy_of(f, out, p->elements[in]) = p->value_buffer[in];
            return cast_to(f, out, rc_data_ref(f, in), p->elements[out], &p->value_buffer[out], err);
        }
        return RC_OK;
    }
    rc_step step = rc_lower_step(f, u, pass);
    for (int k = 0; k < unit->node.n_in; k++) {
        if (unit->node.in[k] != RC_NONE) {
            RC_TRY(data_as(f, unit->node.in[k], takes->x[k], &step.x[k], err));
        }
    }
    bool at_home = takes->y == p->elements[out];
    int32_t *y = at_home ? &p->value_buffer[out] : copy_of(f, out, takes->y);
    RC_TRY(rc_lower_buffer(p, bytes_as(f, out, takes->y), y, err));
    step.y = (rc_ref){RC_REF_BUFFER, *y};
    if (pass == RC_PASS_FORWARD && op->ws_size && (rc_plan_trains(p) || f->backward[u])) {
        int64_t bytes = op->ws_size(&unit->node.attrs, rc_unit_shapes(p, u), &p->shapes[out],
                                    f->m->real_size);
        if (bytes > 0) {
            RC_TRY(rc_lower_buffer(p, bytes, &step.ws.index, err));
            step.ws.kind = RC_REF_BUFFER;
            f->ws[u] = step.ws;
        }
    }
    RC_TRY(rc_select_forward(f->m, p, step, err));
    return at_home ? RC_OK
                   : cast_to(f, out, step.y, p->elements[out], &p->value_buffer[out], err);
}

/* ---- data in backward --------------------------------------------------------------------------- */

static rc_status hold_inputs(rc_facts *f, int32_t u, uint32_t reads, rc_error *err);
static void let_go_inputs(rc_facts *f, int32_t u, uint32_t reads, uint32_t forgotten);

/* Make v's data available in backward, for a step to come. */
static rc_status
hold(rc_facts *f, rc_value v, rc_error *err)
{
    if (v == RC_NONE || f->producer[v] < 0) {
        return RC_OK;
    }
    int32_t u = f->producer[v];
    if (f->p->value_buffer[v] < 0) {
        RC_TRY(hold_inputs(f, u, UINT32_MAX, err));
        RC_TRY(lower_forward(f, u, RC_PASS_AGAIN, err));
        let_go_inputs(f, u, UINT32_MAX, f->advice ? f->advice->after_again[u] : 0);
    }
    f->holds[f->root[v]]++;
    return RC_OK;
}

/* The memory of v is for others, unless a step to come holds it; who wants v makes it again. */
static void
forget(rc_facts *f, rc_value v)
{
    int32_t root = f->root[v];
    for (int32_t w = root; w >= 0; w = f->next[w]) {
        if (f->holds[root] || f->seen[w] || f->producer[w] < 0) {
            return;
        }
    }
    for (int32_t w = root; w >= 0; w = f->next[w]) {
        f->p->value_buffer[w] = -1;
        for (int e = 0; e < RC_ELEMENTS; e++) {
            *copy_of(f, w, (rc_element)e) = -1;
        }
    }
}

static void
let_go(rc_facts *f, rc_value v, bool forgotten)
{
    if (v != RC_NONE && f->producer[v] >= 0) {
        f->holds[f->root[v]]--;
        if (forgotten) {
            forget(f, v);
        }
    }
}

static rc_status
hold_inputs(rc_facts *f, int32_t u, uint32_t reads, rc_error *err)
{
    const rc_node *node = &f->p->units[u].node;
    for (int k = 0; k < node->n_in; k++) {
        RC_TRY(reads >> k & 1 ? hold(f, node->in[k], err) : RC_OK);
    }
    return RC_OK;
}

static void
let_go_inputs(rc_facts *f, int32_t u, uint32_t reads, uint32_t forgotten)
{
    const rc_node *node = &f->p->units[u].node;
    for (int k = 0; k < node->n_in; k++) {
        if (reads >> k & 1) {
            let_go(f, node->in[k], forgotten >> k & 1);
        }
    }
}

/* Where the gradient of input k goes, and whether it is added to what is there. Is the kernel's
 * element not the value's, it goes to a place of its own first (gradient_cast). */
static rc_status
gradient_target(rc_facts *f, const rc_unit *unit, int k, rc_element element, rc_step *step,
                rc_error *err)
{
    rc_value v = unit->node.in[k];
    const rc_value_info *info = &f->m->graph->values[v];
    if (info->kind == RC_VALUE_STATE && f->p->spec.in_step) {
        int32_t *own = &f->p->state_gradient[info->index];
        step->call.add[k] = *own >= 0;
        if (*own < 0) {
            RC_TRY(rc_lower_buffer(f->p, rc_value_bytes(f, v), own, err));
        }
        step->dx[k] = (rc_ref){RC_REF_BUFFER, *own};
        return RC_OK;
    }
    if (info->kind == RC_VALUE_STATE) {
        step->dx[k] = (rc_ref){RC_REF_GRADIENT, info->index};
        step->call.add[k] = true;
        return RC_OK;
    }
    int32_t *buffer = &f->p->gradient_buffer[v], own;
    if (element != f->p->elements[v]) {
        RC_TRY(rc_lower_buffer(f->p, bytes_as(f, v, element), &own, err));
        step->dx[k] = (rc_ref){RC_REF_BUFFER, own};
        return RC_OK;
    }
    step->call.add[k] = *buffer >= 0;
    if (*buffer < 0) {
        RC_TRY(rc_lower_buffer(f->p, rc_value_bytes(f, v), buffer, err));
    }
    step->dx[k] = (rc_ref){RC_REF_BUFFER, *buffer};
    return RC_OK;
}

/* After the step: a gradient of another element than its value's, put where it belongs. */
static rc_status
gradient_cast(rc_facts *f, const rc_unit *unit, int k, rc_element element, rc_ref from,
              rc_error *err)
{
    rc_value v = unit->node.in[k];
    rc_plan *p = f->p;
    if (f->m->graph->values[v].kind == RC_VALUE_STATE || element == p->elements[v]) {
        return RC_OK;
    }
    bool add = p->gradient_buffer[v] >= 0;
    if (!add) {
        return cast_to(f, v, from, p->elements[v], &p->gradient_buffer[v], err);
    }
    rc_ref to = {RC_REF_BUFFER, p->gradient_buffer[v]};
    return add_cast(f, v, from, p->elements[v], to, true, err);
}

static rc_status
lower_backward(rc_facts *f, int32_t u, rc_error *err)
{
    rc_plan *p = f->p;
    const rc_unit *unit = &p->units[u];
    uint32_t wanted = rc_wanted_inputs(f, unit);
    uint32_t reads = rc_reads_of(f, u, wanted);
    const rc_signature *takes = &p->backward[u];
    rc_value out = unit->node.out;
    if (unit->node.op == RC_OP_view && p->gradient_buffer[unit->node.in[0]] < 0
        && f->producer[unit->node.in[0]] >= 0
        && p->elements[unit->node.in[0]] == p->elements[out]) {
        p->gradient_buffer[unit->node.in[0]] = p->gradient_buffer[out];
        return RC_OK;
    }
    RC_TRY(hold_inputs(f, u, reads, err));
    if (reads & RC_READS_Y) {
        RC_TRY(hold(f, out, err));
    }
    rc_step step = rc_lower_step(f, u, RC_PASS_BACKWARD);
    for (int k = 0; k < unit->node.n_in; k++) {
        if ((reads >> k & 1) && unit->node.in[k] != RC_NONE) {
            RC_TRY(data_as(f, unit->node.in[k], takes->x[k], &step.x[k], err));
        }
    }
    if (reads & RC_READS_Y) {
        RC_TRY(data_as(f, out, takes->y, &step.y, err));
    }
    step.dy = (rc_ref){RC_REF_BUFFER, p->gradient_buffer[out]};
    if (takes->y != p->elements[out]) {
        RC_TRY(cast_to(f, out, step.dy, takes->y, &step.dy.index, err));
    }
    for (int k = 0; k < unit->node.n_in; k++) {
        if (wanted >> k & 1) {
            RC_TRY(gradient_target(f, unit, k, takes->x[k], &step, err));
        }
    }
    RC_TRY(rc_select_backward(f->m, p, step, err));
    for (int k = 0; k < unit->node.n_in; k++) {
        if (wanted >> k & 1) {
            RC_TRY(gradient_cast(f, unit, k, takes->x[k], step.dx[k], err));
        }
    }
    uint32_t forgotten = f->advice ? f->advice->after_backward[u] : 0;
    let_go_inputs(f, u, reads, forgotten);
    if (reads & RC_READS_Y) {
        let_go(f, out, forgotten & RC_READS_Y);
    }
    return RC_OK;
}

void
rc_find_places(const rc_model *m, const rc_plan *p, int32_t *producer, int32_t *root, int32_t *next)
{
    for (rc_value v = 0; v < m->graph->n_values; v++) {
        producer[v] = next[v] = -1;
        root[v] = v;
    }
    for (int32_t u = 0; u < p->n_units; u++) {
        const rc_node *node = &p->units[u].node;
        producer[node->out] = u;
        if (rc_unit_passes_on(m->graph, p, &p->units[u])
            && p->elements[node->in[0]] == p->elements[node->out]) {
            root[node->out] = root[node->in[0]];
            next[node->out] = next[root[node->out]];
            next[root[node->out]] = node->out;
        }
    }
}

static rc_status
lower(rc_facts *f, rc_error *err)
{
    rc_plan *p = f->p;
    const rc_graph *g = f->m->graph;
    rc_find_places(f->m, p, f->producer, f->root, f->next);
    for (rc_value v = 0; v < g->n_values; v++) {
        p->value_buffer[v] = p->gradient_buffer[v] = -1;
        f->seen[v] = rc_explain_is_map(f->m, &p->spec, v) || rc_explain_is_source(f->m, &p->spec, v);
    }
    for (int32_t i = 0; i < g->n_outputs; i++) {
        f->seen[g->outputs[i].value] = true;
    }
    forget_copies(f);
    for (int32_t i = 0; i < g->n_states; i++) {
        p->state_gradient[i] = -1;
    }
    for (int32_t u = 0; u < p->n_units; u++) {
        const rc_node *node = &p->units[u].node;
        for (int k = 0; k < node->n_in; k++) {
            if (node->in[k] != RC_NONE) {
                p->unit_xs[(int64_t)u * RC_MAX_IN + k] = p->shapes[node->in[k]];
            }
        }
    }
    for (rc_value v = 0; v < g->n_values; v++) { /* inputs of the network, and given planes */
        bool given = g->values[v].kind == RC_VALUE_COMPUTED && f->producer[v] < 0
                     && g->nodes[g->values[v].index].op == RC_OP_planes;
        if (g->values[v].kind == RC_VALUE_INPUT || given) {
            RC_TRY(rc_lower_buffer(p, rc_value_bytes(f, v), &p->value_buffer[v], err));
            p->images_buffer = v == g->images ? p->value_buffer[v] : p->images_buffer;
            p->labels_buffer = v == g->labels ? p->value_buffer[v] : p->labels_buffer;
            p->planes_buffer = given ? p->value_buffer[v] : p->planes_buffer;
        }
    }
    if (!rc_plan_forward_only(p)) {
        rc_mark_needs(f);
    }
    for (int32_t u = 0; u < p->n_units; u++) {
        RC_TRY(lower_forward(f, u, RC_PASS_FORWARD, err));
    }
    p->n_forward = p->n_steps;
    for (rc_value v = 0; v < g->n_values; v++) {
        bool gone = f->producer[v] >= 0 && !f->seen[v] && (f->dropped[v] || !f->kept[v]);
        if (gone && !rc_plan_forward_only(p)) {
            p->value_buffer[v] = -1; /* backward makes it again if it needs it */
        }
    }
    forget_copies(f); /* made again where backward wants them: kept is the home alone */
    if (!rc_plan_forward_only(p)) {
        RC_TRY(rc_lower_sources(f, err));
        for (int32_t u = p->n_units - 1; u >= 0; u--) {
            if (f->backward[u]) {
                RC_TRY(lower_backward(f, u, err));
            }
        }
    }
    RC_TRY(rc_lower_untouched(f, err));
    if (p->spec.updates) {
        RC_TRY(rc_lower_updates(f, err));
    }
    p->n_backward = p->n_steps;
    RC_TRY(rc_lower_commits(f, err));
    rc_plan_note_uses(f->m, p);
    return RC_OK;
}

/* Lists of the plan, unless they are there from an earlier lowering. */
static rc_status
make_lists(const rc_model *m, rc_plan *p, rc_error *err)
{
    const int32_t n = m->graph->n_values;
    p->images_buffer = p->labels_buffer = p->planes_buffer = -1;
    p->n_steps = p->n_buffers = 0;
    if (p->unit_xs) {
        return RC_OK;
    }
    p->value_buffer = rc_alloc_zero(n, sizeof *p->value_buffer);
    p->gradient_buffer = rc_alloc_zero(n, sizeof *p->gradient_buffer);
    p->state_gradient = rc_alloc_zero(m->graph->n_states + 1, sizeof *p->state_gradient);
    p->unit_xs = rc_alloc_zero((int64_t)p->n_units * RC_MAX_IN, sizeof *p->unit_xs);
    return p->unit_xs && p->value_buffer && p->gradient_buffer && p->state_gradient
               ? RC_OK : rc_planning_failed(err);
}

rc_status
rc_plan_lower(rc_model *m, rc_plan *p, const rc_advice *advice, rc_error *err)
{
    const int32_t n = m->graph->n_values;
    rc_facts f = {.m = m, .p = p, .advice = advice};
    bool *flags = rc_alloc_zero((int64_t)n * 5 + p->n_units + 1, sizeof *flags);
    int32_t *lists = rc_alloc_zero((int64_t)n * 4, sizeof *lists);
    f.known = rc_alloc_zero(n, sizeof *f.known);
    f.ws = rc_alloc_zero(p->n_units + 1, sizeof *f.ws);
    rc_status status = make_lists(m, p, err);
    if (status == RC_OK && flags && lists && f.known && f.ws) {
        f.wants = flags;
        f.flows = flags + n;
        f.kept = flags + 2 * (size_t)n;
        f.dropped = flags + 3 * (size_t)n;
        f.seen = flags + 4 * (size_t)n;
        f.backward = flags + 5 * (size_t)n;
        f.producer = lists;
        f.root = lists + n;
        f.next = lists + 2 * (size_t)n;
        f.holds = lists + 3 * (size_t)n;
        status = lower(&f, err);
    } else {
        status = rc_planning_failed(err);
    }
    rc_free(flags);
    rc_free(lists);
    rc_free(f.known);
    rc_free(f.ws);
    return status;
}
