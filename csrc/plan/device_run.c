/* Plans on a device: arena and pointers there, copies of what the host sees, and runs. A range of
 * steps runs step by step the first time; the second time it is recorded, and from then on its
 * record is replayed. What differs from run to run is read from memory: images, labels, counters. */
#include <string.h>

#include "plan/device.h"

/* ---- what the host sees ---------------------------------------------------------------------- */

static void
show(rc_plan *p, int32_t buffer)
{
    if (buffer >= 0 && p->shadow_at[buffer] < 0) {
        p->shadow_at[buffer] = p->shadow_bytes;
        p->shadow_bytes += (p->buffers[buffer].bytes + 255) & -(int64_t)256;
    }
}

/* Page-locked memory for the buffers that go in or come out. */
static rc_status
make_shadow(const rc_model *m, rc_plan *p, rc_error *err)
{
    const rc_graph *g = m->graph;
    if (p->shadow) {
        return RC_OK;
    }
    if (!p->shadow_at) {
        p->shadow_at = rc_alloc(p->n_buffers + 1, sizeof *p->shadow_at);
        if (!p->shadow_at) {
            return rc_fail(err, RC_MEMORY, "out of memory while planning");
        }
    }
    for (int32_t b = 0; b < p->n_buffers; b++) {
        p->shadow_at[b] = -1;
    }
    p->shadow_bytes = 0;
    show(p, p->images_buffer);
    show(p, p->labels_buffer);
    show(p, p->planes_buffer);
    for (int32_t i = 0; i < g->n_outputs; i++) {
        show(p, p->value_buffer[g->outputs[i].value]);
        show(p, p->spec.kind == RC_PLAN_TRAIN ? p->gradient_buffer[g->outputs[i].value] : -1);
    }
    for (rc_value v = 0; v < g->n_values; v++) {
        if (rc_explain_is_map(m, &p->spec, v) || rc_explain_is_source(m, &p->spec, v)) {
            show(p, p->value_buffer[v]);
            show(p, p->gradient_buffer[v]);
        }
    }
    if (p->spec.input_gradient) {
        show(p, p->gradient_buffer[g->images]);
    }
    void *block = NULL;
    RC_TRY(m->on->api->host_alloc(m->on->d, p->shadow_bytes + 1, &block, err));
    p->shadow = block;
    return RC_OK;
}

char *
rc_plan_host(const rc_plan *p, int32_t buffer)
{
    if (!p->on) {
        return p->arena + p->buffers[buffer].offset;
    }
    return p->shadow && p->shadow_at[buffer] >= 0 ? p->shadow + p->shadow_at[buffer] : NULL;
}

rc_status
rc_plan_push(const rc_plan *p, int32_t buffer, rc_error *err)
{
    const rc_on_device *on = p->on;
    return on && buffer >= 0 ? on->api->upload(on->d, p->arena + p->buffers[buffer].offset,
                                               rc_plan_host(p, buffer), p->buffers[buffer].bytes,
                                               err)
                             : RC_OK;
}

rc_status
rc_plan_pull(const rc_plan *p, int32_t buffer, rc_error *err)
{
    const rc_on_device *on = p->on;
    return on && buffer >= 0 ? on->api->download(on->d, rc_plan_host(p, buffer),
                                                 p->arena + p->buffers[buffer].offset,
                                                 p->buffers[buffer].bytes, err)
                             : RC_OK;
}

rc_status
rc_plan_wait(const rc_plan *p, rc_error *err)
{
    return p->on ? p->on->api->wait(p->on->d, err) : RC_OK;
}

/* ---- ready ------------------------------------------------------------------------------------- */

void
rc_device_drop_arena(rc_plan *p)
{
    const rc_on_device *on = p->on;
    for (int i = 0; i < RC_PLAN_RECORDS; i++) {
        on->api->graph_release(on->d, p->records[i].graph);
        p->records[i] = (rc_plan_record){0};
    }
    on->api->release(on->d, p->arena);
    on->api->host_release(on->d, p->shadow);
    p->arena = p->shadow = NULL;
}

rc_status
rc_device_room(const rc_model *m, const rc_plan *p, rc_status status, rc_error *err)
{
    const rc_on_device *on = m->on;
    if (status != RC_MEMORY) {
        return status;
    }
    return rc_fail(err, RC_MEMORY,
                   "out of memory on cuda:%d (%s): a batch of %lld needs %.3f GiB beside the %.3f "
                   "GiB of weights, and %.3f of %.3f GiB are free", on->api->info(on->d)->index,
                   on->api->info(on->d)->name, (long long)p->spec.n,
                   (double)p->arena_bytes / 1073741824, (double)on->bytes / 1073741824,
                   (double)on->api->free_bytes(on->d) / 1073741824,
                   (double)on->api->info(on->d)->total_bytes / 1073741824);
}

static rc_status
allocate(rc_model *m, rc_plan *p, rc_error *err)
{
    rc_on_device *on = m->on;
    void *arena = NULL;
    p->on = on;
    RC_TRY(on->api->alloc(on->d, p->arena_bytes, &arena, err));
    p->arena = arena;
    rc_status status = make_shadow(m, p, err);
    if (status != RC_OK) {
        rc_device_drop_arena(p);
        return status;
    }
    rc_plan_resolve(m, p);
    for (int32_t i = 0; i < p->n_steps; i++) {
        p->steps[i].call.seed = on->counters;
        p->steps[i].call.step = on->counters + 1;
    }
    return RC_OK;
}

/* Weights that were written to on the host, and what is made from weights. */
static rc_status
bring_weights(rc_model *m, rc_plan *p, rc_error *err)
{
    rc_on_device *on = m->on;
    bool always = __atomic_load_n(&m->views, __ATOMIC_SEQ_CST) > 0;
    uint64_t version = __atomic_load_n(&m->version, __ATOMIC_SEQ_CST);
    if (always || version != on->version) {
        RC_TRY(rc_block_put(m, on->weights, m->data, err));
        on->version = version;
    }
    for (int32_t i = 0; i < p->n_steps; i++) {
        if (p->steps[i].x[1].kind != RC_REF_PACKED) {
            continue;
        }
        rc_packed *packed = &m->packed[p->steps[i].x[1].index];
        if (always || packed->version != version) {
            RC_TRY(rc_device_fold(m, packed, err));
            packed->version = always ? UINT64_MAX : version;
        }
    }
    return RC_OK;
}

/* Memory for packed weights must be there before pointers are resolved. */
static rc_status
packed_memory(rc_model *m, const rc_plan *p, rc_error *err)
{
    const rc_on_device *on = m->on;
    for (int32_t i = 0; i < p->n_steps; i++) {
        rc_packed *packed = p->steps[i].x[1].kind == RC_REF_PACKED
                                ? &m->packed[p->steps[i].x[1].index] : NULL;
        if (packed && !packed->data) {
            void *block = NULL;
            /* (the gaps between halves and floats of small ones) */
            int64_t bytes = rc_packed_floats(packed) * (int64_t)sizeof(float) + 64;
            RC_TRY(on->api->alloc(on->d, bytes, &block, err));
            packed->data = block;
            packed->version = UINT64_MAX;
        }
    }
    return RC_OK;
}

static rc_status
memory_for(rc_model *m, rc_plan *p, rc_error *err)
{
    rc_on_device *on = m->on;
    if (rc_plan_trains(p) && !p->spec.in_step && !on->gradients) {
        RC_TRY(rc_block_new(on, &on->gradients, err));
    }
    if (!p->arena) {
        rc_plan_drop_others(m, p);
        RC_TRY(packed_memory(m, p, err));
        RC_TRY(allocate(m, p, err));
    }
    return RC_OK;
}

rc_status
rc_device_ready(rc_model *m, rc_plan *p, rc_error *err)
{
    RC_TRY(rc_device_room(m, p, memory_for(m, p, err), err));
    RC_TRY(bring_weights(m, p, err));
    m->on->host_counters[0] = m->seed;
    return RC_OK;
}

/* ---- runs -------------------------------------------------------------------------------------- */

static rc_plan_record *
record_of(rc_plan *p, int32_t from, int32_t to)
{
    for (int i = 0; i < RC_PLAN_RECORDS; i++) {
        rc_plan_record *r = &p->records[i];
        if (!r->runs || (r->from == from && r->to == to)) {
            r->from = from;
            r->to = to;
            return r;
        }
    }
    return NULL;
}

static void
put_on_stream(const rc_on_device *on, rc_plan *p, int32_t from, int32_t to)
{
    for (int32_t i = from; i < to; i++) {
        rc_step *s = &p->steps[i];
        s->device.run(on->d, &s->call, s->device.choice);
    }
}

/* Step by step, waiting for each. */
static rc_status
run_timed(const rc_on_device *on, rc_plan *p, int32_t from, int32_t to, rc_error *err)
{
    RC_TRY(on->api->wait(on->d, err));
    for (int32_t i = from; i < to; i++) {
        rc_step *s = &p->steps[i];
        double start = rc_seconds();
        s->device.run(on->d, &s->call, s->device.choice);
        RC_TRY(on->api->wait(on->d, err));
        s->seconds += rc_seconds() - start;
        s->runs++;
    }
    return RC_OK;
}

rc_status
rc_device_run(rc_model *m, rc_plan *p, int32_t from, int32_t to, const rc_poll *poll,
              rc_error *err)
{
    const rc_on_device *on = p->on;
    rc_plan_record *r = from < to ? record_of(p, from, to) : NULL;
    if (poll && poll->stop && poll->stop(poll->context)) {
        return RC_INTERRUPTED;
    }
    if (from == to) {
        return RC_OK;
    }
    if (from == 0) { /* copied at once: the next run may change them */
        on->host_counters[1] = m->current_step;
        RC_TRY(on->api->upload(on->d, on->counters, on->host_counters, 2 * sizeof(uint64_t),
                               err));
    }
    if (m->profile) {
        return run_timed(on, p, from, to, err);
    }
    if (r && r->runs == 1) {
        RC_TRY(on->api->record_begin(on->d, err));
        put_on_stream(on, p, from, to);
        rc_status status = on->api->record_end(on->d, &r->graph, err);
        if (status != RC_OK) {
            return status;
        }
    }
    if (r && r->graph) {
        r->runs++;
        return on->api->replay(on->d, r->graph, err);
    }
    put_on_stream(on, p, from, to);
    if (r) {
        r->runs++;
    }
    return on->api->check(on->d, err);
}
