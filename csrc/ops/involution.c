/* Involution (the MBGN page, section 2): a K x K kernel for every position and group, given as
 * data, shared by the channels of the group. Stride 1, zero padding (K-1)/2.
 *
 *     y[n,c,y,x] = sum_t k[n, g(c)*K*K + t, y, x] * x[n, c, y+ky-r, x+kx-r],  t = K*ky + kx
 *
 * x, y: (n,h,w,c) in memory   k: (n,h,w,groups*K*K)   g(c) = c / (c per group).
 * x is never unfolded: every pass walks the taps that lie inside the map. */
#include "ops/real.h"

RC_DECLARE_KERNEL(involution_forward)
RC_DECLARE_KERNEL(involution_backward)

/* What one position of the output sees: which taps are inside, and where. */
typedef struct window {
    int64_t n, h, w, c, kernel, groups, per_group;
} window;

static window
window_of(const rc_call *call)
{
    const rc_shape *s = &call->xs[0];
    window o = {s->d[0], s->d[2], s->d[3], s->d[1], call->attrs->kernel, call->attrs->groups, 0};
    o.per_group = o.c / o.groups;
    return o;
}

void
RC_KERNEL(involution_forward)(const rc_call *call)
{
    window o = window_of(call);
    const real *x = call->x[0], *k = call->x[1];
    real *y = call->y;
    int64_t taps = o.kernel * o.kernel, r = (o.kernel - 1) / 2;
    for (int64_t p = 0; p < o.n * o.h * o.w; p++) {
        int64_t col = p % o.w, row = p / o.w % o.h;
        real *to = y + p * o.c;
        memset(to, 0, (size_t)o.c * sizeof(real));
        for (int64_t t = 0; t < taps; t++) {
            int64_t dy = t / o.kernel - r, dx = t % o.kernel - r;
            if (row + dy < 0 || row + dy >= o.h || col + dx < 0 || col + dx >= o.w) {
                continue;
            }
            const real *from = x + (p + dy * o.w + dx) * o.c;
            for (int64_t g = 0; g < o.groups; g++) {
                real weight = k[(p * o.groups + g) * taps + t];
                for (int64_t c = g * o.per_group; c < (g + 1) * o.per_group; c++) {
                    to[c] += weight * from[c];
                }
            }
        }
    }
}

/* dx[p] collects d * k from the outputs that saw p through tap t: those at p minus the tap's
 * offset. One sum an element, so that adding to a gradient costs one rounding. */
static void
gradient_of_map(const window *o, const real *k, const real *d, bool add, real *dx)
{
    int64_t taps = o->kernel * o->kernel, r = (o->kernel - 1) / 2;
    for (int64_t i = 0; i < o->n * o->h * o->w * o->c; i++) {
        int64_t p = i / o->c, c = i % o->c, col = p % o->w, row = p / o->w % o->h;
        real sum = 0;
        for (int64_t t = 0; t < taps; t++) {
            int64_t oy = r - t / o->kernel, ox = r - t % o->kernel;
            if (row + oy >= 0 && row + oy < o->h && col + ox >= 0 && col + ox < o->w) {
                int64_t from = p + oy * o->w + ox;
                sum += d[from * o->c + c] * k[(from * o->groups + c / o->per_group) * taps + t];
            }
        }
        rc_put(&dx[i], sum, add);
    }
}

/* dk: products of d and x, summed over the channels of a group; taps outside the map get 0. */
static void
gradient_of_kernels(const window *o, const real *x, const real *d, bool add, real *dk)
{
    int64_t taps = o->kernel * o->kernel, r = (o->kernel - 1) / 2;
    for (int64_t i = 0; i < o->n * o->h * o->w * o->groups * taps; i++) {
        int64_t t = i % taps, g = i / taps % o->groups, p = i / taps / o->groups;
        int64_t row = p / o->w % o->h + t / o->kernel - r, col = p % o->w + t % o->kernel - r;
        real sum = 0;
        if (row >= 0 && row < o->h && col >= 0 && col < o->w) {
            int64_t seen = p + (t / o->kernel - r) * o->w + t % o->kernel - r;
            for (int64_t c = g * o->per_group; c < (g + 1) * o->per_group; c++) {
                sum += d[p * o->c + c] * x[seen * o->c + c];
            }
        }
        rc_put(&dk[i], sum, add);
    }
}

void
RC_KERNEL(involution_backward)(const rc_call *call)
{
    window o = window_of(call);
    if (call->dx[0]) {
        gradient_of_map(&o, call->x[1], call->dy, call->add[0], call->dx[0]);
    }
    if (call->dx[1]) {
        gradient_of_kernels(&o, call->x[0], call->dy, call->add[1], call->dx[1]);
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    (void)n_in;
    char got[64], with[64];
    if (xs[0].rank != 4 || xs[1].rank != 4) {
        return rc_fail(err, RC_ARGUMENT, "involution: expected a map and its kernels of 4 "
                       "dimensions, got %s and %s", rc_shape_text(&xs[0], got),
                       rc_shape_text(&xs[1], with));
    }
    if (a->kernel < 1 || a->kernel % 2 == 0) {
        return rc_fail(err, RC_ARGUMENT, "involution: kernel: expected an odd size, got %lld",
                       (long long)a->kernel);
    }
    if (a->groups < 1 || xs[0].d[1] % a->groups != 0) {
        return rc_fail(err, RC_ARGUMENT, "involution: %lld channels do not divide into %lld "
                       "groups", (long long)xs[0].d[1], (long long)a->groups);
    }
    rc_shape expected = xs[0];
    expected.d[1] = a->kernel * a->kernel * a->groups;
    if (!rc_shape_equal(&expected, &xs[1])) {
        char want[64];
        return rc_fail(err, RC_ARGUMENT, "involution: for a map of %s, kernel %lld and %lld "
                       "groups the kernels must be %s, got %s", rc_shape_text(&xs[0], got),
                       (long long)a->kernel, (long long)a->groups,
                       rc_shape_text(&expected, want), rc_shape_text(&xs[1], with));
    }
    *y = xs[0];
    return RC_OK;
}

static double
macs(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, bool literal)
{
    (void)xs, (void)literal;
    return (double)(a->kernel * a->kernel) * (double)rc_shape_count(y);
}

const rc_op rc_op_involution = {
    .name = "involution",
    .min_in = 2,
    .max_in = 2,
    .infer = infer,
    .reads = rc_reads_other,
    .macs = macs,
    .forward = RC_BOTH(involution_forward),
    .backward = RC_BOTH(involution_backward),
};
#endif
