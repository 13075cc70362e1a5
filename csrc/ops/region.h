/* Which rows and columns region_pool covers, image by image; shared with its fast kernels. */
#ifndef RC_REGION_H
#define RC_REGION_H

#include "graph/op.h"

typedef struct rc_region {
    int64_t top, bottom, left, right; /* bottom and right excluded */
} rc_region;

/* Image n: rows [from, to), or those between planes `from` and `to` of (0, l0, l1, l2, l3, H).
 * Planes are checked before a run; clamping here only keeps reads inside the map. */
static inline rc_region
rc_region_of(const rc_call *call, const int64_t *planes, int64_t n)
{
    const rc_attrs *a = call->attrs;
    int64_t h = call->xs[0].d[2], w = call->xs[0].d[3];
    rc_region r = {a->from, a->to ? a->to : h, a->col_from, a->col_to ? a->col_to : w};
    if (planes) {
        int64_t to = a->to ? a->to : 5;
        r.top = a->from == 0 ? 0 : planes[n * 4 + a->from - 1];
        r.bottom = to == 5 ? h : planes[n * 4 + to - 1];
        r.top = r.top < 0 ? 0 : r.top > h ? h : r.top;
        r.bottom = r.bottom < r.top ? r.top : r.bottom > h ? h : r.bottom;
    }
    return r;
}

#endif
