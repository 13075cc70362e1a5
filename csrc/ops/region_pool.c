/* Mean or maximum over a rectangle of positions; its rows may come from planes, which differ
 * from image to image. Ties and the gradient of a maximum: the first place in raster order.
 *
 * x: (n,h,w,c)  planes: (n,4) int64  y: (n,c)
 * ws (maximum): (n,c) int32, the place y*w + x that won. */
#include "ops/real.h"
#include "ops/region.h"
#include "ops/rules.h"

RC_DECLARE_KERNEL(region_pool_forward)
RC_DECLARE_KERNEL(region_pool_backward)

static const int64_t *
planes_of(const rc_call *call)
{
    return call->n_in > 1 && call->xs[1].rank > 0 ? call->x[1] : NULL;
}

void
RC_KERNEL(region_pool_forward)(const rc_call *call)
{
    const real *x = call->x[0];
    real *y = call->y;
    int32_t *ws = call->ws;
    int64_t h = call->xs[0].d[2], w = call->xs[0].d[3], c = call->xs[0].d[1];
    for (int64_t n = 0; n < call->xs[0].d[0]; n++) {
        rc_region r = rc_region_of(call, planes_of(call), n);
        for (int64_t k = 0; k < c; k++) {
            double sum = 0;
            real best = 0;
            int64_t won = -1;
            for (int64_t i = r.top; i < r.bottom; i++) {
                for (int64_t j = r.left; j < r.right; j++) {
                    real v = x[((n * h + i) * w + j) * c + k];
                    sum += v;
                    if (won < 0 || v > best) {
                        best = v;
                        won = i * w + j;
                    }
                }
            }
            int64_t count = (r.bottom - r.top) * (r.right - r.left);
            if (call->attrs->mode == 1) {
                y[n * c + k] = best;
                if (ws) {
                    ws[n * c + k] = (int32_t)won;
                }
            } else {
                y[n * c + k] = count ? (real)(sum / (double)count) : 0;
            }
        }
    }
}

void
RC_KERNEL(region_pool_backward)(const rc_call *call)
{
    const real *dy = call->dy;
    real *dx = call->dx[0];
    const int32_t *ws = call->ws;
    int64_t h = call->xs[0].d[2], w = call->xs[0].d[3], c = call->xs[0].d[1];
    for (int64_t n = 0; n < call->xs[0].d[0]; n++) {
        rc_region r = rc_region_of(call, planes_of(call), n);
        real share = 1 / (real)((r.bottom - r.top) * (r.right - r.left));
        for (int64_t i = 0; i < h; i++) {
            for (int64_t j = 0; j < w; j++) {
                bool inside = i >= r.top && i < r.bottom && j >= r.left && j < r.right;
                for (int64_t k = 0; k < c; k++) {
                    real d = 0;
                    if (call->attrs->mode == 1) {
                        d = ws[n * c + k] == i * w + j ? dy[n * c + k] : 0;
                    } else if (inside) {
                        d = dy[n * c + k] * share;
                    }
                    rc_put(&dx[((n * h + i) * w + j) * c + k], d, call->add[0]);
                }
            }
        }
    }
}

#if RC_RULES
static rc_status
infer(const rc_attrs *a, int n_in, const rc_shape *xs, rc_shape *y, rc_error *err)
{
    const char *op = "region_pool";
    char text[64];
    const rc_shape *x = &xs[0];
    bool planes = n_in > 1 && xs[1].rank > 0;
    RC_TRY(rc_rule_rank(op, "x", x, 4, "N x C x H x W", err));
    RC_TRY(rc_rule_not_empty(op, "x", x, err));
    RC_TRY(rc_rule_int(op, "mode", a->mode, 0, 1, err));
    if (planes && (xs[1].rank != 2 || xs[1].d[0] != x->d[0] || xs[1].d[1] != 4)) {
        return rc_fail(err, RC_ARGUMENT, "region_pool: planes: expected %lldx4, got %s",
                       (long long)x->d[0], rc_shape_text(&xs[1], text));
    }
    int64_t rows = planes ? 5 : x->d[2];
    int64_t to = a->to ? a->to : rows, col_to = a->col_to ? a->col_to : x->d[3];
    if (a->from < 0 || a->from >= to || to > rows) {
        return rc_fail(err, RC_ARGUMENT,
                       "region_pool: %s [%lld, %lld) do not lie within 0 to %lld",
                       planes ? "planes" : "rows", (long long)a->from, (long long)to,
                       (long long)rows);
    }
    if (a->col_from < 0 || a->col_from >= col_to || col_to > x->d[3]) {
        return rc_fail(err, RC_ARGUMENT,
                       "region_pool: columns [%lld, %lld) do not lie within 0 to %lld",
                       (long long)a->col_from, (long long)col_to, (long long)x->d[3]);
    }
    *y = (rc_shape){2, {x->d[0], x->d[1], 1, 1}};
    return RC_OK;
}

static uint32_t
reads(const rc_attrs *a, int n_in, const rc_shape *xs, uint32_t wants, bool training)
{
    (void)wants, (void)training;
    return a->mode == 0 && n_in > 1 && xs[1].rank > 0 ? RC_READS(1) : 0;
}

static int64_t
ws_size(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, size_t real_size)
{
    (void)xs, (void)real_size;
    return a->mode == 1 ? rc_shape_count(y) * 4 : 0;
}

const rc_op rc_op_region_pool = {
    .name = "region_pool",
    .min_in = 1,
    .max_in = 2,
    .no_grad = RC_READS(1),
    .infer = infer,
    .reads = reads,
    .ws_size = ws_size,
    .forward = RC_BOTH(region_pool_forward),
    .backward = RC_BOTH(region_pool_backward),
};
#endif
