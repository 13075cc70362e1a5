/* A batch through a plan: check, copy in, run the calls, copy out.
 *
 * Everything that can be wrong is checked before the first call; the calls themselves cannot
 * fail. A step changes the model only in its last calls (running statistics, then the update), so
 * that one that is stopped in between leaves no trace. */
#include <math.h>
#include <string.h>

#include "data/data.h"
#include "graph/labels.h"
#include "plan/plan.h"
#include "train/optim.h"

#define POLL_SECONDS 0.05
#define EMBED_BATCH 32

/* ---- making a plan ready ------------------------------------------------------------------ */

static void *
address(const rc_model *m, const rc_plan *p, rc_ref ref)
{
    switch (ref.kind) {
    case RC_REF_BUFFER:
        return p->arena + p->buffers[ref.index].offset;
    case RC_REF_STATE:
        return m->data[ref.index];
    case RC_REF_GRADIENT:
        return m->gradient[ref.index];
    case RC_REF_PACKED:
        return m->packed[ref.index].data;
    default:
        return NULL;
    }
}

static void
resolve(const rc_model *m, rc_plan *p)
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
        s->call.extra = &s->conv;
    }
}

static bool
is_training(const rc_plan *p)
{
    return p->spec.kind == RC_PLAN_TRAIN || p->spec.kind == RC_PLAN_LOSS;
}

/* Arenas are large: one for training and two for evaluation are kept. */
static void
drop_other_arenas(rc_model *m, const rc_plan *p)
{
    rc_plan *spare = NULL;
    int with_arena = 0;
    for (int i = 0; i < RC_PLAN_CACHE; i++) {
        rc_plan *q = m->plans[i];
        if (!q || q == p || !q->arena || is_training(q) != is_training(p)) {
            continue;
        }
        with_arena++;
        if (!spare || q->used < spare->used) {
            spare = q;
        }
    }
    if (spare && with_arena >= (is_training(p) ? 1 : 2)) {
        if (m->ran == spare) {
            m->ran = NULL;
            m->can_backward = false;
        }
        rc_free(spare->arena);
        spare->arena = NULL;
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
    if (is_training(p)) {
        RC_TRY(rc_model_need_gradients(m, err));
    }
    if (!p->arena) {
        drop_other_arenas(m, p);
        p->arena = rc_alloc(p->arena_bytes, 1);
        if (!p->arena) {
            return rc_fail(err, RC_MEMORY, "out of memory: a batch of %lld needs %.2f GiB",
                           (long long)p->spec.n, (double)p->arena_bytes / 1073741824);
        }
    }
    RC_TRY(pack_weights(m, p, err));
    resolve(m, p);
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
    return b < 0 || !p->arena ? NULL : p->arena + p->buffers[b].offset;
}

/* ---- the list ------------------------------------------------------------------------------- */

static bool
asked_to_stop(const rc_poll *poll, double *last)
{
    double now;
    if (!poll || !poll->stop || (now = rc_seconds()) - *last < POLL_SECONDS) {
        return false;
    }
    *last = now;
    return poll->stop(poll->context);
}

static rc_status
run_steps(const rc_model *m, rc_plan *p, int32_t from, int32_t to, const rc_poll *poll)
{
    double last = rc_seconds();
    for (int32_t i = from; i < to; i++) {
        rc_step *s = &p->steps[i];
        double start = m->profile ? rc_seconds() : 0;
        s->run(&s->call);
        if (m->profile) {
            s->seconds += rc_seconds() - start;
            s->runs++;
        }
        if (asked_to_stop(poll, &last)) {
            return RC_INTERRUPTED;
        }
    }
    return RC_OK;
}

/* Weight gradients: the first writer of each assigns, unless they accumulate. */
static void
set_accumulation(rc_plan *p, bool accumulate)
{
    for (int32_t i = p->n_forward; i < p->n_backward; i++) {
        rc_step *s = &p->steps[i];
        for (int k = 0; k < s->call.n_in; k++) {
            if (s->first_gradient[k]) {
                s->call.add[k] = accumulate;
            }
        }
    }
}

/* ---- inputs ------------------------------------------------------------------------------------ */

static rc_status
check_images(const rc_model *m, const rc_images *images, bool may_be_empty, rc_error *err)
{
    const rc_model_info *info = &m->info;
    if (images->c != 3) {
        return rc_fail(err, RC_ARGUMENT, "images: expected 3 channels, got %lld",
                       (long long)images->c);
    }
    if (!images->is_u8 && images->n && (images->h != info->height || images->w != info->width)) {
        return rc_fail(err, RC_ARGUMENT,
                       "images: expected float32 N×3×%lld×%lld, got %lld×3×%lld×%lld",
                       (long long)info->height, (long long)info->width, (long long)images->n,
                       (long long)images->h, (long long)images->w);
    }
    if (images->is_u8 && images->n && (images->h < 1 || images->w < 1)) {
        return rc_fail(err, RC_ARGUMENT, "images: expected pictures, got %lld×%lld×%lld×3",
                       (long long)images->n, (long long)images->h, (long long)images->w);
    }
    if (images->n < (may_be_empty ? 0 : 1)) {
        return rc_fail(err, RC_ARGUMENT, "images: expected at least one, got an empty batch");
    }
    return RC_OK;
}

/* Doubles, n,3,h,w -> n,h,w,3; plain loops: double models are for tests. */
static rc_status
load_doubles(const double *x, int64_t n, int64_t h, int64_t w, bool mirror, double *y,
             rc_error *err)
{
    for (int64_t i = 0; i < n; i++) {
        for (int64_t c = 0; c < 3; c++) {
            for (int64_t p = 0; p < h * w; p++) {
                double v = x[(i * 3 + c) * h * w + p];
                int64_t col = p % w, to = p - col + (mirror ? w - 1 - col : col);
                if (!isfinite(v)) {
                    return rc_fail(err, RC_ARGUMENT, "images: image %lld has a pixel that is NaN "
                                   "or infinite", (long long)i);
                }
                y[(i * h * w + to) * 3 + c] = v;
            }
        }
    }
    return RC_OK;
}

/* Images [from, from + count) into the plan's input; rows beyond count become zero. */
static rc_status
load_images(const rc_model *m, const rc_plan *p, const rc_images *images, int64_t from,
            int64_t count, bool mirror, rc_error *err)
{
    int64_t height = m->info.height, width = m->info.width, pixels = height * width * 3;
    char *to = p->arena + p->buffers[p->images_buffer].offset;
    bool is_double = m->info.is_double;
    memset(to + (size_t)(count * pixels) * m->real_size, 0,
           (size_t)((p->spec.n - count) * pixels) * m->real_size);
    if (images->is_u8) {
        rc_input_rule rule = rc_input_rule_default(height, width);
        rule.mirror = mirror;
        const uint8_t *bytes = images->data;
        bytes += (size_t)(from * images->h * images->w * 3);
        float *floats = is_double ? rc_alloc(count * pixels, sizeof(float)) : (float *)(void *)to;
        if (!floats) {
            return rc_fail(err, RC_MEMORY, "out of memory for the images");
        }
        rc_status status = rc_images_to_input(bytes, count, images->h, images->w, &rule, floats,
                                              m->info.threads, err);
        if (is_double) {
            for (int64_t i = 0; status == RC_OK && i < count * pixels; i++) {
                ((double *)(void *)to)[i] = floats[i];
            }
            rc_free(floats);
        }
        return status;
    }
    if (is_double) {
        return load_doubles((const double *)images->data + from * pixels, count, height, width,
                            mirror, (double *)(void *)to, err);
    }
    return rc_floats_to_input((const float *)images->data + from * pixels, count, height, width,
                              mirror, (float *)(void *)to, m->info.threads, err);
}

static rc_status
load_planes(const rc_model *m, const rc_plan *p, const int64_t *planes, int64_t n, rc_error *err)
{
    int64_t rows = m->info.map_height;
    if (!planes) {
        return RC_OK;
    }
    if (!m->info.takes_planes) {
        return rc_fail(err, RC_ARGUMENT, "planes: this network has none");
    }
    for (int64_t i = 0; i < n; i++) {
        const int64_t *l = planes + 4 * i;
        if (!(0 < l[0] && l[0] < l[1] && l[1] < l[2] && l[2] < l[3] && l[3] < rows)) {
            return rc_fail(err, RC_ARGUMENT,
                           "planes: expected 0 < l0 < l1 < l2 < l3 < %lld in every row, got "
                           "%lld %lld %lld %lld in row %lld", (long long)rows, (long long)l[0],
                           (long long)l[1], (long long)l[2], (long long)l[3], (long long)i);
        }
    }
    memcpy(p->arena + p->buffers[p->planes_buffer].offset, planes,
           (size_t)n * 4 * sizeof *planes);
    return RC_OK;
}

/* A plan for this call, ready, with its inputs in place. */
static rc_status
prepare(rc_model *m, const rc_plan_spec *spec, const rc_images *images, const int64_t *planes,
        rc_plan **out, rc_error *err)
{
    rc_plan *p = NULL;
    if (spec->given_planes && !m->info.takes_planes) {
        return rc_fail(err, RC_ARGUMENT, "planes: this network has none");
    }
    RC_TRY(rc_model_plan(m, spec, &p, err));
    m->ran = NULL;
    m->can_backward = is_training(p) ? false : m->can_backward;
    RC_TRY(rc_plan_ready(m, p, err));
    RC_TRY(load_planes(m, p, planes, spec->n, err));
    RC_TRY(load_images(m, p, images, 0, spec->n, false, err));
    *out = p;
    return RC_OK;
}

/* ---- evaluation ---------------------------------------------------------------------------------- */

/* row <- row / max(|row|, 1e-12) */
static void
normalize_rows(void *out, int64_t n, int64_t d, bool is_double)
{
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int64_t k = 0; k < d; k++) {
            double v = is_double ? ((double *)out)[i * d + k] : ((float *)out)[i * d + k];
            sum += v * v;
        }
        double length = sqrt(sum);
        double scale = 1 / (length > 1e-12 ? length : 1e-12);
        for (int64_t k = 0; k < d; k++) {
            if (is_double) {
                ((double *)out)[i * d + k] *= scale;
            } else {
                float *v = &((float *)out)[i * d + k];
                *v = (float)(*v * scale);
            }
        }
    }
}

static rc_value
output_value(const rc_graph *g, rc_role role)
{
    for (int32_t i = 0; i < g->n_outputs; i++) {
        if (g->outputs[i].role & role) {
            return g->outputs[i].value;
        }
    }
    return RC_NONE;
}

static rc_status
embed_chunk(rc_model *m, rc_plan *p, const rc_images *images, int64_t from, int64_t count,
            bool flip, char *out, const rc_poll *poll, rc_error *err)
{
    int64_t d = m->info.dimension;
    rc_value v = output_value(m->graph, RC_ROLE_EVAL);
    size_t bytes = (size_t)(count * d) * m->real_size;
    RC_TRY(load_images(m, p, images, from, count, false, err));
    RC_TRY(run_steps(m, p, 0, p->n_steps, poll));
    memcpy(out, rc_plan_value(p, v), bytes);
    if (!flip) {
        return RC_OK;
    }
    RC_TRY(load_images(m, p, images, from, count, true, err));
    RC_TRY(run_steps(m, p, 0, p->n_steps, poll));
    for (int64_t i = 0; i < count * d; i++) {
        if (m->info.is_double) {
            double *y = (double *)(void *)out + i;
            *y = 0.5 * (*y + ((const double *)rc_plan_value(p, v))[i]);
        } else {
            float *y = (float *)(void *)out + i;
            *y = 0.5f * (*y + ((const float *)rc_plan_value(p, v))[i]);
        }
    }
    return RC_OK;
}

static rc_status
embed(rc_model *m, const rc_images *images, bool flip, bool normalize, int64_t batch, void *out,
      const rc_poll *poll, rc_error *err)
{
    RC_TRY(check_images(m, images, true, err));
    if (output_value(m->graph, RC_ROLE_EVAL) == RC_NONE) {
        return rc_fail(err, RC_ARGUMENT, "embed: this network has no output 'embedding'");
    }
    if (batch < 0) {
        return rc_fail(err, RC_ARGUMENT, "batch_size: expected 1 or more, got %lld",
                       (long long)batch);
    }
    if (!images->n) {
        return RC_OK;
    }
    int64_t most = batch ? batch : EMBED_BATCH, n = images->n;
    int64_t chunks = (n + most - 1) / most, size = (n + chunks - 1) / chunks; /* even chunks */
    rc_plan_spec spec = {.kind = RC_PLAN_EVAL, .n = size};
    rc_plan *p = NULL;
    RC_TRY(rc_model_plan(m, &spec, &p, err));
    if (m->ran == p) {
        m->ran = NULL;
    }
    RC_TRY(rc_plan_ready(m, p, err));
    for (int64_t from = 0; from < n; from += size) {
        int64_t count = n - from < size ? n - from : size;
        char *to = (char *)out + (size_t)(from * m->info.dimension) * m->real_size;
        RC_TRY(embed_chunk(m, p, images, from, count, flip, to, poll, err));
    }
    if (normalize) {
        normalize_rows(out, n, m->info.dimension, m->info.is_double);
    }
    return RC_OK;
}

rc_status
rc_model_embed(rc_model *m, const rc_images *images, bool flip, bool normalize, int64_t batch,
               void *out, const rc_poll *poll, rc_error *err)
{
    rc_model_lock(m);
    rc_status status = embed(m, images, flip, normalize, batch, out, poll, err);
    rc_model_unlock(m);
    return status;
}

/* ---- training ------------------------------------------------------------------------------------ */

static void
commit(rc_model *m, rc_plan *p)
{
    (void)run_steps(m, p, p->n_backward, p->n_steps, NULL);
    m->step++;
    rc_model_touch(m);
}

static rc_status
forward(rc_model *m, const rc_images *images, bool training, const int64_t *planes,
        const rc_poll *poll, rc_error *err)
{
    RC_TRY(check_images(m, images, !training, err));
    rc_plan_spec spec = {.kind = training ? RC_PLAN_TRAIN : RC_PLAN_EVAL,
                         .n = images->n,
                         .given_planes = planes != NULL,
                         .input_gradient = training};
    rc_plan *p = NULL;
    if (!images->n) {
        return rc_fail(err, RC_ARGUMENT, "images: expected at least one, got an empty batch");
    }
    RC_TRY(prepare(m, &spec, images, planes, &p, err));
    m->current_step = training ? m->step : m->current_step;
    RC_TRY(run_steps(m, p, 0, p->n_forward, poll));
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

static void
nhwc_to_nchw(const char *x, const rc_shape *s, size_t size, char *y)
{
    int64_t positions = s->d[2] * s->d[3];
    for (int64_t i = 0; i < s->d[0]; i++) {
        for (int64_t c = 0; c < s->d[1]; c++) {
            for (int64_t q = 0; q < positions; q++) {
                memcpy(y + (size_t)((i * s->d[1] + c) * positions + q) * size,
                       x + (size_t)((i * positions + q) * s->d[1] + c) * size, size);
            }
        }
    }
}

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

/* Backward steps into the weights' gradients. Those that are already there would be left half
 * added to if it were stopped, so it is not. */
static rc_status
accumulate(rc_model *m, rc_plan *p, bool assign, const rc_poll *poll)
{
    const rc_graph *g = m->graph;
    bool fresh = !m->has_gradients;
    if (fresh && !assign) {
        rc_model_zero_grad(m);
    }
    for (int32_t i = 0; assign && i < g->n_states; i++) {
        if (p->untouched[i] && m->gradient[i]) {
            memset(m->gradient[i], 0,
                   (size_t)rc_shape_count(&g->states[i].shape) * m->real_size);
        }
    }
    if (assign) {
        m->has_gradients = false; /* overwritten from here on */
    }
    set_accumulation(p, !assign);
    RC_TRY(run_steps(m, p, p->n_forward, p->n_backward, fresh || assign ? poll : NULL));
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
    status = accumulate(m, p, false, poll);
    if (status == RC_OK && dimages) {
        rc_value v = m->graph->images;
        rc_shape s = p->shapes[v];
        int32_t b = p->gradient_buffer[v];
        if (b >= 0) {
            nhwc_to_nchw(p->arena + p->buffers[b].offset, &s, m->real_size, dimages);
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

/* Forward, losses, backward; nothing of the model has changed yet but its gradients. */
static rc_status
forward_backward(rc_model *m, const rc_images *images, const int64_t *labels,
                 const int64_t *planes, bool assign, rc_plan **out, double *parts,
                 const rc_poll *poll, rc_error *err)
{
    const rc_graph *g = m->graph;
    RC_TRY(check_images(m, images, false, err));
    RC_TRY(check_labels(m, labels, images->n, err));
    rc_plan_spec spec = {.kind = RC_PLAN_LOSS, .n = images->n, .given_planes = planes != NULL};
    rc_plan *p = NULL;
    RC_TRY(prepare(m, &spec, images, planes, &p, err));
    memcpy(p->arena + p->buffers[p->labels_buffer].offset, labels,
           (size_t)images->n * sizeof *labels);
    m->current_step = m->step;
    RC_TRY(run_steps(m, p, 0, p->n_forward, poll));
    int at = 0;
    for (int32_t i = 0; i < g->n_outputs; i++) {
        if (g->outputs[i].role & RC_ROLE_LOSS) {
            const void *value = rc_plan_value(p, g->outputs[i].value);
            parts[at++] = m->info.is_double ? *(const double *)value : *(const float *)value;
        }
    }
    *out = p;
    return accumulate(m, p, assign, poll);
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
                    const int64_t *planes, rc_optimizer *optimizer, double *parts,
                    const rc_poll *poll, rc_error *err)
{
    rc_plan *p = NULL;
    rc_model_lock(m);
    rc_status status = forward_backward(m, images, labels, planes, true, &p, parts, poll, err);
    if (status == RC_OK && poll && poll->stop && poll->stop(poll->context)) {
        status = RC_INTERRUPTED; /* the last moment at which nothing has changed */
    }
    if (status == RC_OK) {
        status = rc_optimizer_step(optimizer, err);
    }
    if (status == RC_OK) {
        commit(m, p);
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
