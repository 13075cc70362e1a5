/* Evaluation: embeddings in batches, with the mirrored image, of unit length. */
#include <math.h>
#include <string.h>

#include "plan/device.h"

#define EMBED_BATCH 32
#define LEAST_OF_BYTES 3 /* images at once in bytes: their maps stay in the caches, and weights, a */
#define MOST_OF_BYTES 8  /* quarter of the float32 ones, are asked for ahead of time */

/* row <- row / max(|row|, 1e-12) */
static void
normalize_rows(void *out, int64_t n, int64_t d, bool is_double)
{
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int64_t k = 0; k < d; k++) {
            double v = is_double ? ((double *)out)[i * d + k] : ((float *)out)[i * d + k];
            sum += v * v;
        }
        double length = sqrt(sum);
        double scale = 1 / (length > 1e-12 ? length : 1e-12);
        for (int64_t k = 0; k < d; k++) {
            if (is_double) {
                ((double *)out)[i * d + k] *= scale;
            } else {
                float *v = &((float *)out)[i * d + k];
                *v = (float)(*v * scale);
            }
        }
    }
}

static rc_value
output_value(const rc_graph *g, rc_role role)
{
    for (int32_t i = 0; i < g->n_outputs; i++) {
        if (g->outputs[i].role & role) {
            return g->outputs[i].value;
        }
    }
    return RC_NONE;
}

static rc_status
embed_chunk(rc_model *m, rc_plan *p, const rc_images *images, int64_t from, int64_t count,
            bool flip, char *out, const rc_poll *poll, rc_error *err)
{
    int64_t d = m->info.dimension;
    rc_value v = output_value(m->graph, RC_ROLE_EVAL);
    size_t bytes = (size_t)(count * d) * m->real_size;
    RC_TRY(rc_load_images(m, p, images, from, count, false, err));
    RC_TRY(rc_run_steps(m, p, 0, p->n_steps, poll, err));
    memcpy(out, rc_plan_value(p, v), bytes);
    if (!flip) {
        return RC_OK;
    }
    RC_TRY(rc_load_images(m, p, images, from, count, true, err));
    RC_TRY(rc_run_steps(m, p, 0, p->n_steps, poll, err));
    for (int64_t i = 0; i < count * d; i++) {
        if (m->info.is_double) {
            double *y = (double *)(void *)out + i;
            *y = 0.5 * (*y + ((const double *)rc_plan_value(p, v))[i]);
        } else {
            float *y = (float *)(void *)out + i;
            *y = 0.5f * (*y + ((const float *)rc_plan_value(p, v))[i]);
        }
    }
    return RC_OK;
}

static rc_status
check_embed(const rc_model *m, const rc_images *images, int64_t batch, rc_error *err)
{
    RC_TRY(rc_check_images(m, images, true, err));
    if (output_value(m->graph, RC_ROLE_EVAL) == RC_NONE) {
        return rc_fail(err, RC_ARGUMENT, "embed: this network has no output 'embedding'");
    }
    if (batch < 0) {
        return rc_fail(err, RC_ARGUMENT, "batch_size: expected 1 or more, got %lld",
                       (long long)batch);
    }
    return RC_OK;
}

static int64_t
computed(int64_t n, int64_t size) /* images: the last chunk is a whole one, too */
{
    return (n + size - 1) / size * size;
}

/* How many of n images at once; batch: what the caller wishes at most, or 0. */
static int64_t
chunk_of(const rc_model *m, int64_t n, int64_t batch)
{
    if (batch || m->compute != RC_U8 || m->on) {
        int64_t most = batch ? batch : EMBED_BATCH, chunks = (n + most - 1) / most;
        return (n + chunks - 1) / chunks; /* even ones */
    }
    int64_t best = n < LEAST_OF_BYTES ? n : LEAST_OF_BYTES;
    for (int64_t size = best + 1; size <= n && size <= MOST_OF_BYTES; size++) {
        best = computed(n, size) < computed(n, best) ? size : best;
    }
    return best;
}

/* The plan for chunks of these images, ready. */
static rc_status
embed_plan(rc_model *m, const rc_images *images, int64_t batch, rc_plan **out, rc_error *err)
{
    rc_plan_spec spec = {.kind = RC_PLAN_EVAL, .n = chunk_of(m, images->n, batch)};
    rc_plan *p = NULL;
    RC_TRY(rc_model_plan(m, &spec, &p, err));
    if (m->ran == p) {
        m->ran = NULL;
    }
    *out = p;
    return rc_plan_ready(m, p, err);
}

static rc_status
embed_on_device(rc_model *m, rc_plan *p, const rc_images *images, bool flip, void *out,
                const rc_poll *poll, rc_error *err)
{
    void *block = NULL;
    const rc_on_device *on = m->on;
    rc_value v = output_value(m->graph, RC_ROLE_EVAL);
    RC_TRY(rc_device_embed(m, p, images, flip, v, &block, poll, err));
    rc_status status = on->api->download(on->d, out, block, images->n * m->info.dimension
                                         * (int64_t)sizeof(float), err);
    status = status == RC_OK ? on->api->wait(on->d, err) : status;
    on->api->release(on->d, block);
    return status;
}

static rc_status
embed(rc_model *m, const rc_images *images, bool flip, bool normalize, int64_t batch, void *out,
      const rc_poll *poll, rc_error *err)
{
    rc_plan *p = NULL;
    int64_t n = images->n;
    RC_TRY(check_embed(m, images, batch, err));
    if (!n) {
        return RC_OK;
    }
    RC_TRY(embed_plan(m, images, batch, &p, err));
    if (m->on) {
        RC_TRY(embed_on_device(m, p, images, flip, out, poll, err));
        n = 0; /* all are done */
    }
    int64_t size = p->spec.n;
    double last = rc_seconds();
    for (int64_t from = 0; from < n; from += size) {
        int64_t count = n - from < size ? n - from : size;
        char *to = (char *)out + (size_t)(from * m->info.dimension) * m->real_size;
        if (rc_asked_to_stop(poll, &last)) { /* chunks may be shorter than the time between asking */
            return RC_INTERRUPTED;
        }
        RC_TRY(embed_chunk(m, p, images, from, count, flip, to, poll, err));
    }
    if (normalize) {
        normalize_rows(out, images->n, m->info.dimension, m->info.is_double);
    }
    return RC_OK;
}

rc_status
rc_model_embed(rc_model *m, const rc_images *images, bool flip, bool normalize, int64_t batch,
               void *out, const rc_poll *poll, rc_error *err)
{
    rc_model_lock(m);
    rc_status status = embed(m, images, flip, normalize, batch, out, poll, err);
    rc_model_unlock(m);
    return status;
}

rc_status
rc_model_embed_there(rc_model *m, const rc_images *images, bool flip, bool normalize, int64_t batch,
                     void **out, const rc_poll *poll, rc_error *err)
{
    rc_plan *p = NULL;
    rc_model_lock(m);
    const rc_on_device *on = m->on;
    rc_status status = check_embed(m, images, batch, err);
    if (status == RC_OK && (!on || !images->n)) {
        status = rc_fail(err, RC_ARGUMENT, on ? "images: expected at least one, got an empty batch"
                                              : "embed: the network is on the CPU");
    }
    status = status == RC_OK ? embed_plan(m, images, batch, &p, err) : status;
    if (status == RC_OK) {
        status = rc_device_embed(m, p, images, flip, output_value(m->graph, RC_ROLE_EVAL), out,
                                 poll, err);
    }
    if (status == RC_OK) {
        status = normalize ? on->api->unit_rows(on->d, *out, images->n, m->info.dimension, *out,
                                                NULL, err) : RC_OK;
        status = status == RC_OK ? on->api->wait(on->d, err) : status;
        if (status != RC_OK) {
            on->api->release(on->d, *out);
        }
    }
    rc_model_unlock(m);
    return status;
}
