/* FSAC: fusion self-attention feature clustering network, as on the page spec/fsac.md:
 * ResNet-50-IBN-a whose 3x3 convolutions of layer3 and layer4 are multi-head self-attention
 * (BoTNet), channel attention (ECA) after each of the five stages, and the last three maps
 * pooled to one size and stacked. */
#include <math.h>

#include "nets/nets.h"

#define HEADS 4

typedef struct config {
    int64_t mhsa, eca, fusion;
} config;

static const config defaults = {.mhsa = 1, .eca = 1, .fusion = 1};

static const rc_switch switches[] = {
    {"mhsa", RC_SWITCH_BOOL, offsetof(config, mhsa), 0, 0, NULL},
    {"eca", RC_SWITCH_BOOL, offsetof(config, eca), 0, 0, NULL},
    {"fusion", RC_SWITCH_BOOL, offsetof(config, fusion), 0, 0, NULL},
};

/* ---- attention in the place of a bottleneck's 3x3 convolution ------------------------------- */

static rc_value
project(rc_graph *g, rc_value x, const char *name)
{
    return rc_conv2d(g, x, name, (rc_conv_spec){.out = rc_channels(g, x), .kernel = 1});
}

/* N(0, 1/d), a row for each of the 2*size-1 distances */
static rc_value
table(rc_graph *g, const char *prefix, const char *name, int64_t size, int64_t d)
{
    int64_t shape[2] = {2 * size - 1, d};
    rc_init init = {RC_INIT_NORMAL, 0, 1 / sqrt((double)d)};
    return rc_graph_state(g, RC_STATE_PARAMETER, prefix, name, 2, shape, init);
}

static rc_value
attention(rc_graph *g, rc_value x, const char *name, int64_t stride)
{
    rc_shape s = rc_graph_shape(g, x);
    if (s.d[1] % HEADS) {
        return rc_graph_fail(g, RC_ARGUMENT, "width_multiplier: mhsa needs widths divisible by %d, "
                             "got %lld", HEADS, (long long)s.d[1]);
    }
    int64_t d = s.d[1] / HEADS;
    rc_value ins[5];
    ins[3] = table(g, name, "rel_h", s.d[2], d);
    ins[4] = table(g, name, "rel_w", s.d[3], d);
    ins[0] = project(g, x, RC_L("%s.q", name));
    ins[1] = project(g, x, RC_L("%s.k", name));
    ins[2] = project(g, x, RC_L("%s.v", name));
    rc_attrs a = {.groups = HEADS, .scale = 1 / sqrt((double)d)};
    rc_value o = rc_graph_node(g, RC_OP_relative_attention, &a, 5, ins);
    rc_value weights = rc_graph_node(g, RC_OP_relative_attention_map, &a, 5, ins);
    rc_graph_name(g, weights, RC_L("%s.mask", name));
    rc_graph_attention(g, name, weights, HEADS);
    return stride == 2 ? rc_avg_pool2d(g, o, 2, 2) : o;
}

/* ---- ECA ------------------------------------------------------------------------------------ */

/* x times sigmoid(convolution along the channels of its means) */
static rc_value
eca(rc_graph *g, rc_value x, const char *name)
{
    int64_t t = (int64_t)floor((log2((double)rc_channels(g, x)) + 1) / 2);
    int64_t shape[3] = {1, 1, t % 2 ? t : t + 1};
    rc_init init = {RC_INIT_NORMAL, 0, sqrt(2.0 / (double)shape[2])};
    rc_value ins[2];
    ins[0] = rc_global_pool(g, x, RC_POOL_MEAN);
    ins[1] = rc_graph_state(g, RC_STATE_PARAMETER, RC_L("%s.conv", name), "weight", 3, shape, init);
    rc_value s = rc_sigmoid(g, rc_graph_node(g, RC_OP_channel_conv, NULL, 2, ins));
    rc_graph_name(g, s, RC_L("%s.mask", name));
    rc_graph_attention(g, name, s, 0);
    rc_value y = rc_mul_channel(g, x, s);
    rc_graph_name(g, y, name);
    return y;
}

/* ---- the whole ------------------------------------------------------------------------------ */

static void
build(rc_graph *g, const rc_net *net, const void *raw)
{
    const config *c = raw;
    if (net->height % 32 || net->width % 32) {
        rc_graph_fail(g, RC_ARGUMENT, "height, width: expected multiples of 32, got %lld x %lld",
                      (long long)net->height, (long long)net->width);
        return;
    }
    if (c->mhsa && !net->backbone.bottleneck) {
        rc_graph_fail(g, RC_ARGUMENT,
                      "backbone: mhsa needs one of bottlenecks (resnet50 and deeper), got '%s'",
                      net->backbone.name);
        return;
    }
    rc_value x = rc_graph_images(g, 3, net->height, net->width), maps[3];
    x = rc_resnet_stem(g, &net->backbone, x, "backbone");
    x = c->eca ? eca(g, x, "eca1") : x;
    x = rc_resnet_pool(g, x);
    for (int stage = 1; stage <= 4; stage++) {
        rc_resnet_parts parts = {.middle = c->mhsa && stage >= 3 ? attention : NULL};
        x = rc_resnet_stage_with(g, &net->backbone, x, "backbone", stage, stage == 1 ? 1 : 2,
                                 parts);
        x = c->eca ? eca(g, x, RC_L("eca%d", stage + 1)) : x;
        if (stage >= 2) {
            maps[stage - 2] = x;
        }
    }
    rc_graph_cam(g, x);
    if (c->fusion) {
        maps[0] = rc_max_pool2d(g, maps[0], 4, 4, 0);
        maps[1] = rc_max_pool2d(g, maps[1], 2, 2, 0);
        x = rc_concat(g, 3, maps);
    }
    rc_value f = rc_global_pool(g, x, RC_POOL_MEAN);
    rc_value y = rc_linear(g, f, "classifier", (rc_linear_spec){net->classes, true, RC_CLASSIFIER});

    rc_graph_output(g, RC_ROLE_TRAIN, "f", f);
    rc_graph_output(g, RC_ROLE_TRAIN, "y", y);
    rc_graph_output(g, RC_ROLE_EVAL, "embedding", f);

    rc_value id = rc_cross_entropy(g, y, 0), triplet = rc_triplet(g, f, 0.3, false);
    rc_graph_output(g, RC_ROLE_LOSS, "id", id);
    rc_graph_output(g, RC_ROLE_LOSS, "triplet", triplet);
    rc_graph_output(g, RC_ROLE_LOSS, "total", rc_plus_weighted(g, id, triplet, 1));
}

const rc_system rc_system_fsac = {
    .name = "fsac",
    .height = 256,
    .width = 128,
    .backbone = "resnet50_ibn_a",
    .switches = switches,
    .n_switches = sizeof switches / sizeof switches[0],
    .defaults = &defaults,
    .config_size = sizeof(config),
    .build = build,
};
