/* Capsules, ellipses, profiles, heads and bushes: the shapes that people, bags and obstacles
 * are made of. Coverage c in [0, 1] from the distance to the outline, canvas += (colour -
 * canvas) c. The synthetic set page, sections 6 and 7; the trunk's cloth is in cloth.c. */
#include "synth/kernels/lanes.h"
#include "synth/kernels/cloth.h"

void
RC_KERNEL(capsule)(const rc_synth_canvas *canvas, const rc_synth_capsule *g)
{
    float lx = g->x1 - g->x0, ly = g->y1 - g->y0;
    float length2 = lx * lx + ly * ly + 1e-6f, inverse = 1.0f / length2;
    float unit = 1.0f / sqrtf(length2), ux = lx * unit, uy = ly * unit;
    float r = g->r0 > g->r1 ? g->r0 : g->r1, dr = g->r1 - g->r0, reach = r + 1.0f;
    box b = box_of(canvas, (lx < 0 ? g->x1 : g->x0) - reach, (ly < 0 ? g->y1 : g->y0) - reach,
                   (lx < 0 ? g->x0 : g->x1) + reach, (ly < 0 ? g->y0 : g->y1) + reach);
    float light = canvas->light, lambert = canvas->lambert, foot = g->rate * unit + 1e-6f;
    for (int y = b.y0; y < b.y1; y++) {
        float dy = (float)y + 0.5f - g->y0;
        for (int x = b.x0; x < b.x1; x += LANES) {
            lanes c, f, p, red, green, blue;
            float dx0 = (float)x + 0.5f - g->x0;
            if (g->style == RC_SYNTH_PLAIN) {
                EACH_LANE {
                    float dx = dx0 + (float)j;
                    float t = clamp01((dx * lx + dy * ly) * inverse);
                    float ex = dx - t * lx, ey = dy - t * ly, radius = g->r0 + t * dr;
                    float d = sqrtf(ex * ex + ey * ey);
                    c[j] = clamp01(0.5f - (d - radius));
                    float s = ex / radius;
                    s = s < -1.0f ? -1.0f : s > 1.0f ? 1.0f : s;
                    f[j] = shade(s, light, lambert);
                }
                blend_flat(canvas, y, x, c, g->rgb, f);
                continue;
            }
            bool stripe = g->style == RC_SYNTH_STRIPE;
            EACH_LANE {
                float dx = dx0 + (float)j;
                float t = clamp01((dx * lx + dy * ly) * inverse);
                float ex = dx - t * lx, ey = dy - t * ly, radius = g->r0 + t * dr;
                float d = sqrtf(ex * ex + ey * ey);
                c[j] = clamp01(0.5f - (d - radius));
                float s = ex / radius, across = (dx * uy - dy * ux) / radius;
                s = s < -1.0f ? -1.0f : s > 1.0f ? 1.0f : s;
                f[j] = shade(s, light, lambert);
                across = across < 0 ? -across : across;
                float in_stripe = clamp01((0.25f - across) * radius + 0.5f);
                float in_ring = in_band(t * g->rate + g->phase, g->duty, foot);
                p[j] = stripe ? in_stripe : in_ring;
            }
            EACH_LANE red[j] = (g->rgb[0] + (g->rgb2[0] - g->rgb[0]) * p[j]) * f[j];
            EACH_LANE green[j] = (g->rgb[1] + (g->rgb2[1] - g->rgb[1]) * p[j]) * f[j];
            EACH_LANE blue[j] = (g->rgb[2] + (g->rgb2[2] - g->rgb[2]) * p[j]) * f[j];
            blend(canvas, y, x, c, red, green, blue);
        }
    }
}

/* Signed distance of an ellipse to first order, k (k - 1) / |gradient|; the small terms keep
 * the middle, where both vanish, inside. */
static inline float
ellipse_cover(float u, float v, float ia, float ib)
{
    float s = u * ia, t = v * ib;
    float k2 = s * s + t * t + 1e-6f;
    float gs = s * ia, gt = t * ib;
    float g2 = gs * gs + gt * gt + 1e-6f * ia * ib;
    float k = sqrtf(k2);
    return clamp01(0.5f - k * (k - 1.0f) / sqrtf(g2));
}

void
RC_KERNEL(ellipse)(const rc_synth_canvas *canvas, const rc_synth_ellipse *g)
{
    float ca = g->a * g->tilt_c, cb = g->b * g->tilt_s;
    float sa = g->a * g->tilt_s, sb = g->b * g->tilt_c;
    float reach_x = sqrtf(ca * ca + cb * cb) + 1.5f, reach_y = sqrtf(sa * sa + sb * sb) + 1.5f;
    float bottom = g->y + reach_y < g->below + 1 ? g->y + reach_y : g->below + 1;
    box b = box_of(canvas, g->x - reach_x, g->y - reach_y, g->x + reach_x, bottom);
    float ia = 1.0f / g->a, ib = 1.0f / g->b, light = canvas->light;
    float lambert = g->shaded ? canvas->lambert : 0.0f;
    for (int y = b.y0; y < b.y1; y++) {
        float dy = (float)y + 0.5f - g->y;
        float cut = clamp01(g->below - (float)y);
        for (int x = b.x0; x < b.x1; x += LANES) {
            lanes c, f;
            EACH_LANE {
                float dx = (float)x + 0.5f + (float)j - g->x;
                float u = dx * g->tilt_c + dy * g->tilt_s, v = dy * g->tilt_c - dx * g->tilt_s;
                c[j] = ellipse_cover(u, v, ia, ib) * cut;
                float s = dx / reach_x;
                s = s < -1.0f ? -1.0f : s > 1.0f ? 1.0f : s;
                f[j] = shade(s, light, lambert);
            }
            blend_flat(canvas, y, x, c, g->rgb, f);
        }
    }
}

/* ---- profiles: a centre and a half width for each row, linear between given rows ---------- */

static void
profile_row(const rc_synth_profile *g, float y, float *x, float *half)
{
    int i = 0;
    while (i < g->rows - 2 && y > g->y[i + 1]) {
        i++;
    }
    float span = g->y[i + 1] - g->y[i];
    float t = span > 1e-4f ? clamp01((y - g->y[i]) / span) : 1.0f;
    *x = g->x[i] + t * (g->x[i + 1] - g->x[i]);
    *half = g->half[i] + t * (g->half[i + 1] - g->half[i]);
    float top = y - g->y[0], bottom = g->y[g->rows - 1] - y;
    float edge = top < bottom ? top : bottom;
    edge = edge < 0 ? 0 : edge;
    if (edge < g->corner) {
        float d = g->corner - edge;
        *half -= g->corner - sqrtf(g->corner * g->corner - d * d);
    }
}

void
RC_KERNEL(profile)(const rc_synth_canvas *canvas, const rc_synth_profile *g)
{
    float top = g->y[0], bottom = g->y[g->rows - 1], left = g->x[0], right = g->x[0];
    for (int i = 0; i < g->rows; i++) {
        float l = g->x[i] - g->half[i], r = g->x[i] + g->half[i];
        left = l < left ? l : left;
        right = r > right ? r : right;
    }
    box b = box_of(canvas, left - 1, top - 1, right + 1, bottom + 1);
    float light = canvas->light, lambert = g->shaded ? canvas->lambert : 0.0f;
    for (int y = b.y0; y < b.y1; y++) {
        float row = (float)y + 0.5f, centre, half;
        profile_row(g, row, &centre, &half);
        float in = row - top < bottom - row ? row - top : bottom - row;
        float cy = clamp01(in + 0.5f);
        if (cy <= 0 || half <= 0) {
            continue;
        }
        float inverse = 1.0f / half;
        const float *rgb = row > g->split ? g->split_rgb : g->rgb;
        for (int x = b.x0; x < b.x1; x += LANES) {
            lanes c, s, f;
            EACH_LANE {
                float dx = (float)x + 0.5f + (float)j - centre, a = dx < 0 ? -dx : dx;
                c[j] = clamp01(half - a + 0.5f) * cy;
                float t = dx * inverse;
                s[j] = t < -1.0f ? -1.0f : t > 1.0f ? 1.0f : t;
            }
            if (!any(c)) {
                continue;
            }
            EACH_LANE f[j] = shade(s[j], light, lambert);
            if (g->cloth) {
                lanes red, green, blue;
                cloth_color(g->cloth, rgb, (row - g->v0) * g->v_rate, g->v_rate, half, s, f, red,
                            green, blue);
                blend(canvas, y, x, c, red, green, blue);
            } else {
                blend_flat(canvas, y, x, c, rgb, f);
            }
        }
    }
}

/* ---- the head ----------------------------------------------------------------------------- */

static inline float
bump(float x, float width) /* 1 at 0, 0 from `width` on */
{
    float a = x < 0 ? -x : x;
    return clamp01(1.0f - a / width);
}

void
RC_KERNEL(head)(const rc_synth_canvas *canvas, const rc_synth_head *g)
{
    box b = box_of(canvas, g->x - g->a - 1.5f, g->y - g->b - 1.5f, g->x + g->a + 1.5f,
                   g->y + g->b + 1.5f);
    float ia = 1.0f / g->a, ib = 1.0f / g->b, soft = 0.7f * ib;
    float light = canvas->light, lambert = canvas->lambert;
    float yaw_c = (float)rc_synth_cos(g->yaw), yaw_s = (float)rc_synth_sin(g->yaw);
    for (int y = b.y0; y < b.y1; y++) {
        float v = ((float)y + 0.5f - g->y) * ib;
        float round = 1.0f - 0.75f * v * v, width = sqrtf(round < 0.1f ? 0.1f : round);
        float line = clamp01((v - g->line) / soft * 0.5f + 0.5f);
        float low = clamp01((v - 0.55f) / soft * 0.5f + 0.5f);
        float eye_row = bump(v + 0.02f, 0.13f), brow_row = bump(v + 0.17f, 0.10f);
        float nose_row = clamp01((v + 0.05f) * 8.0f) * clamp01((0.34f - v) * 8.0f);
        float mouth_row = bump(v - 0.55f, 0.10f), chin = 1.0f - 0.16f * clamp01((v - 0.6f) * 3.0f);
        for (int x = b.x0; x < b.x1; x += LANES) {
            lanes c, f, skin, red, green, blue;
            EACH_LANE {
                float dx = (float)x + 0.5f + (float)j - g->x, dy = (float)y + 0.5f - g->y;
                c[j] = ellipse_cover(dx, dy, ia, ib);
                float s = dx * ia;
                s = s < -1.0f ? -1.0f : s > 1.0f ? 1.0f : s;
                f[j] = shade(s, light, lambert);
                skin[j] = s / width;
            }
            if (!any(c)) {
                continue;
            }
            EACH_LANE {
                float s = skin[j]; /* phi = asin(s) - yaw by the addition theorems */
                s = s < -1.0f ? -1.0f : s > 1.0f ? 1.0f : s;
                float deep = sqrtf(1.0f - s * s);
                float cosine = deep * yaw_c + s * yaw_s, sine = s * yaw_c - deep * yaw_s;
                float face = clamp01((cosine - 0.15f) * 6.0f + 0.5f) * line;
                float jaw = clamp01((cosine + 0.3f) * 6.0f + 0.5f) * low;
                float bare = g->bald ? 1.0f : face > jaw ? face : jaw;
                float front = clamp01(cosine * 6.0f);
                float side = sine < 0 ? -sine : sine;
                float eye = eye_row * bump(side - 0.38f, 0.17f) * front;
                float brow = brow_row * bump(side - 0.38f, 0.24f) * front;
                float nose = nose_row * bump(sine - 0.12f, 0.12f) * front;
                float mouth = mouth_row * bump(sine, 0.30f) * front;
                float ear = bump(cosine + 0.05f, 0.25f) * bump(v - 0.12f, 0.25f) * 0.25f;
                float dark = (1.0f - 0.75f * eye) * (1.0f - 0.35f * brow) * (1.0f - 0.18f * nose)
                             * (1.0f - ear);
                skin[j] = bare;
                red[j] = dark * chin * (1.0f - 0.12f * mouth);
                green[j] = dark * chin * (1.0f - 0.38f * mouth);
                blue[j] = dark * chin * (1.0f - 0.30f * mouth);
            }
            EACH_LANE red[j] = (g->hair[0] + (g->skin[0] * red[j] - g->hair[0]) * skin[j]) * f[j];
            EACH_LANE green[j] = (g->hair[1] + (g->skin[1] * green[j] - g->hair[1]) * skin[j])
                                 * f[j];
            EACH_LANE blue[j] = (g->hair[2] + (g->skin[2] * blue[j] - g->hair[2]) * skin[j]) * f[j];
            blend(canvas, y, x, c, red, green, blue);
        }
    }
}

/* ---- a bush: where value noise passes a threshold ----------------------------------------- */

static inline float
lattice(uint32_t key, int32_t row, int32_t column)
{
    return (float)(int32_t)(rc_synth_mix32(key + (uint32_t)(row * 1024 + column)) >> 8)
           * 0x1p-24f;
}

static inline float
value_noise(uint32_t key, float cell, float y, float x)
{
    float fy = y / cell, fx = x / cell, iy = rc_synth_floorf(fy), ix = rc_synth_floorf(fx);
    float ty = fy - iy, tx = fx - ix;
    int32_t row = (int32_t)iy, column = (int32_t)ix;
    ty = ty * ty * (3.0f - 2.0f * ty);
    tx = tx * tx * (3.0f - 2.0f * tx);
    float a = lattice(key, row, column), b = lattice(key, row, column + 1);
    float c = lattice(key, row + 1, column), d = lattice(key, row + 1, column + 1);
    float top = a + tx * (b - a), bottom = c + tx * (d - c);
    return top + ty * (bottom - top);
}

void
RC_KERNEL(bush)(const rc_synth_canvas *canvas, const rc_synth_bush *g)
{
    float per = 1.0f / g->unit;
    for (int y = 0; y < canvas->h; y++) {
        float v = ((float)y + 0.5f) * per;
        for (int x = 0; x < canvas->stride; x += LANES) {
            lanes c, f, n;
            EACH_LANE {
                float column = (float)(x + j) + 0.5f;
                float u = column * per, away = (column - g->x0) * per;
                away = away < 0 ? -away : away;
                n[j] = value_noise(g->key[0], 9.0f, v, u)
                       + 0.5f * value_noise(g->key[1], 4.0f, v, u);
                float over = n[j] - (0.75f + 0.006f * away - 0.0012f * (v - 128.0f));
                c[j] = clamp01(over * 12.0f * g->unit + 0.5f);
            }
            EACH_LANE f[j] = 0.6f + 0.8f * n[j];
            blend_flat(canvas, y, x, c, (const float[3]){0.14f, 0.26f, 0.10f}, f);
        }
    }
}
