/* A model: a graph, its weights, and the plans made from them. What bindings call.
 *
 * Every function that computes takes the model's lock, so two threads may share a model; call
 * them without the interpreter lock. `real` below is float, or double in a model of precision
 * float64 (the plain C operations alone: slow, the truth in tests). */
#ifndef RC_MODEL_H
#define RC_MODEL_H

#include "base/base.h"
#include "cpu/cpu.h"
#include "data/data.h"
#include "graph/graph.h"

typedef struct rc_model rc_model;
typedef struct rc_device_info rc_device_info; /* device/device.h */

/* ---- making one (plan/model.c, nets/registry.c) ------------------------------------------- */

typedef enum rc_setting_kind {
    RC_SETTING_NONE,   /* Python's None */
    RC_SETTING_BOOL,   /* i */
    RC_SETTING_INT,    /* i */
    RC_SETTING_REAL,   /* r */
    RC_SETTING_TEXT,   /* s */
    RC_SETTING_LIST,   /* list[0..count): a tuple of integers, or of reals (r_list) */
} rc_setting_kind;

typedef struct rc_setting {
    const char *name;
    rc_setting_kind kind;
    int64_t i;
    double r;
    const char *s;
    int64_t list[8];
    double r_list[8];
    int count;
} rc_setting;

/* Its value, for messages. */
const char *rc_setting_text(const rc_setting *s, char text[64]);

/* A system of the registry ("baseline", "mbgn", …) with its switches by name: those of the
 * system's page and num_classes, height, width, backbone, width_multiplier, zero_init_residual,
 * seed, threads, precision, memory. Unknown names are RC_TYPE, values that do not fit RC_ARGUMENT; both
 * name what would fit. Weights start as the page says, drawn from `seed`. */
rc_status rc_model_new(const char *system, const rc_setting *settings, int n_settings,
                       rc_model **out, rc_error *err);

/* From a graph built elsewhere (the Python builder); takes the graph, even on failure. */
rc_status rc_model_from_graph(rc_graph *graph, const rc_setting *settings, int n_settings,
                              rc_model **out, rc_error *err);
void rc_model_free(rc_model *m);

int rc_system_count(void);
const char *rc_system_name(int i);

/* ---- what it is ---------------------------------------------------------------------------- */

typedef struct rc_model_info {
    const char *system;      /* "mbgn", "graph" */
    int64_t height, width;   /* of the input */
    int64_t classes;         /* 0: no classifier (labels only need to be >= 0) */
    int64_t dimension;       /* of the embedding */
    bool normalized;         /* the page's embedding is already of unit length */
    bool test_flip;          /* the page's test averages the mirrored image */
    bool has_loss, needs_two_identities, takes_planes;
    int64_t parameters;      /* all of parameters() */
    int64_t inference_parameters;
    double macs, macs_literal; /* one image in evaluation, the page's convention */
    int64_t map_height;      /* rows of the map that planes cut (H), or 0 */
    double center_weight;    /* gradients of center* are those of `total`: this times the plain
                                centre loss's; 0: no centres */
    int optimizer_states;    /* values a weight that the page's optimiser keeps: Adam 2, SGD with
                                momentum 1 */
    bool is_double;
    const char *precision;   /* as the user says it */
    bool low_memory;         /* training makes more again, to hold less */
    int threads;
} rc_model_info;

const rc_model_info *rc_model_get_info(const rc_model *m);
const rc_graph *rc_model_get_graph(const rc_model *m); /* borrowed */

typedef struct rc_state_view {
    const char *name;
    rc_state_kind kind;
    rc_shape shape;
    void *data;     /* real, in the order users see; lives as long as the model */
    void *gradient; /* real, or NULL before the first backward (and for buffers) */
    bool frozen;    /* a parameter that training leaves alone for now */
} rc_state_view;

int rc_model_state_count(const rc_model *m);
void rc_model_state(const rc_model *m, int i, rc_state_view *out);

/* After writing to weights: packed copies are made anew before the next run. While `views` of
 * the weights are out in the user's hands (each +1, given back -1) every run looks again. */
void rc_model_touch(rc_model *m);
void rc_model_views(rc_model *m, int change);

/* Training leaves the parameters alone whose name matches one of the patterns (fnmatch), instead
 * of those of the call before; n = 0: none. They have gradients of zero, optimisers pass over them,
 * and batch norms whose weight and bias are both frozen use their running statistics, which stay
 * as they are. A pattern that matches no parameter: RC_ARGUMENT, and nothing has changed. */
rc_status rc_model_freeze(rc_model *m, const char *const *patterns, int n, rc_error *err);
void rc_model_freeze_like(rc_model *m, const rc_model *other); /* of the same graph; no lock */

/* Take the model to device `index` (0: "cuda:0"), or back to the CPU (-1). Where it cannot be, it
 * stays where it is: RC_DEVICE (no library, driver, card; one too old), RC_MEMORY, RC_UNSUPPORTED
 * (precision). What it computes there has the names, shapes and layouts it has here. */
rc_status rc_model_to(rc_model *m, int index, rc_error *err);
int rc_model_device(const rc_model *m);                        /* -1: the CPU */
const rc_device_info *rc_model_device_info(const rc_model *m); /* NULL: the CPU */
/* Bring weights, statistics and gradients of rc_model_state, and what optimisers and averages
 * remember of them, up to date; on the CPU they are. To be called before they are read, and before
 * some of them are written. Takes no lock. */
rc_status rc_model_fetch(rc_model *m, rc_error *err);

rc_status rc_model_zero_grad(rc_model *m, rc_error *err); /* gradient arrays stay, all zero */
bool rc_model_has_gradients(const rc_model *m); /* false after train_step and before backward */
uint64_t rc_model_get_step(const rc_model *m);  /* training forwards so far; part of a checkpoint */
void rc_model_set_step(rc_model *m, uint64_t step);
void rc_model_lock(rc_model *m);
void rc_model_unlock(rc_model *m);

/* ---- running (plan/run.c) ------------------------------------------------------------------ */

/* uint8 n x h x w x 3 RGB of any size (resized, scaled, normalised), or float32 (float64 in a
 * double model) n x 3 x height x width taken as it is; C-contiguous. */
typedef struct rc_images {
    const void *data;
    bool is_u8;
    int64_t n, c, h, w; /* c: what the array has in the channel place, checked to be 3 */
    bool there;         /* uint8 or float32 on a card: */
    int card;           /* its number, -1: the model's */
    void *stream;       /* in which it is made ready; NULL: it is */
    int64_t strides[4]; /* in elements */
    /* For models on a card: pictures of any sizes (n) instead of data, h and w, which the card augments;
     * no jitter. */
    const rc_image *pictures;
    const rc_augment *augment;
    uint64_t augment_seed;
    int64_t epoch, first;
} rc_images;

/* Integers (n), contiguous, on the model's card (`card`, -1: it does not say), to the host: for their
 * check, before anything runs. In the order of `stream` (NULL: ready), beside what the model runs. */
rc_status rc_model_peek(rc_model *m, int card, void *stream, const void *from, int64_t bytes,
                        const char *what, void *to, rc_error *err);

/* Asked about every 50 ms between two calls, on the calling thread; true: stop. A step that is
 * stopped has changed nothing. NULL stop: never asked. */
typedef struct rc_poll {
    bool (*stop)(void *context);
    void *context;
} rc_poll;

/* Embeddings (n x dimension) of any number of images, in batches of `batch` (0: chosen here). */
rc_status rc_model_embed(rc_model *m, const rc_images *images, bool flip, bool normalize,
                         int64_t batch, void *out, const rc_poll *poll, rc_error *err);

/* The same, and what comes out stays on the model's card: *out is a block of it, n x dimension
 * floats, which rc_device_api.release_any gives back. Ready on return. */
rc_status rc_model_embed_there(rc_model *m, const rc_images *images, bool flip, bool normalize,
                               int64_t batch, void **out, const rc_poll *poll, rc_error *err);

/* The named outputs of the page. Read them with rc_model_output until the next run.
 * training: batch statistics, running ones move, and rc_model_backward may follow.
 * planes: n x 4 or NULL. */
rc_status rc_model_forward(rc_model *m, const rc_images *images, bool training,
                           const int64_t *planes, const rc_poll *poll, rc_error *err);

typedef struct rc_output_view {
    const char *name;
    rc_shape shape;   /* with the batch of the last forward */
    bool is_int;
    const void *data; /* real (rank 4: n,h,w,c in memory) or int64; valid until the next run */
} rc_output_view;

int rc_model_output_count(const rc_model *m, bool training);
void rc_model_output(const rc_model *m, bool training, int i, rc_output_view *out);

/* After a training forward: gradients[i] of output i (NULL: none), laid out as the output;
 * parameter gradients accumulate. dimages: n x 3 x height x width or NULL. */
rc_status rc_model_backward(rc_model *m, const void *const *gradients, void *dimages,
                            const rc_poll *poll, rc_error *err);

/* ---- inference in bytes (plan/quantize.c) --------------------------------------------------- */

typedef enum rc_quantize_method {
    RC_QUANTIZE_PERCENTILE, /* ranges that hold so much of the values */
    RC_QUANTIZE_MSE,        /* ranges of the least mean squared error */
} rc_quantize_method;

typedef struct rc_quantize_options {
    rc_quantize_method method;
    double percentile; /* above 50, at most 100: of the values, at either end of the range */
    double limit;      /* a layer whose own relative error is above it stays in float32 */
} rc_quantize_options;

typedef struct rc_quantized_layer {
    char name[RC_NAME];     /* of its weight */
    bool in_bytes;          /* it computes with bytes … */
    bool measured;          /* … or was tried; else it did not come into question */
    double low, high, step; /* of its input */
    double error;           /* relative L2, with its input, residual and weights in bytes */
} rc_quantized_layer;

typedef struct rc_quantized { /* the caller's: rc_free(layers) */
    rc_quantized_layer *layers;
    int n;
} rc_quantized;

/* Looks at the images in float32 and has the model compute in bytes from then on (inference alone;
 * training is refused). Whatever fails leaves it as it was. */
rc_status rc_model_quantize(rc_model *m, const rc_images *images,
                            const rc_quantize_options *options, rc_quantized *out,
                            const rc_poll *poll, rc_error *err);

typedef struct rc_stored_value { /* how a value of the graph is stored as bytes */
    int32_t value, zero;
    float step;
    bool in_bytes;
} rc_stored_value;

bool rc_model_stored(const rc_model *m, int value, rc_stored_value *out); /* false: none */
rc_status rc_model_stored_like(rc_model *m, const rc_model *other, rc_error *err); /* no lock */
rc_status rc_model_set_stored(rc_model *m, const rc_stored_value *values, int n, rc_error *err);

/* ---- explanation (plan/explain.c, plan/grad_cam.c): weights, statistics, gradients stay ------ */

/* In evaluation mode, the feature map named `layer` (rc_graph_find_map) and the gradient that
 * reaches it from `gradient` (laid out as the output) of the output `name`, training outputs
 * included. *shape: of the map, n first. map, map_gradient: real, n x c x h x w, or both NULL to
 * ask for the shape alone. */
rc_status rc_model_explain(rc_model *m, const rc_images *images, const char *layer,
                           const char *name, const void *gradient, rc_shape *shape, void *map,
                           void *map_gradient, const rc_poll *poll, rc_error *err);

/* Grad-CAM of an embedding network (spec/common.md 8). */
typedef enum rc_cam_target {
    RC_CAM_BEST,    /* the class whose mean logit is highest, image by image */
    RC_CAM_CLASS,   /* classes */
    RC_CAM_SIMILAR, /* cosine of the embedding and a reference */
    RC_CAM_NORM,    /* half the squared length of the embedding */
} rc_cam_target;

typedef struct rc_cam_request {
    rc_cam_target target;
    const int64_t *classes;   /* CLASS: one for all images, or one each */
    const double *references; /* SIMILAR: (1,D) or (n,D) */
    int64_t count;            /* of classes or references */
    const char *layer;        /* NULL: the page's; several maps there are added up */
    const char *head;         /* NULL: mean of all class heads; else the output of that name */
    bool activation;          /* sum of squares over channels instead; target and head unused */
} rc_cam_request;

/* out: n x height x width, real, 0..1. Any number of images, in chunks. */
rc_status rc_model_grad_cam(rc_model *m, const rc_images *images, const rc_cam_request *request,
                            void *out, const rc_poll *poll, rc_error *err);

/* Its embedding is of unit length whatever the image is: then RC_CAM_NORM gives zero maps. */
bool rc_model_unit_embedding(const rc_model *m);

int rc_model_head_count(const rc_model *m); /* class heads: logits that an identity loss reads */
const char *rc_model_head_name(const rc_model *m, int i);

/* Attention maps of the network's own: shape with n = 1, as users see it. */
typedef struct rc_attention_view {
    const char *name;
    rc_shape shape;
    bool is_int;
} rc_attention_view;

int rc_model_attention_count(const rc_model *m);
void rc_model_attention_map(const rc_model *m, int i, rc_attention_view *out);
/* out[i]: of map i, n images, C-contiguous. */
rc_status rc_model_attention(rc_model *m, const rc_images *images, void *const *out,
                             const rc_poll *poll, rc_error *err);

/* ---- training (plan/step.c) ------------------------------------------------------------------ */

/* Loss parts, in order: name i is rc_model_loss_name(m, i), the last is "total". */
int rc_model_loss_count(const rc_model *m);
const char *rc_model_loss_name(const rc_model *m, int i);

/* Training forward + loss + backward. labels: n. parts: rc_model_loss_count doubles. */
rc_status rc_model_loss(rc_model *m, const rc_images *images, const int64_t *labels,
                        const int64_t *planes, double *parts, const rc_poll *poll,
                        rc_error *err);

typedef struct rc_optimizer rc_optimizer; /* train/optim.h */

typedef struct rc_ema rc_ema;             /* train/ema.h */

/* zero_grad, loss, step, and an update of the average (NULL: none); gradients are gone
 * afterwards. */
rc_status rc_model_train_step(rc_model *m, const rc_images *images, const int64_t *labels,
                              const int64_t *planes, rc_optimizer *optimizer, rc_ema *ema,
                              double *parts, const rc_poll *poll, rc_error *err);

/* ---- plans in words (plan/describe.c) ------------------------------------------------------- */

typedef struct rc_plan_bytes {
    int64_t weights, gradients, activations, workspace, packed;
} rc_plan_bytes;

/* What a run of this batch size would hold, worked out without allocating any of it. */
rc_status rc_model_memory(rc_model *m, int64_t batch, bool training, rc_plan_bytes *out,
                          rc_error *err);

/* While on, every step of a run is timed, by the clock and in processor time of all threads;
 * rc_model_plan_text shows the means. Costs about a microsecond a step. */
void rc_model_profile(rc_model *m, bool on);

/* A convolution's pass, or the packing of its weights in a step that packs them anew. */
typedef struct rc_conv_time {
    const rc_conv_kernel *kernel;
    rc_conv_shape shape;
    double seconds; /* in all profiled runs */
    int64_t runs;
} rc_conv_time;

/* Those of a plan, as they run; none on a device. *out is the caller's (rc_free). */
rc_status rc_model_convs(rc_model *m, int64_t batch, bool training, rc_conv_time **out,
                         int64_t *count, rc_error *err);

/* The plan as text: node, kernel, shape, bytes, MACs a line. *text is the caller's (rc_free). */
rc_status rc_model_plan_text(rc_model *m, int64_t batch, bool training, char **text,
                             rc_error *err);

#endif
