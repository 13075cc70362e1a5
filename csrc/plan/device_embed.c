/* Embeddings on a device: chunk after chunk is put on the stream, and nothing waits but for the last
 * images' copy, so that the next ones are read and resized while a chunk runs. */
#include "plan/device.h"

static rc_status
one_pass(rc_model *m, rc_plan *p, const rc_images *images, int64_t from, int64_t count, bool mirror,
         rc_error *err)
{
    RC_TRY(rc_load_images(m, p, images, from, count, mirror, err));
    return rc_run_steps(m, p, 0, p->n_steps, NULL, err);
}

static rc_status
all_chunks(rc_model *m, rc_plan *p, const rc_images *images, bool flip, const float *value,
           float *out, const rc_poll *poll, rc_error *err)
{
    const rc_on_device *on = m->on;
    int64_t d = m->info.dimension;
    double last = rc_seconds();
    for (int64_t from = 0; from < images->n; from += p->spec.n) {
        int64_t left = images->n - from, count = left < p->spec.n ? left : p->spec.n;
        if (rc_asked_to_stop(poll, &last)) {
            return RC_INTERRUPTED;
        }
        RC_TRY(one_pass(m, p, images, from, count, false, err));
        RC_TRY(on->api->copy(on->d, out + from * d, value, count * d * (int64_t)sizeof(float),
                             err));
        if (flip) {
            RC_TRY(one_pass(m, p, images, from, count, true, err));
            RC_TRY(on->api->blend(on->d, out + from * d, value, count * d, 0.5f, err));
        }
    }
    return RC_OK;
}

rc_status
rc_device_embed(rc_model *m, rc_plan *p, const rc_images *images, bool flip, rc_value embedding,
                void **out, const rc_poll *poll, rc_error *err)
{
    const rc_on_device *on = m->on;
    const rc_buffer *b = &p->buffers[p->value_buffer[embedding]];
    int64_t bytes = images->n * m->info.dimension * (int64_t)sizeof(float);
    void *block = NULL;
    RC_TRY(rc_device_room(m, p, on->api->alloc(on->d, bytes, &block, err), err));
    rc_status status = all_chunks(m, p, images, flip, (const void *)(p->arena + b->offset), block,
                                  poll, err);
    if (status != RC_OK) {
        on->api->release(on->d, block);
        return status;
    }
    *out = block;
    return RC_OK;
}
