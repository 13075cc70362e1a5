/* MGAF: multi-granularity network with attention fusion, as on the page spec/mgaf.md: a ResNet
 * up to layer2, then three branches with layer3 and layer4 of their own, whose strides give a
 * small, a medium and a large map; a non-local block on each; 1, 3 and 4 pooled vectors. */
#include "nets/nets.h"

enum { SMALL, MEDIUM, LARGE, BRANCHES };
#define MAX_VECTORS 4

typedef struct config {
    int64_t branch[BRANCHES], attention;
} config;

static const config defaults = {.branch = {1, 1, 1}, .attention = 1};

static const rc_switch switches[] = {
    {"small", RC_SWITCH_BOOL, offsetof(config, branch[SMALL]), 0, 0, NULL},
    {"medium", RC_SWITCH_BOOL, offsetof(config, branch[MEDIUM]), 0, 0, NULL},
    {"large", RC_SWITCH_BOOL, offsetof(config, branch[LARGE]), 0, 0, NULL},
    {"attention", RC_SWITCH_BOOL, offsetof(config, attention), 0, 0, NULL},
};

static const struct {
    const char *name;
    int stride3, stride4, stripes;
} layout[BRANCHES] = {
    [SMALL] = {"small", 2, 2, 0},
    [MEDIUM] = {"medium", 2, 1, 2},
    [LARGE] = {"large", 1, 1, 3},
};

/* ---- attention: a non-local block, embedded Gaussian ------------------------------------------ */

static rc_value
conv1x1(rc_graph *g, rc_value x, const char *name, int64_t out, rc_weight_init init)
{
    return rc_conv2d(g, x, name, (rc_conv_spec){.out = out, .kernel = 1, .init = init});
}

/* conv1x1(x) as matrices of positions by channels */
static rc_value
embed(rc_graph *g, rc_value x, const char *name, int64_t out)
{
    rc_value y = conv1x1(g, x, name, out, RC_KAIMING_FAN_OUT);
    return rc_graph_node(g, RC_OP_view, &(rc_attrs){.mode = 1}, 1, &y);
}

/* x + bn(w(A g)), A = softmax of each row of theta phi^T */
static rc_value
non_local(rc_graph *g, rc_value x, const char *name)
{
    rc_shape s = rc_graph_shape(g, x);
    int64_t c = s.d[1];
    rc_value theta = embed(g, x, RC_L("%s.theta", name), c / 2);
    rc_value phi = embed(g, x, RC_L("%s.phi", name), c / 2);
    rc_value value = embed(g, x, RC_L("%s.g", name), c / 2);
    rc_value a = rc_graph_node(g, RC_OP_matmul, &(rc_attrs){.trans_b = 1, .scale = 1}, 2,
                               (rc_value[2]){theta, phi});
    a = rc_graph_node(g, RC_OP_softmax, NULL, 1, &a);
    rc_graph_name(g, a, RC_L("%s.mask", name));
    rc_graph_attention(g, name, a, 0);
    rc_value y =
        rc_graph_node(g, RC_OP_matmul, &(rc_attrs){.scale = 1}, 2, (rc_value[2]){a, value});
    y = rc_graph_node(g, RC_OP_view, &(rc_attrs){.mode = 2, .from = s.d[2], .to = s.d[3]}, 1, &y);
    y = conv1x1(g, y, RC_L("%s.w", name), c, RC_KAIMING_FAN_OUT);
    return rc_add(g, x, rc_batch_norm_zero(g, y, RC_L("%s.bn", name)));
}

/* ---- branches ---------------------------------------------------------------------------------- */

typedef struct branch {
    int count; /* of vectors: the whole map and the stripes; 0: switched off */
    rc_value map;
    rc_value v[MAX_VECTORS], y[MAX_VECTORS];
} branch;

static void
add_branch(rc_graph *g, const rc_net *net, const config *c, rc_value x, int which, branch *out)
{
    const char *name = layout[which].name;
    int stripes = layout[which].stripes;
    x = rc_resnet_stage(g, &net->backbone, x, name, 3, layout[which].stride3);
    x = rc_resnet_stage(g, &net->backbone, x, name, 4, layout[which].stride4);
    if (c->attention) {
        x = non_local(g, x, RC_L("%s.attention", name));
        rc_graph_name(g, x, name);
    } else {
        x = rc_alias(g, x, name);
    }
    int64_t rows = rc_graph_shape(g, x).d[2];
    out->map = x;
    out->count = 1 + stripes;
    for (int i = 0; i <= stripes; i++) {
        rc_value p = i == 0 ? rc_global_pool(g, x, RC_POOL_MAX)
                            : rc_rows_pool(g, x, RC_POOL_MAX, (i - 1) * rows / stripes,
                                           i * rows / stripes);
        rc_value v = conv1x1(g, rc_unflatten(g, p), RC_L("%s.reduce.%d.conv", name, i), 256,
                             RC_KAIMING_FAN_IN);
        v = rc_batch_norm_normal(g, rc_flatten(g, v), RC_L("%s.reduce.%d.bn", name, i));
        out->v[i] = rc_relu(g, v);
    }
    for (int i = 0; i <= stripes; i++) {
        rc_linear_spec spec = {net->classes, true, RC_KAIMING_FAN_OUT};
        out->y[i] = rc_linear(g, out->v[i], RC_L("%s.classifier.%d", name, i), spec);
    }
}

static void
build(rc_graph *g, const rc_net *net, const void *raw)
{
    const config *c = raw;
    if (net->height % 96 || net->width % 32) {
        rc_graph_fail(g, RC_ARGUMENT,
                      "height, width: expected a multiple of 96 and a multiple of 32, got "
                      "%lld x %lld", (long long)net->height, (long long)net->width);
        return;
    }
    if (!c->branch[SMALL] && !c->branch[MEDIUM] && !c->branch[LARGE]) {
        rc_graph_fail(g, RC_ARGUMENT, "small, medium, large: expected at least one, got none");
        return;
    }
    rc_value x = rc_graph_images(g, 3, net->height, net->width);
    x = rc_resnet_pool(g, rc_resnet_stem(g, &net->backbone, x, "backbone"));
    x = rc_resnet_stage(g, &net->backbone, x, "backbone", 1, 1);
    x = rc_resnet_stage(g, &net->backbone, x, "backbone", 2, 2);

    branch b[BRANCHES] = {0};
    rc_value parts[BRANCHES * MAX_VECTORS], ce[BRANCHES * MAX_VECTORS], tri[BRANCHES];
    int n = 0, n_tri = 0, n_ce = 0;
    for (int k = 0; k < BRANCHES; k++) {
        if (c->branch[k]) {
            add_branch(g, net, c, x, k, &b[k]);
            rc_graph_output(g, RC_ROLE_TRAIN, RC_L("f_%s", layout[k].name), b[k].v[0]);
            parts[n++] = b[k].v[0]; /* the embedding: whole maps first, stripes after them */
            tri[n_tri++] = rc_triplet(g, b[k].v[0], 1.2, false);
        }
    }
    int shown = c->branch[MEDIUM] ? MEDIUM : c->branch[LARGE] ? LARGE : SMALL;
    rc_graph_cam(g, b[shown].map);
    for (int k = 0; k < BRANCHES; k++) {
        for (int i = 0; i < b[k].count; i++) {
            rc_graph_output(g, RC_ROLE_TRAIN, RC_L("y_%s_%d", layout[k].name, i), b[k].y[i]);
            ce[n_ce++] = rc_cross_entropy(g, b[k].y[i], 0);
            if (i > 0) {
                parts[n++] = b[k].v[i];
            }
        }
    }
    rc_graph_output(g, RC_ROLE_EVAL, "embedding", rc_concat(g, n, parts));

    rc_value id = rc_mean_of(g, n_ce, ce), triplet = rc_mean_of(g, n_tri, tri);
    rc_graph_output(g, RC_ROLE_LOSS, "id", id);
    rc_graph_output(g, RC_ROLE_LOSS, "triplet", triplet);
    rc_graph_output(g, RC_ROLE_LOSS, "total", rc_plus_weighted(g, id, triplet, 1));
}

const rc_system rc_system_mgaf = {
    .name = "mgaf",
    .height = 384,
    .width = 128,
    .backbone = "resnet50",
    .test_flip = true,
    .switches = switches,
    .n_switches = sizeof switches / sizeof switches[0],
    .defaults = &defaults,
    .config_size = sizeof(config),
    .build = build,
};
