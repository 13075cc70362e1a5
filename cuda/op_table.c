/* Launchers by operation (cuda.h). */
#include "cuda.h"

#define DECLARE(op)                                                             \
    void rc_cuda_##op##_forward(const rc_call *call, rc_cuda_stream stream);    \
    void rc_cuda_##op##_backward(const rc_call *call, rc_cuda_stream stream);   \
    void rc_cuda_##op##_commit(const rc_call *call, rc_cuda_stream stream);     \
    int64_t rc_cuda_##op##_tmp(const rc_call *call, bool backward);
RC_OP_LIST(DECLARE) /* what an operation does not have is not defined, and not used here */
#undef DECLARE

#define FORWARD(op) .forward = rc_cuda_##op##_forward
#define BACKWARD(op) .backward = rc_cuda_##op##_backward
#define COMMIT(op) .commit = rc_cuda_##op##_commit
#define TMP(op) .tmp_size = rc_cuda_##op##_tmp

const rc_cuda_op rc_cuda_op_table[RC_OP_COUNT] = {
    [RC_OP_activation] = {FORWARD(activation), BACKWARD(activation)},
    [RC_OP_add] = {FORWARD(add), BACKWARD(add)},
};
