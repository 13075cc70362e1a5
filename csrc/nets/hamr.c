/* HAMR: hybrid-attention guided network with multiple resolution features, as on the page
 * spec/hamr.md: four stages of a ResNet at one size (align), spatial attention (S), fusion (F)
 * and channel attention (C) in a chosen order, and the map's K(K+1)/2 overlapping runs of
 * stripes (MGO), each with a head of its own (MPFE). */
#include <math.h>
#include <string.h>

#include "nets/nets.h"

enum { LOCAL_MGO, LOCAL_PCB, LOCAL_NONE };
enum { MLP_SUM, MLP_EACH };
enum { HEAD_RELU, HEAD_LEAKY };
enum { ON_FC, ON_BN };

#define MAX_PARTS 31 /* a level's features are joined by one concatenation */
#define MAX_HEADS (MAX_PARTS * (MAX_PARTS + 1) / 2)

typedef struct config {
    int64_t parts, stages, local, mpfe, cam_mlp, act, triplet_on, reduction, sam_kernel,
        reduce_dim, feat_dim, last_stride, triplet;
    char order[8];
    double dropblock[2], label_smooth, margin;
} config;

#define STAGE(s) (INT64_C(1) << (s))

static const config defaults = {
    .parts = 6,
    .stages = STAGE(1) | STAGE(2) | STAGE(3) | STAGE(4),
    .order = "SFC",
    .local = LOCAL_MGO,
    .mpfe = 1,
    .cam_mlp = MLP_SUM,
    .act = HEAD_RELU,
    .triplet_on = ON_FC,
    .reduction = 16,
    .sam_kernel = 7,
    .reduce_dim = 256,
    .feat_dim = 512,
    .last_stride = 1,
    .dropblock = {(double)NAN, (double)NAN},
    .label_smooth = 0.1,
    .margin = 1.0,
    .triplet = 1,
};

static const rc_switch switches[] = {
    {"parts", RC_SWITCH_INT, offsetof(config, parts), 1, MAX_PARTS, NULL},
    {"stages", RC_SWITCH_SUBSET, offsetof(config, stages), 1, 4, NULL},
    {"order", RC_SWITCH_LETTERS, offsetof(config, order), 0, 0, "SFC"},
    {"local", RC_SWITCH_CHOICE, offsetof(config, local), 0, 0, "mgo|pcb|none"},
    {"mpfe", RC_SWITCH_BOOL, offsetof(config, mpfe), 0, 0, NULL},
    {"cam_mlp", RC_SWITCH_CHOICE, offsetof(config, cam_mlp), 0, 0, "sum|each"},
    {"act", RC_SWITCH_CHOICE, offsetof(config, act), 0, 0, "relu|leaky_relu"},
    {"triplet_on", RC_SWITCH_CHOICE, offsetof(config, triplet_on), 0, 0, "fc|bn"},
    {"reduction", RC_SWITCH_INT, offsetof(config, reduction), 1, 1 << 20, NULL},
    {"sam_kernel", RC_SWITCH_INT, offsetof(config, sam_kernel), 1, 255, NULL},
    {"reduce_dim", RC_SWITCH_INT, offsetof(config, reduce_dim), 1, 1 << 20, NULL},
    {"feat_dim", RC_SWITCH_INT, offsetof(config, feat_dim), 1, 1 << 20, NULL},
    {"last_stride", RC_SWITCH_INT, offsetof(config, last_stride), 1, 2, NULL},
    {"dropblock", RC_SWITCH_RATIOS, offsetof(config, dropblock), 0, 1, NULL},
    {"label_smooth", RC_SWITCH_REAL, offsetof(config, label_smooth), 0, 1, NULL},
    {"margin", RC_SWITCH_REAL_OR_NONE, offsetof(config, margin), 0, 1e6, NULL},
    {"triplet", RC_SWITCH_BOOL, offsetof(config, triplet), 0, 0, NULL},
};

/* ---- attention ---------------------------------------------------------------------------- */

/* SAM: sigmoid(conv([mean, max over channels])) times x. */
static rc_value
sam(rc_graph *g, rc_value x, const char *name, int64_t kernel)
{
    rc_value pools[2];
    pools[0] = rc_channel_pool(g, x, RC_POOL_MEAN);
    pools[1] = rc_channel_pool(g, x, RC_POOL_MAX);
    rc_conv_spec spec = {
        .out = 1, .kernel = kernel, .pad = kernel / 2, .init = RC_UNIFORM_FAN_IN};
    rc_value s = rc_conv2d(g, rc_concat(g, 2, pools), RC_L("%s.conv", name), spec);
    s = rc_sigmoid(g, s);
    rc_graph_name(g, s, RC_L("%s.mask", name));
    rc_graph_attention(g, name, s, 0);
    return rc_mul_map(g, x, s);
}

static rc_value
cam_weight(rc_graph *g, const char *name, int64_t out, int64_t in)
{
    rc_init init = {RC_INIT_UNIFORM, 0, 1 / sqrt((double)in)};
    return rc_graph_state(g, RC_STATE_PARAMETER, name, "weight", 2, (int64_t[2]){out, in}, init);
}

static rc_value
times(rc_graph *g, rc_value x, rc_value weight)
{
    return rc_graph_node(g, RC_OP_linear, NULL, 3, (rc_value[3]){x, weight, RC_NONE});
}

/* CAM: sigmoid(z) times x, z = W2 relu(W1 (mean + max over positions)); 'each':
 * z = W2 relu(W1 mean) + W2 relu(W1 max), with W2 taken out of the sum. */
static rc_value
cam(rc_graph *g, rc_value x, const char *name, const config *c)
{
    int64_t channels = rc_channels(g, x);
    if (channels % c->reduction) {
        return rc_graph_fail(g, RC_ARGUMENT,
                             "reduction: expected a divisor of the %lld channels that channel "
                             "attention gets, got %lld", (long long)channels,
                             (long long)c->reduction);
    }
    rc_value w1 = cam_weight(g, RC_L("%s.fc1", name), channels / c->reduction, channels);
    rc_value w2 = cam_weight(g, RC_L("%s.fc2", name), channels, channels / c->reduction);
    rc_value a = rc_global_pool(g, x, RC_POOL_MEAN), m = rc_global_pool(g, x, RC_POOL_MAX), y;
    if (c->cam_mlp == MLP_SUM) {
        y = rc_relu(g, times(g, rc_add(g, a, m), w1));
    } else {
        y = rc_add(g, rc_relu(g, times(g, a, w1)), rc_relu(g, times(g, m, w1)));
    }
    rc_value gate = rc_sigmoid(g, times(g, y, w2));
    rc_graph_name(g, gate, RC_L("%s.mask", name));
    rc_graph_attention(g, name, gate, 0);
    return rc_mul_channel(g, x, gate);
}

/* Steps 7 to 10: the operations of `order`, stage by stage before 'F', on the whole after it. */
static rc_value
fuse(rc_graph *g, const config *c, int n, rc_value *x, const int *stage)
{
    bool fused = false;
    for (const char *step = c->order; *step; step++) {
        if (*step == 'F') {
            x[0] = n > 1 ? rc_concat(g, n, x) : rc_alias(g, x[0], "");
            n = 1;
            fused = true;
            continue;
        }
        for (int i = 0; i < n; i++) {
            const char *kind = *step == 'S' ? "sam" : "cam";
            rc_label name = fused ? rc_label_of("%s", kind)
                                  : rc_label_of("%s%d", kind, stage[i]);
            x[i] = *step == 'S' ? sam(g, x[i], name.text, c->sam_kernel)
                                : cam(g, x[i], name.text, c);
        }
    }
    if (!isnan(c->dropblock[0])) {
        rc_attrs a = {.height_ratio = c->dropblock[0], .width_ratio = c->dropblock[1]};
        x[0] = rc_graph_node(g, RC_OP_batch_drop_block, &a, 1, x);
    }
    rc_graph_name(g, x[0], "fused");
    return x[0];
}

/* ---- parts and heads ------------------------------------------------------------------------- */

/* Means or maxima of stripes 1..K and of runs of them: one pass over the map serves all parts. */
typedef struct stripes {
    rc_value one[MAX_PARTS], rows; /* rows: the stripes as rows of a map of K x 1 */
} stripes;

static void
pool_stripes(rc_graph *g, rc_value f, rc_pool pool, int64_t parts, stripes *out)
{
    int64_t h = rc_graph_shape(g, f).d[2] / parts;
    for (int64_t i = 0; i < parts; i++) {
        out->one[i] = rc_rows_pool(g, f, pool, i * h, (i + 1) * h);
    }
    out->rows = rc_stack_rows(g, (int)parts, out->one);
}

static rc_value
pool_run(rc_graph *g, const stripes *s, rc_pool pool, int64_t from, int64_t to)
{
    return to - from == 1 ? s->one[from] : rc_rows_pool(g, s->rows, pool, from, to);
}

typedef struct heads {
    const rc_net *net;
    const config *c;
    int count, levels;
    rc_value logits[MAX_HEADS];
    int level[MAX_PARTS];
    rc_value feature[MAX_PARTS], triplet[MAX_PARTS]; /* of a level, its parts side by side */
} heads;

/* One part's descriptor to its f and b; the classifier on b. */
static void
add_head(rc_graph *g, heads *h, const char *name, rc_value most, rc_value mean, rc_value *f,
         rc_value *b)
{
    const config *c = h->c;
    rc_value d = mean;
    if (c->mpfe) {
        d = rc_unflatten(g, rc_concat(g, 2, (rc_value[2]){most, mean}));
        rc_conv_spec reduce = {.out = c->reduce_dim, .kernel = 1, .init = RC_UNIFORM_FAN_IN};
        d = rc_flatten(g, rc_conv2d(g, d, RC_L("%s.reduce", name), reduce));
        d = rc_batch_norm_normal(g, d, RC_L("%s.bn1", name));
        d = c->act == HEAD_RELU ? rc_relu(g, d) : rc_leaky_relu(g, d, 0.1);
    }
    rc_linear_spec fc = {c->feat_dim, false, RC_KAIMING_FAN_OUT};
    *f = rc_linear(g, d, RC_L("%s.fc", name), fc);
    *b = rc_batch_norm_normal(g, *f, RC_L("%s.bn2", name));
    rc_linear_spec classifier = {h->net->classes, false, RC_CLASSIFIER};
    h->logits[h->count] = rc_linear(g, *b, RC_L("%s.classifier", name), classifier);
    rc_graph_output(g, RC_ROLE_TRAIN, RC_L("logits%s", name + strlen("head")),
                    h->logits[h->count++]);
}

/* Level l: l parts, part i the stripes i..i+K-l. */
static void
add_level(rc_graph *g, heads *h, const stripes *most, const stripes *mean, int64_t level)
{
    rc_value f[MAX_PARTS], b[MAX_PARTS];
    for (int64_t i = 0; i < level; i++) {
        int64_t to = i + h->c->parts + 1 - level;
        rc_value m = h->c->mpfe ? pool_run(g, most, RC_POOL_MAX, i, to) : RC_NONE;
        rc_value a = pool_run(g, mean, RC_POOL_MEAN, i, to);
        add_head(g, h, RC_L("head%d_%d", (int)level, (int)i + 1), m, a, &f[i], &b[i]);
    }
    h->level[h->levels] = (int)level;
    h->feature[h->levels] = rc_concat(g, (int)level, b);
    h->triplet[h->levels] =
        h->c->triplet_on == ON_BN ? h->feature[h->levels] : rc_concat(g, (int)level, f);
    h->levels++;
}

static void
add_heads(rc_graph *g, heads *h, rc_value f)
{
    if (h->c->local == LOCAL_NONE) {
        rc_value m = h->c->mpfe ? rc_global_pool(g, f, RC_POOL_MAX) : RC_NONE;
        rc_value a = rc_global_pool(g, f, RC_POOL_MEAN);
        add_head(g, h, "head1_1", m, a, &h->triplet[0], &h->feature[0]);
        h->triplet[0] = h->c->triplet_on == ON_BN ? h->feature[0] : h->triplet[0];
        h->level[h->levels++] = 1;
        return;
    }
    stripes most = {.rows = RC_NONE}, mean;
    if (h->c->mpfe) {
        pool_stripes(g, f, RC_POOL_MAX, h->c->parts, &most);
    }
    pool_stripes(g, f, RC_POOL_MEAN, h->c->parts, &mean);
    int64_t first = h->c->local == LOCAL_PCB ? h->c->parts : 1;
    for (int64_t level = first; level <= h->c->parts; level++) {
        add_level(g, h, &most, &mean, level);
    }
}

/* The mean of any number of scalars: where they are too many for one node, of groups of K+1 or
 * of K, whichever divides K(K+1)/2. */
static rc_value
mean_of_all(rc_graph *g, int n, const rc_value *scalars, int64_t parts)
{
    if (n <= RC_MAX_IN) {
        return rc_mean_of(g, n, scalars);
    }
    int group = (int)(parts % 2 ? parts : parts + 1);
    rc_value means[MAX_PARTS];
    for (int i = 0; i < n / group; i++) {
        means[i] = rc_mean_of(g, group, scalars + i * group);
    }
    return rc_mean_of(g, n / group, means);
}

/* ---- the whole -------------------------------------------------------------------------------- */

static bool
check(rc_graph *g, const rc_net *net, const config *c)
{
    int64_t step = c->last_stride == 2 && c->stages & STAGE(4) ? 32 : 16;
    int64_t rows = net->height / step;
    if (net->height % step || net->width % step) {
        rc_graph_fail(g, RC_ARGUMENT,
                      "height, width: expected multiples of %lld, got %lld x %lld",
                      (long long)step, (long long)net->height, (long long)net->width);
    } else if (c->local != LOCAL_NONE && rows % c->parts) {
        rc_graph_fail(g, RC_ARGUMENT,
                      "parts: expected a divisor of the map's %lld rows, got %lld",
                      (long long)rows, (long long)c->parts);
    } else if (!strchr(c->order, 'F')) {
        rc_graph_fail(g, RC_ARGUMENT,
                      "order: expected exactly one 'F', at most one 'S' and one 'C', got '%.7s'",
                      c->order);
    } else if (c->sam_kernel % 2 == 0) {
        rc_graph_fail(g, RC_ARGUMENT, "sam_kernel: expected an odd number, got %lld",
                      (long long)c->sam_kernel);
    }
    return g->status == RC_OK;
}

/* Steps 1 to 6: the stages of `stages` at the size of the deepest map. */
static int
stages(rc_graph *g, const rc_net *net, const config *c, rc_value *aligned, int *stage)
{
    int n = 0;
    rc_value x = rc_graph_images(g, 3, net->height, net->width);
    x = rc_resnet_pool(g, rc_resnet_stem(g, &net->backbone, x, "backbone"));
    int64_t rows = net->height / (c->last_stride == 2 && c->stages & STAGE(4) ? 32 : 16);
    for (int s = 1; s <= 4 && c->stages >= STAGE(s); s++) {
        int64_t stride = s == 1 ? 1 : s == 4 ? c->last_stride : 2;
        x = rc_resnet_stage(g, &net->backbone, x, "backbone", s, stride);
        if (c->stages & STAGE(s)) {
            int64_t window = rc_graph_shape(g, x).d[2] / rows;
            rc_label name = rc_label_of("aligned%d", s);
            aligned[n] = window > 1 ? rc_max_pool2d(g, x, window, window, 0)
                                    : rc_alias(g, x, name.text);
            rc_graph_name(g, aligned[n], name.text);
            stage[n++] = s;
        }
    }
    rc_graph_cam(g, x);
    return n;
}

static void
build(rc_graph *g, const rc_net *net, const void *raw)
{
    const config *c = raw;
    rc_value x[4], loss[MAX_HEADS];
    int stage[4];
    if (!check(g, net, c)) {
        return;
    }
    int n = stages(g, net, c, x, stage);
    heads h = {.net = net, .c = c};
    add_heads(g, &h, fuse(g, c, n, x, stage));
    for (int i = 0; i < h.levels; i++) {
        rc_graph_output(g, RC_ROLE_TRAIN, RC_L("triplet%d", h.level[i]), h.triplet[i]);
    }
    rc_value embedding = h.levels > 1 ? rc_concat(g, h.levels, h.feature) : h.feature[0];
    rc_graph_output(g, RC_ROLE_EVAL, "embedding", embedding);

    for (int i = 0; i < h.count; i++) {
        loss[i] = rc_cross_entropy(g, h.logits[i], c->label_smooth);
    }
    rc_value id = mean_of_all(g, h.count, loss, c->parts), total = id;
    rc_graph_output(g, RC_ROLE_LOSS, "id", id);
    if (c->triplet) {
        bool soft = isnan(c->margin);
        for (int i = 0; i < h.levels; i++) {
            loss[i] = rc_triplet(g, h.triplet[i], soft ? 0 : c->margin, soft);
        }
        rc_value triplet = rc_mean_of(g, h.levels, loss);
        rc_graph_output(g, RC_ROLE_LOSS, "triplet", triplet);
        total = rc_plus_weighted(g, id, triplet, 1);
    }
    rc_graph_output(g, RC_ROLE_LOSS, "total", total);

    g->macs_of_heads = true;
    rc_graph_order_states(g, "cam"); /* in the end: backbone, SAMs, CAMs, heads */
    rc_graph_order_states(g, "sam");
}

const rc_system rc_system_hamr = {
    .name = "hamr",
    .height = 384,
    .width = 128,
    .backbone = "resnet50",
    .sgd = true,
    .test_flip = true,
    .switches = switches,
    .n_switches = sizeof switches / sizeof switches[0],
    .defaults = &defaults,
    .config_size = sizeof(config),
    .build = build,
};
