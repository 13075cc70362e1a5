/* Grad-CAM (spec/common.md 8): the score that was asked for, its gradient at a feature map, and the
 * map made from both (eval/grad_cam.c). Plans, layers and heads by name: explain.c. */
#include <math.h>
#include <string.h>

#include "eval/eval.h"
#include "plan/plan.h"

/* ---- the score ----------------------------------------------------------------------- */

/* A checked request: which plan, and where the gradient starts. */
typedef struct cam_job {
    const rc_cam_request *request;
    rc_plan_spec spec;
    rc_value head;   /* of `request->head`, or RC_NONE: all */
    double weight;   /* of a head's logit in the score */
    int64_t classes, dimension;
} cam_job;

static rc_value
embedding_of(const rc_graph *g)
{
    for (int32_t i = 0; i < g->n_outputs; i++) {
        if (g->outputs[i].role & RC_ROLE_EVAL) {
            return g->outputs[i].value;
        }
    }
    return RC_NONE;
}

/* A map whose own classifier is its score (the MFA page: logit_i of branch.i); not a mean. */
static bool
has_own_head(const rc_graph *g, rc_value map)
{
    bool found = map == RC_NONE;
    for (int32_t i = 0; i < g->n_cams; i++) {
        found |= g->cams[i] == map;
    }
    return g->cam_heads && found;
}

static rc_status
class_job(const rc_model *m, int64_t n, cam_job *job, rc_error *err)
{
    const rc_cam_request *rq = job->request;
    job->head = RC_NONE;
    if (rq->head) {
        RC_TRY(rc_explain_head(m, rq->head, &job->head, err));
    } else if (!m->n_heads) {
        return rc_fail(err, RC_ARGUMENT,
                       "target: a class needs a classifier, and this network has no identity loss; "
                       "name its logits with head=, or give an embedding to be similar to or "
                       "'norm'");
    }
    bool mean = !rq->head || (rq->target == RC_CAM_BEST && m->n_heads);
    job->spec.source = mean ? RC_EVERY : job->head;
    job->classes = rc_graph_shape(m->graph, mean ? m->heads[0] : job->head).d[1];
    job->weight = rq->head || has_own_head(m->graph, job->spec.map) ? 1 : 1 / (double)m->n_heads;
    for (int64_t i = 0; rq->target == RC_CAM_CLASS && i < rq->count; i++) {
        if (rq->classes[i] < 0 || rq->classes[i] >= job->classes) {
            return rc_fail(err, RC_ARGUMENT, "target: expected classes from 0 to %lld, got %lld",
                           (long long)job->classes - 1, (long long)rq->classes[i]);
        }
    }
    if (rq->target == RC_CAM_CLASS && rq->count != 1 && rq->count != n) {
        return rc_fail(err, RC_ARGUMENT, "target: expected one class or %lld, one an image, got "
                       "%lld", (long long)n, (long long)rq->count);
    }
    return RC_OK;
}

static rc_status
embedding_job(const rc_model *m, int64_t n, cam_job *job, rc_error *err)
{
    const rc_cam_request *rq = job->request;
    job->spec.source = embedding_of(m->graph);
    job->dimension = m->info.dimension;
    if (job->spec.source == RC_NONE) {
        return rc_fail(err, RC_ARGUMENT, "target: this network has no output 'embedding'");
    }
    if (rq->head) {
        return rc_fail(err, RC_ARGUMENT, "head: '%.60s' goes with a class as target, not with the "
                       "embedding", rq->head);
    }
    if (rq->target == RC_CAM_SIMILAR && rq->count != 1 && rq->count != n) {
        return rc_fail(err, RC_ARGUMENT, "target: expected one embedding or %lld, one an image, "
                       "got %lld", (long long)n, (long long)rq->count);
    }
    for (int64_t i = 0; rq->target == RC_CAM_SIMILAR && i < rq->count; i++) {
        double sum = 0;
        for (int64_t k = 0; k < job->dimension; k++) {
            sum += rq->references[i * job->dimension + k] * rq->references[i * job->dimension + k];
        }
        if (!isfinite(sum) || sum < 1e-24) {
            return rc_fail(err, RC_ARGUMENT, "target: row %lld: expected finite numbers, not all "
                           "zero, got %s", (long long)i, sum < 1e-24 ? "zeros" : "NaN or infinity");
        }
    }
    return RC_OK;
}

static double
real_at(const rc_model *m, const void *x, int64_t i)
{
    return m->info.is_double ? ((const double *)x)[i] : (double)((const float *)x)[i];
}

static void
put_real(const rc_model *m, void *x, int64_t i, double value)
{
    if (m->info.is_double) {
        ((double *)x)[i] = value;
    } else {
        ((float *)x)[i] = (float)value;
    }
}

/* Where the gradient of v goes before backward, all zero; NULL: it leads to no map. */
static void *
empty_gradient(const rc_model *m, const rc_plan *p, rc_value v)
{
    int32_t b = p->gradient_buffer[v];
    if (b < 0) {
        return NULL;
    }
    void *to = rc_plan_host(p, b);
    memset(to, 0, (size_t)rc_shape_count(&p->shapes[v]) * m->real_size);
    return to;
}

/* The class with the highest mean logit of image i; ties: the lowest. */
static int64_t
best_class(const rc_model *m, const rc_plan *p, const cam_job *job, int64_t i)
{
    int64_t best = 0;
    double most = -INFINITY;
    bool all = job->spec.source == RC_EVERY;
    for (int64_t k = 0; k < job->classes; k++) {
        double sum = 0;
        for (int32_t h = 0; h < (all ? m->n_heads : 1); h++) {
            const void *logits = rc_plan_value(p, all ? m->heads[h] : job->head);
            sum += real_at(m, logits, i * job->classes + k);
        }
        if (sum > most) {
            most = sum;
            best = k;
        }
    }
    return best;
}

static void
seed_classes(const rc_model *m, const rc_plan *p, const cam_job *job, int64_t from, int64_t count)
{
    const rc_cam_request *rq = job->request;
    bool all = job->spec.source == RC_EVERY;
    for (int32_t h = 0; h < (all ? m->n_heads : 1); h++) {
        rc_value v = all ? m->heads[h] : job->head;
        void *to = empty_gradient(m, p, v);
        for (int64_t i = 0; to && (job->head == RC_NONE || job->head == v) && i < count; i++) {
            int64_t c = rq->target == RC_CAM_BEST ? best_class(m, p, job, i)
                                                  : rq->classes[rq->count > 1 ? from + i : 0];
            put_real(m, to, i * job->classes + c, job->weight);
        }
    }
}

/* y = <f,r> / (|f| |r|), lengths at least 1e-12: dy = (r/|r| - y f/|f|) / |f|.
 * y = |f|^2 / 2: dy = f, but 0 where f has unit length whatever the image is. */
static void
seed_embeddings(const rc_model *m, const rc_plan *p, const cam_job *job, int64_t from,
                int64_t count)
{
    const rc_cam_request *rq = job->request;
    const void *f = rc_plan_value(p, job->spec.source);
    void *to = empty_gradient(m, p, job->spec.source);
    int64_t d = job->dimension;
    for (int64_t i = 0; to && i < count; i++) {
        if (rq->target == RC_CAM_NORM) {
            for (int64_t k = 0; k < d; k++) {
                put_real(m, to, i * d + k, rc_model_unit_embedding(m) ? 0
                                                                      : real_at(m, f, i * d + k));
            }
            continue;
        }
        const double *r = rq->references + (rq->count > 1 ? from + i : 0) * d;
        double ff = 0, rr = 0, fr = 0;
        for (int64_t k = 0; k < d; k++) {
            double v = real_at(m, f, i * d + k);
            ff += v * v;
            rr += r[k] * r[k];
            fr += v * r[k];
        }
        double length = sqrt(ff), of_r = sqrt(rr), y = fr / of_r;
        bool clamped = length < 1e-12;
        length = clamped ? 1e-12 : length;
        for (int64_t k = 0; k < d; k++) {
            double along = clamped ? 0 : y * real_at(m, f, i * d + k) / ff;
            put_real(m, to, i * d + k, (r[k] / of_r - along) / length);
        }
    }
}

bool
rc_model_unit_embedding(const rc_model *m)
{
    rc_value v = embedding_of(m->graph);
    return v != RC_NONE && m->graph->values[v].kind == RC_VALUE_COMPUTED
           && m->graph->nodes[m->graph->values[v].index].op == RC_OP_normalize;
}

/* ---- the maps -------------------------------------------------------------------------- */

/* The maps of a run, added up into cam (count,h,w). */
static rc_status
add_maps(const rc_model *m, const rc_plan *p, const cam_job *job, int64_t count, double *cam,
         rc_error *err)
{
    const rc_graph *g = m->graph;
    int32_t n = job->spec.map == RC_NONE ? g->n_cams : 1;
    for (int32_t i = 0; i < n; i++) {
        rc_value v = job->spec.map == RC_NONE ? g->cams[i] : job->spec.map;
        int32_t b = p->gradient_buffer[v];
        rc_shape s = rc_graph_shape(g, v);
        rc_cam_layer layer = {
            .map = rc_plan_value(p, v),
            .gradient = b < 0 ? NULL : rc_plan_host(p, b),
            .is_double = m->info.is_double,
            .n = count, .h = s.d[2], .w = s.d[3], .c = s.d[1],
        };
        RC_TRY(rc_cam_add(&layer, job->request->activation, m->info.threads, cam, err));
    }
    return RC_OK;
}

/* On a device: maps, and the outputs that scores are made of, or the maps' gradients, to the host. */
static rc_status
copy_seen(const rc_model *m, const rc_plan *p, bool gradients, rc_error *err)
{
    for (rc_value v = 0; p->on && v < m->graph->n_values; v++) {
        bool map = rc_explain_is_map(m, &p->spec, v);
        if (map || (!gradients && rc_explain_is_source(m, &p->spec, v))) {
            RC_TRY(rc_plan_pull(p, (gradients ? p->gradient_buffer : p->value_buffer)[v], err));
        }
    }
    return rc_plan_wait(p, err);
}

static rc_status
push_sources(const rc_model *m, const rc_plan *p, rc_error *err)
{
    for (rc_value v = 0; p->on && v < m->graph->n_values; v++) {
        RC_TRY(rc_explain_is_source(m, &p->spec, v) ? rc_plan_push(p, p->gradient_buffer[v], err)
                                                    : RC_OK);
    }
    return RC_OK;
}

static rc_status
cam_chunk(rc_model *m, rc_plan *p, const cam_job *job, const rc_images *images, int64_t from,
          int64_t count, double *cam, void *out, const rc_poll *poll, rc_error *err)
{
    rc_value v = job->spec.map == RC_NONE ? m->graph->cams[0] : job->spec.map;
    rc_shape s = rc_graph_shape(m->graph, v);
    RC_TRY(rc_load_images(m, p, images, from, count, false, err));
    RC_TRY(rc_run_steps(m, p, 0, p->n_forward, poll, err));
    RC_TRY(copy_seen(m, p, false, err));
    if (p->spec.kind == RC_PLAN_EXPLAIN) {
        bool classes = job->request->target <= RC_CAM_CLASS;
        (classes ? seed_classes : seed_embeddings)(m, p, job, from, count);
        RC_TRY(push_sources(m, p, err));
        RC_TRY(rc_run_steps(m, p, p->n_forward, p->n_backward, poll, err));
        RC_TRY(copy_seen(m, p, true, err));
    }
    memset(cam, 0, (size_t)(count * s.d[2] * s.d[3]) * sizeof *cam);
    RC_TRY(add_maps(m, p, job, count, cam, err));
    rc_cam_finish(cam, count, s.d[2], s.d[3], job->request->activation, m->info.height,
                  m->info.width, m->info.is_double, m->info.threads, out);
    return RC_OK;
}

static rc_status
grad_cam(rc_model *m, const rc_images *images, const rc_cam_request *rq, void *out,
         const rc_poll *poll, rc_error *err)
{
    cam_job job = {.request = rq, .spec = {.kind = RC_PLAN_EXPLAIN}};
    RC_TRY(rc_check_images(m, images, true, err));
    RC_TRY(rc_explain_layer(m, rq->layer, &job.spec.map, err));
    if (rq->activation) {
        job.spec.kind = RC_PLAN_LOOK;
    } else if (rq->target <= RC_CAM_CLASS) {
        RC_TRY(class_job(m, images->n, &job, err));
    } else {
        RC_TRY(embedding_job(m, images->n, &job, err));
    }
    if (!images->n) {
        return RC_OK;
    }
    rc_plan *p = NULL;
    RC_TRY(rc_explain_chunk(m, job.spec, images->n, &job.spec.n, err));
    RC_TRY(rc_explain_plan(m, &job.spec, &p, err));
    rc_shape s = rc_graph_shape(m->graph, rq->layer ? job.spec.map : m->graph->cams[0]);
    double *cam = rc_alloc(job.spec.n * s.d[2] * s.d[3], sizeof *cam), last = rc_seconds();
    rc_status status = cam ? RC_OK : rc_fail(err, RC_MEMORY, "out of memory for the maps");
    for (int64_t from = 0; status == RC_OK && from < images->n; from += p->spec.n) {
        int64_t left = images->n - from, count = left < p->spec.n ? left : p->spec.n;
        char *to = (char *)out + (size_t)(from * m->info.height * m->info.width) * m->real_size;
        status = rc_asked_to_stop(poll, &last)
                     ? RC_INTERRUPTED
                     : cam_chunk(m, p, &job, images, from, count, cam, to, poll, err);
    }
    rc_free(cam);
    return status;
}

rc_status
rc_model_grad_cam(rc_model *m, const rc_images *images, const rc_cam_request *request, void *out,
                  const rc_poll *poll, rc_error *err)
{
    rc_model_lock(m);
    rc_status status = grad_cam(m, images, request, out, poll, err);
    rc_model_unlock(m);
    return status;
}
