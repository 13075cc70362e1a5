/* cuBLASLt of the stand-in (standin.h): column by column, as it has it; sums in double. */
#include "standin.h"

#include <string.h>

#include <string>

namespace {

struct operation {
    cublasOperation_t a = CUBLAS_OP_N, b = CUBLAS_OP_N;
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    const void *bias = nullptr;
    cudaDataType bias_type = CUDA_R_32F;
};

struct layout {
    cudaDataType type;
    int64_t rows, cols, ld, batch = 1, stride = 0;
    bool half() const { return type == CUDA_R_16BF; }
    int64_t bytes() const
    {
        return (half() ? 2 : 4) * ((batch - 1) * stride + (cols - 1) * ld + rows);
    }
};

struct preference {
    size_t workspace = 0;
    uint32_t alignment[4] = {256, 256, 256, 256};
    uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_MASK; /* of split sums: all schemes */
};

template <class T, class Handle>
T *
behind(Handle handle)
{
    return reinterpret_cast<T *>(handle);
}

template <class T>
cublasStatus_t
take(T *to, const void *from, size_t size)
{
    if (size != sizeof *to) {
        standin::problem("cublasLt: an attribute of %zu bytes, expected %zu", size, sizeof *to);
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    memcpy(to, from, size);
    return CUBLAS_STATUS_SUCCESS;
}

void
multiply(const operation &o, layout a, layout b, layout c, float alpha, float beta,
         standin::values pa, standin::values pb, standin::values pc, standin::values pd)
{
    int64_t inner = o.a == CUBLAS_OP_N ? a.cols : a.rows;
    standin::values bias = {const_cast<void *>(o.bias), o.bias_type == CUDA_R_16BF};
    bool biased = o.epilogue & CUBLASLT_EPILOGUE_BIAS, relu = o.epilogue & CUBLASLT_EPILOGUE_RELU;
    if (!standin::covers(pa.at, a.bytes(), "cublasLt: A")
        || !standin::covers(pb.at, b.bytes(), "cublasLt: B")
        || (beta != 0 && !standin::covers(pc.at, c.bytes(), "cublasLt: C"))
        || !standin::covers(pd.at, c.bytes(), "cublasLt: D")
        || (biased && !standin::covers(bias.at, (bias.half ? 2 : 4) * c.rows,
                                       "cublasLt: the bias"))) {
        return;
    }
    for (int64_t n = 0; n < c.batch; n++) {
        for (int64_t j = 0; j < c.cols; j++) {
            for (int64_t i = 0; i < c.rows; i++) {
                double sum = 0;
                for (int64_t k = 0; k < inner; k++) {
                    int64_t at = o.a == CUBLAS_OP_N ? k * a.ld + i : i * a.ld + k;
                    int64_t bt = o.b == CUBLAS_OP_N ? j * b.ld + k : k * b.ld + j;
                    sum += (double)pa.get(n * a.stride + at) * pb.get(n * b.stride + bt);
                }
                int64_t to = n * c.stride + j * c.ld + i;
                double v = alpha * sum + (beta != 0 ? (double)beta * pc.get(to) : 0)
                           + (biased ? bias.get(i) : 0);
                pd.put(to, (float)(relu && v < 0 ? 0 : v));
            }
        }
    }
}

} // namespace

#define CALL(...)                                           \
    if (int code_ = standin::call(__func__, __VA_ARGS__)) { \
        return static_cast<cublasStatus_t>(code_);          \
    }

STANDIN_API size_t
cublasLtGetVersion(void)
{
    return 130000;
}

STANDIN_API const char *
cublasLtGetStatusString(cublasStatus_t)
{
    return "an error of the stand-in";
}

STANDIN_API cublasStatus_t
cublasLtCreate(cublasLtHandle_t *out)
{
    CALL("");
    *out = reinterpret_cast<cublasLtHandle_t>(new int);
    standin::count("handles", 1);
    return CUBLAS_STATUS_SUCCESS;
}

STANDIN_API cublasStatus_t
cublasLtDestroy(cublasLtHandle_t handle)
{
    CALL("");
    delete reinterpret_cast<int *>(handle);
    standin::count("handles", -1);
    return CUBLAS_STATUS_SUCCESS;
}

STANDIN_API cublasStatus_t
cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute,
                         cudaDataType_t scale)
{
    CALL("%s", compute == CUBLAS_COMPUTE_32F             ? "32F"
               : compute == CUBLAS_COMPUTE_32F_FAST_TF32 ? "TF32"
                                                         : "another");
    if (scale != CUDA_R_32F) {
        standin::problem("cublasLt: a scale that is not float32");
    }
    *out = reinterpret_cast<cublasLtMatmulDesc_t>(new operation);
    standin::count("descriptors", 1);
    return CUBLAS_STATUS_SUCCESS;
}

STANDIN_API cublasStatus_t
cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t o)
{
    delete behind<operation>(o);
    standin::count("descriptors", -1);
    return CUBLAS_STATUS_SUCCESS;
}

STANDIN_API cublasStatus_t
cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t name,
                               const void *value, size_t size)
{
    operation *o = behind<operation>(desc);
    switch (name) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
        return take(&o->a, value, size);
    case CUBLASLT_MATMUL_DESC_TRANSB:
        return take(&o->b, value, size);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return take(&o->epilogue, value, size);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        return take(&o->bias, value, size);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
        return take(&o->bias_type, value, size);
    default:
        standin::problem("cublasLt: an attribute that the stand-in does not know");
        return CUBLAS_STATUS_INVALID_VALUE;
    }
}

STANDIN_API cublasStatus_t
cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type, uint64_t rows,
                           uint64_t cols, int64_t ld)
{
    CALL("%lld x %lld", (long long)rows, (long long)cols);
    if ((type != CUDA_R_32F && type != CUDA_R_16BF) || ld < (int64_t)rows || rows < 1 || cols < 1) {
        standin::problem("cublasLt: a layout of %lld x %lld with %lld between columns",
                         (long long)rows, (long long)cols, (long long)ld);
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    *out = reinterpret_cast<cublasLtMatrixLayout_t>(
        new layout{type, (int64_t)rows, (int64_t)cols, ld});
    standin::count("descriptors", 1);
    return CUBLAS_STATUS_SUCCESS;
}

STANDIN_API cublasStatus_t
cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l)
{
    delete behind<layout>(l);
    standin::count("descriptors", -1);
    return CUBLAS_STATUS_SUCCESS;
}

STANDIN_API cublasStatus_t
cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t l, cublasLtMatrixLayoutAttribute_t name,
                                 const void *value, size_t size)
{
    int32_t batch = 1;
    if (name == CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET) {
        return take(&behind<layout>(l)->stride, value, size);
    }
    if (name != CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT) {
        standin::problem("cublasLt: an attribute that the stand-in does not know");
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    cublasStatus_t status = take(&batch, value, size);
    behind<layout>(l)->batch = batch;
    return status;
}

STANDIN_API cublasStatus_t
cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out)
{
    CALL("");
    *out = reinterpret_cast<cublasLtMatmulPreference_t>(new preference);
    standin::count("descriptors", 1);
    return CUBLAS_STATUS_SUCCESS;
}

STANDIN_API cublasStatus_t
cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
    delete behind<preference>(p);
    standin::count("descriptors", -1);
    return CUBLAS_STATUS_SUCCESS;
}

STANDIN_API cublasStatus_t
cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                     cublasLtMatmulPreferenceAttributes_t name, const void *value,
                                     size_t size)
{
    preference *to = behind<preference>(p);
    switch (name) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        return take(&to->workspace, value, size);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
        return take(&to->reduction, value, size);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
        return take(&to->alignment[0], value, size);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
        return take(&to->alignment[1], value, size);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
        return take(&to->alignment[2], value, size);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
        return take(&to->alignment[3], value, size);
    default:
        standin::problem("cublasLt: an attribute that the stand-in does not know");
        return CUBLAS_STATUS_INVALID_VALUE;
    }
}

/* Sizes that fit, and one algorithm with some workspace, noted in it. */
STANDIN_API cublasStatus_t
cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc,
                               cublasLtMatrixLayout_t al, cublasLtMatrixLayout_t bl,
                               cublasLtMatrixLayout_t cl, cublasLtMatrixLayout_t,
                               cublasLtMatmulPreference_t p, int,
                               cublasLtMatmulHeuristicResult_t results[], int *found)
{
    CALL("");
    if (behind<preference>(p)->reduction != CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE) {
        standin::problem("cublasLt: parts of a sum may meet in the type of the result");
    }
    const operation &o = *behind<operation>(desc);
    const layout &a = *behind<layout>(al), &b = *behind<layout>(bl), &c = *behind<layout>(cl);
    int64_t m = o.a == CUBLAS_OP_N ? a.rows : a.cols, ka = o.a == CUBLAS_OP_N ? a.cols : a.rows;
    int64_t n = o.b == CUBLAS_OP_N ? b.cols : b.rows, kb = o.b == CUBLAS_OP_N ? b.rows : b.cols;
    if (m != c.rows || n != c.cols || ka != kb || a.batch != c.batch || b.batch != c.batch) {
        standin::problem("cublasLt: factors of %lld x %lld and %lld x %lld for %lld x %lld",
                         (long long)m, (long long)ka, (long long)kb, (long long)n,
                         (long long)c.rows, (long long)c.cols);
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    /* Both factors of one type; the result of it, or float32 of bfloat16; a bias as the result. */
    bool biased = o.epilogue & CUBLASLT_EPILOGUE_BIAS;
    if (a.type != b.type || (c.half() && !a.half()) || (biased && o.bias_type != c.type)) {
        standin::problem("cublasLt: types that do not go together");
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    size_t workspace = static_cast<size_t>(m % 4 * 1024);
    for (uint32_t alignment : behind<preference>(p)->alignment) {
        if (alignment > 16) {
            standin::problem("cublasLt: addresses are told to be multiples of %u", alignment);
        }
    }
    memset(results, 0, sizeof *results);
    results[0].workspaceSize = workspace;
    memcpy(&results[0].algo, &workspace, sizeof workspace);
    *found = workspace <= behind<preference>(p)->workspace;
    return CUBLAS_STATUS_SUCCESS;
}

STANDIN_API cublasStatus_t
cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void *alpha, const void *a,
               cublasLtMatrixLayout_t al, const void *b, cublasLtMatrixLayout_t bl,
               const void *beta, const void *c, cublasLtMatrixLayout_t cl, void *d,
               cublasLtMatrixLayout_t, const cublasLtMatmulAlgo_t *algo, void *workspace,
               size_t bytes, cudaStream_t stream)
{
    operation o = *behind<operation>(desc);
    layout la = *behind<layout>(al), lb = *behind<layout>(bl), lc = *behind<layout>(cl);
    CALL("%lld x %lld x %lld of %lld%s", (long long)lc.cols, (long long)lc.rows,
         (long long)(o.a == CUBLAS_OP_N ? la.cols : la.rows), (long long)lc.batch,
         o.epilogue == CUBLASLT_EPILOGUE_DEFAULT ? "" : " fused");
    float scale = *static_cast<const float *>(alpha), added = *static_cast<const float *>(beta);
    size_t needed;
    memcpy(&needed, algo, sizeof needed);
    if (bytes < needed) {
        standin::problem("cublasLt: %zu bytes of workspace, %zu are needed", bytes, needed);
    }
    standin::enqueue(stream, [=]() {
        if (bytes && standin::covers(workspace, (int64_t)bytes, "cublasLt: workspace")) {
            memset(workspace, 0xff, bytes);
        }
        multiply(o, la, lb, lc, scale, added, {const_cast<void *>(a), la.half()},
                 {const_cast<void *>(b), lb.half()}, {const_cast<void *>(c), lc.half()},
                 {d, lc.half()});
    });
    return CUBLAS_STATUS_SUCCESS;
}
