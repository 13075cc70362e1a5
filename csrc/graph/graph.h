/* A network as data: values, and nodes (operation + attributes + inputs) in the order in which
 * they were described. Nothing here runs anything; plan/ turns a graph into a list of calls.
 *
 * Shapes are kept for a batch of one; rc_graph_shapes gives them for any batch. */
#ifndef RC_GRAPH_H
#define RC_GRAPH_H

#include "base/act.h"
#include "base/base.h"
#include "graph/op_list.h"

#define RC_MAX_RANK 4
#define RC_MAX_IN 32
#define RC_NONE (-1)
#define RC_NAME 64

typedef struct rc_shape {
    int32_t rank;
    int64_t d[RC_MAX_RANK]; /* n, c, h, w in meaning; unused ones are 1 */
} rc_shape;

static inline int64_t
rc_shape_count(const rc_shape *s)
{
    int64_t count = 1;
    for (int i = 0; i < s->rank; i++) {
        count *= s->d[i];
    }
    return count;
}

bool rc_shape_equal(const rc_shape *a, const rc_shape *b);
/* "8x64x96x32" into text[64]; returns text. */
const char *rc_shape_text(const rc_shape *s, char text[64]);

typedef enum rc_op_id {
#define RC_OP_ENUM(name) RC_OP_##name,
    RC_OP_LIST(RC_OP_ENUM)
#undef RC_OP_ENUM
    RC_OP_COUNT
} rc_op_id;

/* All attributes of all operations: one flat record, named as in op_list.h. */
#define RC_ATTR_LIST(INT, REAL)                                                               \
    INT(kernel) INT(stride) INT(pad) INT(groups) INT(act) INT(mode) INT(from) INT(to)         \
    INT(col_from) INT(col_to) INT(trans_a) INT(trans_b) INT(negate) INT(soft) INT(normalized) \
    REAL(slope) REAL(eps) REAL(momentum) REAL(p) REAL(height_ratio) REAL(width_ratio)         \
    REAL(scale) REAL(smoothing) REAL(margin) REAL(weight)

typedef struct rc_attrs {
#define RC_ATTR_INT(name) int64_t name;
#define RC_ATTR_REAL(name) double name;
    RC_ATTR_LIST(RC_ATTR_INT, RC_ATTR_REAL)
#undef RC_ATTR_INT
#undef RC_ATTR_REAL
} rc_attrs;

typedef int32_t rc_value; /* index into rc_graph.values, or RC_NONE */

typedef struct rc_node {
    rc_op_id op;
    rc_attrs attrs;
    int32_t n_in;
    rc_value in[RC_MAX_IN];
    rc_value out;
} rc_node;

typedef enum rc_value_kind {
    RC_VALUE_INPUT,    /* images, labels, given planes */
    RC_VALUE_STATE,    /* a parameter or a running statistic */
    RC_VALUE_COMPUTED, /* a node's output */
} rc_value_kind;

typedef struct rc_value_info {
    rc_value_kind kind;
    bool is_int;        /* int64 instead of real */
    int32_t index;      /* of the node, or of the state entry */
    rc_shape shape;     /* for a batch of one */
    char name[RC_NAME]; /* "" where nobody needs one; feature maps that users name have one */
} rc_value_info;

typedef enum rc_state_kind {
    RC_STATE_PARAMETER,
    RC_STATE_FROZEN, /* counts as a parameter, never trained (a BNNeck's bias) */
    RC_STATE_BUFFER, /* running statistics */
} rc_state_kind;

typedef enum rc_init_kind { RC_INIT_CONSTANT, RC_INIT_NORMAL, RC_INIT_UNIFORM } rc_init_kind;

typedef struct rc_init {
    rc_init_kind kind;
    double mean;   /* the constant, or the middle */
    double spread; /* deviation of NORMAL, half width of UNIFORM */
} rc_init;

typedef struct rc_state_info {
    char name[RC_NAME];
    rc_state_kind kind;
    rc_shape shape; /* as users see it: d[] in the order written on the page */
    rc_init init;
    rc_value value;
} rc_state_info;

/* A named output. Losses are outputs too: role LOSS, names "id", "triplet", …, "total". */
typedef enum rc_role { RC_ROLE_TRAIN = 1, RC_ROLE_EVAL = 2, RC_ROLE_LOSS = 4 } rc_role;

typedef struct rc_output {
    char name[RC_NAME];
    rc_value value;
    rc_role role;
} rc_output;

/* An attention map of the network's own, for users to look at; no output needs its node, so it
 * costs nothing until it is asked for. Shown as it lies in memory: n x h x w of (n,1,h,w), n x c,
 * n x T x T; of several heads, (n, heads*T, T) as n x heads x T x T. */
typedef struct rc_attention {
    char name[RC_NAME];
    rc_value value;
    int64_t heads; /* 0: none */
} rc_attention;

typedef struct rc_graph {
    rc_node *nodes;
    int32_t n_nodes, cap_nodes;
    rc_value_info *values;
    int32_t n_values, cap_values;
    rc_state_info *states;
    int32_t n_states, cap_states;
    rc_output *outputs;
    int32_t n_outputs, cap_outputs;
    rc_attention *attentions;
    int32_t n_attentions, cap_attentions;
    rc_value cams[RC_MAX_IN]; /* Grad-CAM's default: one map, or several of one size, summed */
    int32_t n_cams;
    bool cam_heads;           /* each of `cams` has a classifier of its own, which is its score */
    rc_value images, labels; /* RC_NONE where there is none */
    double center_weight;    /* what the centres' gradient is multiplied with in `total` */
    bool macs_of_heads;      /* the page counts the training heads' products, too */
    /* Building is a chain of calls that return values; the first failure is kept here, later
     * calls do nothing and return RC_NONE, so that descriptions read without checks. */
    rc_status status;
    rc_error error;
} rc_graph;

rc_graph *rc_graph_new(void);
void rc_graph_free(rc_graph *g);
rc_graph *rc_graph_copy(const rc_graph *g); /* NULL: out of memory (graph/copy.c) */

/* Inputs. Images n x c x h x w; labels n (int64); planes n x 4 (int64). */
rc_value rc_graph_images(rc_graph *g, int64_t c, int64_t h, int64_t w);
rc_value rc_graph_labels(rc_graph *g);
/* Any other input, for tests of single operations. */
rc_value rc_graph_input(rc_graph *g, const rc_shape *shape, bool is_int);

/* A parameter or buffer named prefix.name (prefix "" : name alone). */
rc_value rc_graph_state(rc_graph *g, rc_state_kind kind, const char *prefix, const char *name,
                        int rank, const int64_t *d, rc_init init);

/* A node; RC_NONE inputs only where op_list.h says so. */
rc_value rc_graph_node(rc_graph *g, rc_op_id op, const rc_attrs *attrs, int n_in,
                       const rc_value *in);

void rc_graph_name(rc_graph *g, rc_value value, const char *name);
void rc_graph_output(rc_graph *g, rc_role role, const char *name, rc_value value);
void rc_graph_attention(rc_graph *g, const char *name, rc_value value, int64_t heads);
void rc_graph_cam(rc_graph *g, rc_value map);
rc_shape rc_graph_shape(const rc_graph *g, rc_value value); /* batch of one */

/* A value in the user's words, into text[RC_NAME]: its own name, else that of the layer whose
 * parameters made it ("backbone.layer4.2.bn3"), else false. */
bool rc_graph_value_name(const rc_graph *g, rc_value value, char *text);
/* The feature map (rank 4) of that name, own names before layers'; RC_NONE. */
rc_value rc_graph_find_map(const rc_graph *g, const char *name);

/* state_dict order: entries whose name begins with `prefix` first, else as described. */
void rc_graph_order_states(rc_graph *g, const char *prefix);

/* Shapes of all values for a batch of n into shapes[n_values]. */
rc_status rc_graph_shapes(const rc_graph *g, int64_t n, rc_shape *shapes, rc_error *err);

/* Fails the graph in the user's words (a switch that does not fit …). Returns RC_NONE. */
rc_value rc_graph_fail(rc_graph *g, rc_status code, const char *format, ...) RC_PRINTF(3, 4);

#endif
