/* Evaluation: distances between embeddings, CMC / AP / INP of a ranking, a colour histogram to
 * compare with, and Grad-CAM's arithmetic. Rules: spec/common.md 6 and 8. Letters: q queries,
 * g gallery, d dimension.
 *
 * Long calls ask `stop` (may be NULL) now and then, on the calling thread, and return
 * RC_INTERRUPTED when it says so. Results do not depend on `threads`. */
#ifndef RC_EVAL_H
#define RC_EVAL_H

#include "base/base.h"

typedef bool (*rc_stop)(void *context); /* true: stop now */

/* ---- distance.c ------------------------------------------------------------------------- */

typedef enum rc_metric { RC_METRIC_EUCLIDEAN = 0, RC_METRIC_COSINE } rc_metric;

typedef struct rc_distance rc_distance;

/* Prepare distances between the rows of query (q,d) and gallery (g,d), both borrowed until
 * rc_distance_free. Euclidean: squared, of the rows as given, by differences. Cosine: 1 - cos,
 * norms clamped at 1e-12. NaN or infinity in a row is an RC_ARGUMENT that names the row. */
rc_status rc_distance_new(const float *query, int64_t queries, const float *gallery,
                          int64_t gallery_rows, int64_t dimension, rc_metric metric, int threads,
                          rc_distance **out, rc_error *err) RC_CHECK_RESULT;
/* out: (count, g), distances of queries first .. first+count-1. Cannot fail. */
void rc_distance_run(rc_distance *distance, int64_t first, int64_t count, float *out);
void rc_distance_free(rc_distance *distance);

/* The whole matrix, (q,g). */
rc_status rc_distance_matrix(rc_distance *distance, float *out, rc_stop stop, void *context,
                             rc_error *err) RC_CHECK_RESULT;

/* ---- rank.c ----------------------------------------------------------------------------- */

#define RC_CUHK03_DRAWS 10

typedef struct rc_rank_labels {
    int64_t queries, gallery;
    const int64_t *q_pids, *g_pids;     /* (q), (g) */
    const int64_t *q_camids, *g_camids; /* (q), (g), or both NULL: no filter by camera */
} rc_rank_labels;

/* What is known of each query afterwards. A query without a match has hits = 0 and zeros. */
typedef struct rc_rank_result {
    int64_t *hits;  /* (q) M: matching gallery images that are not junk */
    int64_t *first; /* (q) r_1, from 1, counted after the drop of junk */
    int64_t *draws; /* (q, RC_CUHK03_DRAWS) r_1 among one image per identity, or NULL */
    double *ap;     /* (q) */
    double *inp;    /* (q) */
} rc_rank_result;

typedef struct rc_rank rc_rank;

/* Index the labels (borrowed until rc_rank_free). `trapezoid`: AP of Market-1501's own code.
 * With result->draws the CUHK03 draws are made too, keyed by `seed`. */
rc_status rc_rank_new(const rc_rank_labels *labels, bool trapezoid, uint64_t seed, int threads,
                      rc_rank **out, rc_error *err) RC_CHECK_RESULT;
/* Rank queries first .. first+count-1 from their rows (count, g) of distances, float or (when
 * `is_double`) double; ascending, ties by gallery index. NaN: RC_ARGUMENT that names the place. */
rc_status rc_rank_run(rc_rank *rank, const void *rows, bool is_double, int64_t first,
                      int64_t count, const rc_rank_result *result, rc_error *err) RC_CHECK_RESULT;
void rc_rank_free(rc_rank *rank);

/* Rank everything from a distance object, a block of queries at a time. */
rc_status rc_rank_stream(rc_rank *rank, rc_distance *distance, const rc_rank_result *result,
                         rc_stop stop, void *context, rc_error *err) RC_CHECK_RESULT;

/* For what ranks elsewhere: the matches of a query, gallery indices in ascending order, to out (NULL:
 * counted alone); and what follows from their ranks, ascending, from 1. Not in threads. */
int64_t rc_rank_matches(const rc_rank *rank, int64_t query, int64_t *out);
void rc_rank_score(rc_rank *rank, int64_t query, const int32_t *ranks, int64_t m,
                   const rc_rank_result *result);

/* ---- device_rank.c: embeddings that lie on a card --------------------------------------------- */

typedef struct rc_there { /* (rows, dimension), contiguous */
    const float *data;
    int64_t rows;
    void *stream; /* in which they are made ready; NULL: they are */
} rc_there;

typedef struct rc_device_distance rc_device_distance;

/* Distances between rows on card `card`, as rc_distance_new has them. Errors of the card; RC_MEMORY;
 * NaN or infinity in a row. */
rc_status rc_device_distance_new(int card, const rc_there *query, const rc_there *gallery,
                                 int64_t dimension, rc_metric metric, rc_device_distance **out,
                                 rc_error *err) RC_CHECK_RESULT;
void rc_device_distance_free(rc_device_distance *distance);
/* The whole matrix, (q,g), to the host. */
rc_status rc_device_distance_matrix(rc_device_distance *distance, float *out, rc_stop stop,
                                    void *context, rc_error *err) RC_CHECK_RESULT;
/* Rank everything: the card counts, and the places of the matches alone come to the host. With
 * result->draws, blocks of distances come and are ranked as rc_rank_run does it. */
rc_status rc_device_rank(rc_rank *rank, rc_device_distance *distance,
                         const rc_rank_labels *labels, const rc_rank_result *result, rc_stop stop,
                         void *context, rc_error *err) RC_CHECK_RESULT;

/* ---- summary.c -------------------------------------------------------------------------- */

/* cmc: (max_rank), averaged over the queries with a match (and their draws, where there are
 * any). No such query: RC_ARGUMENT. */
rc_status rc_rank_summary(const rc_rank_result *result, int64_t queries, int64_t max_rank,
                          float *cmc, double *map, double *minp, int64_t *valid,
                          rc_error *err) RC_CHECK_RESULT;

/* Bootstrap over the queries with a match: `repeats` samples of them with replacement, keyed by
 * `seed`; low and high are the (1 -+ level)/2 quantiles of the mean of `metric`. */
typedef enum rc_rank_metric { RC_RANK_MAP, RC_RANK_MINP, RC_RANK_CMC } rc_rank_metric;
rc_status rc_rank_interval(const rc_rank_result *result, int64_t queries, rc_rank_metric metric,
                           int64_t k, double level, int64_t repeats, uint64_t seed, int threads,
                           double *low, double *high, rc_error *err) RC_CHECK_RESULT;

/* ---- histogram.c ------------------------------------------------------------------------ */

#define RC_HISTOGRAM_BINS 512

/* The baseline that looks at colours only: an 8 x 8 x 8 RGB histogram, square root, unit length.
 * images: (n,h,w,3) uint8; out: (n,512), bin r/32·64 + g/32·8 + b/32. `centre`: only columns
 * w/4 .. 3w/4 - 1. */
rc_status rc_color_histogram(const uint8_t *images, int64_t n, int64_t h, int64_t w, bool centre,
                             int threads, float *out, rc_error *err) RC_CHECK_RESULT;

/* ---- grad_cam.c -------------------------------------------------------------------------- */

/* A layer's output for n images, as it lies in memory: (n,h,w,c), float or double. */
typedef struct rc_cam_layer {
    const void *map;
    const void *gradient; /* of the score, the same shape; NULL: zero everywhere */
    bool is_double;
    int64_t n, h, w, c;
} rc_cam_layer;

/* cam (n,h,w) += relu(sum_k w_k A_k), w_k the mean of the gradient over positions (Selvaraju et
 * al. 2017); `activation`: += sum_k A_k^2, whatever the gradient. */
rc_status rc_cam_add(const rc_cam_layer *layer, bool activation, int threads, double *cam,
                     rc_error *err) RC_CHECK_RESULT;

/* Each map to [0, 1], (M - min M) / max(max M - min M, 1e-8), then to height x width: bilinear,
 * half-pixel centres, no antialias. `activation`: divided by its length (at least 1e-12) before.
 * cam (n,h,w) is changed; out: (n,height,width), float or double. */
void rc_cam_finish(double *cam, int64_t n, int64_t h, int64_t w, bool activation, int64_t height,
                   int64_t width, bool is_double, int threads, void *out);

/* share[i] = sum of map*mask / sum of map: how much of map i lies inside mask i. maps (n,h,w) >= 0;
 * masks (n,mh,mw), 0..1, to whose size maps are brought as above. NaN where a map is zero. */
void rc_cam_energy(const float *maps, int64_t n, int64_t h, int64_t w, const float *masks,
                   int64_t mh, int64_t mw, int threads, double *share);

#endif
