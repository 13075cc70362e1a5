/* What body.c and dress.c share: a person while it is put together, and the shapes it is made of.
 *
 * Lengths are in body heights, y down from the crown, L to the person's left, F forward;
 * depth towards the camera D = F cos(yaw) - L sin(yaw). */
#ifndef RC_SYNTH_BODY_H
#define RC_SYNTH_BODY_H

#include <string.h>

#include "synth/synth_impl.h"

enum { SHAPES = 64 };
enum { AS_CAPSULE, AS_ELLIPSE, AS_PROFILE, AS_HEAD };

typedef struct shape {
    double key; /* drawn in ascending order */
    int kind;
    union {
        rc_synth_capsule capsule;
        rc_synth_ellipse ellipse;
        rc_synth_profile profile;
        rc_synth_head head;
    } as;
} shape;

typedef struct point3 {
    double l, f, y;
} point3;

typedef struct point2 {
    float x, y;
    double depth;
} point2;

typedef struct builder {
    const rc_synth_person *p;
    const rc_synth_figure *figure;
    double unit, x, top;        /* pixels: one body height, centre column, row of the crown */
    double cosine, sine, pitch; /* of the yaw; sine of the camera's pitch */
    rc_synth_cloth cloth, plain;
    int count;
    shape shapes[SHAPES];
} builder;

static const float no_split = 1e9f;

static inline point2
project(const builder *b, point3 at)
{
    double s = 1 + 0.25 * b->pitch * (0.5 - at.y);
    double depth = at.f * b->cosine - at.l * b->sine;
    return (point2){
        .x = (float)(b->x + b->unit * s * (at.l * b->cosine + at.f * b->sine)),
        .y = (float)(b->top + b->unit * (at.y + depth * b->pitch)),
        .depth = depth,
    };
}

static inline double
half_width(const builder *b, double lateral, double depth)
{
    double x = lateral * b->cosine, y = depth * b->sine;
    return sqrt(x * x + y * y);
}

static inline double
trunk_width(const builder *b, double lateral)
{
    return half_width(b, lateral, 1.17 * b->p->depth);
}

static inline shape *
add(builder *b, int kind, double key)
{
    shape *s = &b->shapes[b->count < SHAPES - 1 ? b->count++ : SHAPES - 1];
    memset(s, 0, sizeof *s);
    s->key = key;
    s->kind = kind;
    return s;
}

static inline void
set_rgb(float out[3], const float rgb[3], double factor)
{
    for (int i = 0; i < 3; i++) {
        out[i] = (float)(rgb[i] * factor);
    }
}

static inline rc_synth_capsule *
add_capsule(builder *b, double key, point2 from, point2 to, double r0, double r1,
            const float rgb[3], double factor)
{
    rc_synth_capsule *c = &add(b, AS_CAPSULE, key)->as.capsule;
    c->x0 = from.x;
    c->y0 = from.y;
    c->x1 = to.x;
    c->y1 = to.y;
    c->r0 = (float)(r0 * b->unit);
    c->r1 = (float)(r1 * b->unit);
    set_rgb(c->rgb, rgb, factor);
    return c;
}

static inline rc_synth_ellipse *
add_ellipse(builder *b, double key, double x, double y, double a, double c, const float rgb[3],
            double factor)
{
    rc_synth_ellipse *e = &add(b, AS_ELLIPSE, key)->as.ellipse;
    e->x = (float)x;
    e->y = (float)y;
    e->a = (float)(a * b->unit);
    e->b = (float)(c * b->unit);
    e->tilt_c = 1;
    e->below = no_split;
    e->shaded = true;
    set_rgb(e->rgb, rgb, factor);
    return e;
}

static inline rc_synth_profile *
add_profile(builder *b, double key, const float rgb[3])
{
    rc_synth_profile *p = &add(b, AS_PROFILE, key)->as.profile;
    p->split = no_split;
    p->shaded = true;
    set_rgb(p->rgb, rgb, 1);
    return p;
}

/* Rows that would lie above their predecessor move to it, so that rows never decrease. */
static inline void
add_row(rc_synth_profile *p, double x, double y, double half)
{
    float row = (float)y;
    if (p->rows && row < p->y[p->rows - 1]) {
        row = p->y[p->rows - 1];
    }
    if (p->rows < RC_SYNTH_ROWS) {
        p->y[p->rows] = row;
        p->x[p->rows] = (float)x;
        p->half[p->rows++] = (float)half;
    }
}

static inline void
body_row(builder *b, rc_synth_profile *p, double y, double half)
{
    add_row(p, b->x, b->top + y * b->unit, half * b->unit);
}

/* ---- dress.c: each adds its shapes; shift: down, for this pose to stand ---------------------- */

void rc_synth_dress(builder *b); /* the cloth of trunk and skirt, first of all */
void rc_synth_add_trunk(builder *b, double shift);
void rc_synth_add_lower(builder *b, double shift, double spread); /* spread: of the knees */
void rc_synth_add_head(builder *b, double shift);
void rc_synth_add_bag(builder *b, double shift); /* on the back or at the side */

#endif
