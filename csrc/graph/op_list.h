/* Every operation, once. This list yields the enum, the table and its length check.
 *
 * Adding one: a line here, csrc/ops/<name>.c with `const rc_op rc_op_<name>`, cases in
 * tests/ops/cases.py, and, where it pays, a fast kernel named in csrc/plan/select.c.
 *
 * Shapes are N x C x H x W in meaning; a rank 4 value lies in memory as (n,h,w,c), other ranks
 * row-major as written. P = h*w. "[z]": may be RC_NONE. Labels and planes are int64.
 *
 *   X(name)             inputs -> output; attributes; what it computes
 */
#define RC_OP_LIST(X)                                                                          \
    /* x, w(k,c/groups,kh,kw), [b(k)], [residual] -> (n,k,oh,ow); stride pad groups act slope:  \
       act(conv + b + residual); residual and act are set by fusion only */                     \
    X(conv2d)                                                                                  \
    /* x(n,i), w(o,i), [b(o)] -> (n,o); act slope */                                            \
    X(linear)                                                                                  \
    /* x rank 2 or 4, gamma beta mean var (c), [residual] -> like x; eps momentum act slope:    \
       act(bn(x) + residual). Training: batch statistics (biased variance) in ws; commit moves  \
       the running ones (unbiased). Evaluation: running ones, also in backward. */              \
    X(batch_norm)                                                                              \
    /* x rank 4, gamma beta (c) -> like x; eps: per image and channel, biased variance */       \
    X(instance_norm)                                                                           \
    /* x -> like x; act slope */                                                                \
    X(activation)                                                                              \
    /* a, b -> like a; act slope: act(a + b) */                                                 \
    X(add)                                                                                     \
    /* s(1), a, b -> like a: s*a + b */                                                         \
    X(scale_add)                                                                               \
    /* x -> (n,c,oh,ow); kernel stride pad: maximum, ties to the first in raster order */       \
    X(max_pool2d)                                                                              \
    /* x -> (n,c,oh,ow); kernel stride: mean, no padding */                                     \
    X(avg_pool2d)                                                                              \
    /* x, [planes(n,4)] -> (n,c); mode (0 mean, 1 max) from to col_from col_to: over rows       \
       [from, to) and columns [col_from, col_to) (to, col_to 0: to the end); with planes, from  \
       and to are indices into (0, l0, l1, l2, l3, H) of each image. Ties as max_pool2d. */     \
    X(region_pool)                                                                             \
    /* x -> (n,1,h,w); mode: over channels; ties to the lowest channel */                       \
    X(channel_pool)                                                                            \
    /* 1..RC_MAX_IN values, rank 4 or 2, equal but for c -> c added up */                       \
    X(concat)                                                                                  \
    /* x rank 4 or 2 -> channels [from, to) */                                                  \
    X(slice)                                                                                   \
    /* x, a(n,1,h,w) -> like x: a*x, a broadcast over channels */                               \
    X(mul_map)                                                                                 \
    /* x, s(n,c) -> like x: s*x, s broadcast over positions */                                  \
    X(mul_channel)                                                                             \
    /* x, k(n,kernel^2*groups,h,w) -> like x; kernel groups: the MBGN page, section 2 */        \
    X(involution)                                                                              \
    /* a, b (n,c,h,w), w(q,P,1,1) -> (n,q,h,w): Y = (w A^T) B, A and B as c x P of an image     \
       (A^T: P x c), never the P x P relation */                                                \
    X(relation_map)                                                                            \
    /* x(n,c,h,w) -> planes(n,4); mode 0 aabs, 1 body (start planes), 2 uniform; no gradient */ \
    X(planes)                                                                                  \
    /* x, planes(n,4) -> (n,10,c): means of the left and right half of the five parts */        \
    X(half_means)                                                                              \
    /* u(n,r,c) -> (n,r(r-1)/2): cosines of pairs a<b, lengths clamped at 1e-12 */              \
    X(pair_cosine)                                                                             \
    /* x -> like x; p: kept values times 1/(1-p); evaluation: identity */                       \
    X(dropout)                                                                                 \
    /* x rank 4 -> like x; p (drop probability) kernel (block): common.md 4 */                  \
    X(drop_block)                                                                              \
    /* x rank 4 -> like x; height_ratio width_ratio: common.md 4 and the HAMR page */           \
    X(batch_drop_block)                                                                        \
    /* a, b rank 3 -> op(a) op(b) per image; trans_a trans_b scale */                           \
    X(matmul)                                                                                  \
    /* x rank 3 -> like x; negate: softmax of each row (of -x) */                               \
    X(softmax)                                                                                 \
    /* a, b, v rank 3 -> S v, or v S^T where mode is 1, S = softmax of the rows of                 \
       scale op(a) op(b); trans_a trans_b scale negate: made by fusion of the three above */     \
    X(attention)                                                                               \
    /* q, k, v rank 4, rel_h(2h-1,d), rel_w(2w-1,d) -> like q; groups (heads of d) scale:      \
       self-attention with relative positions (the FSAC page) */                               \
    X(relative_attention)                                                                      \
    /* relative_attention's inputs and attributes -> (n,groups*T,T), T = h*w: its weights, for  \
       users to look at; no gradient */                                                         \
    X(relative_attention_map)                                                                  \
    /* x rank 4, p(1) -> (n,c); eps: generalised mean (the MFA page) */                         \
    X(gem)                                                                                     \
    /* m(n,c), w(1,1,kernel) -> (n,c): along channels, zero padded */                           \
    X(channel_conv)                                                                            \
    /* x(n,c) -> like x; eps scale (0: 1): scale * rows / max(length, eps) */                   \
    X(normalize)                                                                               \
    /* the same memory, another shape; mode 0: (n,c,1,1) -> (n,c); 1: (n,c,h,w) -> (n,P,c);     \
       2: (n,P,c) -> (n,c,from,to) with P = from*to; 3: (n,c) -> (n,c,1,1);                     \
       4: (n,from*c), rows one after the other -> (n,c,from,1); 5: the same shape */            \
    X(view)                                                                                    \
    /* x -> x, no gradient behind */                                                            \
    X(stop_gradient)                                                                           \
    /* logits(n,k), labels(n) -> (1); smoothing mode (1: spread='others') */                    \
    X(cross_entropy)                                                                           \
    /* x(n,c), labels(n) -> (1); margin soft normalized mode (1: distance='cos'): batch hard */ \
    X(triplet)                                                                                 \
    /* x(n,c), labels(n), centers(k,c) -> (1) */                                                \
    X(center)                                                                                  \
    /* x(n,c), labels(n) -> (1); margin scale: pairwise circle loss */                          \
    X(circle)                                                                                  \
    /* cosines times scale (n,k), labels(n) -> like them; margin scale: what the class-level    \
       circle loss makes of them, for cross_entropy */                                          \
    X(circle_logits)                                                                           \
    /* f(n,c), r(n,c) -> (1): mean of 1 - cosine (GLA); r is detached */                        \
    X(cosine_loss)                                                                             \
    /* scalars -> (1): their mean */                                                            \
    X(mean_scalars)                                                                            \
    /* a(1), b(1) -> (1); weight: a + weight*b */                                               \
    X(add_scalars)
