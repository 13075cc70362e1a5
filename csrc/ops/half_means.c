/* Means of the left and right half of the five body parts (the MBGN page, section 4, structure):
 * u[2i+s] = mean of x over the rows of part i and the columns [0, w/2) or [w/2, w).
 * x: (n,h,w,c)   planes: (n,4)   y: (n,10,c). Planes are constants in backward. */
#include "ops/real.h"

RC_DECLARE_KERNEL(half_means_forward)
RC_DECLARE_KERNEL(half_means_backward)

typedef struct part {
    int64_t top, end, left, right;
} part;

static part
part_of(const int64_t *planes, int64_t h, int64_t w, int k)
{
    int i = k / 2;
    part o = {i > 0 ? planes[i - 1] : 0, i < 4 ? planes[i] : h, 0, w / 2};
    if (k % 2) {
        o.left = w / 2;
        o.right = w;
    }
    return o;
}

void
RC_KERNEL(half_means_forward)(const rc_call *call)
{
    const rc_shape *s = &call->xs[0];
    int64_t c = s->d[1], h = s->d[2], w = s->d[3];
    const int64_t *planes = call->x[1];
    for (int64_t i = 0; i < s->d[0] * 10; i++) {
        const real *map = (const real *)call->x[0] + i / 10 * h * w * c;
        real *to = (real *)call->y + i * c;
        part o = part_of(planes + i / 10 * 4, h, w, (int)(i % 10));
        real count = (real)((o.end - o.top) * (o.right - o.left));
        memset(to, 0, (size_t)c * sizeof(real));
        for (int64_t y = o.top; y < o.end; y++) {
            for (int64_t x = o.left; x < o.right; x++) {
                for (int64_t j = 0; j < c; j++) {
                    to[j] += map[(y * w + x) * c + j];
                }
            }
        }
        for (int64_t j = 0; j < c; j++) {
            to[j] /= count;
        }
    }
}

void
RC_KERNEL(half_means_backward)(const rc_call *call)
{
    const rc_shape *s = &call->xs[0];
    int64_t c = s->d[1], h = s->d[2], w = s->d[3];
    const int64_t *planes = call->x[1];
    for (int64_t i = 0; i < s->d[0] * 10; i++) { /* the parts cover every position once */
        real *map = (real *)call->dx[0] + i / 10 * h * w * c;
        const real *from = (const real *)call->dy + i * c;
        part o = part_of(planes + i / 10 * 4, h, w, (int)(i % 10));
        real share = 1 / (real)((o.end - o.top) * (o.right - o.left));
        for (int64_t y = o.top; y < o.end; y++) {
            for (int64_t x = o.left; x < o.right; x++) {
                for (int64_t j = 0; j < c; j++) {
                    rc_put(&map[(y * w + x) * c + j], from[j] * share, call->add[0]);
                }
            }
        }
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    (void)a, (void)n_in;
    char got[64];
    if (xs[0].rank != 4 || xs[0].d[2] < 5 || xs[0].d[3] < 2) {
        return rc_fail(err, RC_ARGUMENT, "half_means: expected a map of at least 5 rows and 2 "
                       "columns, got %s", rc_shape_text(&xs[0], got));
    }
    if (xs[1].rank != 2 || xs[1].d[0] != xs[0].d[0] || xs[1].d[1] != 4) {
        return rc_fail(err, RC_ARGUMENT, "half_means: planes: expected %lldx4, got %s",
                       (long long)xs[0].d[0], rc_shape_text(&xs[1], got));
    }
    *y = (rc_shape){3, {xs[0].d[0], 10, xs[0].d[1], 1}};
    return RC_OK;
}

static uint32_t
reads(const rc_attrs *a, int n_in, const rc_shape *xs, uint32_t wants, bool training)
{
    (void)a, (void)n_in, (void)xs, (void)wants, (void)training;
    return RC_READS(1);
}

const rc_op rc_op_half_means = {
    .name = "half_means",
    .min_in = 2,
    .max_in = 2,
    .no_grad = RC_READS(1),
    .infer = infer,
    .reads = reads,
    .forward = RC_BOTH(half_means_forward),
    .backward = RC_BOTH(half_means_backward),
};
#endif
