/* Explanation: what an evaluation run looked at. A feature map with the gradient of an output,
 * the attention maps that a network has of its own, and what Grad-CAM (grad_cam.c) needs for both.
 *
 * One plan runs the network forward to the class heads or the embedding, keeps the maps that were
 * asked for, and goes back from the heads to those maps and no further: no gradient of a weight
 * is made, no statistic moves. Batches of any size are run in chunks. */
#include <stdio.h>
#include <string.h>

#include "nets/nets.h"
#include "plan/plan.h"

#define MOST_IMAGES 16                   /* a chunk: so many images … */
#define MOST_BYTES (INT64_C(1) << 30)    /* … and no larger an arena, but for one image */

/* ---- what a plan keeps (plan.h) ------------------------------------------------------------ */

bool
rc_explain_is_map(const rc_model *m, const rc_plan_spec *spec, rc_value v)
{
    const rc_graph *g = m->graph;
    if (spec->kind != RC_PLAN_LOOK && spec->kind != RC_PLAN_EXPLAIN) {
        return false;
    }
    for (int32_t i = 0; spec->map == RC_EVERY && i < g->n_attentions; i++) {
        if (g->attentions[i].value == v) {
            return true;
        }
    }
    for (int32_t i = 0; spec->map == RC_NONE && i < g->n_cams; i++) {
        if (g->cams[i] == v) {
            return true;
        }
    }
    return spec->map == v;
}

bool
rc_explain_is_source(const rc_model *m, const rc_plan_spec *spec, rc_value v)
{
    if (spec->kind != RC_PLAN_EXPLAIN) {
        return false;
    }
    for (int32_t i = 0; spec->source == RC_EVERY && i < m->n_heads; i++) {
        if (m->heads[i] == v) {
            return true;
        }
    }
    return spec->source == v;
}

/* Images at once: planning for one tells how much memory an image takes. */
rc_status
rc_explain_chunk(rc_model *m, rc_plan_spec spec, int64_t n, int64_t *out, rc_error *err)
{
    *out = 1;
    if (n > 1) {
        rc_plan *one = NULL;
        spec.n = 1;
        RC_TRY(rc_plan_new(m, &spec, &one, err));
        int64_t fit = MOST_BYTES / (one->arena_bytes > 0 ? one->arena_bytes : 1);
        rc_plan_free(one);
        fit = fit < 1 ? 1 : fit > MOST_IMAGES ? MOST_IMAGES : fit;
        int64_t chunks = (n + fit - 1) / fit;
        *out = (n + chunks - 1) / chunks; /* even ones */
    }
    return RC_OK;
}

rc_status
rc_explain_plan(rc_model *m, const rc_plan_spec *spec, rc_plan **out, rc_error *err)
{
    RC_TRY(rc_model_plan(m, spec, out, err));
    m->ran = NULL;
    m->can_backward = false;
    return rc_plan_ready(m, *out, err);
}

/* ---- names ------------------------------------------------------------------------------------ */

/* ", such as 'a', 'b' or 'c'": the three most like `word` of n names; they are moved about. */
static void
suggest(const char *word, const char **names, int32_t n, char *text, size_t size)
{
    size_t used = 0;
    text[0] = 0;
    for (int k = 0; k < 3 && n > 0; k++) {
        names[n] = NULL;
        const char *best = rc_nearest_name(word, names);
        int wrote = snprintf(text + used, size - used, "%s'%.*s'",
                             k == 0 ? "" : k == 2 || n == 1 ? " or " : ", ", RC_NAME, best);
        used += wrote > 0 ? (size_t)wrote : 0;
        for (int32_t i = 0; i < n; i++) {
            if (names[i] == best) {
                names[i] = names[--n];
                break;
            }
        }
    }
}

static rc_status
unknown_layer(const rc_graph *g, const char *layer, rc_error *err)
{
    char *texts = rc_alloc(g->n_values + 1, RC_NAME);
    const char **names = rc_alloc(g->n_values + 1, sizeof *names);
    char nearest[4 * RC_NAME] = "";
    int32_t n = 0;
    for (rc_value v = 0; texts && names && v < g->n_values; v++) {
        char *text = texts + (size_t)n * RC_NAME;
        if (rc_graph_value_name(g, v, text) && rc_graph_find_map(g, text) == v) {
            names[n++] = text;
        }
    }
    if (texts && names) {
        suggest(layer, names, n, nearest, sizeof nearest);
    }
    rc_free(texts);
    rc_free(names);
    return rc_fail(err, RC_ARGUMENT, "layer: no feature map is called '%.60s'; the nearest names "
                   "are %s (layers() lists all)", layer, nearest[0] ? nearest : "none");
}

rc_status
rc_explain_layer(const rc_model *m, const char *layer, rc_value *out, rc_error *err)
{
    *out = layer ? rc_graph_find_map(m->graph, layer) : RC_NONE;
    if (layer && *out == RC_NONE) {
        return unknown_layer(m->graph, layer, err);
    }
    if (!layer && !m->graph->n_cams) {
        return rc_fail(err, RC_ARGUMENT, "layer: this network has no feature map of more than one "
                       "position");
    }
    return RC_OK;
}

int
rc_model_head_count(const rc_model *m)
{
    return m->n_heads;
}

const char *
rc_model_head_name(const rc_model *m, int i)
{
    const rc_graph *g = m->graph;
    for (int32_t k = 0; k < g->n_outputs; k++) {
        if ((g->outputs[k].role & RC_ROLE_TRAIN) && g->outputs[k].value == m->heads[i]) {
            return g->outputs[k].name;
        }
    }
    return "";
}

static rc_value
named_output(const rc_graph *g, const char *name)
{
    for (int32_t i = 0; i < g->n_outputs; i++) {
        rc_value v = g->outputs[i].value;
        if (!(g->outputs[i].role & RC_ROLE_LOSS) && !g->values[v].is_int
            && !strcmp(g->outputs[i].name, name)) {
            return v;
        }
    }
    return RC_NONE;
}

/* The logits called `head`: of a class head; in a network without any, any output N x K. */
rc_status
rc_explain_head(const rc_model *m, const char *head, rc_value *out, rc_error *err)
{
    const rc_graph *g = m->graph;
    rc_value v = named_output(g, head);
    bool fits = v != RC_NONE && g->values[v].shape.rank == 2 && !m->n_heads;
    for (int32_t i = 0; i < m->n_heads; i++) {
        fits |= m->heads[i] == v;
    }
    *out = v;
    if (fits) {
        return RC_OK;
    }
    const char **names = rc_alloc(g->n_outputs + 1, sizeof *names);
    char nearest[4 * RC_NAME] = "";
    int32_t n = 0;
    for (int32_t i = 0; names && i < g->n_outputs; i++) {
        bool known = !m->n_heads && (g->outputs[i].role & RC_ROLE_TRAIN)
                     && g->values[g->outputs[i].value].shape.rank == 2;
        for (int32_t k = 0; k < m->n_heads; k++) {
            known |= m->heads[k] == g->outputs[i].value && (g->outputs[i].role & RC_ROLE_TRAIN);
        }
        if (known) {
            names[n++] = g->outputs[i].name;
        }
    }
    if (names) {
        suggest(head, names, n, nearest, sizeof nearest);
    }
    rc_free(names);
    return rc_fail(err, RC_ARGUMENT, "head: no class head is called '%.60s'; expected %s", head,
                   nearest[0] ? nearest : "a network with a classifier");
}

/* ---- a map and its gradient ------------------------------------------------------------------ */

static void
copy_map(const rc_model *m, const rc_plan *p, int32_t buffer, const rc_shape *s, void *out)
{
    if (buffer < 0) {
        memset(out, 0, (size_t)rc_shape_count(s) * m->real_size);
    } else {
        rc_nhwc_to_nchw(rc_plan_host(p, buffer), s, m->real_size, out);
    }
}

static rc_status
explain(rc_model *m, const rc_images *images, const char *layer, const char *name,
        const void *gradient, rc_shape *shape, void *map, void *map_gradient,
        const rc_poll *poll, rc_error *err)
{
    const rc_graph *g = m->graph;
    RC_TRY(rc_check_images(m, images, false, err));
    rc_plan_spec spec = {
        .kind = RC_PLAN_EXPLAIN, .n = images->n, .source = named_output(g, name)};
    RC_TRY(rc_explain_layer(m, layer, &spec.map, err));
    if (spec.source == RC_NONE) {
        return rc_fail(err, RC_ARGUMENT, "output: no output is called '%.60s'", name);
    }
    *shape = rc_graph_shape(g, spec.map);
    shape->d[0] = images->n;
    if (!map) {
        return RC_OK;
    }
    rc_plan *p = NULL;
    RC_TRY(rc_prepare(m, &spec, images, NULL, &p, err));
    RC_TRY(rc_run_steps(m, p, 0, p->n_forward, poll, err));
    RC_TRY(rc_plan_pull(p, p->value_buffer[spec.map], err));
    RC_TRY(rc_plan_wait(p, err));
    copy_map(m, p, p->value_buffer[spec.map], shape, map);
    if (p->gradient_buffer[spec.source] >= 0) {
        memcpy(rc_plan_host(p, p->gradient_buffer[spec.source]), gradient,
               (size_t)rc_shape_count(&p->shapes[spec.source]) * m->real_size);
        RC_TRY(rc_plan_push(p, p->gradient_buffer[spec.source], err));
    }
    RC_TRY(rc_run_steps(m, p, p->n_forward, p->n_backward, poll, err));
    RC_TRY(rc_plan_pull(p, p->gradient_buffer[spec.map], err));
    RC_TRY(rc_plan_wait(p, err));
    copy_map(m, p, p->gradient_buffer[spec.map], shape, map_gradient);
    return RC_OK;
}

rc_status
rc_model_explain(rc_model *m, const rc_images *images, const char *layer, const char *name,
                 const void *gradient, rc_shape *shape, void *map, void *map_gradient,
                 const rc_poll *poll, rc_error *err)
{
    rc_model_lock(m);
    rc_status status = explain(m, images, layer, name, gradient, shape, map, map_gradient, poll,
                               err);
    rc_model_unlock(m);
    return status;
}

/* ---- attention ------------------------------------------------------------------------------------ */

int
rc_model_attention_count(const rc_model *m)
{
    return m->graph->n_attentions;
}

void
rc_model_attention_map(const rc_model *m, int i, rc_attention_view *out)
{
    const rc_attention *a = &m->graph->attentions[i];
    rc_shape s = rc_graph_shape(m->graph, a->value);
    if (s.rank == 4) { /* one channel */
        s = (rc_shape){3, {1, s.d[2], s.d[3], 1}};
    } else if (a->heads) {
        s = (rc_shape){4, {1, a->heads, s.d[1] / a->heads, s.d[2]}};
    }
    *out = (rc_attention_view){a->name, s, m->graph->values[a->value].is_int};
}

static rc_status
attention(rc_model *m, const rc_images *images, void *const *out, const rc_poll *poll,
          rc_error *err)
{
    const rc_graph *g = m->graph;
    rc_plan_spec spec = {.kind = RC_PLAN_LOOK, .map = RC_EVERY};
    RC_TRY(rc_check_images(m, images, true, err));
    if (!images->n || !g->n_attentions) {
        return RC_OK;
    }
    rc_plan *p = NULL;
    RC_TRY(rc_explain_chunk(m, spec, images->n, &spec.n, err));
    RC_TRY(rc_explain_plan(m, &spec, &p, err));
    double last = rc_seconds();
    for (int64_t from = 0; from < images->n; from += spec.n) {
        int64_t left = images->n - from, count = left < spec.n ? left : spec.n;
        if (rc_asked_to_stop(poll, &last)) {
            return RC_INTERRUPTED;
        }
        RC_TRY(rc_load_images(m, p, images, from, count, false, err));
        RC_TRY(rc_run_steps(m, p, 0, p->n_steps, poll, err));
        for (int32_t i = 0; i < g->n_attentions; i++) {
            RC_TRY(rc_plan_pull(p, p->value_buffer[g->attentions[i].value], err));
        }
        RC_TRY(rc_plan_wait(p, err));
        for (int32_t i = 0; i < g->n_attentions; i++) {
            rc_value v = g->attentions[i].value;
            rc_shape s = rc_graph_shape(g, v);
            size_t one = (size_t)rc_shape_count(&s)
                         * (g->values[v].is_int ? sizeof(int64_t) : m->real_size);
            memcpy((char *)out[i] + (size_t)from * one, rc_plan_value(p, v), (size_t)count * one);
        }
    }
    return RC_OK;
}

rc_status
rc_model_attention(rc_model *m, const rc_images *images, void *const *out, const rc_poll *poll,
                   rc_error *err)
{
    rc_model_lock(m);
    rc_status status = attention(m, images, out, poll, err);
    rc_model_unlock(m);
    return status;
}
