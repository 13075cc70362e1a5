/* Systems: a table of switches and a description each. registry.c lists them. */
#ifndef RC_NETS_H
#define RC_NETS_H

#include "nets/build.h"
#include "nets/resnet.h"
#include "plan/model.h"

typedef enum rc_switch_kind {
    RC_SWITCH_BOOL,   /* int64_t */
    RC_SWITCH_INT,    /* int64_t, low..high */
    RC_SWITCH_REAL,   /* double, low..high */
    RC_SWITCH_CHOICE, /* int64_t: place in `choices`, "a|b|c"; None is "none" */
    RC_SWITCH_REAL_OR_NONE, /* double; NaN for None */
    RC_SWITCH_LETTERS, /* char[8]: up to 7 letters of `choices`, each at most once */
    RC_SWITCH_SUBSET,  /* int64_t: integers low..high (at most 62), bit i for i; not empty */
    RC_SWITCH_SUBSET_OR_EMPTY, /* the same, () allowed */
    RC_SWITCH_RATIOS,  /* double[2], low..high each; NaN for None */
} rc_switch_kind;

typedef struct rc_switch {
    const char *name;
    rc_switch_kind kind;
    size_t offset; /* in the system's config struct; its type there is said above */
    double low, high;
    const char *choices;
} rc_switch;

/* What every system is told beside its own switches. */
typedef struct rc_net {
    int64_t classes, height, width;
    rc_backbone backbone;
} rc_net;

typedef struct rc_system {
    const char *name;
    int64_t height, width; /* defaults */
    const char *backbone;
    bool test_flip, normalized;
    bool sgd; /* the page trains by SGD with momentum; else Adam */
    const rc_switch *switches;
    int n_switches;
    const void *defaults; /* the config struct with the page's values */
    size_t config_size;
    /* Checks sizes and combinations (rc_graph_fail), describes the network, its outputs and
     * losses. */
    void (*build)(rc_graph *g, const rc_net *net, const void *config);
} rc_system;

extern const rc_system rc_system_baseline;
extern const rc_system rc_system_fsac;
extern const rc_system rc_system_hamr;
extern const rc_system rc_system_mbgn;
extern const rc_system rc_system_mfa;
extern const rc_system rc_system_mgaf;

/* Look a system up; its graph from settings. *used: settings that are not the network's
 * (seed, threads, precision) are left to the caller. */
const rc_system *rc_system_find(const char *name);
rc_status rc_system_build(const rc_system *system, const rc_setting *settings, int n,
                          rc_graph *g, rc_net *net, rc_error *err);

/* The name in `names` (NULL at the end) that is most like `word`, for "did you mean". */
const char *rc_nearest_name(const char *word, const char *const *names);

#endif
