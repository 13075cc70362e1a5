/* The systems by name, and their switches read from settings: unknown names are refused with
 * the nearest known one, values with what would fit, before anything is built. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "nets/nets.h"

static const rc_system *const systems[] = {
    &rc_system_baseline,
    &rc_system_mbgn,
    &rc_system_hamr,
    &rc_system_mgaf,
    &rc_system_fsac,
    &rc_system_mfa,
};
#define N_SYSTEMS ((int)(sizeof systems / sizeof systems[0]))

/* Settings that every system has; the last four concern the model, not its graph. */
static const char *const common_names[] = {
    "num_classes", "height", "width", "backbone", "width_multiplier", "zero_init_residual",
    "seed",        "threads", "precision", "memory",
};
#define N_COMMON ((int)(sizeof common_names / sizeof common_names[0]))

int
rc_system_count(void)
{
    return N_SYSTEMS;
}

const char *
rc_system_name(int i)
{
    return i >= 0 && i < N_SYSTEMS ? systems[i]->name : NULL;
}

const rc_system *
rc_system_find(const char *name)
{
    for (int i = 0; i < N_SYSTEMS; i++) {
        if (!strcmp(systems[i]->name, name)) {
            return systems[i];
        }
    }
    return NULL;
}

static int
letters(const char *word)
{
    size_t length = strlen(word);
    return length > 31 ? 31 : (int)length;
}

/* Edit distance, words cut at 31 letters. */
static int
distance(const char *a, const char *b)
{
    int row[33], n = letters(b), m = letters(a);
    for (int j = 0; j <= n; j++) {
        row[j] = j;
    }
    for (int i = 1; i <= m; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int above = row[j];
            int best = diagonal + (a[i - 1] != b[j - 1]);
            best = above + 1 < best ? above + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            row[j] = best;
            diagonal = above;
        }
    }
    return row[n];
}

const char *
rc_nearest_name(const char *word, const char *const *names)
{
    const char *best = NULL;
    int least = 1000;
    for (; *names; names++) {
        int d = distance(word, *names);
        if (d < least) {
            least = d;
            best = *names;
        }
    }
    return best;
}

static rc_status
unknown(const rc_system *system, const char *name, rc_error *err)
{
    const char *names[64];
    int count = 0;
    for (int i = 0; i < N_COMMON; i++) {
        names[count++] = common_names[i];
    }
    for (int i = 0; i < system->n_switches && count < 62; i++) {
        names[count++] = system->switches[i].name;
    }
    names[count] = NULL;
    return rc_fail(err, RC_TYPE, "%s: unknown keyword '%.60s'; did you mean '%s'?", system->name,
                   name, rc_nearest_name(name, names));
}

static rc_status
integer(const rc_setting *s, double low, double high, int64_t *out, rc_error *err)
{
    char text[64];
    if (s->kind != RC_SETTING_INT) {
        return rc_fail(err, s->kind == RC_SETTING_BOOL || s->kind == RC_SETTING_NONE
                                    || s->kind == RC_SETTING_LIST || s->kind == RC_SETTING_TEXT
                                ? RC_TYPE : RC_ARGUMENT,
                       "%s: expected an integer, got %s", s->name, rc_setting_text(s, text));
    }
    if ((double)s->i < low || (double)s->i > high) {
        return rc_fail(err, RC_ARGUMENT, "%s: expected %.0f to %.0f, got %lld", s->name, low, high,
                       (long long)s->i);
    }
    *out = s->i;
    return RC_OK;
}

static rc_status
boolean(const rc_setting *s, int64_t *out, rc_error *err)
{
    char text[64];
    if (s->kind != RC_SETTING_BOOL) {
        return rc_fail(err, RC_ARGUMENT, "%s: expected True or False, got %s", s->name,
                       rc_setting_text(s, text));
    }
    *out = s->i;
    return RC_OK;
}

static rc_status
number(const rc_setting *s, double low, double high, double *out, rc_error *err)
{
    char text[64];
    double value = s->kind == RC_SETTING_INT || s->kind == RC_SETTING_BOOL ? (double)s->i : s->r;
    if (s->kind != RC_SETTING_INT && s->kind != RC_SETTING_REAL && s->kind != RC_SETTING_BOOL) {
        return rc_fail(err, RC_TYPE, "%s: expected a number, got %s", s->name,
                       rc_setting_text(s, text));
    }
    if (!(value >= low && value <= high)) {
        return rc_fail(err, RC_ARGUMENT, "%s: expected %g to %g, got %g", s->name, low, high,
                       value);
    }
    *out = value;
    return RC_OK;
}

static rc_status
choice(const rc_setting *s, const char *choices, int64_t *out, rc_error *err)
{
    char text[64];
    const char *wanted = s->kind == RC_SETTING_NONE ? "none" : s->s;
    if (s->kind == RC_SETTING_TEXT || s->kind == RC_SETTING_NONE) {
        size_t length = strlen(wanted);
        int64_t place = 0;
        for (const char *at = choices; at; place++) {
            const char *bar = strchr(at, '|');
            size_t this = bar ? (size_t)(bar - at) : strlen(at);
            if (this == length && !strncmp(at, wanted, length)) {
                *out = place;
                return RC_OK;
            }
            at = bar ? bar + 1 : NULL;
        }
    }
    return rc_fail(err, RC_ARGUMENT, "%s: expected one of %s, got %s", s->name, choices,
                   rc_setting_text(s, text));
}

static rc_status
letters_of(const rc_setting *s, const char *choices, char out[8], rc_error *err)
{
    char text[64];
    if (s->kind != RC_SETTING_TEXT) {
        return rc_fail(err, RC_TYPE, "%s: expected text, got %s", s->name, rc_setting_text(s, text));
    }
    size_t length = strlen(s->s);
    bool fits = length < 8;
    for (size_t i = 0; fits && i < length; i++) {
        fits = strchr(choices, s->s[i]) && !strchr(s->s + i + 1, s->s[i]);
    }
    if (!fits) {
        return rc_fail(err, RC_ARGUMENT, "%s: expected letters of '%s', each at most once, got %s",
                       s->name, choices, rc_setting_text(s, text));
    }
    memset(out, 0, 8);
    memcpy(out, s->s, length);
    return RC_OK;
}

static rc_status
subset(const rc_switch *w, const rc_setting *s, int64_t *out, rc_error *err)
{
    char text[64];
    int64_t found = 0;
    if (s->kind != RC_SETTING_LIST) {
        return rc_fail(err, RC_TYPE, "%s: expected a tuple of integers, got %s", s->name,
                       rc_setting_text(s, text));
    }
    for (int i = 0; i < s->count; i++) {
        bool fits = s->r_list[i] >= w->low && s->r_list[i] <= w->high
                    && (double)s->list[i] == s->r_list[i];
        if (!fits || found >> s->list[i] & 1) {
            return rc_fail(err, RC_ARGUMENT,
                           "%s: expected different integers from %.0f to %.0f, got %g%s", s->name,
                           w->low, w->high, s->r_list[i], fits ? " twice" : "");
        }
        found |= INT64_C(1) << s->list[i];
    }
    if (!found && w->kind == RC_SWITCH_SUBSET) {
        return rc_fail(err, RC_ARGUMENT, "%s: expected at least one integer from %.0f to %.0f, got "
                       "an empty tuple", s->name, w->low, w->high);
    }
    *out = found;
    return RC_OK;
}

static rc_status
ratios(const rc_switch *w, const rc_setting *s, double out[2], rc_error *err)
{
    char text[64];
    if (s->kind == RC_SETTING_NONE) {
        out[0] = out[1] = (double)NAN;
        return RC_OK;
    }
    if (s->kind != RC_SETTING_LIST) {
        return rc_fail(err, RC_TYPE, "%s: expected None or a tuple of two numbers, got %s", s->name,
                       rc_setting_text(s, text));
    }
    if (s->count != 2) {
        return rc_fail(err, RC_ARGUMENT, "%s: expected two numbers, got %d", s->name, s->count);
    }
    for (int i = 0; i < 2; i++) {
        if (!(s->r_list[i] >= w->low && s->r_list[i] <= w->high)) {
            return rc_fail(err, RC_ARGUMENT, "%s: expected %g to %g, got %g", s->name, w->low,
                           w->high, s->r_list[i]);
        }
        out[i] = s->r_list[i];
    }
    return RC_OK;
}

static rc_status
read_switch(const rc_switch *w, const rc_setting *s, char *config, rc_error *err)
{
    int64_t *i = (int64_t *)(void *)(config + w->offset);
    double *r = (double *)(void *)(config + w->offset);
    switch (w->kind) {
    case RC_SWITCH_BOOL:
        return boolean(s, i, err);
    case RC_SWITCH_INT:
        return integer(s, w->low, w->high, i, err);
    case RC_SWITCH_CHOICE:
        return choice(s, w->choices, i, err);
    case RC_SWITCH_REAL_OR_NONE:
        if (s->kind == RC_SETTING_NONE) {
            *r = (double)NAN;
            return RC_OK;
        }
        return number(s, w->low, w->high, r, err);
    case RC_SWITCH_LETTERS:
        return letters_of(s, w->choices, config + w->offset, err);
    case RC_SWITCH_SUBSET:
    case RC_SWITCH_SUBSET_OR_EMPTY:
        return subset(w, s, i, err);
    case RC_SWITCH_RATIOS:
        return ratios(w, s, r, err);
    default:
        return number(s, w->low, w->high, r, err);
    }
}

/* What of the backbone is said in settings that every system has. */
typedef struct backbone_settings {
    const char *name;
    double multiplier;
    int64_t zero_init;
} backbone_settings;

static rc_status
read_common(const rc_setting *s, rc_net *net, backbone_settings *backbone, rc_error *err)
{
    char text[64];
    if (!strcmp(s->name, "num_classes")) {
        return integer(s, 1, 1e12, &net->classes, err);
    }
    if (!strcmp(s->name, "height")) {
        return integer(s, 1, 4096, &net->height, err);
    }
    if (!strcmp(s->name, "width")) {
        return integer(s, 1, 4096, &net->width, err);
    }
    if (!strcmp(s->name, "width_multiplier")) {
        return number(s, 0, 8, &backbone->multiplier, err);
    }
    if (!strcmp(s->name, "zero_init_residual")) {
        return boolean(s, &backbone->zero_init, err);
    }
    if (!strcmp(s->name, "backbone")) {
        if (s->kind != RC_SETTING_TEXT) {
            return rc_fail(err, RC_TYPE, "backbone: expected a name, got %s",
                           rc_setting_text(s, text));
        }
        backbone->name = s->s;
    }
    return RC_OK;
}

rc_status
rc_system_build(const rc_system *system, const rc_setting *settings, int n, rc_graph *g,
                rc_net *net, rc_error *err)
{
    int64_t storage[64]; /* the config struct: fields of eight bytes */
    char *config = (char *)storage;
    backbone_settings backbone = {.name = system->backbone, .multiplier = 1};
    if (system->config_size > sizeof storage) {
        return rc_fail(err, RC_INTERNAL, "%s: settings too large", system->name);
    }
    memcpy(config, system->defaults, system->config_size);
    *net = (rc_net){.height = system->height, .width = system->width};
    for (int k = 0; k < n; k++) {
        const rc_switch *found = NULL;
        bool common = false;
        for (int i = 0; i < system->n_switches; i++) {
            if (!strcmp(system->switches[i].name, settings[k].name)) {
                found = &system->switches[i];
            }
        }
        for (int i = 0; i < N_COMMON; i++) {
            common |= !strcmp(common_names[i], settings[k].name);
        }
        if (found) {
            RC_TRY(read_switch(found, &settings[k], config, err));
        } else if (common) {
            RC_TRY(read_common(&settings[k], net, &backbone, err));
        } else {
            return unknown(system, settings[k].name, err);
        }
    }
    if (!net->classes) {
        return rc_fail(err, RC_TYPE, "num_classes: missing");
    }
    RC_TRY(rc_backbone_find(backbone.name, backbone.multiplier, &net->backbone, err));
    net->backbone.zero_init = backbone.zero_init;
    system->build(g, net, config);
    rc_graph_order_states(g, "backbone.");
    if (g->status != RC_OK && err) {
        *err = g->error;
    }
    return g->status;
}
