/* A model's weights on a device and back (device.h). */
#include "plan/device.h"

#include <string.h>

#define LINE 256 /* bytes that an entry's place in a block is a multiple of */

/* ---- blocks -------------------------------------------------------------------------------- */

/* (k,c,taps) -> (k,taps,c), or back. */
static void
turn(const rc_shape *s, bool back, const float *from, float *to)
{
    int64_t c = s->d[1], taps = s->d[2] * s->d[3];
    for (int64_t k = 0; k < s->d[0]; k++) {
        for (int64_t i = 0; i < c; i++) {
            for (int64_t t = 0; t < taps; t++) {
                int64_t host = (k * c + i) * taps + t, device = (k * taps + t) * c + i;
                to[back ? host : device] = from[back ? device : host];
            }
        }
    }
}

rc_status
rc_block_new(const rc_on_device *on, char **out, rc_error *err)
{
    void *block = NULL;
    RC_TRY(on->api->alloc(on->d, on->bytes, &block, err));
    rc_status status = on->api->zero(on->d, block, on->bytes, err);
    if (status != RC_OK) {
        on->api->release(on->d, block);
        return status;
    }
    *out = block;
    return RC_OK;
}

void
rc_block_free(const rc_on_device *on, char *block)
{
    on->api->release(on->d, block);
}

static void
one_entry(const rc_model *m, int32_t i, bool back, char *staged, void *host)
{
    const rc_shape *s = &m->graph->states[i].shape;
    char *at = staged + m->on->offset[i];
    size_t bytes = (size_t)rc_shape_count(s) * sizeof(float);
    if (m->on->turned[i]) {
        turn(s, back, back ? (float *)(void *)at : host, back ? host : (float *)(void *)at);
    } else if (back) {
        memcpy(host, at, bytes);
    } else {
        memcpy(at, host, bytes);
    }
}

static rc_status
stage(const rc_on_device *on, char **out, rc_error *err)
{
    *out = rc_alloc(on->bytes, 1);
    return *out ? RC_OK : rc_fail(err, RC_MEMORY, "out of memory for a copy of the weights");
}

rc_status
rc_block_put(const rc_model *m, char *block, void *const *host, rc_error *err)
{
    const rc_on_device *on = m->on;
    char *staged = NULL;
    bool all = true;
    RC_TRY(stage(on, &staged, err));
    for (int32_t i = 0; i < m->graph->n_states; i++) {
        all = all && host[i];
    }
    memset(staged, 0, (size_t)on->bytes); /* between entries */
    rc_status status = all ? RC_OK : on->api->download(on->d, staged, block, on->bytes, err);
    status = status == RC_OK ? on->api->wait(on->d, err) : status;
    for (int32_t i = 0; status == RC_OK && i < m->graph->n_states; i++) {
        if (host[i]) {
            one_entry(m, i, false, staged, host[i]);
        }
    }
    status = status == RC_OK ? on->api->upload(on->d, block, staged, on->bytes, err) : status;
    status = status == RC_OK ? on->api->wait(on->d, err) : status;
    rc_free(staged);
    return status;
}

rc_status
rc_block_get(const rc_model *m, const char *block, void *const *host, rc_error *err)
{
    const rc_on_device *on = m->on;
    char *staged = NULL;
    RC_TRY(stage(on, &staged, err));
    rc_status status = on->api->download(on->d, staged, block, on->bytes, err);
    status = status == RC_OK ? on->api->wait(on->d, err) : status;
    for (int32_t i = 0; status == RC_OK && i < m->graph->n_states; i++) {
        if (host[i]) {
            one_entry(m, i, true, staged, host[i]);
        }
    }
    rc_free(staged);
    return status;
}

/* ---- keeping both sides alike ---------------------------------------------------------------- */

static rc_status
fetch_weights(rc_model *m, rc_error *err)
{
    rc_on_device *on = m->on;
    if (on->newer) {
        RC_TRY(rc_block_get(m, on->weights, m->data, err));
        on->newer = false;
    }
    return RC_OK;
}

rc_status
rc_model_fetch(rc_model *m, rc_error *err)
{
    rc_on_device *on = m->on;
    if (!on) {
        return RC_OK;
    }
    RC_TRY(fetch_weights(m, err));
    if (on->gradients_newer) {
        RC_TRY(rc_model_need_gradients(m, err));
        RC_TRY(rc_block_get(m, on->gradients, m->gradient, err));
        on->gradients_newer = false;
    }
    for (rc_companion *c = m->companions; c; c = c->next) {
        if (c->block && c->newer) {
            RC_TRY(rc_block_get(m, c->block, c->host, err));
            c->newer = false;
        }
    }
    return RC_OK;
}

/* Views write to the host's weights whenever they like: while there are any, both sides are made
 * alike after every step, and before every run. */
rc_status
rc_device_moved_on(rc_model *m, rc_error *err)
{
    m->on->newer = true;
    uint64_t expected = m->on->version;
    if (__atomic_load_n(&m->views, __ATOMIC_SEQ_CST) > 0
        || !__atomic_compare_exchange_n(&m->version, &expected, expected + 1, false,
                                        __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
        return fetch_weights(m, err);
    }
    m->on->version = expected + 1;
    return RC_OK;
}

/* ---- companions ------------------------------------------------------------------------------ */

void
rc_model_accompany(rc_model *m, rc_companion *c)
{
    rc_model_lock(m);
    c->next = m->companions;
    m->companions = c;
    rc_model_unlock(m);
}

void
rc_model_part_with(rc_model *m, rc_companion *c)
{
    rc_model_lock(m);
    rc_companion_touch(m, c);
    for (rc_companion **at = &m->companions; *at; at = &(*at)->next) {
        if (*at == c) {
            *at = c->next;
            break;
        }
    }
    rc_model_unlock(m);
}

rc_status
rc_companion_there(rc_model *m, rc_companion *c, rc_error *err)
{
    if (c->block) {
        return RC_OK;
    }
    char *block = NULL;
    RC_TRY(rc_block_new(m->on, &block, err));
    rc_status status = rc_block_put(m, block, c->host, err);
    if (status != RC_OK) {
        rc_block_free(m->on, block);
        return status;
    }
    c->block = block;
    return RC_OK;
}

void
rc_companion_touch(rc_model *m, rc_companion *c)
{
    if (c->block) {
        rc_block_free(m->on, c->block);
    }
    c->block = NULL;
    c->newer = false;
}

/* ---- there and back --------------------------------------------------------------------------- */

static void
leave(rc_on_device *on)
{
    if (on) {
        if (on->d) {
            on->api->release(on->d, on->weights);
            on->api->release(on->d, on->gradients);
            on->api->release(on->d, on->counters);
            on->api->host_release(on->d, on->host_counters);
            on->api->host_release(on->d, on->staged);
            on->api->close(on->d);
        }
        rc_free(on->offset);
        rc_free(on->turned);
        rc_free(on);
    }
}

void
rc_model_leave_device(rc_model *m)
{
    leave(m->on);
    m->on = NULL;
}

/* Offsets of the entries, and which of them are weights of convolutions over several positions. */
static rc_status
lay_out(const rc_model *m, rc_on_device *on, rc_error *err)
{
    const rc_graph *g = m->graph;
    on->offset = rc_alloc_zero(g->n_states + 1, sizeof *on->offset);
    on->turned = rc_alloc_zero(g->n_states + 1, sizeof *on->turned);
    if (!on->offset || !on->turned) {
        return rc_fail(err, RC_MEMORY, "out of memory for the weights");
    }
    for (int32_t i = 0; i < g->n_states; i++) {
        on->offset[i] = on->bytes;
        int64_t bytes = rc_shape_count(&g->states[i].shape) * (int64_t)sizeof(float);
        on->bytes += (bytes + LINE - 1) & -(int64_t)LINE;
    }
    on->bytes += on->bytes ? 0 : LINE;
    for (int32_t i = 0; i < g->n_nodes; i++) {
        const rc_value_info *w = &g->values[g->nodes[i].in[g->nodes[i].n_in > 1 ? 1 : 0]];
        if (g->nodes[i].op == RC_OP_conv2d && w->kind == RC_VALUE_STATE) {
            on->turned[w->index] = w->shape.d[1] > 1 && w->shape.d[2] * w->shape.d[3] > 1;
        }
    }
    return RC_OK;
}

static rc_status
arrive(rc_model *m, int index, rc_on_device **out, rc_error *err)
{
    rc_on_device *on = *out = rc_alloc_zero(1, sizeof *on);
    const char *folders;
    if (!on) {
        return rc_fail(err, RC_MEMORY, "out of memory for the device");
    }
    RC_TRY(rc_device_get(&on->api, &folders, err));
    RC_TRY(on->api->open(index, folders, &on->d, err));
    RC_TRY(lay_out(m, on, err));
    RC_TRY(rc_block_new(on, &on->weights, err));
    void *block = NULL;
    RC_TRY(on->api->alloc(on->d, 2 * (int64_t)sizeof(uint64_t), &block, err));
    on->counters = block;
    RC_TRY(on->api->host_alloc(on->d, 2 * (int64_t)sizeof(uint64_t), &block, err));
    on->host_counters = block;
    return RC_OK;
}

static rc_status
move(rc_model *m, int index, rc_error *err)
{
    rc_on_device *on = NULL;
    if (index == rc_model_device(m)) {
        return RC_OK;
    }
    bool fits = m->real_size == sizeof(float)
                && (m->compute == RC_REAL || m->compute == RC_BF16);
    if (index >= 0 && !fits) {
        return rc_fail(err, RC_UNSUPPORTED, "device: precision '%s' runs on the CPU alone, cuda "
                       "takes 'float32' and 'bfloat16'", m->info.precision);
    }
    if (index >= 0 && m->info.low_memory) {
        return rc_fail(err, RC_UNSUPPORTED, "device: memory='low' is for the CPU alone, cuda takes "
                       "'normal'");
    }
    RC_TRY(rc_model_fetch(m, err));
    if (index >= 0) { /* all that may fail, before anything changes */
        rc_on_device *old = m->on;
        uint64_t version = __atomic_load_n(&m->version, __ATOMIC_SEQ_CST);
        rc_status status = arrive(m, index, &on, err);
        m->on = on;
        if (status == RC_OK) {
            status = rc_block_put(m, on->weights, m->data, err);
        }
        if (status == RC_OK && m->has_gradients) {
            status = rc_block_new(on, &on->gradients, err);
            status = status == RC_OK ? rc_block_put(m, on->gradients, m->gradient, err) : status;
        }
        m->on = old;
        if (status != RC_OK) {
            leave(on);
            return status;
        }
        on->version = version;
    }
    rc_model_drop_plans(m);
    for (rc_companion *c = m->companions; c; c = c->next) {
        rc_companion_touch(m, c); /* its memory follows at its next use */
    }
    rc_model_leave_device(m);
    m->on = on;
    return RC_OK;
}

rc_status
rc_model_to(rc_model *m, int index, rc_error *err)
{
    rc_model_lock(m);
    rc_status status = move(m, index, err);
    rc_model_unlock(m);
    return status;
}

int
rc_model_device(const rc_model *m)
{
    return m->on ? m->on->api->info(m->on->d)->index : -1;
}

const rc_device_info *
rc_model_device_info(const rc_model *m)
{
    return m->on ? m->on->api->info(m->on->d) : NULL;
}
