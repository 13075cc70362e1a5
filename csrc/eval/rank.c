/* Ranks, average precision and inverse negative penalty of each query, without sorting the
 * gallery: only the places of the matches count, and a match's place is one more than the number
 * of images before it. So the matches are sorted (a few dozen), every gallery distance is put
 * into the gap between matches where it belongs, and running sums give the ranks. "Before" is
 * (distance, gallery index) in order, which is what a stable ascending sort does.
 *
 * Junk (id -1, or the query's id from the query's camera) is counted like all others in the fast
 * loop and taken out again afterwards: it is known from the index, an id's images in order. */
#include "eval/eval.h"

#include <stdlib.h>
#include <string.h>

#include "base/random.h"

typedef struct group { /* one gallery id's images: order[start .. start+count-1], ascending */
    int64_t pid, start, count;
} group;

typedef struct match {
    double distance;
    int64_t index;
} match;

typedef struct scratch { /* of one thread; each (largest + 1) */
    match *matches;
    double *distances; /* of the matches, sorted, side by side for the search */
    int64_t *gaps;
} scratch;

struct rc_rank {
    rc_rank_labels labels;
    bool trapezoid;
    uint64_t seed;
    int threads;
    int64_t groups, largest;
    int64_t *order; /* owned: gallery indices by (pid, index) */
    group *group;   /* owned: by pid */
    match *matches;    /* owned, as the next two: threads x (largest + 1) */
    double *distances;
    int64_t *gaps;
};

typedef struct keyed {
    int64_t pid, index;
} keyed;

static int
compare_keyed(const void *left, const void *right)
{
    const keyed *a = left, *b = right;
    if (a->pid != b->pid) {
        return a->pid < b->pid ? -1 : 1;
    }
    return a->index < b->index ? -1 : a->index > b->index;
}

static int
compare_match(const void *left, const void *right)
{
    const match *a = left, *b = right;
    if (a->distance != b->distance) {
        return a->distance < b->distance ? -1 : 1;
    }
    return a->index < b->index ? -1 : a->index > b->index;
}

rc_status
rc_rank_new(const rc_rank_labels *labels, bool trapezoid, uint64_t seed, int threads,
            rc_rank **out, rc_error *err)
{
    *out = NULL;
    if (!labels->q_camids != !labels->g_camids) {
        return rc_fail(err, RC_ARGUMENT,
                       "%s: expected both camera arrays or neither (no filter by camera)",
                       labels->q_camids ? "g_camids" : "q_camids");
    }
    threads = threads < 1 ? 1 : threads > RC_MAX_THREADS ? RC_MAX_THREADS : threads;
    int64_t n = labels->gallery;
    keyed *sorted = rc_alloc(n + 1, sizeof *sorted);
    rc_rank *r = rc_alloc_zero(1, sizeof *r);
    if (!sorted || !r) {
        goto fail;
    }
    *r = (rc_rank){.labels = *labels, .trapezoid = trapezoid, .seed = seed, .threads = threads};
    r->order = rc_alloc(n + 1, sizeof *r->order);
    if (!r->order) {
        goto fail;
    }
    for (int64_t j = 0; j < n; j++) {
        sorted[j] = (keyed){labels->g_pids[j], j};
    }
    qsort(sorted, (size_t)n, sizeof *sorted, compare_keyed);
    for (int64_t j = 0; j < n; j++) {
        r->order[j] = sorted[j].index;
        r->groups += j == 0 || sorted[j].pid != sorted[j - 1].pid;
    }
    r->group = rc_alloc(r->groups + 1, sizeof *r->group);
    if (!r->group) {
        goto fail;
    }
    int64_t at = -1;
    for (int64_t j = 0; j < n; j++) {
        if (j == 0 || sorted[j].pid != sorted[j - 1].pid) {
            r->group[++at] = (group){sorted[j].pid, j, 0};
        }
        r->group[at].count++;
        if (r->group[at].count > r->largest) {
            r->largest = r->group[at].count;
        }
    }
    r->matches = rc_alloc(threads * (r->largest + 1), sizeof *r->matches);
    r->distances = rc_alloc(threads * (r->largest + 1), sizeof *r->distances);
    r->gaps = rc_alloc(threads * (r->largest + 1), sizeof *r->gaps);
    if (!r->matches || !r->distances || !r->gaps) {
        goto fail;
    }
    rc_free(sorted);
    *out = r;
    return RC_OK;
fail:
    rc_free(sorted);
    rc_rank_free(r);
    return rc_fail(err, RC_MEMORY, "out of memory: labels of %lld gallery images", (long long)n);
}

void
rc_rank_free(rc_rank *r)
{
    if (r) {
        rc_free(r->order);
        rc_free(r->group);
        rc_free(r->matches);
        rc_free(r->distances);
        rc_free(r->gaps);
        rc_free(r);
    }
}

static const group *
find_group(const rc_rank *r, int64_t pid)
{
    int64_t low = 0, high = r->groups;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (r->group[middle].pid < pid) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < r->groups && r->group[low].pid == pid ? r->group + low : NULL;
}

typedef struct rank_job {
    const rc_rank *rank;
    const void *rows;
    bool is_double;
    int64_t first;
    const rc_rank_result *result;
} rank_job;

static inline double
distance_at(const void *row, bool is_double, int64_t j)
{
    return is_double ? ((const double *)row)[j] : (double)((const float *)row)[j];
}

/* How many of the m >= 1 sorted matches come before (distance, index), or are it. The search
 * has no branch to mispredict: where an image falls is anyone's guess. */
static inline int64_t
gap_of(const scratch *own, int64_t m, double distance, int64_t index)
{
    const double *base = own->distances;
    for (int64_t left = m; left > 1;) {
        int64_t half = left / 2;
        base += (base[half - 1] < distance) * half;
        left -= half;
    }
    int64_t gap = base - own->distances + (*base < distance);
    while (gap < m && own->distances[gap] == distance && own->matches[gap].index <= index) {
        gap++;
    }
    return gap;
}

/* gaps[b] += gallery images before match b and not before match b - 1; false if there is a NaN.
 * Images behind the last match do not count. */
static inline __attribute__((always_inline)) bool
fill_gaps(const void *row, bool is_double, int64_t n, const scratch *own, int64_t m)
{
    double last = own->distances[m - 1];
    bool nan = false;
    for (int64_t j = 0; j < n; j++) {
        double distance = distance_at(row, is_double, j);
        nan |= distance != distance;
        if (distance <= last) {
            own->gaps[gap_of(own, m, distance, j)]++;
        }
    }
    return !nan;
}

static bool
has_nan(const void *row, bool is_double, int64_t n)
{
    bool nan = false;
    for (int64_t j = 0; j < n; j++) {
        double distance = distance_at(row, is_double, j);
        nan |= distance != distance;
    }
    return nan;
}

static bool
is_junk(const rc_rank_labels *labels, int64_t query, int64_t j)
{
    return labels->g_pids[j] == -1
           || (labels->g_camids && labels->g_pids[j] == labels->q_pids[query]
               && labels->g_camids[j] == labels->q_camids[query]);
}

/* The rank of the query's id among one image of each id left after the drop; `pick`: the k-th
 * of an id's images that are left, in gallery order. */
static int64_t
draw_rank(const rank_job *job, int64_t query, const void *row, const match *own, int64_t hits,
          int64_t draw)
{
    const rc_rank *r = job->rank;
    int64_t pid = r->labels.q_pids[query];
    uint64_t a = (uint64_t)query, b = (uint64_t)draw;
    const match *mine =
        own + rc_below(rc_random(r->seed, RC_RANDOM_EVAL, a, b, (uint64_t)pid, 0), hits);
    int64_t rank = 1;
    for (int64_t i = 0; i < r->groups; i++) {
        const group *other = r->group + i;
        if (other->pid == pid || other->pid == -1) {
            continue;
        }
        uint64_t word = rc_random(r->seed, RC_RANDOM_EVAL, a, b, (uint64_t)other->pid, 0);
        int64_t j = r->order[other->start + rc_below(word, other->count)];
        double distance = distance_at(row, job->is_double, j);
        rank += distance < mine->distance || (distance == mine->distance && j < mine->index);
    }
    return rank;
}

/* What follows from the ranks of the m >= 0 matches. */
static void
score(const rc_rank *r, int64_t query, const int64_t *ranks, int64_t m, const rc_rank_result *result)
{
    double sum = 0.0;
    result->hits[query] = m;
    result->first[query] = m ? ranks[0] : 0;
    for (int64_t k = 0; k < m; k++) {
        double precision = (double)(k + 1) / (double)ranks[k];
        if (r->trapezoid) {
            double before = ranks[k] == 1 ? 1.0 : (double)k / (double)(ranks[k] - 1);
            precision = 0.5 * (precision + before);
        }
        sum += precision;
    }
    result->ap[query] = m ? sum / (double)m : 0.0;
    result->inp[query] = m ? (double)m / (double)ranks[m - 1] : 0.0;
}

int64_t
rc_rank_matches(const rc_rank *r, int64_t query, int64_t *out)
{
    int64_t pid = r->labels.q_pids[query], m = 0;
    const group *own = pid == -1 ? NULL : find_group(r, pid);
    for (int64_t k = 0; own && k < own->count; k++) {
        int64_t j = r->order[own->start + k];
        if (!is_junk(&r->labels, query, j)) {
            if (out) {
                out[m] = j;
            }
            m++;
        }
    }
    return m;
}

void
rc_rank_score(rc_rank *r, int64_t query, const int32_t *ranks, int64_t m,
              const rc_rank_result *result)
{
    for (int64_t k = 0; k < m; k++) {
        r->gaps[k] = ranks[k];
    }
    score(r, query, r->gaps, m, result);
}

static void
rank_query(void *context, int64_t i, int worker)
{
    const rank_job *job = context;
    const rc_rank *r = job->rank;
    const rc_rank_labels *labels = &r->labels;
    const rc_rank_result *result = job->result;
    int64_t query = job->first + i, n = labels->gallery;
    const void *row = (const char *)job->rows + i * n * (job->is_double ? 8 : 4);
    int64_t place = worker * (r->largest + 1);
    scratch my = {r->matches + place, r->distances + place, r->gaps + place};
    match *matches = my.matches;

    int64_t m = rc_rank_matches(r, query, my.gaps);
    for (int64_t k = 0; k < m; k++) {
        int64_t j = my.gaps[k];
        matches[k] = (match){distance_at(row, job->is_double, j), j};
    }
    score(r, query, NULL, 0, result);
    if (result->draws) {
        memset(result->draws + query * RC_CUHK03_DRAWS, 0, RC_CUHK03_DRAWS * sizeof(int64_t));
    }
    if (m == 0) {
        if (has_nan(row, job->is_double, n)) {
            result->hits[query] = -1;
        }
        return;
    }
    for (int64_t draw = 0; result->draws && draw < RC_CUHK03_DRAWS; draw++) {
        result->draws[query * RC_CUHK03_DRAWS + draw] =
            draw_rank(job, query, row, matches, m, draw); /* matches still in gallery order */
    }
    for (int64_t k = 0; k < m; k++) { /* a NaN must not reach the sort */
        if (matches[k].distance != matches[k].distance) {
            result->hits[query] = -1;
            return;
        }
    }
    qsort(matches, (size_t)m, sizeof *matches, compare_match);
    for (int64_t k = 0; k < m; k++) {
        my.distances[k] = matches[k].distance;
    }
    memset(my.gaps, 0, (size_t)(m + 1) * sizeof *my.gaps);
    bool clean = job->is_double ? fill_gaps(row, true, n, &my, m)
                                : fill_gaps(row, false, n, &my, m);
    if (!clean) {
        result->hits[query] = -1;
        return;
    }
    /* Take the junk out: the query's own id in its own camera, and id -1. */
    const group *junk[2] = {labels->g_camids ? find_group(r, labels->q_pids[query]) : NULL,
                            find_group(r, -1)};
    for (int side = 0; side < 2; side++) {
        for (int64_t k = 0; junk[side] && k < junk[side]->count; k++) {
            int64_t j = r->order[junk[side]->start + k];
            double distance = distance_at(row, job->is_double, j);
            if (is_junk(labels, query, j) && distance <= matches[m - 1].distance) {
                my.gaps[gap_of(&my, m, distance, j)]--;
            }
        }
    }
    int64_t rank = 1; /* match k (from 0) itself was counted in gap k + 1 */
    for (int64_t k = 0; k < m; k++) {
        rank += my.gaps[k];
        my.gaps[k] = rank;
    }
    score(r, query, my.gaps, m, result);
}

rc_status
rc_rank_run(rc_rank *r, const void *rows, bool is_double, int64_t first, int64_t count,
            const rc_rank_result *result, rc_error *err)
{
    rank_job job = {r, rows, is_double, first, result};
    rc_parallel(count, r->threads, rank_query, &job);
    for (int64_t i = 0; i < count; i++) {
        if (result->hits[first + i] == -1) {
            int64_t n = r->labels.gallery, j = 0;
            const char *row = (const char *)rows + i * n * (is_double ? 8 : 4);
            while (j + 1 < n && distance_at(row, is_double, j) == distance_at(row, is_double, j)) {
                j++;
            }
            return rc_fail(err, RC_ARGUMENT, "distmat: row %lld, column %lld is NaN",
                           (long long)(first + i), (long long)j);
        }
    }
    return RC_OK;
}

rc_status
rc_rank_stream(rc_rank *r, rc_distance *distance, const rc_rank_result *result, rc_stop stop,
               void *context, rc_error *err)
{
    int64_t n = r->labels.gallery, queries = r->labels.queries;
    /* About 32 MiB of distances at a time, in whole blocks of rows where that is possible. */
    int64_t rows = (8 << 20) / (n > 0 ? n : 1);
    rows = rows > 256 ? rows / 256 * 256 : rows < 16 ? 16 : rows;
    rows = rows > queries ? queries : rows;
    float *block = rc_alloc(rows * (n > 0 ? n : 1) + 1, sizeof *block);
    if (!block) {
        return rc_fail(err, RC_MEMORY, "out of memory: distances of %lld queries to %lld images",
                       (long long)rows, (long long)n);
    }
    rc_status status = RC_OK;
    for (int64_t first = 0; first < queries && status == RC_OK; first += rows) {
        int64_t count = queries - first < rows ? queries - first : rows;
        rc_distance_run(distance, first, count, block);
        status = rc_rank_run(r, block, false, first, count, result, err);
        if (status == RC_OK && stop && stop(context)) {
            status = rc_fail(err, RC_INTERRUPTED, "stopped");
        }
    }
    rc_free(block);
    return status;
}
