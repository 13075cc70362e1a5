/* A person's trunk, skirt and hips, head, hair and hat, and bags, as shapes for body.c. */
#include "synth/body.h"

/* ---- trunk, skirt, hips --------------------------------------------------------------------- */

void
rc_synth_dress(builder *b)
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

void
rc_synth_add_trunk(builder *b, double shift)
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

void
rc_synth_add_lower(builder *b, double shift, double spread)
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

void
rc_synth_add_head(builder *b, double shift)
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

void
rc_synth_add_bag(builder *b, double shift)
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
