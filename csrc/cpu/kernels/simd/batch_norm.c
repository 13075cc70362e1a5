/* Batch normalisation over rows of c neighbours (NHWC maps and matrices), forward and backward;
 * rules, letters and the layout of ws: csrc/ops/batch_norm.c.
 *
 * Bound by memory, so passes are few: two over x forward, two over x and dy backward, the second
 * from the end back to the start, where the cache still holds what the first read last. Sums:
 * 16 rows in float (statistics of few rows: none), added up in double per task, tasks in order.
 * The variance is of x minus the first row, so that a mean far off zero costs no accuracy. With
 * a residual the first backward pass already writes its gradient g, and the second reads g in
 * place of dy and y, unless bf16 has rounded it (of a ReLU it is dy or 0). */
#include "cpu/kernels/simd/element.h"

#define BLOCK 16 /* rows summed in float */
#define FEW 512  /* up to so many rows statistics are summed in double: too few for the rounding
                  * of float blocks to average out */
#define TOGETHER 4 /* of them read side by side: more streams than this upset the prefetchers */

typedef enum mask_from { FROM_NOTHING, FROM_X, FROM_Y } mask_from;

typedef struct job {
    const rc_call *call;
    int64_t c;
    rc_cut rows;
    double *partial;                    /* (tasks, 2, c) */
    float *block;                       /* (tasks, 2, c): sums of one block */
    const float *mean, *beta;           /* (c) */
    float *scale, *slant, *level;       /* (c): see backward */
    const elem *g, *y;                  /* of the second backward pass */
    mask_from from;
} job;

static rc_cut
rows_of(const rc_shape *x)
{
    return cut_even(rc_shape_count(x) / x->d[1], 64, 32, BLOCK);
}

static bool
has_residual(const rc_call *call)
{
    return call->n_in > 5 && call->xs[5].rank > 0;
}

/* tmp: partial, then block, then scale, mean, slant, level. */
static int64_t
tmp_size(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, bool backward, int threads)
{
    (void)a, (void)y, (void)backward, (void)threads;
    int64_t c = xs[0].d[1];
    return rows_of(&xs[0]).tasks * 2 * c * (8 + 4) + 4 * c * 4;
}

static job
job_new(const rc_call *call)
{
    job j = {.call = call, .c = call->xs[0].d[1], .rows = rows_of(&call->xs[0])};
    j.partial = call->tmp;
    j.block = (float *)(j.partial + j.rows.tasks * 2 * j.c);
    j.scale = j.block + j.rows.tasks * 2 * j.c;
    j.slant = j.scale + 2 * j.c;
    j.level = j.scale + 3 * j.c;
    return j;
}

/* What a block has summed in float goes to the sums in double; the block starts anew. */
static void
flush(double *restrict sums, float *restrict block, int64_t count)
{
    for (int64_t k = 0; k < count; k++) {
        sums[k] += block[k];
        block[k] = 0;
    }
}

/* ---- forward ------------------------------------------------------------------------------ */

/* block (+)= sums of x - first and of its square over `rows` rows, a constant where inlined. */
RC_INLINE void
statistics_rows(const elem *x, const elem *first, int64_t c, int rows, float *restrict block)
{
    int64_t k = 0;
    for (; k + VN <= c; k += VN) {
        vf shift = ve_load(first + k), sum = vf_load(block + k), square = vf_load(block + c + k);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            vf d = ve_load(x + r * c + k) - shift;
            ask(x + r * c + k);
            sum += d;
            square += d * d;
        }
        vf_store(block + k, sum);
        vf_store(block + c + k, square);
    }
    for (; k < c; k++) {
        for (int r = 0; r < rows; r++) {
            float d = e_get(x[r * c + k]) - e_get(first[k]);
            block[k] += d;
            block[c + k] += d * d;
        }
    }
}

/* sums (+)= those of one row, in double. */
static void
statistics_row(const elem *restrict x, const elem *restrict first, int64_t c,
               double *restrict sums)
{
    for (int64_t k = 0; k < c; k++) {
        double d = (double)e_get(x[k]) - e_get(first[k]);
        sums[k] += d;
        sums[c + k] += d * d;
    }
}

static void
statistics_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const job *j = context;
    const elem *x = j->call->x[0];
    int64_t c = j->c, to = cut_to(j->rows, task);
    double *partial = j->partial + task * 2 * c;
    float *block = j->block + task * 2 * c;
    memset(partial, 0, (size_t)(2 * c) * sizeof *partial);
    if (j->rows.count <= FEW) {
        for (int64_t r = cut_from(j->rows, task); r < to; r++) {
            statistics_row(x + r * c, x, c, partial);
        }
        return;
    }
    memset(block, 0, (size_t)(2 * c) * sizeof *block);
    for (int64_t r = cut_from(j->rows, task); r < to;) {
        if (to - r >= TOGETHER) {
            statistics_rows(x + r * c, x, c, TOGETHER, block);
            r += TOGETHER;
        } else {
            statistics_rows(x + r * c, x, c, 1, block);
            r++;
        }
        if (r % BLOCK == 0 || r == to) {
            flush(partial, block, 2 * c);
        }
    }
}

/* Partial sums of all tasks into the first, in their order. */
static void
partial_sum(const job *j)
{
    int64_t count = 2 * j->c;
    for (int64_t t = 1; t < j->rows.tasks; t++) {
        const double *restrict from = j->partial + t * count;
        double *restrict to = j->partial;
        for (int64_t k = 0; k < count; k++) {
            to[k] += from[k];
        }
    }
}

RC_INLINE void
forward_rows(const job *j, int64_t from, int64_t to, const elem *residual, int64_t act)
{
    const float *mean = j->mean, *scale = j->scale, *beta = j->beta;
    float slope = (float)j->call->attrs->slope;
    int64_t c = j->c;
    for (int64_t r = from; r < to; r++) {
        const elem *x = (const elem *)j->call->x[0] + r * c;
        elem *y = (elem *)j->call->y + r * c;
        const elem *other = residual ? residual + r * c : NULL;
        for (int64_t strip = 0; strip < c; strip += STRIP) {
            int64_t end = strip + STRIP < c ? strip + STRIP : c;
            if (residual) {
                ask_strip(other + strip, end - strip);
                RC_IVDEP
                for (int64_t k = strip; k < end; k++) {
                    float v = (e_get(x[k]) - mean[k]) * scale[k] + beta[k] + e_get(other[k]);
                    y[k] = e_put(act_value(act, slope, v));
                }
            } else {
                RC_IVDEP
                for (int64_t k = strip; k < end; k++) {
                    float v = (e_get(x[k]) - mean[k]) * scale[k] + beta[k];
                    y[k] = e_put(act_value(act, slope, v));
                }
            }
            ask_strip(x + strip, end - strip);
        }
    }
}

static void
forward_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const job *j = context;
    const elem *residual = has_residual(j->call) ? j->call->x[5] : NULL;
    task = j->rows.tasks - 1 - task;
    int64_t from = cut_from(j->rows, task), to = cut_to(j->rows, task);
    RC_EACH_ACT(j->call->attrs->act, forward_rows, j, from, to, residual);
}

/* Mean and scale = gamma inv of the statistics in force; mean lies behind scale in tmp when it
 * is not that of ws. gamma may be NULL where scale is not needed. */
static void
coefficients(job *j, const float *gamma)
{
    const rc_call *call = j->call;
    const float *ws = call->ws, *var = call->x[4];
    j->mean = call->training ? ws : call->x[3];
    j->beta = call->x[2];
    for (int64_t k = 0; k < j->c; k++) {
        float inv = call->training ? ws[j->c + k]
                                   : (float)(1 / sqrt(var[k] + call->attrs->eps));
        j->scale[j->c + k] = inv;
        j->scale[k] = gamma ? gamma[k] * inv : 0;
    }
}

static void
forward(const rc_call *call)
{
    job j = job_new(call);
    int64_t c = j.c;
    if (call->training && !call->again) {
        const elem *first = call->x[0];
        float *ws = call->ws;
        rc_parallel(j.rows.tasks, call->threads, statistics_task, &j);
        partial_sum(&j);
        for (int64_t k = 0; k < c; k++) {
            double mean = j.partial[k] / (double)j.rows.count;
            double var = j.partial[c + k] / (double)j.rows.count - mean * mean;
            var = var > 0 ? var : 0;
            ws[k] = (float)(mean + e_get(first[k]));
            ws[c + k] = (float)(1 / sqrt(var + call->attrs->eps));
            ws[2 * c + k] = (float)var;
        }
    }
    coefficients(&j, call->x[1]);
    rc_parallel(j.rows.tasks, call->threads, forward_task, &j);
}

/* ---- backward ----------------------------------------------------------------------------- */

/* g of one element. d = x - mean. */
RC_INLINE float
g_of(float dy, float d, float scale, float beta, float y, float slope, int from, int64_t act)
{
    if (from == FROM_X) {
        return act_gradient(act, slope, act_value(act, slope, d * scale + beta), dy);
    }
    return from == FROM_Y ? act_gradient(act, slope, y, dy) : dy;
}

/* The same for a vector, ReLU and leaky ReLU (their sign is that of the value before). */
RC_INLINE vf
g_vector(vf dy, vf d, const float *scale, const float *beta, const elem *y, float slope,
         int from, int64_t act)
{
    if (from == FROM_NOTHING) {
        return dy;
    }
    vf v = from == FROM_X ? d * vf_load(scale) + vf_load(beta) : ve_load(y);
    vf zero = v - v;
    return vf_select(v > 0, dy, act == RC_ACT_RELU ? zero : dy * slope);
}

/* What the sums read and write, from the row at hand on. */
typedef struct sums_at {
    const elem *x, *dy, *y; /* y: any memory where it is not read */
    elem *dresidual;
    const float *mean, *scale, *beta;
    int64_t c;
    float slope;
} sums_at;

enum store { STORE_NOTHING, STORE_ASSIGN, STORE_ADD }; /* g as the residual's gradient */

/* block (+)= sums of g and of g (x - mean) over `rows` rows; all but `at`, constants. */
RC_INLINE void
sums_rows(sums_at at, float *restrict block, int rows, bool with_x, int store, int from,
          int64_t act)
{
    int64_t c = at.c, k = 0;
    for (; act != RC_ACT_SIGMOID && k + VN <= c; k += VN) {
        vf sum = vf_load(block + k), product = vf_load(block + c + k);
        vf mean = {0};
        if (with_x) {
            mean = vf_load(at.mean + k);
        }
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            int64_t i = r * c + k;
            vf d = {0};
            ask(at.dy + i);
            if (with_x) {
                ask(at.x + i);
            }
            if (from == FROM_Y) {
                ask(at.y + i);
            }
            if (with_x) {
                d = ve_load(at.x + i) - mean;
            }
            vf g = g_vector(ve_load(at.dy + i), d, at.scale + k, at.beta + k, at.y + i, at.slope,
                            from, act);
            sum += g;
            product += g * d;
            if (store == STORE_ASSIGN) {
                ve_store(at.dresidual + i, g);
            } else if (store == STORE_ADD) {
                ve_store(at.dresidual + i, ve_load(at.dresidual + i) + g);
            }
        }
        vf_store(block + k, sum);
        vf_store(block + c + k, product);
    }
    for (; k < c; k++) {
        for (int r = 0; r < rows; r++) {
            int64_t i = r * c + k;
            float d = with_x ? e_get(at.x[i]) - at.mean[k] : 0;
            float g = g_of(e_get(at.dy[i]), d, from == FROM_X ? at.scale[k] : 0,
                           from == FROM_X ? at.beta[k] : 0,
                           from == FROM_Y ? e_get(at.y[i]) : 0, at.slope, from, act);
            block[k] += g;
            block[c + k] += g * d;
            if (store != STORE_NOTHING) {
                at.dresidual[i] = e_put(store == STORE_ADD ? e_get(at.dresidual[i]) + g : g);
            }
        }
    }
}

/* All rows of a task: see sums_rows. */
RC_INLINE void
sums_all(const job *j, int64_t task, bool with_x, int store, int from, int64_t act)
{
    const rc_call *call = j->call;
    int64_t c = j->c, to = cut_to(j->rows, task);
    double *partial = j->partial + task * 2 * c;
    float *block = j->block + task * 2 * c;
    memset(partial, 0, (size_t)(2 * c) * sizeof *partial);
    memset(block, 0, (size_t)(2 * c) * sizeof *block);
    for (int64_t r = cut_from(j->rows, task); r < to;) {
        sums_at at = {.dy = (const elem *)call->dy + r * c, .mean = j->mean, .scale = j->scale,
                      .beta = j->beta, .c = c, .slope = (float)call->attrs->slope};
        at.x = with_x ? (const elem *)call->x[0] + r * c : at.dy;
        at.y = from == FROM_Y ? (const elem *)call->y + r * c : at.dy;
        at.dresidual = store != STORE_NOTHING ? (elem *)call->dx[5] + r * c : NULL;
        if (to - r >= TOGETHER) {
            sums_rows(at, block, TOGETHER, with_x, store, from, act);
            r += TOGETHER;
        } else {
            sums_rows(at, block, 1, with_x, store, from, act);
            r++;
        }
        if (r % BLOCK == 0 || r == to) {
            flush(partial, block, 2 * c);
        }
    }
}

/* Without a residual the mask comes from x; with one from y, and g may be asked for. */
RC_INLINE void
sums_masked(const job *j, int64_t task, bool with_x, int store, int64_t act)
{
    if (j->from == FROM_X) {
        sums_all(j, task, true, STORE_NOTHING, FROM_X, act);
    } else if (store == STORE_ASSIGN && with_x) {
        sums_all(j, task, true, STORE_ASSIGN, FROM_Y, act);
    } else if (store == STORE_ASSIGN) {
        sums_all(j, task, false, STORE_ASSIGN, FROM_Y, act);
    } else if (store == STORE_ADD && with_x) {
        sums_all(j, task, true, STORE_ADD, FROM_Y, act);
    } else if (store == STORE_ADD) {
        sums_all(j, task, false, STORE_ADD, FROM_Y, act);
    } else if (with_x) {
        sums_all(j, task, true, STORE_NOTHING, FROM_Y, act);
    } else {
        sums_all(j, task, false, STORE_NOTHING, FROM_Y, act);
    }
}

static void
sums_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const job *j = context;
    const rc_call *call = j->call;
    bool with_x = call->x[0] != NULL;
    int store = !has_residual(call) || !call->dx[5] ? STORE_NOTHING
                : call->add[5]                      ? STORE_ADD
                                                    : STORE_ASSIGN;
    if (j->from != FROM_NOTHING) {
        RC_EACH_ACT(call->attrs->act, sums_masked, j, task, with_x, store);
    } else if (store != STORE_NOTHING) {
        sums_all(j, task, with_x, store, FROM_NOTHING, RC_ACT_NONE);
    } else if (with_x) {
        sums_all(j, task, true, STORE_NOTHING, FROM_NOTHING, RC_ACT_NONE);
    } else {
        sums_all(j, task, false, STORE_NOTHING, FROM_NOTHING, RC_ACT_NONE);
    }
}

/* dx (+)= scale g + slant (x - mean) + level, the last two in training only. */
RC_INLINE void
dx_rows(const job *j, int64_t first, int64_t last, bool training, bool add, int from,
        int64_t act)
{
    float slope = (float)j->call->attrs->slope;
    const float *mean = j->mean, *scale = j->scale, *beta = j->beta;
    const float *slant = j->slant, *level = j->level;
    int64_t c = j->c;
    for (int64_t r = first; r < last; r++) {
        const elem *x = (const elem *)j->call->x[0] + r * c, *dy = j->g + r * c;
        const elem *y = j->y + r * c;
        elem *dx = (elem *)j->call->dx[0] + r * c;
        for (int64_t strip = 0; strip < c; strip += STRIP) {
            int64_t end = strip + STRIP < c ? strip + STRIP : c;
            ask_strip(dy + strip, end - strip);
            if (training || from == FROM_X) {
                ask_strip(x + strip, end - strip);
            }
            if (from == FROM_Y) {
                ask_strip(y + strip, end - strip);
            }
            RC_IVDEP
            for (int64_t k = strip; k < end; k++) {
                float d = training || from == FROM_X ? e_get(x[k]) - mean[k] : 0;
                float g = g_of(e_get(dy[k]), d, scale[k], from == FROM_X ? beta[k] : 0,
                               from == FROM_Y ? e_get(y[k]) : 0, slope, from, act);
                float v = scale[k] * g;
                if (training) {
                    v += slant[k] * d + level[k];
                }
                dx[k] = e_put(add ? e_get(dx[k]) + v : v);
            }
        }
    }
}

RC_INLINE void
dx_from(const job *j, int64_t from, int64_t to, bool training, bool add, int64_t act)
{
    if (j->from == FROM_X) {
        dx_rows(j, from, to, training, add, FROM_X, act);
    } else {
        dx_rows(j, from, to, training, add, FROM_Y, act);
    }
}

RC_INLINE void
dx_any(const job *j, int64_t from, int64_t to, bool training, bool add)
{
    if (j->from == FROM_NOTHING) {
        dx_rows(j, from, to, training, add, FROM_NOTHING, RC_ACT_NONE);
    } else {
        RC_EACH_ACT(j->call->attrs->act, dx_from, j, from, to, training, add);
    }
}

static void
dx_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const job *j = context;
    task = j->rows.tasks - 1 - task;
    int64_t from = cut_from(j->rows, task), to = cut_to(j->rows, task);
    if (j->call->training && j->call->add[0]) {
        dx_any(j, from, to, true, true);
    } else if (j->call->training) {
        dx_any(j, from, to, true, false);
    } else if (j->call->add[0]) {
        dx_any(j, from, to, false, true);
    } else {
        dx_any(j, from, to, false, false);
    }
}

static void
put(float *to, const double *from, const float *times, int64_t c, bool add)
{
    for (int64_t k = 0; k < c; k++) {
        float v = (float)(from[k] * (times ? (double)times[k] : 1.0));
        to[k] = add ? to[k] + v : v;
    }
}

static void
backward(const rc_call *call)
{
    job j = job_new(call);
    int64_t c = j.c;
    bool residual = has_residual(call);
    elem *dresidual = residual ? call->dx[5] : NULL;
    j.from = call->attrs->act == RC_ACT_NONE ? FROM_NOTHING : residual ? FROM_Y : FROM_X;
    bool needs_x = j.from == FROM_X || call->dx[1] || (call->dx[0] && call->training);
    if (needs_x || call->dx[0]) {
        coefficients(&j, j.from == FROM_X || call->dx[0] ? call->x[1] : NULL);
    }
    rc_call first = *call; /* x only where it is needed: other pointers are not asked for */
    first.x[0] = needs_x ? call->x[0] : NULL;
    j.call = &first;
    if (call->dx[1] || call->dx[2] || dresidual || (call->dx[0] && call->training)) {
        rc_parallel(j.rows.tasks, call->threads, sums_task, &j);
        partial_sum(&j);
    }
    const float *inv = j.scale + c;
    if (call->dx[1]) {
        put(call->dx[1], j.partial + c, inv, c, call->add[1]);
    }
    if (call->dx[2]) {
        put(call->dx[2], j.partial, NULL, c, call->add[2]);
    }
    if (!call->dx[0]) {
        return;
    }
    for (int64_t k = 0; call->training && k < c; k++) {
        double m = (double)j.rows.count;
        j.level[k] = (float)(-j.scale[k] * j.partial[k] / m);
        j.slant[k] = (float)(-j.scale[k] * (j.partial[c + k] * inv[k] * inv[k] / m));
    }
    j.g = call->dy;
    j.y = call->y ? call->y : call->dy;
    bool as_it_was = ELEMENT == RC_REAL || j.from == FROM_NOTHING || call->attrs->act == RC_ACT_RELU;
    if (dresidual && !call->add[5] && as_it_was) { /* g is there already, and not rounded */
        j.g = dresidual;
        j.from = FROM_NOTHING;
    }
    rc_parallel(j.rows.tasks, call->threads, dx_task, &j);
}

const rc_fast_kernel FAST(batch_norm) = {
    .name = FAST_TEXT("batch_norm"),
    .op = RC_OP_batch_norm,
    .element = ELEMENT,
    .refuse = maps_only,
    .tmp_size = tmp_size,
    .forward = forward,
    .backward = backward,
};
