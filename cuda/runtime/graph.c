/* Convolutions as graphs of cuDNN's backend interface: forward with what follows it (residual, bias,
 * ReLU), and both gradients. A graph is described, the engines that are recommended for it are gone
 * through in their order, and the first is taken that may be used and can be made: deterministic,
 * and for float32 without TF32 unless it was asked for. With REIDC_CUDA_TUNE=1 the first few are
 * timed instead.
 *
 * Tensors are told as n, c, h, w with the strides of n, h, w, c; weights as k, c/groups, kh, kw with
 * those of k, kh, kw, c/groups. */
#include <stdio.h>
#include <string.h>

#include "runtime.h"

#define MOST_PARTS 48      /* descriptors of one graph */
#define MOST_ENGINES 16    /* recommendations that are looked at, per mode */
#define MOST_TIMED 6
#define MOST_WORKSPACE (INT64_C(1) << 30)

/* A graph under construction: everything it is made of goes when the plan is there. */
typedef struct maker {
    rc_device *d;
    rc_error *err;
    cudnnBackendDescriptor_t parts[MOST_PARTS];
    int n_parts;
    cudnnBackendDescriptor_t operations[4];
    int n_operations;
    cudnnDataType_t type; /* of tensors in memory */
    rc_status status; /* the first failure; later calls do nothing */
} maker;

static bool
fine(maker *m, cudnnStatus_t code, const char *what)
{
    if (m->status == RC_OK && code != CUDNN_STATUS_SUCCESS) {
        m->status = rc_cudnn_status(m->d, code, what, m->err);
        if (code >= CUDNN_STATUS_NOT_SUPPORTED && code < CUDNN_STATUS_MAPPING_ERROR) {
            m->status = RC_UNSUPPORTED;
        }
    }
    return m->status == RC_OK;
}

static cudnnBackendDescriptor_t
new_part(maker *m, cudnnBackendDescriptorType_t type)
{
    cudnnBackendDescriptor_t part = NULL;
    if (m->status == RC_OK && m->n_parts == MOST_PARTS) {
        m->status = rc_fail(m->err, RC_INTERNAL, "cuDNN: a graph of more than %d parts",
                            MOST_PARTS);
    }
    if (m->status == RC_OK
        && fine(m, m->d->lib->cudnnBackendCreateDescriptor(type, &part), "a descriptor")) {
        m->parts[m->n_parts++] = part;
    }
    return part;
}

static void
set(maker *m, cudnnBackendDescriptor_t part, cudnnBackendAttributeName_t name,
    cudnnBackendAttributeType_t type, int64_t count, const void *values)
{
    if (m->status == RC_OK) {
        fine(m, m->d->lib->cudnnBackendSetAttribute(part, name, type, count, values),
             "an attribute");
    }
}

static void
set_part(maker *m, cudnnBackendDescriptor_t part, cudnnBackendAttributeName_t name,
         cudnnBackendDescriptor_t value)
{
    set(m, part, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

static void
finish(maker *m, cudnnBackendDescriptor_t part, const char *what)
{
    if (m->status == RC_OK) {
        fine(m, m->d->lib->cudnnBackendFinalize(part), what);
    }
}

/* ---- the graph ------------------------------------------------------------------------------------- */

static cudnnBackendDescriptor_t
tensor(maker *m, int64_t uid, const int64_t dims[4], bool is_virtual)
{
    cudnnBackendDescriptor_t t = new_part(m, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    cudnnDataType_t type = is_virtual ? CUDNN_DATA_FLOAT : m->type;
    int64_t strides[4] = {dims[1] * dims[2] * dims[3], 1, dims[3] * dims[1], dims[1]};
    int64_t alignment = 16;
    set(m, t, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(m, t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims);
    set(m, t, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides);
    set(m, t, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid);
    set(m, t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    set(m, t, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual);
    finish(m, t, "a tensor");
    return t;
}

static void
add_convolution(maker *m, const rc_conv *c, cudnnBackendDescriptor_t x,
                cudnnBackendDescriptor_t w, cudnnBackendDescriptor_t y)
{
    static const struct {
        cudnnBackendDescriptorType_t type;
        cudnnBackendAttributeName_t convolution, x, w, y, alpha, beta;
    } passes[3] = {
        {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
        {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
        {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
    };
    cudnnBackendDescriptor_t convolution = new_part(m, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    cudnnDataType_t type = CUDNN_DATA_FLOAT;
    cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    int64_t two = 2, pad[2] = {c->pad, c->pad}, stride[2] = {c->stride, c->stride},
            dilation[2] = {1, 1};
    float alpha = 1, beta = 0;
    set(m, convolution, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(m, convolution, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set(m, convolution, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &two);
    set(m, convolution, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    set(m, convolution, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    set(m, convolution, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride);
    set(m, convolution, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    finish(m, convolution, "a convolution");
    cudnnBackendDescriptor_t o = new_part(m, passes[c->pass].type);
    set_part(m, o, passes[c->pass].convolution, convolution);
    set_part(m, o, passes[c->pass].x, x);
    set_part(m, o, passes[c->pass].w, w);
    set_part(m, o, passes[c->pass].y, y);
    set(m, o, passes[c->pass].alpha, CUDNN_TYPE_FLOAT, 1, &alpha);
    set(m, o, passes[c->pass].beta, CUDNN_TYPE_FLOAT, 1, &beta);
    finish(m, o, "a convolution");
    m->operations[m->n_operations++] = o;
}

/* y = x + b, or ReLU (b NULL). */
static void
add_pointwise(maker *m, cudnnPointwiseMode_t mode, float slope, cudnnBackendDescriptor_t x,
              cudnnBackendDescriptor_t b, cudnnBackendDescriptor_t y)
{
    cudnnBackendDescriptor_t p = new_part(m, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    cudnnDataType_t type = CUDNN_DATA_FLOAT;
    set(m, p, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    set(m, p, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &type);
    if (!b) {
        double below = slope;
        set(m, p, CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP_SLOPE, CUDNN_TYPE_DOUBLE, 1, &below);
    }
    finish(m, p, "a pointwise step");
    cudnnBackendDescriptor_t o = new_part(m, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    set_part(m, o, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, p);
    set_part(m, o, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    if (b) {
        set_part(m, o, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b);
    }
    set_part(m, o, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    finish(m, o, "a pointwise step");
    m->operations[m->n_operations++] = o;
}

static cudnnBackendDescriptor_t
graph_of(maker *m, const rc_conv *c)
{
    int64_t x_dims[4] = {c->n, c->c, c->h, c->w}, y_dims[4] = {c->n, c->k, c->oh, c->ow},
            w_dims[4] = {c->k, c->c / c->groups, c->kh, c->kw}, bias_dims[4] = {1, c->k, 1, 1};
    int follow = c->residual + c->bias + c->relu;
    int64_t made = RC_UID_VIRTUAL;
    cudnnBackendDescriptor_t x = tensor(m, RC_UID_X, x_dims, false),
                             w = tensor(m, RC_UID_W, w_dims, false),
                             y = tensor(m, follow ? made++ : RC_UID_Y, y_dims, follow > 0);
    add_convolution(m, c, x, w, y);
    if (c->residual) {
        cudnnBackendDescriptor_t r = tensor(m, RC_UID_RESIDUAL, y_dims, false), from = y;
        follow--;
        y = tensor(m, follow ? made++ : RC_UID_Y, y_dims, follow > 0);
        add_pointwise(m, CUDNN_POINTWISE_ADD, 0, from, r, y);
    }
    if (c->bias) {
        cudnnBackendDescriptor_t b = tensor(m, RC_UID_BIAS, bias_dims, false), from = y;
        follow--;
        y = tensor(m, follow ? made++ : RC_UID_Y, y_dims, follow > 0);
        add_pointwise(m, CUDNN_POINTWISE_ADD, 0, from, b, y);
    }
    if (c->relu) {
        cudnnBackendDescriptor_t from = y;
        y = tensor(m, RC_UID_Y, y_dims, false);
        add_pointwise(m, CUDNN_POINTWISE_RELU_FWD, c->slope, from, NULL, y);
    }
    cudnnBackendDescriptor_t graph = new_part(m, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set(m, graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &m->d->cudnn);
    set(m, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, m->n_operations,
        m->operations);
    finish(m, graph, "a graph");
    return graph;
}

/* ---- engines ------------------------------------------------------------------------------------------ */

/* Whether the engine of a recommended configuration may be used. */
static bool
is_allowed(maker *m, cudnnBackendDescriptor_t config)
{
    const rc_libraries *lib = m->d->lib;
    cudnnBackendDescriptor_t engine = NULL;
    cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    int64_t got = 0;
    bool allowed = lib->cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine)
                   == CUDNN_STATUS_SUCCESS;
    allowed = allowed
              && lib->cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE,
                                               CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &got, &engine)
                     == CUDNN_STATUS_SUCCESS
              && lib->cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                               CUDNN_TYPE_NUMERICAL_NOTE,
                                               CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &got, notes)
                     == CUDNN_STATUS_SUCCESS;
    for (int64_t i = 0; allowed && i < got; i++) {
        switch (notes[i]) {
        case CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC:
        case CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION:
        case CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS:
            allowed = false;
            break;
        case CUDNN_NUMERICAL_NOTE_TENSOR_CORE: /* of float32: TF32 */
            allowed = m->d->tf32 || m->type != CUDNN_DATA_FLOAT;
            break;
        default:
            break;
        }
    }
    if (engine) {
        lib->cudnnBackendDestroyDescriptor(engine);
    }
    return allowed;
}

/* The configuration as a plan; NULL: it cannot be made, or needs too much workspace. */
static cudnnBackendDescriptor_t
plan_of(maker *m, cudnnBackendDescriptor_t config, int64_t *workspace)
{
    const rc_libraries *lib = m->d->lib;
    cudnnBackendDescriptor_t plan = NULL;
    int64_t got = 0;
    if (lib->cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &plan)
        != CUDNN_STATUS_SUCCESS) {
        return NULL;
    }
    if (lib->cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1,
                                      &m->d->cudnn) == CUDNN_STATUS_SUCCESS
        && lib->cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG,
                                         CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &config)
               == CUDNN_STATUS_SUCCESS
        && lib->cudnnBackendFinalize(plan) == CUDNN_STATUS_SUCCESS
        && lib->cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                         CUDNN_TYPE_INT64, 1, &got, workspace)
               == CUDNN_STATUS_SUCCESS
        && *workspace <= MOST_WORKSPACE) {
        return plan;
    }
    lib->cudnnBackendDestroyDescriptor(plan);
    return NULL;
}

/* ---- timing --------------------------------------------------------------------------------------------- */

/* Milliseconds of one run, on memory of its own whose content does not matter; < 0: it failed. */
static float
time_of(rc_device *d, const rc_conv *c, cudnnBackendDescriptor_t plan, int64_t workspace)
{
    int64_t bytes[6] = {0};
    void *memory[6] = {NULL};
    rc_conv_plan p = {*c, plan, workspace};
    cudaEvent_t from = NULL, to = NULL;
    float best = -1;
    bool there = cudaEventCreate(&from) == cudaSuccess && cudaEventCreate(&to) == cudaSuccess;
    bytes[0] = c->n * c->c * c->h * c->w * 4;
    bytes[1] = c->k * (c->c / c->groups) * c->kh * c->kw * 4;
    bytes[2] = bytes[4] = c->n * c->k * c->oh * c->ow * 4;
    bytes[3] = c->k * 4;
    bytes[5] = workspace;
    for (int i = 0; there && i < 6; i++) {
        there = !bytes[i] || (i == 3 && !c->bias) || (i == 4 && !c->residual)
                || cudaMalloc(&memory[i], (size_t)bytes[i]) == cudaSuccess;
    }
    for (int run = 0; there && run < 4; run++) { /* the first warms up */
        float took = 0;
        (void)cudaEventRecord(from, d->stream);
        rc_conv_run(d, &p, memory[0], memory[1], memory[2], memory[3], memory[4], memory[5]);
        (void)cudaEventRecord(to, d->stream);
        there = cudaEventSynchronize(to) == cudaSuccess
                && cudaEventElapsedTime(&took, from, to) == cudaSuccess && d->failure == RC_OK;
        best = run > 0 && (best < 0 || took < best) ? took : best;
    }
    (void)cudaGetLastError();
    d->failure = RC_OK;
    for (int i = 0; i < 6; i++) {
        (void)cudaFree(memory[i]);
    }
    if (from) {
        (void)cudaEventDestroy(from);
    }
    if (to) {
        (void)cudaEventDestroy(to);
    }
    return there ? best : -1;
}

/* ---- choosing ------------------------------------------------------------------------------------------- */

typedef struct chosen {
    cudnnBackendDescriptor_t plan;
    int64_t workspace;
    float time;
    int tried;
} chosen;

/* One more plan; whether that is enough. */
static bool
consider(maker *m, const rc_conv *c, cudnnBackendDescriptor_t plan, int64_t workspace,
         chosen *best)
{
    if (!m->d->timed) {
        *best = (chosen){plan, workspace, 0, 1};
        return true;
    }
    float took = time_of(m->d, c, plan, workspace);
    best->tried++;
    if (took >= 0 && (!best->plan || took < best->time)) {
        if (best->plan) {
            m->d->lib->cudnnBackendDestroyDescriptor(best->plan);
        }
        *best = (chosen){plan, workspace, took, best->tried};
    } else {
        m->d->lib->cudnnBackendDestroyDescriptor(plan);
    }
    return best->tried >= MOST_TIMED;
}

/* The engines that one mode of the heuristics recommends. */
static bool
go_through(maker *m, const rc_conv *c, cudnnBackendDescriptor_t graph,
           cudnnBackendHeurMode_t mode, chosen *best)
{
    const rc_libraries *lib = m->d->lib;
    cudnnBackendDescriptor_t heuristics = NULL, configs[MOST_ENGINES] = {NULL};
    int64_t got = 0;
    int made = 0;
    bool enough = false;
    if (lib->cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, &heuristics)
        != CUDNN_STATUS_SUCCESS) {
        return false;
    }
    while (made < MOST_ENGINES
           && lib->cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &configs[made])
                  == CUDNN_STATUS_SUCCESS) {
        made++;
    }
    if (lib->cudnnBackendSetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH,
                                      CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &graph)
            != CUDNN_STATUS_SUCCESS
        || lib->cudnnBackendSetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_MODE,
                                         CUDNN_TYPE_HEUR_MODE, 1, &mode) != CUDNN_STATUS_SUCCESS
        || lib->cudnnBackendFinalize(heuristics) != CUDNN_STATUS_SUCCESS
        || lib->cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                         CUDNN_TYPE_BACKEND_DESCRIPTOR, made, &got, configs)
               != CUDNN_STATUS_SUCCESS) {
        got = 0;
    }
    for (int64_t i = 0; !enough && i < got && i < made; i++) {
        int64_t workspace = 0;
        cudnnBackendDescriptor_t plan =
            is_allowed(m, configs[i]) ? plan_of(m, configs[i], &workspace) : NULL;
        enough = plan && consider(m, c, plan, workspace, best);
    }
    for (int i = 0; i < made; i++) {
        lib->cudnnBackendDestroyDescriptor(configs[i]);
    }
    lib->cudnnBackendDestroyDescriptor(heuristics);
    return enough;
}

rc_status
rc_conv_plan_make(rc_device *d, const rc_conv *c, rc_conv_plan *out, rc_error *err)
{
    maker m = {.d = d, .err = err,
               .type = c->type == RC_CUDA_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT};
    chosen best = {0};
    cudnnBackendDescriptor_t graph = graph_of(&m, c);
    if (m.status == RC_OK && !go_through(&m, c, graph, CUDNN_HEUR_MODE_A, &best) && !best.plan) {
        (void)go_through(&m, c, graph, CUDNN_HEUR_MODE_FALLBACK, &best);
    }
    for (int i = m.n_parts - 1; i >= 0; i--) {
        d->lib->cudnnBackendDestroyDescriptor(m.parts[i]);
    }
    if (m.status == RC_OK && !best.plan) {
        m.status = rc_fail(err, RC_UNSUPPORTED,
                           "cuDNN: no deterministic%s engine for a convolution of %lldx%lldx%lldx%"
                           "lld with %lld %lldx%lld filters, stride %lld, padding %lld, groups "
                           "%lld", d->tf32 || c->type == RC_CUDA_BF16 ? "" : " float32", (long long)c->n, (long long)c->c,
                           (long long)c->h, (long long)c->w, (long long)c->k, (long long)c->kh,
                           (long long)c->kw, (long long)c->stride, (long long)c->pad,
                           (long long)c->groups);
    }
    *out = (rc_conv_plan){*c, best.plan, best.workspace};
    return m.status;
}

void
rc_conv_plan_free(const rc_device *d, rc_conv_plan *plan)
{
    if (plan->plan) {
        d->lib->cudnnBackendDestroyDescriptor(plan->plan);
    }
    plan->plan = NULL;
}

/* ---- running ---------------------------------------------------------------------------------------------- */

void
rc_conv_run(rc_device *d, const rc_conv_plan *plan, void *x, void *w, void *y, void *bias,
            void *residual, void *workspace)
{
    const rc_libraries *lib = d->lib;
    int64_t uids[5] = {RC_UID_X, RC_UID_W, RC_UID_Y};
    void *pointers[5] = {x, w, y};
    int64_t n = 3;
    cudnnBackendDescriptor_t pack = NULL;
    if (plan->c.bias) {
        uids[n] = RC_UID_BIAS;
        pointers[n++] = bias;
    }
    if (plan->c.residual) {
        uids[n] = RC_UID_RESIDUAL;
        pointers[n++] = residual;
    }
    cudnnStatus_t code =
        lib->cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack);
    if (code == CUDNN_STATUS_SUCCESS) {
        code = lib->cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS,
                                             CUDNN_TYPE_INT64, n, uids);
    }
    if (code == CUDNN_STATUS_SUCCESS) {
        code = lib->cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS,
                                             CUDNN_TYPE_VOID_PTR, n, pointers);
    }
    if (code == CUDNN_STATUS_SUCCESS) {
        code = lib->cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE,
                                             CUDNN_TYPE_VOID_PTR, 1, &workspace);
    }
    if (code == CUDNN_STATUS_SUCCESS) {
        code = lib->cudnnBackendFinalize(pack);
    }
    if (code == CUDNN_STATUS_SUCCESS) {
        code = lib->cudnnBackendExecute(d->cudnn, plan->plan, pack);
    }
    if (pack) {
        lib->cudnnBackendDestroyDescriptor(pack);
    }
    if (code != CUDNN_STATUS_SUCCESS) {
        rc_note_failure(d, "cuDNN: a convolution", lib->cudnnGetErrorString(code));
    }
}
