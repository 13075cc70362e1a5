/* Who runs a step on a device: what select.c is for the CPU. The library answers for every pass
 * of every operation; a plan with one that it does not know is not made. */
#include <string.h>

#include "plan/device.h"

static rc_status
add(rc_model *m, rc_plan *p, rc_step *step, const rc_device_request *request, rc_error *err)
{
    RC_TRY(m->on->api->select(m->on->d, request, &step->device, err));
    step->kernel = step->device.name;
    step->run = NULL;
    RC_TRY(rc_plan_scratch(p, step, step->device.tmp, err));
    return rc_plan_add_step(p, step, err);
}

static rc_device_request
request_of(const rc_plan *p, const rc_step *step, rc_device_pass pass)
{
    rc_device_request r = {
        .pass = pass, .op = p->units[step->unit].node.op, .call = &step->call,
        .keeps = step->ws.kind != RC_REF_NONE,
        .element = (pass == RC_DEVICE_BACKWARD ? p->backward : p->forward)[step->unit].kernel};
    for (int k = 0; k < step->call.n_in; k++) {
        r.has |= step->x[k].kind != RC_REF_NONE ? 1u << k : 0;
        r.wanted |= step->dx[k].kind != RC_REF_NONE ? 1u << k : 0;
    }
    return r;
}

/* ---- weights with a batch norm folded in --------------------------------------------------------- */

static rc_ref
state_ref(const rc_graph *g, rc_value v)
{
    return v == RC_NONE ? (rc_ref){0} : (rc_ref){RC_REF_STATE, g->values[v].index};
}

/* The device's copy of this unit's weights, shared by the evaluation plans of a model. */
static rc_status
folded_for(rc_model *m, const rc_plan *p, const rc_unit *u, rc_step *step, rc_error *err)
{
    rc_packed wanted = {.weight = u->node.in[1],
                        .bias = u->node.n_in > 2 ? u->node.in[2] : RC_NONE,
                        .norm_eps = u->norm_eps,
                        .conv = {.packed = rc_shape_count(&step->call.xs[1]),
                                 .shape = {.k = step->call.xs[1].d[0]},
                                 .folded = true,
                                 .element = p->forward[step->unit].kernel},
                        .version = UINT64_MAX};
    memcpy(wanted.norm, u->norm, sizeof wanted.norm);
    for (int32_t i = 0; i < m->n_packed; i++) {
        if (m->packed[i].weight == wanted.weight && m->packed[i].norm[0] == wanted.norm[0]
            && m->packed[i].conv.element == wanted.conv.element) {
            step->x[1] = (rc_ref){RC_REF_PACKED, i};
            return RC_OK;
        }
    }
    int32_t at = rc_packed_add(m, &wanted);
    if (at < 0) {
        return rc_fail(err, RC_MEMORY, "out of memory for packed weights");
    }
    step->x[1] = (rc_ref){RC_REF_PACKED, at};
    return RC_OK;
}

rc_status
rc_device_fold(rc_model *m, rc_packed *packed, rc_error *err)
{
    const rc_graph *g = m->graph;
    const rc_on_device *on = m->on;
    rc_value inputs[6] = {packed->weight, packed->bias, packed->norm[0], packed->norm[1],
                          packed->norm[2], packed->norm[3]};
    rc_attrs attrs = {.eps = packed->norm_eps};
    rc_shape xs[6] = {{0}};
    rc_call call = {.attrs = &attrs, .n_in = 6, .xs = xs, .y = packed->data};
    for (int k = 0; k < 6; k++) {
        rc_ref ref = state_ref(g, inputs[k]);
        if (ref.kind == RC_REF_STATE) {
            call.x[k] = rc_on_weight(on, ref.index);
            xs[k] = g->values[inputs[k]].shape;
        }
    }
    call.ys = xs[0];
    rc_device_request request = {
        .pass = RC_DEVICE_FOLD, .op = RC_OP_conv2d, .call = &call, .element = packed->conv.element,
        .has = 61u | (call.x[1] ? 2u : 0)};
    rc_device_kernel kernel;
    RC_TRY(on->api->select(on->d, &request, &kernel, err));
    kernel.run(on->d, &call, kernel.choice);
    return on->api->check(on->d, err);
}

/* ---- steps ------------------------------------------------------------------------------------- */

rc_status
rc_device_forward_step(rc_model *m, rc_plan *p, rc_step step, rc_error *err)
{
    const rc_unit *u = &p->units[step.unit];
    rc_device_request request = request_of(p, &step, RC_DEVICE_FORWARD);
    request.folded = u->folded;
    if (u->folded) {
        RC_TRY(folded_for(m, p, u, &step, err));
    }
    return add(m, p, &step, &request, err);
}

/* A convolution's gradients are three products of their own: weights, bias, and last the input,
 * whose gradient may then take the place of the output's. */
rc_status
rc_device_backward_step(rc_model *m, rc_plan *p, rc_step step, rc_error *err)
{
    static const int order[3] = {1, 2, 0};
    if (p->units[step.unit].node.op != RC_OP_conv2d) {
        rc_device_request request = request_of(p, &step, RC_DEVICE_BACKWARD);
        return add(m, p, &step, &request, err);
    }
    for (int i = 0; i < 3; i++) {
        if (step.dx[order[i]].kind == RC_REF_NONE) {
            continue;
        }
        rc_step part = rc_step_for_input(&step, order[i]);
        if (order[i] < 2) {
            part.x[order[i]] = (rc_ref){0};
        } else {
            part.x[0] = part.x[1] = (rc_ref){0};
        }
        rc_device_request request = request_of(p, &part, RC_DEVICE_BACKWARD);
        RC_TRY(add(m, p, &part, &request, err));
    }
    return RC_OK;
}

rc_status
rc_device_commit_step(rc_model *m, rc_plan *p, rc_step step, rc_error *err)
{
    rc_device_request request = request_of(p, &step, RC_DEVICE_COMMIT);
    return add(m, p, &step, &request, err);
}

rc_status
rc_device_cast_step(rc_model *m, rc_plan *p, rc_step step, rc_error *err)
{
    rc_device_request request = {.pass = RC_DEVICE_CAST, .call = &step.call, .has = 1,
                                 .element = step.element,
                                 .from = step.element == RC_BF16 ? RC_REAL : RC_BF16};
    return add(m, p, &step, &request, err);
}

rc_status
rc_device_fill_step(rc_model *m, rc_plan *p, rc_step step, float value, rc_error *err)
{
    rc_device_request request = {.pass = RC_DEVICE_FILL, .call = &step.call, .value = value};
    return add(m, p, &step, &request, err);
}
