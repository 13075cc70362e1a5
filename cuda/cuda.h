/* The CUDA kernels' face: launchers by operation, and what the steps around the network need.
 *
 * A launcher is handed the same rc_call as the plain C operation (csrc/graph/op.h), with these
 * differences:
 *   - x, y, dy, dx, ws, tmp, state, seed and step are addresses on the device; attrs and xs on the
 *     host, read before the launcher returns. Values begin at multiples of 16 bytes.
 *   - extra: NULL, or an rc_cuda_record.
 *   - threads is not looked at.
 * It only puts kernels into the stream: it allocates nothing, waits for nothing and reads nothing
 * that lies on the device, so it may be captured in a graph. The same call gives the same bits on
 * every run and every card: work is cut by shape, sums are taken in a fixed order.
 *
 * Types: x, y, dy and dx of maps and rows are of the record's type; parameters, their gradients,
 * running statistics, ws and losses (y, dy of a loss, and scalars) are float32 throughout, labels
 * and planes int64. ws is laid out for real = float, as csrc/ops writes it, unless cuda/ops says
 * otherwise; it never needs more than ws_size(…, 4).
 *
 * Limits, which runtime/choices.c checks while a plan is made: a value has at most RC_CUDA_MOST
 * elements, a batch RC_CUDA_BATCH images (what a grid's second dimension takes); `limit` below. */
#ifndef RC_CUDA_H
#define RC_CUDA_H

#ifdef __cplusplus
extern "C" {
#endif

#include "graph/op.h"

#define RC_CUDA_MOST INT32_MAX
#define RC_CUDA_BATCH 65535

typedef void *rc_cuda_stream; /* a cudaStream_t */

typedef enum rc_cuda_type { RC_CUDA_F32 = 0, RC_CUDA_BF16 } rc_cuda_type;

typedef struct rc_cuda_record {
    rc_cuda_type type;
} rc_cuda_record;

typedef void (*rc_cuda_launch)(const rc_call *call, rc_cuda_stream stream);

typedef struct rc_cuda_limit {
    int64_t is, most;
    const char *what; /* as users call it, in the plural */
} rc_cuda_limit;

typedef struct rc_cuda_op {
    rc_cuda_launch forward, backward; /* NULL: none */
    rc_cuda_launch commit;
    /* Bytes of tmp; NULL: none. Of the call, shapes, attributes and which of x, dx, ws are there
     * (not NULL) are looked at. */
    int64_t (*tmp_size)(const rc_call *call, bool backward);
    /* What this pass has room for in a block's shared memory; NULL: any size will do. */
    rc_cuda_limit (*limit)(const rc_call *call, bool backward);
} rc_cuda_op;

/* By rc_op_id. Empty: conv2d, linear and matmul, which are cuDNN's and cuBLAS's. */
extern const rc_cuda_op rc_cuda_op_table[RC_OP_COUNT];

#ifdef __cplusplus
}
#endif

#endif
