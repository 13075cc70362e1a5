/* Optimisers: SGD, Adam, AdamW with PyTorch's equations (spec/common.md 2), state per trained
 * parameter. Parameters whose name begins with "center" have their own plain SGD, rate 0.5, on
 * the gradient of the unweighted centre loss, whatever the optimiser (spec/common.md 1). */
#ifndef RC_OPTIM_H
#define RC_OPTIM_H

#include "plan/model.h"

typedef enum rc_optimizer_kind { RC_OPT_SGD, RC_OPT_ADAM, RC_OPT_ADAMW } rc_optimizer_kind;

typedef struct rc_optimizer_config {
    rc_optimizer_kind kind;
    double lr, weight_decay;
    double beta1, beta2, eps;      /* Adam, AdamW */
    double momentum, dampening;    /* SGD */
    bool nesterov;
    double clip_norm;              /* 0: none. Before a step gradients are multiplied with
                                      min(1, clip_norm / (norm + 1e-6)), as PyTorch has it; norm:
                                      the Euclidean one of all that is trained, centres apart */
} rc_optimizer_config;

/* A group: parameters whose name matches `pattern` (fnmatch: "backbone.*"); the first match
 * counts; those without one have the optimiser's own rate and decay. */
typedef struct rc_optimizer_group {
    char pattern[RC_NAME];
    double lr_factor;    /* times the optimiser's rate */
    double weight_decay; /* instead of the optimiser's; negative: the optimiser's */
} rc_optimizer_group;

/* The model must outlive the optimiser. State starts at zero, allocated here. */
rc_status rc_optimizer_new(rc_model *m, const rc_optimizer_config *config,
                           const rc_optimizer_group *groups, int n_groups, rc_optimizer **out,
                           rc_error *err);
void rc_optimizer_free(rc_optimizer *o);

rc_model *rc_optimizer_model(const rc_optimizer *o);
rc_optimizer_config *rc_optimizer_settings(rc_optimizer *o); /* lr and the like may be changed */

/* One update from the model's gradients; takes no lock (callers hold it: rc_model_train_step
 * does, bindings call rc_model_lock). Without gradients: RC_ARGUMENT. */
rc_status rc_optimizer_step(rc_optimizer *o, rc_error *err);

/* Its parts, for a plan that updates one weight after the other and does not clip: what may fail;
 * the beginning, when gradients have their places; one entry. */
rc_status rc_optimizer_check(const rc_optimizer *o, rc_error *err);
bool rc_optimizer_clips(const rc_optimizer *o);
void rc_optimizer_begin(rc_optimizer *o);
void rc_optimizer_update(rc_optimizer *o, int state);

/* Checkpoints: t, and for state entry i its arrays (0 momentum or m, 1 v), NULL where none. Read
 * after rc_model_fetch; once they are written, set t. */
int64_t rc_optimizer_get_t(const rc_optimizer *o);
void rc_optimizer_set_t(rc_optimizer *o, int64_t t);
/* Steps that passed over state entry i because it was frozen: t less these is its own count. */
int64_t rc_optimizer_get_skipped(const rc_optimizer *o, int state);
void rc_optimizer_set_skipped(rc_optimizer *o, int state, int64_t skipped);
/* As newly made: no momentum (no m, no v), no step taken. */
void rc_optimizer_reset(rc_optimizer *o);
/* Of the last step that clipped; NaN: none did. Waits for a device. */
double rc_optimizer_norm(rc_optimizer *o);
int rc_optimizer_slots(const rc_optimizer *o); /* 0, 1 or 2 */
void *rc_optimizer_slot(rc_optimizer *o, int state, int slot);

#endif
