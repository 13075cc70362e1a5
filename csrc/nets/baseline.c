/* Baseline: ResNet with BNNeck, "bag of tricks" (Luo et al. 2019); spec/common.md 10. */
#include <math.h>

#include "nets/nets.h"

typedef struct config {
    int64_t last_stride, triplet, center;
    double label_smooth, margin, w_center;
} config;

static const config defaults = {
    .last_stride = 1,
    .triplet = 1,
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
};

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
    rc_value x = rc_graph_images(g, 3, net->height, net->width);
    x = rc_resnet_pool(g, rc_resnet_stem(g, &net->backbone, x, "backbone"));
    for (int stage = 1; stage <= 4; stage++) {
        int64_t stride = stage == 1 ? 1 : stage == 4 ? c->last_stride : 2;
        x = rc_resnet_stage(g, &net->backbone, x, "backbone", stage, stride);
    }
    rc_graph_cam(g, x);
    rc_value feat = rc_global_pool(g, x, RC_POOL_MEAN);
    rc_value neck = rc_bn_neck(g, feat, "bnneck");
    rc_value logit =
        rc_linear(g, neck, "classifier", (rc_linear_spec){net->classes, false, RC_CLASSIFIER});

    rc_graph_output(g, RC_ROLE_TRAIN, "feat", feat);
    rc_graph_output(g, RC_ROLE_TRAIN, "logit", logit);
    rc_graph_output(g, RC_ROLE_EVAL, "embedding", neck);

    rc_value id = rc_cross_entropy(g, logit, c->label_smooth), total = id;
    rc_graph_output(g, RC_ROLE_LOSS, "id", id);
    if (c->triplet) {
        rc_value triplet = rc_triplet(g, feat, isnan(c->margin) ? 0 : c->margin, isnan(c->margin));
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
