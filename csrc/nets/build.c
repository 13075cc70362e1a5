/* Layers: parameters under torch's names, initial values, and one node each. */
#include "nets/build.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

rc_label
rc_label_of(const char *format, ...)
{
    rc_label label;
    va_list args;
    va_start(args, format);
    vsnprintf(label.text, sizeof label.text, format, args);
    va_end(args);
    return label;
}

int64_t
rc_channels(const rc_graph *g, rc_value x)
{
    return rc_graph_shape(g, x).d[1];
}

/* fan_out counts outputs times taps, as the frameworks do, whatever the groups. */
static rc_init
weight_init(rc_weight_init kind, double fan_in, double fan_out)
{
    switch (kind) {
    case RC_KAIMING_FAN_IN:
        return (rc_init){RC_INIT_NORMAL, 0, sqrt(2 / fan_in)};
    case RC_CLASSIFIER:
        return (rc_init){RC_INIT_NORMAL, 0, 0.001};
    case RC_COSINE_HEAD:
        return (rc_init){RC_INIT_NORMAL, 0, 0.01};
    case RC_UNIFORM_FAN_IN:
        return (rc_init){RC_INIT_UNIFORM, 0, 1 / sqrt(fan_in)};
    default:
        return (rc_init){RC_INIT_NORMAL, 0, sqrt(2 / fan_out)};
    }
}

static rc_value
vector(rc_graph *g, rc_state_kind kind, const char *prefix, const char *name, int64_t n,
       double value)
{
    return rc_graph_state(g, kind, prefix, name, 1, &n, (rc_init){RC_INIT_CONSTANT, value, 0});
}

rc_value
rc_conv2d(rc_graph *g, rc_value x, const char *name, rc_conv_spec spec)
{
    int64_t groups = spec.groups ? spec.groups : 1, in = rc_channels(g, x);
    int64_t taps = spec.kernel * spec.kernel;
    int64_t d[4] = {spec.out, in / groups, spec.kernel, spec.kernel};
    rc_init init =
        weight_init(spec.init, (double)(in / groups * taps), (double)(spec.out * taps));
    rc_value ins[3] = {x, rc_graph_state(g, RC_STATE_PARAMETER, name, "weight", 4, d, init),
                       RC_NONE};
    if (spec.bias) {
        rc_init zero = {RC_INIT_CONSTANT, 0, 0};
        ins[2] = rc_graph_state(g, RC_STATE_PARAMETER, name, "bias", 1, &spec.out,
                                spec.init == RC_UNIFORM_FAN_IN ? init : zero);
    }
    rc_attrs a = {.kernel = spec.kernel,
                  .stride = spec.stride ? spec.stride : 1,
                  .pad = spec.pad,
                  .groups = groups};
    return rc_graph_node(g, RC_OP_conv2d, &a, 3, ins);
}

rc_value
rc_linear(rc_graph *g, rc_value x, const char *name, rc_linear_spec spec)
{
    int64_t d[2] = {spec.out, rc_channels(g, x)};
    rc_init init = weight_init(spec.init, (double)d[1], (double)d[0]);
    rc_value ins[3] = {x, rc_graph_state(g, RC_STATE_PARAMETER, name, "weight", 2, d, init),
                       RC_NONE};
    if (spec.bias) {
        ins[2] = vector(g, RC_STATE_PARAMETER, name, "bias", spec.out, 0);
    }
    return rc_graph_node(g, RC_OP_linear, NULL, 3, ins);
}

rc_value
rc_cosine_linear(rc_graph *g, rc_value x, const char *name, rc_linear_spec spec, double scale)
{
    int64_t d[2] = {spec.out, rc_channels(g, x)};
    rc_init init = weight_init(spec.init, (double)d[1], (double)d[0]);
    rc_value w = rc_graph_state(g, RC_STATE_PARAMETER, name, "weight", 2, d, init);
    rc_attrs a = {.eps = 1e-12, .scale = scale};
    rc_value ins[3] = {rc_graph_node(g, RC_OP_normalize, &a, 1, &x), rc_normalize(g, w), RC_NONE};
    return rc_graph_node(g, RC_OP_linear, NULL, 3, ins);
}

static rc_value
batch_norm(rc_graph *g, rc_value x, const char *name, rc_init weight, rc_state_kind bias_kind)
{
    int64_t c = rc_channels(g, x);
    rc_value ins[5];
    ins[0] = x;
    ins[1] = rc_graph_state(g, RC_STATE_PARAMETER, name, "weight", 1, &c, weight);
    ins[2] = vector(g, bias_kind, name, "bias", c, 0);
    ins[3] = vector(g, RC_STATE_BUFFER, name, "running_mean", c, 0);
    ins[4] = vector(g, RC_STATE_BUFFER, name, "running_var", c, 1);
    rc_attrs a = {.eps = 1e-5, .momentum = 0.1};
    return rc_graph_node(g, RC_OP_batch_norm, &a, 5, ins);
}

rc_value
rc_batch_norm(rc_graph *g, rc_value x, const char *name)
{
    return batch_norm(g, x, name, (rc_init){RC_INIT_CONSTANT, 1, 0}, RC_STATE_PARAMETER);
}

rc_value
rc_batch_norm_normal(rc_graph *g, rc_value x, const char *name)
{
    return batch_norm(g, x, name, (rc_init){RC_INIT_NORMAL, 1, 0.02}, RC_STATE_PARAMETER);
}

rc_value
rc_batch_norm_zero(rc_graph *g, rc_value x, const char *name)
{
    return batch_norm(g, x, name, (rc_init){RC_INIT_CONSTANT, 0, 0}, RC_STATE_PARAMETER);
}

rc_value
rc_bn_neck(rc_graph *g, rc_value x, const char *name)
{
    return batch_norm(g, x, name, (rc_init){RC_INIT_CONSTANT, 1, 0}, RC_STATE_FROZEN);
}

rc_value
rc_instance_norm(rc_graph *g, rc_value x, const char *name)
{
    int64_t c = rc_channels(g, x);
    rc_value ins[3];
    ins[0] = x;
    ins[1] = vector(g, RC_STATE_PARAMETER, name, "weight", c, 1);
    ins[2] = vector(g, RC_STATE_PARAMETER, name, "bias", c, 0);
    return rc_graph_node(g, RC_OP_instance_norm, &(rc_attrs){.eps = 1e-5}, 3, ins);
}

rc_value
rc_ibn(rc_graph *g, rc_value x, const char *name)
{
    int64_t c = rc_channels(g, x), half = c / 2;
    rc_value sides[2];
    sides[0] = rc_instance_norm(g, rc_slice(g, x, 0, half), RC_L("%s.IN", name));
    sides[1] = rc_batch_norm(g, rc_slice(g, x, half, c), RC_L("%s.BN", name));
    return rc_concat(g, 2, sides);
}

static rc_value
unary(rc_graph *g, rc_op_id op, rc_value x, rc_attrs a)
{
    return rc_graph_node(g, op, &a, 1, &x);
}

static rc_value
binary(rc_graph *g, rc_op_id op, rc_value x, rc_value y, rc_attrs a)
{
    rc_value ins[2] = {x, y};
    return rc_graph_node(g, op, &a, 2, ins);
}

rc_value
rc_relu(rc_graph *g, rc_value x)
{
    return unary(g, RC_OP_activation, x, (rc_attrs){.act = RC_ACT_RELU});
}

rc_value
rc_leaky_relu(rc_graph *g, rc_value x, double slope)
{
    return unary(g, RC_OP_activation, x, (rc_attrs){.act = RC_ACT_LEAKY_RELU, .slope = slope});
}

rc_value
rc_sigmoid(rc_graph *g, rc_value x)
{
    return unary(g, RC_OP_activation, x, (rc_attrs){.act = RC_ACT_SIGMOID});
}

rc_value
rc_add(rc_graph *g, rc_value a, rc_value b)
{
    return binary(g, RC_OP_add, a, b, (rc_attrs){0});
}

rc_value
rc_max_pool2d(rc_graph *g, rc_value x, int64_t kernel, int64_t stride, int64_t pad)
{
    rc_attrs a = {.kernel = kernel, .stride = stride, .pad = pad};
    return unary(g, RC_OP_max_pool2d, x, a);
}

rc_value
rc_avg_pool2d(rc_graph *g, rc_value x, int64_t kernel, int64_t stride)
{
    return unary(g, RC_OP_avg_pool2d, x, (rc_attrs){.kernel = kernel, .stride = stride});
}

rc_value
rc_concat(rc_graph *g, int n, const rc_value *x)
{
    return rc_graph_node(g, RC_OP_concat, NULL, n, x);
}

rc_value
rc_slice(rc_graph *g, rc_value x, int64_t from, int64_t to)
{
    return unary(g, RC_OP_slice, x, (rc_attrs){.from = from, .to = to});
}

rc_value
rc_dropout(rc_graph *g, rc_value x, double p)
{
    return p > 0 ? unary(g, RC_OP_dropout, x, (rc_attrs){.p = p}) : x;
}

rc_value
rc_mul_map(rc_graph *g, rc_value x, rc_value a)
{
    return binary(g, RC_OP_mul_map, x, a, (rc_attrs){0});
}

rc_value
rc_mul_channel(rc_graph *g, rc_value x, rc_value s)
{
    return binary(g, RC_OP_mul_channel, x, s, (rc_attrs){0});
}

rc_value
rc_normalize(rc_graph *g, rc_value x)
{
    return unary(g, RC_OP_normalize, x, (rc_attrs){.eps = 1e-12});
}

rc_value
rc_stop_gradient(rc_graph *g, rc_value x)
{
    return unary(g, RC_OP_stop_gradient, x, (rc_attrs){0});
}

rc_value
rc_flatten(rc_graph *g, rc_value x)
{
    return unary(g, RC_OP_view, x, (rc_attrs){.mode = 0});
}

rc_value
rc_unflatten(rc_graph *g, rc_value x)
{
    return unary(g, RC_OP_view, x, (rc_attrs){.mode = 3});
}

rc_value
rc_stack_rows(rc_graph *g, int n, const rc_value *x)
{
    return unary(g, RC_OP_view, rc_concat(g, n, x), (rc_attrs){.mode = 4, .from = n});
}

rc_value
rc_alias(rc_graph *g, rc_value x, const char *name)
{
    rc_value y = unary(g, RC_OP_view, x, (rc_attrs){.mode = 5});
    rc_graph_name(g, y, name);
    return y;
}

rc_value
rc_scalar(rc_graph *g, const char *prefix, const char *name, double value)
{
    return vector(g, RC_STATE_PARAMETER, prefix, name, 1, value);
}

rc_value
rc_gem(rc_graph *g, rc_value x, const char *name)
{
    return binary(g, RC_OP_gem, x, rc_scalar(g, name, "p", 3), (rc_attrs){.eps = 1e-6});
}

rc_value
rc_global_pool(rc_graph *g, rc_value x, rc_pool pool)
{
    return rc_rows_pool(g, x, pool, 0, 0);
}

rc_value
rc_rows_pool(rc_graph *g, rc_value x, rc_pool pool, int64_t from, int64_t to)
{
    return unary(g, RC_OP_region_pool, x, (rc_attrs){.mode = pool, .from = from, .to = to});
}

rc_value
rc_parts_pool(rc_graph *g, rc_value x, rc_value planes, rc_pool pool, int64_t from, int64_t to)
{
    rc_attrs a = {.mode = pool, .from = from, .to = to};
    return binary(g, RC_OP_region_pool, x, planes, a);
}

rc_value
rc_channel_pool(rc_graph *g, rc_value x, rc_pool pool)
{
    return unary(g, RC_OP_channel_pool, x, (rc_attrs){.mode = pool});
}

rc_value
rc_cross_entropy(rc_graph *g, rc_value logits, double smoothing)
{
    rc_attrs a = {.smoothing = smoothing};
    return binary(g, RC_OP_cross_entropy, logits, rc_graph_labels(g), a);
}

rc_value
rc_cross_entropy_others(rc_graph *g, rc_value logits, double smoothing)
{
    rc_attrs a = {.smoothing = smoothing, .mode = 1};
    return binary(g, RC_OP_cross_entropy, logits, rc_graph_labels(g), a);
}

rc_value
rc_circle_logits(rc_graph *g, rc_value logits, double margin, double scale)
{
    rc_attrs a = {.margin = margin, .scale = scale};
    return binary(g, RC_OP_circle_logits, logits, rc_graph_labels(g), a);
}

rc_value
rc_triplet(rc_graph *g, rc_value x, double margin, bool soft)
{
    rc_attrs a = {.margin = margin, .soft = soft};
    return binary(g, RC_OP_triplet, x, rc_graph_labels(g), a);
}

rc_value
rc_center_loss(rc_graph *g, rc_value x, const char *name, int64_t classes)
{
    int64_t d[2] = {classes, rc_channels(g, x)};
    rc_value ins[3] = {x, rc_graph_labels(g),
                       rc_graph_state(g, RC_STATE_PARAMETER, "", name, 2, d,
                                      (rc_init){RC_INIT_NORMAL, 0, 1})};
    return rc_graph_node(g, RC_OP_center, NULL, 3, ins);
}

rc_value
rc_mean_of(rc_graph *g, int n, const rc_value *scalars)
{
    return rc_graph_node(g, RC_OP_mean_scalars, NULL, n, scalars);
}

rc_value
rc_plus_weighted(rc_graph *g, rc_value a, rc_value b, double weight)
{
    return binary(g, RC_OP_add_scalars, a, b, (rc_attrs){.weight = weight});
}
