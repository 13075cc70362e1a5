/* Plans made ready and run: arena, pointers, packed weights, the list of calls.
 *
 * Everything that can be wrong is checked before the first call; the calls themselves cannot
 * fail. */
#include <string.h>

#include "plan/device.h"
#include "train/optim.h"

#define POLL_SECONDS 0.05

/* ---- making a plan ready ------------------------------------------------------------------ */

static void *
address(const rc_model *m, const rc_plan *p, rc_ref ref)
{
    switch (ref.kind) {
    case RC_REF_BUFFER:
        return p->arena + p->buffers[ref.index].offset;
    case RC_REF_STATE:
        return m->on ? rc_on_weight(m->on, ref.index) : m->data[ref.index];
    case RC_REF_GRADIENT:
        return m->on ? m->on->gradients + m->on->offset[ref.index] : m->gradient[ref.index];
    case RC_REF_PACKED:
        return m->packed[ref.index].data;
    default:
        return NULL;
    }
}

void
rc_plan_resolve(const rc_model *m, rc_plan *p)
{
    for (int32_t i = 0; i < p->n_steps; i++) {
        rc_step *s = &p->steps[i];
        for (int k = 0; k < s->call.n_in; k++) {
            s->call.x[k] = address(m, p, s->x[k]);
            s->call.dx[k] = address(m, p, s->dx[k]);
        }
        s->call.y = address(m, p, s->y);
        s->call.dy = address(m, p, s->dy);
        s->call.ws = address(m, p, s->ws);
        s->call.tmp = address(m, p, s->tmp);
        s->call.state[0] = address(m, p, s->state[0]);
        s->call.state[1] = address(m, p, s->state[1]);
        s->call.extra = s->pass == RC_PASS_CAST ? (const void *)&s->bytes : &s->conv;
    }
}

bool
rc_plan_trains(const rc_plan *p)
{
    return p->spec.kind == RC_PLAN_TRAIN || p->spec.kind == RC_PLAN_LOSS;
}

/* Arenas are large: one for training and two for evaluation are kept. */
void
rc_plan_drop_others(rc_model *m, const rc_plan *p)
{
    rc_plan *spare = NULL;
    int with_arena = 0;
    for (int i = 0; i < RC_PLAN_CACHE; i++) {
        rc_plan *q = m->plans[i];
        if (!q || q == p || !q->arena || rc_plan_trains(q) != rc_plan_trains(p)) {
            continue;
        }
        with_arena++;
        if (!spare || q->used < spare->used) {
            spare = q;
        }
    }
    if (spare && with_arena >= (rc_plan_trains(p) ? 1 : 2)) {
        if (m->ran == spare) {
            m->ran = NULL;
            m->can_backward = false;
        }
        rc_plan_drop_arena(spare);
    }
}

static rc_status
pack_weights(rc_model *m, rc_plan *p, rc_error *err)
{
    uint64_t version = __atomic_load_n(&m->version, __ATOMIC_SEQ_CST);
    bool always = __atomic_load_n(&m->views, __ATOMIC_SEQ_CST) > 0;
    for (int32_t i = 0; i < p->n_steps; i++) {
        if (p->steps[i].x[1].kind != RC_REF_PACKED) {
            continue;
        }
        rc_packed *packed = &m->packed[p->steps[i].x[1].index];
        if (!packed->data) {
            packed->data = rc_alloc(rc_packed_floats(packed), sizeof(float));
            if (!packed->data) {
                return rc_fail(err, RC_MEMORY, "out of memory for packed weights");
            }
            packed->version = UINT64_MAX;
        }
        if (always || packed->version != version) {
            rc_packed_make(m, packed);
            packed->version = always ? UINT64_MAX : version;
        }
    }
    return RC_OK;
}

rc_status
rc_plan_ready(rc_model *m, rc_plan *p, rc_error *err)
{
    if (m->on) {
        return rc_device_ready(m, p, err);
    }
    if (rc_plan_trains(p) && !p->spec.in_step) {
        RC_TRY(rc_model_need_gradients(m, err));
    }
    if (!p->arena) {
        rc_plan_drop_others(m, p);
        p->arena = rc_alloc(p->arena_bytes, 1);
        if (!p->arena) {
            return rc_fail(err, RC_MEMORY, "out of memory: a batch of %lld needs %.2f GiB",
                           (long long)p->spec.n, (double)p->arena_bytes / 1073741824);
        }
    }
    RC_TRY(pack_weights(m, p, err));
    rc_plan_resolve(m, p);
#ifdef RC_DEBUG
    if (p->spec.kind != RC_PLAN_TRAIN) { /* a value read before it is written shows at once */
        memset(p->arena, 0xff, (size_t)p->arena_bytes);
    }
#endif
    return RC_OK;
}

void *
rc_plan_value(const rc_plan *p, rc_value v)
{
    int32_t b = p->value_buffer[v];
    return b < 0 || !p->arena ? NULL : rc_plan_host(p, b);
}

/* ---- the list ------------------------------------------------------------------------------- */

bool
rc_asked_to_stop(const rc_poll *poll, double *last)
{
    double now;
    if (!poll || !poll->stop || (now = rc_seconds()) - *last < POLL_SECONDS) {
        return false;
    }
    *last = now;
    return poll->stop(poll->context);
}

rc_status
rc_run_steps(rc_model *m, rc_plan *p, int32_t from, int32_t to, const rc_poll *poll,
             rc_error *err)
{
    if (p->on) {
        return rc_device_run(m, p, from, to, poll, err);
    }
    double last = rc_seconds();
    for (int32_t i = from; i < to; i++) {
        rc_step *s = &p->steps[i];
        double start = m->profile ? rc_seconds() : 0;
        double cpu_start = m->profile ? rc_cpu_seconds() : 0;
        if (s->pass == RC_PASS_UPDATE) {
            rc_optimizer_update(m->updating, s->state[0].index);
        } else {
            s->run(&s->call);
        }
        if (m->profile) {
            s->seconds += rc_seconds() - start;
            s->cpu_seconds += rc_cpu_seconds() - cpu_start;
            s->runs++;
        }
        if (rc_asked_to_stop(poll, &last)) {
            return RC_INTERRUPTED;
        }
    }
    return RC_OK;
}

/* ---- a run -------------------------------------------------------------------------------------- */

/* A plan for this call, ready, with its inputs in place. */
rc_status
rc_prepare(rc_model *m, const rc_plan_spec *spec, const rc_images *images, const int64_t *planes,
        rc_plan **out, rc_error *err)
{
    rc_plan *p = NULL;
    if (spec->given_planes && !m->info.takes_planes) {
        return rc_fail(err, RC_ARGUMENT, "planes: this network has none");
    }
    RC_TRY(rc_model_plan(m, spec, &p, err));
    m->ran = NULL;
    m->can_backward = rc_plan_trains(p) ? false : m->can_backward;
    RC_TRY(rc_plan_ready(m, p, err));
    RC_TRY(rc_load_planes(m, p, planes, spec->n, err));
    RC_TRY(rc_load_images(m, p, images, 0, spec->n, false, err));
    RC_TRY(planes ? rc_plan_push(p, p->planes_buffer, err) : RC_OK);
    *out = p;
    return RC_OK;
}
