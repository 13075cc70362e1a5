/* The CPU's matrix kernels as the planner sees them: convolution passes and matrix products
 * in float32, NHWC, chosen once by instruction set (rc_isa_get). All run on rc_parallel; work
 * is cut by shape and partial sums are added in a fixed order, so the bits do not depend on
 * `threads`. None of them allocates, and none reads or writes outside its buffers.
 *
 * Letters: n images, h w input size, c input channels, oh ow output size, k output channels.
 * x: (n,h,w,c)   y: (n,oh,ow,k)   w: (k, c/groups, kh, kw), the order that users see. */
#ifndef RC_CPU_H
#define RC_CPU_H

#include "base/act.h"
#include "base/base.h"
#include "base/element.h"

/* Floats rounded up to whole cache lines, so that what follows is aligned. */
static inline int64_t
rc_whole_lines(int64_t floats)
{
    return (floats + 15) / 16 * 16;
}

typedef struct rc_conv_shape {
    int64_t n, h, w, c, oh, ow, k;
    int32_t kh, kw, stride, pad, groups;
} rc_conv_shape;

/* What happens to y before it is written: y = act(conv + bias[k] + residual). */
typedef struct rc_epilogue {
    const float *bias;     /* (k) or NULL */
    const void *residual;  /* like y, or NULL */
    rc_act act;            /* NONE, RELU or LEAKY_RELU */
    float slope;           /* of LEAKY_RELU */
} rc_epilogue;

/* One way to run one pass. The planner takes what a tuning table says (cpu/tune.h), else the first
 * entry of a list that neither refuses nor avoids the shape; the plain C operation
 * (csrc/ops/conv2d.c) is the last resort and the reference. */
typedef struct rc_conv_kernel {
    const char *name; /* as rc_f32_conv2d_fwd_14x32__avx512 */
    rc_element element; /* of x, y, the residual and their gradients: RC_REAL (float) or RC_BF16;
                           weights as users see them, their gradients and biases are float */
    /* NULL if this kernel can run the shape, else the reason in a few words. */
    const char *(*refuse)(const rc_conv_shape *s);
    /* The rule where nothing was measured: NULL, or why a later kernel of the list is likely to be
     * faster. NULL pointer: never. */
    const char *(*avoid)(const rc_conv_shape *s);
    /* Sizes in floats. scratch is per call (not kept), for `threads` threads. */
    int64_t (*packed_size)(const rc_conv_shape *s);  /* 0: takes plain weights */
    int64_t (*scratch_size)(const rc_conv_shape *s, int threads);
    /* Weights as users see them -> as the kernel reads them; each output channel multiplied
     * by scale[k] on the way (a folded batch norm) unless scale is NULL. */
    void (*pack)(const rc_conv_shape *s, const float *w, const float *scale, float *packed,
                 int threads);
    /* fwd:   y = epilogue(conv(x, w));            a = x,  b = packed w, out = y
     * bwd_x: dx (+)= conv^T(dy, w);               a = dy, b = packed w, out = dx
     * bwd_w: dw (+)= sum over positions of dy, x; a = dy, b = x,        out = dw (k,c/groups,kh,kw)
     * add: false assigns, true adds to what is there (fwd: always false). epilogue NULL: none. */
    void (*run)(const rc_conv_shape *s, const void *a, const void *b, const rc_epilogue *e,
                bool add, void *out, float *scratch, int threads);
} rc_conv_kernel;

/* Lists for the instruction set in use, best first, NULL at the end. */
const rc_conv_kernel *const *rc_conv_fwd_kernels(rc_element element);
const rc_conv_kernel *const *rc_conv_bwd_x_kernels(rc_element element);
const rc_conv_kernel *const *rc_conv_bwd_w_kernels(rc_element element);
/* The kernel of this name in any of these lists, or NULL. */
const rc_conv_kernel *rc_conv_kernel_named(const char *name);

/* Checks n h w c k kh kw stride pad groups and works out oh and ow: false if it is no convolution. */
bool rc_conv_shape_make(const int64_t sizes[10], rc_conv_shape *out);

/* batch independent products C_b (+)= op(A_b)·op(B_b); op(A) is m×k, op(B) k×n, row-major with
 * leading dimensions; a stride of 0 shares a factor. Epilogue: bias per column (n), act. */
typedef struct rc_gemm_shape {
    int64_t batch, m, n, k;
    int64_t lda, ldb, ldc;             /* of the matrices as stored */
    int64_t stride_a, stride_b, stride_c; /* between batches, in elements */
    bool trans_a, trans_b;             /* stored transposed: A is k×m, B is n×k */
} rc_gemm_shape;

int64_t rc_gemm_scratch(const rc_gemm_shape *s, int threads); /* floats */
void rc_gemm(const rc_gemm_shape *s, const float *a, const float *b, const rc_epilogue *e,
             bool add, float *c, float *scratch, int threads);

/* A factor as it is stored. On the left: rows of k (turned: k rows of it); on the right: k rows of
 * columns (turned: columns of k). */
typedef struct rc_factor {
    const float *at;
    int64_t pitch; /* floats from a stored row to the next */
    bool turned;
} rc_factor;

/* Products by the calling thread alone, for operations that keep a block in its caches from one
 * product to the next: c (+)= left right, where the right factor has been packed. */
int64_t rc_block_packed(int64_t columns, int64_t k); /* floats, whole cache lines */
void rc_block_pack(rc_factor right, int64_t columns, int64_t k, float *packed);
void rc_block_multiply(rc_factor left, int64_t rows, const float *packed, int64_t columns,
                       int64_t k, bool add, float *c, int64_t ldc);

/* For the benchmarks: float operations done by `rounds` rounds of multiply-adds that touch no
 * memory, on the calling thread. *sink: any small number; keeps the work from being removed. */
double rc_cpu_peak(int64_t rounds, float *sink);

#endif
