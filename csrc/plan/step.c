/* Training: forward to the named outputs, backward from them, loss, and whole steps.
 *
 * A step changes the model only in its last calls (running statistics, then the update), so that
 * one that is stopped in between leaves no trace. */
#include <string.h>

#include "graph/labels.h"
#include "plan/plan.h"
#include "train/ema.h"
#include "train/optim.h"

static void
commit(rc_model *m, rc_plan *p)
{
    (void)rc_run_steps(m, p, p->n_backward, p->n_steps, NULL);
    m->step++;
    rc_model_touch(m);
}

static rc_status
forward(rc_model *m, const rc_images *images, bool training, const int64_t *planes,
        const rc_poll *poll, rc_error *err)
{
    RC_TRY(rc_check_images(m, images, !training, err));
    rc_plan_spec spec = {.kind = training ? RC_PLAN_TRAIN : RC_PLAN_EVAL,
                         .n = images->n,
                         .given_planes = planes != NULL,
                         .input_gradient = training};
    rc_plan *p = NULL;
    if (!images->n) {
        return rc_fail(err, RC_ARGUMENT, "images: expected at least one, got an empty batch");
    }
    RC_TRY(rc_prepare(m, &spec, images, planes, &p, err));
    m->current_step = training ? m->step : m->current_step;
    RC_TRY(rc_run_steps(m, p, 0, p->n_forward, poll));
    if (training) {
        commit(m, p);
    }
    m->ran = p;
    m->can_backward = training || m->can_backward;
    return RC_OK;
}

rc_status
rc_model_forward(rc_model *m, const rc_images *images, bool training, const int64_t *planes,
                 const rc_poll *poll, rc_error *err)
{
    rc_model_lock(m);
    rc_status status = forward(m, images, training, planes, poll, err);
    rc_model_unlock(m);
    return status;
}

/* ---- backward ------------------------------------------------------------------------------------- */

/* Gradients of outputs as the caller gives them; outputs may share a value. */
static void
load_gradients(const rc_model *m, const rc_plan *p, const void *const *gradients)
{
    const rc_graph *g = m->graph;
    for (int pass = 0, at = 0; pass < 2; pass++, at = 0) {
        for (int32_t i = 0; i < g->n_outputs; i++) {
            if (!(g->outputs[i].role & RC_ROLE_TRAIN)) {
                continue;
            }
            const void *from = gradients[at++];
            int32_t b = p->gradient_buffer[g->outputs[i].value];
            if (b < 0) {
                continue;
            }
            char *to = p->arena + p->buffers[b].offset;
            int64_t count = rc_shape_count(&p->shapes[g->outputs[i].value]);
            if (pass == 0) {
                memset(to, 0, (size_t)count * m->real_size);
            } else if (from && m->info.is_double) {
                for (int64_t k = 0; k < count; k++) {
                    ((double *)(void *)to)[k] += ((const double *)from)[k];
                }
            } else if (from) {
                for (int64_t k = 0; k < count; k++) {
                    ((float *)(void *)to)[k] += ((const float *)from)[k];
                }
            }
        }
    }
}

/* Backward steps that add to the weights' gradients. Those that are already there would be left
 * half added to if it were stopped, so it is not. */
static rc_status
accumulate(rc_model *m, rc_plan *p, const rc_poll *poll)
{
    bool fresh = !m->has_gradients;
    if (fresh) {
        rc_model_zero_grad(m);
    }
    RC_TRY(rc_run_steps(m, p, p->n_forward, p->n_backward, fresh ? poll : NULL));
    m->has_gradients = true;
    return RC_OK;
}

rc_status
rc_model_backward(rc_model *m, const void *const *gradients, void *dimages, const rc_poll *poll,
                  rc_error *err)
{
    rc_status status = RC_OK;
    rc_model_lock(m);
    rc_plan *p = m->ran;
    if (!m->can_backward || !p || p->spec.kind != RC_PLAN_TRAIN) {
        status = rc_fail(err, RC_ARGUMENT,
                         "backward: nothing to go back through; call forward(training=True) first "
                         "(once for every backward, with no other call between)");
        goto done;
    }
    m->can_backward = false;
    m->ran = NULL; /* gradients take the place of outputs */
    load_gradients(m, p, gradients);
    status = accumulate(m, p, poll);
    if (status == RC_OK && dimages) {
        rc_value v = m->graph->images;
        rc_shape s = p->shapes[v];
        int32_t b = p->gradient_buffer[v];
        if (b >= 0) {
            rc_nhwc_to_nchw(p->arena + p->buffers[b].offset, &s, m->real_size, dimages);
        } else {
            memset(dimages, 0, (size_t)rc_shape_count(&s) * m->real_size);
        }
    }
done:
    rc_model_unlock(m);
    return status;
}

static rc_status
check_labels(const rc_model *m, const int64_t *labels, int64_t n, rc_error *err)
{
    if (!m->info.has_loss) {
        return rc_fail(err, RC_ARGUMENT, "loss: this network was built without losses");
    }
    return rc_labels_check(labels, n, m->info.classes, m->info.needs_two_identities, err);
}

int
rc_model_loss_count(const rc_model *m)
{
    int count = 0;
    for (int32_t i = 0; i < m->graph->n_outputs; i++) {
        count += (m->graph->outputs[i].role & RC_ROLE_LOSS) != 0;
    }
    return count;
}

const char *
rc_model_loss_name(const rc_model *m, int i)
{
    for (int32_t k = 0; k < m->graph->n_outputs; k++) {
        if ((m->graph->outputs[k].role & RC_ROLE_LOSS) && i-- == 0) {
            return m->graph->outputs[k].name;
        }
    }
    return NULL;
}

/* Forward, losses, backward. Nothing of the model has changed yet but its gradients, and those not
 * in_step: there they are the plan's. */
static rc_status
forward_backward(rc_model *m, const rc_images *images, const int64_t *labels,
                 const int64_t *planes, bool in_step, rc_plan **out, double *parts,
                 const rc_poll *poll, rc_error *err)
{
    const rc_graph *g = m->graph;
    RC_TRY(rc_check_images(m, images, false, err));
    RC_TRY(check_labels(m, labels, images->n, err));
    rc_plan_spec spec = {.kind = RC_PLAN_LOSS,
                         .n = images->n,
                         .given_planes = planes != NULL,
                         .in_step = in_step};
    rc_plan *p = NULL;
    RC_TRY(rc_prepare(m, &spec, images, planes, &p, err));
    memcpy(p->arena + p->buffers[p->labels_buffer].offset, labels,
           (size_t)images->n * sizeof *labels);
    m->current_step = m->step;
    RC_TRY(rc_run_steps(m, p, 0, p->n_forward, poll));
    int at = 0;
    for (int32_t i = 0; i < g->n_outputs; i++) {
        if (g->outputs[i].role & RC_ROLE_LOSS) {
            const void *value = rc_plan_value(p, g->outputs[i].value);
            parts[at++] = m->info.is_double ? *(const double *)value : *(const float *)value;
        }
    }
    *out = p;
    return in_step ? rc_run_steps(m, p, p->n_forward, p->n_backward, poll)
                   : accumulate(m, p, poll);
}

rc_status
rc_model_loss(rc_model *m, const rc_images *images, const int64_t *labels, const int64_t *planes,
              double *parts, const rc_poll *poll, rc_error *err)
{
    rc_plan *p = NULL;
    rc_model_lock(m);
    rc_status status =
        forward_backward(m, images, labels, planes, false, &p, parts, poll, err);
    if (status == RC_OK) {
        commit(m, p);
    }
    rc_model_unlock(m);
    return status;
}

rc_status
rc_model_train_step(rc_model *m, const rc_images *images, const int64_t *labels,
                    const int64_t *planes, rc_optimizer *optimizer, rc_ema *ema, double *parts,
                    const rc_poll *poll, rc_error *err)
{
    rc_plan *p = NULL;
    rc_model_lock(m);
    rc_status status = ema ? rc_ema_check(ema, m, err) : RC_OK;
    if (status != RC_OK) {
        rc_model_unlock(m);
        return status;
    }
    status = forward_backward(m, images, labels, planes, true, &p, parts, poll, err);
    if (status == RC_OK && poll && poll->stop && poll->stop(poll->context)) {
        status = RC_INTERRUPTED; /* the last moment at which nothing has changed */
    }
    if (status == RC_OK) {
        m->stepping = p;
        status = rc_optimizer_step(optimizer, err);
        m->stepping = NULL;
    }
    if (status == RC_OK) {
        commit(m, p);
        status = ema ? rc_ema_update(ema, err) : RC_OK;
    }
    m->has_gradients = false;
    rc_model_unlock(m);
    return status;
}

/* ---- outputs ---------------------------------------------------------------------------------------- */

int
rc_model_output_count(const rc_model *m, bool training)
{
    int count = 0;
    rc_role role = training ? RC_ROLE_TRAIN : RC_ROLE_EVAL;
    for (int32_t i = 0; i < m->graph->n_outputs; i++) {
        count += (m->graph->outputs[i].role & role) != 0;
    }
    return count;
}

void
rc_model_output(const rc_model *m, bool training, int i, rc_output_view *out)
{
    rc_role role = training ? RC_ROLE_TRAIN : RC_ROLE_EVAL;
    *out = (rc_output_view){0};
    for (int32_t k = 0; k < m->graph->n_outputs; k++) {
        const rc_output *o = &m->graph->outputs[k];
        if (!(o->role & role) || i-- != 0) {
            continue;
        }
        out->name = o->name;
        out->is_int = m->graph->values[o->value].is_int;
        out->shape = m->ran ? m->ran->shapes[o->value] : rc_graph_shape(m->graph, o->value);
        out->data = m->ran ? rc_plan_value(m->ran, o->value) : NULL;
        return;
    }
}
