/* The words in which networks are described: layers that make their own parameters.
 *
 * Names are torch's: a layer called "layer1.0.bn2" makes layer1.0.bn2.weight and so on. A
 * failure is kept in the graph (graph.h), so descriptions need no checks in between. Initial
 * values follow spec/README.md where a page is silent. */
#ifndef RC_BUILD_H
#define RC_BUILD_H

#include "graph/graph.h"

/* "prefix.name", printf-style, valid until the end of the full expression that uses it. */
typedef struct rc_label { char text[RC_NAME]; } rc_label;
rc_label rc_label_of(const char *format, ...) RC_PRINTF(1, 2);
#define RC_L(...) (rc_label_of(__VA_ARGS__).text)

typedef enum rc_weight_init {
    RC_KAIMING_FAN_OUT, /* N(0, 2/fan_out), the default of convolutions and linear layers */
    RC_KAIMING_FAN_IN,  /* N(0, 2/fan_in) */
    RC_CLASSIFIER,      /* N(0, 0.001^2) */
    RC_UNIFORM_FAN_IN,  /* uniform in ±1/sqrt(fan_in), a convolution's bias, too */
    RC_COSINE_HEAD,     /* N(0, 0.01^2) */
} rc_weight_init;

typedef struct rc_conv_spec {
    int64_t out, kernel, stride, pad, groups; /* stride 0 and groups 0 mean 1 */
    bool bias;
    rc_weight_init init;
} rc_conv_spec;

rc_value rc_conv2d(rc_graph *g, rc_value x, const char *name, rc_conv_spec spec);

typedef struct rc_linear_spec {
    int64_t out;
    bool bias;
    rc_weight_init init;
} rc_linear_spec;

rc_value rc_linear(rc_graph *g, rc_value x, const char *name, rc_linear_spec spec);

/* weight 1, bias 0, momentum 0.1, eps 1e-5. frozen_bias: a BNNeck's. */
rc_value rc_batch_norm(rc_graph *g, rc_value x, const char *name);
/* The same, weight from N(1, 0.02^2) ("normal"), or 0: the identity where its x is added to. */
rc_value rc_batch_norm_normal(rc_graph *g, rc_value x, const char *name);
rc_value rc_batch_norm_zero(rc_graph *g, rc_value x, const char *name);
rc_value rc_bn_neck(rc_graph *g, rc_value x, const char *name);
rc_value rc_instance_norm(rc_graph *g, rc_value x, const char *name);
/* IBN-a: name.IN on the first half of the channels, name.BN on the rest. */
rc_value rc_ibn(rc_graph *g, rc_value x, const char *name);

rc_value rc_relu(rc_graph *g, rc_value x);
rc_value rc_leaky_relu(rc_graph *g, rc_value x, double slope);
rc_value rc_sigmoid(rc_graph *g, rc_value x);
rc_value rc_add(rc_graph *g, rc_value a, rc_value b);
rc_value rc_max_pool2d(rc_graph *g, rc_value x, int64_t kernel, int64_t stride, int64_t pad);
rc_value rc_avg_pool2d(rc_graph *g, rc_value x, int64_t kernel, int64_t stride);
rc_value rc_concat(rc_graph *g, int n, const rc_value *x);
rc_value rc_slice(rc_graph *g, rc_value x, int64_t from, int64_t to);
rc_value rc_dropout(rc_graph *g, rc_value x, double p);
rc_value rc_mul_map(rc_graph *g, rc_value x, rc_value a);
rc_value rc_mul_channel(rc_graph *g, rc_value x, rc_value s);
rc_value rc_normalize(rc_graph *g, rc_value x);
/* Cosines of x (n,c) and a parameter's rows name.weight (out,c), times scale. */
rc_value rc_cosine_linear(rc_graph *g, rc_value x, const char *name, rc_linear_spec spec,
                          double scale);
rc_value rc_stop_gradient(rc_graph *g, rc_value x);
rc_value rc_flatten(rc_graph *g, rc_value x); /* (n,c,1,1) -> (n,c) */
rc_value rc_unflatten(rc_graph *g, rc_value x); /* (n,c) -> (n,c,1,1) */
/* n values (n,c), the rows of one map (n,c,n,1) */
rc_value rc_stack_rows(rc_graph *g, int n, const rc_value *x);
/* x itself under a second name, without a copy */
rc_value rc_alias(rc_graph *g, rc_value x, const char *name);

/* A learnt number prefix.name. */
rc_value rc_scalar(rc_graph *g, const char *prefix, const char *name, double value);

typedef enum rc_pool { RC_POOL_MEAN = 0, RC_POOL_MAX = 1 } rc_pool;

rc_value rc_global_pool(rc_graph *g, rc_value x, rc_pool pool);
rc_value rc_rows_pool(rc_graph *g, rc_value x, rc_pool pool, int64_t from, int64_t to);
/* Rows between planes: from, to index (0, l0, l1, l2, l3, H) of each image. */
rc_value rc_parts_pool(rc_graph *g, rc_value x, rc_value planes, rc_pool pool, int64_t from,
                       int64_t to);
/* GeM with one learnt exponent name.p, 3 at first (the MFA page). */
rc_value rc_gem(rc_graph *g, rc_value x, const char *name);
rc_value rc_channel_pool(rc_graph *g, rc_value x, rc_pool pool);

/* Losses: scalars. */
rc_value rc_cross_entropy(rc_graph *g, rc_value logits, double smoothing);
/* smoothing spread over the wrong classes alone, as fast-reid has it */
rc_value rc_cross_entropy_others(rc_graph *g, rc_value logits, double smoothing);
rc_value rc_circle_logits(rc_graph *g, rc_value logits, double margin, double scale);
rc_value rc_triplet(rc_graph *g, rc_value x, double margin, bool soft);
rc_value rc_center_loss(rc_graph *g, rc_value x, const char *name, int64_t classes);
rc_value rc_mean_of(rc_graph *g, int n, const rc_value *scalars);
rc_value rc_plus_weighted(rc_graph *g, rc_value a, rc_value b, double weight);

/* Channels of a value. */
int64_t rc_channels(const rc_graph *g, rc_value x);

#endif
