/* Rows of a softmax times values, in one: S = softmax of each row of scale op(a) op(b) (of its
 * negative where `negate`), y = S v (mode 0) or v S^T (mode 1). a: (n,r,k) or (n,k,r), b: (n,k,c)
 * or (n,c,k), as trans_a and trans_b say; v: (n,c,e), y: (n,r,e) or, mode 1, (n,e,c) and (n,e,r).
 *
 * Plans put it in the place of matmul, softmax and matmul where nobody else asks for S: a row of
 * it is made when it is needed, in backward again. With dS_ij = sum_e dy_ie v_je and
 * l_ij = +-scale S_ij (dS_ij - sum_j S_ij dS_ij):
 *     d op(a) = l op(b)^T      d op(b) = op(a)^T l      dv_je = sum_i S_ij dy_ie
 * Sums in double. The gradients are written in the order of the inputs, which may be one value. */
#include "ops/real.h"

RC_DECLARE_KERNEL(attention_forward)
RC_DECLARE_KERNEL(attention_backward)

/* Steps from element to element: (row, column) of op(a), op(b); (j, e) of v, (i, e) of y. */
typedef struct sizes {
    int64_t n, r, c, k, e;
    int64_t a[2], b[2], v[2], y[2];
    double factor; /* +-scale */
} sizes;

static sizes
sizes_of(const rc_call *call)
{
    const rc_attrs *at = call->attrs;
    const rc_shape *xs = call->xs;
    bool by_column = at->mode == 1;
    sizes s = {.n = xs[0].d[0], .r = xs[0].d[at->trans_a ? 2 : 1],
               .k = xs[0].d[at->trans_a ? 1 : 2], .c = xs[1].d[at->trans_b ? 1 : 2],
               .e = xs[2].d[by_column ? 1 : 2],
               .factor = at->negate ? -at->scale : at->scale};
    s.a[0] = at->trans_a ? 1 : s.k, s.a[1] = at->trans_a ? s.r : 1;
    s.b[0] = at->trans_b ? 1 : s.c, s.b[1] = at->trans_b ? s.k : 1;
    s.v[0] = by_column ? 1 : s.e, s.v[1] = by_column ? s.c : 1;
    s.y[0] = by_column ? 1 : s.e, s.y[1] = by_column ? s.r : 1;
    return s;
}

/* Row i of S of an image whose factors begin at a and b. */
static void
softmax_of_row(const sizes *s, const real *a, const real *b, int64_t i, double *row)
{
    double top = -INFINITY, sum = 0;
    for (int64_t j = 0; j < s->c; j++) {
        row[j] = 0;
        for (int64_t k = 0; k < s->k; k++) {
            row[j] += (double)a[i * s->a[0] + k * s->a[1]]
                      * (double)b[k * s->b[0] + j * s->b[1]];
        }
        row[j] *= s->factor;
        top = row[j] > top ? row[j] : top;
    }
    for (int64_t j = 0; j < s->c; j++) {
        row[j] = exp(row[j] - top);
        sum += row[j];
    }
    for (int64_t j = 0; j < s->c; j++) {
        row[j] /= sum;
    }
}

void
RC_KERNEL(attention_forward)(const rc_call *call)
{
    sizes s = sizes_of(call);
    double *row = call->tmp;
    for (int64_t at = 0; at < s.n * s.r; at++) {
        int64_t image = at / s.r, i = at % s.r;
        const real *v = (const real *)call->x[2] + image * s.c * s.e;
        real *y = (real *)call->y + image * s.r * s.e;
        softmax_of_row(&s, (const real *)call->x[0] + image * s.r * s.k,
                       (const real *)call->x[1] + image * s.k * s.c, i, row);
        for (int64_t e = 0; e < s.e; e++) {
            double sum = 0;
            for (int64_t j = 0; j < s.c; j++) {
                sum += row[j] * (double)v[j * s.v[0] + e * s.v[1]];
            }
            y[i * s.y[0] + e * s.y[1]] = (real)sum;
        }
    }
}

/* Of one image, in double and laid out as the inputs. */
typedef struct sums {
    double *row, *l, *of[3];
} sums;

static void
backward_row(const rc_call *call, const sizes *s, const sums *o, int64_t image, int64_t i)
{
    const real *a = (const real *)call->x[0] + image * s->r * s->k;
    const real *b = (const real *)call->x[1] + image * s->k * s->c;
    const real *dy = (const real *)call->dy + image * s->r * s->e + i * s->y[0];
    double mean = 0;
    softmax_of_row(s, a, b, i, o->row);
    for (int64_t j = 0; call->dx[2] && j < s->c; j++) {
        for (int64_t e = 0; e < s->e; e++) {
            o->of[2][j * s->v[0] + e * s->v[1]] += o->row[j] * (double)dy[e * s->y[1]];
        }
    }
    if (!call->dx[0] && !call->dx[1]) {
        return;
    }
    const real *v = (const real *)call->x[2] + image * s->c * s->e;
    for (int64_t j = 0; j < s->c; j++) {
        o->l[j] = 0;
        for (int64_t e = 0; e < s->e; e++) {
            o->l[j] += (double)dy[e * s->y[1]] * (double)v[j * s->v[0] + e * s->v[1]];
        }
        mean += o->row[j] * o->l[j];
    }
    for (int64_t j = 0; j < s->c; j++) {
        double l = s->factor * o->row[j] * (o->l[j] - mean);
        for (int64_t k = 0; k < s->k; k++) {
            int64_t at_a = i * s->a[0] + k * s->a[1], at_b = k * s->b[0] + j * s->b[1];
            o->of[0][at_a] += l * (double)b[at_b];
            o->of[1][at_b] += l * (double)a[at_a];
        }
    }
}

void
RC_KERNEL(attention_backward)(const rc_call *call)
{
    sizes s = sizes_of(call);
    int64_t counts[3] = {s.r * s.k, s.k * s.c, s.c * s.e};
    sums o = {.row = call->tmp};
    o.l = o.row + s.c;
    o.of[0] = o.l + s.c;
    o.of[1] = o.of[0] + counts[0];
    o.of[2] = o.of[1] + counts[1];
    for (int64_t image = 0; image < s.n; image++) {
        memset(o.of[0], 0, (size_t)(counts[0] + counts[1] + counts[2]) * sizeof(double));
        for (int64_t i = 0; i < s.r; i++) {
            backward_row(call, &s, &o, image, i);
        }
        for (int input = 0; input < 3; input++) {
            real *dx = (real *)call->dx[input];
            for (int64_t i = 0; dx && i < counts[input]; i++) {
                rc_put(&dx[image * counts[input] + i], (real)o.of[input][i], call->add[input]);
            }
        }
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *at, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    (void)n_in;
    char text[3][64];
    for (int i = 0; i < 3; i++) {
        rc_shape_text(&xs[i], text[i]);
    }
    if (xs[0].rank != 3 || xs[1].rank != 3 || xs[2].rank != 3 || xs[0].d[0] != xs[1].d[0]
        || xs[0].d[0] != xs[2].d[0]) {
        return rc_fail(err, RC_ARGUMENT, "attention: expected three stacks of as many matrices (3 "
                       "dimensions), got %s, %s and %s", text[0], text[1], text[2]);
    }
    if (at->mode != 0 && at->mode != 1) {
        return rc_fail(err, RC_ARGUMENT, "attention: mode: expected 0 or 1, got %lld",
                       (long long)at->mode);
    }
    int64_t k = xs[0].d[at->trans_a ? 1 : 2], with = xs[1].d[at->trans_b ? 2 : 1];
    int64_t r = xs[0].d[at->trans_a ? 2 : 1], c = xs[1].d[at->trans_b ? 1 : 2];
    if (k != with) {
        return rc_fail(err, RC_ARGUMENT, "attention: inner sizes differ: a %s has %lld, b %s has "
                       "%lld", text[0], (long long)k, text[1], (long long)with);
    }
    if (xs[2].d[at->mode == 1 ? 2 : 1] != c) {
        return rc_fail(err, RC_ARGUMENT, "attention: v: expected %lld %s, got %s", (long long)c,
                       at->mode == 1 ? "columns" : "rows", text[2]);
    }
    if (!isfinite(at->scale) || at->scale == 0) {
        return rc_fail(err, RC_ARGUMENT, "attention: scale: expected a number other than 0, got "
                       "%g", at->scale);
    }
    *y = at->mode == 1 ? (rc_shape){3, {xs[2].d[0], xs[2].d[1], r, 1}}
                       : (rc_shape){3, {xs[2].d[0], r, xs[2].d[2], 1}};
    return RC_OK;
}

static uint32_t
reads(const rc_attrs *a, int n_in, const rc_shape *xs, uint32_t wants, bool training)
{
    (void)a, (void)n_in, (void)xs, (void)training;
    uint32_t logits = RC_READS(0) | RC_READS(1);
    return wants & logits ? logits | RC_READS(2) : logits;
}

static int64_t
tmp_size(const rc_attrs *at, const rc_shape *xs, const rc_shape *y, size_t real_size,
         bool backward, int threads)
{
    (void)y, (void)real_size, (void)threads;
    int64_t count = xs[1].d[at->trans_b ? 1 : 2];
    if (backward) {
        count *= 2;
        for (int i = 0; i < 3; i++) {
            count += xs[i].d[1] * xs[i].d[2];
        }
    }
    return count * (int64_t)sizeof(double);
}

static double
macs(const rc_attrs *at, const rc_shape *xs, const rc_shape *y, bool literal)
{
    (void)literal;
    double k = (double)xs[0].d[at->trans_a ? 1 : 2], c = (double)xs[1].d[at->trans_b ? 1 : 2];
    double r = (double)xs[0].d[at->trans_a ? 2 : 1];
    return (double)y->d[0] * r * c * k + (double)rc_shape_count(y) * c;
}

const rc_op rc_op_attention = {
    .name = "attention",
    .min_in = 3,
    .max_in = 3,
    .infer = infer,
    .reads = reads,
    .tmp_size = tmp_size,
    .macs = macs,
    .forward = RC_BOTH(attention_forward),
    .backward = RC_BOTH(attention_backward),
};
#endif
