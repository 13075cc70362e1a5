/* A person in a pose as a list of shapes, sorted from far to near, then drawn.
 *
 * The synthetic set page, section 6; ours on top of it: sloping shoulders, elbows held off the
 * trunk, feet that roll, soles, collars, faces (kernels/shapes.c) and the far limbs a little
 * darker. Here legs and arms; dress.c has the rest. */
#include "synth/body.h"

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
    rc_synth_dress(&b);
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
    rc_synth_add_lower(&b, shift, spread);
    rc_synth_add_trunk(&b, shift);
    add_arm(&b, 1, 0, shift);
    add_arm(&b, -1, RC_PI, shift);
    rc_synth_add_head(&b, shift);
    rc_synth_add_bag(&b, shift);
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
