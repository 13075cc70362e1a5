/* The colour histogram that a trained network is compared with: 8 x 8 x 8 bins of RGB, square
 * root, unit length (spec/synthetic.md 10, hardness). The counts of an image add up to its number
 * of pixels, so sqrt(count / pixels) has unit length already. Called by the demo and by
 * reidc.evaluation. */
#include "eval/eval.h"

#include <math.h>
#include <string.h>

typedef struct histogram_job {
    const uint8_t *images;
    int64_t h, w, left, right;
    float *out;
} histogram_job;

static void
count_image(void *context, int64_t i, int worker)
{
    const histogram_job *job = context;
    (void)worker;
    int64_t count[RC_HISTOGRAM_BINS];
    memset(count, 0, sizeof count);
    const uint8_t *image = job->images + i * job->h * job->w * 3;
    for (int64_t y = 0; y < job->h; y++) {
        const uint8_t *row = image + y * job->w * 3;
        for (int64_t x = job->left; x < job->right; x++) {
            const uint8_t *p = row + 3 * x;
            count[(p[0] >> 5) << 6 | (p[1] >> 5) << 3 | p[2] >> 5]++;
        }
    }
    double pixels = (double)(job->h * (job->right - job->left));
    for (int bin = 0; bin < RC_HISTOGRAM_BINS; bin++) {
        job->out[i * RC_HISTOGRAM_BINS + bin] = (float)sqrt((double)count[bin] / pixels);
    }
}

rc_status
rc_color_histogram(const uint8_t *images, int64_t n, int64_t h, int64_t w, bool centre,
                   int threads, float *out, rc_error *err)
{
    int64_t left = centre ? w / 4 : 0, right = centre ? 3 * w / 4 : w;
    if (n > 0 && (h < 1 || right <= left)) {
        return rc_fail(err, RC_ARGUMENT, "images: expected pixels%s, got a size of %lld x %lld",
                       centre ? " in the centre half" : "", (long long)h, (long long)w);
    }
    histogram_job job = {images, h, w, left, right, out};
    rc_parallel(n, threads, count_image, &job);
    return RC_OK;
}
