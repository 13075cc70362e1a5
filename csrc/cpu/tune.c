/* The tuning table: read from text, looked up by the planner. A few hundred entries and a look-up a
 * convolution of a new plan, so they are simply gone through one by one. */
#include "cpu/tune.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define FORMAT "reidc-tune 1"
#define RULE "a rule (unmeasured on this CPU)"
#define LINE 256

typedef struct entry {
    const rc_conv_kernel *kernel;
    rc_conv_shape shape;
} entry;

static struct {
    pthread_mutex_t lock; /* a table may be set while another thread plans */
    entry *entries;
    int64_t n;
    char source[RC_TUNE_SOURCE];
} table = {PTHREAD_MUTEX_INITIALIZER, NULL, 0, RULE}; /* lint: mutable static, under its lock */

/* ---- the choice ------------------------------------------------------------------------- */

static bool
same_layer(const rc_conv_shape *a, const rc_conv_shape *b)
{
    return a->h == b->h && a->w == b->w && a->c == b->c && a->k == b->k && a->kh == b->kh
           && a->kw == b->kw && a->stride == b->stride && a->pad == b->pad
           && a->groups == b->groups;
}

/* How many times as large the one is as the other. */
static double
apart(int64_t a, int64_t b)
{
    return a < b ? (double)b / (double)a : (double)a / (double)b;
}

static bool
is_in(const rc_conv_kernel *const *list, const rc_conv_kernel *kernel)
{
    for (; *list; list++) {
        if (*list == kernel) {
            return true;
        }
    }
    return false;
}

static const rc_conv_kernel *
measured(const rc_conv_kernel *const *list, const rc_conv_shape *s)
{
    const entry *best = NULL;
    pthread_mutex_lock(&table.lock);
    for (int64_t i = 0; i < table.n && s->n > 0; i++) {
        const entry *e = &table.entries[i];
        if (same_layer(&e->shape, s) && is_in(list, e->kernel)
            && (!best || apart(e->shape.n, s->n) < apart(best->shape.n, s->n))) {
            best = e;
        }
    }
    const rc_conv_kernel *found = best && !best->kernel->refuse(s) ? best->kernel : NULL;
    pthread_mutex_unlock(&table.lock);
    return found;
}

const rc_conv_kernel *
rc_conv_choose(const rc_conv_kernel *const *list, const rc_conv_shape *s)
{
    const rc_conv_kernel *found = list ? measured(list, s) : NULL;
    for (; list && *list && !found; list++) {
        bool avoided = (*list)->avoid && (*list)->avoid(s);
        found = (*list)->refuse(s) || avoided ? NULL : *list;
    }
    return found;
}

/* ---- the text --------------------------------------------------------------------------- */

typedef struct reader {
    const char *at;
    int64_t line;
    char text[LINE]; /* of the line, without a comment and the spaces before it */
} reader;

/* The next line that is not empty: 1, 0 at the end, -1 if it is too long for any entry. */
static int
next_line(reader *r)
{
    while (*r->at) {
        const char *start = r->at;
        size_t length = strcspn(start, "\n");
        const char *comment = memchr(start, '#', length);
        size_t used = comment ? (size_t)(comment - start) : length;
        r->at += length + (start[length] == '\n');
        r->line++;
        while (used && strchr(" \t\r", start[used - 1])) {
            used--;
        }
        if (used >= sizeof r->text) {
            return -1;
        }
        memcpy(r->text, start, used);
        r->text[used] = 0;
        if (used) {
            return 1;
        }
    }
    return 0;
}

static rc_status
read_head(reader *r, const char *source, const char *version, rc_error *err)
{
    char here[RC_CPU_MODEL];
    rc_cpu_model(here);
    if (next_line(r) != 1 || strcmp(r->text, FORMAT) != 0) {
        return rc_fail(err, RC_ARGUMENT, "%s: expected a tuning table, which begins '" FORMAT "'",
                       source);
    }
    if (next_line(r) != 1 || strncmp(r->text, "version ", 8) != 0) {
        return rc_fail(err, RC_ARGUMENT, "%s: line %lld: expected 'version …'", source,
                       (long long)r->line);
    }
    if (version && strcmp(r->text + 8, version) != 0) {
        return rc_fail(err, RC_ARGUMENT, "%s: measured with reidc %.20s, this is %.20s: "
                       "`reidc bench --tune` measures anew", source, r->text + 8, version);
    }
    if (next_line(r) != 1 || strncmp(r->text, "cpu ", 4) != 0) {
        return rc_fail(err, RC_ARGUMENT, "%s: line %lld: expected 'cpu …'", source,
                       (long long)r->line);
    }
    if (strcmp(r->text + 4, here) != 0) {
        return rc_fail(err, RC_ARGUMENT, "%s: measured on another CPU: expected %s, got %.64s",
                       source, here, r->text + 4);
    }
    return RC_OK;
}

static void
note(rc_tune_result *out, int64_t line, const char *what, const char *reason)
{
    size_t used = strlen(out->notes);
    out->ignored++;
    if (used < sizeof out->notes - 192) { /* room for a whole one */
        snprintf(out->notes + used, sizeof out->notes - used, "%sline %lld: %.90s: %.60s",
                 used ? "; " : "", (long long)line, what, reason);
    }
}

static rc_status
read_entry(const reader *r, const char *source, entry *e, rc_tune_result *out, rc_error *err)
{
    char name[LINE];
    long long v[10];
    int64_t sizes[10];
    int end = -1;
    int found = sscanf(r->text, "%255s %lld %lld %lld %lld %lld %lld %lld %lld %lld %lld%n", name, v,
                       v + 1, v + 2, v + 3, v + 4, v + 5, v + 6, v + 7, v + 8, v + 9, &end);
    for (int i = 0; found == 11 && i < 10; i++) {
        sizes[i] = v[i];
    }
    if (found != 11 || end < 0 || r->text[end] || !rc_conv_shape_make(sizes, &e->shape)
        || e->shape.n < 1) {
        return rc_fail(err, RC_ARGUMENT, "%s: line %lld: expected a kernel and n h w c k kh kw "
                       "stride pad groups, got '%.100s'", source, (long long)r->line, r->text);
    }
    e->kernel = rc_conv_kernel_named(name);
    const char *reason = e->kernel ? e->kernel->refuse(&e->shape) : "no such kernel here";
    if (reason) {
        note(out, r->line, name, reason);
    } else {
        out->taken++;
    }
    return RC_OK;
}

static rc_status
read_entries(reader *r, const char *source, entry *entries, rc_tune_result *out, rc_error *err)
{
    int more;
    while ((more = next_line(r)) > 0) {
        RC_TRY(read_entry(r, source, &entries[out->taken], out, err));
    }
    return more == 0 ? RC_OK
                     : rc_fail(err, RC_ARGUMENT, "%s: line %lld: too long for an entry", source,
                               (long long)r->line);
}

rc_status
rc_tune_set(const char *text, const char *source, const char *version, rc_tune_result *out,
            rc_error *err)
{
    rc_tune_result result = {0};
    entry *entries = NULL, *before;
    if (text) {
        reader r = {.at = text};
        int64_t most = 1;
        for (const char *c = text; *c; c++) {
            most += *c == '\n';
        }
        RC_TRY(read_head(&r, source, version, err));
        entries = rc_alloc(most, sizeof *entries);
        if (!entries) {
            return rc_fail(err, RC_MEMORY, "out of memory for a tuning table");
        }
        rc_status status = read_entries(&r, source, entries, &result, err);
        if (status != RC_OK) {
            rc_free(entries);
            return status;
        }
    }
    pthread_mutex_lock(&table.lock);
    before = table.entries;
    table.entries = entries;
    table.n = result.taken;
    if (text) {
        snprintf(table.source, sizeof table.source, "%.240s, %lld choices", source,
                 (long long)result.taken);
    } else {
        snprintf(table.source, sizeof table.source, "%.240s", source ? source : RULE);
    }
    pthread_mutex_unlock(&table.lock);
    rc_free(before);
    *out = result;
    return RC_OK;
}

void
rc_tune_describe(char out[RC_TUNE_SOURCE])
{
    pthread_mutex_lock(&table.lock);
    memcpy(out, table.source, RC_TUNE_SOURCE);
    pthread_mutex_unlock(&table.lock);
}
