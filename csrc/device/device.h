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

#define RC_DEVICE_ABI 4 /* of this header; a library built from another one is refused */

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

/* Pictures as bytes on their way to a network's input. Tables and, unless they lie on the card, pixels
 * are one block of page-locked memory; places in it are bytes from its beginning (data/pack.c). */
typedef struct rc_device_picture {
    int64_t at;     /* of its first pixel, in bytes from the pixels */
    int32_t row;    /* bytes from row to row */
    int32_t resize; /* which of them is its own */
} rc_device_picture;

typedef struct rc_device_axis { /* of a resize: as rc_taps (cpu/pixels.h) */
    int64_t first, weights;     /* places of int64 (out), int32 (out,count) */
    int32_t count, out;         /* count 0: this axis keeps its size */
} rc_device_axis;

typedef struct rc_device_resize {
    rc_device_axis x, y;
    int32_t vertical_first;
} rc_device_resize;

struct rc_augment; /* data/data.h */

typedef struct rc_device_pictures {
    char *block;
    int64_t bytes;
    int64_t pictures;        /* place of (n) rc_device_picture */
    int64_t plain, larger;   /* of rc_device_resize; larger: scale and crop's */
    int64_t lut;             /* of (3,256) floats: what a byte becomes */
    int64_t pixels;
    const uint8_t *there;    /* pixels on the card instead */
    int32_t step, colour;    /* bytes from pixel to pixel, from colour to colour */
    int64_t n, height, width; /* of the result */
    const struct rc_augment *augment; /* NULL: none; colour jitter is not done */
    bool mirror;             /* columns of all that reversed */
    uint64_t seed;
    int64_t epoch, first;    /* of the epoch, the number of the batch's first sample */
} rc_device_pictures;

/* Two sets of rows, float32, on the card. */
typedef struct rc_device_pairs {
    const float *query, *gallery;           /* (q,d), (g,d) */
    const float *lack_query, *lack_gallery; /* (q), (g), of unit rows: cosine; NULL: squared Euclidean,
                                               of the rows as they are, by differences */
    int64_t queries, gallery_rows, dimension;
} rc_device_pairs;

/* Where each query's matches stand in its ranking; on the card but for `matches`. The matches of query
 * i are match[start[i]] .. match[start[i+1]-1], gallery indices in ascending order; every other image
 * of the query's identity is junk, as is identity -1. */
typedef struct rc_device_ranking {
    const int32_t *start, *match; /* (q+1), (matches) */
    const int64_t *q_pids, *g_pids;
    int64_t matches;
    float *distance, *sorted; /* scratch, a number a match */
    int32_t *place;           /* likewise */
    int32_t *ranks;           /* (matches), ascending within a query, from 1; junk is not counted */
} rc_device_ranking;

typedef struct rc_device_api {
    int abi;

    /* index 0, 1, …; folders: where to look for libraries beside the system's places, separated by
     * colons; NULL: for what needs none, which is all but `select`. RC_DEVICE: no driver, no such
     * card, one that is too old, a library that is missing. */
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
    /* The same of pictures: to (n,height,width,3). */
    rc_status (*feed_pictures)(rc_device *d, const rc_device_pictures *p, float *to, rc_error *err);
    /* Others' memory to the host, after what `other` holds now (NULL: at once) and beside the running
     * stream; waits for that. */
    rc_status (*peek)(rc_device *d, void *to, const void *from, int64_t bytes, void *other,
                      rc_error *err);
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
    /* rows (n,columns) -> unit, which may be the same: of unit length, lengths clamped at 1e-12; lack
     * (n), may be NULL: (1 - |unit|^2) / 2, which is 0 but for rows that are shorter than that. */
    rc_status (*unit_rows)(rc_device *d, const float *rows, int64_t n, int64_t columns, float *unit,
                           float *lack, rc_error *err);
    void (*release_any)(void *block); /* of `alloc`, when its rc_device may be gone */

    /* Evaluation. bad: on the card, the first row that holds NaN or infinity; else it stays. */
    rc_status (*find_bad)(rc_device *d, const float *rows, int64_t n, int64_t columns, int32_t *bad,
                          rc_error *err);
    /* out: (count, g), of queries first .. first+count-1. */
    rc_status (*distances)(rc_device *d, const rc_device_pairs *p, int64_t first, int64_t count,
                           float *out, rc_error *err);
    /* The queries' share of the ranking; ranks are there once all have had theirs, in order. */
    rc_status (*rank)(rc_device *d, const rc_device_pairs *p, const rc_device_ranking *r,
                      int64_t first, int64_t count, rc_error *err);

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
