/* What goes into a plan and comes out: pictures, planes, and feature maps in users' order. */
#include <math.h>
#include <string.h>

#include "data/pack.h"
#include "plan/device.h"

static rc_status
check_card(const rc_model *m, int card, const char *what, rc_error *err)
{
    if (!m->on) {
        return rc_fail(err, RC_ARGUMENT, "%s: they are on a card, the network is on the CPU "
                       "(m.to('cuda'), or %s.cpu())", what, what);
    }
    if (card >= 0 && card != rc_model_device(m)) {
        return rc_fail(err, RC_ARGUMENT, "%s: they are on cuda:%d, the network is on cuda:%d", what,
                       card, rc_model_device(m));
    }
    return RC_OK;
}

rc_status
rc_model_peek(rc_model *m, int card, void *stream, const void *from, int64_t bytes,
              const char *what, void *to, rc_error *err)
{
    rc_model_lock(m);
    rc_status status = check_card(m, card, what, err);
    if (status == RC_OK && bytes) {
        status = m->on->api->peek(m->on->d, to, from, bytes, stream, err);
    }
    rc_model_unlock(m);
    return status;
}

rc_status
rc_check_images(const rc_model *m, const rc_images *images, bool may_be_empty, rc_error *err)
{
    const rc_model_info *info = &m->info;
    RC_TRY(images->there ? check_card(m, images->card, "images", err) : RC_OK);
    if (images->augment) {
        const rc_augment *a = images->augment;
        if (!m->on || a->jitter > 0) {
            return rc_fail(err, RC_ARGUMENT, "images: they are to be augmented on a card, and %s",
                           m->on ? "colour jitter is not done there" : "the network is on the CPU");
        }
        if (a->height != info->height || a->width != info->width) {
            return rc_fail(err, RC_ARGUMENT, "images: augmented to %lld×%lld, expected %lld×%lld, the "
                           "network's size", (long long)a->height, (long long)a->width,
                           (long long)info->height, (long long)info->width);
        }
    }
    if (images->c != 3) {
        return rc_fail(err, RC_ARGUMENT, "images: expected 3 channels, got %lld",
                       (long long)images->c);
    }
    if (!images->is_u8 && images->n && (images->h != info->height || images->w != info->width)) {
        return rc_fail(err, RC_ARGUMENT,
                       "images: expected float32 N×3×%lld×%lld, got %lld×3×%lld×%lld",
                       (long long)info->height, (long long)info->width, (long long)images->n,
                       (long long)images->h, (long long)images->w);
    }
    if (images->is_u8 && !images->pictures && images->n && (images->h < 1 || images->w < 1)) {
        return rc_fail(err, RC_ARGUMENT, "images: expected pictures, got %lld×%lld×%lld×3",
                       (long long)images->n, (long long)images->h, (long long)images->w);
    }
    if (images->n < (may_be_empty ? 0 : 1)) {
        return rc_fail(err, RC_ARGUMENT, "images: expected at least one, got an empty batch");
    }
    return RC_OK;
}

/* Doubles, n,3,h,w -> n,h,w,3; plain loops: double models are for tests. */
static rc_status
load_doubles(const double *x, int64_t n, int64_t h, int64_t w, bool mirror, double *y,
             rc_error *err)
{
    for (int64_t i = 0; i < n; i++) {
        for (int64_t c = 0; c < 3; c++) {
            for (int64_t p = 0; p < h * w; p++) {
                double v = x[(i * 3 + c) * h * w + p];
                int64_t col = p % w, to = p - col + (mirror ? w - 1 - col : col);
                if (!isfinite(v)) {
                    return rc_fail(err, RC_ARGUMENT, "images: image %lld has a pixel that is NaN "
                                   "or infinite", (long long)i);
                }
                y[(i * h * w + to) * 3 + c] = v;
            }
        }
    }
    return RC_OK;
}

static rc_status
load_images(const rc_model *m, const rc_plan *p, const rc_images *images, int64_t from,
            int64_t count, bool mirror, rc_error *err)
{
    int64_t height = m->info.height, width = m->info.width, pixels = height * width * 3;
    char *to = rc_plan_host(p, p->images_buffer);
    bool is_double = m->info.is_double;
    memset(to + (size_t)(count * pixels) * m->real_size, 0,
           (size_t)((p->spec.n - count) * pixels) * m->real_size);
    if (images->is_u8) {
        rc_input_rule rule = rc_input_rule_default(height, width);
        rule.mirror = mirror;
        const uint8_t *bytes = images->data;
        bytes += (size_t)(from * images->h * images->w * 3);
        float *floats = is_double ? rc_alloc(count * pixels, sizeof(float)) : (float *)(void *)to;
        if (!floats) {
            return rc_fail(err, RC_MEMORY, "out of memory for the images");
        }
        rc_status status = rc_images_to_input(bytes, count, images->h, images->w, &rule, floats,
                                              m->info.threads, err);
        if (is_double) {
            for (int64_t i = 0; status == RC_OK && i < count * pixels; i++) {
                ((double *)(void *)to)[i] = floats[i];
            }
            rc_free(floats);
        }
        return status;
    }
    if (is_double) {
        return load_doubles((const double *)images->data + from * pixels, count, height, width,
                            mirror, (double *)(void *)to, err);
    }
    return rc_floats_to_input((const float *)images->data + from * pixels, count, height, width,
                              mirror, (float *)(void *)to, m->info.threads, err);
}

/* ---- on a device ------------------------------------------------------------------------------ */

/* Floats, from where they lie on the same card. */
static rc_status
gather(const rc_model *m, const rc_plan *p, const rc_images *images, int64_t from, int64_t count,
       bool mirror, float *to, rc_error *err)
{
    const rc_on_device *on = p->on;
    rc_device_maps maps = {(const float *)images->data + from * images->strides[0],
                           {images->strides[0], images->strides[1], images->strides[2],
                            images->strides[3]}};
    RC_TRY(images->stream ? on->api->join(on->d, images->stream, err) : RC_OK);
    return on->api->gather(on->d, &maps, to, count, m->info.height, m->info.width, mirror, err);
}

/* Page-locked memory that no copy reads any more. */
static rc_status
staging(rc_on_device *on, int64_t bytes, rc_error *err)
{
    RC_TRY(on->api->fed(on->d, err));
    if (on->staged_bytes < bytes) {
        void *block = NULL;
        on->api->host_release(on->d, on->staged);
        on->staged = NULL;
        on->staged_bytes = 0;
        RC_TRY(on->api->host_alloc(on->d, bytes + bytes / 4, &block, err));
        on->staged = block;
        on->staged_bytes = bytes + bytes / 4;
    }
    return RC_OK;
}

/* The pictures [from, from + count) as C sees them one by one; their pixels may lie on the card. */
static rc_image *
picture_list(const rc_images *images, int64_t from, int64_t count)
{
    rc_image *list = rc_alloc(count + 1, sizeof *list);
    for (int64_t i = 0; list && i < count; i++) {
        list[i] = images->pictures ? images->pictures[from + i]
                                   : (rc_image){(const uint8_t *)images->data
                                                    + (from + i) * images->h * images->w * 3,
                                                images->h, images->w, 0};
        if (images->there) {
            list[i].pixels = NULL;
            list[i].stride = images->strides[1];
        }
    }
    return list;
}

/* Bytes: resized, augmented and normalised there. */
static rc_status
feed_bytes(const rc_model *m, const rc_images *images, int64_t from, int64_t count, bool mirror,
           float *to, rc_error *err)
{
    rc_on_device *on = m->on;
    const rc_augment *a = images->augment;
    rc_pack pack;
    rc_input_rule rule = rc_input_rule_default(m->info.height, m->info.width);
    rc_pack_there there = {.picture = images->strides[0], .step = images->strides[2],
                           .colour = images->strides[3]};
    rule.mirror = mirror;
    if (a) {
        rule.filter = a->filter;
        memcpy(rule.mean, a->mean, sizeof rule.mean);
        memcpy(rule.std, a->std, sizeof rule.std);
    }
    if (images->there) {
        there.pixels = (const uint8_t *)images->data + from * there.picture;
        RC_TRY(images->stream ? on->api->join(on->d, images->stream, err) : RC_OK);
    }
    rc_image *list = picture_list(images, from, count);
    if (!list) {
        return rc_fail(err, RC_MEMORY, "out of memory for the images");
    }
    rc_status status = rc_pack_init(&pack, list, count, &rule, a, images->there ? &there : NULL,
                                    err);
    if (status == RC_OK) {
        status = staging(on, pack.head.bytes, err);
        if (status == RC_OK) {
            rc_pack_write(&pack, on->staged);
            pack.head.seed = images->augment_seed;
            pack.head.epoch = images->epoch;
            pack.head.first = images->first + from;
            status = on->api->feed_pictures(on->d, &pack.head, to, err);
        }
        rc_pack_fini(&pack);
    }
    rc_free(list);
    return status;
}

/* Floats of the host, turned by it. */
static rc_status
feed_floats(const rc_model *m, const rc_plan *p, const rc_images *images, int64_t from,
            int64_t count, bool mirror, float *to, rc_error *err)
{
    const rc_on_device *on = p->on;
    int64_t pixels = m->info.height * m->info.width * 3;
    RC_TRY(on->api->fed(on->d, err));
    RC_TRY(load_images(m, p, images, from, count, mirror, err));
    return on->api->feed(on->d, to, rc_plan_host(p, p->images_buffer),
                         count * pixels * (int64_t)sizeof *to, err);
}

static rc_status
load_there(const rc_model *m, const rc_plan *p, const rc_images *images, int64_t from,
           int64_t count, bool mirror, rc_error *err)
{
    const rc_on_device *on = p->on;
    int64_t pixels = m->info.height * m->info.width * 3, rest = p->spec.n - count;
    float *to = (void *)(p->arena + p->buffers[p->images_buffer].offset);
    RC_TRY(rest ? on->api->zero(on->d, to + count * pixels, rest * pixels * (int64_t)sizeof *to,
                                err) : RC_OK);
    if (images->is_u8) {
        return feed_bytes(m, images, from, count, mirror, to, err);
    }
    return images->there ? gather(m, p, images, from, count, mirror, to, err)
                         : feed_floats(m, p, images, from, count, mirror, to, err);
}

/* Images [from, from + count) into the plan's input; rows beyond count become zero. On a device
 * they go there beside what is running. */
rc_status
rc_load_images(const rc_model *m, const rc_plan *p, const rc_images *images, int64_t from,
               int64_t count, bool mirror, rc_error *err)
{
    return p->on ? rc_device_room(m, p, load_there(m, p, images, from, count, mirror, err), err)
                 : load_images(m, p, images, from, count, mirror, err);
}

rc_status
rc_load_planes(const rc_model *m, const rc_plan *p, const int64_t *planes, int64_t n, rc_error *err)
{
    int64_t rows = m->info.map_height;
    if (!planes) {
        return RC_OK;
    }
    if (!m->info.takes_planes) {
        return rc_fail(err, RC_ARGUMENT, "planes: this network has none");
    }
    for (int64_t i = 0; i < n; i++) {
        const int64_t *l = planes + 4 * i;
        if (!(0 < l[0] && l[0] < l[1] && l[1] < l[2] && l[2] < l[3] && l[3] < rows)) {
            return rc_fail(err, RC_ARGUMENT,
                           "planes: expected 0 < l0 < l1 < l2 < l3 < %lld in every row, got "
                           "%lld %lld %lld %lld in row %lld", (long long)rows, (long long)l[0],
                           (long long)l[1], (long long)l[2], (long long)l[3], (long long)i);
        }
    }
    memcpy(rc_plan_host(p, p->planes_buffer), planes, (size_t)n * 4 * sizeof *planes);
    return RC_OK;
}

void
rc_nhwc_to_nchw(const char *x, const rc_shape *s, size_t size, char *y)
{
    int64_t positions = s->d[2] * s->d[3];
    for (int64_t i = 0; i < s->d[0]; i++) {
        for (int64_t c = 0; c < s->d[1]; c++) {
            for (int64_t q = 0; q < positions; q++) {
                memcpy(y + (size_t)((i * s->d[1] + c) * positions + q) * size,
                       x + (size_t)((i * positions + q) * s->d[1] + c) * size, size);
            }
        }
    }
}
