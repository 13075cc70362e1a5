/* Baseline: ResNet with BNNeck, "bag of tricks" (Luo et al. 2019); spec/common.md 10. With
 * pool='gem', head='circle', non_local=True, triplet_on='bnneck', spread='others' and margin None it
 * is fast-reid's "stronger baseline" (He et al. 2020): GeM, circle softmax (common.md 1), non-local
 * blocks after the last blocks of layer2 and layer3. */
#include <math.h>

#include "nets/nets.h"

enum { POOL_AVG, POOL_GEM };
enum { HEAD_LINEAR, HEAD_CIRCLE };
enum { ON_FEAT, ON_NECK };
enum { SPREAD_ALL, SPREAD_OTHERS };

/* Class-level circle loss, fast-reid's values. */
#define CIRCLE_MARGIN 0.35
#define CIRCLE_SCALE 64

typedef struct config {
    int64_t last_stride, triplet, center, pool, head, non_local, triplet_on, spread;
    double label_smooth, margin, w_center;
} config;

static const config defaults = {
    .last_stride = 1,
    .triplet = 1,
    .pool = POOL_AVG,
    .head = HEAD_LINEAR,
    .triplet_on = ON_FEAT,
    .spread = SPREAD_ALL,
    .label_smooth = 0.1,
    .margin = 0.3,
    .w_center = 0.0005,
};

static const rc_switch switches[] = {
    {"last_stride", RC_SWITCH_INT, offsetof(config, last_stride), 1, 2, NULL},
    {"label_smooth", RC_SWITCH_REAL, offsetof(config, label_smooth), 0, 1, NULL},
    {"margin", RC_SWITCH_REAL_OR_NONE, offsetof(config, margin), 0, 1e6, NULL},
    {"triplet", RC_SWITCH_BOOL, offsetof(config, triplet), 0, 0, NULL},
    {"center", RC_SWITCH_BOOL, offsetof(config, center), 0, 0, NULL},
    {"w_center", RC_SWITCH_REAL, offsetof(config, w_center), 0, 1e6, NULL},
    {"pool", RC_SWITCH_CHOICE, offsetof(config, pool), 0, 0, "avg|gem"},
    {"head", RC_SWITCH_CHOICE, offsetof(config, head), 0, 0, "linear|circle"},
    {"non_local", RC_SWITCH_BOOL, offsetof(config, non_local), 0, 0, NULL},
    {"triplet_on", RC_SWITCH_CHOICE, offsetof(config, triplet_on), 0, 0, "feat|bnneck"},
    {"spread", RC_SWITCH_CHOICE, offsetof(config, spread), 0, 0, "all|others"},
};

/* ---- non-local blocks ------------------------------------------------------------------------
 * Dot product, divided by the number P of positions: z = x + bn(W(theta (phi^T g) / P)), where
 * theta, phi, g (P x 1) are 1x1 convolutions to one channel. fast-reid means half of the channels
 * and computes ratio/ratio = 1; its published weights have one. No softmax stands between, so the
 * product is taken from the right and the P x P map need not exist. bn's weight starts at 0. */

/* How many there are, behind the last blocks of a stage; 0 for a backbone that has none. */
static int
non_local_count(const rc_backbone *b, int stage)
{
    bool of50 = b->bottleneck && b->blocks[2] == 6, of101 = b->bottleneck && b->blocks[2] == 23;
    if (!of50 && !of101) {
        return 0;
    }
    return stage == 2 ? 2 : stage != 3 ? 0 : of101 ? 9 : 3;
}

/* A 1x1 convolution with bias, to matrices of positions by channels. */
static rc_value
projection(rc_graph *g, rc_value x, const char *name)
{
    rc_conv_spec spec = {.out = 1, .kernel = 1, .bias = true, .init = RC_UNIFORM_FAN_IN};
    rc_value y = rc_conv2d(g, x, name, spec);
    return rc_graph_node(g, RC_OP_view, &(rc_attrs){.mode = 1}, 1, &y);
}

static rc_value
non_local(rc_graph *g, const rc_backbone *b, rc_value x, const char *prefix, int stage, int place)
{
    int from = b->blocks[stage - 1] - non_local_count(b, stage);
    if (place < from) {
        return x;
    }
    rc_label name = rc_label_of("%s.NL_%d.%d", prefix, stage, place - from);
    rc_shape s = rc_graph_shape(g, x);
    rc_value value = projection(g, x, RC_L("%s.g", name.text));
    rc_value theta = projection(g, x, RC_L("%s.theta", name.text));
    rc_value phi = projection(g, x, RC_L("%s.phi", name.text));
    rc_attrs inner = {.trans_a = 1, .scale = 1 / (double)(s.d[2] * s.d[3])};
    rc_value m = rc_graph_node(g, RC_OP_matmul, &inner, 2, (rc_value[2]){phi, value});
    m = rc_graph_node(g, RC_OP_matmul, &(rc_attrs){.scale = 1}, 2, (rc_value[2]){theta, m});
    rc_attrs as_map = {.mode = 2, .from = s.d[2], .to = s.d[3]};
    rc_value y = rc_graph_node(g, RC_OP_view, &as_map, 1, &m);
    rc_conv_spec wide = {.out = s.d[1], .kernel = 1, .bias = true, .init = RC_UNIFORM_FAN_IN};
    y = rc_conv2d(g, y, RC_L("%s.W.0", name.text), wide);
    return rc_add(g, x, rc_batch_norm_zero(g, y, RC_L("%s.W.1", name.text)));
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* The class logits: of the circle head the cosines times its scale, which need no labels. */
static rc_value
logits_of(rc_graph *g, const config *c, rc_value neck, int64_t classes)
{
    if (c->head == HEAD_CIRCLE) {
        rc_linear_spec spec = {classes, false, RC_COSINE_HEAD};
        return rc_cosine_linear(g, neck, "classifier", spec, CIRCLE_SCALE);
    }
    return rc_linear(g, neck, "classifier", (rc_linear_spec){classes, false, RC_CLASSIFIER});
}

static rc_value
identity_loss(rc_graph *g, const config *c, rc_value logit)
{
    if (c->head == HEAD_CIRCLE) {
        logit = rc_circle_logits(g, logit, CIRCLE_MARGIN, CIRCLE_SCALE);
    }
    return c->spread == SPREAD_OTHERS ? rc_cross_entropy_others(g, logit, c->label_smooth)
                                      : rc_cross_entropy(g, logit, c->label_smooth);
}

static void
build(rc_graph *g, const rc_net *net, const void *raw)
{
    const config *c = raw;
    int64_t step = c->last_stride == 2 ? 32 : 16;
    if (net->height % step || net->width % step) {
        rc_graph_fail(g, RC_ARGUMENT,
                      "height, width: expected multiples of %lld, got %lld x %lld",
                      (long long)step, (long long)net->height, (long long)net->width);
        return;
    }
    if (c->non_local && !non_local_count(&net->backbone, 2)) {
        rc_graph_fail(g, RC_ARGUMENT, "non_local: expected a backbone of resnet50, resnet50_ibn_a "
                      "or resnet101, got '%s'", net->backbone.name);
        return;
    }
    rc_value x = rc_graph_images(g, 3, net->height, net->width);
    rc_resnet_parts parts = {.after = c->non_local ? non_local : NULL};
    x = rc_resnet_pool(g, rc_resnet_stem(g, &net->backbone, x, "backbone"));
    for (int stage = 1; stage <= 4; stage++) {
        int64_t stride = stage == 1 ? 1 : stage == 4 ? c->last_stride : 2;
        x = rc_resnet_stage_with(g, &net->backbone, x, "backbone", stage, stride, parts);
    }
    rc_graph_cam(g, x);
    rc_value feat =
        c->pool == POOL_GEM ? rc_gem(g, x, "gem") : rc_global_pool(g, x, RC_POOL_MEAN);
    rc_value neck = rc_bn_neck(g, feat, "bnneck");
    rc_value logit = logits_of(g, c, neck, net->classes);

    rc_graph_output(g, RC_ROLE_TRAIN, "feat", feat);
    if (c->triplet_on == ON_NECK) {
        rc_graph_output(g, RC_ROLE_TRAIN, "bnneck", neck);
    }
    rc_graph_output(g, RC_ROLE_TRAIN, "logit", logit);
    rc_graph_output(g, RC_ROLE_EVAL, "embedding", neck);

    rc_value id = identity_loss(g, c, logit), total = id;
    rc_graph_output(g, RC_ROLE_LOSS, "id", id);
    if (c->triplet) {
        rc_value on = c->triplet_on == ON_NECK ? neck : feat;
        rc_value triplet = rc_triplet(g, on, isnan(c->margin) ? 0 : c->margin, isnan(c->margin));
        rc_graph_output(g, RC_ROLE_LOSS, "triplet", triplet);
        total = rc_plus_weighted(g, total, triplet, 1);
    }
    if (c->center) {
        rc_value center = rc_center_loss(g, feat, "center", net->classes);
        rc_graph_output(g, RC_ROLE_LOSS, "center", center);
        total = rc_plus_weighted(g, total, center, c->w_center);
        g->center_weight = c->w_center;
    }
    rc_graph_output(g, RC_ROLE_LOSS, "total", total);
}

const rc_system rc_system_baseline = {
    .name = "baseline",
    .height = 256,
    .width = 128,
    .backbone = "resnet50",
    .switches = switches,
    .n_switches = sizeof switches / sizeof switches[0],
    .defaults = &defaults,
    .config_size = sizeof(config),
    .build = build,
};
