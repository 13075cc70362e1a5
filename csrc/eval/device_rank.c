/* Distances and ranks of embeddings that lie on a card (device/device.h). The card is opened for the
 * call, without cuDNN and cuBLAS: none of it needs them. What comes back are the places of the
 * matches, a few for each query; the matrix of all distances is never anywhere. */
#include "eval/eval.h"

#include <string.h>

#include "device/device.h"

enum { QUERY, GALLERY, LACK_QUERY, LACK_GALLERY, BAD, ROWS, START, MATCH, Q_PIDS, G_PIDS, DISTANCE,
       SORTED, PLACE, RANKS, BLOCKS };

struct rc_device_distance {
    const rc_device_api *api;
    rc_device *d;
    rc_device_pairs pairs;
    void *block[BLOCKS]; /* on the card, owned; NULL: not made */
};

/* Differences of so many numbers between two looks at signals: about a second's. */
#define AT_ONCE 5e12
#define ROW_BYTES (64 << 20) /* of distances on their way to the host */

/* ---- memory -------------------------------------------------------------------------------- */

static rc_status
make(rc_device_distance *x, int which, int64_t count, int64_t size, void *out, rc_error *err)
{
    RC_TRY(x->api->alloc(x->d, (count > 0 ? count : 1) * size, &x->block[which], err));
    memcpy(out, &x->block[which], sizeof(void *));
    return RC_OK;
}

/* On the card, from host memory that may go once the copy is waited for. */
static rc_status
put(rc_device_distance *x, int which, const void *from, int64_t count, int64_t size, void *out,
    rc_error *err)
{
    RC_TRY(make(x, which, count, size, out, err));
    return count ? x->api->upload(x->d, x->block[which], from, count * size, err) : RC_OK;
}

void
rc_device_distance_free(rc_device_distance *x)
{
    if (x) {
        for (int i = 0; x->d && i < BLOCKS; i++) {
            x->api->release(x->d, x->block[i]);
        }
        if (x->d) {
            x->api->close(x->d);
        }
        rc_free(x);
    }
}

/* ---- distances ------------------------------------------------------------------------------ */

static rc_status
check_finite(rc_device_distance *x, const rc_there *query, const rc_there *gallery,
             int64_t dimension, rc_error *err)
{
    int32_t none[2] = {INT32_MAX, INT32_MAX}, bad[2] = {0}, *there = NULL;
    RC_TRY(put(x, BAD, none, 2, sizeof *none, &there, err));
    RC_TRY(x->api->find_bad(x->d, query->data, query->rows, dimension, there, err));
    RC_TRY(x->api->find_bad(x->d, gallery->data, gallery->rows, dimension, there + 1, err));
    RC_TRY(x->api->download(x->d, bad, there, sizeof bad, err));
    RC_TRY(x->api->wait(x->d, err));
    for (int i = 0; i < 2; i++) {
        if (bad[i] != INT32_MAX) {
            return rc_fail(err, RC_ARGUMENT, "%s: row %d holds NaN or infinity",
                           i ? "gallery" : "query", bad[i]);
        }
    }
    return RC_OK;
}

static rc_status
make_unit(rc_device_distance *x, int rows_of, int lack_of, const rc_there *rows, int64_t dimension,
          const float **unit, const float **lack, rc_error *err)
{
    float *u = NULL, *l = NULL;
    RC_TRY(make(x, rows_of, rows->rows * dimension, sizeof *u, &u, err));
    RC_TRY(make(x, lack_of, rows->rows, sizeof *l, &l, err));
    *unit = u;
    *lack = l;
    return x->api->unit_rows(x->d, rows->data, rows->rows, dimension, u, l, err);
}

static rc_status
prepare(rc_device_distance *x, int card, const rc_there *query, const rc_there *gallery,
        int64_t dimension, rc_metric metric, rc_error *err)
{
    const char *folders;
    RC_TRY(rc_device_get(&x->api, &folders, err));
    RC_TRY(x->api->open(card, NULL, &x->d, err));
    RC_TRY(query->stream ? x->api->join(x->d, query->stream, err) : RC_OK);
    RC_TRY(gallery->stream ? x->api->join(x->d, gallery->stream, err) : RC_OK);
    RC_TRY(check_finite(x, query, gallery, dimension, err));
    x->pairs = (rc_device_pairs){.query = query->data, .gallery = gallery->data,
                                 .queries = query->rows, .gallery_rows = gallery->rows,
                                 .dimension = dimension};
    if (metric == RC_METRIC_COSINE) {
        RC_TRY(make_unit(x, QUERY, LACK_QUERY, query, dimension, &x->pairs.query,
                         &x->pairs.lack_query, err));
        RC_TRY(make_unit(x, GALLERY, LACK_GALLERY, gallery, dimension, &x->pairs.gallery,
                         &x->pairs.lack_gallery, err));
    }
    return RC_OK;
}

rc_status
rc_device_distance_new(int card, const rc_there *query, const rc_there *gallery, int64_t dimension,
                       rc_metric metric, rc_device_distance **out, rc_error *err)
{
    *out = NULL;
    if (query->rows >= INT32_MAX || gallery->rows >= INT32_MAX || dimension >= INT32_MAX) {
        return rc_fail(err, RC_ARGUMENT, "query, gallery: on a card at most %d rows and columns",
                       INT32_MAX - 1);
    }
    rc_device_distance *x = rc_alloc_zero(1, sizeof *x);
    if (!x) {
        return rc_fail(err, RC_MEMORY, "out of memory for the distances");
    }
    rc_status status = prepare(x, card, query, gallery, dimension, metric, err);
    if (status != RC_OK) {
        rc_device_distance_free(x);
        return status;
    }
    *out = x;
    return RC_OK;
}

/* How many queries' rows of distances are made at a time. */
static int64_t
rows_at_once(const rc_device_distance *x)
{
    int64_t g = x->pairs.gallery_rows, q = x->pairs.queries;
    int64_t rows = ROW_BYTES / 4 / (g > 0 ? g : 1);
    rows = rows > 128 ? rows / 128 * 128 : rows < 1 ? 1 : rows;
    return rows < q ? rows : q > 0 ? q : 1;
}

static rc_status
some_rows(rc_device_distance *x, int64_t first, int64_t count, float *out, rc_error *err)
{
    int64_t g = x->pairs.gallery_rows;
    float *there = x->block[ROWS];
    if (!there) {
        RC_TRY(make(x, ROWS, rows_at_once(x) * g, sizeof *there, &there, err));
    }
    RC_TRY(x->api->distances(x->d, &x->pairs, first, count, there, err));
    RC_TRY(x->api->download(x->d, out, there, count * g * (int64_t)sizeof *out, err));
    return x->api->wait(x->d, err);
}

rc_status
rc_device_distance_matrix(rc_device_distance *x, float *out, rc_stop stop, void *context,
                          rc_error *err)
{
    int64_t q = x->pairs.queries, g = x->pairs.gallery_rows, most = rows_at_once(x);
    for (int64_t first = 0; g > 0 && first < q; first += most) {
        RC_TRY(some_rows(x, first, q - first < most ? q - first : most, out + first * g, err));
        if (stop && stop(context)) {
            return rc_fail(err, RC_INTERRUPTED, "stopped");
        }
    }
    return RC_OK;
}

/* ---- ranks ------------------------------------------------------------------------------------ */

/* Blocks of distances to the host, ranked there. */
static rc_status
rank_rows(rc_rank *rank, rc_device_distance *x, const rc_rank_result *result, rc_stop stop,
          void *context, rc_error *err)
{
    int64_t q = x->pairs.queries, g = x->pairs.gallery_rows, most = rows_at_once(x);
    float *rows = rc_alloc(most * g + 1, sizeof *rows);
    rc_status status = rows ? RC_OK : rc_fail(err, RC_MEMORY, "out of memory: distances of %lld "
                                              "queries", (long long)most);
    for (int64_t first = 0; status == RC_OK && first < q; first += most) {
        int64_t count = q - first < most ? q - first : most;
        status = g > 0 ? some_rows(x, first, count, rows, err) : RC_OK;
        if (status == RC_OK) {
            status = rc_rank_run(rank, rows, false, first, count, result, err);
        }
        if (status == RC_OK && stop && stop(context)) {
            status = rc_fail(err, RC_INTERRUPTED, "stopped");
        }
    }
    rc_free(rows);
    return status;
}

typedef struct lists { /* the matches of all queries, on the host; owned */
    int32_t *start, *match, *ranks;
    int64_t count;
} lists;

static rc_status
list_matches(const rc_rank *rank, int64_t queries, int64_t gallery, lists *l, rc_error *err)
{
    int64_t *own = rc_alloc(gallery + 1, sizeof *own);
    l->start = rc_alloc(queries + 1, sizeof *l->start);
    rc_status status = own && l->start ? RC_OK : RC_MEMORY;
    for (int64_t i = 0; status == RC_OK && i < queries; i++) {
        l->start[i] = (int32_t)l->count;
        l->count += rc_rank_matches(rank, i, NULL);
        status = l->count < INT32_MAX ? RC_OK : RC_ARGUMENT;
    }
    if (status == RC_OK) {
        l->start[queries] = (int32_t)l->count;
        l->match = rc_alloc(l->count + 1, sizeof *l->match);
        l->ranks = rc_alloc(l->count + 1, sizeof *l->ranks);
        status = l->match && l->ranks ? RC_OK : RC_MEMORY;
    }
    for (int64_t i = 0; status == RC_OK && i < queries; i++) {
        int64_t m = rc_rank_matches(rank, i, own);
        for (int64_t k = 0; k < m; k++) {
            l->match[l->start[i] + k] = (int32_t)own[k];
        }
    }
    rc_free(own);
    return status == RC_OK       ? RC_OK
           : status == RC_MEMORY ? rc_fail(err, RC_MEMORY, "out of memory: matches of %lld queries",
                                           (long long)queries)
                                 : rc_fail(err, RC_ARGUMENT, "q_pids: more than %d matches in all",
                                           INT32_MAX - 1);
}

static rc_status
count_there(rc_device_distance *x, const rc_rank_labels *labels, lists *l, rc_stop stop,
            void *context, rc_error *err)
{
    int64_t q = labels->queries, n = l->count;
    rc_device_ranking r = {.matches = n};
    RC_TRY(put(x, START, l->start, q + 1, sizeof *r.start, &r.start, err));
    RC_TRY(put(x, MATCH, l->match, n, sizeof *r.match, &r.match, err));
    RC_TRY(put(x, Q_PIDS, labels->q_pids, q, sizeof *r.q_pids, &r.q_pids, err));
    RC_TRY(put(x, G_PIDS, labels->g_pids, labels->gallery, sizeof *r.g_pids, &r.g_pids, err));
    RC_TRY(make(x, DISTANCE, n, sizeof *r.distance, &r.distance, err));
    RC_TRY(make(x, SORTED, n, sizeof *r.sorted, &r.sorted, err));
    RC_TRY(make(x, PLACE, n, sizeof *r.place, &r.place, err));
    RC_TRY(make(x, RANKS, n, sizeof *r.ranks, &r.ranks, err));
    double row = (double)x->pairs.gallery_rows * (double)x->pairs.dimension;
    int64_t most = row * (double)q > AT_ONCE ? (int64_t)(AT_ONCE / row) / 128 * 128 : q;
    most = most < 128 ? 128 : most;
    for (int64_t first = 0; n > 0 && first < q; first += most) {
        RC_TRY(x->api->rank(x->d, &x->pairs, &r, first, q - first < most ? q - first : most, err));
        if (first + most < q) {
            RC_TRY(x->api->wait(x->d, err));
            if (stop && stop(context)) {
                return rc_fail(err, RC_INTERRUPTED, "stopped");
            }
        }
    }
    RC_TRY(n ? x->api->download(x->d, l->ranks, r.ranks, n * (int64_t)sizeof *r.ranks, err)
             : RC_OK);
    return x->api->wait(x->d, err);
}

rc_status
rc_device_rank(rc_rank *rank, rc_device_distance *x, const rc_rank_labels *labels,
               const rc_rank_result *result, rc_stop stop, void *context, rc_error *err)
{
    if (result->draws) {
        return rank_rows(rank, x, result, stop, context, err);
    }
    lists l = {0};
    rc_status status = list_matches(rank, labels->queries, labels->gallery, &l, err);
    status = status == RC_OK ? count_there(x, labels, &l, stop, context, err) : status;
    for (int64_t i = 0; status == RC_OK && i < labels->queries; i++) {
        rc_rank_score(rank, i, l.ranks + l.start[i], l.start[i + 1] - l.start[i], result);
    }
    if (status != RC_OK) {
        (void)x->api->wait(x->d, NULL); /* copies may still read the lists */
    }
    rc_free(l.start);
    rc_free(l.match);
    rc_free(l.ranks);
    return status;
}
