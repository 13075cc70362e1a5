/* What the files of reidc._core.Network share (py_network.c: the type; py_run.c: embed, forward,
 * backward, loss, train_step; py_explain.c: grad_cam, attention; py_images.c: arguments;
 * py_state.c: weights; py_describe.c: what it is; py_follow.c: optimisers and averages on it;
 * py_graph.c: networks from the Python builder). */
#ifndef RC_PY_NETWORK_H
#define RC_PY_NETWORK_H

#include "py/py.h"

/* A model with those who need it alive: its Network, optimisers, and NumPy views of weights
 * (which outlive the Network object without keeping it in a reference cycle). */
typedef struct rc_py_model {
    Py_ssize_t references;   /* changed under the interpreter lock only */
    rc_model *model;         /* owned */
    PyThread_type_lock lock; /* owned; held over a call: run and copy what it left behind */
    unsigned long owner;     /* the thread that holds it, or 0 */
    int64_t pending;         /* images of the training forward that backward may follow, or 0 */
} rc_py_model;

/* Takes the model, even on failure (NULL and an exception). One reference. */
rc_py_model *rc_py_model_new(rc_model *model);
void rc_py_model_release(rc_py_model *m); /* NULL is fine */
static inline rc_py_model *
rc_py_model_ref(rc_py_model *m)
{
    m->references++;
    return m;
}

/* One call at a time. Waits without the interpreter lock and looks at signals; -1: exception. */
int rc_py_model_enter(rc_py_model *m);
void rc_py_model_leave(rc_py_model *m);
/* py_device.c. After entering: what the host has of weights, statistics, gradients and of optimisers
 * is up to date (rc_model_fetch). -1: exception. */
int rc_py_model_fetch(rc_py_model *m);

/* Asks Python about Ctrl-C now and then:
 *     rc_py_poll poll = rc_py_poll_begin();            lets go of the interpreter lock
 *     status = rc_model_…(…, &poll.poll, &err);
 *     rc_py_poll_end(&poll)                            takes it again
 * then rc_py_failed(status, &err). `poll` must stay where it is in between. */
typedef struct rc_py_poll {
    rc_poll poll;
    PyThreadState *state;
} rc_py_poll;

void rc_py_poll_begin(rc_py_poll *poll);
void rc_py_poll_end(rc_py_poll *poll);

/* Whether a run has failed; its exception is set: the core's, or a signal handler's. */
static inline bool
rc_py_failed(rc_status status, const rc_error *err)
{
    if (status != RC_OK) {
        rc_py_raise(status, err);
    }
    return PyErr_Occurred() != NULL;
}

typedef struct rc_py_network {
    PyObject_HEAD
    /* owned */
    rc_py_model *shared; /* NULL before __init__ */
    PyObject *config;    /* dict: system and settings as given, plain data */
} rc_py_network;

/* The shared model of a Network that is ready, borrowed; NULL and an exception otherwise. */
rc_py_model *rc_py_network_get(PyObject *self);
bool rc_py_network_check(PyObject *object);
/* Give a Network that has none yet its model. Takes the model, even on failure: -1. */
int rc_py_network_fill(PyObject *self, rc_model *model, PyObject *config);

/* ---- settings: a Python dict as the core wants it (py_network.c) --------------------------- */
typedef struct rc_py_settings {
    int count;
    rc_setting *items;  /* owned; texts are borrowed from `plain` */
    PyObject *plain;    /* owned: dict of the same, as plain Python data */
} rc_py_settings;

int rc_py_settings_get(PyObject *dict, rc_py_settings *out);
void rc_py_settings_free(rc_py_settings *s);

/* ---- arguments (py_images.c). Each returns 0, or -1 and an exception. ------------------------ */
typedef struct rc_py_images {
    PyObject *array; /* owned: whoever keeps the pixels */
    rc_images images;
} rc_py_images;

/* `some`: an empty batch is refused. */
int rc_py_images_get(PyObject *object, const rc_model *model, bool some, rc_py_images *out);
/* A reidc.DeviceArray; takes the block, even on failure. */
PyObject *rc_py_device_array(void *block, int64_t rows, int64_t columns, int card);
/* New reference: int64, n of them; the core checks their range. */
PyArrayObject *rc_py_labels_get(PyObject *object, rc_model *model, int64_t n);
/* *out: new reference or NULL for None: int64, n x 4; the core checks their order. */
int rc_py_planes_get(PyObject *object, const rc_model_info *info, int64_t n,
                     PyArrayObject **out);
/* New reference: float32 (double models: float64) of the rank, C-contiguous. */
PyArrayObject *rc_py_array_real(PyObject *object, const char *what, int rank, bool is_double);
/* An output as a fresh array in N x C x H x W order. */
PyObject *rc_py_output_array(const rc_shape *shape, bool is_int, bool is_double,
                             const void *data);
static inline int
rc_py_real(const rc_model_info *info)
{
    return info->is_double ? NPY_FLOAT64 : NPY_FLOAT32;
}

/* ---- methods, named in the type's table (py_network.c) ---------------------------------------- */
#define RC_PY_NETWORK_METHODS(X) /* how it is called, name, signature and documentation */       \
    RC_PY_RUN_METHODS(X) RC_PY_EXPLAIN_METHODS(X) RC_PY_STATE_METHODS(X)                         \
    RC_PY_DESCRIBE_METHODS(X) RC_PY_DEVICE_METHODS(X) RC_PY_QUANTIZE_METHODS(X)

#define RC_PY_DEVICE_METHODS(X)                                                                  \
    X(KEYWORDS, _move,                                                                           \
      "_move($self, index)\n--\n\n"                                                              \
      "To card `index`, or back to the CPU (-1): what `to` does with the device's name.")

#define RC_PY_QUANTIZE_METHODS(X)                                                                \
    X(KEYWORDS, _quantize,                                                                       \
      "_quantize($self, images, mse, percentile, limit)\n--\n\n"                                 \
      "What `quantize` does; returns its layers as dicts.")                                      \
    X(NOARGS, _stored,                                                                           \
      "_stored($self)\n--\n\n"                                                                  \
      "How values are stored as bytes: lists of value, step, zero, whether computed with bytes.") \
    X(KEYWORDS, _set_stored,                                                                     \
      "_set_stored($self, values)\n--\n\n"                                                      \
      "Take over what `_stored` gave of the same network.")

#define RC_PY_RUN_METHODS(X)                                                                     \
    X(KEYWORDS, embed,                                                                           \
      "embed($self, images, *, flip=False, normalize=True, batch_size=None,\n"                   \
      "      device_output=False)\n--\n\n"                                                       \
      "Embeddings of any number of images in evaluation mode: float32 N×D.\n\n"                  \
      "images: uint8 N×H×W×3 RGB of any size, or float32 N×3×height×width, normalised already.\n"\
      "flip: average with the embedding of the mirrored image. normalize: scale rows to unit\n"  \
      "length, afterwards. batch_size: images at once (None: chosen here). N = 0 gives 0×D.\n"   \
      "On a card, images may lie there, float32 with __dlpack__ or __cuda_array_interface__, of\n"\
      "any strides; device_output: give a reidc.DeviceArray there instead, without a copy.\n\n"  \
      "TypeError: another dtype. ValueError: rank, size, NaN or infinite pixels.")               \
    X(KEYWORDS, forward,                                                                         \
      "forward($self, images, *, training=False, planes=None)\n--\n\n"                           \
      "The network's named outputs: a dict of fresh arrays (maps are N×C×H×W).\n\n"              \
      "training: batch statistics are used, running ones move, and backward may follow.\n"       \
      "planes: MBGN's, integers N×4, 0 < l0 < l1 < l2 < l3 < H, in place of its own.")           \
    X(KEYWORDS, backward,                                                                        \
      "backward($self, gradients, *, input_gradient=False)\n--\n\n"                              \
      "Accumulate parameter gradients after forward(training=True).\n\n"                         \
      "gradients: {output name: float32 array of the output's shape}; outputs left out have\n"   \
      "none. input_gradient: return d/d images, float32 N×3×height×width, else None. It may be\n"\
      "called once per forward. ValueError: no training forward, unknown name, shape.")          \
    X(KEYWORDS, loss,                                                                            \
      "loss($self, images, labels, *, planes=None)\n--\n\n"                                      \
      "Training forward, the network's loss and backward: a dict of floats, `total` and its\n"   \
      "parts, unweighted. Gradients of `total` accumulate.\n\n"                                  \
      "labels: N integers, 0..num_classes-1. ValueError: label out of range, one identity in a\n"\
      "batch where there is a triplet loss, empty batch, a network without a loss.")             \
    X(KEYWORDS, train_step,                                                                      \
      "train_step($self, images, labels, optimizer, *, planes=None, ema=None)\n--\n\n"           \
      "zero_grad, loss and step in one call; returns loss's dict. gradients() is empty\n"        \
      "afterwards. optimizer: one made for this network. ema: a reidc.EMA of this network,\n"    \
      "which is updated in the same step; all of it happens, or (Ctrl-C) nothing.")

#define RC_PY_EXPLAIN_METHODS(X)                                                                 \
    X(KEYWORDS, grad_cam,                                                                        \
      "grad_cam($self, images, target=None, layer=None, *, head=None, method='gradcam')\n--\n\n" \
      "Where a score comes from: float32 N×height×width, each map in [0, 1].\n\n"                \
      "Evaluation mode; any number of images, as embed takes them; the network stays as it\n"    \
      "is. target, the score y: None, the logit of the best class (argmax of the mean over\n"    \
      "heads); an integer or N of them, the logit of that class, before softmax; floats, D or\n" \
      "N×D, the cosine of the embedding (not mirrored) and this reference; 'norm', half the\n"   \
      "squared length of the embedding. layer, the map A that is looked at: a name of\n"         \
      "layers(); None: the page's (MFA: its branches' maps, added up before they are scaled).\n" \
      "head: the logits of one head, a name of heads(), instead of the mean over heads. M =\n"   \
      "relu(sum over k of w_k A_k), w_k the mean over positions of dy/dA_k, becomes (M -\n"      \
      "min)/max(max - min, 1e-8), so a flat map is zero, and so is the map of a layer that y\n"  \
      "does not depend on; then bilinear to the network's size (half-pixel centres).\n"          \
      "method='activation': M = sum over k of A_k², divided by its length; target, head\n"       \
      "unused.\n\n"                                                                              \
      "TypeError: another dtype, another kind of target. ValueError: unknown layer or head,\n"   \
      "class out of range, a reference of another size, NaN or all zero, no classifier.")        \
    X(KEYWORDS, attention,                                                                       \
      "attention($self, images)\n--\n\n"                                                         \
      "The network's own attention maps in evaluation mode: a dict of float32 arrays by\n"       \
      "module.\n\n"                                                                              \
      "MBGN: att{s} N×h×w, and planes int64 N×4, the rows at which its parts 2 to 5 begin.\n"    \
      "MFA: cpaa.{L}.channel N×C×C, cpaa.{L}.point N×T×T. HAMR: sam{s} or sam N×h×w, cam or\n"   \
      "cam{s} N×C. MGAF: {branch}.attention N×T×T. FSAC: backbone.layer{L}.{j}.conv2 N×4×T×T,\n" \
      "by head, and eca1 to eca5 N×C. T = h·w positions, row by row; row i of a T×T map is\n"    \
      "the position that looks. A network without attention gives an empty dict. images: any\n"  \
      "number, as embed takes them.")                                                            \
    X(KEYWORDS, explain,                                                                         \
      "explain($self, images, layer, output, gradient)\n--\n\n"                                   \
      "A feature map and the gradient that reaches it: (map, gradient), float32 N×C×h×w.\n\n"    \
      "For scores of your own; grad_cam has the usual ones. In evaluation mode (running\n"       \
      "statistics, no dropout). layer: a name of layers(). output: the name of an output,\n"     \
      "training ones included; gradient: float32 of its shape, where the way back starts. The\n" \
      "network stays as it is. ValueError: unknown layer or output, another shape.")             \
    X(NOARGS, layers,                                                                            \
      "layers($self)\n--\n\n"                                                                    \
      "Feature maps by name, for grad_cam and explain: {name: (C, h, w)}, in the order in which\n"\
      "they are computed. A map is called as on the network's page, or as the layer whose\n"     \
      "parameters made it ('backbone.layer4.2.bn3').")                                           \
    X(NOARGS, heads,                                                                             \
      "heads($self)\n--\n\n"                                                                     \
      "Names of the outputs that are logits of the identities, for grad_cam's head.")

#define RC_PY_STATE_METHODS(X)                                                                   \
    X(NOARGS, state_dict,                                                                        \
      "state_dict($self)\n--\n\n"                                                                \
      "Weights and running statistics by name: fresh arrays in the page's shapes and order.")    \
    X(KEYWORDS, load_state_dict,                                                                 \
      "load_state_dict($self, state, strict=True)\n--\n\n"                                       \
      "Take over weights by name, all of them or none; returns (missing, unexpected) names.\n\n" \
      "state: a mapping from names to floating point arrays. `num_batches_tracked` entries are\n"\
      "passed over. strict: missing or unexpected names are a ValueError. A shape that differs\n"\
      "is a ValueError, another kind of dtype a TypeError, and nothing has changed then.")       \
    X(NOARGS, parameters,                                                                        \
      "parameters($self)\n--\n\n"                                                                \
      "Name -> writable view of the network's own memory; the next call sees what was written.\n"\
      "Without running statistics. Views keep the memory alive.")                                \
    X(NOARGS, gradients,                                                                         \
      "gradients($self)\n--\n\n"                                                                 \
      "Gradients by parameter name: fresh arrays; empty before the first backward and after\n"   \
      "train_step. Parameters that are never trained hold zeros.")                               \
    X(NOARGS, zero_grad,                                                                         \
      "zero_grad($self)\n--\n\n"                                                                 \
      "Set the accumulated gradients to zero.")                                                  \
    X(KEYWORDS, freeze,                                                                          \
      "freeze($self, patterns)\n--\n\n"                                                         \
      "Training leaves alone, until the next call, the parameters whose name matches one of\n"   \
      "the patterns, a list as [\"backbone.*\"]; [] trains all again. Optimisers pass over them\n" \
      "(no decay either), their gradients are zero, and batch norms whose weight and bias are\n" \
      "both frozen normalise with their running statistics, which stay. Not part of\n"           \
      "checkpoints. ValueError: a pattern that matches no parameter.")                           \
    X(NOARGS, copy,                                                                              \
      "copy($self)\n--\n\n"                                                                      \
      "An independent network with the same configuration, weights and training step.")

#define RC_PY_DESCRIBE_METHODS(X)                                                                \
    X(NOARGS, graph,                                                                             \
      "graph($self)\n--\n\n"                                                                     \
      "The nodes as plain data: a list of dicts with name, op, inputs, attributes, shape (for\n" \
      "one image, N×C×H×W), parameters and macs.")                                               \
    X(KEYWORDS, plan,                                                                            \
      "plan($self, batch=1, *, training=False)\n--\n\n"                                          \
      "The plan of a run as text: node, kernel, shape, bytes, MACs a line; mean times where a\n"  \
      "profiled run of this batch size has been; last, what is alive when most is.")             \
    X(KEYWORDS, profile,                                                                         \
      "profile($self, on=True)\n--\n\n"                                                          \
      "Time every step of the runs that follow, by the clock and in processor time of all\n"     \
      "threads; plan() shows the means.")                                                         \
    X(KEYWORDS, _convolutions,                                                                   \
      "_convolutions(batch, training): [(kernel, (n,h,w,c,k,kh,kw,stride,pad,groups), seconds of\n" \
      "all profiled runs, their number)], the packing of weights in every step, too (tuning).")  \
    X(KEYWORDS, memory_plan,                                                                     \
      "memory_plan($self, batch, training=True, optimizer=None)\n--\n\n"                         \
      "Bytes that a run of this batch size holds, worked out before anything runs: a dict of\n"  \
      "weights, gradients, activations, workspace, packed, optimizer and total. optimizer:\n"    \
      "'adam', 'adamw', 'sgd' (with momentum) or None, the page's. In train_step gradients lie\n" \
      "where activations were, each until its weight is updated: they count there, and gradients\n" \
      "is 0 for networks with losses. With clip_norm a step holds all of them at once, and more.\n" \
      "ValueError: a batch below 1, another optimizer.")

#define RC_PY_DECLARE_KEYWORDS(name) \
    PyObject *rc_py_network_##name(PyObject *self, PyObject *args, PyObject *kw);
#define RC_PY_DECLARE_NOARGS(name) PyObject *rc_py_network_##name(PyObject *self, PyObject *none);
#define RC_PY_DECLARE_METHOD(kind, name, doc) RC_PY_DECLARE_##kind(name)
RC_PY_NETWORK_METHODS(RC_PY_DECLARE_METHOD)
/* py_state.c: arrays of every state entry in its type and shape from a dict that has just those:
 * a new list, or NULL and an exception. */
PyObject *rc_py_states_get(rc_model *model, PyObject *state);
/* py_state.c: dict[name] = a fresh array in the model's type; data NULL: zeros. -1: exception. */
int rc_py_put_copy(PyObject *dict, const char *name, const rc_shape *shape,
                   const rc_model_info *info, const void *data);
PyObject *rc_py_network_frozen(PyObject *self, void *closure);
PyObject *rc_py_network_device_index(PyObject *self, void *closure);
#undef RC_PY_DECLARE_METHOD

#endif
