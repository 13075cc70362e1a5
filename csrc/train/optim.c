/* Optimisers over a model's parameters (optim.h): which rule each parameter follows, the state
 * that goes with it, and one update cut into pieces of fixed size for rc_parallel.
 *
 * The centre rule (spec/common.md 1): the model accumulates gradients of `total`, while centres
 * move by the gradient of their unweighted loss: total's, divided by rc_model_info's
 * center_weight. With a weight of 0 nothing arrives, and centres stay where they are. */
#include "train/optim_impl.h"

#include <fnmatch.h>
#include <math.h>
#include <string.h>

#define PIECE ((int64_t)1 << 16)
#define CENTER_RATE 0.5

/* ---- making one ------------------------------------------------------------------------------ */

/* A setting from `least` on; NaN and infinity fit nowhere. */
static rc_status
check_finite(const char *name, double value, double least, const char *words, rc_error *err)
{
    if (!(value >= least) || !isfinite(value)) {
        return rc_fail(err, RC_ARGUMENT, "%s: expected a finite number%s, got %g", name, words, value);
    }
    return RC_OK;
}

static rc_status
check_config(const rc_optimizer_config *c, rc_error *err)
{
    RC_TRY(check_finite("lr", c->lr, 0, " >= 0", err));
    RC_TRY(check_finite("weight_decay", c->weight_decay, 0, " >= 0", err));
    RC_TRY(check_finite("clip_norm", c->clip_norm, 0, " above 0, or None", err));
    if (c->kind == RC_OPT_SGD) {
        RC_TRY(check_finite("momentum", c->momentum, 0, " >= 0", err));
        RC_TRY(check_finite("dampening", c->dampening, -INFINITY, "", err));
        if (c->nesterov && (c->momentum == 0 || c->dampening != 0)) {
            return rc_fail(err, RC_ARGUMENT, "nesterov: needs momentum > 0 and dampening 0, got %g and "
                           "%g", c->momentum, c->dampening);
        }
        return RC_OK;
    }
    if (!(c->beta1 >= 0 && c->beta1 < 1) || !(c->beta2 >= 0 && c->beta2 < 1)) {
        return rc_fail(err, RC_ARGUMENT, "betas: expected two numbers in [0, 1), got %g and %g",
                       c->beta1, c->beta2);
    }
    return check_finite("eps", c->eps, 0, " >= 0", err);
}

static rc_status
assign_groups(rc_optimizer *o, rc_error *err)
{
    for (int k = 0; k < o->n_groups; k++) {
        const rc_optimizer_group *group = &o->groups[k];
        if (!(group->lr_factor >= 0) || !isfinite(group->lr_factor)
            || !isfinite(group->weight_decay)) {
            return rc_fail(err, RC_ARGUMENT,
                           "groups['%s']: expected finite numbers >= 0 for lr_factor and "
                           "weight_decay", group->pattern);
        }
        bool used = false;
        for (int i = 0; i < o->n_states; i++) {
            slot_set *set = &o->sets[i];
            if (set->trained && fnmatch(group->pattern, o->views[i].name, 0) == 0) {
                used = true;
                set->group = set->group < 0 ? k : set->group;
            }
        }
        if (!used) {
            return rc_fail(err, RC_ARGUMENT,
                           "groups: no trained parameter's name matches '%s' (the first name is "
                           "'%s')", group->pattern, o->n_states ? o->views[0].name : "");
        }
    }
    return RC_OK;
}

static rc_status
build(rc_optimizer *o, const rc_optimizer_group *groups, rc_error *err)
{
    o->sets = rc_alloc_zero(o->n_states, sizeof *o->sets);
    o->views = rc_alloc_zero(o->n_states, sizeof *o->views);
    o->rules = rc_alloc_zero(o->n_states, sizeof *o->rules);
    o->groups = rc_alloc_zero(o->n_groups, sizeof *o->groups);
    if (!o->sets || !o->views || !o->rules || !o->groups) {
        return rc_fail(err, RC_MEMORY, "optimizer: out of memory");
    }
    if (o->n_groups) {
        memcpy(o->groups, groups, (size_t)o->n_groups * sizeof *groups);
    }
    int64_t total = 0;
    for (int i = 0; i < o->n_states; i++) {
        slot_set *set = &o->sets[i];
        rc_model_state(o->model, i, &o->views[i]);
        int64_t count = rc_shape_count(&o->views[i].shape);
        *set = (slot_set){.start = -1, .group = -1};
        set->trained = o->views[i].kind == RC_STATE_PARAMETER;
        set->center = set->trained && !strncmp(o->views[i].name, "center", 6);
        if (set->trained) {
            o->n_pieces += (count + PIECE - 1) / PIECE;
        }
        if (set->trained && !set->center && o->slots > 0) {
            set->start = total;
            total += (count + 15) & ~(int64_t)15; /* keeps each entry on a cache line */
        }
    }
    o->n_values = total;
    o->pieces = rc_alloc(o->n_pieces, sizeof *o->pieces);
    size_t size = rc_model_get_info(o->model)->is_double ? sizeof(double) : sizeof(float);
    for (int k = 0; k < o->slots; k++) {
        o->memory[k] = rc_alloc_zero(total, size);
    }
    if (!o->pieces || (o->slots > 0 && !o->memory[0]) || (o->slots > 1 && !o->memory[1])) {
        return rc_fail(err, RC_MEMORY, "optimizer: out of memory for %d state value%s a weight",
                       o->slots, o->slots == 1 ? "" : "s");
    }
    int64_t n = 0;
    for (int i = 0; i < o->n_states; i++) {
        int64_t count = o->sets[i].trained ? rc_shape_count(&o->views[i].shape) : 0;
        o->sets[i].first_piece = n;
        for (int64_t from = 0; from < count; from += PIECE) {
            o->pieces[n++] = (piece){i, from, count - from < PIECE ? count - from : PIECE};
        }
        o->sets[i].n_pieces = n - o->sets[i].first_piece;
    }
    RC_TRY(rc_optimizer_join(o, err));
    return assign_groups(o, err);
}

rc_status
rc_optimizer_new(rc_model *m, const rc_optimizer_config *config,
                 const rc_optimizer_group *groups, int n_groups, rc_optimizer **out,
                 rc_error *err)
{
    *out = NULL;
    RC_TRY(check_config(config, err));
    rc_optimizer *o = rc_alloc_zero(1, sizeof *o);
    if (!o) {
        return rc_fail(err, RC_MEMORY, "optimizer: out of memory");
    }
    o->model = m;
    o->config = *config;
    o->norm = NAN;
    o->n_states = rc_model_state_count(m);
    o->n_groups = n_groups;
    o->slots = config->kind != RC_OPT_SGD ? 2 : config->momentum != 0 ? 1 : 0;
    rc_status status = build(o, groups, err);
    if (status != RC_OK) {
        rc_optimizer_free(o);
        return status;
    }
    *out = o;
    return RC_OK;
}

void
rc_optimizer_free(rc_optimizer *o)
{
    if (!o) {
        return;
    }
    rc_optimizer_leave(o);
    rc_free(o->memory[0]);
    rc_free(o->memory[1]);
    rc_free(o->sets);
    rc_free(o->pieces);
    rc_free(o->groups);
    rc_free(o->rules);
    rc_free(o->views);
    rc_free(o->squares);
    rc_free(o);
}

/* ---- one step -------------------------------------------------------------------------------- */

/* `clip`: what gradients are multiplied with. */
static rc_update
rule_of(const rc_optimizer *o, const slot_set *set, double clip)
{
    const rc_optimizer_config *c = &o->config;
    double t = (double)(o->t - set->skipped);
    if (set->center) {
        double weight = rc_model_get_info(o->model)->center_weight;
        return (rc_update){.kind = RC_UPDATE_SGD, .scale = weight != 0 ? 1 / weight : 0,
                           .shrink = 1, .step = CENTER_RATE};
    }
    const rc_optimizer_group *group = set->group >= 0 ? &o->groups[set->group] : NULL;
    double rate = c->lr * (group ? group->lr_factor : 1);
    double decay = group && group->weight_decay >= 0 ? group->weight_decay : c->weight_decay;
    rc_update u = {.scale = clip, .shrink = 1, .decay = decay};
    if (c->kind == RC_OPT_SGD) {
        u.kind = RC_UPDATE_SGD;
        u.step = rate;
        u.momentum = c->momentum;
        u.keep = 1 - c->dampening;
        u.nesterov = c->nesterov;
        u.first = t == 1;
        return u;
    }
    u.kind = RC_UPDATE_ADAM;
    u.beta1 = c->beta1;
    u.beta2 = c->beta2;
    u.eps = c->eps;
    u.step = rate / (1 - pow(c->beta1, t));
    u.root2 = sqrt(1 - pow(c->beta2, t));
    if (c->kind == RC_OPT_ADAMW) {
        u.shrink = 1 - rate * decay;
        u.decay = 0;
    }
    return u;
}

typedef struct work {
    const rc_optimizer *o;
    int64_t first; /* piece */
} work;

static void
update_piece(void *context, int64_t i, int worker)
{
    (void)worker;
    const work *w = context;
    const rc_optimizer *o = w->o;
    const piece *p = &o->pieces[w->first + i];
    const rc_state_view *view = &o->views[p->state];
    const rc_update *u = &o->rules[p->state];
    if (!view->gradient || view->frozen) {
        return;
    }
    int64_t start = o->sets[p->state].start;
    int64_t at = start + p->from;
    if (rc_model_get_info(o->model)->is_double) {
        double *s0 = o->memory[0] && start >= 0 ? (double *)o->memory[0] + at : NULL;
        double *s1 = o->memory[1] && start >= 0 ? (double *)o->memory[1] + at : NULL;
        rc_update_run_f64(u, p->count, (const double *)view->gradient + p->from,
                          (double *)view->data + p->from, s0, s1);
    } else {
        float *s0 = o->memory[0] && start >= 0 ? (float *)o->memory[0] + at : NULL;
        float *s1 = o->memory[1] && start >= 0 ? (float *)o->memory[1] + at : NULL;
        rc_update_f32_get()(u, p->count, (const float *)view->gradient + p->from,
                            (float *)view->data + p->from, s0, s1);
    }
}

static void
square_piece(void *context, int64_t i, int worker)
{
    (void)worker;
    rc_optimizer *o = context;
    const piece *p = &o->pieces[i];
    const rc_state_view *view = &o->views[p->state];
    double sum = 0;
    if (view->gradient && !view->frozen && !o->sets[p->state].center) {
        sum = rc_model_get_info(o->model)->is_double
                  ? rc_squares_f64(p->count, (const double *)view->gradient + p->from)
                  : rc_squares_f32_get()(p->count, (const float *)view->gradient + p->from);
    }
    o->squares[i] = sum;
}

/* What gradients are multiplied with; pieces are added in their order, whoever summed them. */
static double
clipping(rc_optimizer *o)
{
    if (o->config.clip_norm == 0) {
        return 1;
    }
    double sum = 0;
    rc_parallel(o->n_pieces, rc_model_get_info(o->model)->threads, square_piece, o);
    for (int64_t i = 0; i < o->n_pieces; i++) {
        sum += o->squares[i];
    }
    o->norm = sqrt(sum);
    o->clipped_there = false;
    double scale = o->config.clip_norm / (o->norm + 1e-6);
    return scale < 1 || isnan(scale) ? scale : 1;
}

bool
rc_optimizer_clips(const rc_optimizer *o)
{
    return o->config.clip_norm > 0;
}

rc_status
rc_optimizer_check(const rc_optimizer *o, rc_error *err)
{
    RC_TRY(check_config(&o->config, err));
    if (o->config.kind == RC_OPT_SGD && (o->config.momentum != 0) != (o->slots == 1)) {
        return rc_fail(err, RC_ARGUMENT,
                       "momentum: cannot change between zero and not zero after the start");
    }
    return RC_OK;
}

void
rc_optimizer_begin(rc_optimizer *o)
{
    for (int i = 0; i < o->n_states; i++) {
        rc_model_state(o->model, i, &o->views[i]);
    }
    double clip = rc_model_device(o->model) >= 0 ? 1 : clipping(o); /* a device clips on its own */
    o->t++;
    for (int i = 0; i < o->n_states; i++) {
        o->sets[i].skipped += o->views[i].frozen && o->sets[i].trained;
        o->rules[i] = rule_of(o, &o->sets[i], clip);
    }
}

void
rc_optimizer_update(rc_optimizer *o, int state)
{
    work w = {o, o->sets[state].first_piece};
    rc_parallel(o->sets[state].n_pieces, rc_model_get_info(o->model)->threads, update_piece, &w);
}

rc_status
rc_optimizer_step(rc_optimizer *o, rc_error *err)
{
    if (!rc_model_has_gradients(o->model)) {
        return rc_fail(err, RC_ARGUMENT,
                       "step: there are no gradients; call loss or backward first");
    }
    RC_TRY(rc_optimizer_check(o, err));
    if (o->config.clip_norm > 0 && !o->squares) {
        o->squares = rc_alloc_zero(o->n_pieces, sizeof *o->squares);
        if (!o->squares) {
            return rc_fail(err, RC_MEMORY, "optimizer: out of memory");
        }
    }
    rc_optimizer_begin(o);
    if (rc_model_device(o->model) >= 0) {
        return rc_optimizer_device_step(o, err);
    }
    work all = {o, 0};
    rc_parallel(o->n_pieces, rc_model_get_info(o->model)->threads, update_piece, &all);
    rc_model_touch(o->model);
    return RC_OK;
}

/* ---- what it holds --------------------------------------------------------------------------- */

rc_model *
rc_optimizer_model(const rc_optimizer *o)
{
    return o->model;
}

rc_optimizer_config *
rc_optimizer_settings(rc_optimizer *o)
{
    return &o->config;
}

int64_t
rc_optimizer_get_t(const rc_optimizer *o)
{
    return o->t;
}

void
rc_optimizer_set_t(rc_optimizer *o, int64_t t)
{
    o->t = t;
    for (int k = 0; k < o->slots; k++) {
        rc_companion_touch(o->model, &o->copies[k]);
    }
}

int64_t
rc_optimizer_get_skipped(const rc_optimizer *o, int state)
{
    return o->sets[state].skipped;
}

void
rc_optimizer_set_skipped(rc_optimizer *o, int state, int64_t skipped)
{
    o->sets[state].skipped = skipped;
}

void
rc_optimizer_reset(rc_optimizer *o)
{
    size_t size = rc_model_get_info(o->model)->is_double ? sizeof(double) : sizeof(float);
    rc_optimizer_set_t(o, 0);
    for (int i = 0; i < o->n_states; i++) {
        o->sets[i].skipped = 0;
    }
    for (int k = 0; k < o->slots; k++) {
        memset(o->memory[k], 0, (size_t)o->n_values * size);
    }
}

double
rc_optimizer_norm(rc_optimizer *o)
{
    const rc_on_device *on = o->model->on;
    if (o->clipped_there && on && on->api->norm(on->d, &o->norm, NULL) != RC_OK) {
        o->norm = NAN;
    }
    o->clipped_there = false;
    return o->norm;
}

int
rc_optimizer_slots(const rc_optimizer *o)
{
    return o->slots;
}

void *
rc_optimizer_slot(rc_optimizer *o, int state, int slot)
{
    if (state < 0 || state >= o->n_states || slot < 0 || slot >= o->slots
        || o->sets[state].start < 0) {
        return NULL;
    }
    size_t size = rc_model_get_info(o->model)->is_double ? sizeof(double) : sizeof(float);
    return (char *)o->memory[slot] + (size_t)o->sets[state].start * size;
}
