/* The average is swapped with the model's weights byte by byte, not by pointer: views of the weights
 * that users hold stay views of the weights. */
#include "train/ema.h"

#include <math.h>
#include <string.h>

#include "plan/device.h"

#define PIECE ((int64_t)1 << 16)

typedef struct piece {
    int32_t state;
    int64_t from, count;
} piece;

struct rc_ema {
    rc_model *model;
    double decay;
    int64_t updates;
    bool applied;
    int n_states;
    void **data; /* per state entry: the average, or the weights while it is applied */
    rc_companion copy; /* of `data`, on the model's device */
    int64_t n_pieces;
    piece *pieces;
};

static size_t
real_size(const rc_ema *e)
{
    return rc_model_get_info(e->model)->is_double ? sizeof(double) : sizeof(float);
}

rc_status
rc_ema_set_decay(rc_ema *e, double decay, rc_error *err)
{
    if (!(decay >= 0 && decay < 1)) {
        return rc_fail(err, RC_ARGUMENT, "decay: expected a number from 0 to below 1, got %g",
                       decay);
    }
    e->decay = decay;
    return RC_OK;
}

static rc_status
fill(rc_ema *e, rc_error *err)
{
    e->data = rc_alloc_zero(e->n_states + 1, sizeof *e->data);
    if (!e->data) {
        return rc_fail(err, RC_MEMORY, "EMA: out of memory");
    }
    for (int i = 0; i < e->n_states; i++) {
        rc_state_view view;
        rc_model_state(e->model, i, &view);
        int64_t count = rc_shape_count(&view.shape);
        e->data[i] = rc_alloc(count, real_size(e));
        if (!e->data[i]) {
            return rc_fail(err, RC_MEMORY, "EMA: out of memory for the average of '%s'",
                           view.name);
        }
        memcpy(e->data[i], view.data, (size_t)count * real_size(e));
        e->n_pieces += (count + PIECE - 1) / PIECE;
    }
    e->pieces = rc_alloc(e->n_pieces, sizeof *e->pieces);
    if (!e->pieces) {
        return rc_fail(err, RC_MEMORY, "EMA: out of memory");
    }
    int64_t n = 0;
    for (int i = 0; i < e->n_states; i++) {
        rc_state_view view;
        rc_model_state(e->model, i, &view);
        int64_t count = rc_shape_count(&view.shape);
        for (int64_t from = 0; from < count; from += PIECE) {
            e->pieces[n++] = (piece){i, from, count - from < PIECE ? count - from : PIECE};
        }
    }
    return RC_OK;
}

rc_status
rc_ema_new(rc_model *m, double decay, rc_ema **out, rc_error *err)
{
    *out = NULL;
    rc_ema *e = rc_alloc_zero(1, sizeof *e);
    if (!e) {
        return rc_fail(err, RC_MEMORY, "EMA: out of memory");
    }
    e->model = m;
    e->n_states = rc_model_state_count(m);
    rc_status status = rc_ema_set_decay(e, decay, err);
    if (status == RC_OK) {
        rc_model_lock(m);
        status = rc_model_fetch(m, err);
        status = status == RC_OK ? fill(e, err) : status;
        rc_model_unlock(m);
    }
    if (status == RC_OK) {
        e->copy.host = e->data;
        rc_model_accompany(m, &e->copy);
    }
    if (status != RC_OK) {
        rc_ema_free(e);
        return status;
    }
    *out = e;
    return RC_OK;
}

void
rc_ema_free(rc_ema *e)
{
    if (!e) {
        return;
    }
    if (e->copy.host) {
        rc_model_part_with(e->model, &e->copy);
    }
    for (int i = 0; e->data && i < e->n_states; i++) {
        rc_free(e->data[i]);
    }
    rc_free(e->data);
    rc_free(e->pieces);
    rc_free(e);
}

/* ---- one update -------------------------------------------------------------------------------- */

static void
update_piece(void *context, int64_t i, int worker)
{
    (void)worker;
    const rc_ema *e = context;
    const piece *p = &e->pieces[i];
    rc_state_view view;
    rc_model_state(e->model, p->state, &view);
    if (real_size(e) == sizeof(double)) {
        double *restrict a = (double *)e->data[p->state] + p->from;
        const double *restrict w = (const double *)view.data + p->from;
        const double share = 1 - e->decay;
        for (int64_t k = 0; k < p->count; k++) {
            a[k] += share * (w[k] - a[k]);
        }
    } else {
        float *restrict a = (float *)e->data[p->state] + p->from;
        const float *restrict w = (const float *)view.data + p->from;
        const float share = (float)(1 - e->decay);
        for (int64_t k = 0; k < p->count; k++) {
            a[k] += share * (w[k] - a[k]);
        }
    }
}

rc_status
rc_ema_check(const rc_ema *e, const rc_model *m, rc_error *err)
{
    if (e->model != m) {
        return rc_fail(err, RC_ARGUMENT, "ema: it was made for another network");
    }
    if (e->applied) {
        return rc_fail(err, RC_ARGUMENT,
                       "ema: the network holds the average; restore() its weights first");
    }
    return RC_OK;
}

rc_status
rc_ema_update(rc_ema *e, rc_error *err)
{
    RC_TRY(rc_ema_check(e, e->model, err));
    const rc_on_device *on = e->model->on;
    if (on) { /* blocks are laid out alike; what lies between entries stays zero */
        RC_TRY(rc_companion_there(e->model, &e->copy, err));
        RC_TRY(on->api->blend(on->d, (float *)(void *)e->copy.block, (const float *)(void *)on->weights,
                              on->bytes / (int64_t)sizeof(float), (float)(1 - e->decay), err));
        e->copy.newer = true;
        e->updates++;
        return RC_OK;
    }
    rc_parallel(e->n_pieces, rc_model_get_info(e->model)->threads, update_piece, e);
    e->updates++;
    return RC_OK;
}

/* ---- in and out of the model --------------------------------------------------------------------- */

static void
swap_piece(void *context, int64_t i, int worker)
{
    (void)worker;
    const rc_ema *e = context;
    const piece *p = &e->pieces[i];
    rc_state_view view;
    rc_model_state(e->model, p->state, &view);
    const size_t size = real_size(e), bytes = (size_t)p->count * size;
    char *a = (char *)e->data[p->state] + (size_t)p->from * size;
    char *b = (char *)view.data + (size_t)p->from * size;
    char block[4096];
    for (size_t at = 0; at < bytes; at += sizeof block) {
        size_t n = bytes - at < sizeof block ? bytes - at : sizeof block;
        memcpy(block, a + at, n);
        memcpy(a + at, b + at, n);
        memcpy(b + at, block, n);
    }
}

void
rc_ema_swap(rc_ema *e)
{
    rc_parallel(e->n_pieces, rc_model_get_info(e->model)->threads, swap_piece, e);
    e->applied = !e->applied;
    rc_companion_touch(e->model, &e->copy);
    rc_model_touch(e->model);
}

bool
rc_ema_is_applied(const rc_ema *e)
{
    return e->applied;
}

/* ---- what it holds --------------------------------------------------------------------------------- */

rc_model *
rc_ema_model(const rc_ema *e)
{
    return e->model;
}

double
rc_ema_get_decay(const rc_ema *e)
{
    return e->decay;
}

int64_t
rc_ema_get_updates(const rc_ema *e)
{
    return e->updates;
}

void
rc_ema_set_updates(rc_ema *e, int64_t updates)
{
    e->updates = updates;
    rc_companion_touch(e->model, &e->copy);
}

static void *
of_model(const rc_ema *e, int state)
{
    rc_state_view view;
    rc_model_state(e->model, state, &view);
    return view.data;
}

void *
rc_ema_average(rc_ema *e, int state)
{
    return e->applied ? of_model(e, state) : e->data[state];
}

void *
rc_ema_weights(rc_ema *e, int state)
{
    return e->applied ? e->data[state] : of_model(e, state);
}
