/* Minimal filtering F(2x2, 3x3) in integers, for CPUs that have no dot product of bytes: there bytes
 * become 16 bits anyway, and the transformed values need no more.
 *
 *     V = Bt d B      of a patch d of 4x4 bytes: at most 4 * 255 in size
 *     U = G' g G't    with G' = 2 G, so that all is integers: at most 9 * 127 in size
 *     M = sum over channels of U V, for each of the 16 positions a product of matrices
 *     At M A          is 4 times the 2x2 sums: it fits 32 bits, so what overflows on the way does no harm
 *
 * A tile is a patch: 2x2 of the output. Tiles are numbered through all images and cut into blocks by
 * shape. A task has a block and some units of 16 output channels; where a block has several tasks,
 * its V are made in a pass before. */
#include "cpu/int8_winograd.h"

#include <string.h>

#define UNIT RC_INT8_UNIT
#define POSITIONS 16
#define MOST_TILES 48           /* of a block */
#define MOST_V (576 << 10)      /* bytes of a block's V */
#define WANTED_TASKS 16
#define LEAST_CHANNELS 32       /* below, the transforms take what the products save */
#define MOST_CHANNELS 1800      /* 4 * 9 * 255 * 127 * channels < 2^31 */
#define GAP 32                  /* V's elements between positions: off a power of 2, which caches dislike */

typedef struct form {
    rc_conv_shape s;
    int64_t across, down, tiles; /* of an image; and in all */
    int64_t each, blocks;        /* tiles of a block */
    int64_t units, n_units, n_blocks;
    int64_t v_step, m_step;      /* elements between positions */
    int64_t v_bytes, m_bytes;    /* of a block; of a thread */
    bool shared;
} form;

bool
rc_int8_winograd_takes(const rc_conv_shape *s)
{
    int64_t covered = parts(s->oh, 2) * parts(s->ow, 2) * 4;
    return s->kh == 3 && s->kw == 3 && s->stride == 1 && s->groups == 1 && s->c % 16 == 0
           && s->c >= LEAST_CHANNELS && s->c <= MOST_CHANNELS && s->k >= LEAST_CHANNELS
           && s->oh * s->ow >= 32 && 2 * covered <= 3 * s->oh * s->ow;
}

static form
form_of(const rc_conv_shape *s)
{
    form f = {.s = *s, .across = parts(s->ow, 2), .down = parts(s->oh, 2)};
    f.tiles = s->n * f.across * f.down;
    int64_t most = lesser(MOST_TILES, MOST_V / (POSITIONS * 2 * s->c));
    f.each = parts(f.tiles, parts(f.tiles, most));
    f.blocks = parts(f.tiles, f.each);
    f.units = parts(s->k, UNIT);
    f.n_blocks = lesser(f.units, parts(WANTED_TASKS, f.blocks));
    f.n_units = parts(f.units, f.n_blocks);
    f.n_blocks = parts(f.units, f.n_units);
    f.shared = f.n_blocks > 1;
    f.v_step = f.each * s->c + GAP;
    f.m_step = f.each * UNIT + UNIT;
    f.v_bytes = f.v_step * POSITIONS * 2;
    f.m_bytes = f.m_step * POSITIONS * 4;
    return f;
}

static int64_t
zeros_bytes(const form *f)
{
    return up(f->s.c, 64);
}

static int64_t
unit_size(const rc_conv_shape *s) /* elements of U for 16 output channels */
{
    return POSITIONS * s->c * UNIT;
}

int64_t
rc_int8_winograd_packed_size(const rc_conv_shape *s)
{
    return parts(s->k, UNIT) * unit_size(s) * 2;
}

int64_t
rc_int8_winograd_scratch_size(const rc_conv_shape *s, int threads)
{
    form f = form_of(s);
    return zeros_bytes(&f) + (f.shared ? f.blocks : threads) * f.v_bytes + threads * f.m_bytes;
}

/* ---- packing ---------------------------------------------------------------------------- */

typedef struct pack_job {
    const rc_conv_shape *s;
    const float *w, *factor;
    int16_t *packed;
    int32_t *sums;
} pack_job;

/* u = G' g: of each column three become four. */
static void
filter_column(const int g[3], int u[4])
{
    u[0] = 2 * g[0];
    u[1] = g[0] + g[1] + g[2];
    u[2] = g[0] - g[1] + g[2];
    u[3] = 2 * g[2];
}

static void
pack_unit(void *context, int64_t unit, int worker)
{
    (void)worker;
    const pack_job *job = context;
    const rc_conv_shape *s = job->s;
    int16_t *to = job->packed + unit * unit_size(s);
    memset(to, 0, (size_t)unit_size(s) * sizeof *to);
    for (int64_t j = 0; j < lesser(UNIT, s->k - unit * UNIT); j++) {
        int64_t k = unit * UNIT + j;
        int32_t sum = 0;
        for (int64_t c = 0; c < s->c; c++) {
            const float *from = job->w + (k * s->c + c) * 9;
            int half[3][4]; /* half[column][row] */
            for (int x = 0; x < 3; x++) {
                int g[3];
                for (int y = 0; y < 3; y++) {
                    g[y] = rc_int8_weight(from[y * 3 + x], job->factor[k]);
                    sum += g[y];
                }
                filter_column(g, half[x]);
            }
            for (int y = 0; y < 4; y++) {
                int g[3] = {half[0][y], half[1][y], half[2][y]}, u[4];
                filter_column(g, u);
                for (int x = 0; x < 4; x++) {
                    to[(((y * 4 + x) * s->c + c / 2 * 2) * UNIT) + j * 2 + c % 2] = (int16_t)u[x];
                }
            }
        }
        job->sums[k] = sum;
    }
}

void
rc_int8_winograd_pack(const rc_conv_shape *s, const float *w, const float *factor, int8_t *packed,
                      int32_t *sums, int threads)
{
    pack_job job = {s, w, factor, (int16_t *)(void *)packed, sums};
    rc_parallel(parts(s->k, UNIT), threads, pack_unit, &job);
}

/* ---- running ---------------------------------------------------------------------------- */

typedef struct job {
    const form *f;
    const rc_int8_kernels *kernels;
    const rc_int8_conv_args *call;
    const uint8_t *zeros; /* channels of a pixel of padding */
    int16_t *v;           /* [block or worker][position][tile][channel] */
    int32_t *m;           /* [worker][position][tile][16] */
} job;

typedef struct place { /* of a tile */
    int64_t image, y, x; /* the first of its 2x2 outputs */
} place;

static place
place_of(const form *f, int64_t tile)
{
    int64_t in_image = tile % (f->across * f->down);
    return (place){tile / (f->across * f->down), in_image / f->across * 2, in_image % f->across * 2};
}

static void
make_v(const job *j, int64_t block, int16_t *v)
{
    const form *f = j->f;
    const rc_conv_shape *s = &f->s;
    int64_t first = block * f->each, end = lesser(first + f->each, f->tiles);
    for (int64_t i = first; i < end; i++, v += s->c) {
        place p = place_of(f, i);
        const uint8_t *from[POSITIONS];
        for (int k = 0; k < POSITIONS; k++) {
            int64_t y = p.y - s->pad + k / 4, x = p.x - s->pad + k % 4;
            bool inside = y >= 0 && y < s->h && x >= 0 && x < s->w;
            from[k] = inside ? j->call->x + ((p.image * s->h + y) * s->w + x) * s->c : j->zeros;
        }
        j->kernels->winograd->input(from, s->c, v, f->v_step);
    }
}

static void
share_task(void *context, int64_t block, int worker)
{
    (void)worker;
    const job *j = context;
    make_v(j, block, j->v + block * j->f->v_step * POSITIONS);
}

/* All tiles of a block, one unit; the weights of the position that comes next are asked for
 * meanwhile, a part with every product. */
static void
multiply_unit(const job *j, int64_t tiles, const int16_t *v, const int16_t *u, const int16_t *end,
              int32_t *m)
{
    const form *f = j->f;
    int64_t c = f->s.c, products = parts(tiles, RC_INT8_WIDE_ROWS);
    for (int t = 0; t < POSITIONS; t++, v += f->v_step, m += f->m_step, u += c * UNIT) {
        const char *later = (const char *)(u + c * UNIT);
        for (int64_t i = 0; i < products; i++) {
            int64_t first = tiles * i / products, last = tiles * (i + 1) / products;
            if (u + c * UNIT < end) {
                for (int64_t l = c / 2 * i / products; l < c / 2 * (i + 1) / products; l++) {
                    __builtin_prefetch(later + l * 64, 0, 2);
                }
            }
            j->kernels->winograd->multiply((int)(last - first), c, v + first * c, u, m + first * UNIT);
        }
    }
}

static void
find_pixels(const form *f, int64_t first, int64_t tiles, int64_t (*pixels)[4])
{
    const rc_conv_shape *s = &f->s;
    for (int64_t i = 0; i < tiles; i++) {
        place p = place_of(f, first + i);
        for (int k = 0; k < 4; k++) {
            int64_t y = p.y + k / 2, x = p.x + k % 2;
            pixels[i][k] = y < s->oh && x < s->ow ? (p.image * s->oh + y) * s->ow + x : -1;
        }
    }
}

static void
conv_task(void *context, int64_t i, int worker)
{
    const job *j = context;
    const form *f = j->f;
    int64_t block = i / f->n_blocks, unit = i % f->n_blocks * f->n_units;
    int64_t end = lesser(unit + f->n_units, f->units);
    int64_t first = block * f->each, tiles = lesser(f->each, f->tiles - first);
    int16_t *v = j->v + (f->shared ? block : worker) * f->v_step * POSITIONS;
    int32_t *m = j->m + worker * f->m_step * POSITIONS;
    int64_t pixels[MOST_TILES][4];
    find_pixels(f, first, tiles, pixels);
    if (!f->shared) {
        make_v(j, block, v);
    }
    const int16_t *u = (const int16_t *)(const void *)j->call->packed;
    rc_int8_target to = {.e = j->call->e, .y = j->call->y, .pitch = f->s.k};
    for (; unit < end; unit++) {
        multiply_unit(j, tiles, v, u + unit * unit_size(&f->s), u + end * unit_size(&f->s), m);
        to.channel = unit * UNIT;
        to.columns = (int)lesser(UNIT, f->s.k - to.channel);
        j->kernels->winograd->finish(m, f->m_step, (int)tiles, (const int64_t (*)[4])pixels, &to);
    }
}

void
rc_int8_winograd_run(const rc_int8_kernels *kernels, const rc_conv_shape *s,
                     const rc_int8_conv_args *call)
{
    form f = form_of(s);
    uint8_t *zeros = call->scratch, *v = zeros + zeros_bytes(&f);
    uint8_t *m = v + (f.shared ? f.blocks : call->threads) * f.v_bytes;
    memset(zeros, call->zero, (size_t)s->c);
    job j = {&f, kernels, call, zeros, (int16_t *)(void *)v, (int32_t *)(void *)m};
    if (f.shared) {
        rc_parallel(f.blocks, call->threads, share_task, &j);
    }
    rc_parallel(f.blocks * f.n_blocks, call->threads, conv_task, &j);
}
