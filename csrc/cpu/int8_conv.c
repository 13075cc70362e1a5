/* Convolution of bytes: rows of an implicit matrix in blocks, times panels of packed weights.
 *
 * Rows are read where they lie: 1x1 convolutions in the image itself, others in a copy of a block's
 * lines with the padding around them, where the bytes under a line of a window are one run, rounded
 * up to four (three colours: what lies beyond meets weights of 0). Only where that would read beyond
 * the image, or where the kernel takes no run but of whole steps of 64 bytes, the rows are copied
 * one by one. Blocks are cut by shape, and sums are exact, so nothing depends on the number
 * of threads. */
#include "cpu/int8.h"

#include <string.h>

#include "cpu/int8_winograd.h"

#define MOST_ROWS 1024            /* of a block */
#define MOST_BYTES (384 << 10)    /* of a block's rows: a part of the second level cache */
#define MOST_GATHERED (48 << 10)  /* … copied one by one: of the first */
#define SMALL_WEIGHTS (256 << 10) /* bytes that every task may read: rows are cut, not columns */
#define LEAST_ROWS 32             /* of a block that is cut to have enough tasks */
#define WANTED_TASKS 16
#define MOST_WEIGHTS (768 << 10)  /* bytes of a task's panels: they stay in the second level cache */
#define MOST_SHARED (8 << 20)     /* bytes copied once for all tasks */
#define SLACK 64                  /* bytes beyond a copy that are read or written, never used */

typedef struct form {
    rc_conv_shape s;              /* flat: one image of one column */
    bool flat, padded, gathered;
    bool upright;                 /* tiles are cut from columns of the image, lines are short */
    int64_t run, steps;           /* bytes under a line of a window, in fours; a row, in steps */
    int64_t pitch, view_lines;    /* of a block's image with its padding */
    int64_t images, lines;        /* of a block; images > 1: whole ones */
    int64_t cuts, m_blocks;       /* blocks of an image, and in all */
    int64_t panels, n_panels, n_blocks;
    int64_t view_bytes, block_bytes; /* copies of a block: its image; and its rows */
    bool shared;                  /* copied in a pass of its own */
    int64_t lda, runs, quads, run_step; /* of a block's rows, as in rc_int8_product */
    rc_int8_wide wide;
} form;

static void
cut_lines(form *f, int64_t lines) /* at most so many of a block, at least one */
{
    const rc_conv_shape *s = &f->s;
    lines = lines < 1 ? 1 : lines;
    f->images = lines >= s->oh ? lesser(lines / s->oh, s->n) : 1;
    f->cuts = lines >= s->oh ? 1 : parts(s->oh, lines);
    f->lines = parts(s->oh, f->cuts);
    f->cuts = parts(s->oh, f->lines);
    f->m_blocks = parts(s->n, f->images) * f->cuts;
}

/* Where the bytes of a tile's windows go when they are widened. Rows that overlap share them if they
 * stay apart by whole fours: lines of the image where the tile is a column of it, else one piece of each
 * line. */
static rc_int8_wide
wide_of(const form *f)
{
    const int64_t most = RC_INT8_WIDE_ROWS, run = f->quads * 4, stride = f->s.stride;
    if (f->runs > 1 && f->upright && stride < f->runs) {
        return (rc_int8_wide){.parts = 1, .pieces = f->runs - stride, .row_pieces = stride,
                              .bytes = run, .piece_step = f->run_step, .piece_to = 2 * run,
                              .lda = 2 * run * stride, .run_step = 2 * run,
                              .size = 2 * run * ((most - 1) * stride + f->runs)};
    }
    if (f->lda <= run && f->lda % 4 == 0) {
        int64_t piece = run + (most - 1) * f->lda;
        return (rc_int8_wide){.parts = f->runs, .pieces = 1, .bytes = run - f->lda,
                              .row_bytes = f->lda, .part_step = f->run_step, .part_to = 2 * piece,
                              .lda = 2 * f->lda, .run_step = 2 * piece, .size = 2 * piece * f->runs};
    }
    return (rc_int8_wide){.parts = f->runs, .row_pieces = 1, .bytes = run, .part_step = f->run_step,
                          .piece_step = f->lda, .part_to = 2 * run * most, .piece_to = 2 * run,
                          .lda = 2 * run, .run_step = 2 * run * most, .size = 2 * run * most * f->runs};
}

/* whole_steps: as the kernel's (tile.h). */
static form
form_of(const rc_conv_shape *shape, bool whole_steps)
{
    form f = {.s = *shape};
    rc_conv_shape *s = &f.s;
    int64_t unit = whole_steps ? STEP : 4;
    f.flat = s->kh == 1 && s->kw == 1 && s->stride == 1 && !s->pad && s->c % unit == 0;
    if (f.flat) {
        s->oh = s->h = s->n * s->oh * s->ow;
        s->n = s->w = s->ow = 1;
    }
    f.padded = s->pad > 0;
    f.run = up(s->kw * s->c, 4);
    f.gathered = f.run % unit != 0 || (f.run != s->kw * s->c && !f.padded);
    f.steps = parts(s->kh * f.run, STEP);
    f.pitch = (s->w + 2 * s->pad) * s->c;
    f.panels = parts(s->k, PANEL);

    int64_t line = f.gathered ? s->ow * f.steps * STEP : s->stride * f.pitch;
    int64_t lines = lesser(MOST_ROWS / s->ow, (f.gathered ? MOST_GATHERED : MOST_BYTES) / line);
    cut_lines(&f, lines);
    f.n_panels = f.panels;
    while (f.n_panels > 1 && f.n_panels * f.steps * STEP_BYTES > MOST_WEIGHTS) {
        f.n_panels = (f.n_panels + 1) / 2;
    }
    bool small = f.steps * STEP * s->k <= SMALL_WEIGHTS;
    for (;;) {
        f.n_blocks = parts(f.panels, f.n_panels);
        bool rows = f.images * f.lines > 1 && f.images * f.lines * s->ow >= 2 * LEAST_ROWS;
        if (f.m_blocks * f.n_blocks >= WANTED_TASKS || (!rows && f.n_panels == 1)) {
            break;
        }
        if (rows && (small || f.n_panels == 1)) {
            cut_lines(&f, f.images * f.lines / 2);
        } else {
            f.n_panels = (f.n_panels + 1) / 2;
        }
    }
    f.upright = !f.flat && !f.gathered && f.cuts == 1 && s->ow < 16 && s->oh > s->ow;
    f.view_lines = (f.lines - 1) * s->stride + s->kh;
    f.view_bytes = f.padded ? up(f.images * f.view_lines * f.pitch + SLACK, 64) : 0;
    f.block_bytes = f.view_bytes;
    if (f.gathered) {
        f.block_bytes += up(f.images * f.lines * s->ow * f.steps * STEP + SLACK, 64);
    }
    f.shared = f.n_blocks > 1 && f.block_bytes && f.m_blocks * f.block_bytes <= MOST_SHARED;
    f.lda = f.gathered ? f.steps * STEP : s->stride * (f.upright ? f.pitch : s->c);
    f.runs = f.gathered ? 1 : s->kh;
    f.quads = f.gathered ? f.steps * (STEP / 4) : f.run / 4;
    f.run_step = f.pitch;
    f.wide = wide_of(&f);
    return f;
}

static const rc_int8_kernels *
kernels_for(rc_isa isa)
{
#if defined(__x86_64__)
    switch (isa) {
    case RC_ISA_AMX:
        return &rc_int8_conv__amx;
    case RC_ISA_AVX512_BF16:
    case RC_ISA_AVX512_VNNI:
        return &rc_int8_conv__avx512_vnni;
    case RC_ISA_AVX2_VNNI:
        return &rc_int8_conv__avx2_vnni;
    case RC_ISA_AVX512:
    case RC_ISA_AVX2:
        return &rc_int8_conv__avx2;
    default:
        break;
    }
#endif
    (void)isa;
    return &rc_int8_conv__generic;
}

static bool
by_winograd(rc_isa isa, const rc_conv_shape *s)
{
    return kernels_for(isa)->winograd && rc_int8_winograd_takes(s);
}

const char *
rc_int8_conv_refuse(const rc_conv_shape *s)
{
    return s->groups == 1 ? NULL : "groups";
}

int64_t
rc_int8_conv_packed_size(rc_isa isa, const rc_conv_shape *s)
{
    if (by_winograd(isa, s)) {
        return rc_int8_winograd_packed_size(s);
    }
    form f = form_of(s, false);
    return f.panels * f.steps * STEP_BYTES;
}

static int64_t
wide_bytes(const form *f) /* of a thread */
{
    return up(f->wide.size + SLACK, 64);
}

int64_t
rc_int8_conv_scratch_size(rc_isa isa, const rc_conv_shape *s, int threads)
{
    if (by_winograd(isa, s)) {
        return rc_int8_winograd_scratch_size(s, threads);
    }
    const rc_int8_kernels *kernels = kernels_for(isa);
    form f = form_of(s, kernels->whole_steps);
    return (f.shared ? f.m_blocks : threads) * f.block_bytes
           + (kernels->widen ? threads * wide_bytes(&f) : 0);
}

/* ---- packing ---------------------------------------------------------------------------- */

typedef struct pack_job {
    const form *f;
    int64_t group; /* of weights of a channel that lie together: 4, or 2 for products of pairs */
    const float *w, *factor;
    int8_t *packed;
    int32_t *sums;
} pack_job;

static void
pack_panel(void *context, int64_t panel, int worker)
{
    (void)worker;
    const pack_job *job = context;
    const form *f = job->f;
    const rc_conv_shape *s = &f->s;
    int64_t taps = (int64_t)s->kh * s->kw, size = f->steps * STEP_BYTES;
    int8_t *to = job->packed + panel * size;
    memset(to, 0, (size_t)size);
    for (int64_t j = 0; j < lesser(PANEL, s->k - panel * PANEL); j++) {
        int64_t k = panel * PANEL + j;
        const float *from = job->w + k * s->c * taps;
        int32_t sum = 0;
        for (int64_t t = 0; t < s->c * taps; t++) { /* tap by tap, all channels of one */
            int64_t tap = t / s->c, channel = t % s->c;
            int8_t byte = rc_int8_weight(from[channel * taps + tap], job->factor[k]);
            int64_t i = tap / s->kw * f->run + tap % s->kw * s->c + channel; /* of the row */
            to[i / STEP * STEP_BYTES + j / 16 * (STEP_BYTES / 2) + i % STEP / job->group * 16 * job->group
               + j % 16 * job->group + i % job->group] = byte;
            sum += byte;
        }
        job->sums[k] = sum;
    }
}

void
rc_int8_conv_pack(rc_isa isa, const rc_conv_shape *s, const float *w, const float *factor,
                  int8_t *packed, int32_t *sums, int threads)
{
    if (by_winograd(isa, s)) {
        rc_int8_winograd_pack(s, w, factor, packed, sums, threads);
        return;
    }
    form f = form_of(s, false);
    pack_job job = {&f, kernels_for(isa)->widen ? 2 : 4, w, factor, packed, sums};
    rc_parallel(f.panels, threads, pack_panel, &job);
}

/* ---- a block's rows --------------------------------------------------------------------- */

typedef struct conv_job {
    const form *f;
    const rc_int8_kernels *kernels;
    const rc_int8_conv_args *call;
} conv_job;

/* The copy of a block, or of a thread's block. */
static uint8_t *
copy_at(const conv_job *job, int64_t i)
{
    return (uint8_t *)job->call->scratch + i * job->f->block_bytes;
}

typedef struct block {
    int64_t image, images, line, lines; /* of the output */
    const uint8_t *view;                /* where the window of its first row begins */
    int64_t view_step;                  /* between images there */
    const uint8_t *rows;                /* gathered ones, or NULL */
} block;

static block
block_at(const conv_job *job, int64_t i)
{
    const form *f = job->f;
    block b = {.image = i / f->cuts * f->images, .line = i % f->cuts * f->lines};
    b.images = lesser(f->images, f->s.n - b.image);
    b.lines = lesser(f->lines, f->s.oh - b.line);
    b.view_step = f->s.h * f->pitch;
    b.view = job->call->x + b.image * b.view_step + b.line * f->s.stride * f->pitch;
    return b;
}

static void
copy_view(const conv_job *job, const block *b, uint8_t *to)
{
    const form *f = job->f;
    const rc_conv_shape *s = &f->s;
    int64_t side = s->pad * s->c, width = s->w * s->c;
    int64_t lines = (b->lines - 1) * s->stride + s->kh;
    for (int64_t i = 0; i < b->images; i++) {
        const uint8_t *image = job->call->x + (b->image + i) * s->h * width;
        uint8_t *line = to + i * f->view_lines * f->pitch;
        for (int64_t l = 0; l < lines; l++, line += f->pitch) {
            int64_t y = b->line * s->stride - s->pad + l;
            if (y < 0 || y >= s->h) {
                memset(line, job->call->zero, (size_t)f->pitch);
                continue;
            }
            memset(line, job->call->zero, (size_t)side);
            memcpy(line + side, image + y * width, (size_t)width);
            memset(line + side + width, job->call->zero, (size_t)side);
        }
    }
}

static inline void
copy_run(uint8_t *to, const uint8_t *from, int64_t bytes, bool slack)
{
    if (!slack) {
        memcpy(to, from, (size_t)bytes);
        return;
    }
    int64_t i = 0;
    do { /* up to 31 bytes more than asked */
        memcpy(to + i, from + i, 32);
        i += 32;
    } while (i < bytes);
}

static void
gather(const conv_job *job, const block *b, uint8_t *to)
{
    const form *f = job->f;
    const rc_conv_shape *s = &f->s;
    for (int64_t i = 0; i < b->images; i++) {
        for (int64_t y = 0; y < b->lines; y++) {
            const uint8_t *from = b->view + i * b->view_step + y * s->stride * f->pitch;
            for (int64_t x = 0; x < s->ow; x++, to += f->steps * STEP) {
                for (int64_t k = 0; k < s->kh; k++) {
                    copy_run(to + k * f->run, from + x * s->stride * s->c + k * f->pitch,
                             s->kw * s->c, f->padded);
                }
            }
        }
    }
}

static void
block_copy(const conv_job *job, block *b, uint8_t *scratch, bool made)
{
    const form *f = job->f;
    if (f->padded) {
        if (!made) {
            copy_view(job, b, scratch);
        }
        b->view = scratch;
        b->view_step = f->view_lines * f->pitch;
    }
    if (f->gathered) {
        uint8_t *rows = scratch + f->view_bytes;
        if (!made) {
            gather(job, b, rows);
        }
        b->rows = rows;
    }
}

/* ---- products --------------------------------------------------------------------------- */

typedef struct queue { /* tiles that wait for enough of them */
    const rc_int8_kernels *kernels;
    rc_int8_product product;
    rc_int8_target target;
    const int8_t *packed;
    int64_t first, end, panel_bytes; /* panels */
    bool seen;                       /* the panels are in the cache by now */
    const int8_t *later;             /* weights of the task that follows, to be asked for … */
    int64_t later_bytes, later_each; /* … a part with every product */
    rc_int8_tile tiles[2];
    int count;
    const rc_int8_wide *wide;        /* or NULL */
    uint8_t *wide_to;
} queue;

static void
ask(const void *from, int64_t bytes)
{
    for (int64_t i = 0; i < bytes; i += 64) {
        __builtin_prefetch((const char *)from + i, 0, 2);
    }
}

/* What is far away is asked for while panel p is multiplied: the next panel of weights, once, and
 * what the epilogue reads and writes two panels on. */
static void
ask_ahead(queue *q, int64_t p)
{
    const rc_int8_target *to = &q->target;
    if (!q->seen && p + 1 < q->end) {
        ask(q->product.b + q->panel_bytes, q->panel_bytes);
    }
    for (int i = 0; i < q->count; i++) {
        int64_t row = q->tiles[i].row, channel = (p + 2) * PANEL;
        if (p + 2 >= q->end) { /* of the rows that follow */
            row += q->count * q->tiles[i].rows * q->tiles[i].next;
            channel -= (q->end - q->first) * PANEL;
        }
        for (int r = 0; r < q->tiles[i].rows; r++, row += q->tiles[i].next) {
            int64_t at = row * to->pitch + channel;
            if (to->e->to_float) {
                __builtin_prefetch((const char *)to->y + at * 4, 1);
                __builtin_prefetch((const char *)to->y + at * 4 + 64, 1);
            } else if (p % 2 == 0) {
                __builtin_prefetch((const char *)to->y + at, 1);
            }
            if (to->e->residual && p % 2 == 0) {
                __builtin_prefetch(to->e->residual + at);
            }
        }
    }
}

static void
ask_later(queue *q)
{
    int64_t bytes = lesser(q->later_each, q->later_bytes);
    ask(q->later, bytes);
    q->later += bytes;
    q->later_bytes -= bytes;
}

/* All panels for the tiles at hand, whose rows stay in the nearest cache meanwhile; the panels come
 * one after the other from the second. */
static void
flush(queue *q)
{
    if (q->wide && q->count) {
        q->kernels->widen(q->wide, q->tiles->a, q->tiles->rows, q->wide_to);
        q->tiles->a = q->wide_to;
    }
    for (int64_t p = q->first; p < q->end && q->count; p++) {
        q->product.b = q->packed + p * q->panel_bytes;
        q->target.channel = p * PANEL;
        q->target.columns = (int)lesser(PANEL, q->target.pitch - p * PANEL);
        ask_ahead(q, p);
        ask_later(q);
        const rc_int8_kernels *k = q->kernels;
        if (k->complete && k->complete(&q->product, q->tiles, &q->target)) {
            continue;
        }
        k->multiply(&q->product, q->tiles, q->count);
        for (int i = 0; i < q->count; i++) {
            k->finish(&q->target, &q->tiles[i], q->product.sums + i * k->most_rows * PANEL);
        }
    }
    q->seen = true;
    q->count = 0;
}

/* Rows that lie at even distances, cut evenly into tiles. */
static void
multiply_rows(queue *q, const uint8_t *a, int64_t lda, int64_t row, int64_t next, int64_t rows)
{
    int64_t tiles = parts(rows, q->kernels->most_rows);
    for (int64_t i = 0; i < tiles; i++) {
        int64_t first = rows * i / tiles, last = rows * (i + 1) / tiles;
        q->tiles[q->count++] =
            (rc_int8_tile){a + first * lda, row + first * next, next,
                           (int32_t)(last - first)};
        if (q->count == q->kernels->together) {
            flush(q);
        }
    }
}

static void
multiply_block(queue *q, const form *f, const block *b)
{
    const rc_conv_shape *s = &f->s;
    int64_t row = (b->image * s->oh + b->line) * s->ow;
    if (f->flat || b->rows) {
        multiply_rows(q, f->flat ? b->view : b->rows, f->lda, row, 1, b->images * b->lines * s->ow);
    } else if (f->upright) {
        for (int64_t i = 0; i < b->images * s->ow; i++) {
            const uint8_t *column = b->view + i / s->ow * b->view_step
                                    + i % s->ow * s->stride * s->c;
            multiply_rows(q, column, f->lda, row + i / s->ow * s->oh * s->ow + i % s->ow, s->ow, s->oh);
        }
    } else {
        for (int64_t i = 0; i < b->images * b->lines; i++) {
            const uint8_t *line = b->view + i / b->lines * b->view_step
                                  + i % b->lines * s->stride * f->pitch;
            multiply_rows(q, line, f->lda, row + i * s->ow, 1, s->ow);
        }
    }
    flush(q);
}

/* How many tiles a block has. */
static int64_t
tiles_of(const form *f, const block *b, int64_t most_rows)
{
    if (f->flat || b->rows) {
        return parts(b->images * b->lines * f->s.ow, most_rows);
    }
    return f->upright ? b->images * f->s.ow * parts(f->s.oh, most_rows)
                      : b->images * b->lines * parts(f->s.ow, most_rows);
}

/* Few rows and many weights (one image, the last layers): the panels of the task that this thread
 * takes next, if all go on in step, come while the present ones are multiplied. */
static void
plan_ahead(queue *q, const conv_job *job, const block *b, int64_t next)
{
    const form *f = job->f;
    int64_t first = next % f->n_blocks * f->n_panels;
    if (next >= f->m_blocks * f->n_blocks || first == q->first) {
        return;
    }
    int64_t products = tiles_of(f, b, q->kernels->most_rows) * (q->end - q->first);
    q->later = q->packed + first * q->panel_bytes;
    q->later_bytes = (lesser(first + f->n_panels, f->panels) - first) * q->panel_bytes;
    q->later_each = up(parts(q->later_bytes, products), 64);
}

static void
conv_task(void *context, int64_t i, int worker)
{
    const conv_job *job = context;
    const form *f = job->f;
    int32_t sums[2 * 16 * PANEL] __attribute__((aligned(64)));
    int64_t m = i / f->n_blocks, first = i % f->n_blocks * f->n_panels;
    block b = block_at(job, m);
    block_copy(job, &b, copy_at(job, f->shared ? m : worker), f->shared);
    queue q = {.kernels = job->kernels, .packed = job->call->packed, .first = first,
               .end = lesser(first + f->n_panels, f->panels),
               .panel_bytes = f->steps * STEP_BYTES};
    q.target = (rc_int8_target){.e = job->call->e, .y = job->call->y, .pitch = f->s.k};
    q.product = (rc_int8_product){.lda = f->lda, .runs = f->runs, .quads = f->quads,
                                  .run_step = f->run_step, .sums = sums};
    if (job->kernels->widen) {
        q.wide = &f->wide;
        q.wide_to = copy_at(job, f->shared ? f->m_blocks : job->call->threads)
                    + worker * wide_bytes(f);
        q.product.lda = f->wide.lda;
        q.product.run_step = f->wide.run_step;
    }
    plan_ahead(&q, job, &b, i + job->call->threads);
    multiply_block(&q, f, &b);
    if (job->kernels->end) {
        job->kernels->end();
    }
}

static void
share_task(void *context, int64_t m, int worker)
{
    (void)worker;
    const conv_job *job = context;
    block b = block_at(job, m);
    block_copy(job, &b, copy_at(job, m), false);
}

const char *
rc_int8_conv_name(rc_isa isa, const rc_conv_shape *s)
{
    return by_winograd(isa, s) ? kernels_for(isa)->winograd_name : kernels_for(isa)->name;
}

void
rc_int8_conv_run(rc_isa isa, const rc_conv_shape *s, const rc_int8_conv_args *args)
{
    const rc_int8_kernels *kernels = kernels_for(isa);
    if (by_winograd(isa, s)) {
        rc_int8_winograd_run(kernels, s, args);
        return;
    }
    form f = form_of(s, kernels->whole_steps);
    conv_job job = {&f, kernels, args};
    if (f.shared) {
        rc_parallel(f.m_blocks, args->threads, share_task, &job);
    }
    rc_parallel(f.m_blocks * f.n_blocks, args->threads, conv_task, &job);
}
