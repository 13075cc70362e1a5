/* Plans, for the files of this folder: a graph lowered to a flat list of ready calls.
 *
 *     fuse.c     which nodes run, and which run as one (conv+BN+add+ReLU)
 *     types.c    of which element every value is, and what every kernel takes
 *     lower.c    the list of steps: forward, backward; needs.c what is kept, what is computed again;
 *                updates.c what comes beside them
 *     spare.c    what is made again to save memory
 *     select.c   the kernel of every step
 *     memory.c   lifetimes -> offsets in one arena
 *     run.c      arena, pointers, packed weights; the list walked
 *     int8.c     steps in bytes; quantize.c how values are stored as bytes
 *     freeze.c   parameters that training leaves alone
 *     feed.c     pictures in; evaluate.c embeddings; explain.c explanations; step.c training
 *     model.c    weights and the cache of plans
 *     device.h   the same on a device: device.c weights, device_select.c, device_run.c
 *     describe.c plans in words */
#ifndef RC_PLAN_H
#define RC_PLAN_H

#include <pthread.h>

#include "cpu/cpu.h"
#include "cpu/fast.h"
#include "cpu/int8.h"
#include "cpu/linear.h"
#include "cpu/tune.h"
#include "device/device.h"
#include "graph/op.h"
#include "plan/model.h"

typedef enum rc_plan_kind {
    RC_PLAN_EVAL,    /* running statistics, folded batch norms, buffers reused at once */
    RC_PLAN_TRAIN,   /* forward to the named outputs, then backward from their gradients */
    RC_PLAN_LOSS,    /* forward, losses, backward */
    RC_PLAN_LOOK,    /* evaluation forward to feature or attention maps */
    RC_PLAN_EXPLAIN, /* the same to one feature map or several, and the gradient there */
} rc_plan_kind;

#define RC_EVERY (-2) /* as `map`: the network's attention maps; as `source`: its class heads */

typedef struct rc_plan_spec {
    rc_plan_kind kind;
    int64_t n;
    bool given_planes;   /* planes come from the caller instead of the network */
    bool input_gradient; /* TRAIN: gradient of the images, too */
    bool in_step;        /* LOSS: weights' gradients are this step's alone and lie in the arena, where
                            activations that backward has done with make room for them */
    bool updates;        /* in_step: a weight is updated as soon as nothing reads it any more and its
                            gradient is whole, which then makes room for others */
    bool exact;      /* EVAL: in float32 although the model computes in bytes */
    rc_value source; /* EXPLAIN: where the gradient starts: a value or RC_EVERY */
    rc_value map;    /* LOOK, EXPLAIN: a value, RC_NONE (Grad-CAM's default) or RC_EVERY */
} rc_plan_spec;

/* A node as it will run: the graph's, or several fused into one. */
typedef struct rc_unit {
    rc_node node;       /* attributes and inputs after fusion; node.out the last one's output */
    int32_t index;      /* of the (last) node in the graph: keys random numbers */
    bool folded;        /* a convolution that carries its batch norm in its packed weights */
    rc_value norm[4];   /* folded: gamma, beta, mean, var */
    double norm_eps;
} rc_unit;

/* Of which elements a unit's kernel of one pass takes its inputs and gives its result; in backward
 * gradients are of the same as what they belong to (types.c). */
typedef struct rc_signature {
    rc_element kernel; /* the one by which kernels are listed */
    rc_element x[RC_MAX_IN], y;
} rc_signature;

/* Where a pointer of a call comes from; resolved once the arena has its place. */
typedef enum rc_ref_kind {
    RC_REF_NONE,
    RC_REF_BUFFER,   /* of the arena */
    RC_REF_STATE,    /* a weight or running statistic */
    RC_REF_GRADIENT, /* of a weight */
    RC_REF_PACKED,   /* packed weights kept by the model (evaluation) */
} rc_ref_kind;

typedef struct rc_ref {
    int32_t kind, index;
} rc_ref;

typedef struct rc_buffer {
    int64_t bytes, offset;
    int32_t first, last; /* steps that write it first and use it last */
    int32_t same_as;     /* -1, or the buffer whose memory it shares (in place) */
} rc_buffer;

typedef enum rc_pass {
    RC_PASS_PACK,
    RC_PASS_FORWARD,
    RC_PASS_AGAIN, /* a forward that is repeated because its result was not kept */
    RC_PASS_BACKWARD,
    RC_PASS_SEED,  /* the gradient of the total loss: 1 */
    RC_PASS_COMMIT,
    RC_PASS_UPDATE, /* of the weight state[0] by its gradient dy, which the optimiser does */
    RC_PASS_CAST,  /* a value as another element */
} rc_pass;

/* How a convolution pass runs. */
typedef struct rc_conv_step {
    const rc_conv_kernel *kernel;
    rc_conv_shape shape;
    int64_t packed;    /* floats of packed weights, 0: plain */
    bool folded;       /* the bias follows the packed weights */
    rc_element element; /* of dy, where a bias sums it; on a device of the folded weights */
    double norm_eps;
    bool in_bytes, to_float;   /* it reads bytes (kernel is NULL); it writes float32 … */
    rc_bytes x, residual, y;   /* … or bytes like y */
} rc_conv_step;

typedef struct rc_step {
    rc_kernel run;
    const char *kernel; /* its name */
    rc_pass pass;
    int32_t unit;      /* -1: none */
    rc_value value;    /* of a cast: like which value … */
    rc_element element; /* … and as what */
    rc_ref x[RC_MAX_IN], dx[RC_MAX_IN], y, dy, ws, tmp, state[2];
    rc_conv_step conv;
    rc_bytes bytes;    /* of a cast from or to bytes */
    rc_device_kernel device; /* in the place of `run` on a device */
    double seconds, cpu_seconds; /* spent here while the model is profiled … */
    int64_t runs;   /* … in so many runs */
    rc_call call;
} rc_step;

/* A range of steps that a device has recorded: once it has run step by step. */
typedef struct rc_plan_record {
    int32_t from, to;
    int64_t runs;
    rc_device_graph *graph;
} rc_plan_record;

#define RC_PLAN_RECORDS 3 /* forward, backward, commit */

typedef struct rc_on_device rc_on_device; /* plan/device.h */

typedef struct rc_plan {
    rc_plan_spec spec;
    rc_unit *units;
    int32_t n_units;
    rc_shape *shapes;     /* of all values of the graph, batch n */
    rc_shape *unit_xs;    /* input shapes, RC_MAX_IN per unit */
    rc_element *elements; /* of all values of the graph */
    rc_signature *forward, *backward; /* per unit */
    rc_step *steps;
    int32_t n_steps, cap_steps;
    int32_t n_forward, n_backward; /* steps [0, n_forward) run forward, up to n_backward backward,
                                      the rest commits */
    rc_buffer *buffers;
    int32_t n_buffers, cap_buffers;
    int32_t *value_buffer;    /* of each value's data (the last one it had), or -1 */
    int32_t *copies;          /* … as another element, [RC_ELEMENTS][values of the graph], or -1 */
    int32_t *gradient_buffer; /* of each value's gradient, or -1 */
    int32_t *state_gradient;  /* in_step: of each state entry's gradient, or -1 */
    int32_t images_buffer, labels_buffer, planes_buffer;
    int64_t arena_bytes;
    char *arena;          /* NULL until the plan runs; on a device: its memory, not to be read */
    const rc_on_device *on; /* NULL: the CPU. Below: of plans on a device alone */
    char *shadow;         /* page-locked copies of the buffers that go in or come out … */
    int64_t *shadow_at;   /* … per buffer: where, or -1 */
    int64_t shadow_bytes;
    rc_plan_record records[RC_PLAN_RECORDS];
    char tuned[RC_TUNE_SOURCE]; /* the table by which its convolutions were chosen */
    uint64_t used;        /* clock of the model's cache */
} rc_plan;

/* A convolution's weights as its kernel wants them, shared by evaluation plans. */
typedef struct rc_packed {
    rc_value weight, bias, norm[4];
    double norm_eps;
    rc_conv_step conv;
    float *data;
    uint64_t version; /* of the weights it was made from */
} rc_packed;

#define RC_PLAN_CACHE 8

struct rc_model {
    rc_model_info info;
    rc_graph *graph;
    char system[32];
    size_t real_size; /* 4 or 8 */
    rc_element compute; /* of activations and products: RC_REAL, RC_BF16 or RC_U8 */
    rc_bytes *bytes;  /* per value of the graph: how it is stored as bytes; NULL: quantize is to come */
    bool *in_bytes;   /* per value: its producer computes with bytes */
    void **data;      /* per state entry */
    void **gradient;  /* per state entry; NULL for buffers, and all NULL before first use */
    bool has_gradients;
    bool *frozen;     /* per state entry: training leaves it alone */
    uint64_t version; /* raised whenever weights or statistics change */
    int views;        /* writable views in the user's hands */
    uint64_t seed, step, current_step;
    rc_plan *plans[RC_PLAN_CACHE];
    uint64_t clock;
    rc_value *heads;  /* logits that an identity loss reads, in the order of outputs */
    int32_t n_heads;
    bool profile;     /* time every step */
    rc_optimizer *updating;  /* within train_step, where the plan updates */
    const rc_plan *stepping; /* within train_step, after backward: where gradients are */
    rc_plan *ran;     /* the plan whose outputs may be read */
    bool can_backward;
    rc_packed *packed;
    int32_t n_packed, cap_packed;
    rc_on_device *on; /* NULL: the CPU */
    struct rc_companion *companions; /* plan/device.h */
    pthread_mutex_t lock;
};

/* fuse.c */
rc_status rc_plan_fuse(const rc_model *m, rc_plan *p, rc_error *err);
/* types.c: elements, forward and backward */
rc_status rc_plan_types(const rc_model *m, rc_plan *p, rc_error *err);
/* An operation that only passes its input on: y is the same memory. */
bool rc_unit_passes_on(const rc_graph *g, const rc_plan *p, const rc_unit *u);
/* A step that writes what is at x, like value v, as element `to` to y (add: to what is there). */
rc_step rc_cast_step(const rc_model *m, const rc_plan *p, rc_value v, rc_ref x, rc_element to,
                     rc_ref y, bool add);
/* int8.c: whether a unit computes with bytes, its step, and a convolution's as it is described there */
rc_status rc_int8_allows(const rc_model *m, const rc_plan_spec *spec, rc_error *err);
bool rc_int8_takes(const rc_model *m, const rc_plan *p, const rc_unit *u);
rc_conv_step rc_int8_conv(const rc_model *m, const rc_plan *p, const rc_unit *u, bool to_float);
void rc_int8_conv_call(const rc_call *call); /* extra: its rc_conv_step */
rc_status rc_int8_conv_step(rc_model *m, rc_plan *p, rc_step *step, rc_error *err);
int64_t rc_int8_packed_floats(const rc_conv_step *s);
/* What a batch norm (or its absence) and a bias make of channel k: norm * sum + shift. */
typedef struct rc_fold {
    const float *norm[4], *bias; /* norm[0] NULL: none; bias NULL: none */
    double eps;
} rc_fold;
void rc_fold_channel(const rc_fold *fold, int64_t k, double *norm, double *shift);
void rc_int8_packed_make(const rc_model *m, const rc_packed *packed, const rc_fold *fold);
/* freeze.c: a batch norm that normalises with its running statistics in training, too, because
 * its weight and bias are frozen */
bool rc_unit_is_still(const rc_model *m, const rc_unit *u);
/* lower.c (needs.c, updates.c): everything but the arena's memory */
struct rc_advice; /* plan/lower.h */
rc_status rc_plan_lower(rc_model *m, rc_plan *p, const struct rc_advice *advice, rc_error *err);
int32_t rc_plan_buffer(rc_plan *p, int64_t bytes, int32_t first); /* -1: no memory */
/* select.c */
const rc_conv_kernel *rc_select_conv(const rc_conv_kernel *const *list, const rc_conv_shape *s);
rc_conv_shape rc_conv_shape_of(const rc_attrs *a, const rc_shape *xs, const rc_shape *y);
bool rc_reference_only(void); /* REIDC_REF=1 */
/* Fills run, kernel, conv, call and tmp of the forward (or again) step of a unit; adds a packing
 * step before it where it needs one. The step's refs are set. */
rc_status rc_select_forward(rc_model *m, rc_plan *p, rc_step step, rc_error *err);
rc_status rc_select_backward(rc_model *m, rc_plan *p, rc_step step, rc_error *err);
rc_status rc_select_cast(rc_model *m, rc_plan *p, rc_step step, rc_error *err); /* rc_cast_step's */
/* Steps that write 1 to a buffer of one value, or zeros to one of this shape. */
rc_status rc_select_one(rc_model *m, rc_plan *p, int32_t buffer, rc_shape shape, rc_error *err);
rc_status rc_select_zeros(rc_model *m, rc_plan *p, int32_t buffer, rc_shape shape, rc_error *err);
rc_status rc_select_commit(rc_model *m, rc_plan *p, rc_step step, rc_error *err);
rc_status rc_plan_add_step(rc_plan *p, const rc_step *step, rc_error *err);
/* Scratch memory of this step alone, as step->tmp; 0 bytes: none. */
rc_status rc_plan_scratch(rc_plan *p, rc_step *step, int64_t bytes, rc_error *err);
rc_step rc_step_for_input(const rc_step *step, int k); /* the part of a backward that serves input k */
int32_t rc_packed_add(rc_model *m, const rc_packed *packed); /* its place, or -1: no memory */
/* The model's packed copy for this unit, made or found; its place in m->packed, or -1. */
int32_t rc_packed_for(rc_model *m, const rc_unit *u, const rc_conv_step *conv);
int64_t rc_packed_floats(const rc_packed *packed);
void rc_packed_make(const rc_model *m, rc_packed *packed); /* packed->data is there */
/* memory.c */
void rc_plan_note_uses(const rc_model *m, rc_plan *p); /* lifetimes, from the finished list of steps */
void rc_plan_share(rc_plan *p); /* in place, where that may be */
rc_status rc_plan_place(rc_plan *p, rc_error *err);
/* The step at which most bytes are alive, each buffer rounded up to a multiple of `line`, a power
 * of two. alive: n_steps + 1, of each step. */
int32_t rc_plan_fullest(const rc_plan *p, int64_t line, int64_t *alive, int64_t *bytes);
/* spare.c: as rc_plan_lower, with less alive at once for more that is computed again */
rc_status rc_plan_spare(rc_model *m, rc_plan *p, rc_error *err);
/* device_select.c: packed->data, folded anew */
rc_status rc_device_fold(rc_model *m, rc_packed *packed, rc_error *err);
/* device.c: the device is given back; what is there alone is lost */
void rc_model_leave_device(rc_model *m);
/* model.c */
rc_status rc_model_plan(rc_model *m, const rc_plan_spec *spec, rc_plan **out, rc_error *err);
rc_status rc_plan_new(rc_model *m, const rc_plan_spec *spec, rc_plan **out, rc_error *err);
void rc_plan_free(rc_plan *p);
void rc_plan_drop_arena(rc_plan *p); /* the memory, not the plan */
void rc_model_drop_plans(rc_model *m); /* all, and packed weights */
rc_plan *rc_model_cached_plan(const rc_model *m, const rc_plan_spec *spec); /* or NULL */
rc_status rc_model_need_gradients(rc_model *m, rc_error *err); /* allocated, not zeroed */
/* info.c: fills m->info and m->heads from the graph and the settings */
rc_status rc_model_work_out(rc_model *m, rc_error *err);
/* run.c */
rc_status rc_plan_ready(rc_model *m, rc_plan *p, rc_error *err); /* arena, pointers, packing */
void rc_plan_resolve(const rc_model *m, rc_plan *p);
void rc_plan_drop_others(rc_model *m, const rc_plan *p); /* arenas, to make room for p's */
/* What the host sees of a plan (device_run.c): the arena itself, or on a device page-locked copies
 * of what goes in (push, after writing) and comes out (pull, then wait, before reading). Buffer -1
 * is passed over. */
char *rc_plan_host(const rc_plan *p, int32_t buffer);
rc_status rc_plan_push(const rc_plan *p, int32_t buffer, rc_error *err);
rc_status rc_plan_pull(const rc_plan *p, int32_t buffer, rc_error *err);
rc_status rc_plan_wait(const rc_plan *p, rc_error *err);
void *rc_plan_value(const rc_plan *p, rc_value v); /* as rc_plan_host; NULL: not in its memory */
bool rc_plan_trains(const rc_plan *p);
static inline bool
rc_plan_forward_only(const rc_plan *p)
{
    return p->spec.kind == RC_PLAN_EVAL || p->spec.kind == RC_PLAN_LOOK;
}
/* A plan for this call, ready, with images (and planes, or NULL) in place. */
rc_status rc_prepare(rc_model *m, const rc_plan_spec *spec, const rc_images *images,
                     const int64_t *planes, rc_plan **out, rc_error *err);
/* Asks, if the last time (*last, rc_seconds) is 50 ms ago or more. */
bool rc_asked_to_stop(const rc_poll *poll, double *last);
rc_status rc_run_steps(rc_model *m, rc_plan *p, int32_t from, int32_t to, const rc_poll *poll,
                       rc_error *err);
/* explain.c: what a LOOK or EXPLAIN plan keeps for its caller */
bool rc_explain_is_map(const rc_model *m, const rc_plan_spec *spec, rc_value v);
bool rc_explain_is_source(const rc_model *m, const rc_plan_spec *spec, rc_value v);
/* Of `n` images, how many at once. */
rc_status rc_explain_chunk(rc_model *m, rc_plan_spec spec, int64_t n, int64_t *out, rc_error *err);
/* A plan, ready; what other runs left behind is gone. */
rc_status rc_explain_plan(rc_model *m, const rc_plan_spec *spec, rc_plan **out, rc_error *err);
/* A map by name (NULL: RC_NONE, Grad-CAM's default), the logits called `head`. */
rc_status rc_explain_layer(const rc_model *m, const char *layer, rc_value *out, rc_error *err);
rc_status rc_explain_head(const rc_model *m, const char *head, rc_value *out, rc_error *err);
/* device_embed.c: embeddings of checked images, in a block of the card's */
rc_status rc_device_embed(rc_model *m, rc_plan *p, const rc_images *images, bool flip,
                          rc_value embedding, void **out, const rc_poll *poll, rc_error *err);
/* feed.c */
rc_status rc_check_images(const rc_model *m, const rc_images *images, bool may_be_empty,
                          rc_error *err);
/* Images [from, from + count) into the plan's input; rows beyond count become zero. */
rc_status rc_load_images(const rc_model *m, const rc_plan *p, const rc_images *images,
                         int64_t from, int64_t count, bool mirror, rc_error *err);
rc_status rc_load_planes(const rc_model *m, const rc_plan *p, const int64_t *planes, int64_t n,
                         rc_error *err);
void rc_nhwc_to_nchw(const char *x, const rc_shape *s, size_t size, char *y);

#endif
