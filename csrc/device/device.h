/* A device beside the CPU, as the planner sees it: a table of functions that a second library fills
 * (cuda/). The core includes no header of the device's maker; the library is opened at first use.
 *
 * One rc_device serves one model: it has a stream of its own, and all that is asked of it happens
 * in that stream's order. Nothing here waits for the device but what says so. Calls on one
 * rc_device do not overlap (the model's lock). */
#ifndef RC_DEVICE_H
#define RC_DEVICE_H

#include "cpu/update.h"
#include "graph/op.h"

#define RC_DEVICE_ABI 3 /* of this header; a library built from another one is refused */

typedef struct rc_device rc_device;
typedef struct rc_device_graph rc_device_graph; /* recorded steps, ready to be replayed */

typedef struct rc_device_info {
    int index;
    char name[128];     /* of the card */
    char versions[128]; /* driver, run time, libraries: for people */
    int64_t total_bytes;
} rc_device_info;

typedef enum rc_device_pass {
    RC_DEVICE_FORWARD,
    RC_DEVICE_BACKWARD,
    RC_DEVICE_COMMIT,
    RC_DEVICE_CAST, /* y (+)= x[0], of `from`, as `element`; no operation */
    RC_DEVICE_FILL, /* y, ys: `value` everywhere; no operation */
    RC_DEVICE_FOLD, /* conv2d: y = weights times the batch norm's scale, behind them the shift:
                       x[0] weights, x[1] bias or NULL, x[2..5] gamma, beta, mean, var; attrs->eps */
} rc_device_pass;

/* What is to run: shapes, attributes and `add` of the call are set, its pointers are not yet. */
typedef struct rc_device_request {
    rc_device_pass pass;
    rc_op_id op;
    const rc_call *call;
    uint32_t has;    /* bit k: x[k] will be given (forward), or is read (backward) */
    uint32_t wanted; /* backward: bit k: dx[k] is wanted; of conv2d exactly one at a time */
    int element;     /* an rc_element (base/element.h): of x, y and their gradients, states and
                        integers apart; RC_BF16: folded weights are that, too */
    int from;        /* CAST */
    bool keeps;      /* ws will be given */
    bool folded;     /* conv2d forward: the shift lies behind the weights */
    float value;     /* FILL */
} rc_device_request;

/* How it runs. `choice` belongs to the device and lives as long as it does. */
typedef struct rc_device_kernel {
    const char *name;
    void (*run)(rc_device *d, const rc_call *call, const void *choice);
    const void *choice;
    int64_t tmp; /* bytes of call->tmp */
} rc_device_kernel;

/* An optimiser's update of one state entry; addresses on the device. */
typedef struct rc_device_item {
    float *w, *s0, *s1; /* s0, s1: NULL where the rule has none */
    const float *g;
    int64_t count;
    bool clipped;       /* its gradient is one of those whose norm is limited */
    rc_update rule;     /* without the clipping's factor */
} rc_device_item;

/* Maps (n,3,h,w) of float32 that somebody else keeps on the card; strides in elements. */
typedef struct rc_device_maps {
    const float *data;
    int64_t strides[4]; /* of n, 3, h, w */
} rc_device_maps;

typedef struct rc_device_api {
    int abi;

    /* index 0, 1, …; folders: where to look for libraries beside the system's places, separated by
     * colons. RC_DEVICE: no driver, no such card, one that is too old, a library that is missing. */
    rc_status (*open)(int index, const char *folders, rc_device **out, rc_error *err);
    void (*close)(rc_device *d);
    const rc_device_info *(*info)(const rc_device *d);

    /* Memory of the device, and page-locked memory of the host. RC_MEMORY where there is none. */
    rc_status (*alloc)(rc_device *d, int64_t bytes, void **out, rc_error *err);
    void (*release)(rc_device *d, void *block); /* waits; NULL is fine */
    rc_status (*host_alloc)(rc_device *d, int64_t bytes, void **out, rc_error *err);
    void (*host_release)(rc_device *d, void *block);
    int64_t (*free_bytes)(rc_device *d);

    /* In the stream's order. Host memory must stay as it is until the copy is done. */
    rc_status (*upload)(rc_device *d, void *to, const void *from, int64_t bytes, rc_error *err);
    rc_status (*download)(rc_device *d, void *to, const void *from, int64_t bytes, rc_error *err);
    rc_status (*copy)(rc_device *d, void *to, const void *from, int64_t bytes, rc_error *err);
    rc_status (*zero)(rc_device *d, void *to, int64_t bytes, rc_error *err);
    /* upload beside the running stream: into memory of the device's own, from where the stream
     * takes it when its turn comes. fed: waits until the last one's host memory may be reused. */
    rc_status (*feed)(rc_device *d, void *to, const void *from, int64_t bytes, rc_error *err);
    rc_status (*fed)(rc_device *d, rc_error *err);
    /* A place in the stream; waits until everything before it is done. Failures of what ran come
     * out here and in `check`. */
    rc_status (*mark)(rc_device *d, int which, rc_error *err); /* which: 0 or 1 */
    rc_status (*reach)(rc_device *d, int which, rc_error *err);
    rc_status (*wait)(rc_device *d, rc_error *err); /* for everything */
    rc_status (*check)(rc_device *d, rc_error *err); /* without waiting */

    /* Whether a kernel of this element runs the operation's passes; RC_REAL: most do. */
    bool (*takes)(rc_op_id op, int element);
    /* RC_UNSUPPORTED where nothing runs this. May use free memory of the device for a while. */
    rc_status (*select)(rc_device *d, const rc_device_request *r, rc_device_kernel *out,
                        rc_error *err);

    /* Others' memory on the same card: the stream's handle, on which they make it ready; or wait, in
     * this stream's order, for what another stream holds now. */
    void *(*stream)(rc_device *d);
    rc_status (*join)(rc_device *d, void *other, rc_error *err);
    /* to: (n,h,w,3), columns reversed if `mirror`. */
    rc_status (*gather)(rc_device *d, const rc_device_maps *from, float *to, int64_t n, int64_t h,
                        int64_t w, bool mirror, rc_error *err);
    /* Rows of length `columns` to unit length, lengths clamped at 1e-12. */
    rc_status (*unit_rows)(rc_device *d, float *rows, int64_t n, int64_t columns, rc_error *err);
    void (*release_any)(void *block); /* of `alloc`, when its rc_device may be gone */

    /* One update of all entries. clip_norm > 0: gradients of `clipped` ones are first multiplied with
     * min(1, clip_norm / (norm + 1e-6)); norm: theirs together, summed in a fixed order. */
    rc_status (*update)(rc_device *d, const rc_device_item *items, int n, double clip_norm,
                        rc_error *err);
    rc_status (*norm)(rc_device *d, double *out, rc_error *err); /* of the last such update; waits */
    /* a += share (w - a) */
    rc_status (*blend)(rc_device *d, float *a, const float *w, int64_t count, float share,
                       rc_error *err);

    /* Between begin and end, what is put on the stream is recorded and does not run. */
    rc_status (*record_begin)(rc_device *d, rc_error *err);
    rc_status (*record_end)(rc_device *d, rc_device_graph **out, rc_error *err);
    rc_status (*replay)(rc_device *d, rc_device_graph *g, rc_error *err);
    void (*graph_release)(rc_device *d, rc_device_graph *g); /* NULL is fine */
} rc_device_api;

/* ---- opening the library (device/load.c) ----------------------------------------------------- */

/* Where it is, and the folders `open` is given; strings are copied. Once the library is open, this
 * changes nothing. */
rc_status rc_device_paths(const char *library, const char *folders, rc_error *err);

/* The library's table. RC_DEVICE: it is not there, or does not fit. */
rc_status rc_device_get(const rc_device_api **out, const char **folders, rc_error *err);

/* What card `index` is, and how many bytes of it are free; opens and closes it. */
rc_status rc_device_ask(int index, rc_device_info *out, int64_t *free_bytes, rc_error *err);

/* What such a library exports. */
#define RC_DEVICE_ENTRY "rc_device_library"
typedef const rc_device_api *(*rc_device_entry)(void);

#endif
