/* Calls of launchers for Python: rc_call from plain arrays, so that its layout is C's alone. */
#include <string.h>

#include "cuda.h"

#define EXPORT __attribute__((visibility("default")))

static const char *const op_names[] = {
#define NAME(op) #op,
    RC_OP_LIST(NAME)
#undef NAME
};

static const char *const attr_names[] = {
#define NAME(field) #field,
    RC_ATTR_LIST(NAME, NAME)
#undef NAME
};

EXPORT const char *rc_test_op_name(int op);
EXPORT const char *rc_test_attr_name(int i);
EXPORT int rc_test_has(int op, int pass);

const char *
rc_test_op_name(int op)
{
    return op < RC_OP_COUNT ? op_names[op] : NULL;
}

const char *
rc_test_attr_name(int i)
{
    return i < (int)(sizeof attr_names / sizeof *attr_names) ? attr_names[i] : NULL;
}

/* What a call holds, as Python writes it (run.py: Flat). */
typedef struct rc_test_call {
    double attrs[64];
    int64_t xs[RC_MAX_IN][1 + RC_MAX_RANK], ys[1 + RC_MAX_RANK];
    const void *x[RC_MAX_IN];
    void *y;
    const void *dy;
    void *dx[RC_MAX_IN];
    void *ws, *tmp, *state[2];
    const uint64_t *seed, *step;
    int64_t n_in, node, training, again, type;
    int64_t add[RC_MAX_IN];
} rc_test_call;

EXPORT int64_t rc_test_size(void);
EXPORT int64_t rc_test_tmp(int op, const rc_test_call *flat, int backward);
EXPORT void rc_test_run(int op, const rc_test_call *flat, int pass);

int64_t
rc_test_size(void)
{
    return sizeof(rc_test_call);
}

static rc_shape
shape_of(const int64_t *d)
{
    return (rc_shape){(int32_t)d[0], {d[1], d[2], d[3], d[4]}};
}

typedef struct made {
    rc_attrs attrs;
    rc_shape xs[RC_MAX_IN];
    rc_cuda_record record;
    rc_call call;
} made;

static void
make(const rc_test_call *flat, made *m)
{
    memset(m, 0, sizeof *m);
    int at = 0;
#define READ(field) m->attrs.field = flat->attrs[at++];
#define READ_INT(field) m->attrs.field = (int64_t)flat->attrs[at++];
    RC_ATTR_LIST(READ_INT, READ)
    m->record.type = (rc_cuda_type)flat->type;
    m->call = (rc_call){.attrs = &m->attrs, .n_in = (int32_t)flat->n_in,
                        .node = (int32_t)flat->node, .xs = m->xs, .ys = shape_of(flat->ys),
                        .y = flat->y, .dy = flat->dy, .ws = flat->ws, .tmp = flat->tmp,
                        .state = {flat->state[0], flat->state[1]},
                        .training = flat->training != 0, .again = flat->again != 0,
                        .threads = 1, .seed = flat->seed, .step = flat->step,
                        .extra = flat->type ? &m->record : NULL};
    for (int i = 0; i < RC_MAX_IN; i++) {
        m->xs[i] = shape_of(flat->xs[i]);
        m->call.x[i] = flat->x[i];
        m->call.dx[i] = flat->dx[i];
        m->call.add[i] = flat->add[i] != 0;
    }
}

int
rc_test_has(int op, int pass)
{
    const rc_cuda_op *o = &rc_cuda_op_table[op];
    return pass == 0 ? o->forward != NULL : pass == 1 ? o->backward != NULL : o->commit != NULL;
}

int64_t
rc_test_tmp(int op, const rc_test_call *flat, int backward)
{
    made m;
    make(flat, &m);
    const rc_cuda_op *o = &rc_cuda_op_table[op];
    return o->tmp_size ? o->tmp_size(&m.call, backward != 0) : 0;
}

void
rc_test_run(int op, const rc_test_call *flat, int pass)
{
    made m;
    make(flat, &m);
    const rc_cuda_op *o = &rc_cuda_op_table[op];
    (pass == 0 ? o->forward : pass == 1 ? o->backward : o->commit)(&m.call, NULL);
}
