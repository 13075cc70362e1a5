/* ResNet-18/34/50/101/152 and ResNet-50-IBN-a (He et al. 2016; Pan et al. 2018), under
 * torchvision's parameter names. */
#include "nets/resnet.h"

#include <math.h>
#include <string.h>

static const struct {
    const char *name;
    bool bottleneck, ibn;
    int blocks[4];
} kinds[] = {
    {"resnet18", false, false, {2, 2, 2, 2}},  {"resnet34", false, false, {3, 4, 6, 3}},
    {"resnet50", true, false, {3, 4, 6, 3}},   {"resnet101", true, false, {3, 4, 23, 3}},
    {"resnet152", true, false, {3, 8, 36, 3}}, {"resnet50_ibn_a", true, true, {3, 4, 6, 3}},
};

static int64_t
scaled(int64_t channels, double multiplier)
{
    double eighths = nearbyint((double)channels * multiplier / 8); /* half to even */
    return 8 * (int64_t)(eighths < 1 ? 1 : eighths);
}

rc_status
rc_backbone_find(const char *name, double multiplier, rc_backbone *out, rc_error *err)
{
    if (!(multiplier > 0 && multiplier <= 8)) {
        return rc_fail(err, RC_ARGUMENT, "width_multiplier: expected more than 0, at most 8, got %g",
                       multiplier);
    }
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(kinds[i].name, name)) {
            continue;
        }
        *out = (rc_backbone){.name = kinds[i].name,
                             .bottleneck = kinds[i].bottleneck,
                             .ibn = kinds[i].ibn,
                             .stem = scaled(64, multiplier)};
        for (int s = 0; s < 4; s++) {
            out->blocks[s] = kinds[i].blocks[s];
            out->width[s] = scaled((int64_t)64 << s, multiplier);
            out->out[s] = out->width[s] * (kinds[i].bottleneck ? 4 : 1);
        }
        return RC_OK;
    }
    return rc_fail(err, RC_ARGUMENT,
                   "backbone: expected resnet18, resnet34, resnet50, resnet101, resnet152 or "
                   "resnet50_ibn_a, got '%.40s'", name);
}

static rc_value
conv(rc_graph *g, rc_value x, const char *name, int64_t out, int64_t kernel, int64_t stride)
{
    rc_conv_spec spec = {.out = out, .kernel = kernel, .stride = stride, .pad = kernel / 2};
    return rc_conv2d(g, x, name, spec);
}

rc_value
rc_resnet_stem(rc_graph *g, const rc_backbone *b, rc_value images, const char *prefix)
{
    rc_value x = conv(g, images, RC_L("%s.conv1", prefix), b->stem, 7, 2);
    return rc_relu(g, rc_batch_norm(g, x, RC_L("%s.bn1", prefix)));
}

rc_value
rc_resnet_pool(rc_graph *g, rc_value x)
{
    return rc_max_pool2d(g, x, 3, 2, 1);
}

static rc_value
shortcut(rc_graph *g, rc_value x, const char *name, int64_t out, int64_t stride, bool needed)
{
    if (!needed) {
        return x;
    }
    rc_value y = conv(g, x, RC_L("%s.downsample.0", name), out, 1, stride);
    return rc_batch_norm(g, y, RC_L("%s.downsample.1", name));
}

/* A block's last batch norm. */
static rc_value
last_norm(rc_graph *g, const rc_backbone *b, rc_value x, const char *name)
{
    return (b->zero_init ? rc_batch_norm_zero : rc_batch_norm)(g, x, name);
}

static rc_value
bottleneck(rc_graph *g, const rc_backbone *b, rc_value x, const char *name, int stage,
           int64_t stride, bool first, rc_resnet_parts parts)
{
    int64_t w = b->width[stage - 1], out = b->out[stage - 1];
    bool ibn = b->ibn && stage < 4;
    rc_value y = conv(g, x, RC_L("%s.conv1", name), w, 1, 1);
    y = ibn ? rc_ibn(g, y, RC_L("%s.bn1", name)) : rc_batch_norm(g, y, RC_L("%s.bn1", name));
    rc_label conv2 = rc_label_of("%s.conv2", name);
    y = rc_relu(g, y);
    y = parts.middle ? parts.middle(g, y, conv2.text, stride)
                     : conv(g, y, conv2.text, w, 3, stride);
    y = rc_relu(g, rc_batch_norm(g, y, RC_L("%s.bn2", name)));
    y = conv(g, y, RC_L("%s.conv3", name), out, 1, 1);
    y = last_norm(g, b, y, RC_L("%s.bn3", name));
    return rc_relu(g, rc_add(g, y, shortcut(g, x, name, out, stride, first)));
}

static rc_value
basic(rc_graph *g, const rc_backbone *b, rc_value x, const char *name, int stage, int64_t stride)
{
    int64_t out = b->out[stage - 1];
    bool project = stride != 1 || rc_channels(g, x) != out;
    rc_value y = conv(g, x, RC_L("%s.conv1", name), out, 3, stride);
    y = rc_relu(g, rc_batch_norm(g, y, RC_L("%s.bn1", name)));
    y = conv(g, y, RC_L("%s.conv2", name), out, 3, 1);
    y = last_norm(g, b, y, RC_L("%s.bn2", name));
    return rc_relu(g, rc_add(g, y, shortcut(g, x, name, out, stride, project)));
}

rc_value
rc_resnet_stage(rc_graph *g, const rc_backbone *b, rc_value x, const char *prefix, int stage,
                int64_t stride)
{
    return rc_resnet_stage_with(g, b, x, prefix, stage, stride, (rc_resnet_parts){0});
}

rc_value
rc_resnet_stage_with(rc_graph *g, const rc_backbone *b, rc_value x, const char *prefix, int stage,
                     int64_t stride, rc_resnet_parts parts)
{
    for (int j = 0; j < b->blocks[stage - 1]; j++) {
        rc_label name = rc_label_of("%s.layer%d.%d", prefix, stage, j);
        int64_t s = j == 0 ? stride : 1;
        x = b->bottleneck ? bottleneck(g, b, x, name.text, stage, s, j == 0, parts)
                          : basic(g, b, x, name.text, stage, s);
        x = parts.after ? parts.after(g, b, x, prefix, stage, j) : x;
    }
    rc_graph_name(g, x, RC_L("%s.layer%d", prefix, stage));
    return x;
}
