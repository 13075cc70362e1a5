/* Matrix products by cuBLASLt: plans, fully connected layers, products of stacks of matrices.
 *
 * cuBLASLt's matrices lie column by column: a row-major C = A B is its C' = B' A', so what is asked
 * for here is told with the factors exchanged, and a bias of C's columns is one of its rows. */
#include <stdlib.h>
#include <string.h>

#include "runtime.h"

#define MOST_WORKSPACE (INT64_C(32) << 20)
#define ALIGNED 16 /* bytes that every address in a plan's arena is a multiple of, at least */

/* ---- plans ---------------------------------------------------------------------------------------- */

void
rc_product_plan_free(const rc_device *d, rc_product_plan *plan)
{
    if (plan->operation) {
        d->lib->cublasLtMatmulDescDestroy(plan->operation);
    }
    cublasLtMatrixLayout_t layouts[3] = {plan->a, plan->b, plan->c};
    for (int i = 0; i < 3; i++) {
        if (layouts[i]) {
            d->lib->cublasLtMatrixLayoutDestroy(layouts[i]);
        }
    }
    memset(plan, 0, sizeof *plan);
}

static cudaDataType_t
of_cuda(rc_cuda_type type)
{
    return type == RC_CUDA_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static rc_status
layout(rc_device *d, rc_cuda_type type, int64_t rows, int64_t cols, int64_t ld, int64_t batch,
       int64_t stride, cublasLtMatrixLayout_t *out, rc_error *err)
{
    const rc_libraries *lib = d->lib;
    int32_t count = (int32_t)batch;
    RC_TRY(rc_blas_status(d, lib->cublasLtMatrixLayoutCreate(out, of_cuda(type), (uint64_t)cols,
                                                             (uint64_t)rows, ld), "a layout", err));
    if (batch == 1) {
        return RC_OK;
    }
    RC_TRY(rc_blas_status(d, lib->cublasLtMatrixLayoutSetAttribute(
                                 *out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count),
                          "a layout", err));
    return rc_blas_status(d, lib->cublasLtMatrixLayoutSetAttribute(
                                 *out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride,
                                 sizeof stride), "a layout", err);
}

static rc_status
set(rc_device *d, cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t name,
    const void *value, size_t size, rc_error *err)
{
    return rc_blas_status(d, d->lib->cublasLtMatmulDescSetAttribute(operation, name, value, size),
                          "a product", err);
}

static rc_status
describe(rc_device *d, const rc_product *p, rc_product_plan *out, rc_error *err)
{
    bool tf32 = d->tf32 && p->factors == RC_CUDA_F32;
    cublasComputeType_t compute = tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    cudaDataType_t bias_type = of_cuda(p->result);
    cublasOperation_t first = p->trans_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasOperation_t second = p->trans_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasLtEpilogue_t epilogue = p->bias && p->relu ? CUBLASLT_EPILOGUE_RELU_BIAS
                                  : p->bias          ? CUBLASLT_EPILOGUE_BIAS
                                  : p->relu          ? CUBLASLT_EPILOGUE_RELU
                                                     : CUBLASLT_EPILOGUE_DEFAULT;
    RC_TRY(rc_blas_status(d, d->lib->cublasLtMatmulDescCreate(&out->operation, compute, CUDA_R_32F),
                          "a product", err));
    RC_TRY(set(d, out->operation, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first, err));
    RC_TRY(set(d, out->operation, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second, err));
    RC_TRY(set(d, out->operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue, err));
    if (p->bias) {
        RC_TRY(set(d, out->operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &bias_type,
                   sizeof bias_type, err));
    }
    RC_TRY(layout(d, p->factors, p->trans_b ? p->n : p->k, p->trans_b ? p->k : p->n, p->ldb, p->batch,
                  p->stride_b, &out->a, err));
    RC_TRY(layout(d, p->factors, p->trans_a ? p->k : p->m, p->trans_a ? p->m : p->k, p->lda, p->batch,
                  p->stride_a, &out->b, err));
    return layout(d, p->result, p->m, p->n, p->ldc, p->batch, p->stride_c, &out->c, err);
}

static rc_status
recommended(rc_device *d, rc_product_plan *out, rc_error *err)
{
    const rc_libraries *lib = d->lib;
    cublasLtMatmulPreference_t preference = NULL;
    cublasLtMatmulHeuristicResult_t result;
    size_t most = (size_t)MOST_WORKSPACE;
    uint32_t aligned = ALIGNED;
    /* Parts of a sum meet as float32, never in a bfloat16 result. */
    uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    static const cublasLtMatmulPreferenceAttributes_t alignments[4] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    int found = 0;
    cublasStatus_t code = lib->cublasLtMatmulPreferenceCreate(&preference);
    if (code == CUBLAS_STATUS_SUCCESS) {
        code = lib->cublasLtMatmulPreferenceSetAttribute(
            preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most, sizeof most);
    }
    if (code == CUBLAS_STATUS_SUCCESS) {
        code = lib->cublasLtMatmulPreferenceSetAttribute(
            preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reduction, sizeof reduction);
    }
    for (int i = 0; code == CUBLAS_STATUS_SUCCESS && i < 4; i++) {
        code = lib->cublasLtMatmulPreferenceSetAttribute(preference, alignments[i], &aligned,
                                                         sizeof aligned);
    }
    if (code == CUBLAS_STATUS_SUCCESS) {
        code = lib->cublasLtMatmulAlgoGetHeuristic(d->blas, out->operation, out->a, out->b, out->c,
                                                   out->c, preference, 1, &result, &found);
    }
    if (preference) {
        lib->cublasLtMatmulPreferenceDestroy(preference);
    }
    RC_TRY(rc_blas_status(d, code, "choosing how a product runs", err));
    if (found < 1) {
        return rc_fail(err, RC_UNSUPPORTED, "cuBLAS: no algorithm for a product of %lld x %lld x "
                       "%lld", (long long)out->p.m, (long long)out->p.n, (long long)out->p.k);
    }
    out->algorithm = result.algo;
    out->workspace = (int64_t)result.workspaceSize;
    return RC_OK;
}

rc_status
rc_product_plan_make(rc_device *d, const rc_product *p, rc_product_plan *out, rc_error *err)
{
    memset(out, 0, sizeof *out);
    out->p = *p;
    rc_status status = describe(d, p, out, err);
    status = status == RC_OK ? recommended(d, out, err) : status;
    if (status != RC_OK) {
        rc_product_plan_free(d, out);
    }
    return status;
}

void
rc_product_run(rc_device *d, const rc_product_plan *plan, const void *a, const void *b,
               const void *bias, const void *added, void *c, void *workspace)
{
    const rc_libraries *lib = d->lib;
    float alpha = plan->p.alpha, beta = plan->p.adds ? 1 : 0;
    cublasStatus_t code = CUBLAS_STATUS_SUCCESS;
    if (plan->p.bias) {
        code = lib->cublasLtMatmulDescSetAttribute(
            plan->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
    }
    if (code == CUBLAS_STATUS_SUCCESS) {
        code = lib->cublasLtMatmul(d->blas, plan->operation, &alpha, b, plan->a, a, plan->b, &beta,
                                   added ? added : c, plan->c, c, plan->c, &plan->algorithm,
                                   workspace, (size_t)plan->workspace, d->stream);
    }
    if (code != CUBLAS_STATUS_SUCCESS) {
        rc_note_failure(d, "cuBLAS: a product", lib->cublasLtGetStatusString(code));
    }
}

/* ---- fully connected layers ---------------------------------------------------------------------- */

static rc_status
plan_number(rc_device *d, rc_choice *c, int i, const rc_product *p, rc_error *err)
{
    c->has_product[i] = true;
    RC_TRY(rc_product_plan_make(d, p, &c->products[i], err));
    int64_t bytes = rc_tmp_up(c->products[i].workspace);
    c->tmp = bytes > c->tmp ? bytes : c->tmp;
    return RC_OK;
}

/* Forward: 0, y = x w^T. Backward: 0, dx = D w; 1, dw = D^T x; D = dy before the activation, which
 * lies in tmp where there is one; behind it parts of sums and the workspace. */
rc_status
rc_linear_choose(rc_device *d, const rc_device_request *r, rc_choice *out, rc_error *err)
{
    const rc_call *call = r->call;
    int64_t n = call->ys.d[0], o = call->ys.d[1], i = call->xs[0].d[1];
    int64_t act = call->attrs->act;
    if (r->pass == RC_DEVICE_FORWARD) {
        rc_product p = {.m = n, .n = o, .k = i, .batch = 1, .lda = i, .ldb = i, .ldc = o,
                        .trans_b = true, .alpha = 1,
                        .bias = r->has >> 2 & 1 && act <= RC_ACT_RELU, .relu = act == RC_ACT_RELU};
        out->separate = act > RC_ACT_RELU;
        return plan_number(d, out, 0, &p, err);
    }
    if (r->wanted & 1) {
        rc_product p = {.m = n, .n = i, .k = o, .batch = 1, .lda = o, .ldb = i, .ldc = i,
                        .alpha = 1, .adds = call->add[0]};
        RC_TRY(plan_number(d, out, 0, &p, err));
    }
    if (r->wanted & 2) {
        rc_product p = {.m = o, .n = i, .k = n, .batch = 1, .lda = o, .ldb = i, .ldc = i,
                        .trans_a = true, .alpha = 1, .adds = call->add[1]};
        RC_TRY(plan_number(d, out, 1, &p, err));
    }
    if (r->wanted & 4) {
        int64_t parts = rc_tmp_up(rc_help_sums_parts(n, o) * (int64_t)sizeof(float));
        out->tmp = parts > out->tmp ? parts : out->tmp;
    }
    out->result_at = act != RC_ACT_NONE ? rc_tmp_up(n * o * (int64_t)sizeof(float)) : 0;
    out->tmp += out->result_at;
    return RC_OK;
}

void
rc_linear_step(rc_device *d, const rc_call *call, const void *choice)
{
    const rc_choice *c = choice;
    const void *bias = call->n_in > 2 ? call->x[2] : NULL;
    rc_product_run(d, &c->products[0], call->x[0], call->x[1], bias, NULL, call->y, call->tmp);
    if (c->separate) {
        rc_help_epilogue(d->stream, RC_CUDA_F32, call->y, bias, NULL, call->ys.d[0], call->ys.d[1],
                         (int)call->attrs->act, (float)call->attrs->slope);
    }
}

void
rc_linear_backward_step(rc_device *d, const rc_call *call, const void *choice)
{
    const rc_choice *c = choice;
    const float *dy = call->dy;
    void *scratch = (char *)call->tmp + c->result_at;
    if (call->attrs->act != RC_ACT_NONE) {
        rc_help_before_act(d->stream, call->y, dy, call->tmp, rc_shape_count(&call->ys),
                           (int)call->attrs->act, (float)call->attrs->slope);
        dy = call->tmp;
    }
    if (call->dx[1]) {
        rc_product_run(d, &c->products[1], dy, call->x[0], NULL, NULL, call->dx[1], scratch);
    }
    if (call->n_in > 2 && call->dx[2]) {
        rc_help_column_sums(d->stream, RC_CUDA_F32, dy, call->ys.d[0], call->ys.d[1], call->add[2], call->dx[2],
                            scratch);
    }
    if (call->dx[0]) {
        rc_product_run(d, &c->products[0], dy, call->x[1], NULL, NULL, call->dx[0], scratch);
    }
}

/* ---- stacks of matrices ---------------------------------------------------------------------------- */

/* op(x) op(z), both as stored in stacks of this shape. */
static rc_product
stacked(const rc_shape *x, bool trans_x, const rc_shape *z, bool trans_z, double scale, bool adds)
{
    int64_t m = x->d[trans_x ? 2 : 1], k = x->d[trans_x ? 1 : 2], n = z->d[trans_z ? 1 : 2];
    return (rc_product){.m = m, .n = n, .k = k, .batch = x->d[0], .lda = x->d[2], .ldb = z->d[2],
                        .ldc = n, .stride_a = x->d[1] * x->d[2], .stride_b = z->d[1] * z->d[2],
                        .stride_c = m * n, .trans_a = trans_x, .trans_b = trans_z,
                        .alpha = (float)scale, .adds = adds};
}

/* With D = dy: da = D op(b)^T or, where a is stored transposed, op(b) D^T; db = op(a)^T D or
 * D^T op(a). */
rc_status
rc_matmul_choose(rc_device *d, const rc_device_request *r, rc_choice *out, rc_error *err)
{
    const rc_call *call = r->call;
    const rc_attrs *at = call->attrs;
    const rc_shape *xs = call->xs, *y = &call->ys;
    bool ta = at->trans_a, tb = at->trans_b;
    rc_cuda_type type = r->element == RC_BF16 ? RC_CUDA_BF16 : RC_CUDA_F32;
    if (r->pass == RC_DEVICE_FORWARD) {
        rc_product p = stacked(&xs[0], ta, &xs[1], tb, at->scale, false);
        p.factors = p.result = type;
        return plan_number(d, out, 0, &p, err);
    }
    if (r->wanted & 1) {
        rc_product p = ta ? stacked(&xs[1], tb, y, true, at->scale, call->add[0])
                          : stacked(y, false, &xs[1], !tb, at->scale, call->add[0]);
        p.factors = p.result = type;
        RC_TRY(plan_number(d, out, 0, &p, err));
    }
    if (r->wanted & 2) {
        rc_product p = tb ? stacked(y, true, &xs[0], ta, at->scale, call->add[1])
                          : stacked(&xs[0], !ta, y, false, at->scale, call->add[1]);
        p.factors = p.result = type;
        RC_TRY(plan_number(d, out, 1, &p, err));
    }
    return RC_OK;
}

void
rc_matmul_step(rc_device *d, const rc_call *call, const void *choice)
{
    const rc_choice *c = choice;
    rc_product_run(d, &c->products[0], call->x[0], call->x[1], NULL, NULL, call->y, call->tmp);
}

void
rc_matmul_backward_step(rc_device *d, const rc_call *call, const void *choice)
{
    const rc_choice *c = choice;
    const void *a = call->x[0], *b = call->x[1], *dy = call->dy;
    if (call->dx[0]) {
        bool turned = call->attrs->trans_a;
        rc_product_run(d, &c->products[0], turned ? b : dy, turned ? dy : b, NULL, NULL,
                       call->dx[0], call->tmp);
    }
    if (call->dx[1]) {
        bool turned = call->attrs->trans_b;
        rc_product_run(d, &c->products[1], turned ? dy : a, turned ? a : dy, NULL, NULL,
                       call->dx[1], call->tmp);
    }
}
