/* Pictures to the input of a network: resize, bytes / 255, minus mean, by deviation, in one
 * walk over the output rows (spec/common.md 4). The normalised value of each byte is looked up
 * in a table of 3 x 256 floats, so it is the correctly rounded chain for any mean and deviation
 * and the same on every instruction set. Also the copy of ready-made floats, NCHW -> NHWC. */
#include "data/data_impl.h"

#include <string.h>

rc_input_rule
rc_input_rule_default(int64_t height, int64_t width)
{
    return (rc_input_rule){.height = height, .width = width, .filter = RC_FILTER_BILINEAR,
                           .mean = {0.485f, 0.456f, 0.406f}, .std = {0.229f, 0.224f, 0.225f}};
}

/* Whether the kernel's arithmetic gives the table's bits is tried on every byte there is. */
void
rc_normaliser_init(rc_normaliser *n, const float *mean, const float *std)
{
    uint8_t grey[256][3];
    float tried[3][256];
    for (int v = 0; v < 256; v++) {
        memset(grey[v], v, 3);
        for (int c = 0; c < 3; c++) {
            n->lut[c][v] = ((float)v / 255.0f - mean[c]) / std[c];
        }
    }
    for (int c = 0; c < 3; c++) {
        n->mean[c] = mean[c];
        n->std[c] = std[c];
        n->inverse[c] = 1.0f / std[c];
    }
    n->arithmetic = true;
    rc_pixel_kernels_get()->planes(grey[0], 256, n, tried[0]);
    n->arithmetic = memcmp(tried, n->lut, sizeof tried) == 0;
}

/* ---- bytes ------------------------------------------------------------------------------- */

typedef struct input_job {
    const rc_image *images;    /* (n), or NULL: `same` repeated in memory */
    rc_image same;
    const rc_resize *plans;
    const int32_t *plan_of;    /* (n), or NULL: plans[0] for all */
    const rc_input_rule *rule;
    float *out;
    uint8_t *scratch;
    int64_t scratch_size, stripes;
    rc_normaliser normaliser;
} input_job;

typedef struct row_target {
    const input_job *job;
    float *image; /* the picture's place in out */
} row_target;

static void
store_row(void *context, int64_t y, const uint8_t *row)
{
    const row_target *target = context;
    const input_job *job = target->job;
    const float(*lut)[256] = job->normaliser.lut, *r = lut[0], *g = lut[1], *b = lut[2];
    int64_t w = job->rule->width, plane = w * job->rule->height;
    int64_t step = job->rule->mirror ? -3 : 3;
    const uint8_t *p = job->rule->mirror ? row + 3 * (w - 1) : row;
    if (job->rule->nchw) {
        float *restrict out = target->image + y * w;
        for (int64_t x = 0; x < w; x++, p += step) {
            out[x] = r[p[0]];
            out[x + plane] = g[p[1]];
            out[x + 2 * plane] = b[p[2]];
        }
    } else {
        float *restrict out = target->image + y * 3 * w;
        for (int64_t x = 0; x < w; x++, p += step) {
            out[3 * x] = r[p[0]];
            out[3 * x + 1] = g[p[1]];
            out[3 * x + 2] = b[p[2]];
        }
    }
}

static void
input_stripe(void *context, int64_t i, int worker)
{
    const input_job *job = context;
    int64_t index = i / job->stripes, y0 = i % job->stripes * RC_STRIPE, y1 = y0 + RC_STRIPE;
    y1 = y1 < job->rule->height ? y1 : job->rule->height;
    rc_image image = job->same;
    if (job->images) {
        image = job->images[index];
    } else {
        image.pixels += index * 3 * image.height * image.width;
    }
    row_target target = {job, job->out + index * 3 * job->rule->height * job->rule->width};
    rc_resize_rows(&job->plans[job->plan_of ? job->plan_of[index] : 0], &image, y0, y1,
                   job->scratch + worker * job->scratch_size, store_row, &target);
}

static rc_status
run_input(input_job *job, int64_t n, int threads, rc_error *err)
{
    threads = threads < 1 ? 1 : threads > RC_MAX_THREADS ? RC_MAX_THREADS : threads;
    job->stripes = (job->rule->height + RC_STRIPE - 1) / RC_STRIPE;
    job->scratch_size = (job->scratch_size + 63) / 64 * 64; /* no shared cache lines */
    job->scratch = rc_alloc(threads * job->scratch_size, 1);
    if (!job->scratch) {
        return rc_fail(err, RC_MEMORY, "images: no memory for resizing");
    }
    rc_normaliser_init(&job->normaliser, job->rule->mean, job->rule->std);
    rc_parallel(n * job->stripes, threads, input_stripe, job);
    rc_free(job->scratch);
    return RC_OK;
}

rc_status
rc_rule_check(const float *std, rc_error *err)
{
    for (int c = 0; c < 3; c++) {
        if (!(std[c] > 0.0f)) {
            return rc_fail(err, RC_ARGUMENT, "std: expected three positive numbers, got %g at "
                           "channel %d", (double)std[c], c);
        }
    }
    return RC_OK;
}

rc_status
rc_images_to_input(const uint8_t *pixels, int64_t n, int64_t h, int64_t w,
                   const rc_input_rule *rule, float *out, int threads, rc_error *err)
{
    rc_resize plan;
    input_job job = {.same = {pixels, h, w, 0}, .plans = &plan, .rule = rule, .out = out};
    RC_TRY(rc_rule_check(rule->std, err));
    if (n <= 0) {
        return RC_OK;
    }
    RC_TRY(rc_image_check(&job.same, 0, err));
    RC_TRY(rc_resize_init(&plan, h, w, rule->height, rule->width, rule->filter, err));
    job.scratch_size = plan.scratch;
    rc_status status = run_input(&job, n, threads, err);
    rc_resize_fini(&plan);
    return status;
}

rc_status
rc_image_list_to_input(const rc_image *images, int64_t n, const rc_input_rule *rule, float *out,
                       int threads, rc_error *err)
{
    rc_resize_set set;
    RC_TRY(rc_rule_check(rule->std, err));
    if (n <= 0) {
        return RC_OK;
    }
    RC_TRY(rc_resize_set_init(&set, images, n, rule->height, rule->width, rule->filter, err));
    input_job job = {.images = images, .plans = set.plans, .plan_of = set.plan_of, .rule = rule,
                     .out = out, .scratch_size = set.scratch};
    rc_status status = run_input(&job, n, threads, err);
    rc_resize_set_fini(&set);
    return status;
}

/* ---- floats ------------------------------------------------------------------------------ */

typedef struct float_job {
    const float *x;
    float *y;
    int64_t h, w, stripes;
    bool mirror;
    uint8_t *bad; /* (tasks): a stripe has a value that is NaN or infinite */
} float_job;

static void
float_stripe(void *context, int64_t i, int worker)
{
    const float_job *job = context;
    (void)worker;
    int64_t w = job->w, plane = w * job->h, image = i / job->stripes;
    int64_t y0 = i % job->stripes * RC_STRIPE, y1 = y0 + RC_STRIPE;
    y1 = y1 < job->h ? y1 : job->h;
    uint32_t worst = 0; /* largest |value| as bits: >= 0x7f800000 is infinite or NaN */
    for (int64_t y = y0; y < y1; y++) {
        const float *restrict r = job->x + image * 3 * plane + y * w;
        const float *restrict g = r + plane, *restrict b = r + 2 * plane;
        float *restrict out = job->y + (image * plane + y * w) * 3;
        for (int c = 0; c < 3; c++) {
            for (int64_t x = 0; x < w; x++) {
                uint32_t bits;
                memcpy(&bits, r + c * plane + x, sizeof bits);
                bits &= 0x7fffffffu;
                worst = bits > worst ? bits : worst;
            }
        }
        if (job->mirror) {
            for (int64_t x = 0; x < w; x++) {
                out[3 * x] = r[w - 1 - x];
                out[3 * x + 1] = g[w - 1 - x];
                out[3 * x + 2] = b[w - 1 - x];
            }
        } else {
            for (int64_t x = 0; x < w; x++) {
                out[3 * x] = r[x];
                out[3 * x + 1] = g[x];
                out[3 * x + 2] = b[x];
            }
        }
    }
    job->bad[i] = worst >= 0x7f800000u;
}

rc_status
rc_floats_to_input(const float *x, int64_t n, int64_t h, int64_t w, bool mirror, float *y,
                   int threads, rc_error *err)
{
    if (n <= 0) {
        return RC_OK;
    }
    if (h < 1 || w < 1) {
        return rc_fail(err, RC_ARGUMENT, "images: expected a positive size, got %lld x %lld",
                       (long long)h, (long long)w);
    }
    float_job job = {x, y, h, w, (h + RC_STRIPE - 1) / RC_STRIPE, mirror, NULL};
    job.bad = rc_alloc(n * job.stripes, 1);
    if (!job.bad) {
        return rc_fail(err, RC_MEMORY, "images: no memory");
    }
    rc_parallel(n * job.stripes, threads, float_stripe, &job);
    int64_t i = 0;
    while (i < n * job.stripes && !job.bad[i]) {
        i++;
    }
    rc_free(job.bad);
    if (i < n * job.stripes) {
        return rc_fail(err, RC_ARGUMENT,
                       "images: image %lld has a value that is NaN or infinite",
                       (long long)(i / job.stripes));
    }
    return RC_OK;
}
