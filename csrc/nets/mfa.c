/* MFA: multi-local feature and attention fused network, as on the page spec/mfa.md: ResNet-50
 * with CPAA (channel affinity, then position attention) after layers 2, 3 and 4; four branches
 * on the whole map, each pooled by GeM, with a BNNeck, a classifier and centres of its own; the
 * means of four horizontal strips guide them (GLA). */
#include <math.h>

#include "nets/nets.h"

enum { PARTS_BOTH, PARTS_CHANNEL, PARTS_POINT };
enum { POOL_GEM, POOL_AVG };
#define MAX_BRANCHES RC_MAX_IN

#define LAYER(s) (INT64_C(1) << (s))

typedef struct config {
    int64_t cpaa, cpaa_parts, cpaa_scale, local_branches, regions, gla, pool, triplet, center;
    double label_smooth, w_center, w_gla;
} config;

static const config defaults = {
    .cpaa = LAYER(2) | LAYER(3) | LAYER(4),
    .cpaa_parts = PARTS_BOTH,
    .local_branches = 1,
    .regions = 4,
    .gla = 1,
    .pool = POOL_GEM,
    .triplet = 1,
    .center = 1,
    .label_smooth = 0.1,
    .w_center = 0.0005,
    .w_gla = 1,
};

static const rc_switch switches[] = {
    {"cpaa", RC_SWITCH_SUBSET_OR_EMPTY, offsetof(config, cpaa), 1, 4, NULL},
    {"cpaa_parts", RC_SWITCH_CHOICE, offsetof(config, cpaa_parts), 0, 0, "both|channel|point"},
    {"cpaa_scale", RC_SWITCH_BOOL, offsetof(config, cpaa_scale), 0, 0, NULL},
    {"local_branches", RC_SWITCH_BOOL, offsetof(config, local_branches), 0, 0, NULL},
    {"regions", RC_SWITCH_INT, offsetof(config, regions), 1, MAX_BRANCHES, NULL},
    {"gla", RC_SWITCH_BOOL, offsetof(config, gla), 0, 0, NULL},
    {"pool", RC_SWITCH_CHOICE, offsetof(config, pool), 0, 0, "gem|avg"},
    {"label_smooth", RC_SWITCH_REAL, offsetof(config, label_smooth), 0, 1, NULL},
    {"triplet", RC_SWITCH_BOOL, offsetof(config, triplet), 0, 0, NULL},
    {"center", RC_SWITCH_BOOL, offsetof(config, center), 0, 0, NULL},
    {"w_center", RC_SWITCH_REAL, offsetof(config, w_center), 0, 1e6, NULL},
    {"w_gla", RC_SWITCH_REAL, offsetof(config, w_gla), 0, 1e6, NULL},
};

/* ---- CPAA ------------------------------------------------------------------------------------
 * Matrices lie as positions by channels, so what the page writes as X (C x M) is its transpose. */

static rc_value
matrix(rc_graph *g, rc_value x)
{
    return rc_graph_node(g, RC_OP_view, &(rc_attrs){.mode = 1}, 1, &x);
}

/* factor*map(m) + x */
static rc_value
add_share(rc_graph *g, rc_value factor, rc_value m, rc_value x)
{
    rc_shape s = rc_graph_shape(g, x);
    rc_attrs as_map = {.mode = 2, .from = s.d[2], .to = s.d[3]};
    rc_value map = rc_graph_node(g, RC_OP_view, &as_map, 1, &m);
    return rc_graph_node(g, RC_OP_scale_add, NULL, 3, (rc_value[3]){factor, map, x});
}

/* beta*(S X) + X, S = softmax of each row of -X X^T */
static rc_value
channel_part(rc_graph *g, rc_value a, const char *name, rc_value beta, bool scaled)
{
    rc_value x = matrix(g, a);
    int64_t positions = rc_graph_shape(g, x).d[1];
    rc_attrs gram = {.trans_a = 1, .scale = scaled ? 1 / (double)positions : 1};
    rc_value e = rc_graph_node(g, RC_OP_matmul, &gram, 2, (rc_value[2]){x, x});
    rc_value s = rc_graph_node(g, RC_OP_softmax, &(rc_attrs){.negate = 1}, 1, &e);
    rc_graph_name(g, s, RC_L("%s.channel", name));
    rc_graph_attention(g, RC_L("%s.channel", name), s, 0);
    rc_attrs by_rows = {.trans_b = 1, .scale = 1};
    rc_value sx = rc_graph_node(g, RC_OP_matmul, &by_rows, 2, (rc_value[2]){x, s});
    return add_share(g, beta, sx, a);
}

/* gamma*(V P^T) + B, P = softmax of each row of Q^T K */
static rc_value
point_part(rc_graph *g, rc_value b, const char *name, rc_value gamma, bool scaled)
{
    int64_t c = rc_channels(g, b);
    rc_conv_spec narrow = {.out = c / 8, .kernel = 1, .bias = true};
    rc_conv_spec grouped = {.out = c, .kernel = 1, .groups = 8, .bias = true};
    rc_value q = matrix(g, rc_conv2d(g, b, RC_L("%s.query", name), narrow));
    rc_value k = matrix(g, rc_conv2d(g, b, RC_L("%s.key", name), narrow));
    rc_value v = matrix(g, rc_conv2d(g, b, RC_L("%s.value", name), grouped));
    rc_attrs logits = {.trans_b = 1, .scale = scaled ? 1 / sqrt((double)c / 8) : 1};
    rc_value p = rc_graph_node(g, RC_OP_matmul, &logits, 2, (rc_value[2]){q, k});
    p = rc_graph_node(g, RC_OP_softmax, NULL, 1, &p);
    rc_graph_name(g, p, RC_L("%s.point", name));
    rc_graph_attention(g, RC_L("%s.point", name), p, 0);
    rc_value o = rc_graph_node(g, RC_OP_matmul, &(rc_attrs){.scale = 1}, 2, (rc_value[2]){p, v});
    return add_share(g, gamma, o, b);
}

static rc_value
cpaa(rc_graph *g, const config *c, rc_value x, int layer)
{
    rc_label name = rc_label_of("cpaa.%d", layer);
    bool channel = c->cpaa_parts != PARTS_POINT, point = c->cpaa_parts != PARTS_CHANNEL;
    rc_value beta = channel ? rc_scalar(g, name.text, "beta", 0) : RC_NONE;
    rc_value gamma = point ? rc_scalar(g, name.text, "gamma", 0) : RC_NONE;
    x = channel ? channel_part(g, x, name.text, beta, c->cpaa_scale) : x;
    x = point ? point_part(g, x, name.text, gamma, c->cpaa_scale) : x;
    rc_graph_name(g, x, name.text);
    return x;
}

/* ---- branches ------------------------------------------------------------------------------- */

/* A bottleneck block on all of F. */
static rc_value
block(rc_graph *g, rc_value f, const char *name)
{
    int64_t c = rc_channels(g, f);
    rc_conv_spec narrow = {.out = c / 16, .kernel = 1}, wide = {.out = c, .kernel = 1};
    rc_conv_spec middle = {.out = c / 16, .kernel = 3, .pad = 1};
    rc_value y = rc_conv2d(g, f, RC_L("%s.conv1", name), narrow);
    y = rc_relu(g, rc_batch_norm(g, y, RC_L("%s.bn1", name)));
    y = rc_conv2d(g, y, RC_L("%s.conv2", name), middle);
    y = rc_relu(g, rc_batch_norm(g, y, RC_L("%s.bn2", name)));
    y = rc_conv2d(g, y, RC_L("%s.conv3", name), wide);
    y = rc_relu(g, rc_add(g, rc_batch_norm(g, y, RC_L("%s.bn3", name)), f));
    rc_graph_name(g, y, name);
    return y;
}

/* ---- the whole ------------------------------------------------------------------------------ */

typedef struct heads {
    int count;
    rc_value feat[MAX_BRANCHES], neck[MAX_BRANCHES], logit[MAX_BRANCHES], region[MAX_BRANCHES];
} heads;

static void
add_heads(rc_graph *g, const rc_net *net, const config *c, rc_value f, heads *h)
{
    int64_t rows = rc_graph_shape(g, f).d[2];
    h->count = c->local_branches ? (int)c->regions : 1;
    for (int i = 0; i < h->count; i++) {
        rc_label name = rc_label_of("branch.%d", i);
        rc_value y = c->local_branches ? block(g, f, name.text) : f;
        rc_graph_cam(g, y);
        h->feat[i] = c->local_branches && c->pool == POOL_GEM
                         ? rc_gem(g, y, RC_L("%s.gem", name.text))
                         : rc_global_pool(g, y, RC_POOL_MEAN);
    }
    for (int i = 0; i < h->count; i++) {
        h->neck[i] = rc_bn_neck(g, h->feat[i], RC_L("bnneck.%d", i));
    }
    for (int i = 0; i < h->count; i++) {
        rc_linear_spec spec = {net->classes, false, RC_CLASSIFIER};
        h->logit[i] = rc_linear(g, h->neck[i], RC_L("classifier.%d", i), spec);
    }
    for (int i = 0; c->local_branches && i < h->count; i++) { /* rows floor to ceil */
        int64_t from = i * rows / h->count, to = ((i + 1) * rows + h->count - 1) / h->count;
        h->region[i] = rc_rows_pool(g, f, RC_POOL_MEAN, from, to);
    }
}

/* factor: what the part counts in `total` */
static rc_value
add_part(rc_graph *g, const heads *h, const char *name, const rc_value *each, rc_value total,
         double factor)
{
    rc_value part = rc_mean_of(g, h->count, each);
    rc_graph_output(g, RC_ROLE_LOSS, name, part);
    return total == RC_NONE ? part : rc_plus_weighted(g, total, part, factor);
}

static void
add_losses(rc_graph *g, const rc_net *net, const config *c, const heads *h)
{
    rc_value each[MAX_BRANCHES], total;
    for (int i = 0; i < h->count; i++) {
        each[i] = rc_cross_entropy(g, h->logit[i], c->label_smooth);
    }
    total = add_part(g, h, "id", each, RC_NONE, 1);
    for (int i = 0; c->triplet && i < h->count; i++) {
        each[i] = rc_triplet(g, h->feat[i], 0, true);
    }
    total = c->triplet ? add_part(g, h, "triplet", each, total, 1) : total;
    for (int i = 0; c->center && i < h->count; i++) {
        each[i] = rc_center_loss(g, h->feat[i], RC_L("center.%d", i), net->classes);
    }
    if (c->center) {
        total = add_part(g, h, "center", each, total, c->w_center);
        g->center_weight = c->w_center / h->count;
    }
    for (int i = 0; c->gla && i < h->count; i++) {
        rc_value ins[2] = {h->feat[i], h->region[i]};
        each[i] = rc_graph_node(g, RC_OP_cosine_loss, NULL, 2, ins);
    }
    total = c->gla ? add_part(g, h, "gla", each, total, c->w_gla) : total;
    rc_graph_output(g, RC_ROLE_LOSS, "total", total);
}

static void
build(rc_graph *g, const rc_net *net, const void *raw)
{
    const config *c = raw;
    if (net->height % 16 || net->width % 16) {
        rc_graph_fail(g, RC_ARGUMENT, "height, width: expected multiples of 16, got %lld x %lld",
                      (long long)net->height, (long long)net->width);
        return;
    }
    if (c->gla && !c->local_branches) {
        rc_graph_fail(g, RC_ARGUMENT, "gla: the loss needs local_branches=True");
        return;
    }
    rc_value f = rc_graph_images(g, 3, net->height, net->width);
    f = rc_resnet_pool(g, rc_resnet_stem(g, &net->backbone, f, "backbone"));
    for (int stage = 1; stage <= 4; stage++) {
        int64_t stride = stage == 1 || stage == 4 ? 1 : 2;
        f = rc_resnet_stage(g, &net->backbone, f, "backbone", stage, stride);
        f = c->cpaa & LAYER(stage) ? cpaa(g, c, f, stage) : f;
    }
    heads h = {0};
    g->cam_heads = true;
    add_heads(g, net, c, f, &h);
    for (int i = 0; i < h.count; i++) {
        rc_graph_output(g, RC_ROLE_TRAIN, RC_L("feat_%d", i), h.feat[i]);
    }
    for (int i = 0; i < h.count; i++) {
        rc_graph_output(g, RC_ROLE_TRAIN, RC_L("logit_%d", i), h.logit[i]);
    }
    for (int i = 0; c->local_branches && i < h.count; i++) {
        rc_graph_output(g, RC_ROLE_TRAIN, RC_L("region_%d", i), h.region[i]);
    }
    rc_value embedding = h.count > 1 ? rc_concat(g, h.count, h.neck) : h.neck[0];
    rc_graph_output(g, RC_ROLE_EVAL, "embedding", rc_normalize(g, embedding));
    add_losses(g, net, c, &h);
}

const rc_system rc_system_mfa = {
    .name = "mfa",
    .height = 256,
    .width = 128,
    .backbone = "resnet50",
    .normalized = true,
    .switches = switches,
    .n_switches = sizeof switches / sizeof switches[0],
    .defaults = &defaults,
    .config_size = sizeof(config),
    .build = build,
};
