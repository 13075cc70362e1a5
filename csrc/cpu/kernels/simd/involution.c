/* Involution 7 x 7 with 16 channels a group, as MBGN has it: forward and both backwards.
 * x, y, d: (n,h,w,16 G)   k, dk: (n,h,w,49 G), channel 49 g + 7 ky + kx. Never unfolds x.
 *
 * Neighbours of a map lie 64 G bytes apart, often a power of two: read in place, a window would
 * fight for one set of the cache. So a task works on RUN groups and keeps the seven rows that a
 * row sees (or gives to) in a ring of its own; each value is copied once for 49 uses.
 *
 * Forward: the 16 channels of a group are the lanes. A block of BLOCK outputs of a row stays in
 *   registers; each x vector is loaded once a tap row and used by up to seven of them, each time
 *   times one k (a broadcast from memory). k streams through once.
 * dx: the same, turned round: row r of d and k is added to the seven rows of dx that it saw, so
 *   that k is read once here too. A task owns all rows of its groups: nobody else adds there.
 * dk: sums over the channels of a group would be sums over lanes. So x and d are transposed, a
 *   row at a time, to 16 vectors whose lanes are LANES groups; then no lane meets another, and
 *   a 7 x 1 block of taps of STEP positions stays in registers. The results are transposed back.
 *
 * Work is cut by shape alone and each sum has one fixed order: same bits for any threads. */
#include <string.h>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

#include "cpu/fast.h"

#define TAPS 7
#define ALL 49
#define REACH 3
#define CHANNELS 16 /* a group's */
#define RUN 16      /* groups of a task at most: 1 KiB of a position of x, 3 KiB of k */
#define PITCH (RUN * CHANNELS) /* floats from one position of a packed row to the next */

#ifdef __AVX512F__
#define LANES 16
#define BLOCK 8
#define STEP 3
#elif defined(__AVX2__)
#define LANES 8
#define BLOCK 4
#define STEP 1
#else
#define LANES 4
#define BLOCK 2
#define STEP 1
#endif
#define VECTORS (CHANNELS / LANES)

typedef float vec __attribute__((vector_size(LANES * 4)));
typedef float loose __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int32_t lanes __attribute__((vector_size(LANES * 4)));

#define TASKS 16         /* at least, for threads to share */
#define BEYOND (4 << 20) /* floats: 16 MiB, more than a core's share of the caches */

#define TEXT_(name) #name
#define TEXT(name) TEXT_(name)
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 32")

INLINE vec
load(const float *from)
{
    return *(const loose *)from;
}

INLINE void
store(float *to, vec v)
{
    *(loose *)to = v;
}

typedef struct job {
    int64_t n, h, w, groups;
    const float *x, *k, *d;
    float *out;     /* y, dx or dk */
    float *scratch; /* scratch_size floats a worker */
    bool add;
    int64_t runs, bands;    /* parts of the groups, and of the rows, of an image */
    int64_t run_size, rows; /* groups in a run, rows in a band */
} job;

static int64_t
ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Tasks are runs of groups of an image. Where these are few, runs get shorter (down to `least_run`
 * groups), then rows are cut into bands (of `least` rows or more: a band copies six rows more). */
static job
job_of(const rc_call *call, int64_t run_size, int64_t least_run, int64_t least)
{
    const rc_shape *s = &call->xs[0];
    job j = {.n = s->d[0], .h = s->d[2], .w = s->d[3], .groups = call->attrs->groups,
             .x = call->x[0], .k = call->x[1], .d = call->dy, .scratch = call->tmp,
             .run_size = run_size};
    while (j.run_size > least_run && j.n * ceil_div(j.groups, j.run_size) < TASKS) {
        j.run_size /= 2;
    }
    j.runs = ceil_div(j.groups, j.run_size);
    j.bands = ceil_div(TASKS, j.n * j.runs);
    j.bands = j.bands < j.h / least ? j.bands : j.h / least;
    j.bands = j.bands < 1 ? 1 : j.bands;
    j.rows = ceil_div(j.h, j.bands);
    j.bands = ceil_div(j.h, j.rows);
    return j;
}

/* What a task is: groups [start, start + count), rows [top, end), of the image at these places. */
typedef struct share {
    int64_t start, count, top, end;
    int64_t map, taps; /* offsets of the run's first value: x, y, d; k */
} share;

static share
share_of(const job *j, int64_t task)
{
    int64_t image = task / j->bands / j->runs, pixels = image * j->h * j->w;
    share s = {.start = task / j->bands % j->runs * j->run_size,
               .top = task % j->bands * j->rows};
    s.end = s.top + j->rows < j->h ? s.top + j->rows : j->h;
    s.count = j->groups - s.start < j->run_size ? j->groups - s.start : j->run_size;
    s.map = pixels * j->groups * CHANNELS + s.start * CHANNELS;
    s.taps = pixels * j->groups * ALL + s.start * ALL;
    return s;
}

/* One row of a run of groups into packed memory (w, PITCH); the row below is fetched ahead. */
static void
copy_row(const float *from, int64_t step, float *to, int64_t w, int64_t count)
{
    for (int64_t x = 0; x < w; x++) {
        for (int64_t i = 0; i < count * CHANNELS; i += LANES) {
            __builtin_prefetch(from + (x + w) * step + i, 0, 2);
            store(to + x * PITCH + i, load(from + x * step + i));
        }
    }
}

/* A block of columns sees (or gives to) `first` .. `last`-1 of the block + 6 columns around it.
 * Calls body(block, first, last, guard) with constants for the case at hand: inside the row, at
 * its left end, right end, both; else with a guard that looks at every column. */
#define WIDE (BLOCK + TAPS - 1)
#define EACH_CASE(u, w, body)                                 \
    do {                                                      \
        bool fits_left = (u) >= REACH, ends = (u) + BLOCK == (w); \
        bool fits_right = (u) + BLOCK + REACH <= (w);         \
        if (fits_left && fits_right) {                        \
            body(BLOCK, 0, WIDE, false);                      \
        } else if ((u) == 0 && fits_right) {                  \
            body(BLOCK, REACH, WIDE, false);                  \
        } else if (fits_left && ends) {                       \
            body(BLOCK, 0, WIDE - REACH, false);              \
        } else if ((u) == 0 && ends) {                        \
            body(BLOCK, REACH, WIDE - REACH, false);          \
        } else {                                              \
            body(BLOCK, 0, WIDE, true);                       \
        }                                                     \
    } while (0)

/* ---- forward ------------------------------------------------------------------------------ */

/* Outputs of one group at columns u .. u+block-1 of a row. rows: the packed rows that it sees,
 * NULL outside the map. k, y: of column u. The last four arguments are constants. */
INLINE void
forward_block(const float *const rows[TAPS], int64_t group, const float *k, int64_t per_k,
              float *y, int64_t c, int64_t u, int64_t w, const int block, const int first,
              const int last, const bool guard)
{
    vec acc[BLOCK][VECTORS] = {{{0}}};
    for (int64_t ky = 0; ky < TAPS; ky++) {
        if (!rows[ky]) {
            continue;
        }
        const float *line = rows[ky] + (u - REACH) * PITCH + group * CHANNELS;
        const float *taps = k + ky * TAPS;
        vec v[WIDE][VECTORS];
        UNROLL for (int o = first; o < last; o++) {
            UNROLL for (int i = 0; i < VECTORS; i++) {
                v[o][i] = !guard || (u + o - REACH >= 0 && u + o - REACH < w)
                              ? load(line + o * PITCH + i * LANES)
                              : (vec){0};
            }
        }
        UNROLL for (int b = 0; b < block; b++, taps += per_k) {
            __builtin_prefetch(taps + BLOCK * per_k, 0, 3);
            UNROLL for (int t = 0; t < TAPS; t++) {
                if (b + t >= first && b + t < last) {
                    UNROLL for (int i = 0; i < VECTORS; i++) {
                        acc[b][i] += taps[t] * v[b + t][i];
                    }
                }
            }
        }
    }
    UNROLL for (int b = 0; b < block; b++) {
        UNROLL for (int i = 0; i < VECTORS; i++) {
            store(y + b * c + i * LANES, acc[b][i]);
        }
    }
}

static void
forward_task(void *context, int64_t task, int worker)
{
    const job *j = context;
    share s = share_of(j, task);
    int64_t w = j->w, c = j->groups * CHANNELS, per_k = j->groups * ALL;
    float *ring = j->scratch + worker * TAPS * w * PITCH;
    int64_t ready = s.top - REACH < 0 ? 0 : s.top - REACH; /* rows of x before it are there */
    for (int64_t row = s.top; row < s.end; row++) {
        const float *rows[TAPS];
        for (; ready <= row + REACH && ready < j->h; ready++) {
            copy_row(j->x + s.map + ready * w * c, c, ring + ready % TAPS * w * PITCH, w,
                     s.count);
        }
        for (int64_t ky = 0; ky < TAPS; ky++) {
            int64_t at = row + ky - REACH;
            rows[ky] = at < 0 || at >= j->h ? NULL : ring + at % TAPS * w * PITCH;
        }
        for (int64_t u = 0; u < w;) {
            const float *k = j->k + s.taps + (row * w + u) * per_k;
            float *y = j->out + s.map + (row * w + u) * c;
#define FORWARD(block, first, last, guard)                                                      \
    for (int64_t g = 0; g < s.count; g++) {                                                     \
        forward_block(rows, g, k + g * ALL, per_k, y + g * CHANNELS, c, u, w, block, first,     \
                      last, guard);                                                             \
    }
            if (u + BLOCK <= w) {
                EACH_CASE(u, w, FORWARD);
                u += BLOCK;
            } else if (u + 2 <= w) {
                FORWARD(2, 0, 2 + TAPS - 1, true);
                u += 2;
            } else {
                FORWARD(1, 0, TAPS, true);
                u += 1;
            }
        }
    }
}

static void
forward(const rc_call *call)
{
    job j = job_of(call, RUN, RUN, 8);
    j.out = call->y;
    rc_parallel(j.n * j.runs * j.bands, call->threads, forward_task, &j);
}

/* ---- gradient of x ------------------------------------------------------------------------- */

/* What one row of d gives to columns u .. u+block-1 of the rows that it saw: rows[ky], packed,
 * NULL outside the map. fresh: bit ky is set where that row holds nothing yet. k: of column
 * u - REACH. The last four arguments are constants. */
INLINE void
scatter_block(float *const rows[TAPS], unsigned fresh, int64_t group, const float *k,
              int64_t per_k, const float *d, int64_t u, int64_t w, const int block,
              const int first, const int last, const bool guard)
{
    const float *line = d + (u - REACH) * PITCH + group * CHANNELS;
    for (int64_t ky = 0; ky < TAPS; ky++) {
        if (!rows[ky]) {
            continue;
        }
        float *out = rows[ky] + u * PITCH + group * CHANNELS;
        const float *taps = k + ky * TAPS + first * per_k;
        vec acc[BLOCK][VECTORS];
        UNROLL for (int b = 0; b < block; b++) {
            UNROLL for (int i = 0; i < VECTORS; i++) {
                acc[b][i] = fresh >> ky & 1 ? (vec){0} : load(out + b * PITCH + i * LANES);
            }
        }
        UNROLL for (int o = first; o < last; o++, taps += per_k) {
            if (guard && (u + o - REACH < 0 || u + o - REACH >= w)) {
                continue;
            }
            __builtin_prefetch(taps + BLOCK * per_k, 0, 3);
            vec v[VECTORS];
            UNROLL for (int i = 0; i < VECTORS; i++) {
                v[i] = load(line + o * PITCH + i * LANES);
            }
            UNROLL for (int b = 0; b < block; b++) {
                int t = b - o + TAPS - 1;
                if (t >= 0 && t < TAPS) {
                    UNROLL for (int i = 0; i < VECTORS; i++) {
                        acc[b][i] += taps[t] * v[i];
                    }
                }
            }
        }
        UNROLL for (int b = 0; b < block; b++) {
            UNROLL for (int i = 0; i < VECTORS; i++) {
                store(out + b * PITCH + i * LANES, acc[b][i]);
            }
        }
    }
}

static void
flush_row(const float *from, float *dx, int64_t c, int64_t w, int64_t count, bool add)
{
    for (int64_t x = 0; x < w; x++) {
        for (int64_t i = 0; i < count * CHANNELS; i += LANES) {
            vec v = load(from + x * PITCH + i);
            store(dx + x * c + i, add ? load(dx + x * c + i) + v : v);
        }
    }
}

static void
scatter_task(void *context, int64_t task, int worker)
{
    const job *j = context;
    share s = share_of(j, task); /* all rows: one band */
    int64_t w = j->w, c = j->groups * CHANNELS, per_k = j->groups * ALL;
    float *ring = j->scratch + worker * (TAPS + 1) * w * PITCH, *d = ring + TAPS * w * PITCH;
    int64_t done = 0; /* rows of dx before it are written */
    for (int64_t row = 0; row < j->h; row++) {
        float *rows[TAPS];
        copy_row(j->d + s.map + row * w * c, c, d, w, s.count);
        for (int64_t ky = 0; ky < TAPS; ky++) {
            int64_t at = row + ky - REACH;
            rows[ky] = at < 0 || at >= j->h ? NULL : ring + at % TAPS * w * PITCH;
        }
        unsigned fresh = row == 0 ? ~0u : 1u << (TAPS - 1);
        for (int64_t u = 0; u < w;) {
            const float *k = j->k + s.taps + (row * w + u - REACH) * per_k;
#define SCATTER(block, first, last, guard)                                                      \
    for (int64_t g = 0; g < s.count; g++) {                                                     \
        scatter_block(rows, fresh, g, k + g * ALL, per_k, d, u, w, block, first, last, guard);  \
    }
            if (u + BLOCK <= w) {
                EACH_CASE(u, w, SCATTER);
                u += BLOCK;
            } else if (u + 2 <= w) {
                SCATTER(2, 0, 2 + TAPS - 1, true);
                u += 2;
            } else {
                SCATTER(1, 0, TAPS, true);
                u += 1;
            }
        }
        for (; done < j->h && (done <= row - REACH || row == j->h - 1); done++) {
            flush_row(ring + done % TAPS * w * PITCH, j->out + s.map + done * w * c, c, w,
                      s.count, j->add);
        }
    }
}

/* ---- gradient of k ------------------------------------------------------------------------- */

/* Masks of a butterfly at distance m: the lanes of (a, b) that make the new a, and the new b. */
#define NEAR(l, m) ((l) & (m) ? LANES + (l) - (m) : (l))
#define FAR(l, m) ((l) & (m) ? LANES + (l) : (l) + (m))
#if LANES == 16
#define MASK(of, m)                                                                              \
    (lanes)                                                                                      \
    {                                                                                            \
        of(0, m), of(1, m), of(2, m), of(3, m), of(4, m), of(5, m), of(6, m), of(7, m),          \
            of(8, m), of(9, m), of(10, m), of(11, m), of(12, m), of(13, m), of(14, m), of(15, m) \
    }
#elif LANES == 8
#define MASK(of, m)                                                                              \
    (lanes)                                                                                      \
    {                                                                                            \
        of(0, m), of(1, m), of(2, m), of(3, m), of(4, m), of(5, m), of(6, m), of(7, m)           \
    }
#else
#define MASK(of, m) (lanes){of(0, m), of(1, m), of(2, m), of(3, m)}
#endif

#define BUTTERFLY(m)                                              \
    UNROLL for (int i = 0; i < LANES; i++) {                      \
        if (!(i & (m)) && (m) < LANES) {                          \
            vec a = r[i], b = r[i + (m)];                         \
            r[i] = __builtin_shuffle(a, b, MASK(NEAR, m));        \
            r[i + (m)] = __builtin_shuffle(a, b, MASK(FAR, m));   \
        }                                                         \
    }

/* LANES vectors become their columns. */
INLINE void
transpose(vec r[LANES])
{
    BUTTERFLY(1)
    BUTTERFLY(2)
#if LANES > 4
    BUTTERFLY(4)
#endif
#if LANES > 8
    BUTTERFLY(8)
#endif
}

/* One row of groups start .. start+count-1: from (w, 16 G) to to[w][16 channels][LANES groups],
 * zero in lanes beyond `count`. */
static void
turn_row(const float *from, int64_t w, int64_t c, int64_t count, float *to)
{
    for (int64_t x = 0; x < w; x++) {
        for (int part = 0; part < VECTORS; part++) {
            vec r[LANES];
            UNROLL for (int i = 0; i < LANES; i++) {
                __builtin_prefetch(from + (x + w) * c + i * CHANNELS + part * LANES, 0, 2);
                r[i] = i < count ? load(from + x * c + i * CHANNELS + part * LANES) : (vec){0};
            }
            transpose(r);
            UNROLL for (int i = 0; i < LANES; i++) {
                store(to + ((x * CHANNELS) + part * LANES + i) * LANES, r[i]);
            }
        }
    }
}

/* Products of `step` positions of d with one row of x: tile[position][tap of the row]. */
INLINE void
tap_row(const float *x, const float *d, float *tile, const int step)
{
    vec acc[STEP][TAPS] = {{{0}}};
    for (int64_t i = 0; i < CHANNELS; i++) {
        vec v[STEP];
        UNROLL for (int b = 0; b < step; b++) {
            v[b] = load(d + (b * CHANNELS + i) * LANES);
        }
        UNROLL for (int o = 0; o < step + TAPS - 1; o++) {
            vec at = load(x + (o * CHANNELS + i) * LANES);
            UNROLL for (int b = 0; b < step; b++) {
                if (o - b >= 0 && o - b < TAPS) {
                    acc[b][o - b] += v[b] * at;
                }
            }
        }
    }
    UNROLL for (int b = 0; b < step; b++) {
        UNROLL for (int t = 0; t < TAPS; t++) {
            store(tile + (b * ALL + t) * LANES, acc[b][t]);
        }
    }
}

/* One position's taps, tile[49][LANES groups], to count x 49 values of dk, by way of `packed`: the
 * groups' runs of 49 begin at odd places, and the map should see whole cache lines. The last
 * vector of taps overlaps the one before it. past_cache: dk is larger than caches and will not be
 * found there again, so whole lines are written without reading them first. */
INLINE void
put_taps(const float *tile, int64_t count, bool add, bool past_cache, float *packed, float *dk)
{
    for (int64_t t = 0; t < ALL; t += LANES) {
        int64_t at = t + LANES <= ALL ? t : ALL - LANES;
        vec r[LANES];
        UNROLL for (int i = 0; i < LANES; i++) {
            r[i] = load(tile + (at + i) * LANES);
        }
        transpose(r);
        UNROLL for (int i = 0; i < LANES; i++) {
            store(packed + i * ALL + at, r[i]);
        }
    }
    int64_t size = count * ALL, whole = size / LANES * LANES;
#ifdef __AVX512F__
    if (past_cache && !add && size == whole && ((uintptr_t)dk & 63) == 0) {
        for (int64_t i = 0; i < whole; i += LANES) {
            _mm512_stream_ps(dk + i, (__m512)load(packed + i));
        }
        return;
    }
#endif
    (void)past_cache;
    for (int64_t i = 0; i < whole; i += LANES) {
        store(dk + i, add ? load(dk + i) + load(packed + i) : load(packed + i));
    }
    for (int64_t i = whole; i < size; i++) {
        dk[i] = add ? dk[i] + packed[i] : packed[i];
    }
}

/* Seven rows of x with REACH zero columns on either side, one row of d, taps of STEP positions, and
 * of one as dk has them. */
static int64_t
dk_scratch(int64_t w)
{
    return ((TAPS * (w + 2 * REACH) + w) * CHANNELS + (STEP + 1) * ALL) * LANES;
}

static void
dk_task(void *context, int64_t task, int worker)
{
    const job *j = context;
    share s = share_of(j, task);
    int64_t w = j->w, c = j->groups * CHANNELS, column = CHANNELS * LANES;
    int64_t line = (w + 2 * REACH) * column, margin = REACH * column;
    float *ring = j->scratch + worker * dk_scratch(w), *d = ring + TAPS * line;
    float *tile = d + w * column, *packed = tile + STEP * ALL * LANES;
    bool past_cache = j->n * j->h * w * j->groups * ALL > BEYOND;
    for (int i = 0; i < TAPS; i++) {
        memset(ring + i * line, 0, (size_t)margin * sizeof(float));
        memset(ring + (i + 1) * line - margin, 0, (size_t)margin * sizeof(float));
    }
    int64_t ready = s.top - REACH < 0 ? 0 : s.top - REACH; /* rows of x before it are turned */
    for (int64_t row = s.top; row < s.end; row++) {
        for (; ready <= row + REACH && ready < j->h; ready++) {
            turn_row(j->x + s.map + ready * w * c, w, c, s.count,
                     ring + ready % TAPS * line + margin);
        }
        turn_row(j->d + s.map + row * w * c, w, c, s.count, d);
        for (int64_t u = 0; u < w;) {
            int64_t step = w - u < STEP ? 1 : STEP;
            for (int64_t ky = 0; ky < TAPS; ky++) {
                int64_t at = row + ky - REACH;
                const float *from = ring + (at + TAPS) % TAPS * line + u * column;
                float *to = tile + ky * TAPS * LANES;
                if (at < 0 || at >= j->h) {
                    for (int64_t b = 0; b < step; b++) {
                        memset(to + b * ALL * LANES, 0, TAPS * LANES * sizeof(float));
                    }
                } else if (step == STEP) {
                    tap_row(from, d + u * column, to, STEP);
                } else {
                    tap_row(from, d + u * column, to, 1);
                }
            }
            for (int64_t b = 0; b < step; b++, u++) {
                put_taps(tile + b * ALL * LANES, s.count, j->add, past_cache, packed,
                         j->out + s.taps + (row * w + u) * j->groups * ALL);
            }
        }
    }
#ifdef __AVX512F__
    _mm_sfence(); /* streamed lines are there before the task is done */
#endif
}

/* ---- the kernel ---------------------------------------------------------------------------- */

static void
backward(const rc_call *call)
{
    if (call->dx[0]) {
        job j = job_of(call, RUN, 2, INT64_MAX);
        j.out = call->dx[0];
        j.add = call->add[0];
        rc_parallel(j.n * j.runs * j.bands, call->threads, scatter_task, &j);
    }
    if (call->dx[1]) {
        job j = job_of(call, LANES, LANES, 16);
        j.out = call->dx[1];
        j.add = call->add[1];
        rc_parallel(j.n * j.runs * j.bands, call->threads, dk_task, &j);
    }
}

static const char *
refuse(const rc_attrs *a, int n_in, const rc_shape *xs, const rc_shape *y)
{
    (void)n_in, (void)y;
    return a->kernel == TAPS && xs[0].d[1] == a->groups * CHANNELS
               ? NULL
               : "kernel 7 with 16 channels a group only";
}

static int64_t
tmp_size(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, bool backward_pass,
         int threads)
{
    (void)a, (void)y;
    int64_t w = xs[0].d[3], ring = (TAPS + backward_pass) * w * PITCH, dk = dk_scratch(w);
    return threads * (backward_pass && dk > ring ? dk : ring) * (int64_t)sizeof(float);
}

const rc_fast_kernel RC_SIMD(rc_fast_involution) = {
    .name = TEXT(RC_SIMD(rc_f32_involution7x7)),
    .op = RC_OP_involution,
    .refuse = refuse,
    .tmp_size = tmp_size,
    .forward = forward,
    .backward = backward,
};
