/* Rows of a softmax times values as matrix products; rules and letters: csrc/ops/attention.c. A few
 * images at a time, as many as leave S in the caches; backward makes S again. */
#include "cpu/cpu.h"
#include "cpu/kernels/simd/vmath.h"
#include "cpu/products.h"

#define KEPT (1 << 20) /* floats of S at a time, at least one image's */

typedef struct job {
    const rc_call *call;
    int64_t n, r, c, together;  /* images, of S, images at a time */
    rc_shape stored[3], result; /* of `together` images */
    rc_shape square;            /* of S and l */
    float factor;
    float *s, *l, *scratch;
    rc_cut cut;                 /* rows of S of the images at hand */
} job;

static job
sizes_of(const rc_attrs *at, const rc_shape *xs, const rc_shape *y)
{
    job j = {.n = xs[0].d[0], .r = xs[0].d[at->trans_a ? 2 : 1],
             .c = xs[1].d[at->trans_b ? 1 : 2], .result = *y,
             .factor = (float)(at->negate ? -at->scale : at->scale)};
    j.together = KEPT / (j.r * j.c);
    j.together = j.together < 1 ? 1 : j.together > j.n ? j.n : j.together;
    for (int i = 0; i < 3; i++) {
        j.stored[i] = xs[i];
        j.stored[i].d[0] = j.together;
    }
    j.result.d[0] = j.together;
    j.square = (rc_shape){3, {j.together, j.r, j.c, 1}};
    return j;
}

/* y from S and v, or dv from S and dy, or dS from dy and v; mode 1 has them transposed. */
static rc_gemm_shape
values(const job *j, bool turned)
{
    return turned ? rc_product(&j->stored[2], false, &j->square, true)
                  : rc_product(&j->square, false, &j->stored[2], false);
}

static rc_gemm_shape
values_back(const job *j, bool turned)
{
    return turned ? rc_product(&j->result, false, &j->square, false)
                  : rc_product(&j->square, true, &j->result, false);
}

static rc_gemm_shape
square_back(const job *j, bool turned)
{
    return turned ? rc_product(&j->result, true, &j->stored[2], false)
                  : rc_product(&j->result, false, &j->stored[2], true);
}

static int64_t
tmp_size(const rc_attrs *at, const rc_shape *xs, const rc_shape *y, bool backward, int threads)
{
    job j = sizes_of(at, xs, y);
    bool turned = at->mode == 1;
    rc_gemm_shape s[] = {rc_product(&j.stored[0], at->trans_a, &j.stored[1], at->trans_b),
                         values(&j, turned), values_back(&j, turned), square_back(&j, turned),
                         rc_product_gradient(at, j.stored, &j.square, 0),
                         rc_product_gradient(at, j.stored, &j.square, 1)};
    int64_t most = 0, square = (j.together * j.r * j.c + 15) / 16 * 16;
    for (int i = 0; i < (backward ? 6 : 2); i++) {
        int64_t floats = rc_gemm_scratch(&s[i], threads);
        most = floats > most ? floats : most;
    }
    return ((backward ? 2 : 1) * square + most) * (int64_t)sizeof(float);
}

static job
job_new(const rc_call *call, bool backward)
{
    job j = sizes_of(call->attrs, call->xs, &call->ys);
    int64_t square = (j.together * j.r * j.c + 15) / 16 * 16;
    j.call = call;
    j.s = call->tmp;
    j.l = j.s + square;
    j.scratch = backward ? j.l + square : j.l;
    return j;
}

static void
multiply(const job *j, rc_gemm_shape s, int64_t count, const float *a, const float *b, bool add,
         float *c)
{
    s.batch = count; /* the last images may be fewer */
    rc_gemm(&s, a, b, NULL, add, c, j->scratch, j->call->threads);
}

static void
softmax_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const job *j = context;
    for (int64_t i = cut_from(j->cut, task); i < cut_to(j->cut, task); i++) {
        softmax_row(j->s + i * j->c, j->factor, j->c, j->s + i * j->c);
    }
}

static void
backward_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const job *j = context;
    for (int64_t i = cut_from(j->cut, task); i < cut_to(j->cut, task); i++) {
        softmax_row_back(j->s + i * j->c, j->l + i * j->c, j->factor, j->c, j->l + i * j->c, false);
    }
}

/* The part of an input (0 to 2), or of y and dy (3), that begins with an image. */
static int64_t
begin(const job *j, int which, int64_t image)
{
    const rc_shape *s = which < 3 ? &j->stored[which] : &j->result;
    return image * s->d[1] * s->d[2];
}

static const float *
input(const job *j, int which, int64_t image)
{
    return (const float *)j->call->x[which] + begin(j, which, image);
}

/* S of `count` images. */
static void
attend(job *j, int64_t image, int64_t count)
{
    const rc_attrs *at = j->call->attrs;
    j->cut = cut_rows(count * j->r, j->c);
    multiply(j, rc_product(&j->stored[0], at->trans_a, &j->stored[1], at->trans_b), count,
             input(j, 0, image), input(j, 1, image), false, j->s);
    rc_parallel(j->cut.tasks, j->call->threads, softmax_task, j);
}

static void
forward(const rc_call *call)
{
    job j = job_new(call, false);
    bool turned = call->attrs->mode == 1;
    for (int64_t image = 0; image < j.n; image += j.together) {
        int64_t count = j.n - image < j.together ? j.n - image : j.together;
        const float *v = input(&j, 2, image);
        attend(&j, image, count);
        multiply(&j, values(&j, turned), count, turned ? v : j.s, turned ? j.s : v, false,
                 (float *)call->y + begin(&j, 3, image));
    }
}

static void
backward(const rc_call *call)
{
    job j = job_new(call, true);
    const rc_attrs *at = call->attrs;
    bool turned = at->mode == 1;
    for (int64_t image = 0; image < j.n; image += j.together) {
        int64_t count = j.n - image < j.together ? j.n - image : j.together;
        const float *dy = (const float *)call->dy + begin(&j, 3, image);
        float *dx[3];
        for (int i = 0; i < 3; i++) {
            dx[i] = call->dx[i] ? (float *)call->dx[i] + begin(&j, i, image) : NULL;
        }
        attend(&j, image, count);
        if (dx[0] || dx[1]) {
            multiply(&j, square_back(&j, turned), count, dy, input(&j, 2, image), false, j.l);
            rc_parallel(j.cut.tasks, call->threads, backward_task, &j);
        }
        if (dx[0]) {
            const float *b = input(&j, 1, image);
            multiply(&j, rc_product_gradient(at, j.stored, &j.square, 0), count,
                     at->trans_a ? b : j.l, at->trans_a ? j.l : b, call->add[0], dx[0]);
        }
        if (dx[1]) {
            const float *a = input(&j, 0, image);
            multiply(&j, rc_product_gradient(at, j.stored, &j.square, 1), count,
                     at->trans_b ? j.l : a, at->trans_b ? a : j.l, call->add[1], dx[1]);
        }
        if (dx[2]) {
            multiply(&j, values_back(&j, turned), count, turned ? dy : j.s, turned ? j.s : dy,
                     call->add[2], dx[2]);
        }
    }
}

const rc_fast_kernel RC_SIMD(rc_fast_attention) = {
    .name = "rc_f32_attention__" RC_ISA_TEXT,
    .op = RC_OP_attention,
    .tmp_size = tmp_size,
    .forward = forward,
    .backward = backward,
};
