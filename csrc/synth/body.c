/* A person in a pose as a list of shapes, sorted from far to near, then drawn.
 *
 * Lengths are in body heights, y down from the crown, L to the person's left, F forward;
 * depth towards the camera D = F cos(yaw) - L sin(yaw). The synthetic set page, section 6;
 * ours on top of it: sloping shoulders, elbows held off the trunk, feet that roll, soles,
 * collars, faces (kernels/shapes.c) and the far limbs a little darker. */
#include "synth/synth_impl.h"

#include <string.h>

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

static point2
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

static double
half_width(const builder *b, double lateral, double depth)
{
    double x = lateral * b->cosine, y = depth * b->sine;
    return sqrt(x * x + y * y);
}

static double
trunk_width(const builder *b, double lateral)
{
    return half_width(b, lateral, 1.17 * b->p->depth);
}

static shape *
add(builder *b, int kind, double key)
{
    shape *s = &b->shapes[b->count < SHAPES - 1 ? b->count++ : SHAPES - 1];
    memset(s, 0, sizeof *s);
    s->key = key;
    s->kind = kind;
    return s;
}

static void
set_rgb(float out[3], const float rgb[3], double factor)
{
    for (int i = 0; i < 3; i++) {
        out[i] = (float)(rgb[i] * factor);
    }
}

static rc_synth_capsule *
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

static rc_synth_ellipse *
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

static rc_synth_profile *
add_profile(builder *b, double key, const float rgb[3])
{
    rc_synth_profile *p = &add(b, AS_PROFILE, key)->as.profile;
    p->split = no_split;
    p->shaded = true;
    set_rgb(p->rgb, rgb, 1);
    return p;
}

/* Rows that would lie above their predecessor move to it, so that rows never decrease. */
static void
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

static void
body_row(builder *b, rc_synth_profile *p, double y, double half)
{
    add_row(p, b->x, b->top + y * b->unit, half * b->unit);
}

/* ---- legs ---------------------------------------------------------------------------------- */

typedef struct leg {
    point3 hip, knee, ankle, toe, heel;
} leg;

static point3
swing_from(point3 from, double length, double angle)
{
    from.f += length * rc_synth_sin(angle);
    from.y += length * rc_synth_cos(angle);
    return from;
}

static leg
pose_leg(const builder *b, int side, double e)
{
    const rc_synth_figure *f = b->figure;
    double angle = f->swing * rc_synth_sin(f->phase + e);
    double lift = rc_synth_sin(f->phase + e - 1.9);
    double knee = 0.05 + 1.2 * f->swing * (lift > 0 ? lift : 0);
    double length = (0.965 - b->p->hip) / 2;
    leg out = {.hip = {0.045 * side, 0, b->p->hip - 0.02}};
    out.knee = swing_from(out.hip, length, angle);
    out.ankle = swing_from(out.knee, length, angle - knee);
    out.ankle.l *= 0.8; /* feet closer together than hips */
    double roll = rc_synth_clamp(-0.8 * (angle - knee), -0.25, 0.9); /* heel lifted behind */
    out.toe = out.ankle;
    out.toe.f += 0.065 * rc_synth_cos(roll) + 0.012 * rc_synth_sin(roll);
    out.toe.y += 0.018 + 0.055 * rc_synth_sin(roll);
    out.heel = out.ankle;
    out.heel.f -= 0.012;
    out.heel.y += 0.014 - 0.020 * rc_synth_sin(roll);
    return out;
}

static void
add_leg(builder *b, const leg *pose)
{
    const rc_synth_person *p = b->p;
    point2 hip = project(b, pose->hip), knee = project(b, pose->knee);
    point2 ankle = project(b, pose->ankle), toe = project(b, pose->toe);
    point2 heel = project(b, pose->heel);
    double key = -0.5 + 0.1 * ankle.depth, r = 1.10 * p->leg;
    double dim = ankle.depth < -0.03 ? 0.86 : 1;
    float sole[3] = {0.55f, 0.54f, 0.52f};
    for (int i = 0; i < 3; i++) {
        sole[i] = p->shoes.rgb[i] < 0.4f ? p->shoes.rgb[i] * 0.6f : sole[i];
    }
    point2 heel_low = heel, toe_low = toe;
    heel_low.y += (float)(0.008 * b->unit);
    toe_low.y += (float)(0.006 * b->unit);
    add_capsule(b, key, heel_low, toe_low, 0.014, 0.014, sole, dim);
    bool wide = p->lower == LOWER_WIDE;
    bool dressed = p->upper != UPPER_DRESS && (p->lower == LOWER_TROUSERS || wide);
    add_capsule(b, key, heel, toe, 0.022, 0.017, p->shoes.rgb, dim);
    if (!dressed || !wide) {
        add_capsule(b, key, ankle, heel, 0.020, 0.021, dressed ? p->shoes.rgb : p->skin, dim);
    }
    if (dressed) {
        double cuff = wide ? 0.55 * 1.35 : 0.55;
        rc_synth_capsule *shin = add_capsule(b, key, knee, ankle, 0.80 * p->slack * r,
                                             cuff * p->slack * r, p->cl.rgb, dim);
        rc_synth_capsule *thigh = add_capsule(b, key, hip, knee, 1.12 * r, 0.82 * p->slack * r,
                                              p->cl.rgb, dim);
        if (p->trouser_stripe) {
            shin->style = thigh->style = RC_SYNTH_STRIPE;
            set_rgb(shin->rgb2, p->cu2.rgb, dim);
            set_rgb(thigh->rgb2, p->cu2.rgb, dim);
        }
    } else {
        add_capsule(b, key, knee, ankle, 0.72 * r, 0.45 * r, p->skin, dim);
        add_capsule(b, key, hip, knee, r, 0.75 * r, p->skin, dim);
        if (p->upper != UPPER_DRESS && p->lower == LOWER_SHORTS) {
            point2 end = hip;
            end.x += (float)p->shorts * (knee.x - hip.x);
            end.y += (float)p->shorts * (knee.y - hip.y);
            add_capsule(b, key, hip, end, 1.15 * r, 1.05 * r, p->cl.rgb, dim);
        }
    }
    if (p->boots) {
        point2 from = ankle;
        from.x += 0.4f * (knee.x - ankle.x);
        from.y += 0.4f * (knee.y - ankle.y);
        double tight = dressed ? 0.66 * p->slack : 0.66;
        add_capsule(b, key, from, ankle, tight * r, 0.55 * r, p->shoes.rgb, dim);
    }
}

/* ---- arms ---------------------------------------------------------------------------------- */

static point2
along(point2 a, point2 b, double t)
{
    a.x += (float)t * (b.x - a.x);
    a.y += (float)t * (b.y - a.y);
    return a;
}

static void
add_bag_in_hand(builder *b, double key, point2 hand)
{
    const rc_synth_person *p = b->p;
    double size = p->bag_size * b->unit, y = hand.y + 0.02 * b->unit;
    double turn = half_width(b, 1, 0.55); /* narrower from the side of the walk */
    point2 left = hand, right = hand;
    left.x -= (float)(0.014 * size);
    right.x += (float)(0.014 * size);
    left.y = right.y = (float)(y + 0.004 * size);
    add_capsule(b, key, hand, left, 0.004, 0.004, p->bag_color.rgb, 0.7);
    add_capsule(b, key, hand, right, 0.004, 0.004, p->bag_color.rgb, 0.7);
    rc_synth_profile *bag = add_profile(b, key, p->bag_color.rgb);
    add_row(bag, hand.x, y, 0.036 * size * turn);
    add_row(bag, hand.x, y + 0.09 * size, 0.045 * size * turn);
    bag->corner = (float)(0.010 * size);
    if (p->bag_two) {
        bag->split = (float)(y + 0.55 * 0.09 * size);
        set_rgb(bag->split_rgb, p->bag_color2.rgb, 1);
    }
}

static void
add_sleeve_style(const builder *b, rc_synth_capsule *c, double dim)
{
    const rc_synth_person *p = b->p;
    bool rings = p->pattern == RC_SYNTH_HORIZONTAL || p->pattern == RC_SYNTH_CHECK;
    if (p->sleeve_stripe || rings) {
        c->style = p->sleeve_stripe ? RC_SYNTH_STRIPE : RC_SYNTH_RINGS;
        bool check = p->pattern == RC_SYNTH_CHECK && !p->sleeve_stripe;
        for (int i = 0; i < 3; i++) {
            float mixed = check ? 0.5f * (p->cu.rgb[i] + p->cu2.rgb[i]) : p->cu2.rgb[i];
            c->rgb2[i] = (float)(mixed * dim);
        }
        c->rate = (float)(0.15 / p->period);
        c->phase = (float)p->phase;
        c->duty = (float)p->duty;
    }
}

static void
add_arm(builder *b, int side, double e, double shift)
{
    const rc_synth_person *p = b->p;
    const rc_synth_figure *f = b->figure;
    double swing = -0.8 * f->swing * rc_synth_sin(f->phase + e) + 0.05;
    double bend = 0.25 + 0.2 * f->swing, out = 0.012, in = -0.004;
    if (f->arms == 1 && side > 0) {
        swing = 0.3, bend = 2.1, out = 0.02, in = -0.05;
    } else if (f->arms == 2) {
        swing = -0.15, bend = 0.5, out = 0.022, in = -0.03;
    } else if (f->arms == 3 && side < 0) {
        swing = 0.5, bend = 1.2, out = 0.012, in = -0.03;
    }
    point3 shoulder = {side * (p->shoulder - 0.007), 0, 0.211 + shift};
    point3 elbow = swing_from(shoulder, 0.155, swing);
    elbow.l += side * out;
    point3 hand = swing_from(elbow, 0.14, swing + bend);
    hand.l += side * in;
    point2 s2 = project(b, shoulder), e2 = project(b, elbow), h2 = project(b, hand);
    bool far = e2.depth < -0.02;
    double key = far ? -0.7 : 0.2 + 0.1 * e2.depth, dim = far ? 0.88 : 1;
    bool thick = p->upper == UPPER_JACKET || p->upper == UPPER_COAT || p->upper == UPPER_HOODIE;
    double bare = 0.032, r = thick ? 1.2 * bare : bare;
    const float *cloth = p->sleeve_cu2 ? p->cu2.rgb : p->cu.rgb;

    bool hidden = f->arms == 2;
    if (!hidden) {
        double dx = h2.x - e2.x, dy = h2.y - e2.y, n = sqrt(dx * dx + dy * dy) + 1e-3;
        double reach = 0.010 * b->unit;
        rc_synth_ellipse *hand_shape = add_ellipse(b, key, h2.x + reach * dx / n,
                                                   h2.y + reach * dy / n, 0.022, 0.015, p->skin,
                                                   0.97 * dim);
        hand_shape->tilt_c = (float)(dx / n);
        hand_shape->tilt_s = (float)(dy / n);
    }
    if (p->bag == BAG_HAND && side == p->side && f->arms != 1) {
        add_bag_in_hand(b, key, h2);
    }
    if (p->sleeve == 1) {
        rc_synth_capsule *fore = add_capsule(b, key, e2, h2, 0.82 * r, 0.68 * r, cloth, dim);
        rc_synth_capsule *upper = add_capsule(b, key, s2, e2, r, 0.82 * r, cloth, dim);
        add_sleeve_style(b, fore, dim);
        add_sleeve_style(b, upper, dim);
        return;
    }
    add_capsule(b, key, e2, h2, 0.70 * bare, 0.50 * bare, p->skin, dim);
    add_capsule(b, key, s2, e2, 0.85 * bare, 0.70 * bare, p->skin, dim);
    if (p->sleeve > 0) {
        rc_synth_capsule *half = add_capsule(b, key, s2, along(s2, e2, 0.75), 1.1 * r, r, cloth,
                                             dim);
        add_sleeve_style(b, half, dim);
        half->rate *= 0.75f;
    }
}

/* ---- trunk, skirt, hips --------------------------------------------------------------------- */

static void
dress_trunk(builder *b)
{
    const rc_synth_person *p = b->p;
    rc_synth_cloth *c = &b->cloth;
    memset(c, 0, sizeof *c);
    c->yaw = (float)(b->figure->yaw - 2 * RC_PI
                     * rc_synth_rint(b->figure->yaw / (2 * RC_PI)));
    for (int i = 0; i < 3; i++) {
        c->folds[i] = (float)b->figure->folds[i];
    }
    b->plain = *c; /* folds only: hips and skirt */
    c->pattern = p->pattern == RC_SYNTH_PRINT ? RC_SYNTH_NO_PATTERN : p->pattern;
    set_rgb(c->rgb2, p->cu2.rgb, 1);
    c->inverse_period = (float)(1 / p->period);
    c->duty = (float)p->duty;
    c->phase = (float)p->phase;
    c->logo_front = p->logo;
    c->logo_back = p->logo && p->logo_back;
    c->logo_shape = p->logo_shape;
    set_rgb(c->logo_rgb, p->logo_color.rgb, 1);
    c->logo_size = (float)p->logo_size;
    c->open = p->upper == UPPER_JACKET || p->upper == UPPER_COAT;
    set_rgb(c->inner_rgb, p->inner.rgb, 1);
    c->tank = p->upper == UPPER_TANK;
    set_rgb(c->skin, p->skin, 0.97);
    c->collar = p->upper == UPPER_TEE || p->upper == UPPER_LONG || p->upper == UPPER_DRESS
                || p->upper == UPPER_TANK;
    c->hood = p->upper == UPPER_HOODIE;
    c->pack = p->bag == BAG_BACKPACK;
    c->strap = p->bag == BAG_SHOULDER ? p->side : 0;
    set_rgb(c->strap_rgb, p->bag_color.rgb, 0.8);
}

static void
wear(builder *b, rc_synth_profile *profile, const rc_synth_cloth *cloth, double shift)
{
    profile->cloth = cloth;
    profile->v0 = (float)(b->top + (0.165 + shift) * b->unit);
    profile->v_rate = (float)(1 / b->unit);
}

static void
add_trunk(builder *b, double shift)
{
    const rc_synth_person *p = b->p;
    static const double hems[] = {0.03, 0.03, 0.03, 0.03, 0.14, 0.0, -0.01};
    bool thick = p->upper == UPPER_JACKET || p->upper == UPPER_COAT || p->upper == UPPER_HOODIE;
    double k = thick ? 1.09 : 1, y = 0.165 + shift, hem = hems[p->upper];
    double w = trunk_width(b, p->shoulder), waist = trunk_width(b, p->waist);
    double hip = trunk_width(b, p->hip_width);
    rc_synth_profile *t = add_profile(b, 0, p->cu.rgb);
    wear(b, t, &b->cloth, shift);
    body_row(b, t, y, 0.034);
    body_row(b, t, y + 0.012, 0.050);
    body_row(b, t, y + 0.026, 0.70 * w * k);
    body_row(b, t, y + 0.040, 0.92 * w * k);
    body_row(b, t, y + 0.062, 1.08 * w * k);
    body_row(b, t, y + 0.12, 1.08 * w * k);
    body_row(b, t, y + 0.22, waist * k);
    body_row(b, t, p->hip + shift + (hem < 0 ? hem : 0), hip * k);
    if (hem > 0) {
        body_row(b, t, p->hip + shift + hem, (hem > 0.1 ? 1.15 : 1.02) * hip * k);
    }
}

static void
add_lower(builder *b, double shift, double spread)
{
    const rc_synth_person *p = b->p;
    double waist = trunk_width(b, p->waist), hip = trunk_width(b, p->hip_width);
    bool dress = p->upper == UPPER_DRESS, skirt = dress || p->lower == LOWER_SKIRT;
    rc_synth_profile *s = add_profile(b, -0.1, p->cl.rgb);
    wear(b, s, dress ? &b->cloth : &b->plain, shift);
    body_row(b, s, 0.385 + shift, waist);
    if (skirt) {
        double flare = 1.08 * hip + 0.12 * p->skirt + 0.02;
        body_row(b, s, p->hip + shift, 1.08 * hip);
        body_row(b, s, p->hip + p->skirt + shift, flare > spread ? flare : spread);
        return;
    }
    body_row(b, s, p->hip - 0.03 + shift, 1.0 * hip);
    body_row(b, s, p->hip + 0.01 + shift, 0.98 * hip);
    body_row(b, s, p->hip + 0.05 + shift, 0.78 * hip);
    s->corner = (float)(0.02 * b->unit);
}

/* ---- head ----------------------------------------------------------------------------------- */

static void
add_hair_behind(builder *b, double key, double x, double y, double r)
{
    const rc_synth_person *p = b->p;
    double k = -0.25 * r * b->sine, unit = b->unit;
    if (p->hair == HAIR_LONG) {
        rc_synth_profile *h = add_profile(b, key, p->hair_rgb);
        const double widths[4] = {0.78, 1.12 * 0.78, 1.05 * 0.78, 0.9 * 0.78};
        const double rows[4] = {-0.6, 0.5, 1.4, 1.9};
        for (int i = 0; i < 4; i++) {
            add_row(h, x + k * unit, y + rows[i] * r * unit, widths[i] * r * unit);
        }
        h->corner = (float)(0.3 * r * unit);
    } else if (p->hair == HAIR_PONY) {
        point2 from = {(float)(x + 3.2 * k * unit), (float)(y - 0.1 * r * unit), 0};
        point2 to = {(float)(x + 4 * k * unit), (float)(y + 1.1 * r * unit), 0};
        add_capsule(b, key, from, to, 0.22 * r, 0.12 * r, p->hair_rgb, 0.92);
    } else if (p->hair == HAIR_BUN) {
        add_ellipse(b, key, x + 2.6 * k * unit, y - 0.85 * r * unit, 0.34 * r, 0.30 * r,
                    p->hair_rgb, 0.92);
    }
}

static void
add_hat(builder *b, double key, double x, double y, double r)
{
    const rc_synth_person *p = b->p;
    double brow = y - 0.18 * r * b->unit;
    bool brim = p->hat == HAT_CAP;
    double brim_x = x + 0.75 * r * b->sine * b->unit;
    double brim_w = (0.45 + 0.5 * (b->sine < 0 ? -b->sine : b->sine)) * 0.78 * r;
    if (brim && b->cosine < -0.3) {
        add_ellipse(b, key - 0.02, brim_x, brow, brim_w, 0.10 * r, p->hat_color.rgb, 0.75);
    }
    rc_synth_ellipse *hat = add_ellipse(b, key, x, y, 0.82 * r, (brim ? 1.04 : 1.10) * r,
                                        p->hat_color.rgb, 1);
    hat->below = (float)brow;
    if (p->hat == HAT_BEANIE) {
        rc_synth_profile *fold = add_profile(b, key, p->hat_color.rgb);
        set_rgb(fold->rgb, p->hat_color.rgb, 0.82);
        add_row(fold, x, brow - 0.22 * r * b->unit, 0.83 * r * b->unit);
        add_row(fold, x, brow + 0.02 * r * b->unit, 0.83 * r * b->unit);
        fold->corner = (float)(0.05 * r * b->unit);
    }
    if (brim && b->cosine >= -0.3) {
        add_ellipse(b, key, brim_x, brow, brim_w, 0.10 * r, p->hat_color.rgb, 0.75);
    }
}

static void
add_head(builder *b, double shift)
{
    const rc_synth_person *p = b->p;
    double r = p->head, key = b->cosine < 0 ? 0.6 : 0.5;
    point2 centre = project(b, (point3){0, 0.015, r + 0.012 + shift});
    point2 base = project(b, (point3){0, 0, 0.172 + shift});
    point2 chin = project(b, (point3){0, 0.005, 1.7 * r + shift});
    add_capsule(b, -0.05, chin, base, 0.028, 0.031, p->skin, 0.82);
    bool behind = b->cosine > -0.2;
    double x = centre.x, y = centre.y;
    if (behind) {
        add_hair_behind(b, p->hair == HAIR_LONG && b->cosine > 0.4 ? -0.06 : key - 0.01, x, y, r);
    }
    rc_synth_head *head = &add(b, AS_HEAD, key)->as.head;
    head->x = centre.x;
    head->y = centre.y;
    head->a = (float)((0.78 + 0.06 * (b->sine < 0 ? -b->sine : b->sine)) * r * b->unit);
    head->b = (float)(r * b->unit);
    head->yaw = b->cloth.yaw;
    set_rgb(head->skin, p->skin, 1);
    set_rgb(head->hair, p->hair_rgb, 1);
    head->bald = p->hair == HAIR_BALD;
    head->line = p->hair == HAIR_CROP ? -0.45f : -0.35f;
    if (!behind) {
        add_hair_behind(b, key + 0.01, x, y, r);
    }
    if (p->hat != HAT_NONE) {
        add_hat(b, key + 0.02, x, y, r);
    }
}

/* ---- bags ------------------------------------------------------------------------------------ */

static void
add_bag(builder *b, double shift)
{
    const rc_synth_person *p = b->p;
    bool pack = p->bag == BAG_BACKPACK;
    if (!pack && p->bag != BAG_SHOULDER) {
        return;
    }
    double size = p->bag_size, high = (pack ? 0.23 : 0.10) * size;
    double half = pack ? half_width(b, 0.075, 0.05) : half_width(b, 0.035, 0.07);
    point3 at = pack ? (point3){0, -(p->depth + 0.03), 0.315 + shift}
                     : (point3){p->side * (p->hip_width + 0.03), 0, p->hip + shift};
    point2 centre = project(b, at);
    double key = centre.depth < 0 ? -0.65 : 0.25;
    if (pack) { /* from the side it is over the trunk and under the near arm */
        key = b->cosine > 0.1 ? -0.8 : b->cosine > -0.3 ? 0.1 : 0.55;
    }
    rc_synth_profile *bag = add_profile(b, key, p->bag_color.rgb);
    double y = centre.y - high / 2 * b->unit;
    add_row(bag, centre.x, y, (pack ? 0.85 : 0.9) * half * size * b->unit);
    add_row(bag, centre.x, y + 0.3 * high * b->unit, half * size * b->unit);
    add_row(bag, centre.x, y + high * b->unit, half * size * b->unit);
    bag->corner = (float)((pack ? 0.030 : 0.014) * size * b->unit);
    if (p->bag_two) {
        bag->split = (float)(y + 0.55 * high * b->unit);
        set_rgb(bag->split_rgb, p->bag_color2.rgb, 1);
    }
    if (pack && b->cosine < -0.3) { /* a flap and a pocket on the side that is seen */
        rc_synth_profile *pocket = add_profile(b, key, p->bag_color.rgb);
        set_rgb(pocket->rgb, p->bag_two ? p->bag_color2.rgb : p->bag_color.rgb, 0.82);
        add_row(pocket, centre.x, y + 0.58 * high * b->unit, 0.68 * half * size * b->unit);
        add_row(pocket, centre.x, y + 0.90 * high * b->unit, 0.68 * half * size * b->unit);
        pocket->corner = (float)(0.012 * size * b->unit);
    }
}

/* ---- all of it ------------------------------------------------------------------------------- */

static void
sort_shapes(const builder *b, int order[SHAPES])
{
    for (int i = 0; i < b->count; i++) { /* stable: equal keys stay in the order of adding */
        int j = i;
        while (j > 0 && b->shapes[order[j - 1]].key > b->shapes[i].key) {
            order[j] = order[j - 1];
            j--;
        }
        order[j] = i;
    }
}

static void
place(builder *b, const rc_synth_canvas *canvas, const rc_synth_figure *figure,
      const rc_synth_camera *lens)
{
    b->p = &figure->person;
    b->figure = figure;
    b->unit = figure->height * canvas->h;
    b->x = figure->x * canvas->w;
    b->top = figure->top * canvas->h;
    b->cosine = rc_synth_cos(figure->yaw);
    b->sine = rc_synth_sin(figure->yaw);
    b->pitch = rc_synth_sin(lens->pitch);
    b->count = 0;
}

void
rc_synth_body_draw(const rc_synth_ops *ops, rc_synth_canvas *canvas,
                   const rc_synth_figure *figure, const rc_synth_camera *lens, double light)
{
    builder b;
    place(&b, canvas, figure, lens);
    canvas->light = (float)light;
    canvas->lambert = (float)lens->lambert;
    dress_trunk(&b);
    leg legs[2] = {pose_leg(&b, 1, 0), pose_leg(&b, -1, RC_PI)};
    double low = legs[0].toe.y > legs[1].toe.y ? legs[0].toe.y : legs[1].toe.y;
    double shift = 0.985 - 0.017 - low, spread = 0; /* the lower toe's sole at 0.985 */
    for (int i = 0; i < 2; i++) {
        point3 *points[] = {&legs[i].hip, &legs[i].knee, &legs[i].ankle, &legs[i].toe,
                            &legs[i].heel};
        for (int k = 0; k < 5; k++) {
            points[k]->y += shift;
        }
        add_leg(&b, &legs[i]);
        double reach = project(&b, legs[i].knee).x - b.x;
        reach = (reach < 0 ? -reach : reach) / b.unit + 0.9 * b.p->leg;
        spread = reach > spread ? reach : spread;
    }
    add_lower(&b, shift, spread);
    add_trunk(&b, shift);
    add_arm(&b, 1, 0, shift);
    add_arm(&b, -1, RC_PI, shift);
    add_head(&b, shift);
    add_bag(&b, shift);
    int order[SHAPES];
    sort_shapes(&b, order);
    for (int i = 0; i < b.count; i++) {
        const shape *s = &b.shapes[order[i]];
        switch (s->kind) {
        case AS_CAPSULE: ops->capsule(canvas, &s->as.capsule); break;
        case AS_ELLIPSE: ops->ellipse(canvas, &s->as.ellipse); break;
        case AS_PROFILE: ops->profile(canvas, &s->as.profile); break;
        default: ops->head(canvas, &s->as.head);
        }
    }
}

void
rc_synth_contact_shadow(const rc_synth_ops *ops, rc_synth_canvas *canvas,
                        const rc_synth_figure *figure, const rc_synth_camera *lens)
{
    builder b;
    place(&b, canvas, figure, lens);
    point2 feet = project(&b, (point3){0, 0, 0.975});
    rc_synth_canvas ground = *canvas;
    ground.mask = NULL;
    ground.opacity = 0.55f;
    rc_synth_ellipse shadow = {
        .x = feet.x, .y = feet.y, .a = (float)(0.13 * b.unit), .b = (float)(0.022 * b.unit),
        .tilt_c = 1, .below = no_split, .rgb = {0, 0, 0},
    };
    ops->ellipse(&ground, &shadow);
}
