/* What an operation is: its rules, and its plain C forward and backward for float and double.
 *
 * A file csrc/ops/<name>.c is compiled twice. Kernels are written over `real` (ops/real.h);
 * the rules (shape, needs, sizes, MACs) are compiled in the float build only. */
#ifndef RC_OP_H
#define RC_OP_H

#include "graph/graph.h"

/* What a call gets. Pointers are to `real` (or int64 for labels and planes), in the memory
 * layout of op_list.h; shapes are those of the batch at hand. */
typedef struct rc_call {
    const rc_attrs *attrs;
    int32_t n_in;
    int32_t node;             /* index in the graph: keys random numbers */
    const rc_shape *xs;       /* shapes of the inputs */
    rc_shape ys;              /* shape of the output */
    const void *x[RC_MAX_IN]; /* NULL where the input is RC_NONE (or not asked for, in backward) */
    void *y;                  /* forward writes it; backward may read it if `reads` says so */
    const void *dy;           /* backward: gradient of y */
    void *dx[RC_MAX_IN];      /* backward: where gradients go; NULL where not wanted */
    bool add[RC_MAX_IN];      /* backward: add to dx instead of assigning */
    void *ws;                 /* written by forward, kept for backward and commit */
    void *tmp;                /* scratch of this call alone */
    void *state[2];           /* commit: the running statistics, writable */
    bool training;            /* batch statistics, dropout */
    bool again;               /* forward is run a second time in backward (its y was dropped):
                                 do not recompute what is in ws, use it */
    int threads;
    const uint64_t *seed;     /* of the network */
    const uint64_t *step;     /* training forwards so far */
    const void *extra;        /* the planner's own record (which convolution kernel …) */
} rc_call;

typedef void (*rc_kernel)(const rc_call *call);

/* Bits of `reads`: input i is bit i; the output is RC_READS_Y. */
#define RC_READS_Y (1u << 31)
#define RC_READS(i) (1u << (i))

typedef struct rc_op {
    const char *name;
    int8_t min_in, max_in;
    bool y_is_int;
    bool cheap;            /* y is worth recomputing in backward instead of being kept */
    bool in_place;         /* forward works with y == x[0] */
    bool bwd_in_place;     /* backward works with dx[0] == dy (when add[0] is false) */
    bool batch_statistics; /* training needs more than one value per channel */
    uint32_t no_grad;      /* inputs that never get a gradient: labels, planes, statistics */
    /* Shape of y from attributes and input shapes, or what does not fit, in plain words.
     * xs[i].rank == 0 where the input is RC_NONE. */
    rc_status (*infer)(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y,
                       rc_error *err);
    /* What backward reads: inputs and RC_READS_Y. `wants`: inputs whose gradient is wanted. */
    uint32_t (*reads)(const rc_attrs *a, int n_in, const rc_shape *xs, uint32_t wants,
                      bool training);
    /* Bytes; NULL: none. real_size is 4 or 8. ws is booked in training (and explain) plans. */
    int64_t (*ws_size)(const rc_attrs *a, const rc_shape *xs, const rc_shape *y,
                       size_t real_size);
    int64_t (*tmp_size)(const rc_attrs *a, const rc_shape *xs, const rc_shape *y,
                        size_t real_size, bool backward, int threads);
    /* Multiply-accumulates for the batch as the pages count them; NULL: none. literal: without
     * the factoring that a page describes (relation_map alone differs). */
    double (*macs)(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, bool literal);
    rc_kernel forward[2];  /* [0] float, [1] double */
    rc_kernel backward[2]; /* NULL: no gradient */
    rc_kernel commit[2];   /* NULL, or: move what training changes (running statistics) */
} rc_op;

/* What `reads` often is (graph/reads.c): nothing; y alone; the first input; the first two; of two
 * factors the one whose partner's gradient is wanted. */
#define RC_READS_DECLARE(rule)                                                            \
    uint32_t rc_reads_##rule(const rc_attrs *a, int n_in, const rc_shape *xs, uint32_t wants, \
                             bool training);
RC_READS_DECLARE(nothing)
RC_READS_DECLARE(result)
RC_READS_DECLARE(first)
RC_READS_DECLARE(both)
RC_READS_DECLARE(other)

extern const rc_op *const rc_op_table[RC_OP_COUNT]; /* graph/op_table.c */

#endif
