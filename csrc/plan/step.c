/* Training: forward to the named outputs, backward from them, loss, and whole steps.
 *
 * One that is stopped leaves no trace. So a training step listens until something changes: the first
 * update of a weight, which comes as soon as backward has done with it. What clips needs all gradients
 * before that, and listens until the end of backward. Running statistics move last. */
#include <string.h>

#include "graph/labels.h"
#include "plan/device.h"
#include "train/ema.h"
#include "train/optim.h"

static rc_status
commit(rc_model *m, rc_plan *p, rc_error *err)
{
    RC_TRY(rc_run_steps(m, p, p->n_backward, p->n_steps, NULL, err));
    m->step++;
    if (p->on) {
        return rc_device_moved_on(m, err);
    }
    rc_model_touch(m);
    return RC_OK;
}

/* On a device: the outputs of these roles on their way to the host, behind what is running. */
static rc_status
pull_outputs(const rc_model *m, const rc_plan *p, int roles, rc_error *err)
{
    const rc_graph *g = m->graph;
    for (int32_t i = 0; i < g->n_outputs; i++) {
        if ((int)g->outputs[i].role & roles) {
            RC_TRY(rc_plan_pull(p, p->value_buffer[g->outputs[i].value], err));
        }
    }
    return RC_OK;
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
    RC_TRY(rc_run_steps(m, p, 0, p->n_forward, poll, err));
    RC_TRY(pull_outputs(m, p, training ? RC_ROLE_TRAIN : RC_ROLE_EVAL, err));
    if (training) {
        RC_TRY(commit(m, p, err));
    }
    RC_TRY(rc_plan_wait(p, err));
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
static rc_status
load_gradients(const rc_model *m, const rc_plan *p, const void *const *gradients, rc_error *err)
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
            char *to = rc_plan_host(p, b);
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
    for (int32_t i = 0; i < g->n_outputs; i++) {
        RC_TRY(g->outputs[i].role & RC_ROLE_TRAIN
                   ? rc_plan_push(p, p->gradient_buffer[g->outputs[i].value], err)
                   : RC_OK);
    }
    return RC_OK;
}

/* Backward steps that add to the weights' gradients. Those that are already there would be left
 * half added to if it were stopped, so it is not. */
static rc_status
accumulate(rc_model *m, rc_plan *p, const rc_poll *poll, rc_error *err)
{
    bool fresh = !m->has_gradients;
    if (fresh) {
        RC_TRY(rc_model_zero_grad(m, err));
    }
    RC_TRY(rc_run_steps(m, p, p->n_forward, p->n_backward, fresh ? poll : NULL, err));
    m->has_gradients = true;
    if (m->on) {
        m->on->gradients_newer = true;
    }
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
    status = load_gradients(m, p, gradients, err);
    status = status == RC_OK ? accumulate(m, p, poll, err) : status;
    if (status == RC_OK && dimages) {
        status = rc_plan_pull(p, p->gradient_buffer[m->graph->images], err);
    }
    status = status == RC_OK ? rc_plan_wait(p, err) : status;
    if (status == RC_OK && dimages) {
        rc_value v = m->graph->images;
        rc_shape s = p->shapes[v];
        int32_t b = p->gradient_buffer[v];
        if (b >= 0) {
            rc_nhwc_to_nchw(rc_plan_host(p, b), &s, m->real_size, dimages);
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

static void
read_parts(const rc_model *m, const rc_plan *p, double *parts)
{
    const rc_graph *g = m->graph;
    int at = 0;
    for (int32_t i = 0; i < g->n_outputs; i++) {
        if (g->outputs[i].role & RC_ROLE_LOSS) {
            const void *value = rc_plan_value(p, g->outputs[i].value);
            parts[at++] = m->info.is_double ? *(const double *)value : *(const float *)value;
        }
    }
}

/* On a device the losses arrive while backward and update still run; nothing else is waited for. */
static rc_status
await_parts(const rc_model *m, const rc_plan *p, double *parts, rc_error *err)
{
    if (p->on) {
        RC_TRY(p->on->api->reach(p->on->d, 0, err));
        read_parts(m, p, parts);
    }
    return RC_OK;
}

/* Forward, losses, backward. Nothing of the model has changed yet but its gradients, and those not
 * of a step (of `optimizer`, or NULL), which are the plan's; unless the plan updates, too. On a device
 * the parts are await_parts'. */
static rc_status
forward_backward(rc_model *m, const rc_images *images, const int64_t *labels,
                 const int64_t *planes, rc_optimizer *optimizer, rc_plan **out, double *parts,
                 const rc_poll *poll, rc_error *err)
{
    RC_TRY(rc_check_images(m, images, false, err));
    RC_TRY(check_labels(m, labels, images->n, err));
    rc_plan_spec spec = {.kind = RC_PLAN_LOSS,
                         .n = images->n,
                         .given_planes = planes != NULL,
                         .in_step = optimizer != NULL,
                         .updates = optimizer && !m->on && !rc_optimizer_clips(optimizer)};
    rc_plan *p = NULL;
    RC_TRY(rc_prepare(m, &spec, images, planes, &p, err));
    memcpy(rc_plan_host(p, p->labels_buffer), labels, (size_t)images->n * sizeof *labels);
    RC_TRY(rc_plan_push(p, p->labels_buffer, err));
    m->current_step = m->step;
    RC_TRY(rc_run_steps(m, p, 0, p->n_forward, poll, err));
    if (p->on) {
        RC_TRY(pull_outputs(m, p, RC_ROLE_LOSS, err));
        RC_TRY(p->on->api->mark(p->on->d, 0, err));
    } else {
        read_parts(m, p, parts);
    }
    *out = p;
    if (!spec.updates) {
        return optimizer ? rc_run_steps(m, p, p->n_forward, p->n_backward, poll, err)
                         : accumulate(m, p, poll, err);
    }
    if (poll && poll->stop && poll->stop(poll->context)) {
        return RC_INTERRUPTED;
    }
    m->stepping = p;
    m->updating = optimizer;
    rc_optimizer_begin(optimizer);
    rc_status status = rc_run_steps(m, p, p->n_forward, p->n_backward, NULL, err);
    m->updating = NULL;
    m->stepping = NULL;
    return status;
}

/* What is left of a step after backward, if the plan has not updated the weights: that. */
static rc_status
update(rc_model *m, rc_plan *p, rc_optimizer *optimizer, const rc_poll *poll, rc_error *err)
{
    if (p->spec.updates) {
        return RC_OK;
    }
    if (poll && poll->stop && poll->stop(poll->context)) {
        return RC_INTERRUPTED; /* the last moment at which nothing has changed */
    }
    m->stepping = p;
    rc_status status = rc_optimizer_step(optimizer, err);
    m->stepping = NULL;
    return status;
}

rc_status
rc_model_loss(rc_model *m, const rc_images *images, const int64_t *labels, const int64_t *planes,
              double *parts, const rc_poll *poll, rc_error *err)
{
    rc_plan *p = NULL;
    rc_model_lock(m);
    rc_status status =
        forward_backward(m, images, labels, planes, NULL, &p, parts, poll, err);
    status = status == RC_OK ? commit(m, p, err) : status;
    status = status == RC_OK ? await_parts(m, p, parts, err) : status;
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
    rc_status status = rc_optimizer_check(optimizer, err);
    status = status == RC_OK && ema ? rc_ema_check(ema, m, err) : status;
    if (status != RC_OK) {
        rc_model_unlock(m);
        return status;
    }
    status = forward_backward(m, images, labels, planes, optimizer, &p, parts, poll, err);
    status = status == RC_OK ? update(m, p, optimizer, poll, err) : status;
    status = status == RC_OK ? commit(m, p, err) : status;
    if (status == RC_OK && ema) {
        status = rc_ema_update(ema, err);
    }
    status = status == RC_OK ? await_parts(m, p, parts, err) : status;
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
