/* Plans in words: what will run, with which kernel, and what it holds. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "plan/plan.h"

/* The plan that such a run would use: the cached one (*made false), or a new one. */
static rc_status
plan_for(rc_model *m, int64_t batch, bool training, rc_plan **out, bool *made, rc_error *err)
{
    rc_plan_spec spec = {.n = batch, .in_step = training && m->info.has_loss,
                         .updates = training && m->info.has_loss && !m->on};
    if (batch < 1 || batch > 1 << 20) {
        return rc_fail(err, RC_ARGUMENT, "batch: expected 1 to %d, got %lld", 1 << 20,
                       (long long)batch);
    }
    spec.kind = !training ? RC_PLAN_EVAL : m->info.has_loss ? RC_PLAN_LOSS : RC_PLAN_TRAIN;
    spec.input_gradient = spec.kind == RC_PLAN_TRAIN;
    *out = rc_model_cached_plan(m, &spec);
    const rc_plan_spec step = spec;
    if (!*out && spec.updates) { /* a step that clips */
        spec.updates = false;
        *out = rc_model_cached_plan(m, &spec);
    }
    if (!*out && spec.in_step && m->profile) { /* what was profiled may be `loss` */
        spec.in_step = false;
        *out = rc_model_cached_plan(m, &spec);
    }
    spec = step;
    *made = !*out;
    return *out ? RC_OK : rc_plan_new(m, &spec, out, err);
}

rc_status
rc_model_memory(rc_model *m, int64_t batch, bool training, rc_plan_bytes *out, rc_error *err)
{
    const rc_graph *g = m->graph;
    rc_plan *p = NULL;
    bool made = false;
    rc_model_lock(m);
    rc_status status = plan_for(m, batch, training, &p, &made, err);
    if (status == RC_OK) {
        *out = (rc_plan_bytes){0};
        for (int32_t i = 0; i < g->n_states; i++) {
            int64_t bytes = rc_shape_count(&g->states[i].shape) * (int64_t)m->real_size;
            out->weights += bytes;
            out->gradients += training && !p->spec.in_step
                                      && g->states[i].kind != RC_STATE_BUFFER ? bytes : 0;
        }
        for (int32_t s = 0; s < p->n_steps; s++) {
            const rc_step *step = &p->steps[s];
            int64_t bytes =
                step->tmp.kind == RC_REF_BUFFER ? p->buffers[step->tmp.index].bytes : 0;
            out->workspace = bytes > out->workspace ? bytes : out->workspace;
            if (step->x[1].kind == RC_REF_PACKED) {
                out->packed += rc_packed_floats(&m->packed[step->x[1].index])
                               * (int64_t)sizeof(float);
            }
        }
        out->activations = p->arena_bytes - out->workspace;
        if (made) {
            rc_plan_free(p);
        }
    }
    rc_model_unlock(m);
    return status;
}

typedef struct text {
    char *data;
    size_t length, capacity;
} text;

static bool RC_PRINTF(2, 3)
append(text *t, const char *format, ...)
{
    char line[512];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    size_t take = length < 0 ? 0 : (size_t)length < sizeof line ? (size_t)length : sizeof line - 1;
    if (t->length + take + 1 > t->capacity) {
        size_t wanted = 2 * (t->length + take + 1) + 4096;
        char *bigger = rc_alloc((int64_t)wanted, 1);
        if (!bigger) {
            return false;
        }
        if (t->length) {
            memcpy(bigger, t->data, t->length);
        }
        rc_free(t->data);
        t->data = bigger;
        t->capacity = wanted;
    }
    memcpy(t->data + t->length, line, take);
    t->length += take;
    t->data[t->length] = 0;
    return true;
}

static const char *
pass_name(rc_pass pass)
{
    static const char *const names[] = {"pack", "forward", "again", "backward", "seed", "commit",
                                        "update", "cast"};
    return names[pass];
}

/* The name users know a unit by: that of its weight, or of its output. */
static void
unit_name(const rc_model *m, const rc_unit *u, char out[RC_NAME])
{
    const rc_graph *g = m->graph;
    out[0] = 0;
    for (int k = 1; k < u->node.n_in; k++) {
        rc_value v = u->node.in[k];
        if (v != RC_NONE && g->values[v].kind == RC_VALUE_STATE) {
            snprintf(out, RC_NAME, "%s", g->states[g->values[v].index].name);
            char *dot = strrchr(out, '.');
            if (dot) {
                *dot = 0;
            }
            return;
        }
    }
    snprintf(out, RC_NAME, "%s", g->values[u->node.out].name);
}

/* Of which element a step's result is. */
static const char *
element_name(const rc_model *m, const rc_plan *p, const rc_step *s)
{
    rc_element element = RC_REAL;
    if (s->pass == RC_PASS_CAST) {
        element = s->element;
    } else if (s->pass == RC_PASS_FORWARD || s->pass == RC_PASS_AGAIN) {
        element = p->forward[s->unit].y;
    } else if (s->pass == RC_PASS_BACKWARD) {
        element = p->backward[s->unit].y;
    }
    return element == RC_U8 ? "u8" : element == RC_BF16 ? "bf16" : element == RC_INT64 ? "i64"
           : m->info.is_double ? "f64" : "f32";
}

/* Bytes of what a step reads and writes: each once, whatever its kernel does; no scratch. */
static int64_t
moved(const rc_plan *p, const rc_step *s)
{
    int64_t sum = 0;
    for (int k = 0; k < s->call.n_in; k++) {
        const rc_ref *refs[2] = {&s->x[k], &s->dx[k]};
        for (int i = 0; i < 2; i++) {
            sum += refs[i]->kind == RC_REF_BUFFER ? p->buffers[refs[i]->index].bytes
                   : refs[i]->kind == RC_REF_NONE ? 0 : 4 * rc_shape_count(&s->call.xs[k]);
        }
    }
    const rc_ref *refs[3] = {&s->y, &s->dy, &s->ws};
    for (int i = 0; i < 3; i++) {
        sum += refs[i]->kind == RC_REF_BUFFER ? p->buffers[refs[i]->index].bytes : 0;
    }
    return sum;
}

static bool
describe_step(const rc_model *m, const rc_plan *p, int32_t i, text *t)
{
    const rc_step *s = &p->steps[i];
    char name[RC_NAME] = "", shape[64] = "1";
    const char *op = "seed";
    double macs = 0;
    int64_t bytes = 0;
    if (s->unit >= 0) {
        const rc_unit *u = &p->units[s->unit];
        const rc_op *rules = rc_op_table[u->node.op];
        unit_name(m, u, name);
        op = rules->name;
        rc_shape_text(&s->call.ys, shape);
        if (rules->macs && (s->pass == RC_PASS_FORWARD || s->pass == RC_PASS_BACKWARD)) {
            macs = rules->macs(&u->node.attrs, s->call.xs, &s->call.ys, false);
        }
    }
    if (s->pass == RC_PASS_CAST) {
        op = "cast";
        rc_shape_text(&s->call.ys, shape);
        (void)rc_graph_value_name(m->graph, s->value, name);
    }
    if (s->y.kind == RC_REF_BUFFER) {
        bytes = p->buffers[s->y.index].bytes;
    }
    if (s->pass == RC_PASS_UPDATE) {
        op = "weight";
        snprintf(name, sizeof name, "%s", m->graph->states[s->state[0].index].name);
        rc_shape_text(&s->call.ys, shape);
    }
    char time[96] = "";
    if (s->runs) {
        double seconds = s->seconds / (double)s->runs, cpu = s->cpu_seconds / (double)s->runs;
        snprintf(time, sizeof time, " %9.3f ms %9.3f ms cpu %7.1f GFLOP/s %9.2f MB", seconds * 1e3,
                 cpu * 1e3, 2e-9 * macs / seconds, (double)moved(p, s) / 1e6);
    }
    return append(t, "%4d %-8s %-14s %-34s %-20s %-4s %10.2f MiB %10.1f MMAC  %-36s%s\n", (int)i,
                  pass_name(s->pass), op, name, shape, element_name(m, p, s),
                  (double)bytes / 1048576, macs / 1e6, s->kernel, time);
}

/* What buffer b holds: the first step that writes it, and as what. */
static void
buffer_name(const rc_model *m, const rc_plan *p, int32_t b, char out[2 * RC_NAME])
{
    for (int32_t i = 0; i < p->n_steps; i++) {
        const rc_step *s = &p->steps[i];
        const struct {
            const char *what;
            const rc_ref *ref;
        } written[] = {{"", &s->y}, {" kept", &s->ws}, {" scratch", &s->tmp}};
        char name[RC_NAME] = "";
        if (s->unit >= 0) {
            unit_name(m, &p->units[s->unit], name);
        }
        for (int k = 0; k < 3; k++) {
            if (written[k].ref->kind == RC_REF_BUFFER && written[k].ref->index == b) {
                snprintf(out, 2 * RC_NAME, "%s %s%s", pass_name(s->pass), name, written[k].what);
                return;
            }
        }
        for (int k = 0; k < s->call.n_in; k++) {
            if (s->dx[k].kind == RC_REF_BUFFER && s->dx[k].index == b) {
                snprintf(out, 2 * RC_NAME, "gradient of input %d of %s", k, name);
                return;
            }
        }
    }
    snprintf(out, 2 * RC_NAME, "input");
}

/* The step at which most bytes are alive, and the largest of them. */
static bool
describe_peak(const rc_model *m, const rc_plan *p, text *t)
{
    int64_t most, *alive = rc_alloc(p->n_steps + 1, sizeof *alive);
    if (!alive) {
        return false;
    }
    int32_t peak = rc_plan_fullest(p, 1, alive, &most);
    rc_free(alive);
    bool there = append(t, "most is alive in step %d: %.1f MiB; of these, more than 1 %% each:\n",
                        (int)peak, (double)most / 1048576);
    for (int32_t b = 0; there && b < p->n_buffers; b++) {
        const rc_buffer *o = &p->buffers[b];
        if (o->same_as < 0 && o->first <= peak && peak <= o->last && o->bytes > most / 100) {
            char name[2 * RC_NAME];
            buffer_name(m, p, b, name);
            there = append(t, "%10.2f MiB  steps %4d to %4d  %s\n", (double)o->bytes / 1048576,
                           (int)o->first, (int)o->last, name);
        }
    }
    return there;
}

rc_status
rc_model_plan_text(rc_model *m, int64_t batch, bool training, char **out, rc_error *err)
{
    rc_plan *p = NULL;
    bool made = false;
    text t = {0};
    rc_model_lock(m);
    rc_status status = plan_for(m, batch, training, &p, &made, err);
    if (status == RC_OK) {
        bool there = append(&t, "%s, batch %lld, %s: %d steps, %.1f MiB in one arena", m->system,
                            (long long)batch, training ? "training" : "evaluation",
                            (int)p->n_steps, (double)p->arena_bytes / 1048576);
        there = there && append(&t, m->on ? "\n" : "; convolutions by %s\n", p->tuned);
        for (int32_t i = 0; there && i < p->n_steps; i++) {
            there = describe_step(m, p, i, &t);
        }
        there = there && describe_peak(m, p, &t);
        if (!there) {
            rc_free(t.data);
            status = rc_fail(err, RC_MEMORY, "out of memory while describing the plan");
        } else {
            *out = t.data;
        }
        if (made) {
            rc_plan_free(p);
        }
    }
    rc_model_unlock(m);
    return status;
}

rc_status
rc_model_convs(rc_model *m, int64_t batch, bool training, rc_conv_time **out, int64_t *count,
               rc_error *err)
{
    rc_plan *p = NULL;
    bool made = false;
    rc_model_lock(m);
    rc_status status = plan_for(m, batch, training, &p, &made, err);
    rc_conv_time *found = status == RC_OK ? rc_alloc(p->n_steps + 1, sizeof *found) : NULL;
    if (status == RC_OK && !found) {
        status = rc_fail(err, RC_MEMORY, "out of memory while describing the plan");
    }
    *count = 0;
    for (int32_t i = 0; status == RC_OK && i < p->n_steps; i++) {
        const rc_step *s = &p->steps[i];
        if (s->conv.kernel && !p->on) {
            found[(*count)++] = (rc_conv_time){s->conv.kernel, s->conv.shape, s->seconds, s->runs};
        }
    }
    if (made) {
        rc_plan_free(p);
    }
    rc_model_unlock(m);
    *out = found;
    return status;
}
