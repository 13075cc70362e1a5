/* Resize of RGB bytes exactly as Pillow does it (spec/common.md 4): two separable passes with
 * a triangle or bicubic filter that widens when shrinking, weights in double rounded to 22 bits,
 * bytes between the passes, and Pillow 13's rule for which pass goes first.
 *
 * A resize is planned once (weights of both axes) and then run in stripes of output rows: a
 * stripe computes the rows of the first pass that it needs itself, so stripes are independent
 * and the few rows that neighbours share are computed twice. */
#include "data/data_impl.h"

#include <math.h>
#include <string.h>

/* ---- kernels ----------------------------------------------------------------------------- */

#define DECLARE(isa)                                                                          \
    void rc_pixel_horizontal__##isa(const uint8_t *in, const rc_taps *taps, uint8_t *out);    \
    void rc_pixel_vertical__##isa(const uint8_t *in, int64_t stride, const int32_t *weights,  \
                                  int64_t count, int64_t bytes, uint8_t *out);                \
    void rc_pixel_mirror__##isa(const uint8_t *in, int64_t w, uint8_t *out);                  \
    void rc_pixel_planes__##isa(const uint8_t *in, int64_t count, const rc_normaliser *n,     \
                                float *out);                                                  \
    static const rc_pixel_kernels kernels_##isa = {                                           \
        rc_pixel_horizontal__##isa, rc_pixel_vertical__##isa, rc_pixel_mirror__##isa,         \
        rc_pixel_planes__##isa};
DECLARE(generic)
#if defined(__x86_64__)
DECLARE(avx2)
DECLARE(avx512)
#endif

const rc_pixel_kernels *
rc_pixel_kernels_get(void)
{
#if defined(__x86_64__)
    rc_isa isa = rc_isa_get();
    if (isa >= RC_ISA_AVX512) {
        return &kernels_avx512;
    }
    if (isa >= RC_ISA_AVX2) {
        return &kernels_avx2;
    }
#endif
    return &kernels_generic;
}

/* ---- weights of one axis ----------------------------------------------------------------- */

static double
kernel_value(rc_filter filter, double u)
{
    const double a = -0.5;
    double v = fabs(u);
    if (filter == RC_FILTER_BILINEAR) {
        return v < 1.0 ? 1.0 - v : 0.0;
    }
    if (v < 1.0) {
        return ((a + 2.0) * v - (a + 3.0)) * v * v + 1.0;
    }
    return v < 2.0 ? (((v - 5.0) * v + 8.0) * v - 4.0) * a : 0.0;
}

static void
taps_fini(rc_taps *t)
{
    rc_free(t->first);
    rc_free(t->weights);
    memset(t, 0, sizeof *t);
}

static bool
taps_init(rc_taps *t, int64_t in, int64_t out, rc_filter filter)
{
    double scale = (double)in / (double)out;
    double stretch = scale < 1.0 ? 1.0 : scale;
    double support = (filter == RC_FILTER_BICUBIC ? 2.0 : 1.0) * stretch;
    double inverse = 1.0 / stretch;
    int64_t *last = rc_alloc(out, sizeof *last);
    double *w = NULL;
    t->out = out;
    t->first = rc_alloc(out, sizeof *t->first);
    if (!last || !t->first) {
        goto fail;
    }
    for (int64_t i = 0; i < out; i++) {
        double centre = ((double)i + 0.5) * scale;
        int64_t first = (int64_t)(centre - support + 0.5);
        last[i] = (int64_t)(centre + support + 0.5);
        last[i] = last[i] > in ? in : last[i];
        t->first[i] = first < 0 ? 0 : first;
        t->count = last[i] - t->first[i] > t->count ? last[i] - t->first[i] : t->count;
    }
    t->weights = rc_alloc_zero(out * t->count, sizeof *t->weights);
    w = rc_alloc(t->count, sizeof *w);
    if (!t->weights || !w) {
        goto fail;
    }
    for (int64_t i = 0; i < out; i++) {
        double centre = ((double)i + 0.5) * scale, sum = 0.0;
        int64_t first = t->first[i], count = last[i] - first;
        for (int64_t k = 0; k < count; k++) {
            w[k] = kernel_value(filter, ((double)(k + first) - centre + 0.5) * inverse);
            sum += w[k];
        }
        t->first[i] = first + t->count > in ? in - t->count : first;
        int32_t *fixed = t->weights + i * t->count + (first - t->first[i]);
        for (int64_t k = 0; k < count; k++) {
            double v = (sum != 0.0 ? w[k] / sum : w[k]) * (double)(1 << RC_WEIGHT_BITS);
            fixed[k] = (int32_t)(v < 0.0 ? v - 0.5 : v + 0.5);
        }
    }
    rc_free(last);
    rc_free(w);
    return true;
fail:
    rc_free(last);
    rc_free(w);
    taps_fini(t);
    return false;
}

/* ---- the plan ---------------------------------------------------------------------------- */

rc_status
rc_image_check(const rc_image *image, int64_t index, rc_error *err)
{
    if (image->height < 1 || image->width < 1 || image->height > RC_MAX_SIDE
        || image->width > RC_MAX_SIDE) {
        return rc_fail(err, RC_ARGUMENT,
                       "images: image %lld is %lld x %lld (height x width), both must be "
                       "between 1 and %d", (long long)index, (long long)image->height,
                       (long long)image->width, RC_MAX_SIDE);
    }
    return RC_OK;
}

void
rc_resize_fini(rc_resize *r)
{
    taps_fini(&r->x);
    taps_fini(&r->y);
}

/* Rows of the first pass that the widest stripe reads. */
static int64_t
stripe_rows(const rc_taps *y)
{
    int64_t most = 0;
    for (int64_t y0 = 0; y0 < y->out; y0 += RC_STRIPE) {
        int64_t y1 = y0 + RC_STRIPE < y->out ? y0 + RC_STRIPE : y->out;
        int64_t rows = y->first[y1 - 1] + y->count - y->first[y0];
        most = rows > most ? rows : most;
    }
    return most;
}

rc_status
rc_resize_init(rc_resize *r, int64_t in_h, int64_t in_w, int64_t out_h, int64_t out_w,
               rc_filter filter, rc_error *err)
{
    memset(r, 0, sizeof *r);
    if (out_h < 1 || out_w < 1 || out_h > RC_MAX_SIDE || out_w > RC_MAX_SIDE) {
        return rc_fail(err, RC_ARGUMENT, "height, width: expected 1 to %d, got %lld and %lld",
                       RC_MAX_SIDE, (long long)out_h, (long long)out_w);
    }
    r->in_h = in_h;
    r->in_w = in_w;
    r->out_h = out_h;
    r->out_w = out_w;
    r->horizontal = in_w != out_w;
    r->vertical = in_h != out_h;
    r->vertical_first = r->vertical
                        && in_h - out_h > 2 * (in_w - out_w > 0 ? in_w - out_w : 0);
    if ((r->horizontal && !taps_init(&r->x, in_w, out_w, filter))
        || (r->vertical && !taps_init(&r->y, in_h, out_h, filter))) {
        rc_resize_fini(r);
        return rc_fail(err, RC_MEMORY, "no memory for resizing %lld x %lld to %lld x %lld",
                       (long long)in_h, (long long)in_w, (long long)out_h, (long long)out_w);
    }
    /* A padded input row, a padded output row, and the rows between the passes. */
    int64_t row_in = 3 * in_w + RC_PIXEL_PAD, row_out = 3 * out_w + RC_PIXEL_PAD;
    bool between = r->horizontal && r->vertical && !r->vertical_first;
    r->scratch = row_in + row_out + (between ? stripe_rows(&r->y) * row_out : 0);
    return RC_OK;
}

void
rc_resize_set_fini(rc_resize_set *set)
{
    for (int64_t k = 0; k < set->count; k++) {
        rc_resize_fini(&set->plans[k]);
    }
    rc_free(set->plans);
    rc_free(set->plan_of);
    memset(set, 0, sizeof *set);
}

rc_status
rc_resize_set_init(rc_resize_set *set, const rc_image *images, int64_t n, int64_t out_h,
                   int64_t out_w, rc_filter filter, rc_error *err)
{
    memset(set, 0, sizeof *set);
    for (int64_t i = 0; i < n; i++) {
        RC_TRY(rc_image_check(&images[i], i, err));
    }
    set->plans = rc_alloc_zero(n, sizeof *set->plans);
    set->plan_of = rc_alloc(n, sizeof *set->plan_of);
    rc_status status = RC_OK;
    if (!set->plans || !set->plan_of) {
        status = rc_fail(err, RC_MEMORY, "images: no memory for %lld images", (long long)n);
    }
    for (int64_t i = 0; status == RC_OK && i < n; i++) {
        int64_t k = 0;
        while (k < set->count && (set->plans[k].in_h != images[i].height
                                  || set->plans[k].in_w != images[i].width)) {
            k++;
        }
        if (k == set->count) {
            status = rc_resize_init(&set->plans[k], images[i].height, images[i].width, out_h,
                                    out_w, filter, err);
            set->count += status == RC_OK;
        }
        if (status == RC_OK && set->plans[k].scratch > set->scratch) {
            set->scratch = (set->plans[k].scratch + 63) / 64 * 64;
        }
        set->plan_of[i] = (int32_t)k;
    }
    if (status != RC_OK) {
        rc_resize_set_fini(set);
    }
    return status;
}

/* ---- running it -------------------------------------------------------------------------- */

void
rc_resize_rows(const rc_resize *r, const rc_image *image, int64_t y0, int64_t y1,
               uint8_t *scratch, rc_row_sink sink, void *context)
{
    const rc_pixel_kernels *kernels = rc_pixel_kernels_get();
    int64_t bytes_in = 3 * r->in_w, bytes_out = 3 * r->out_w;
    int64_t stride = image->stride ? image->stride : bytes_in;
    int64_t stride_between = bytes_out + RC_PIXEL_PAD;
    uint8_t *row_in = scratch;
    uint8_t *row_out = row_in + bytes_in + RC_PIXEL_PAD;
    uint8_t *between = row_out + bytes_out + RC_PIXEL_PAD;

    if (!r->vertical) { /* one pass or none */
        for (int64_t y = y0; y < y1; y++) {
            const uint8_t *row = image->pixels + y * stride;
            if (r->horizontal) {
                memcpy(row_in, row, (size_t)bytes_in);
                kernels->horizontal(row_in, &r->x, row_out);
                row = row_out;
            }
            sink(context, y, row);
        }
        return;
    }
    const uint8_t *source = image->pixels;
    int64_t origin = 0, bytes = bytes_in;
    if (r->horizontal && !r->vertical_first) {
        origin = r->y.first[y0];
        int64_t end = r->y.first[y1 - 1] + r->y.count;
        for (int64_t y = origin; y < end; y++) {
            memcpy(row_in, image->pixels + y * stride, (size_t)bytes_in);
            kernels->horizontal(row_in, &r->x, between + (y - origin) * stride_between);
        }
        source = between;
        stride = stride_between;
        bytes = bytes_out;
    }
    for (int64_t y = y0; y < y1; y++) {
        const uint8_t *rows = source + (r->y.first[y] - origin) * stride;
        const int32_t *weights = r->y.weights + y * r->y.count;
        if (r->horizontal && r->vertical_first) {
            kernels->vertical(rows, stride, weights, r->y.count, bytes_in, row_in);
            kernels->horizontal(row_in, &r->x, row_out);
        } else {
            kernels->vertical(rows, stride, weights, r->y.count, bytes, row_out);
        }
        sink(context, y, row_out);
    }
}

/* ---- one picture ------------------------------------------------------------------------- */

typedef struct copy_job {
    const rc_resize *resize;
    const rc_image *image;
    uint8_t *out, *scratch;
} copy_job;

static void
copy_row(void *context, int64_t y, const uint8_t *row)
{
    copy_job *job = context;
    memcpy(job->out + y * 3 * job->resize->out_w, row, (size_t)(3 * job->resize->out_w));
}

static void
copy_stripe(void *context, int64_t i, int worker)
{
    copy_job *job = context;
    int64_t y0 = i * RC_STRIPE, y1 = y0 + RC_STRIPE;
    y1 = y1 < job->resize->out_h ? y1 : job->resize->out_h;
    rc_resize_rows(job->resize, job->image, y0, y1, job->scratch + worker * job->resize->scratch,
                   copy_row, job);
}

rc_status
rc_image_resize(const rc_image *image, int64_t height, int64_t width, rc_filter filter,
                uint8_t *out, int threads, rc_error *err)
{
    rc_resize resize;
    RC_TRY(rc_image_check(image, 0, err));
    RC_TRY(rc_resize_init(&resize, image->height, image->width, height, width, filter, err));
    threads = threads < 1 ? 1 : threads > RC_MAX_THREADS ? RC_MAX_THREADS : threads;
    copy_job job = {&resize, image, out, rc_alloc(threads * resize.scratch, 1)};
    rc_status status = RC_OK;
    if (job.scratch) {
        rc_parallel((height + RC_STRIPE - 1) / RC_STRIPE, threads, copy_stripe, &job);
    } else {
        status = rc_fail(err, RC_MEMORY, "no memory for resizing an image");
    }
    rc_free(job.scratch);
    rc_resize_fini(&resize);
    return status;
}
