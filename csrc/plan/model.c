/* A model: its weights, their initial values, and its cache of plans. */
#define _GNU_SOURCE
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/random.h"
#include "nets/nets.h"
#include "plan/device.h"

/* ---- plans -------------------------------------------------------------------------------- */

void
rc_plan_drop_arena(rc_plan *p)
{
    if (p->on) {
        rc_device_drop_arena(p);
    } else {
        rc_free(p->arena);
    }
    p->arena = NULL;
}

void
rc_plan_free(rc_plan *p)
{
    if (p) {
        rc_free(p->units);
        rc_free(p->shapes);
        rc_free(p->unit_xs);
        rc_free(p->elements);
        rc_free(p->forward);
        rc_free(p->backward);
        rc_free(p->copies);
        rc_free(p->steps);
        rc_free(p->buffers);
        rc_free(p->value_buffer);
        rc_free(p->gradient_buffer);
        rc_free(p->state_gradient);
        rc_plan_drop_arena(p);
        rc_free(p->shadow_at);
        rc_free(p);
    }
}

/* Training over one value per channel has no variance: say so before anything runs. */
static rc_status
check_statistics(const rc_model *m, const rc_plan *p, rc_error *err)
{
    bool training = p->spec.kind == RC_PLAN_TRAIN || p->spec.kind == RC_PLAN_LOSS;
    for (int32_t u = 0; training && u < p->n_units; u++) {
        const rc_op *op = rc_op_table[p->units[u].node.op];
        const rc_shape *x = &p->unit_xs[(int64_t)u * RC_MAX_IN];
        if (rc_unit_is_still(m, &p->units[u])) {
            continue;
        }
        int64_t values = x->rank == 4 ? x->d[0] * x->d[2] * x->d[3] : x->d[0];
        if (op->batch_statistics && values < 2) {
            return rc_fail(err, RC_ARGUMENT,
                           "images: training needs 2 images or more (batch norm over the batch), "
                           "got %lld", (long long)p->spec.n);
        }
    }
    return RC_OK;
}

rc_status
rc_plan_new(rc_model *m, const rc_plan_spec *spec, rc_plan **out, rc_error *err)
{
    rc_status status = rc_int8_allows(m, spec, err);
    if (status != RC_OK) {
        return status;
    }
    rc_plan *p = rc_alloc_zero(1, sizeof *p);
    status = RC_MEMORY;
    if (p) {
        p->spec = *spec;
        rc_tune_describe(p->tuned);
        p->shapes = rc_alloc_zero(m->graph->n_values, sizeof *p->shapes);
    }
    if (!p || !p->shapes) {
        rc_fail(err, RC_MEMORY, "out of memory while planning");
        goto fail;
    }
    if ((status = rc_graph_shapes(m->graph, spec->n, p->shapes, err)) != RC_OK
        || (status = rc_plan_fuse(m, p, err)) != RC_OK
        || (status = rc_plan_types(m, p, err)) != RC_OK
        || (status = m->info.low_memory && rc_plan_trains(p)
                         ? rc_plan_spare(m, p, err)
                         : rc_plan_lower(m, p, NULL, err)) != RC_OK
        || (status = check_statistics(m, p, err)) != RC_OK) {
        goto fail;
    }
    rc_plan_share(p);
    if ((status = rc_plan_place(p, err)) != RC_OK) {
        goto fail;
    }
    *out = p;
    return RC_OK;
fail:
    rc_plan_free(p);
    return status;
}

static bool
same_spec(const rc_plan_spec *a, const rc_plan_spec *b)
{
    return a->kind == b->kind && a->n == b->n && a->given_planes == b->given_planes
           && a->input_gradient == b->input_gradient && a->in_step == b->in_step
           && a->updates == b->updates && a->exact == b->exact
           && a->source == b->source && a->map == b->map; /* 0 and 0 where they mean nothing */
}

rc_plan *
rc_model_cached_plan(const rc_model *m, const rc_plan_spec *spec)
{
    for (int i = 0; i < RC_PLAN_CACHE; i++) {
        if (m->plans[i] && same_spec(&m->plans[i]->spec, spec)) {
            return m->plans[i];
        }
    }
    return NULL;
}

/* From the cache, or made; the one unused for longest goes. */
rc_status
rc_model_plan(rc_model *m, const rc_plan_spec *spec, rc_plan **out, rc_error *err)
{
    int oldest = 0;
    rc_plan *cached = rc_model_cached_plan(m, spec);
    if (cached) {
        cached->used = ++m->clock;
        *out = cached;
        return RC_OK;
    }
    for (int i = 0; i < RC_PLAN_CACHE; i++) {
        rc_plan *p = m->plans[i];
        if (m->plans[oldest] && (!p || p->used < m->plans[oldest]->used)) {
            oldest = i;
        }
    }
    rc_plan *made = NULL;
    RC_TRY(rc_plan_new(m, spec, &made, err));
    if (m->ran && m->ran == m->plans[oldest]) {
        m->ran = NULL;
        m->can_backward = false;
    }
    rc_plan_free(m->plans[oldest]);
    m->plans[oldest] = made;
    made->used = ++m->clock;
    *out = made;
    return RC_OK;
}

/* ---- weights ------------------------------------------------------------------------------ */

typedef struct filling {
    rc_model *m;
    int32_t *state;  /* per task: which entry … */
    int64_t *from;   /* … and from which element */
} filling;

#define FILL_BLOCK 65536

static void
fill_block(void *context, int64_t task, int worker)
{
    const filling *f = context;
    int32_t i = f->state[task];
    const rc_state_info *s = &f->m->graph->states[i];
    uint64_t stream = rc_random_stream(f->m->seed, RC_RANDOM_INIT, (uint64_t)i, 0, 0);
    int64_t count = rc_shape_count(&s->shape), to = f->from[task] + FILL_BLOCK;
    (void)worker;
    for (int64_t e = f->from[task]; e < (to < count ? to : count); e++) {
        double value = s->init.mean;
        if (s->init.kind == RC_INIT_NORMAL && s->init.spread != 0) {
            value += s->init.spread * rc_normal(rc_random_step(stream, (uint64_t)e));
        } else if (s->init.kind == RC_INIT_UNIFORM) {
            double u = rc_uniform(rc_random_step(stream, (uint64_t)e));
            value += s->init.spread * (2 * u - 1);
        }
        if (f->m->real_size == sizeof(double)) {
            ((double *)f->m->data[i])[e] = value;
        } else {
            ((float *)f->m->data[i])[e] = (float)value;
        }
    }
}

static rc_status
fill_weights(rc_model *m, rc_error *err)
{
    const rc_graph *g = m->graph;
    int64_t tasks = 0, at = 0;
    for (int32_t i = 0; i < g->n_states; i++) {
        tasks += (rc_shape_count(&g->states[i].shape) + FILL_BLOCK - 1) / FILL_BLOCK;
    }
    filling f = {m, rc_alloc(tasks, sizeof *f.state), rc_alloc(tasks, sizeof *f.from)};
    if (!f.state || !f.from) {
        rc_free(f.state);
        rc_free(f.from);
        return rc_fail(err, RC_MEMORY, "out of memory for the weights");
    }
    for (int32_t i = 0; i < g->n_states; i++) {
        for (int64_t e = 0; e < rc_shape_count(&g->states[i].shape); e += FILL_BLOCK, at++) {
            f.state[at] = i;
            f.from[at] = e;
        }
    }
    rc_parallel(tasks, m->info.threads, fill_block, &f);
    rc_free(f.state);
    rc_free(f.from);
    return RC_OK;
}

static rc_status
allocate_weights(rc_model *m, rc_error *err)
{
    const rc_graph *g = m->graph;
    double total = 0, there = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    for (int32_t i = 0; i < g->n_states; i++) {
        double bytes = (double)m->real_size;
        for (int k = 0; k < g->states[i].shape.rank; k++) {
            bytes *= (double)g->states[i].shape.d[k];
        }
        total += bytes;
    }
    if (total > there) {
        return rc_fail(err, RC_MEMORY,
                       "%s: the weights take %.1f GiB, this machine has %.1f GiB of memory",
                       m->system, total / 1073741824, there / 1073741824);
    }
    m->data = rc_alloc_zero(g->n_states + 1, sizeof *m->data);
    m->gradient = rc_alloc_zero(g->n_states + 1, sizeof *m->gradient);
    m->frozen = rc_alloc_zero(g->n_states + 1, sizeof *m->frozen);
    if (!m->data || !m->gradient || !m->frozen) {
        return rc_fail(err, RC_MEMORY, "out of memory for the weights");
    }
    for (int32_t i = 0; i < g->n_states; i++) {
        m->data[i] = rc_alloc(rc_shape_count(&g->states[i].shape), m->real_size);
        if (!m->data[i]) {
            return rc_fail(err, RC_MEMORY, "out of memory for '%s'", g->states[i].name);
        }
    }
    return fill_weights(m, err);
}

rc_status
rc_model_need_gradients(rc_model *m, rc_error *err)
{
    const rc_graph *g = m->graph;
    for (int32_t i = 0; i < g->n_states; i++) {
        if (g->states[i].kind != RC_STATE_BUFFER && !m->gradient[i]) {
            m->gradient[i] = rc_alloc_zero(rc_shape_count(&g->states[i].shape), m->real_size);
            if (!m->gradient[i]) {
                return rc_fail(err, RC_MEMORY, "out of memory for the gradient of '%s'",
                               g->states[i].name);
            }
        }
    }
    return RC_OK;
}

rc_status
rc_model_zero_grad(rc_model *m, rc_error *err)
{
    const rc_graph *g = m->graph;
    if (m->on && m->on->gradients) {
        RC_TRY(m->on->api->zero(m->on->d, m->on->gradients, m->on->bytes, err));
        m->on->gradients_newer = false;
    }
    for (int32_t i = 0; i < g->n_states; i++) {
        if (m->gradient[i]) {
            memset(m->gradient[i], 0,
                   (size_t)rc_shape_count(&g->states[i].shape) * m->real_size);
        }
    }
    return RC_OK;
}

/* ---- making one ------------------------------------------------------------------------------ */

const char *
rc_setting_text(const rc_setting *s, char text[64])
{
    switch (s->kind) {
    case RC_SETTING_NONE:
        return "None";
    case RC_SETTING_BOOL:
        return s->i ? "True" : "False";
    case RC_SETTING_INT:
        snprintf(text, 64, "%lld", (long long)s->i);
        return text;
    case RC_SETTING_REAL:
        snprintf(text, 64, s->r == floor(s->r) && fabs(s->r) < 1e6 ? "%.1f" : "%g", s->r);
        return text;
    case RC_SETTING_TEXT:
        snprintf(text, 64, "'%.50s'", s->s);
        return text;
    default:
        return "a tuple";
    }
}

/* seed, threads, precision, memory: the settings that concern the model and not its graph. */
static rc_status
read_settings(rc_model *m, const rc_setting *settings, int n, bool others, rc_error *err)
{
    m->info.threads = rc_cpu_count();
    m->real_size = sizeof(float);
    char text[64];
    for (int i = 0; i < n; i++) {
        const rc_setting *s = &settings[i];
        if (!strcmp(s->name, "seed")) {
            if (s->kind != RC_SETTING_INT) {
                return rc_fail(err, RC_TYPE, "seed: expected an integer, got %s",
                               rc_setting_text(s, text));
            }
            if (s->i < 0) {
                return rc_fail(err, RC_ARGUMENT, "seed: expected 0 to 2**63 - 1, got %lld",
                               (long long)s->i);
            }
            m->seed = (uint64_t)s->i;
        } else if (!strcmp(s->name, "threads")) {
            if (s->kind == RC_SETTING_NONE) {
                continue;
            }
            if (s->kind != RC_SETTING_INT) {
                return rc_fail(err, RC_TYPE, "threads: expected an integer or None, got %s",
                               rc_setting_text(s, text));
            }
            if (s->i < 1 || s->i > RC_MAX_THREADS) {
                return rc_fail(err, RC_ARGUMENT, "threads: expected 1 to %d, got %lld",
                               RC_MAX_THREADS, (long long)s->i);
            }
            m->info.threads = (int)s->i;
        } else if (!strcmp(s->name, "precision")) {
            if (s->kind == RC_SETTING_TEXT && !strcmp(s->s, "float64")) {
                m->real_size = sizeof(double);
            } else if (s->kind == RC_SETTING_TEXT && !strcmp(s->s, "int8")) {
                m->compute = RC_U8;
            } else if (s->kind == RC_SETTING_TEXT && !strcmp(s->s, "bfloat16")) {
                m->compute = RC_BF16;
            } else if (s->kind != RC_SETTING_TEXT || strcmp(s->s, "float32")) {
                return rc_fail(err, RC_ARGUMENT,
                               "precision: expected 'float32', 'bfloat16', 'int8' or 'float64', "
                               "got %s", rc_setting_text(s, text));
            }
        } else if (!strcmp(s->name, "memory")) {
            m->info.low_memory = s->kind == RC_SETTING_TEXT && !strcmp(s->s, "low");
            if (!m->info.low_memory && (s->kind != RC_SETTING_TEXT || strcmp(s->s, "normal"))) {
                return rc_fail(err, RC_ARGUMENT, "memory: expected 'normal' or 'low', got %s",
                               rc_setting_text(s, text));
            }
        } else if (!others) {
            return rc_fail(err, RC_TYPE, "build: unknown keyword '%.60s'", s->name);
        }
    }
    m->info.is_double = m->real_size == sizeof(double);
    m->info.precision = m->info.is_double           ? "float64"
                        : m->compute == RC_BF16 ? "bfloat16"
                        : m->compute == RC_U8   ? "int8"
                                                : "float32";
    return RC_OK;
}

static rc_status
make(rc_graph *graph, const char *system, const rc_setting *settings, int n, bool others,
     rc_model **out, rc_error *err)
{
    rc_model *m = rc_alloc_zero(1, sizeof *m);
    if (!m) {
        rc_graph_free(graph);
        return rc_fail(err, RC_MEMORY, "out of memory for the model");
    }
    m->graph = graph;
    m->version = 1;
    pthread_mutex_init(&m->lock, NULL);
    snprintf(m->system, sizeof m->system, "%s", system);
    rc_status status = read_settings(m, settings, n, others, err);
    if (status == RC_OK) {
        status = rc_model_work_out(m, err);
    }
    if (status == RC_OK) {
        status = allocate_weights(m, err);
    }
    if (status != RC_OK) {
        rc_model_free(m);
        return status;
    }
    *out = m;
    return RC_OK;
}

rc_status
rc_model_new(const char *name, const rc_setting *settings, int n, rc_model **out, rc_error *err)
{
    const rc_system *system = rc_system_find(name);
    if (!system) {
        return rc_fail(err, RC_ARGUMENT, "name: no system called '%.40s'", name);
    }
    rc_graph *g = rc_graph_new();
    if (!g) {
        return rc_fail(err, RC_MEMORY, "out of memory while describing the network");
    }
    rc_net net;
    rc_status status = rc_system_build(system, settings, n, g, &net, err);
    if (status != RC_OK) {
        rc_graph_free(g);
        return status;
    }
    RC_TRY(make(g, name, settings, n, true, out, err));
    (*out)->info.test_flip = system->test_flip;
    (*out)->info.normalized = system->normalized;
    (*out)->info.optimizer_states = system->sgd ? 1 : 2;
    return RC_OK;
}

rc_status
rc_model_from_graph(rc_graph *g, const rc_setting *settings, int n, rc_model **out,
                    rc_error *err)
{
    rc_status status = g->status;
    if (status != RC_OK && err) {
        *err = g->error;
    }
    if (status == RC_OK && g->images == RC_NONE) {
        status = rc_fail(err, RC_ARGUMENT, "build: the graph has no input");
    }
    if (status != RC_OK) {
        rc_graph_free(g);
        return status;
    }
    RC_TRY(make(g, "graph", settings, n, false, out, err));
    (*out)->info.optimizer_states = 2;
    return RC_OK;
}

void
rc_model_drop_plans(rc_model *m)
{
    for (int i = 0; i < RC_PLAN_CACHE; i++) {
        rc_plan_free(m->plans[i]);
        m->plans[i] = NULL;
    }
    for (int32_t i = 0; i < m->n_packed; i++) {
        if (m->on) {
            m->on->api->release(m->on->d, m->packed[i].data);
        } else {
            rc_free(m->packed[i].data);
        }
    }
    m->n_packed = 0;
    m->ran = NULL;
    m->can_backward = false;
}

void
rc_model_free(rc_model *m)
{
    if (!m) {
        return;
    }
    rc_model_drop_plans(m);
    rc_model_leave_device(m);
    for (int32_t i = 0; m->graph && i < m->graph->n_states; i++) {
        if (m->data) {
            rc_free(m->data[i]);
        }
        if (m->gradient) {
            rc_free(m->gradient[i]);
        }
    }
    rc_free(m->packed);
    rc_free(m->heads);
    rc_free(m->data);
    rc_free(m->gradient);
    rc_free(m->frozen);
    rc_free(m->bytes);
    rc_free(m->in_bytes);
    rc_graph_free(m->graph);
    pthread_mutex_destroy(&m->lock);
    rc_free(m);
}

/* ---- small answers ----------------------------------------------------------------------------- */

const rc_model_info *
rc_model_get_info(const rc_model *m)
{
    return &m->info;
}

const rc_graph *
rc_model_get_graph(const rc_model *m)
{
    return m->graph;
}

int
rc_model_state_count(const rc_model *m)
{
    return m->graph->n_states;
}

void
rc_model_state(const rc_model *m, int i, rc_state_view *out)
{
    const rc_state_info *s = &m->graph->states[i];
    *out = (rc_state_view){s->name, s->kind, s->shape, m->data[i], m->gradient[i],
                           m->frozen[i]};
    if (m->stepping && !m->on) {
        int32_t own = m->stepping->state_gradient[i];
        out->gradient = own < 0 ? NULL : m->stepping->arena + m->stepping->buffers[own].offset;
    }
}

void
rc_model_profile(rc_model *m, bool on)
{
    m->profile = on;
}

void
rc_model_touch(rc_model *m)
{
    __atomic_add_fetch(&m->version, 1, __ATOMIC_SEQ_CST);
}

void
rc_model_views(rc_model *m, int change)
{
    __atomic_add_fetch(&m->views, change, __ATOMIC_SEQ_CST); /* any thread may drop a view */
    __atomic_add_fetch(&m->version, 1, __ATOMIC_SEQ_CST);
}

bool
rc_model_has_gradients(const rc_model *m)
{
    return m->has_gradients || m->stepping;
}

uint64_t
rc_model_get_step(const rc_model *m)
{
    return m->step;
}

void
rc_model_set_step(rc_model *m, uint64_t step)
{
    m->step = step;
}

void
rc_model_lock(rc_model *m)
{
    pthread_mutex_lock(&m->lock);
}

void
rc_model_unlock(rc_model *m)
{
    pthread_mutex_unlock(&m->lock);
}
