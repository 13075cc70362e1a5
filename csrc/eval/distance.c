/* Distances between two sets of rows, cut into blocks of 256 x 256 x 256 and those into the
 * CPU's 8 x 32 tiles. A task is one block of queries against one block of the gallery; it packs
 * both a slice of the dimension at a time, so scratch is the same for any dimension and every
 * element is summed in the same order: neither threads nor the cut into rows changes a bit.
 *
 * Cosine: 1 - cos(a,b) = |a' - b'|^2 / 2 of the unit rows a', b', the same kernel, so equal
 * directions are at 0. A row below the clamp keeps length s < 1 after it; its share of
 * 1 - a'b' = (|a' - b'|^2 + 1 - |a'|^2 + 1 - |b'|^2) / 2 is kept in `lack`. */
#include "eval/eval.h"

#include <math.h>
#include <string.h>

#include "cpu/distance.h"

enum { MR = RC_SQDIST_MR, NR = RC_SQDIST_NR, BLOCK = 256, DEPTH = 256 };

struct rc_distance {
    const float *query, *gallery; /* borrowed, or the unit rows below */
    int64_t queries, gallery_rows, dimension;
    rc_metric metric;
    int threads;
    rc_sqdist_tile tile;
    float *unit_query, *unit_gallery;     /* owned, cosine only */
    float *lack_query, *lack_gallery;     /* owned: (1 - |row|^2)/2, 0 for ordinary rows */
    float *scratch;                       /* owned: threads x (2 packed blocks + a tile) */
};

enum { SCRATCH = 2 * BLOCK * DEPTH + MR * NR };

static rc_status
check_finite(const float *x, int64_t rows, int64_t dimension, const char *what, rc_error *err)
{
    for (int64_t i = 0; i < rows; i++) {
        const float *row = x + i * dimension;
        uint32_t bad = 0;
        for (int64_t p = 0; p < dimension; p++) {
            uint32_t bits;
            memcpy(&bits, row + p, 4);
            bad |= (bits & 0x7f800000u) == 0x7f800000u;
        }
        if (bad) {
            return rc_fail(err, RC_ARGUMENT, "%s: row %lld holds NaN or infinity", what,
                           (long long)i);
        }
    }
    return RC_OK;
}

static void
make_unit(const float *x, int64_t rows, int64_t dimension, float *unit, float *lack)
{
    for (int64_t i = 0; i < rows; i++) {
        const float *row = x + i * dimension;
        double square = 0.0;
        for (int64_t p = 0; p < dimension; p++) {
            square += (double)row[p] * row[p];
        }
        double norm = sqrt(square);
        double scale = 1.0 / (norm > 1e-12 ? norm : 1e-12);
        for (int64_t p = 0; p < dimension; p++) {
            unit[i * dimension + p] = (float)(row[p] * scale);
        }
        double length = norm * scale;
        lack[i] = norm > 1e-12 ? 0.0f : (float)(0.5 * (1.0 - length * length));
    }
}

rc_status
rc_distance_new(const float *query, int64_t queries, const float *gallery, int64_t gallery_rows,
                int64_t dimension, rc_metric metric, int threads, rc_distance **out,
                rc_error *err)
{
    *out = NULL;
    if (dimension < 1) {
        return rc_fail(err, RC_ARGUMENT, "query: expected at least one column, got 0");
    }
    RC_TRY(check_finite(query, queries, dimension, "query", err));
    RC_TRY(check_finite(gallery, gallery_rows, dimension, "gallery", err));
    threads = threads < 1 ? 1 : threads > RC_MAX_THREADS ? RC_MAX_THREADS : threads;
    rc_distance *d = rc_alloc_zero(1, sizeof *d);
    if (!d) {
        goto fail;
    }
    *d = (rc_distance){.query = query, .gallery = gallery, .queries = queries,
                       .gallery_rows = gallery_rows, .dimension = dimension, .metric = metric,
                       .threads = threads, .tile = rc_sqdist_tile_get()};
    d->scratch = rc_alloc(threads, SCRATCH * sizeof(float));
    if (!d->scratch) {
        goto fail;
    }
    if (metric == RC_METRIC_COSINE) {
        size_t row = (size_t)dimension * sizeof(float);
        d->unit_query = rc_alloc(queries + 1, row); /* + 1: none is not a failure */
        d->unit_gallery = rc_alloc(gallery_rows + 1, row);
        d->lack_query = rc_alloc(queries + 1, sizeof(float));
        d->lack_gallery = rc_alloc(gallery_rows + 1, sizeof(float));
        if (!d->unit_query || !d->unit_gallery || !d->lack_query || !d->lack_gallery) {
            goto fail;
        }
        make_unit(query, queries, dimension, d->unit_query, d->lack_query);
        make_unit(gallery, gallery_rows, dimension, d->unit_gallery, d->lack_gallery);
        d->query = d->unit_query;
        d->gallery = d->unit_gallery;
    }
    *out = d;
    return RC_OK;
fail:
    rc_distance_free(d);
    return rc_fail(err, RC_MEMORY,
                   "out of memory: distances of %lld queries and %lld gallery rows of %lld",
                   (long long)queries, (long long)gallery_rows, (long long)dimension);
}

void
rc_distance_free(rc_distance *d)
{
    if (d) {
        rc_free(d->unit_query);
        rc_free(d->unit_gallery);
        rc_free(d->lack_query);
        rc_free(d->lack_gallery);
        rc_free(d->scratch);
        rc_free(d);
    }
}

/* Rows of x, columns k0 .. k0+kc-1, as groups of `group` rows: packed[g][p][row in group].
 * Missing rows of the last group repeat its last one: computed, never stored. */
static void
pack(const float *x, int64_t dimension, int64_t rows, int64_t k0, int64_t kc, int group,
     float *packed)
{
    for (int64_t i0 = 0; i0 < rows; i0 += group) {
        for (int r = 0; r < group; r++) {
            int64_t i = i0 + r < rows ? i0 + r : rows - 1;
            const float *row = x + i * dimension + k0;
            for (int64_t p = 0; p < kc; p++) {
                packed[p * group + r] = row[p];
            }
        }
        packed += kc * group;
    }
}

typedef struct run_job {
    rc_distance *d;
    int64_t first, count, blocks_g;
    float *out;
} run_job;

static void
run_block(void *context, int64_t task, int worker)
{
    const run_job *job = context;
    rc_distance *d = job->d;
    int64_t q0 = task / job->blocks_g * BLOCK, g0 = task % job->blocks_g * BLOCK;
    int64_t rows = job->count - q0 < BLOCK ? job->count - q0 : BLOCK;
    int64_t columns = d->gallery_rows - g0 < BLOCK ? d->gallery_rows - g0 : BLOCK;
    int64_t ld = d->gallery_rows;
    float *out = job->out + q0 * ld + g0;
    float *a = d->scratch + (int64_t)worker * SCRATCH, *b = a + BLOCK * DEPTH;
    float *edge = b + BLOCK * DEPTH;
    const float *query = d->query + (job->first + q0) * d->dimension;
    const float *gallery = d->gallery + g0 * d->dimension;
    for (int64_t k0 = 0; k0 < d->dimension; k0 += DEPTH) {
        int64_t kc = d->dimension - k0 < DEPTH ? d->dimension - k0 : DEPTH;
        pack(query, d->dimension, rows, k0, kc, MR, a);
        pack(gallery, d->dimension, columns, k0, kc, NR, b);
        for (int64_t j = 0; j < columns; j += NR) {
            int64_t width = columns - j < NR ? columns - j : NR;
            for (int64_t i = 0; i < rows; i += MR) {
                int64_t height = rows - i < MR ? rows - i : MR;
                float *c = out + i * ld + j;
                if (width == NR && height == MR) {
                    d->tile(kc, a + i * kc, b + j * kc, c, ld, k0 > 0);
                    continue;
                }
                if (k0 > 0) {
                    memset(edge, 0, MR * NR * sizeof(float));
                    for (int64_t r = 0; r < height; r++) {
                        memcpy(edge + r * NR, c + r * ld, (size_t)width * sizeof(float));
                    }
                }
                d->tile(kc, a + i * kc, b + j * kc, edge, NR, k0 > 0);
                for (int64_t r = 0; r < height; r++) {
                    memcpy(c + r * ld, edge + r * NR, (size_t)width * sizeof(float));
                }
            }
        }
    }
    if (d->metric == RC_METRIC_COSINE) {
        for (int64_t i = 0; i < rows; i++) {
            float lack = d->lack_query[job->first + q0 + i];
            for (int64_t j = 0; j < columns; j++) {
                out[i * ld + j] = 0.5f * out[i * ld + j] + (lack + d->lack_gallery[g0 + j]);
            }
        }
    }
}

void
rc_distance_run(rc_distance *d, int64_t first, int64_t count, float *out)
{
    if (count < 1 || d->gallery_rows < 1) {
        return;
    }
    int64_t blocks_g = (d->gallery_rows + BLOCK - 1) / BLOCK;
    run_job job = {d, first, count, blocks_g, out};
    rc_parallel((count + BLOCK - 1) / BLOCK * blocks_g, d->threads, run_block, &job);
}

rc_status
rc_distance_matrix(rc_distance *d, float *out, rc_stop stop, void *context, rc_error *err)
{
    for (int64_t i = 0; i < d->queries; i += BLOCK) {
        int64_t count = d->queries - i < BLOCK ? d->queries - i : BLOCK;
        rc_distance_run(d, i, count, out + i * d->gallery_rows);
        if (stop && stop(context)) {
            return rc_fail(err, RC_INTERRUPTED, "stopped");
        }
    }
    return RC_OK;
}
