/* Pictures of any sizes as one block for a device: tables, the weights of each resize, pixels
 * (rc_device_pictures in device/device.h says where what lies). The device resizes, augments and
 * normalises from there, with the numbers that augment.c and input.c use. */
#include "data/data_impl.h"

#include <math.h>
#include <string.h>

#include "data/pack.h"

enum { ALIGN = 16 };

/* Room for so many bytes; its place. */
static int64_t
book(rc_device_pictures *p, int64_t bytes)
{
    int64_t at = p->bytes;
    p->bytes += (bytes + ALIGN - 1) / ALIGN * ALIGN;
    return at;
}

static bool
too_large(int64_t h, int64_t row, int64_t w, int64_t step, int64_t colour)
{
    return row < 0 || step < 0 || colour < 0
           || (double)(h - 1) * (double)row + (double)(w - 1) * (double)step + 2.0 * (double)colour
                  > (double)INT32_MAX;
}

static void
book_axis(rc_device_pictures *p, const rc_taps *taps, int64_t out, bool runs, rc_device_axis *to)
{
    *to = (rc_device_axis){.out = (int32_t)out};
    if (runs) {
        to->count = (int32_t)taps->count;
        to->first = book(p, out * (int64_t)sizeof *taps->first);
        to->weights = book(p, out * taps->count * (int64_t)sizeof *taps->weights);
    }
}

static int64_t
book_set(rc_pack *k, const rc_resize_set *set, rc_device_resize *to)
{
    rc_device_pictures *p = &k->head;
    int64_t at = book(p, set->count * (int64_t)sizeof *to);
    for (int64_t i = 0; i < set->count; i++) {
        const rc_resize *r = &set->plans[i];
        book_axis(p, &r->x, r->out_w, r->horizontal, &to[i].x);
        book_axis(p, &r->y, r->out_h, r->vertical, &to[i].y);
        to[i].vertical_first = r->vertical_first;
    }
    return at;
}

static rc_status
make(rc_pack *k, const rc_image *images, int64_t n, const rc_input_rule *rule,
     const rc_augment *augment, rc_error *err)
{
    rc_device_pictures *p = &k->head;
    bool larger = augment && augment->scale_crop > 0.0;
    RC_TRY(rc_resize_set_init(&k->plain, images, n, rule->height, rule->width, rule->filter, err));
    if (larger) {
        RC_TRY(rc_resize_set_init(&k->larger, images, n, rc_scaled_up(rule->height),
                                  rc_scaled_up(rule->width), rule->filter, err));
    }
    k->resizes = rc_alloc_zero(k->plain.count + k->larger.count, sizeof *k->resizes);
    if (!k->resizes) {
        return rc_fail(err, RC_MEMORY, "images: no memory for resizing");
    }
    p->pictures = book(p, n * (int64_t)sizeof(rc_device_picture));
    p->plain = book_set(k, &k->plain, k->resizes);
    p->larger = larger ? book_set(k, &k->larger, k->resizes + k->plain.count) : p->plain;
    p->lut = book(p, (int64_t)sizeof k->normaliser.lut);
    p->pixels = p->bytes;
    for (int64_t i = 0; i < n; i++) {
        const rc_image *image = &images[i];
        int64_t row = p->there ? image->stride : 3 * image->width;
        if (too_large(image->height, row, image->width, p->step, p->colour)) {
            return rc_fail(err, RC_ARGUMENT, "images: image %lld: a picture for a card lies within "
                           "2 GiB, with ascending rows and columns", (long long)i);
        }
        if (!p->there) {
            (void)book(p, image->height * row);
        }
    }
    return RC_OK;
}

rc_status
rc_pack_init(rc_pack *k, const rc_image *images, int64_t n, const rc_input_rule *rule,
             const rc_augment *augment, const rc_pack_there *there, rc_error *err)
{
    memset(k, 0, sizeof *k);
    k->images = images;
    k->there = there;
    k->head = (rc_device_pictures){
        .n = n, .height = rule->height, .width = rule->width, .mirror = rule->mirror,
        .augment = augment, .there = there ? there->pixels : NULL,
        .step = there ? (int32_t)there->step : 3, .colour = there ? (int32_t)there->colour : 1};
    if (there && (there->step > INT32_MAX || there->colour > INT32_MAX || there->step < 0
                  || there->colour < 0)) {
        return rc_fail(err, RC_ARGUMENT, "images: expected ascending columns and colours");
    }
    rc_normaliser_init(&k->normaliser, rule->mean, rule->std);
    rc_status status = make(k, images, n, rule, augment, err);
    if (status != RC_OK) {
        rc_pack_fini(k);
    }
    return status;
}

void
rc_pack_fini(rc_pack *k)
{
    rc_resize_set_fini(&k->plain);
    rc_resize_set_fini(&k->larger);
    rc_free(k->resizes);
    memset(k, 0, sizeof *k);
}

/* ---- writing it ------------------------------------------------------------------------------ */

static void
write_axis(char *block, const rc_device_axis *axis, const rc_taps *taps)
{
    if (axis->count) {
        memcpy(block + axis->first, taps->first, (size_t)axis->out * sizeof *taps->first);
        memcpy(block + axis->weights, taps->weights,
               (size_t)axis->out * (size_t)axis->count * sizeof *taps->weights);
    }
}

static void
write_set(const rc_resize_set *set, const rc_device_resize *resizes, char *block, int64_t at)
{
    memcpy(block + at, resizes, (size_t)set->count * sizeof *resizes);
    for (int64_t i = 0; i < set->count; i++) {
        write_axis(block, &resizes[i].x, &set->plans[i].x);
        write_axis(block, &resizes[i].y, &set->plans[i].y);
    }
}

void
rc_pack_write(rc_pack *k, char *block)
{
    rc_device_pictures *p = &k->head;
    rc_device_picture *own = (void *)(block + p->pictures);
    int64_t at = 0;
    p->block = block;
    write_set(&k->plain, k->resizes, block, p->plain);
    if (k->larger.count) {
        write_set(&k->larger, k->resizes + k->plain.count, block, p->larger);
    }
    memcpy(block + p->lut, k->normaliser.lut, sizeof k->normaliser.lut);
    for (int64_t i = 0; i < p->n; i++) {
        const rc_image *image = &k->images[i];
        int64_t row = 3 * image->width, stride = image->stride ? image->stride : row;
        own[i] = (rc_device_picture){.at = at, .row = (int32_t)row, .resize = k->plain.plan_of[i]};
        if (k->there) {
            own[i].at = i * k->there->picture;
            own[i].row = (int32_t)image->stride;
            continue;
        }
        char *to = block + p->pixels + at;
        if (stride == row) {
            memcpy(to, image->pixels, (size_t)(image->height * row));
        } else {
            for (int64_t y = 0; y < image->height; y++) {
                memcpy(to + y * row, image->pixels + y * stride, (size_t)row);
            }
        }
        at += (image->height * row + ALIGN - 1) / ALIGN * ALIGN;
    }
}
