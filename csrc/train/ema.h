/* An exponential moving average of a model's weights and running statistics, kept beside it:
 * average <- average + (1 - decay) (weights - average), PyTorch's formula, from the weights that the
 * model had when the average was made. Every element is its own: threads do not matter. */
#ifndef RC_EMA_H
#define RC_EMA_H

#include "plan/model.h"

/* The model must outlive it. decay in [0, 1). */
rc_status rc_ema_new(rc_model *m, double decay, rc_ema **out, rc_error *err);
void rc_ema_free(rc_ema *e);

/* The functions below take no lock (callers hold it: rc_model_train_step does). */

/* One update. RC_ARGUMENT while applied. */
rc_status rc_ema_update(rc_ema *e, rc_error *err);
/* Exchange the average and the model's weights: `apply` puts the average into the model, and its
 * weights here; another one brings them back. */
void rc_ema_swap(rc_ema *e); /* after rc_model_fetch */
bool rc_ema_is_applied(const rc_ema *e);
rc_status rc_ema_check(const rc_ema *e, const rc_model *m, rc_error *err); /* fit for an update */

rc_model *rc_ema_model(const rc_ema *e);
double rc_ema_get_decay(const rc_ema *e);
rc_status rc_ema_set_decay(rc_ema *e, double decay, rc_error *err);
int64_t rc_ema_get_updates(const rc_ema *e);
void rc_ema_set_updates(rc_ema *e, int64_t updates);
/* Both are read after rc_model_fetch; once the average is written, set updates. */
void *rc_ema_average(rc_ema *e, int state); /* of a state entry, wherever it is now: real */
void *rc_ema_weights(rc_ema *e, int state); /* the model's own, wherever they are now: real */

#endif
