/* Launchers by operation (cuda.h). */
#include "cuda.h"

#define DECLARE(op)                                                             \
    void rc_cuda_##op##_forward(const rc_call *call, rc_cuda_stream stream);    \
    void rc_cuda_##op##_backward(const rc_call *call, rc_cuda_stream stream);   \
    void rc_cuda_##op##_commit(const rc_call *call, rc_cuda_stream stream);     \
    int64_t rc_cuda_##op##_tmp(const rc_call *call, bool backward);             \
    rc_cuda_limit rc_cuda_##op##_limit(const rc_call *call, bool backward);
RC_OP_LIST(DECLARE) /* what an operation does not have is not defined, and not used here */
#undef DECLARE

#define FORWARD(op) .forward = rc_cuda_##op##_forward
#define BACKWARD(op) .backward = rc_cuda_##op##_backward
#define COMMIT(op) .commit = rc_cuda_##op##_commit
#define TMP(op) .tmp_size = rc_cuda_##op##_tmp
#define LIMIT(op) .limit = rc_cuda_##op##_limit

const rc_cuda_op rc_cuda_op_table[RC_OP_COUNT] = {
    [RC_OP_batch_norm] =
        {FORWARD(batch_norm), BACKWARD(batch_norm), COMMIT(batch_norm), TMP(batch_norm)},
    [RC_OP_instance_norm] = {FORWARD(instance_norm), BACKWARD(instance_norm), TMP(instance_norm)},
    [RC_OP_activation] = {FORWARD(activation), BACKWARD(activation)},
    [RC_OP_add] = {FORWARD(add), BACKWARD(add)},
    [RC_OP_scale_add] = {FORWARD(scale_add), BACKWARD(scale_add), TMP(scale_add)},
    [RC_OP_max_pool2d] = {FORWARD(max_pool2d), BACKWARD(max_pool2d)},
    [RC_OP_avg_pool2d] = {FORWARD(avg_pool2d), BACKWARD(avg_pool2d)},
    [RC_OP_region_pool] = {FORWARD(region_pool), BACKWARD(region_pool)},
    [RC_OP_channel_pool] = {FORWARD(channel_pool), BACKWARD(channel_pool)},
    [RC_OP_concat] = {FORWARD(concat), BACKWARD(concat)},
    [RC_OP_slice] = {FORWARD(slice), BACKWARD(slice)},
    [RC_OP_mul_map] = {FORWARD(mul_map), BACKWARD(mul_map)},
    [RC_OP_mul_channel] = {FORWARD(mul_channel), BACKWARD(mul_channel), TMP(mul_channel)},
    [RC_OP_involution] = {FORWARD(involution), BACKWARD(involution)},
    [RC_OP_relation_map] = {FORWARD(relation_map), BACKWARD(relation_map), TMP(relation_map)},
    [RC_OP_planes] =
        {FORWARD(planes), TMP(planes), LIMIT(planes)},
    [RC_OP_half_means] = {FORWARD(half_means), BACKWARD(half_means)},
    [RC_OP_pair_cosine] =
        {FORWARD(pair_cosine), BACKWARD(pair_cosine), TMP(pair_cosine), LIMIT(pair_cosine)},
    [RC_OP_dropout] = {FORWARD(dropout), BACKWARD(dropout)},
    [RC_OP_drop_block] = {FORWARD(drop_block), BACKWARD(drop_block), TMP(drop_block)},
    [RC_OP_batch_drop_block] = {FORWARD(batch_drop_block), BACKWARD(batch_drop_block)},
    [RC_OP_softmax] = {FORWARD(softmax), BACKWARD(softmax)},
    [RC_OP_attention] =
        {FORWARD(attention), BACKWARD(attention), TMP(attention), LIMIT(attention)},
    [RC_OP_relative_attention] =
        {FORWARD(relative_attention), BACKWARD(relative_attention), TMP(relative_attention),
         LIMIT(relative_attention)},
    [RC_OP_relative_attention_map] =
        {FORWARD(relative_attention_map), TMP(relative_attention_map),
         LIMIT(relative_attention_map)},
    [RC_OP_gem] = {FORWARD(gem), BACKWARD(gem), TMP(gem)},
    [RC_OP_channel_conv] = {FORWARD(channel_conv), BACKWARD(channel_conv)},
    [RC_OP_normalize] = {FORWARD(normalize), BACKWARD(normalize)},
    [RC_OP_view] = {FORWARD(view), BACKWARD(view)},
    [RC_OP_stop_gradient] = {FORWARD(stop_gradient)},
    [RC_OP_cross_entropy] = {FORWARD(cross_entropy), BACKWARD(cross_entropy), TMP(cross_entropy)},
    [RC_OP_triplet] =
        {FORWARD(triplet), BACKWARD(triplet), TMP(triplet), LIMIT(triplet)},
    [RC_OP_center] = {FORWARD(center), BACKWARD(center), TMP(center)},
    [RC_OP_circle] =
        {FORWARD(circle), BACKWARD(circle), TMP(circle), LIMIT(circle)},
    [RC_OP_circle_logits] = {FORWARD(circle_logits), BACKWARD(circle_logits)},
    [RC_OP_cosine_loss] = {FORWARD(cosine_loss), BACKWARD(cosine_loss), TMP(cosine_loss)},
    [RC_OP_mean_scalars] = {FORWARD(mean_scalars), BACKWARD(mean_scalars)},
    [RC_OP_add_scalars] = {FORWARD(add_scalars), BACKWARD(add_scalars)},
};
