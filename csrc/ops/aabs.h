/* AABS, the MBGN page's section 3: the four planes that cut a map into five body parts. */
#ifndef RC_AABS_H
#define RC_AABS_H

#include "base/base.h"

/* Maps in either order of axes: (n,h,w,c), or (n,c,h,w) where channels_first. */
typedef struct rc_aabs_maps {
    const float *data;
    int64_t n, c, h, w;
    bool channels_first;
} rc_aabs_maps;

/* planes: n x 4, rising, 0 < l0 < l1 < l2 < l3 < h. RC_ARGUMENT for h < 5 or empty maps, and for
 * values that are not finite; RC_MEMORY. */
rc_status rc_aabs(const rc_aabs_maps *maps, int64_t *planes, rc_error *err);

/* The planes of one image from its row means, rows: (h,c); gram: h*h doubles of scratch. */
void rc_aabs_from_rows_f32(const float *rows, int64_t h, int64_t c, double *gram,
                           int64_t planes[4]);
void rc_aabs_from_rows_f64(const double *rows, int64_t h, int64_t c, double *gram,
                           int64_t planes[4]);

/* Start planes (mode 1, 'body'): shares 2,2,2,3,3 of 12, rounded half up. */
RC_ANYWHERE void
rc_planes_body(int64_t h, int64_t planes[4])
{
    const int64_t upto[4] = {2, 4, 6, 9};
    for (int i = 0; i < 4; i++) {
        planes[i] = (2 * h * upto[i] + 12) / 24;
    }
}

/* Equal runs (mode 2, 'uniform'). */
RC_ANYWHERE void
rc_planes_uniform(int64_t h, int64_t planes[4])
{
    for (int i = 0; i < 4; i++) {
        planes[i] = (2 * h * (i + 1) + 5) / 10;
    }
}

#endif
