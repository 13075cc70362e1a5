/* Which images make up the batches of an epoch (spec/common.md 5): P identities with K images
 * each, in three ways. Draw number d of an epoch is h(seed, RC_RANDOM_SAMPLER, epoch, d, 0, 0);
 * draws are counted in the order in which the functions below ask for them, identities in
 * ascending order of their labels, images in ascending order of their index. */
#include "data/data_impl.h"

#include <string.h>

#include "base/random.h"

#define MAX_IMAGES (1 << 24) /* what rc_below can choose among */

typedef struct draws {
    uint64_t seed, epoch, next;
} draws;

static int64_t
draw(draws *d, int64_t n)
{
    return rc_below(rc_random(d->seed, RC_RANDOM_SAMPLER, d->epoch, d->next++, 0, 0), n);
}

/* The first `count` of `items` become a uniform ordered choice without replacement. */
static void
choose(draws *d, int64_t *items, int64_t n, int64_t count)
{
    for (int64_t i = 0; i < count && i < n; i++) {
        int64_t j = i + draw(d, n - i), kept = items[i];
        items[i] = items[j];
        items[j] = kept;
    }
}

/* count of the n items to `out`: without replacement if there are `enough`, else with. */
static void
choose_or_repeat(draws *d, int64_t *items, int64_t n, int64_t count, bool enough, int64_t *out)
{
    if (enough) {
        choose(d, items, n, count);
        memcpy(out, items, (size_t)count * sizeof *out);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        out[i] = items[draw(d, n)];
    }
}

/* ---- images by identity ------------------------------------------------------------------ */

typedef struct by_identity { /* owned */
    int64_t *start; /* (classes + 1) */
    int64_t *items; /* (n): indices of class c at start[c] .. start[c + 1] - 1, ascending */
    int64_t *alive; /* (classes): those with an image, ascending */
    int64_t *extra; /* (n + images): room to choose in */
    int64_t count;  /* of alive */
} by_identity;

static void
by_identity_fini(by_identity *b)
{
    rc_free(b->start);
    rc_free(b->items);
    rc_free(b->alive);
    rc_free(b->extra);
}

static bool
by_identity_init(by_identity *b, const rc_sampler *s)
{
    b->start = rc_alloc_zero(s->classes + 1, sizeof *b->start);
    b->items = rc_alloc(s->n, sizeof *b->items);
    b->alive = rc_alloc(s->classes, sizeof *b->alive);
    b->extra = rc_alloc(s->n + s->images, sizeof *b->extra);
    if (!b->start || !b->items || !b->alive || !b->extra) {
        by_identity_fini(b);
        return false;
    }
    for (int64_t i = 0; i < s->n; i++) {
        b->start[s->labels[i] + 1]++;
    }
    b->count = 0;
    for (int64_t c = 0; c < s->classes; c++) {
        if (b->start[c + 1]) {
            b->alive[b->count++] = c;
        }
        b->start[c + 1] += b->start[c];
    }
    for (int64_t i = 0; i < s->n; i++) {
        b->items[b->start[s->labels[i]]++] = i;
    }
    memmove(b->start + 1, b->start, (size_t)s->classes * sizeof *b->start);
    b->start[0] = 0;
    return true;
}

/* ---- the three ways ---------------------------------------------------------------------- */

/* Groups of K of every identity's shuffled images; batches of P identities drawn among those
 * with a group left, while there are P. */
static rc_status
sample_pk(const rc_sampler *s, by_identity *b, draws *d, int64_t *order, int64_t *count,
          rc_error *err)
{
    int64_t p = s->identities, k = s->images, size = 0;
    for (int64_t i = 0; i < b->count; i++) {
        int64_t m = b->start[b->alive[i] + 1] - b->start[b->alive[i]];
        size += m < k ? k : m;
    }
    int64_t *pool = rc_alloc(size, sizeof *pool);             /* shuffled images, by identity */
    int64_t *next = rc_alloc(s->classes, sizeof *next);       /* place of the next group */
    int64_t *groups = rc_alloc(s->classes, sizeof *groups);   /* left */
    rc_status status = RC_OK;
    if (!pool || !next || !groups) {
        status = rc_fail(err, RC_MEMORY, "no memory for the sampler of %lld images",
                         (long long)s->n);
        goto done;
    }
    for (int64_t i = 0, at = 0; i < b->count; i++) {
        int64_t c = b->alive[i], m = b->start[c + 1] - b->start[c];
        int64_t *items = b->items + b->start[c];
        next[c] = at;
        if (m < k) {
            choose_or_repeat(d, items, m, k, false, pool + at);
            m = k;
        } else {
            memcpy(pool + at, items, (size_t)m * sizeof *pool);
        }
        choose(d, pool + at, m, m);
        groups[c] = m / k;
        at += m;
    }
    *count = 0;
    while (b->count >= p) {
        choose(d, b->alive, b->count, p);
        for (int64_t i = 0; i < p; i++) {
            int64_t c = b->alive[i];
            memcpy(order + *count, pool + next[c], (size_t)k * sizeof *order);
            *count += k;
            next[c] += k;
            groups[c]--;
        }
        int64_t kept = 0;
        for (int64_t i = 0; i < b->count; i++) {
            if (groups[b->alive[i]]) {
                b->alive[kept++] = b->alive[i];
            }
        }
        b->count = kept;
    }
done:
    rc_free(pool);
    rc_free(next);
    rc_free(groups);
    return status;
}

/* Every identity once in random order, K of its images. */
static void
sample_once(const rc_sampler *s, by_identity *b, draws *d, int64_t *order, int64_t *count)
{
    int64_t p = s->identities, k = s->images;
    choose(d, b->alive, b->count, b->count);
    for (int64_t i = 0; i < b->count; i++) {
        int64_t c = b->alive[i], m = b->start[c + 1] - b->start[c];
        choose_or_repeat(d, b->items + b->start[c], m, k, m >= k, order + i * k);
    }
    int64_t kept = b->count % p == 1 && p > 1 ? b->count - 1 : b->count;
    *count = kept * k;
}

/* Every identity once in random order; an image and K-1 of other cameras where there are any.
 * "Enough" to go without replacement is K of them, as in fast-reid, though K-1 would do. */
static void
sample_balanced(const rc_sampler *s, by_identity *b, draws *d, int64_t *order, int64_t *count)
{
    int64_t p = s->identities, k = s->images;
    choose(d, b->alive, b->count, b->count);
    for (int64_t i = 0; i < b->count; i++) {
        int64_t c = b->alive[i], m = b->start[c + 1] - b->start[c], others = 0;
        const int64_t *items = b->items + b->start[c];
        int64_t first = items[draw(d, m)], *out = order + i * k;
        for (int64_t j = 0; j < m; j++) {
            if (s->cameras[items[j]] != s->cameras[first]) {
                b->extra[others++] = items[j];
            }
        }
        if (!others) {
            for (int64_t j = 0; j < m; j++) {
                if (items[j] != first) {
                    b->extra[others++] = items[j];
                }
            }
        }
        if (!others) {
            b->extra[others++] = first;
        }
        out[0] = first;
        choose_or_repeat(d, b->extra, others, k - 1, others >= k, out + 1);
    }
    *count = b->count / p * p * k;
}

rc_status
rc_sampler_epoch(const rc_sampler *s, uint64_t seed, int64_t epoch, int64_t **order,
                 int64_t *count, rc_error *err)
{
    *order = NULL;
    *count = 0;
    if (s->identities < 1 || s->images < 1 || s->identities > MAX_IMAGES
        || s->images > MAX_IMAGES / s->identities) {
        return rc_fail(err, RC_ARGUMENT, "identities, images: expected positive numbers, got "
                       "%lld and %lld", (long long)s->identities, (long long)s->images);
    }
    if (s->n < 1 || s->n >= MAX_IMAGES) {
        return rc_fail(err, RC_ARGUMENT, "a training split of 1 to %d images is needed, got %lld",
                       MAX_IMAGES - 1, (long long)s->n);
    }
    if (s->classes < 1 || s->classes > MAX_IMAGES) {
        return rc_fail(err, RC_ARGUMENT, "classes: expected 1 to %d, got %lld", MAX_IMAGES,
                       (long long)s->classes);
    }
    for (int64_t i = 0; i < s->n; i++) {
        if (s->labels[i] < 0 || s->labels[i] >= s->classes) {
            return rc_fail(err, RC_ARGUMENT, "labels: expected 0 to %lld, got %lld at %lld",
                           (long long)s->classes - 1, (long long)s->labels[i], (long long)i);
        }
    }
    if (s->kind == RC_SAMPLER_BALANCED && !s->cameras) {
        return rc_fail(err, RC_ARGUMENT, "balanced=True needs cameras, and the split has none");
    }
    by_identity b = {0};
    if (!by_identity_init(&b, s)) {
        return rc_fail(err, RC_MEMORY, "no memory for the sampler of %lld images",
                       (long long)s->n);
    }
    rc_status status = RC_OK;
    int64_t most = s->n + b.count * s->images; /* PK uses each image once, or K of few */
    int64_t needed = s->kind == RC_SAMPLER_ONCE ? (s->identities > 1 ? 2 : 1) : s->identities;
    if (b.count < needed) {
        status = rc_fail(err, RC_ARGUMENT, "identities: expected at most %lld, the split's, got "
                         "%lld", (long long)b.count, (long long)s->identities);
    }
    if (status == RC_OK) {
        *order = rc_alloc(most, sizeof **order);
        status = *order ? RC_OK : rc_fail(err, RC_MEMORY, "no memory for the sampler");
    }
    draws d = {seed, (uint64_t)epoch, 0};
    if (status == RC_OK) {
        if (s->kind == RC_SAMPLER_PK) {
            status = sample_pk(s, &b, &d, *order, count, err);
        } else if (s->kind == RC_SAMPLER_ONCE) {
            sample_once(s, &b, &d, *order, count);
        } else {
            sample_balanced(s, &b, &d, *order, count);
        }
    }
    if (status != RC_OK) {
        rc_free(*order);
        *order = NULL;
    }
    by_identity_fini(&b);
    return status;
}

void
rc_split_permutation(int64_t n, uint64_t seed, int64_t *out)
{
    for (int64_t i = 0; i < n; i++) {
        out[i] = i;
    }
    for (int64_t i = 0; i + 1 < n; i++) {
        int64_t j = i + rc_below(rc_random(seed, RC_RANDOM_SPLIT, 0, (uint64_t)i, 0, 0), n - i);
        int64_t kept = out[i];
        out[i] = out[j];
        out[j] = kept;
    }
}
