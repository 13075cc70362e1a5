/* The CUDA back end's run time: one card, opened for one model (csrc/device/device.h).
 *
 *     device.c      opening, memory, copies, the table of functions
 *     libraries.c   cuDNN and cuBLASLt, found and opened
 *     record.c      streams: marks, feeding, recorded runs
 *     choices.c     who runs a step; what was chosen is kept by shape
 *     product.c     matrix products: cuBLASLt
 *     graph.c       convolutions: graphs of cuDNN's backend interface
 *     conv.c        conv2d made of both, and of helpers where nothing fused fits
 *     helpers.cu    small kernels around them, the optimisers' update
 *
 * The CUDA run time is linked in; cuDNN and cuBLASLt are opened when a card is. */
#ifndef RC_RUNTIME_H
#define RC_RUNTIME_H

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>

#include "base/element.h"
#include "cuda.h"
#include "device/device.h"
#include "helpers.h"

/* ---- libraries.c: functions by name, filled once for the process ------------------------------ */

#define RC_CUDNN_FUNCTIONS(X)                                                                \
    X(cudnnGetVersion) X(cudnnGetErrorString) X(cudnnGetLastErrorString) X(cudnnCreate)      \
    X(cudnnDestroy) X(cudnnSetStream) X(cudnnBackendCreateDescriptor)                        \
    X(cudnnBackendDestroyDescriptor) X(cudnnBackendSetAttribute) X(cudnnBackendGetAttribute) \
    X(cudnnBackendFinalize) X(cudnnBackendExecute)
#define RC_CUBLASLT_FUNCTIONS(X)                                                             \
    X(cublasLtGetVersion) X(cublasLtGetStatusString) X(cublasLtCreate) X(cublasLtDestroy)    \
    X(cublasLtMatmul) X(cublasLtMatmulAlgoGetHeuristic) X(cublasLtMatmulDescCreate)          \
    X(cublasLtMatmulDescDestroy) X(cublasLtMatmulDescSetAttribute)                           \
    X(cublasLtMatrixLayoutCreate) X(cublasLtMatrixLayoutDestroy)                             \
    X(cublasLtMatrixLayoutSetAttribute) X(cublasLtMatmulPreferenceCreate)                    \
    X(cublasLtMatmulPreferenceDestroy) X(cublasLtMatmulPreferenceSetAttribute)

typedef struct rc_libraries {
#define RC_FUNCTION_POINTER(name) __typeof__(&name) name;
    RC_CUDNN_FUNCTIONS(RC_FUNCTION_POINTER)
    RC_CUBLASLT_FUNCTIONS(RC_FUNCTION_POINTER)
#undef RC_FUNCTION_POINTER
} rc_libraries;

/* RC_DEVICE: one is missing or too old, and what to install. */
rc_status rc_libraries_get(const char *folders, const rc_libraries **out, rc_error *err);

/* ---- the device ------------------------------------------------------------------------------- */

#define RC_SLOTS 2 /* of feeding: one is copied to while the other is read */

typedef struct rc_choice rc_choice;

struct rc_device {
    rc_device_info info;
    const rc_libraries *lib;
    bool tf32;  /* REIDC_CUDA_TF32=1: float32 products may be rounded to TF32 */
    bool timed; /* REIDC_CUDA_TUNE=1: candidates are timed instead of taken as recommended */
    cudaStream_t stream, feeding;
    cudaEvent_t marks[2], fed[RC_SLOTS], taken[RC_SLOTS], items_copied[2];
    void *slots[RC_SLOTS];
    int64_t slot_bytes[RC_SLOTS];
    int slot;   /* the next one; the one before was fed last */
    bool any_fed;
    cudnnHandle_t cudnn;
    cublasLtHandle_t blas;
    rc_choice *choices;
    rc_status failure; /* of a step put on the stream: told by the next check */
    char failure_text[256];
    rc_update_tables tables; /* helpers.h */
};

/* A CUDA result as a status and a sentence; `what` was being done. */
rc_status rc_cuda_status(cudaError_t code, const char *what, rc_error *err);
rc_status rc_cudnn_status(const rc_device *d, cudnnStatus_t code, const char *what, rc_error *err);
rc_status rc_blas_status(const rc_device *d, cublasStatus_t code, const char *what, rc_error *err);
/* Steps cannot fail; what fails all the same is kept for rc_device_check. */
void rc_note_failure(rc_device *d, const char *what, const char *why);
rc_status rc_device_use(const rc_device *d, rc_error *err); /* by the calling thread */
rc_status rc_device_check(rc_device *d, rc_error *err);

/* record.c */
rc_status rc_stream_open(rc_device *d, rc_error *err);
void rc_stream_close(rc_device *d);
rc_status rc_device_feed(rc_device *d, void *to, const void *from, int64_t bytes, rc_error *err);
rc_status rc_device_fed(rc_device *d, rc_error *err);
rc_status rc_device_feed_pictures(rc_device *d, const rc_device_pictures *p, float *to,
                                  rc_error *err);
rc_status rc_device_peek(rc_device *d, void *to, const void *from, int64_t bytes, void *other,
                         rc_error *err);
rc_status rc_stream_join(cudaStream_t stream, void *other, rc_error *err);
rc_status rc_device_mark(rc_device *d, int which, rc_error *err);
rc_status rc_device_reach(rc_device *d, int which, rc_error *err);
rc_status rc_device_wait(rc_device *d, rc_error *err);
rc_status rc_device_record_begin(rc_device *d, rc_error *err);
rc_status rc_device_record_end(rc_device *d, rc_device_graph **out, rc_error *err);
rc_status rc_device_replay(rc_device *d, rc_device_graph *g, rc_error *err);
void rc_device_graph_release(rc_device *d, rc_device_graph *g);

/* choices.c */
rc_status rc_device_select(rc_device *d, const rc_device_request *r, rc_device_kernel *out,
                           rc_error *err);
void rc_choices_free(rc_device *d);
bool rc_device_takes(rc_op_id op, int element);

/* ---- matrix products (product.c) ------------------------------------------------------------- */

/* Row-major C (m,n) = act(alpha op(A) op(B) + beta D + bias), op(A) m x k, op(B) k x n; D is laid
 * out as C and may be C. `batch` of them, `stride_*` apart. */
typedef struct rc_product {
    int64_t m, n, k, batch;
    int64_t lda, ldb, ldc, stride_a, stride_b, stride_c;
    bool trans_a, trans_b, bias, relu, adds; /* adds: beta 1 */
    float alpha;
    rc_cuda_type factors, result; /* of A and B; of C, D and the bias */
} rc_product;

typedef struct rc_product_plan {
    rc_product p;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, c;
    cublasLtMatmulAlgo_t algorithm;
    int64_t workspace;
} rc_product_plan;

rc_status rc_product_plan_make(rc_device *d, const rc_product *p, rc_product_plan *out,
                               rc_error *err);
void rc_product_plan_free(const rc_device *d, rc_product_plan *plan);
void rc_product_run(rc_device *d, const rc_product_plan *plan, const void *a, const void *b,
                    const void *bias, const void *added, void *c, void *workspace);

/* ---- convolutions (graph.c) ------------------------------------------------------------------- */

typedef enum rc_conv_pass { RC_CONV_FORWARD, RC_CONV_BACKWARD_X, RC_CONV_BACKWARD_W } rc_conv_pass;

typedef struct rc_conv {
    rc_conv_pass pass;
    int64_t n, c, h, w, k, oh, ow, kh, kw, stride, pad, groups;
    bool residual, bias, relu; /* of the forward, in this order after it */
    float slope;               /* below zero */
    rc_cuda_type type;         /* of all tensors; what lies between steps of a graph is float */
} rc_conv;

/* Tensors by their numbers in a graph. */
enum { RC_UID_X = 1, RC_UID_W, RC_UID_Y, RC_UID_BIAS, RC_UID_RESIDUAL, RC_UID_VIRTUAL };

typedef struct rc_conv_plan {
    rc_conv c;
    cudnnBackendDescriptor_t plan;
    int64_t workspace;
} rc_conv_plan;

/* RC_UNSUPPORTED: no engine that may be used runs this. x, w, y: of the convolution, y being what
 * comes out at the end of the graph; in backward passes the gradients stand in their places. */
rc_status rc_conv_plan_make(rc_device *d, const rc_conv *c, rc_conv_plan *out, rc_error *err);
void rc_conv_plan_free(const rc_device *d, rc_conv_plan *plan);
void rc_conv_run(rc_device *d, const rc_conv_plan *plan, void *x, void *w, void *y, void *bias,
                 void *residual, void *workspace);

/* ---- choices ------------------------------------------------------------------------------------ */

typedef enum rc_choice_kind {
    RC_CHOICE_OWN,      /* a launcher of cuda/ops */
    RC_CHOICE_CAST,
    RC_CHOICE_FILL,
    RC_CHOICE_FOLD,
    RC_CHOICE_CONV,     /* conv.c: one pass of a convolution */
    RC_CHOICE_SUMS,     /* conv.c: its bias's gradient */
    RC_CHOICE_LINEAR,   /* product.c */
    RC_CHOICE_MATMUL,
} rc_choice_kind;

#define RC_KEY_INPUTS 8

/* What was asked for; compared byte by byte. */
typedef struct rc_choice_key {
    int32_t pass, op, n_in;
    uint32_t has, wanted, flags, add;
    int32_t element, from;
    float value;
    rc_attrs attrs;
    rc_shape y, x[RC_KEY_INPUTS];
} rc_choice_key;

/* What a step needs beside its call. */
struct rc_choice {
    rc_choice *next;
    rc_choice_key key;
    rc_choice_kind kind;
    rc_cuda_launch launch;     /* OWN */
    rc_cuda_record record;
    float value;               /* FILL */
    bool is_product;           /* CONV: products[0] instead of conv */
    bool separate;             /* CONV forward: bias, residual, activation by a helper behind it;
                                  backward: the result is made in tmp and then added */
    rc_cuda_type from;         /* CAST; the other is record's */
    rc_conv asked;             /* CONV: all of it, fused or not */
    bool folded;               /* CONV: weights are of the type already, the shift behind them */
    int64_t weights_at;        /* CONV: bytes of tmp before weights of another type than float; < 0 */
    rc_conv_plan conv;
    rc_product_plan products[3]; /* LINEAR, MATMUL: y; or dx, dw */
    bool has_product[3];
    int64_t result_at;         /* CONV: bytes of tmp before a result that is made there */
    int64_t tmp;
};

/* conv.c, product.c: fill a choice for this request. */
rc_status rc_conv_choose(rc_device *d, const rc_device_request *r, rc_choice *out, rc_error *err);
void rc_conv_step(rc_device *d, const rc_call *call, const void *choice);
void rc_sums_step(rc_device *d, const rc_call *call, const void *choice);
rc_status rc_linear_choose(rc_device *d, const rc_device_request *r, rc_choice *out, rc_error *err);
rc_status rc_matmul_choose(rc_device *d, const rc_device_request *r, rc_choice *out, rc_error *err);
void rc_linear_step(rc_device *d, const rc_call *call, const void *choice);
void rc_linear_backward_step(rc_device *d, const rc_call *call, const void *choice);
void rc_matmul_step(rc_device *d, const rc_call *call, const void *choice);
void rc_matmul_backward_step(rc_device *d, const rc_call *call, const void *choice);

#define RC_TMP_LINE 256 /* parts of tmp begin at multiples of it */
static inline int64_t
rc_tmp_up(int64_t bytes)
{
    return (bytes + RC_TMP_LINE - 1) & -(int64_t)RC_TMP_LINE;
}

#endif
