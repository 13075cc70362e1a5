/* The augmentation of one training sample, from bytes of any size to normalised floats
 * (spec/common.md 4), and a batch of them in threads.
 *
 * Draws: h(seed, RC_RANDOM_AUGMENT, epoch, running number of the sample, 0, slot), each
 * quantity with a slot of its own whether it is used or not, so that switching one step on or
 * off never changes another:
 *
 *   0 mirror    1, 2 row, column of the padded crop    3 scale and crop    4, 5 its row, column
 *   6 jitter    7 order of its operations              8..11 brightness, contrast, saturation, hue
 *   12 erase    16 + 4t .. 19 + 4t  area, ratio, top, left of try t
 *
 * A sample is one task. The rows of the resize are written mirrored and shifted to where the
 * padded crop wants them, so resize, mirror, pad and crop are one walk. */
#include "data/data_impl.h"

#include <math.h>
#include <string.h>

#include "base/random.h"

enum { SLOT_MIRROR = 0, SLOT_PAD = 1, SLOT_SCALE = 3, SLOT_JITTER = 6, SLOT_ORDER = 7,
       SLOT_FACTOR = 8, SLOT_ERASE = 12, SLOT_TRY = 16 };

int64_t
rc_scaled_up(int64_t side)
{
    return (int64_t)rint(1.125 * (double)side);
}

static float
draw(uint64_t stream, int slot)
{
    return rc_uniform(rc_random_step(stream, (uint64_t)slot));
}

static int64_t
draw_below(uint64_t stream, int slot, int64_t n)
{
    return rc_below(rc_random_step(stream, (uint64_t)slot), n);
}

static double
between(double low, double high, float u)
{
    return low + (high - low) * (double)u;
}

/* ---- checks ------------------------------------------------------------------------------ */

static rc_status
check_range(const char *name, double value, double low, double high, rc_error *err)
{
    if (!(value >= low && value <= high)) {
        return rc_fail(err, RC_ARGUMENT, "%s: expected %g to %g, got %g", name, low, high, value);
    }
    return RC_OK;
}

rc_status
rc_augment_check(const rc_augment *a, rc_error *err)
{
    if (a->height < 1 || a->width < 1 || a->height > RC_MAX_SIDE || a->width > RC_MAX_SIDE) {
        return rc_fail(err, RC_ARGUMENT, "height, width: expected 1 to %d, got %lld and %lld",
                       RC_MAX_SIDE, (long long)a->height, (long long)a->width);
    }
    RC_TRY(check_range("mirror", a->mirror, 0, 1, err));
    RC_TRY(check_range("scale_crop", a->scale_crop, 0, 1, err));
    RC_TRY(check_range("pad", (double)a->pad, 0, RC_MAX_SIDE, err));
    RC_TRY(check_range("jitter", a->jitter, 0, 1, err));
    RC_TRY(check_range("brightness", a->brightness, 0, 100, err));
    RC_TRY(check_range("contrast", a->contrast, 0, 100, err));
    RC_TRY(check_range("saturation", a->saturation, 0, 100, err));
    RC_TRY(check_range("hue", a->hue, 0, 0.5, err));
    RC_TRY(check_range("erase", a->erase, 0, 1, err));
    RC_TRY(check_range("tries", (double)a->tries, 1, RC_ERASE_TRIES, err));
    RC_TRY(check_range("area", a->area[0], 0, 1, err));
    RC_TRY(check_range("area", a->area[1], a->area[0], 1, err));
    RC_TRY(check_range("ratio", a->ratio[0], 1e-3, 1e3, err));
    RC_TRY(check_range("ratio", a->ratio[1], a->ratio[0], 1e3, err));
    for (int c = 0; c < 3; c++) {
        if (!isfinite(a->fill[c]) || !isfinite(a->mean[c])) {
            return rc_fail(err, RC_ARGUMENT, "fill, mean: expected finite numbers");
        }
    }
    return rc_rule_check(a->std, err);
}

/* ---- the steps --------------------------------------------------------------------------- */

/* Where a resized row goes: mirrored, then shifted by the padded crop; what falls off is lost. */
typedef struct placement {
    uint8_t *out;          /* (height, width, 3) */
    int64_t height, width;
    int64_t skip_y, skip_x; /* rows and columns of the resize left out by scale and crop */
    int64_t shift_y, shift_x; /* pad - row, pad - column */
    const rc_pixel_kernels *kernels;
    bool mirror;
} placement;

static void
place_row(void *context, int64_t y, const uint8_t *row)
{
    const placement *p = context;
    int64_t inner = y - p->skip_y, to = inner + p->shift_y, w = p->width;
    if (inner < 0 || inner >= p->height || to < 0 || to >= p->height) {
        return;
    }
    row += 3 * p->skip_x;
    int64_t x0 = p->shift_x < 0 ? -p->shift_x : 0; /* first column that stays, and the end */
    int64_t x1 = p->shift_x > 0 ? w - p->shift_x : w;
    uint8_t *out = p->out + (to * w + p->shift_x + x0) * 3;
    if (x1 <= x0) {
        return;
    }
    if (p->mirror) {
        p->kernels->mirror(row + 3 * (w - x1), x1 - x0, out);
    } else {
        memcpy(out, row + 3 * x0, (size_t)(3 * (x1 - x0)));
    }
}

static void
jitter(const rc_augment *a, uint64_t stream, uint8_t *pixels, int64_t count)
{
    const double range[4] = {a->brightness, a->contrast, a->saturation, a->hue};
    int left[4] = {RC_JITTER_BRIGHTNESS, RC_JITTER_CONTRAST, RC_JITTER_SATURATION, RC_JITTER_HUE};
    int64_t order = draw_below(stream, SLOT_ORDER, 24); /* k-th permutation, lexicographic */
    static const int64_t block[4] = {6, 2, 1, 1};
    for (int i = 0; i < 4; i++) {
        int64_t at = order / block[i];
        order %= block[i];
        int op = left[at];
        memmove(left + at, left + at + 1, (size_t)(3 - at) * sizeof *left);
        if (range[op] == 0.0) {
            continue;
        }
        double low = 1.0 - range[op] > 0.0 ? 1.0 - range[op] : 0.0, high = 1.0 + range[op];
        if (op == RC_JITTER_HUE) {
            low = -range[op];
            high = range[op];
        }
        rc_jitter_apply(pixels, count, op, between(low, high, draw(stream, SLOT_FACTOR + op)));
    }
}

static void
erase(const rc_augment *a, uint64_t stream, float *out)
{
    int64_t height = a->height, width = a->width;
    for (int64_t t = 0; t < a->tries; t++) {
        int slot = SLOT_TRY + 4 * (int)t;
        double area = between(a->area[0], a->area[1], draw(stream, slot))
                      * (double)height * (double)width;
        float u = draw(stream, slot + 1);
        double ratio = a->log_ratio ? exp(between(log(a->ratio[0]), log(a->ratio[1]), u))
                                    : between(a->ratio[0], a->ratio[1], u);
        int64_t h = (int64_t)rint(sqrt(area * ratio)), w = (int64_t)rint(sqrt(area / ratio));
        if (h >= height || w >= width) {
            continue;
        }
        int64_t top = draw_below(stream, slot + 2, height - h + 1);
        int64_t left = draw_below(stream, slot + 3, width - w + 1);
        for (int c = 0; c < 3; c++) {
            for (int64_t y = top; y < top + h; y++) {
                float *row = out + (c * height + y) * width + left;
                for (int64_t x = 0; x < w; x++) {
                    row[x] = a->fill[c];
                }
            }
        }
        return;
    }
}

/* ---- a sample, a batch ------------------------------------------------------------------- */

typedef struct augment_job {
    const rc_augment *a;
    const rc_pixel_kernels *kernels;
    const rc_image *images;
    rc_resize_set plain, larger; /* larger: for scale and crop, else empty */
    uint64_t seed;
    int64_t epoch, first;
    float *out;
    uint8_t *scratch;
    int64_t resize_size, picture_size, source_size; /* of a worker's three buffers, in bytes */
    rc_normaliser normaliser;
} augment_job;

static void
augment_sample(void *context, int64_t i, int worker)
{
    const augment_job *job = context;
    const rc_augment *a = job->a;
    int64_t count = a->height * a->width;
    uint8_t *scratch = job->scratch
                       + worker * (job->resize_size + job->picture_size + job->source_size);
    uint8_t *picture = scratch + job->resize_size, *source = picture + job->picture_size;
    uint64_t stream = rc_random_stream(job->seed, RC_RANDOM_AUGMENT, (uint64_t)job->epoch,
                                       (uint64_t)(job->first + i), 0);
    rc_image image = job->images[i];
    bool jittered = (double)draw(stream, SLOT_JITTER) < a->jitter;
    if (jittered && a->jitter_first) {
        int64_t bytes = 3 * image.width, stride = image.stride ? image.stride : bytes;
        for (int64_t y = 0; y < image.height; y++) {
            memcpy(source + y * bytes, image.pixels + y * stride, (size_t)bytes);
        }
        jitter(a, stream, source, image.height * image.width);
        image.pixels = source;
        image.stride = 0;
    }
    placement place = {.kernels = job->kernels, .out = picture, .height = a->height,
                       .width = a->width, .mirror = (double)draw(stream, SLOT_MIRROR) < a->mirror};
    const rc_resize *plan = &job->plain.plans[job->plain.plan_of[i]];
    if ((double)draw(stream, SLOT_SCALE) < a->scale_crop) {
        plan = &job->larger.plans[job->larger.plan_of[i]];
        place.skip_y = draw_below(stream, SLOT_SCALE + 1, plan->out_h - a->height + 1);
        place.skip_x = draw_below(stream, SLOT_SCALE + 2, plan->out_w - a->width + 1);
    }
    if (a->pad) {
        place.shift_y = a->pad - draw_below(stream, SLOT_PAD, 2 * a->pad + 1);
        place.shift_x = a->pad - draw_below(stream, SLOT_PAD + 1, 2 * a->pad + 1);
        memset(picture, 0, (size_t)(3 * count));
    }
    for (int64_t y = 0; y < plan->out_h; y += RC_STRIPE) {
        int64_t end = y + RC_STRIPE < plan->out_h ? y + RC_STRIPE : plan->out_h;
        rc_resize_rows(plan, &image, y, end, scratch, place_row, &place);
    }
    if (jittered && !a->jitter_first) {
        jitter(a, stream, picture, count);
    }
    float *out = job->out + i * 3 * count;
    job->kernels->planes(picture, count, &job->normaliser, out);
    if ((double)draw(stream, SLOT_ERASE) < a->erase) {
        erase(a, stream, out);
    }
}

static int64_t
whole_lines(int64_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

rc_status
rc_augment_batch(const rc_augment *a, const rc_image *images, int64_t n, uint64_t seed,
                 int64_t epoch, int64_t first, float *out, int threads, rc_error *err)
{
    RC_TRY(rc_augment_check(a, err));
    if (n <= 0) {
        return RC_OK;
    }
    threads = threads < 1 ? 1 : threads > RC_MAX_THREADS ? RC_MAX_THREADS : threads;
    augment_job job = {.a = a, .kernels = rc_pixel_kernels_get(), .images = images, .seed = seed,
                       .epoch = epoch, .first = first, .out = out};
    rc_status status = rc_resize_set_init(&job.plain, images, n, a->height, a->width, a->filter,
                                          err);
    if (status == RC_OK && a->scale_crop > 0.0) {
        status = rc_resize_set_init(&job.larger, images, n, rc_scaled_up(a->height),
                                    rc_scaled_up(a->width), a->filter, err);
    }
    job.resize_size = job.plain.scratch > job.larger.scratch ? job.plain.scratch
                                                             : job.larger.scratch;
    job.picture_size = whole_lines(3 * a->height * a->width);
    for (int64_t i = 0; a->jitter_first && i < n; i++) {
        int64_t bytes = whole_lines(3 * images[i].height * images[i].width);
        job.source_size = bytes > job.source_size ? bytes : job.source_size;
    }
    if (status == RC_OK) {
        job.scratch = rc_alloc(threads * (job.resize_size + job.picture_size + job.source_size), 1);
        if (!job.scratch) {
            status = rc_fail(err, RC_MEMORY, "images: no memory for augmenting");
        }
    }
    if (status == RC_OK) {
        rc_normaliser_init(&job.normaliser, a->mean, a->std);
        rc_parallel(n, threads, augment_sample, &job);
    }
    rc_free(job.scratch);
    rc_resize_set_fini(&job.plain);
    rc_resize_set_fini(&job.larger);
    return status;
}
