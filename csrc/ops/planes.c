/* The planes that cut a map of H rows into five parts: AABS (mode 0), its start planes ('body',
 * mode 1), five equal runs ('uniform', mode 2). The MBGN page, section 3, step by step: row means
 * in `real`, everything from the Gram matrix on in double; a plane moves one row a test while both
 * rows beside it are more like the part on the other side. No gradient. */
#include "ops/aabs.h"
#include "ops/exact.h"

RC_DECLARE_KERNEL(planes_forward)

enum { AABS, BODY, UNIFORM };

/* Row means of one image: rows (h,c); steps between neighbours along c, h, w in elements. */
static void
row_means(const real *map, int64_t h, int64_t w, int64_t c, int64_t step_c, int64_t step_h,
          int64_t step_w, real *rows)
{
    for (int64_t y = 0; y < h; y++) {
        real *row = rows + y * c;
        memset(row, 0, (size_t)c * sizeof(real));
        for (int64_t x = 0; x < w; x++) {
            const real *from = map + y * step_h + x * step_w;
            for (int64_t i = 0; i < c; i++) {
                row[i] += from[i * step_c];
            }
        }
        for (int64_t i = 0; i < c; i++) {
            row[i] /= (real)w;
        }
    }
}

/* Likeness of row y to rows [lo, hi): |r_y| times the cosine with their mean. */
static double
score(const double *gram, int64_t h, int64_t y, int64_t lo, int64_t hi)
{
    double m = 0, q = 0, count = (double)(hi - lo);
    for (int64_t v = lo; v < hi; v++) {
        m += gram[y * h + v];
        for (int64_t u = lo; u < hi; u++) {
            q += gram[u * h + v];
        }
    }
    m /= count;
    q /= count * count;
    return m / sqrt(q > 1e-12 ? q : 1e-12);
}

/* +1: row y is more like [l, hi) below, -1: more like [lo, l) above, 0: equal within 1e-5. */
static int
side(const double *gram, int64_t h, int64_t y, int64_t lo, int64_t l, int64_t hi)
{
    double s = score(gram, h, y, lo, l), t = score(gram, h, y, l, hi);
    double near = 1e-5 * (s > t ? s : t);
    return t - s > near ? 1 : s - t > near ? -1 : 0;
}

#if RC_REAL_IS_DOUBLE
#define FROM_ROWS rc_aabs_from_rows_f64
#else
#define FROM_ROWS rc_aabs_from_rows_f32
#endif

void
FROM_ROWS(const real *rows, int64_t h, int64_t c, double *gram, int64_t planes[4])
{
    for (int64_t u = 0; u < h; u++) {
        for (int64_t v = 0; v <= u; v++) {
            gram[u * h + v] = gram[v * h + u] = rc_exact_dot(rows + u * c, rows + v * c, c);
        }
    }
    rc_planes_body(h, planes);
    bool changed = true;
    for (int64_t pass = 0; pass < h && changed; pass++) {
        changed = false;
        for (int i = 0; i < 4; i++) {
            int64_t l = planes[i], lo = i > 0 ? planes[i - 1] : 0, hi = i < 3 ? planes[i + 1] : h;
            int above = side(gram, h, l - 1, lo, l, hi), below = side(gram, h, l, lo, l, hi);
            if (above == 1 && below == 1 && l - lo >= 2) {
                planes[i] = l - 1;
                changed = true;
            } else if (above == -1 && below == -1 && hi - l >= 2) {
                planes[i] = l + 1;
                changed = true;
            }
        }
    }
}

/* tmp: rows (h,c) of real after gram (h,h) of double */
void
RC_KERNEL(planes_forward)(const rc_call *call)
{
    const rc_shape *s = &call->xs[0];
    int64_t c = s->d[1], h = s->d[2], w = s->d[3], *planes = call->y;
    double *gram = call->tmp;
    for (int64_t i = 0; i < s->d[0]; i++) {
        if (call->attrs->mode == BODY) {
            rc_planes_body(h, planes + 4 * i);
        } else if (call->attrs->mode == UNIFORM) {
            rc_planes_uniform(h, planes + 4 * i);
        } else {
            real *rows = (real *)(gram + h * h);
            row_means((const real *)call->x[0] + i * h * w * c, h, w, c, 1, w * c, c, rows);
            FROM_ROWS(rows, h, c, gram, planes + 4 * i);
        }
    }
}

#if RC_RULES
typedef struct aabs_job {
    const rc_aabs_maps *maps;
    float *rows;
    double *gram;
    int64_t *planes;
} aabs_job;

static void
aabs_image(void *context, int64_t i, int worker)
{
    const aabs_job *job = context;
    const rc_aabs_maps *m = job->maps;
    float *rows = job->rows + (int64_t)worker * m->h * m->c;
    const float *map = m->data + i * m->c * m->h * m->w;
    if (m->channels_first) {
        row_means(map, m->h, m->w, m->c, m->h * m->w, m->w, 1, rows);
    } else {
        row_means(map, m->h, m->w, m->c, 1, m->w * m->c, m->c, rows);
    }
    rc_aabs_from_rows_f32(rows, m->h, m->c, job->gram + (int64_t)worker * m->h * m->h,
                          job->planes + 4 * i);
}

rc_status
rc_aabs(const rc_aabs_maps *m, int64_t *planes, rc_error *err)
{
    if (m->h < 5 || m->w < 1 || m->c < 1) {
        return rc_fail(err, RC_ARGUMENT, "F: expected maps of at least 5 rows, 1 column and 1 "
                       "channel, got %lldx%lldx%lldx%lld", (long long)m->n, (long long)m->c,
                       (long long)m->h, (long long)m->w);
    }
    for (int64_t i = 0; i < m->n * m->c * m->h * m->w; i++) {
        if (!isfinite(m->data[i])) {
            return rc_fail(err, RC_ARGUMENT, "F: contains NaN or infinite values");
        }
    }
    int threads = rc_cpu_count();
    aabs_job job = {m, rc_alloc(threads * m->h * m->c, sizeof(float)),
                    rc_alloc(threads * m->h * m->h, sizeof(double)), planes};
    rc_status status = RC_OK;
    if (job.rows && job.gram) {
        rc_parallel(m->n, threads, aabs_image, &job);
    } else {
        status = rc_fail(err, RC_MEMORY, "F: out of memory for maps of %lld rows and %lld "
                         "channels", (long long)m->h, (long long)m->c);
    }
    rc_free(job.rows);
    rc_free(job.gram);
    return status;
}

static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    (void)n_in;
    char got[64];
    if (xs[0].rank != 4 || xs[0].d[2] < 5) {
        return rc_fail(err, RC_ARGUMENT, "planes: expected a map of at least 5 rows, got %s",
                       rc_shape_text(&xs[0], got));
    }
    if (a->mode < AABS || a->mode > UNIFORM) {
        return rc_fail(err, RC_ARGUMENT, "planes: mode: expected 0 (aabs), 1 (body) or 2 "
                       "(uniform), got %lld", (long long)a->mode);
    }
    *y = (rc_shape){2, {xs[0].d[0], 4, 1, 1}};
    return RC_OK;
}

static int64_t
tmp_size(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, size_t real_size,
         bool backward, int threads)
{
    (void)y, (void)threads;
    int64_t h = xs[0].d[2], c = xs[0].d[1];
    return backward || a->mode != AABS ? 0 : h * h * 8 + h * c * (int64_t)real_size;
}

const rc_op rc_op_planes = {
    .name = "planes",
    .min_in = 1,
    .max_in = 1,
    .y_is_int = true,
    .no_grad = RC_READS(0),
    .infer = infer,
    .reads = rc_reads_nothing,
    .tmp_size = tmp_size,
    .forward = RC_BOTH(planes_forward),
};
#endif
