/* From what is known of each query to the numbers of a table: CMC, mAP, mINP, and how sure they
 * are (bootstrap over queries). Sums run in the order of the queries, in double. */
#include "eval/eval.h"

#include <math.h>
#include <stdlib.h>

#include "base/random.h"

/* Of the query's draws (or its one rank), how many are at k or better, as a fraction. */
static double
found_within(const rc_rank_result *result, int64_t query, int64_t k)
{
    if (!result->draws) {
        return result->first[query] <= k;
    }
    int64_t found = 0;
    for (int64_t draw = 0; draw < RC_CUHK03_DRAWS; draw++) {
        found += result->draws[query * RC_CUHK03_DRAWS + draw] <= k;
    }
    return (double)found / RC_CUHK03_DRAWS;
}

rc_status
rc_rank_summary(const rc_rank_result *result, int64_t queries, int64_t max_rank, float *cmc,
                double *map, double *minp, int64_t *valid, rc_error *err)
{
    int64_t count = 0, per_query = result->draws ? RC_CUHK03_DRAWS : 1;
    double ap = 0.0, inp = 0.0;
    const int64_t *ranks = result->draws ? result->draws : result->first;
    int64_t *at = rc_alloc_zero(max_rank + 1, sizeof *at); /* ranks equal to k, k = 1.. */
    if (!at) {
        return rc_fail(err, RC_MEMORY, "out of memory: cmc of %lld ranks", (long long)max_rank);
    }
    for (int64_t q = 0; q < queries; q++) {
        if (result->hits[q] < 1) {
            continue;
        }
        count++;
        ap += result->ap[q];
        inp += result->inp[q];
        for (int64_t draw = 0; draw < per_query; draw++) {
            int64_t rank = ranks[q * per_query + draw];
            if (rank <= max_rank) {
                at[rank]++;
            }
        }
    }
    if (count == 0) {
        rc_free(at);
        return rc_fail(err, RC_ARGUMENT,
                       "no query has a match in the gallery (%lld queries): ids do not overlap, or "
                       "every match is from the query's own camera", (long long)queries);
    }
    for (int64_t k = 1, found = 0; k <= max_rank; k++) {
        found += at[k];
        cmc[k - 1] = (float)((double)found / (double)(count * per_query));
    }
    rc_free(at);
    *map = ap / (double)count;
    *minp = inp / (double)count;
    *valid = count;
    return RC_OK;
}

typedef struct bootstrap {
    const double *value; /* (count) */
    int64_t count;
    uint64_t seed;
    double *mean; /* (repeats) */
} bootstrap;

/* Evaluation draws of kind 36 take a = query, c = identity >= -1; the bootstrap's words keep
 * clear of them by c = 2^63: a = place in the sample, b = repeat. */
static void
resample(void *context, int64_t repeat, int worker)
{
    const bootstrap *job = context;
    (void)worker;
    double sum = 0.0;
    for (int64_t i = 0; i < job->count; i++) {
        uint64_t word = rc_random(job->seed, RC_RANDOM_EVAL, (uint64_t)i, (uint64_t)repeat,
                                  (uint64_t)1 << 63, 0);
        sum += job->value[rc_below(word, job->count)];
    }
    job->mean[repeat] = sum / (double)job->count;
}

static int
compare_double(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return a < b ? -1 : a > b;
}

static double
quantile(const double *sorted, int64_t count, double p) /* linear between order statistics */
{
    double place = p * (double)(count - 1);
    int64_t low = (int64_t)floor(place);
    int64_t high = low + 1 < count ? low + 1 : low;
    return sorted[low] + (place - (double)low) * (sorted[high] - sorted[low]);
}

rc_status
rc_rank_interval(const rc_rank_result *result, int64_t queries, rc_rank_metric metric, int64_t k,
                 double level, int64_t repeats, uint64_t seed, int threads, double *low,
                 double *high, rc_error *err)
{
    if (!(level > 0.0 && level < 1.0)) {
        return rc_fail(err, RC_ARGUMENT, "level: expected a number between 0 and 1, got %g",
                       level);
    }
    if (repeats < 1 || repeats > 10000000) {
        return rc_fail(err, RC_ARGUMENT, "repeats: expected 1..10000000, got %lld",
                       (long long)repeats);
    }
    if (queries >= 1 << 24) {
        return rc_fail(err, RC_ARGUMENT, "interval: at most 2^24 - 1 queries, got %lld",
                       (long long)queries);
    }
    double *value = rc_alloc(queries + 1, sizeof *value);
    double *mean = rc_alloc(repeats, sizeof *mean);
    rc_status status = RC_OK;
    if (!value || !mean) {
        status = rc_fail(err, RC_MEMORY, "out of memory: bootstrap of %lld samples",
                         (long long)repeats);
        goto done;
    }
    int64_t count = 0;
    for (int64_t q = 0; q < queries; q++) {
        if (result->hits[q] > 0) {
            value[count++] = metric == RC_RANK_MAP    ? result->ap[q]
                             : metric == RC_RANK_MINP ? result->inp[q]
                                                      : found_within(result, q, k);
        }
    }
    if (count == 0) {
        status = rc_fail(err, RC_ARGUMENT, "no query has a match in the gallery");
        goto done;
    }
    bootstrap job = {value, count, seed, mean};
    rc_parallel(repeats, threads, resample, &job);
    qsort(mean, (size_t)repeats, sizeof *mean, compare_double);
    *low = quantile(mean, repeats, 0.5 * (1.0 - level));
    *high = quantile(mean, repeats, 0.5 * (1.0 + level));
done:
    rc_free(value);
    rc_free(mean);
    return status;
}
