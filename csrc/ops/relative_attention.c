/* Multi-head self-attention with two tables of relative positions (the FSAC page).
 * q k v: (n,h,w,c)   rel_h: (2h-1,d)   rel_w: (2w-1,d)   y: (n,h,w,c), c = groups*d, T = h*w.
 * Per image and head, q' = scale*q, i = (row,col) the query, j = (row',col') the key:
 *     L_ij = q'_i . (k_j + rel_h[row'-row+h-1] + rel_w[col'-col+w-1])
 *     A = softmax of each row of L       y_i = sum_j A_ij v_j
 * Backward makes each row of A again from q, k and the tables, so that nothing of size T x T is
 * kept. With D_j = dy_i . v_j and l_j = A_ij (D_j - sum_j A_ij D_j):
 *     dv_j += A_ij dy_i      dk_j += l_j q'_i
 *     dq_i = scale * (sum_j l_j k_j + sum_row' R rel_h[..] + sum_col' C rel_w[..])
 *     drel_h[..] += R q'_i   drel_w[..] += C q'_i     R, C: sums of l over a row', a col'
 * Sums run in double. `relative_attention_map` writes A itself, which nothing else needs. */
#include "ops/exact.h"
#include "ops/rules.h"

RC_DECLARE_KERNEL(relative_attention_forward)
RC_DECLARE_KERNEL(relative_attention_backward)
RC_DECLARE_KERNEL(relative_attention_map_forward)

enum { Q, K, V, REL_H, REL_W, INPUTS };

typedef struct sizes {
    int64_t n, c, h, w, t, heads, d;
} sizes;

static sizes
sizes_of(const rc_call *call)
{
    const rc_shape *x = &call->xs[Q];
    int64_t heads = call->attrs->groups;
    return (sizes){x->d[0], x->d[1],        x->d[2], x->d[3],
                   x->d[2] * x->d[3], heads, x->d[1] / heads};
}

/* Row i of A (t values, in double) for the head whose queries and keys begin at q and k.
 * table: room for h + w products of the query with the tables' rows. */
static void
attend(const rc_call *call, const sizes *s, const real *q, const real *k, int64_t i,
       double *table, double *a)
{
    const real *rel_h = (const real *)call->x[REL_H] + (s->h - 1 - i / s->w) * s->d;
    const real *rel_w = (const real *)call->x[REL_W] + (s->w - 1 - i % s->w) * s->d;
    const real *qi = q + i * s->c;
    for (int64_t row = 0; row < s->h; row++) {
        table[row] = rc_exact_dot(qi, rel_h + row * s->d, s->d);
    }
    for (int64_t col = 0; col < s->w; col++) {
        table[s->h + col] = rc_exact_dot(qi, rel_w + col * s->d, s->d);
    }
    double top = -INFINITY, sum = 0;
    for (int64_t j = 0; j < s->t; j++) {
        double logit = rc_exact_dot(qi, k + j * s->c, s->d) + table[j / s->w]
                       + table[s->h + j % s->w];
        a[j] = call->attrs->scale * logit;
        top = a[j] > top ? a[j] : top;
    }
    for (int64_t j = 0; j < s->t; j++) {
        a[j] = exp(a[j] - top);
        sum += a[j];
    }
    for (int64_t j = 0; j < s->t; j++) {
        a[j] /= sum;
    }
}

/* to[0..d) += factor * x[0..d) */
static inline void
add_scaled(double *to, double factor, const real *x, int64_t d)
{
    for (int64_t e = 0; e < d; e++) {
        to[e] += factor * (double)x[e];
    }
}

/* tmp: table (h+w), a (t), sum (d) */
void
RC_KERNEL(relative_attention_forward)(const rc_call *call)
{
    sizes s = sizes_of(call);
    double *table = call->tmp, *a = table + s.h + s.w, *sum = a + s.t;
    for (int64_t at = 0; at < s.n * s.heads; at++) {
        int64_t begin = at / s.heads * s.t * s.c + at % s.heads * s.d;
        const real *q = (const real *)call->x[Q] + begin, *k = (const real *)call->x[K] + begin;
        const real *v = (const real *)call->x[V] + begin;
        real *y = (real *)call->y + begin;
        for (int64_t i = 0; i < s.t; i++) {
            attend(call, &s, q, k, i, table, a);
            memset(sum, 0, (size_t)s.d * sizeof *sum);
            for (int64_t j = 0; j < s.t; j++) {
                add_scaled(sum, a[j], v + j * s.c, s.d);
            }
            for (int64_t e = 0; e < s.d; e++) {
                y[i * s.c + e] = (real)sum[e];
            }
        }
    }
}

/* y: (n, heads*T, T)   tmp: as forward's */
void
RC_KERNEL(relative_attention_map_forward)(const rc_call *call)
{
    sizes s = sizes_of(call);
    double *table = call->tmp, *a = table + s.h + s.w;
    for (int64_t at = 0; at < s.n * s.heads; at++) {
        int64_t begin = at / s.heads * s.t * s.c + at % s.heads * s.d;
        const real *q = (const real *)call->x[Q] + begin, *k = (const real *)call->x[K] + begin;
        for (int64_t i = 0; i < s.t; i++) {
            real *y = (real *)call->y + (at * s.t + i) * s.t;
            attend(call, &s, q, k, i, table, a);
            for (int64_t j = 0; j < s.t; j++) {
                y[j] = (real)a[j];
            }
        }
    }
}

/* What backward adds up in double: of one head, and of everything (the tables). */
typedef struct sums {
    double *table, *a, *l, *dq, *dk, *dv, *rel_h, *rel_w;
} sums;

/* What query i of one head gives; a is made here and becomes of no use to others. */
static void
backward_row(const rc_call *call, const sizes *s, const sums *o, int64_t begin, int64_t i)
{
    const real *q = (const real *)call->x[Q] + begin, *k = (const real *)call->x[K] + begin;
    const real *dy = (const real *)call->dy + begin + i * s->c;
    int64_t h0 = (s->h - 1 - i / s->w) * s->d, w0 = (s->w - 1 - i % s->w) * s->d;
    double *rows = o->table, *cols = o->table + s->h, mean = 0, scale = call->attrs->scale;
    attend(call, s, q, k, i, o->table, o->a);
    for (int64_t j = 0; call->dx[V] && j < s->t; j++) {
        add_scaled(o->dv + j * s->d, o->a[j], dy, s->d);
    }
    if (!call->dx[Q] && !call->dx[K] && !call->dx[REL_H] && !call->dx[REL_W]) {
        return;
    }
    const real *v = (const real *)call->x[V] + begin;
    for (int64_t j = 0; j < s->t; j++) {
        o->l[j] = rc_exact_dot(dy, v + j * s->c, s->d);
        mean += o->a[j] * o->l[j];
    }
    memset(rows, 0, (size_t)(s->h + s->w) * sizeof *rows);
    for (int64_t j = 0; j < s->t; j++) {
        o->l[j] = o->a[j] * (o->l[j] - mean);
        rows[j / s->w] += o->l[j];
        cols[j % s->w] += o->l[j];
    }
    const real *qi = q + i * s->c;
    for (int64_t j = 0; call->dx[K] && j < s->t; j++) {
        add_scaled(o->dk + j * s->d, scale * o->l[j], qi, s->d);
    }
    for (int64_t row = 0; call->dx[REL_H] && row < s->h; row++) {
        add_scaled(o->rel_h + h0 + row * s->d, scale * rows[row], qi, s->d);
    }
    for (int64_t col = 0; call->dx[REL_W] && col < s->w; col++) {
        add_scaled(o->rel_w + w0 + col * s->d, scale * cols[col], qi, s->d);
    }
    if (call->dx[Q]) {
        memset(o->dq, 0, (size_t)s->d * sizeof *o->dq);
        for (int64_t j = 0; j < s->t; j++) {
            add_scaled(o->dq, scale * o->l[j], k + j * s->c, s->d);
        }
        for (int64_t row = 0; row < s->h; row++) {
            add_scaled(o->dq, scale * rows[row], (const real *)call->x[REL_H] + h0 + row * s->d,
                       s->d);
        }
        for (int64_t col = 0; col < s->w; col++) {
            add_scaled(o->dq, scale * cols[col], (const real *)call->x[REL_W] + w0 + col * s->d,
                       s->d);
        }
        real *dq = (real *)call->dx[Q] + begin + i * s->c;
        for (int64_t e = 0; e < s->d; e++) {
            rc_put(&dq[e], (real)o->dq[e], call->add[Q]);
        }
    }
}

/* Sums of one head (t x d) to the input's gradient. */
static void
put_head(const rc_call *call, const sizes *s, int input, const double *sum, int64_t begin)
{
    real *dx = (real *)call->dx[input] + begin;
    for (int64_t i = 0; i < s->t * s->d; i++) {
        rc_put(&dx[i / s->d * s->c + i % s->d], (real)sum[i], call->add[input]);
    }
}

static void
put_table(const rc_call *call, int input, const double *sum)
{
    int64_t count = rc_shape_count(&call->xs[input]);
    for (int64_t i = 0; call->dx[input] && i < count; i++) {
        rc_put((real *)call->dx[input] + i, (real)sum[i], call->add[input]);
    }
}

/* tmp: table (h+w), a (t), l (t), dq (d), dk dv (t,d), the tables' gradients */
void
RC_KERNEL(relative_attention_backward)(const rc_call *call)
{
    sizes s = sizes_of(call);
    int64_t head = s.t * s.d, n_h = (2 * s.h - 1) * s.d, n_w = (2 * s.w - 1) * s.d;
    sums o = {.table = call->tmp};
    o.a = o.table + s.h + s.w;
    o.l = o.a + s.t;
    o.dq = o.l + s.t;
    o.dk = o.dq + s.d;
    o.dv = o.dk + head;
    o.rel_h = o.dv + head;
    o.rel_w = o.rel_h + n_h;
    memset(o.rel_h, 0, (size_t)(n_h + n_w) * sizeof(double));
    for (int64_t at = 0; at < s.n * s.heads; at++) {
        int64_t begin = at / s.heads * s.t * s.c + at % s.heads * s.d;
        memset(o.dk, 0, (size_t)(2 * head) * sizeof(double));
        for (int64_t i = 0; i < s.t; i++) {
            backward_row(call, &s, &o, begin, i);
        }
        if (call->dx[K]) {
            put_head(call, &s, K, o.dk, begin);
        }
        if (call->dx[V]) {
            put_head(call, &s, V, o.dv, begin);
        }
    }
    put_table(call, REL_H, o.rel_h);
    put_table(call, REL_W, o.rel_w);
}

#if RC_RULES
static rc_status
table_rule(const char *op, const char *name, const rc_shape *s, int64_t size, int64_t d,
           rc_error *err)
{
    char got[64];
    if (s->rank != 2 || s->d[0] != 2 * size - 1 || s->d[1] != d) {
        return rc_fail(err, RC_ARGUMENT, "%s: %s: expected %lldx%lld, got %s", op, name,
                       (long long)(2 * size - 1), (long long)d, rc_shape_text(s, got));
    }
    return RC_OK;
}

static rc_status
check(const char *op, const rc_attrs *a, const rc_shape *xs, rc_error *err)
{
    RC_TRY(rc_rule_rank(op, "q", &xs[Q], 4, "N x C x H x W", err));
    RC_TRY(rc_rule_not_empty(op, "q", &xs[Q], err));
    RC_TRY(rc_rule_equal(op, "k", &xs[K], &xs[Q], err));
    RC_TRY(rc_rule_equal(op, "v", &xs[V], &xs[Q], err));
    RC_TRY(rc_rule_int(op, "groups", a->groups, 1, INT32_MAX, err));
    if (xs[Q].d[1] % a->groups) {
        return rc_fail(err, RC_ARGUMENT, "%s: q: expected channels in %lld equal heads, got %lld",
                       op, (long long)a->groups, (long long)xs[Q].d[1]);
    }
    if (!isfinite(a->scale) || a->scale == 0) {
        return rc_fail(err, RC_ARGUMENT, "%s: scale: expected a number other than 0, got %g", op,
                       a->scale);
    }
    RC_TRY(table_rule(op, "rel_h", &xs[REL_H], xs[Q].d[2], xs[Q].d[1] / a->groups, err));
    return table_rule(op, "rel_w", &xs[REL_W], xs[Q].d[3], xs[Q].d[1] / a->groups, err);
}

static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    (void)n_in;
    *y = xs[Q];
    return check("relative_attention", a, xs, err);
}

/* dv alone takes no v; everything else takes all. */
static uint32_t
reads(const rc_attrs *a, int n_in, const rc_shape *xs, uint32_t wants, bool training)
{
    (void)a, (void)n_in, (void)xs, (void)training;
    uint32_t weights = RC_READS(Q) | RC_READS(K) | RC_READS(REL_H) | RC_READS(REL_W);
    return wants & ~RC_READS(V) ? weights | RC_READS(V) : weights;
}

static rc_status
infer_map(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    (void)n_in;
    RC_TRY(check("relative_attention_map", a, xs, err));
    int64_t t = xs[Q].d[2] * xs[Q].d[3];
    *y = (rc_shape){3, {xs[Q].d[0], a->groups * t, t, 1}};
    return RC_OK;
}

static int64_t
tmp_size_map(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, size_t real_size,
             bool backward, int threads)
{
    (void)a, (void)y, (void)real_size, (void)backward, (void)threads;
    return (xs[Q].d[2] + xs[Q].d[3] + xs[Q].d[2] * xs[Q].d[3]) * (int64_t)sizeof(double);
}

static int64_t
tmp_size(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, size_t real_size,
         bool backward, int threads)
{
    (void)real_size, (void)threads;
    int64_t h = y->d[2], w = y->d[3], t = h * w, d = y->d[1] / a->groups;
    int64_t count = h + w + t + d;
    if (backward) {
        count += t + 2 * t * d + rc_shape_count(&xs[REL_H]) + rc_shape_count(&xs[REL_W]);
    }
    return count * (int64_t)sizeof(double);
}

/* q.k and A.v, and the query against h + w rows of the tables */
static double
macs(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, bool literal)
{
    (void)a, (void)xs, (void)literal;
    return (double)rc_shape_count(y) * (double)(2 * y->d[2] * y->d[3] + y->d[2] + y->d[3]);
}

const rc_op rc_op_relative_attention = {
    .name = "relative_attention",
    .min_in = INPUTS,
    .max_in = INPUTS,
    .infer = infer,
    .reads = reads,
    .tmp_size = tmp_size,
    .macs = macs,
    .forward = RC_BOTH(relative_attention_forward),
    .backward = RC_BOTH(relative_attention_backward),
};

const rc_op rc_op_relative_attention_map = {
    .name = "relative_attention_map",
    .min_in = INPUTS,
    .max_in = INPUTS,
    .infer = infer_map,
    .tmp_size = tmp_size_map,
    .forward = RC_BOTH(relative_attention_map_forward),
};
#endif
