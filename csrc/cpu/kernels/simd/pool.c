/* Pooling of NHWC maps: maximum over windows, mean and maximum over regions and over channels,
 * forward and backward; rules, ties and ws: csrc/ops/{max_pool2d,region_pool,channel_pool}.c.
 *
 * Work runs over strips of neighbouring channels, so that every loop inside is over memory in
 * order; only channel_pool sums across a row. */
#include "cpu/kernels/simd/element.h"
#include "ops/region.h"

#define WIDE 128 /* channels of a strip */

/* ---- max_pool2d --------------------------------------------------------------------------- */

typedef struct window_job {
    const rc_call *call;
    int64_t h, w, c, oh, ow, kernel, stride, pad;
} window_job;

static window_job
window_new(const rc_call *call)
{
    const rc_attrs *a = call->attrs;
    return (window_job){call, call->xs[0].d[2], call->xs[0].d[3], call->ys.d[1], call->ys.d[2],
                        call->ys.d[3], a->kernel, a->stride, a->pad};
}

/* One output, all channels: the taps inside x first, then a vector of channels at a time. */
static void
window_max(const window_job *j, const elem *image, int64_t top, int64_t left, elem *y, uint8_t *ws)
{
    const elem *from[256]; /* kernel <= 16 */
    uint8_t tap[256];
    int taps = 0;
    for (int64_t i = 0; i < j->kernel * j->kernel; i++) {
        int64_t iy = top + i / j->kernel, ix = left + i % j->kernel;
        if (iy >= 0 && iy < j->h && ix >= 0 && ix < j->w) {
            from[taps] = image + (iy * j->w + ix) * j->c;
            tap[taps++] = (uint8_t)i;
        }
    }
    int64_t k = 0;
    for (; k + VN <= j->c; k += VN) {
        vf best = ve_load(from[0] + k);
        vi zero = {0}, won = zero + tap[0];
        for (int t = 1; t < taps; t++) {
            vf v = ve_load(from[t] + k);
            vi more = v > best;
            best = vf_select(more, v, best);
            won = vi_select(more, zero + tap[t], won);
        }
        ve_store(y + k, best);
        if (ws) {
            vb bytes = __builtin_convertvector(won, vb);
            memcpy(ws + k, &bytes, sizeof bytes);
        }
    }
    for (; k < j->c; k++) {
        int best = 0;
        for (int t = 1; t < taps; t++) {
            best = e_get(from[t][k]) > e_get(from[best][k]) ? t : best;
        }
        y[k] = from[best][k];
        if (ws) {
            ws[k] = tap[best];
        }
    }
}

static void
window_task(void *context, int64_t row, int worker)
{
    (void)worker;
    const window_job *j = context;
    const elem *image = (const elem *)j->call->x[0] + row / j->oh * j->h * j->w * j->c;
    int64_t top = row % j->oh * j->stride - j->pad;
    for (int64_t ox = 0; ox < j->ow; ox++) {
        int64_t at = (row * j->ow + ox) * j->c;
        uint8_t *ws = j->call->ws;
        window_max(j, image, top, ox * j->stride - j->pad, (elem *)j->call->y + at,
                   ws ? ws + at : NULL);
    }
}

static void
max_pool2d_forward(const rc_call *call)
{
    window_job j = window_new(call);
    rc_parallel(call->ys.d[0] * j.oh, call->threads, window_task, &j);
}

/* One row of dx gathers from the windows that cover it, in the order of their outputs; sums of a
 * strip of channels stay in float. */
static void
window_backward_task(void *context, int64_t row, int worker)
{
    (void)worker;
    const window_job *j = context;
    const rc_call *call = j->call;
    int64_t n = row / j->h, iy = row % j->h + j->pad, last = iy / j->stride;
    int64_t strips = (j->c + WIDE - 1) / WIDE;
    for (int64_t i = 0; i < j->w * strips; i++) {
        int64_t column = i / strips + j->pad, first = i % strips * WIDE;
        int64_t width = j->c - first < WIDE ? j->c - first : WIDE;
        elem *dx = (elem *)call->dx[0] + (row * j->w + i / strips) * j->c + first;
        float sum[WIDE];
        for (int64_t k = 0; k < width; k++) {
            sum[k] = call->add[0] ? e_get(dx[k]) : 0;
        }
        for (int64_t oy = last < j->oh ? last : j->oh - 1; oy >= 0; oy--) {
            int64_t ky = iy - oy * j->stride;
            int64_t ox = column / j->stride;
            for (ox = ox < j->ow ? ox : j->ow - 1; ky < j->kernel && ox >= 0; ox--) {
                int64_t kx = column - ox * j->stride;
                if (kx >= j->kernel) {
                    break;
                }
                int64_t at = ((n * j->oh + oy) * j->ow + ox) * j->c + first;
                const elem *restrict dy = (const elem *)call->dy + at;
                const uint8_t *restrict ws = (const uint8_t *)call->ws + at;
                uint8_t tap = (uint8_t)(ky * j->kernel + kx);
                for (int64_t k = 0; k < width; k++) {
                    sum[k] += ws[k] == tap ? e_get(dy[k]) : 0.0f;
                }
            }
            if (ky >= j->kernel) {
                break;
            }
        }
        for (int64_t k = 0; k < width; k++) {
            dx[k] = e_put(sum[k]);
        }
    }
}

static void
max_pool2d_backward(const rc_call *call)
{
    window_job j = window_new(call);
    rc_parallel(call->xs[0].d[0] * j.h, call->threads, window_backward_task, &j);
}

/* ---- region_pool: one task is a strip of channels of one image ---------------------------- */

typedef struct strip_at {
    int64_t n, first, width;
} strip_at;

static strip_at
strip_of(const rc_call *call, int64_t task)
{
    int64_t c = call->xs[0].d[1], strips = (c + WIDE - 1) / WIDE;
    int64_t first = task % strips * WIDE;
    return (strip_at){task / strips, first, c - first < WIDE ? c - first : WIDE};
}

static int64_t
strip_count(const rc_call *call)
{
    return call->xs[0].d[0] * ((call->xs[0].d[1] + WIDE - 1) / WIDE);
}

static const int64_t *
planes_of(const rc_call *call)
{
    return call->n_in > 1 && call->xs[1].rank > 0 ? call->x[1] : NULL;
}

static void
region_mean(const rc_call *call, strip_at s, rc_region r)
{
    int64_t c = call->xs[0].d[1], h = call->xs[0].d[2], w = call->xs[0].d[3];
    double total[WIDE] = {0};
    for (int64_t i = r.top; i < r.bottom; i++) {
        for (int64_t from = r.left; from < r.right; from += 16) {
            int64_t to = from + 16 < r.right ? from + 16 : r.right;
            float block[WIDE] = {0};
            for (int64_t p = from; p < to; p++) {
                const elem *x = (const elem *)call->x[0] + ((s.n * h + i) * w + p) * c + s.first;
                for (int64_t k = 0; k < s.width; k++) {
                    block[k] += e_get(x[k]);
                }
            }
            for (int64_t k = 0; k < s.width; k++) {
                total[k] += block[k];
            }
        }
    }
    int64_t count = (r.bottom - r.top) * (r.right - r.left);
    float *y = (float *)call->y + s.n * c + s.first;
    for (int64_t k = 0; k < s.width; k++) {
        y[k] = count ? (float)(total[k] / (double)count) : 0;
    }
}

static void
region_max(const rc_call *call, strip_at s, rc_region r)
{
    int64_t c = call->xs[0].d[1], h = call->xs[0].d[2], w = call->xs[0].d[3];
    float best[WIDE] = {0};
    int32_t won[WIDE];
    bool any = false;
    memset(won, 0xFF, sizeof won);
    for (int64_t i = r.top; i < r.bottom; i++) {
        for (int64_t p = r.left; p < r.right; p++) {
            const elem *x = (const elem *)call->x[0] + ((s.n * h + i) * w + p) * c + s.first;
            for (int64_t k = 0; k < s.width; k++) {
                bool more = !any || e_get(x[k]) > best[k];
                best[k] = more ? e_get(x[k]) : best[k];
                won[k] = more ? (int32_t)(i * w + p) : won[k];
            }
            any = true;
        }
    }
    memcpy((float *)call->y + s.n * c + s.first, best, (size_t)s.width * sizeof *best);
    if (call->ws) {
        memcpy((int32_t *)call->ws + s.n * c + s.first, won, (size_t)s.width * sizeof *won);
    }
}

static void
region_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const rc_call *call = context;
    strip_at s = strip_of(call, task);
    rc_region r = rc_region_of(call, planes_of(call), s.n);
    if (call->attrs->mode == 1) {
        region_max(call, s, r);
    } else {
        region_mean(call, s, r);
    }
}

static void
region_pool_forward(const rc_call *call)
{
    rc_parallel(strip_count(call), call->threads, region_task, (void *)call);
}

static void
region_backward_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const rc_call *call = context;
    strip_at s = strip_of(call, task);
    int64_t c = call->xs[0].d[1], h = call->xs[0].d[2], w = call->xs[0].d[3];
    elem *dx = (elem *)call->dx[0] + s.n * h * w * c + s.first;
    const float *dy = (const float *)call->dy + s.n * c + s.first;
    for (int64_t p = 0; !call->add[0] && p < h * w; p++) {
        memset(dx + p * c, 0, (size_t)s.width * sizeof *dx);
    }
    if (call->attrs->mode == 1) {
        const int32_t *won = (const int32_t *)call->ws + s.n * c + s.first;
        for (int64_t k = 0; k < s.width; k++) {
            if (won[k] >= 0) { /* else the region was empty */
                elem *to = &dx[won[k] * c + k];
                *to = e_put(e_get(*to) + dy[k]);
            }
        }
        return;
    }
    rc_region r = rc_region_of(call, planes_of(call), s.n);
    float share = 1 / (float)((r.bottom - r.top) * (r.right - r.left));
    for (int64_t i = r.top; i < r.bottom; i++) {
        for (int64_t p = r.left; p < r.right; p++) {
            elem *to = dx + (i * w + p) * c;
            RC_IVDEP
            for (int64_t k = 0; k < s.width; k++) {
                to[k] = e_put(e_get(to[k]) + dy[k] * share);
            }
        }
    }
}

static void
region_pool_backward(const rc_call *call)
{
    rc_parallel(strip_count(call), call->threads, region_backward_task, (void *)call);
}

/* ---- channel_pool: one row is one position ------------------------------------------------ */

typedef struct rows_job {
    const rc_call *call;
    int64_t c;
    rc_cut rows;
} rows_job;

/* Four vectors of sums, 128 VN channels in float at a time. */
static double
row_sum(const elem *x, int64_t c)
{
    double total = 0;
    int64_t k = 0;
    while (k + VN <= c) {
        vf sum[4] = {{0}, {0}, {0}, {0}};
        int64_t end = k + 8 * 4 * VN < c ? k + 8 * 4 * VN : c;
        for (; k + 4 * VN <= end; k += 4 * VN) {
            for (int i = 0; i < 4; i++) {
                sum[i] += ve_load(x + k + i * VN);
                ask(x + k + i * VN);
            }
        }
        for (; k + VN <= end; k += VN) {
            sum[0] += ve_load(x + k);
        }
        total += vf_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
    }
    for (; k < c; k++) {
        total += e_get(x[k]);
    }
    return total;
}

/* The lowest channel of the largest value: each lane keeps its first, then the lanes meet. */
static int64_t
row_max(const elem *x, int64_t c)
{
    int64_t k = 0, won = 0;
    if (c >= VN) {
        vf best = ve_load(x);
        vi at = {0}, where = {0};
        for (k = VN; k + VN <= c; k += VN) {
            vf v = ve_load(x + k);
            vi more = v > best;
            at += VN;
            best = vf_select(more, v, best);
            where = vi_select(more, at, where);
            ask(x + k);
        }
        won = where[0];
        for (int i = 1; i < VN; i++) {
            int64_t channel = where[i] + i;
            if (best[i] > e_get(x[won]) || (best[i] == e_get(x[won]) && channel < won)) {
                won = channel;
            }
        }
    }
    for (; k < c; k++) {
        won = e_get(x[k]) > e_get(x[won]) ? k : won;
    }
    return won;
}

static void
channel_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const rows_job *j = context;
    const elem *x = j->call->x[0];
    elem *y = j->call->y;
    int32_t *ws = j->call->ws;
    for (int64_t r = cut_from(j->rows, task); r < cut_to(j->rows, task); r++) {
        if (j->call->attrs->mode == 0) {
            y[r] = e_put((float)(row_sum(x + r * j->c, j->c) / (double)j->c));
            continue;
        }
        int64_t won = row_max(x + r * j->c, j->c);
        y[r] = x[r * j->c + won];
        if (ws) {
            ws[r] = (int32_t)won;
        }
    }
}

static void
channel_backward_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const rows_job *j = context;
    const rc_call *call = j->call;
    const elem *dy = call->dy;
    bool add = call->add[0];
    for (int64_t r = cut_from(j->rows, task); r < cut_to(j->rows, task); r++) {
        elem *dx = (elem *)call->dx[0] + r * j->c;
        if (call->attrs->mode == 1) {
            if (!add) {
                memset(dx, 0, (size_t)j->c * sizeof *dx);
            }
            elem *to = &dx[((const int32_t *)call->ws)[r]];
            *to = e_put(e_get(*to) + e_get(dy[r]));
            continue;
        }
        float share = e_get(dy[r]) / (float)j->c;
        for (int64_t k = 0; k < j->c; k++) {
            dx[k] = e_put(add ? e_get(dx[k]) + share : share);
        }
    }
}

static rows_job
rows_new(const rc_call *call)
{
    int64_t c = call->xs[0].d[1];
    return (rows_job){call, c, cut_rows(rc_shape_count(&call->xs[0]) / c, c)};
}

static void
channel_pool_forward(const rc_call *call)
{
    rows_job j = rows_new(call);
    rc_parallel(j.rows.tasks, call->threads, channel_task, &j);
}

static void
channel_pool_backward(const rc_call *call)
{
    rows_job j = rows_new(call);
    rc_parallel(j.rows.tasks, call->threads, channel_backward_task, &j);
}

const rc_fast_kernel FAST(max_pool2d) = {
    .name = FAST_TEXT("max_pool2d"),
    .op = RC_OP_max_pool2d,
    .element = ELEMENT,
    .refuse = maps_only,
    .forward = max_pool2d_forward,
    .backward = max_pool2d_backward,
};
const rc_fast_kernel FAST(region_pool) = {
    .name = FAST_TEXT("region_pool"),
    .op = RC_OP_region_pool,
    .element = ELEMENT,
    .refuse = maps_only,
    .forward = region_pool_forward,
    .backward = region_pool_backward,
};
const rc_fast_kernel FAST(channel_pool) = {
    .name = FAST_TEXT("channel_pool"),
    .op = RC_OP_channel_pool,
    .element = ELEMENT,
    .refuse = maps_only,
    .forward = channel_pool_forward,
    .backward = channel_pool_backward,
};
