/* Grad-CAM's arithmetic (Selvaraju et al. 2017; spec/common.md 8) on maps that a run has left
 * behind, and how much of a map lies inside a mask.
 *
 * Everything is added up in double, image by image and in a fixed order, so that a map depends
 * neither on its neighbours in the batch nor on the number of threads. */
#include <math.h>
#include <string.h>

#include "eval/eval.h"

static inline double
at(const void *x, bool is_double, int64_t i)
{
    return is_double ? ((const double *)x)[i] : (double)((const float *)x)[i];
}

/* ---- weights and maps ---------------------------------------------------------------------- */

typedef struct adding {
    const rc_cam_layer *layer;
    double *weights; /* (n,c) */
    double *cam;     /* (n,h,w) */
} adding;

static void
add_gradient(void *context, int64_t i, int worker)
{
    const adding *a = context;
    const rc_cam_layer *l = a->layer;
    int64_t positions = l->h * l->w, c = l->c, from = i * positions * c;
    double *w = a->weights + i * c, *cam = a->cam + i * positions;
    (void)worker;
    memset(w, 0, (size_t)c * sizeof *w);
    for (int64_t p = 0; p < positions; p++) {
        for (int64_t k = 0; k < c; k++) {
            w[k] += at(l->gradient, l->is_double, from + p * c + k);
        }
    }
    for (int64_t k = 0; k < c; k++) {
        w[k] /= (double)positions;
    }
    for (int64_t p = 0; p < positions; p++) {
        double sum = 0;
        for (int64_t k = 0; k < c; k++) {
            sum += w[k] * at(l->map, l->is_double, from + p * c + k);
        }
        cam[p] += sum > 0 ? sum : 0;
    }
}

static void
add_squares(void *context, int64_t i, int worker)
{
    const adding *a = context;
    const rc_cam_layer *l = a->layer;
    int64_t positions = l->h * l->w, from = i * positions * l->c;
    (void)worker;
    for (int64_t p = 0; p < positions; p++) {
        double sum = 0;
        for (int64_t k = 0; k < l->c; k++) {
            double v = at(l->map, l->is_double, from + p * l->c + k);
            sum += v * v;
        }
        a->cam[i * positions + p] += sum;
    }
}

rc_status
rc_cam_add(const rc_cam_layer *layer, bool activation, int threads, double *cam, rc_error *err)
{
    adding a = {.layer = layer, .cam = cam};
    if (activation) {
        rc_parallel(layer->n, threads, add_squares, &a);
        return RC_OK;
    }
    if (!layer->gradient) {
        return RC_OK; /* nothing of the score comes from here */
    }
    a.weights = rc_alloc(layer->n * layer->c, sizeof *a.weights);
    if (!a.weights) {
        return rc_fail(err, RC_MEMORY, "out of memory for Grad-CAM's weights");
    }
    rc_parallel(layer->n, threads, add_gradient, &a);
    rc_free(a.weights);
    return RC_OK;
}

/* ---- size and range ------------------------------------------------------------------------- */

/* Where pixel i of `to` lies among `from` samples: low + share, half-pixel centres. */
typedef struct place {
    int64_t low, high;
    double share;
} place;

static place
place_of(int64_t i, int64_t from, int64_t to)
{
    double x = ((double)i + 0.5) * (double)from / (double)to - 0.5;
    x = x > 0 ? x : 0;
    int64_t low = (int64_t)x;
    low = low < from - 1 ? low : from - 1;
    return (place){low, low < from - 1 ? low + 1 : low, x - (double)low};
}

static double
between(double a, double b, double share)
{
    return share * b + (1 - share) * a;
}

typedef struct finishing {
    double *cam;
    int64_t h, w, height, width;
    bool activation, is_double;
    void *out;
} finishing;

static void
scale(const finishing *f, double *m)
{
    int64_t positions = f->h * f->w;
    double low = INFINITY, high = -INFINITY, sum = 0;
    for (int64_t p = 0; p < positions; p++) {
        sum += m[p] * m[p];
    }
    double length = sqrt(sum), divisor = f->activation ? (length > 1e-12 ? length : 1e-12) : 1;
    for (int64_t p = 0; p < positions; p++) {
        m[p] /= divisor;
        low = m[p] < low ? m[p] : low;
        high = m[p] > high ? m[p] : high;
    }
    double range = high - low > 1e-8 ? high - low : 1e-8;
    for (int64_t p = 0; p < positions; p++) {
        m[p] = (m[p] - low) / range;
    }
}

static void
finish(void *context, int64_t i, int worker)
{
    const finishing *f = context;
    double *m = f->cam + i * f->h * f->w;
    (void)worker;
    scale(f, m);
    for (int64_t row = 0; row < f->height; row++) {
        place y = place_of(row, f->h, f->height);
        const double *top = m + y.low * f->w, *bottom = m + y.high * f->w;
        for (int64_t col = 0; col < f->width; col++) {
            place x = place_of(col, f->w, f->width);
            double v = between(between(top[x.low], top[x.high], x.share),
                               between(bottom[x.low], bottom[x.high], x.share), y.share);
            int64_t to = (i * f->height + row) * f->width + col;
            v = v < 1 ? v : 1; /* rounding may pass it */
            if (f->is_double) {
                ((double *)f->out)[to] = v;
            } else {
                ((float *)f->out)[to] = (float)v;
            }
        }
    }
}

void
rc_cam_finish(double *cam, int64_t n, int64_t h, int64_t w, bool activation, int64_t height,
              int64_t width, bool is_double, int threads, void *out)
{
    finishing f = {cam, h, w, height, width, activation, is_double, out};
    rc_parallel(n, threads, finish, &f);
}

/* ---- inside a mask ---------------------------------------------------------------------------- */

typedef struct weighing {
    const float *maps, *masks;
    int64_t h, w, mh, mw;
    double *share;
} weighing;

static void
weigh(void *context, int64_t i, int worker)
{
    const weighing *e = context;
    const float *m = e->maps + i * e->h * e->w, *mask = e->masks + i * e->mh * e->mw;
    double inside = 0, all = 0;
    (void)worker;
    for (int64_t row = 0; row < e->mh; row++) {
        place y = place_of(row, e->h, e->mh);
        const float *top = m + y.low * e->w, *bottom = m + y.high * e->w;
        for (int64_t col = 0; col < e->mw; col++) {
            place x = place_of(col, e->w, e->mw);
            double v = between(between((double)top[x.low], (double)top[x.high], x.share),
                               between((double)bottom[x.low], (double)bottom[x.high], x.share),
                               y.share);
            inside += v * (double)mask[row * e->mw + col];
            all += v;
        }
    }
    e->share[i] = all > 0 ? inside / all : (double)NAN;
}

void
rc_cam_energy(const float *maps, int64_t n, int64_t h, int64_t w, const float *masks, int64_t mh,
              int64_t mw, int threads, double *share)
{
    weighing e = {maps, masks, h, w, mh, mw, share};
    rc_parallel(n, threads, weigh, &e);
}
