/* MBGN: Multiple Biological Granularities Network (Tu, Guan, Kuang, ICMR 2022), as on the page
 * spec/mbgn.md: ResNet-50 with GSRPA attention after each stage, then Branch g (mean pooling)
 * and Branch l (max pooling, parts moved by AABS, a posture vector of 45 cosines). */
#include <math.h>

#include "nets/nets.h"

enum { ATTENTION_NONE, ATTENTION_GSRPA, ATTENTION_CBAM };
enum { STRATEGY_F, STRATEGY_M, STRATEGY_MF, STRATEGY_MC, STRATEGY_MGN };
enum { SEGMENTATION_AABS, SEGMENTATION_BODY, SEGMENTATION_UNIFORM }; /* modes of `planes` */

typedef struct config {
    int64_t attention, num_attention, branch_g, branch_l, segmentation, strategy, structure,
        part_pool;
    double dropout;
} config;

static const config defaults = {
    .attention = ATTENTION_GSRPA,
    .num_attention = 4,
    .branch_g = 1,
    .branch_l = 1,
    .segmentation = SEGMENTATION_AABS,
    .strategy = STRATEGY_MF,
    .structure = 1,
    .part_pool = RC_POOL_MAX,
    .dropout = 0.5,
};

static const rc_switch switches[] = {
    {"attention", RC_SWITCH_CHOICE, offsetof(config, attention), 0, 0, "none|gsrpa|cbam"},
    {"num_attention", RC_SWITCH_INT, offsetof(config, num_attention), 0, 4, NULL},
    {"branch_g", RC_SWITCH_BOOL, offsetof(config, branch_g), 0, 0, NULL},
    {"branch_l", RC_SWITCH_BOOL, offsetof(config, branch_l), 0, 0, NULL},
    {"segmentation", RC_SWITCH_CHOICE, offsetof(config, segmentation), 0, 0,
     "aabs|body|uniform"},
    {"strategy", RC_SWITCH_CHOICE, offsetof(config, strategy), 0, 0, "F|M|M+F|M+C|MGN"},
    {"structure", RC_SWITCH_BOOL, offsetof(config, structure), 0, 0, NULL},
    {"part_pool", RC_SWITCH_CHOICE, offsetof(config, part_pool), 0, 0, "avg|max"},
    {"dropout", RC_SWITCH_REAL, offsetof(config, dropout), 0, 0.99, NULL},
};

/* ---- Section 2: GSRPA -------------------------------------------------------------------- */

static rc_value
conv1x1(rc_graph *g, rc_value x, const char *name, int64_t out, bool bias)
{
    rc_conv_spec spec = {.out = out, .kernel = 1, .bias = bias, .init = RC_KAIMING_FAN_IN};
    return rc_conv2d(g, x, name, spec);
}

/* ReLU(BN(conv1x1(x))) under name.conv, name.bn */
static rc_value
conv_bn_relu(rc_graph *g, rc_value x, const char *name, int64_t out)
{
    rc_value y = conv1x1(g, x, RC_L("%s.conv", name), out, false);
    return rc_relu(g, rc_batch_norm(g, y, RC_L("%s.bn", name)));
}

/* Involution (Li et al. 2021): 7x7, 16 channels a group, reduction 4. */
static rc_value
involution(rc_graph *g, rc_value x, const char *name)
{
    int64_t c = rc_channels(g, x), groups = c / 16;
    rc_value k = conv1x1(g, x, RC_L("%s.reduce", name), c / 4, false);
    k = rc_relu(g, rc_batch_norm(g, k, RC_L("%s.bn", name)));
    k = conv1x1(g, k, RC_L("%s.span", name), 49 * groups, true);
    rc_value ins[2] = {x, k};
    return rc_graph_node(g, RC_OP_involution, &(rc_attrs){.kernel = 7, .groups = groups}, 2, ins);
}

/* Relation_1 or Relation_2: ReLU(BN(map(relation of a and b))), a indexing the channels. */
static rc_value
relation(rc_graph *g, rc_value a, rc_value b, const char *name, int64_t positions)
{
    int64_t d[4] = {positions / 8, positions, 1, 1};
    rc_init init = {RC_INIT_NORMAL, 0, sqrt(2.0 / (double)positions)};
    rc_value w =
        rc_graph_state(g, RC_STATE_PARAMETER, RC_L("%s.conv", name), "weight", 4, d, init);
    rc_value ins[3] = {a, b, w};
    rc_value y = rc_graph_node(g, RC_OP_relation_map, NULL, 3, ins);
    return rc_relu(g, rc_batch_norm(g, y, RC_L("%s.bn", name)));
}

static rc_value
gsrpa(rc_graph *g, rc_value f, const char *name)
{
    rc_shape s = rc_graph_shape(g, f);
    int64_t c = s.d[1], positions = s.d[2] * s.d[3];
    if (c % 16) {
        return rc_graph_fail(g, RC_ARGUMENT,
                             "backbone: attention 'gsrpa' needs stages of a multiple of 16 "
                             "channels, got %lld", (long long)c);
    }
    rc_value v = rc_batch_norm(g, involution(g, f, RC_L("%s.inv1", name)), RC_L("%s.bn1", name));
    v = rc_batch_norm(g, involution(g, v, RC_L("%s.inv2", name)), RC_L("%s.bn2", name));
    rc_value a = conv_bn_relu(g, v, RC_L("%s.theta", name), c / 8);
    rc_value b = conv_bn_relu(g, v, RC_L("%s.phi", name), c / 8);
    rc_value e = conv_bn_relu(g, f, RC_L("%s.embed", name), c / 8);
    rc_value ins[3];
    ins[0] = rc_channel_pool(g, e, RC_POOL_MEAN);
    ins[1] = relation(g, a, b, RC_L("%s.map1", name), positions);
    ins[2] = relation(g, b, a, RC_L("%s.map2", name), positions);
    rc_value mask = conv1x1(g, rc_concat(g, 3, ins), RC_L("%s.att.conv", name), 1, false);
    mask = rc_sigmoid(g, rc_batch_norm(g, mask, RC_L("%s.att.bn", name)));
    rc_graph_name(g, mask, RC_L("%s.mask", name));
    rc_graph_attention(g, name, mask, 0);
    return rc_mul_map(g, f, mask);
}

/* CBAM-S: sigmoid(BN(conv7x7([max, mean over channels]))) times f. */
static rc_value
cbam(rc_graph *g, rc_value f, const char *name)
{
    rc_value pools[2];
    pools[0] = rc_channel_pool(g, f, RC_POOL_MAX);
    pools[1] = rc_channel_pool(g, f, RC_POOL_MEAN);
    rc_conv_spec spec = {.out = 1, .kernel = 7, .pad = 3, .init = RC_KAIMING_FAN_IN};
    rc_value mask = rc_conv2d(g, rc_concat(g, 2, pools), RC_L("%s.conv", name), spec);
    mask = rc_sigmoid(g, rc_batch_norm(g, mask, RC_L("%s.bn", name)));
    rc_graph_name(g, mask, RC_L("%s.mask", name));
    rc_graph_attention(g, name, mask, 0);
    return rc_mul_map(g, f, mask);
}

/* ---- Section 4: features and heads ---------------------------------------------------------- */

#define MAX_HEADS 12

typedef struct heads {
    const rc_net *net;
    double dropout;
    int count;
    rc_label key[MAX_HEADS];
    rc_value f[MAX_HEADS], logits[MAX_HEADS];
} heads;

static void
add_classifier(rc_graph *g, heads *h, const char *key, const char *layer, rc_value f)
{
    rc_linear_spec spec = {h->net->classes, true, RC_CLASSIFIER};
    rc_value logits =
        rc_linear(g, rc_dropout(g, f, h->dropout), RC_L("%s.classifier", layer), spec);
    h->key[h->count] = rc_label_of("%s", key);
    h->f[h->count] = f;
    h->logits[h->count++] = logits;
}

static void
add_head(rc_graph *g, heads *h, const char *key, rc_value z)
{
    rc_label layer = rc_label_of("head_%s", key);
    rc_linear_spec spec = {256, false, RC_KAIMING_FAN_IN};
    rc_value f = rc_linear(g, z, RC_L("%s.reduce", layer.text), spec);
    f = rc_relu(g, rc_batch_norm(g, f, RC_L("%s.bn", layer.text)));
    add_classifier(g, h, key, layer.text, f);
}

/* Parts as runs of B1..B5: [first, last) over (0, l0, l1, l2, l3, H). */
static const struct {
    int count;
    int8_t run[7][2];
} strategies[] = {
    [STRATEGY_F] = {5, {{0, 1}, {1, 2}, {2, 3}, {3, 4}, {4, 5}}},
    [STRATEGY_M] = {4, {{0, 2}, {1, 3}, {2, 4}, {3, 5}}},
    [STRATEGY_MF] = {6, {{0, 1}, {0, 2}, {1, 3}, {2, 4}, {3, 5}, {4, 5}}},
    [STRATEGY_MC] = {7, {{0, 2}, {1, 3}, {2, 4}, {3, 5}, {0, 3}, {1, 4}, {2, 5}}},
};

static void
add_parts(rc_graph *g, heads *h, const config *c, rc_value f, rc_value planes)
{
    rc_pool pool = (rc_pool)c->part_pool;
    if (c->strategy != STRATEGY_MGN) {
        for (int i = 0; i < strategies[c->strategy].count; i++) {
            const int8_t *run = strategies[c->strategy].run[i];
            rc_value z = rc_parts_pool(g, f, planes, pool, run[0], run[1]);
            add_head(g, h, RC_L("p%d", i + 1), z);
        }
        return;
    }
    int64_t rows = rc_graph_shape(g, f).d[2];
    for (int cuts = 2, part = 1; cuts <= 3; cuts++) {
        for (int i = 0; i < cuts; i++, part++) { /* bounds: round half up of H*i/cuts */
            int64_t from = (2 * rows * i + cuts) / (2 * cuts);
            int64_t to = (2 * rows * (i + 1) + cuts) / (2 * cuts);
            add_head(g, h, RC_L("p%d", part), rc_rows_pool(g, f, pool, from, to));
        }
    }
}

/* f_s: three linear layers over the cosines of the ten half parts. */
static rc_value
add_structure(rc_graph *g, heads *h, rc_value f, rc_value planes)
{
    rc_value ins[2] = {f, planes};
    rc_value u = rc_graph_node(g, RC_OP_half_means, NULL, 2, ins);
    rc_value similarity = rc_graph_node(g, RC_OP_pair_cosine, NULL, 1, &u);
    rc_linear_spec spec = {256, true, RC_KAIMING_FAN_IN};
    rc_value x = rc_relu(g, rc_linear(g, similarity, "structure.fc1", spec));
    x = rc_relu(g, rc_linear(g, x, "structure.fc2", spec));
    add_classifier(g, h, "s", "structure", rc_linear(g, x, "structure.fc3", spec));
    return similarity;
}

/* ---- the whole -------------------------------------------------------------------------------- */

static bool
check(rc_graph *g, const rc_net *net, const config *c)
{
    if (net->height % 16 || net->height < 80 || net->width % 32) {
        rc_graph_fail(g, RC_ARGUMENT,
                      "height, width: expected a multiple of 16, at least 80, and a multiple of "
                      "32, got %lld x %lld", (long long)net->height, (long long)net->width);
    } else if (!c->branch_g && !c->branch_l) {
        rc_graph_fail(g, RC_ARGUMENT, "branch_g, branch_l: expected at least one, got neither");
    } else if (c->strategy == STRATEGY_MGN
               && (c->segmentation != SEGMENTATION_UNIFORM || c->structure)) {
        rc_graph_fail(g, RC_ARGUMENT,
                      "strategy: 'MGN' needs segmentation='uniform' and structure=False");
    }
    return g->status == RC_OK;
}

static void
build(rc_graph *g, const rc_net *net, const void *raw)
{
    const config *c = raw;
    if (!check(g, net, c)) {
        return;
    }
    rc_value f = rc_graph_images(g, 3, net->height, net->width);
    f = rc_resnet_pool(g, rc_resnet_stem(g, &net->backbone, f, "backbone"));
    for (int stage = 1; stage <= 4; stage++) {
        int64_t stride = stage == 1 || stage == 4 ? 1 : 2;
        f = rc_resnet_stage(g, &net->backbone, f, "backbone", stage, stride);
        if (stage > 4 - c->num_attention && c->attention != ATTENTION_NONE) {
            rc_label name = rc_label_of("att%d", stage);
            f = c->attention == ATTENTION_GSRPA ? gsrpa(g, f, name.text)
                                                : cbam(g, f, name.text);
            rc_graph_name(g, f, name.text);
        }
    }
    rc_graph_cam(g, f);

    heads h = {.net = net, .dropout = c->dropout};
    rc_value z[2], planes = RC_NONE, similarity = RC_NONE;
    int n_z = 0;
    if (c->branch_g) {
        z[n_z] = rc_global_pool(g, f, RC_POOL_MEAN);
        rc_graph_output(g, RC_ROLE_TRAIN, "z_g", z[n_z]);
        add_head(g, &h, "g", z[n_z++]);
    }
    if (c->branch_l) {
        z[n_z] = rc_global_pool(g, f, RC_POOL_MAX);
        rc_graph_output(g, RC_ROLE_TRAIN, "z_l", z[n_z]);
        add_head(g, &h, "l", z[n_z++]);
        planes = rc_graph_node(g, RC_OP_planes, &(rc_attrs){.mode = c->segmentation}, 1, &f);
        rc_graph_attention(g, "planes", planes, 0);
        add_parts(g, &h, c, f, planes);
        if (c->structure) {
            similarity = add_structure(g, &h, f, planes);
        }
    }

    rc_value ce[MAX_HEADS], tri[2];
    for (int k = 0; k < h.count; k++) {
        rc_graph_output(g, RC_ROLE_TRAIN, RC_L("f_%s", h.key[k].text), h.f[k]);
    }
    for (int k = 0; k < h.count; k++) {
        rc_graph_output(g, RC_ROLE_TRAIN, RC_L("logits_%s", h.key[k].text), h.logits[k]);
        ce[k] = rc_cross_entropy(g, h.logits[k], 0);
    }
    if (similarity != RC_NONE) {
        rc_graph_output(g, RC_ROLE_TRAIN, "similarity", similarity);
    }
    if (planes != RC_NONE) {
        rc_graph_output(g, RC_ROLE_TRAIN, "planes", planes);
    }
    rc_graph_output(g, RC_ROLE_EVAL, "embedding", rc_concat(g, h.count, h.f));

    /* Section 5: L = L_id + 2 L_tri, margin 1.2 */
    for (int k = 0; k < n_z; k++) {
        tri[k] = rc_triplet(g, z[k], 1.2, false);
    }
    rc_value id = rc_mean_of(g, h.count, ce), triplet = rc_mean_of(g, n_z, tri);
    rc_graph_output(g, RC_ROLE_LOSS, "id", id);
    rc_graph_output(g, RC_ROLE_LOSS, "triplet", triplet);
    rc_graph_output(g, RC_ROLE_LOSS, "total", rc_plus_weighted(g, id, triplet, 2));
}

const rc_system rc_system_mbgn = {
    .name = "mbgn",
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
