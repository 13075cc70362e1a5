/* Rows of a softmax times values; rules and letters: csrc/ops/attention.c, how: attend.h. A task is
 * an image, or some rows of one where the images are few. */
#include "cpu/kernels/simd/attend.h"

#define TASKS 8   /* wanted, whatever the number of threads */
#define ROWS 32   /* of S, at least, that are a task's */

typedef struct job {
    const rc_call *call;
    attend one; /* the first image */
    int64_t n, parts;
    float factor;
    int64_t each;               /* floats of scratch of a thread */
    float *scratch, *sums;      /* sums: of each task where an image has several */
} job;

static void
softmax(const attend *o, int64_t row, int64_t rows, float *s)
{
    (void)row;
    const job *j = o->context;
    for (int64_t i = 0; i < rows; i++, s += o->pitch) {
        softmax_row(s, j->factor, o->c, s);
    }
}

static void
back(const attend *o, int64_t row, int64_t rows, const float *s, float *l)
{
    (void)row;
    const job *j = o->context;
    for (int64_t i = 0; i < rows; i++, s += o->pitch, l += o->pitch) {
        softmax_row_back(s, l, j->factor, o->c, l, false);
    }
}

static job
sizes_of(const rc_attrs *at, const rc_shape *xs, bool backward)
{
    bool turned = at->mode == 1;
    job j = {.n = xs[0].d[0], .factor = (float)(at->negate ? -at->scale : at->scale)};
    j.one = (attend){.r = xs[0].d[at->trans_a ? 2 : 1], .c = xs[1].d[at->trans_b ? 1 : 2],
                     .k = xs[0].d[at->trans_a ? 1 : 2], .e = xs[2].d[turned ? 1 : 2],
                     .a = {NULL, xs[0].d[2], at->trans_a}, .b = {NULL, xs[1].d[2], at->trans_b},
                     .v = {NULL, xs[2].d[2], turned}, .y_turned = turned,
                     .softmax = softmax, .back = back};
    attend_cut(&j.one);
    int64_t wanted = (TASKS + j.n - 1) / j.n, most = j.one.r / ROWS;
    j.parts = wanted < most ? wanted : most > 1 ? most : 1;
    attend_parts p;
    j.each = attend_scratch(&j.one, backward, NULL, &p);
    return j;
}

static int64_t
tmp_size(const rc_attrs *at, const rc_shape *xs, const rc_shape *y, bool backward, int threads)
{
    (void)y;
    job j = sizes_of(at, xs, backward);
    int64_t sums = backward && j.parts > 1 ? j.n * j.parts * attend_sums(&j.one) : 0;
    return (threads * j.each + sums) * (int64_t)sizeof(float);
}

static job
job_new(const rc_call *call, bool backward)
{
    job j = sizes_of(call->attrs, call->xs, backward);
    j.call = call;
    j.scratch = call->tmp;
    j.sums = j.parts > 1 ? j.scratch + call->threads * j.each : NULL;
    return j;
}

static int64_t
floats_each(const rc_shape *s)
{
    return s->d[1] * s->d[2];
}

/* The attention of an image, and the rows [from, to) that are a part's. */
static attend
image_of(const job *j, int64_t image, int64_t part, int64_t *from, int64_t *to)
{
    attend o = j->one;
    rc_factor *f[] = {&o.a, &o.b, &o.v};
    for (int i = 0; i < 3; i++) {
        f[i]->at = (const float *)j->call->x[i] + image * floats_each(&j->call->xs[i]);
    }
    o.context = j;
    *from = o.r * part / j->parts;
    *to = o.r * (part + 1) / j->parts;
    return o;
}

static attend_place
place_of(const job *j, int input, int64_t image)
{
    const rc_shape *s = &j->call->xs[input];
    float *at = j->call->dx[input];
    return (attend_place){at ? at + image * floats_each(s) : NULL, s->d[2], j->call->add[input]};
}

static void
forward_task(void *context, int64_t task, int worker)
{
    const job *j = context;
    int64_t image = task / j->parts, from, to;
    attend o = image_of(j, image, task % j->parts, &from, &to);
    attend_forward(&o, from, to, (float *)j->call->y + image * floats_each(&j->call->ys),
                   j->call->ys.d[2], j->scratch + worker * j->each);
}

static void
backward_task(void *context, int64_t task, int worker)
{
    const job *j = context;
    int64_t image = task / j->parts, from, to;
    attend o = image_of(j, image, task % j->parts, &from, &to);
    float *scratch = j->scratch + worker * j->each;
    rc_factor dy = {(const float *)j->call->dy + image * floats_each(&j->call->ys),
                    j->call->ys.d[2], o.y_turned};
    attend_place db = place_of(j, 1, image), dv = place_of(j, 2, image);
    attend_parts p;
    attend_scratch(&o, true, scratch, &p);
    float *sums = j->sums ? j->sums + task * attend_sums(&o) : p.sums;
    attend_backward(&o, from, to, dy, place_of(j, 0, image), db.at, dv.at, sums, scratch);
    if (!j->sums) {
        attend_give(&o, sums, 1, db, dv);
    }
}

static void
give_task(void *context, int64_t image, int worker)
{
    (void)worker;
    const job *j = context;
    attend_give(&j->one, j->sums + image * j->parts * attend_sums(&j->one), j->parts,
                place_of(j, 1, image), place_of(j, 2, image));
}

static void
forward(const rc_call *call)
{
    job j = job_new(call, false);
    rc_parallel(j.n * j.parts, call->threads, forward_task, &j);
}

static void
backward(const rc_call *call)
{
    job j = job_new(call, true);
    rc_parallel(j.n * j.parts, call->threads, backward_task, &j);
    if (j.sums) {
        rc_parallel(j.n, call->threads, give_task, &j);
    }
}

const rc_fast_kernel RC_SIMD(rc_fast_attention) = {
    .name = "rc_f32_attention__" RC_ISA_TEXT,
    .op = RC_OP_attention,
    .tmp_size = tmp_size,
    .forward = forward,
    .backward = backward,
};
