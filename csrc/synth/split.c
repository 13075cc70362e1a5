/* The list of the set: which identities train, who is seen by which camera and how often,
 * query and gallery, distractors and junk. The synthetic set page, section 9. */
#include "synth/synth_impl.h"

#include <stdlib.h>

typedef struct ranked {
    uint64_t hash;
    int64_t pid;
} ranked;

static int
by_hash(const void *left, const void *right)
{
    const ranked *a = left, *b = right;
    if (a->hash != b->hash) {
        return a->hash < b->hash ? -1 : 1;
    }
    return a->pid < b->pid ? -1 : 1;
}

static int
by_pid(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return a < b ? -1 : a > b;
}

/* The identities with the smallest hashes train; both lists come out ascending. */
static rc_status
split_identities(rc_synth *set, rc_error *err)
{
    const rc_synth_options *o = &set->options;
    int64_t n = o->train + o->test;
    ranked *order = rc_alloc(n, sizeof *order);
    set->train_ids = rc_alloc(o->train, sizeof(int64_t));
    set->test_ids = rc_alloc(o->test, sizeof(int64_t));
    if (!order || !set->train_ids || !set->test_ids) {
        rc_free(order);
        return rc_fail(err, RC_MEMORY, "Synthetic: no memory to list %lld identities",
                       (long long)n);
    }
    for (int64_t i = 0; i < n; i++) {
        order[i].pid = i + 1;
        order[i].hash = rc_random(o->seed, KIND_SPLIT, (uint64_t)(i + 1), 0, 0, 0);
    }
    qsort(order, (size_t)n, sizeof *order, by_hash);
    for (int64_t i = 0; i < n; i++) {
        if (i < o->train) {
            set->train_ids[i] = order[i].pid;
        } else {
            set->test_ids[i - o->train] = order[i].pid;
        }
    }
    qsort(set->train_ids, (size_t)o->train, sizeof(int64_t), by_pid);
    qsort(set->test_ids, (size_t)o->test, sizeof(int64_t), by_pid);
    rc_free(order);
    return RC_OK;
}

/* images[k]: how many images of the identity camera k has; 0 where it was not seen. Present
 * with probability 0.73, at least in two cameras: then those with the smallest hashes. */
static void
count_images(const rc_synth_options *o, int64_t pid, int images[64])
{
    uint64_t hash[64];
    int present = 0, first = 0, second = 1;
    for (int k = 0; k < o->cameras; k++) {
        uint64_t s = rc_random_stream(o->seed, KIND_PRESENCE, (uint64_t)pid, (uint64_t)k, 0);
        hash[k] = rc_random_step(s, 0);
        images[k] = 2 + rc_synth_below(s, 1, 5);
        present += rc_uniform(hash[k]) < 0.73f;
    }
    for (int k = 1; k < o->cameras; k++) {
        if (hash[k] < hash[first]) {
            second = first;
            first = k;
        } else if (k != first && (second == first || hash[k] < hash[second])) {
            second = k;
        }
    }
    for (int k = 0; k < o->cameras; k++) {
        bool here = present >= 2 ? rc_uniform(hash[k]) < 0.73f : k == first || k == second;
        images[k] = here ? images[k] : 0;
    }
}

/* rows NULL: count only. */
static int64_t
list_identities(const rc_synth *set, rc_synth_split split, int64_t *rows)
{
    const int64_t *ids = split == RC_SYNTH_TRAIN ? set->train_ids : set->test_ids;
    int64_t n = split == RC_SYNTH_TRAIN ? set->options.train : set->options.test, count = 0;
    for (int64_t i = 0; i < n; i++) {
        int images[64];
        count_images(&set->options, ids[i], images);
        for (int k = 0; k < set->options.cameras; k++) {
            int begin = split == RC_SYNTH_GALLERY ? 1 : 0;
            int end = split == RC_SYNTH_QUERY && images[k] > 1 ? 1 : images[k];
            for (int c = begin; c < end; c++) {
                if (rows) {
                    int64_t *row = rows + 3 * count;
                    row[0] = ids[i];
                    row[1] = k;
                    row[2] = c;
                }
                count++;
            }
        }
    }
    return count;
}

static void
list_extras(const rc_synth *set, int64_t *rows)
{
    const rc_synth_options *o = &set->options;
    for (int64_t i = 0; i < set->distractors + set->junk; i++) {
        bool junk = i >= set->distractors;
        int64_t j = junk ? i - set->distractors : i;
        uint64_t a = (uint64_t)(junk ? j + (1 << 20) : j);
        uint64_t s = rc_random_stream(o->seed, KIND_EXTRA, a, 0, 0);
        rows[3 * i] = (junk ? RC_SYNTH_JUNK : RC_SYNTH_DISTRACTOR) + j;
        rows[3 * i + 1] = rc_synth_below(s, 0, (int)o->cameras);
        rows[3 * i + 2] = 0;
    }
}

static rc_status
check_options(const rc_synth_options *o, rc_error *err)
{
    if (o->train < 1 || o->test < 1 || o->train + o->test >= RC_SYNTH_PASSERBY
        || o->train >= RC_SYNTH_PASSERBY || o->test >= RC_SYNTH_PASSERBY) {
        return rc_fail(err, RC_ARGUMENT,
                       "identities: expected at least 1 to train and 1 to test, together below "
                       "%lld, got %lld and %lld", (long long)RC_SYNTH_PASSERBY,
                       (long long)o->train, (long long)o->test);
    }
    if (o->cameras < 2 || o->cameras > 64) {
        return rc_fail(err, RC_ARGUMENT, "cameras: expected 2 to 64, got %lld",
                       (long long)o->cameras);
    }
    if (!(o->level >= 0 && o->level <= 2)) {
        return rc_fail(err, RC_ARGUMENT, "level: expected a number from 0 to 2 (or easy, normal, "
                       "hard), got %g", o->level);
    }
    if (!(o->twins >= 0 && o->twins <= 1)) {
        return rc_fail(err, RC_ARGUMENT, "twins: expected a number from 0 to 1, got %g",
                       o->twins);
    }
    const int64_t sizes[2] = {o->height, o->width};
    for (int i = 0; i < 2; i++) {
        if (sizes[i] < 32 || sizes[i] > 2048 || sizes[i] % 16) {
            return rc_fail(err, RC_ARGUMENT, "%s: expected a multiple of 16 from 32 to 2048, "
                           "got %lld", i ? "width" : "height", (long long)sizes[i]);
        }
    }
    if (o->width * 2 > o->height * 5 || o->height > o->width * 8) {
        return rc_fail(err, RC_ARGUMENT, "height and width: expected people to fit, that is "
                       "0.4 to 8 times as high as wide, got %lld x %lld", (long long)o->height,
                       (long long)o->width);
    }
    return RC_OK;
}

static rc_status
list_set(rc_synth *set, rc_error *err)
{
    RC_TRY(split_identities(set, err));
    for (int split = 0; split < 3; split++) {
        int64_t known = list_identities(set, (rc_synth_split)split, NULL), extras = 0;
        if (split == RC_SYNTH_GALLERY) {
            set->distractors = (17 * known + 50) / 100;
            set->junk = (24 * known + 50) / 100;
            extras = set->distractors + set->junk;
        }
        set->count[split] = known + extras;
        set->rows[split] = rc_alloc(3 * (known + extras) + 1, sizeof(int64_t));
        if (!set->rows[split]) {
            return rc_fail(err, RC_MEMORY, "Synthetic: no memory to list %lld images",
                           (long long)(known + extras));
        }
        list_identities(set, (rc_synth_split)split, set->rows[split]);
        if (extras) {
            list_extras(set, set->rows[split] + 3 * known);
        }
    }
    set->cameras = rc_alloc_zero(set->options.cameras, sizeof *set->cameras);
    if (!set->cameras) {
        return rc_fail(err, RC_MEMORY, "Synthetic: no memory for the cameras");
    }
    for (int k = 0; k < set->options.cameras; k++) {
        rc_synth_camera_draw(set->options.seed, k, set->options.level, set->options.occluded,
                             &set->cameras[k]);
    }
    return RC_OK;
}

rc_status
rc_synth_new(const rc_synth_options *options, rc_synth **out, rc_error *err)
{
    *out = NULL;
    RC_TRY(check_options(options, err));
    rc_synth *set = rc_alloc_zero(1, sizeof *set);
    if (!set) {
        return rc_fail(err, RC_MEMORY, "Synthetic: no memory");
    }
    set->options = *options;
    if (pthread_mutex_init(&set->lock, NULL)) {
        rc_free(set);
        return rc_fail(err, RC_MEMORY, "Synthetic: no lock");
    }
    rc_status status = list_set(set, err);
    if (status != RC_OK) {
        rc_synth_free(set);
        return status;
    }
    *out = set;
    return RC_OK;
}

void
rc_synth_free(rc_synth *set)
{
    if (!set) {
        return;
    }
    for (int k = 0; set->cameras && k < set->options.cameras; k++) {
        rc_free(set->cameras[k].plates);
    }
    for (int split = 0; split < 3; split++) {
        rc_free(set->rows[split]);
    }
    rc_free(set->cameras);
    rc_free(set->train_ids);
    rc_free(set->test_ids);
    pthread_mutex_destroy(&set->lock);
    rc_free(set);
}

const rc_synth_options *
rc_synth_options_get(const rc_synth *set)
{
    return &set->options;
}

bool
rc_synth_is_test(const rc_synth *set, int64_t pid)
{
    return bsearch(&pid, set->test_ids, (size_t)set->options.test, sizeof pid, by_pid) != NULL;
}

int64_t
rc_synth_count(const rc_synth *set, rc_synth_split split)
{
    return set->count[split];
}

void
rc_synth_list(const rc_synth *set, rc_synth_split split, int64_t *rows, int64_t *pids,
              int64_t *camids)
{
    for (int64_t i = 0; i < set->count[split]; i++) {
        const int64_t *row = set->rows[split] + 3 * i;
        for (int k = 0; k < 3; k++) {
            rows[3 * i + k] = row[k];
        }
        pids[i] = row[0] >= RC_SYNTH_JUNK ? -1 : row[0] >= RC_SYNTH_DISTRACTOR ? 0 : row[0];
        camids[i] = row[1];
    }
}
