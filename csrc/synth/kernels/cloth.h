/* Colour of the trunk for 16 columns of one row: pattern, logo, open jacket, straps, folds.
 *
 * Cloth lies on the body, not on the image: at row v below the neck and lateral place s the
 * azimuth is phi = asin(s) - yaw (0 chest, +-pi back). The synthetic set page, section 6. */
#ifndef RC_SYNTH_CLOTH_H
#define RC_SYNTH_CLOTH_H

#include "synth/kernels/lanes.h"

static inline float
absolute(float x)
{
    return x < 0 ? -x : x;
}

static inline void
mix_in(lanes red, lanes green, lanes blue, const float rgb[3], const lanes p)
{
    EACH_LANE red[j] += (rgb[0] - red[j]) * p[j];
    EACH_LANE green[j] += (rgb[1] - green[j]) * p[j];
    EACH_LANE blue[j] += (rgb[2] - blue[j]) * p[j];
}

/* Share of a pixel of width `foot` (in periods) around x that lies in frac(x) < duty. */
static inline float
in_band(float x, float duty, float foot)
{
    float away = absolute(rc_synth_fracf(x - 0.5f * duty + 0.5f) - 0.5f);
    return clamp01((0.5f * duty - away) / foot + 0.5f);
}

/* p: how much of the second colour the pattern shows. pixel, foot: a pixel's extent in v and
 * in 0.1 phi, over which edges are softened. False: none in this row. */
static inline bool
cloth_pattern(const rc_synth_cloth *cloth, float v, float pixel, const lanes phi,
              const lanes foot, lanes p)
{
    float q = cloth->inverse_period, d = cloth->duty, ps = cloth->phase;
    float across = in_band(v * q + ps, d, pixel * q);
    switch (cloth->pattern) {
    case RC_SYNTH_HORIZONTAL:
        EACH_LANE p[j] = across;
        return across > 0;
    case RC_SYNTH_VERTICAL:
        EACH_LANE p[j] = in_band(0.1f * phi[j] * q + ps, d, foot[j] * q);
        return true;
    case RC_SYNTH_CHECK:
        EACH_LANE p[j] = 0.5f * (across + in_band(0.1f * phi[j] * q + ps, d, foot[j] * q));
        return true;
    case RC_SYNTH_DOTS: {
        float w = rc_synth_fracf(v * q + ps) - 0.5f;
        EACH_LANE {
            float u = rc_synth_fracf(0.1f * phi[j] * q) - 0.5f;
            p[j] = clamp01((0.2828f - sqrtf(u * u + w * w)) / (foot[j] * q) + 0.5f);
        }
        return true;
    }
    case RC_SYNTH_BLOCK: {
        float in = clamp01((v - (0.08f + 0.2f * ps)) / pixel + 0.5f);
        EACH_LANE p[j] = in;
        return in > 0;
    }
    case RC_SYNTH_BAND: {
        float away = absolute(v - 0.06f - 0.15f * ps);
        float in = clamp01((0.02f + 0.05f * d - away) / pixel + 0.5f);
        EACH_LANE p[j] = in;
        return in > 0;
    }
    case RC_SYNTH_CAMOUFLAGE: {
        double wave = 2 * rc_synth_sin(37 * (double)v);
        EACH_LANE {
            double a = phi[j];
            double n = rc_synth_sin(3.1 * a + 9 * (double)ps + wave)
                       + rc_synth_sin(53 * (double)v
                                      + 2.3 * rc_synth_sin(2.7 * a + 5 * (double)ps));
            p[j] = clamp01((float)(2 * n));
        }
        return true;
    }
    default:
        return false;
    }
}

/* The logo around phi = 0 (u is the way along the body from its middle). */
static inline void
cloth_logo(const rc_synth_cloth *cloth, float v, float pixel, const lanes u, const lanes foot,
           lanes p)
{
    float z = cloth->logo_size, w = v - 0.115f, aw = absolute(w);
    float rows = clamp01((z - aw) / pixel + 0.5f);
    float bars = in_band(1.5f * w / z, 0.55f, 1.5f * pixel / z);
    switch (cloth->logo_shape) {
    case RC_SYNTH_DISC:
        EACH_LANE p[j] = clamp01((z - sqrtf(u[j] * u[j] + w * w)) / foot[j] + 0.5f);
        break;
    case RC_SYNTH_SQUARE:
        EACH_LANE p[j] = clamp01((z - absolute(u[j])) / foot[j] + 0.5f) * rows;
        break;
    case RC_SYNTH_BARS:
        EACH_LANE p[j] = clamp01((z - absolute(u[j])) / foot[j] + 0.5f) * rows * bars;
        break;
    default:
        EACH_LANE p[j] = clamp01((1.2f * z - absolute(u[j]) - aw) / foot[j] + 0.5f);
    }
}

static inline void
cloth_logos(const rc_synth_cloth *cloth, float v, float pixel, const lanes phi,
            const lanes foot, lanes red, lanes green, lanes blue)
{
    const float pi = (float)RC_PI;
    lanes u, p;
    if (cloth->logo_front) {
        EACH_LANE u[j] = 0.1f * phi[j];
        cloth_logo(cloth, v, pixel, u, foot, p);
        EACH_LANE p[j] = absolute(phi[j]) < 1.4f ? p[j] : 0.0f;
        mix_in(red, green, blue, cloth->logo_rgb, p);
    }
    if (cloth->logo_back) {
        EACH_LANE u[j] = 0.1f * (phi[j] > 0 ? phi[j] - pi : phi[j] + pi);
        cloth_logo(cloth, v, pixel, u, foot, p);
        EACH_LANE p[j] = absolute(phi[j]) > pi - 1.4f ? p[j] : 0.0f;
        mix_in(red, green, blue, cloth->logo_rgb, p);
    }
}

static inline void
cloth_straps(const rc_synth_cloth *cloth, float v, const lanes phi, const lanes foot,
             lanes red, lanes green, lanes blue)
{
    lanes p;
    if (cloth->pack && v < 0.17f) {
        EACH_LANE {
            float away = absolute(absolute(phi[j]) - 0.62f);
            p[j] = clamp01((0.13f - away) * 0.1f / foot[j] + 0.5f);
        }
        mix_in(red, green, blue, cloth->strap_rgb, p);
    }
    if (cloth->strap) { /* over the chest from one shoulder to the other hip, and behind */
        float side = cloth->strap > 0 ? 0.11f : -0.11f;
        const float pi = (float)RC_PI;
        EACH_LANE {
            float behind = phi[j] > 0 ? pi - phi[j] : -pi - phi[j];
            float a = absolute(phi[j]) > 0.5f * pi ? behind : phi[j];
            p[j] = clamp01((0.013f - absolute(side * a - (v - 0.13f))) / foot[j] + 0.5f);
        }
        mix_in(red, green, blue, cloth->strap_rgb, p);
    }
}

/* Details that every garment of a kind has: collar, zip, hood seam, a darker hem. */
static inline void
cloth_details(const rc_synth_cloth *cloth, const float rgb[3], float v, const lanes phi,
              lanes red, lanes green, lanes blue)
{
    lanes p;
    if (cloth->tank && v < 0.07f) {
        EACH_LANE {
            float turn = absolute(phi[j]), side = absolute(turn - 0.5f * (float)RC_PI);
            p[j] = side < 0.6435f ? 1.0f : 0.0f; /* |sin phi| > 0.8 */
        }
        mix_in(red, green, blue, cloth->skin, p);
    }
    if (cloth->open && v < 0.26f) {
        EACH_LANE p[j] = absolute(phi[j]) < 0.32f ? 1.0f : 0.0f;
        mix_in(red, green, blue, cloth->inner_rgb, p);
        const float dark[3] = {0.6f * rgb[0], 0.6f * rgb[1], 0.6f * rgb[2]};
        EACH_LANE p[j] = absolute(absolute(phi[j]) - 0.36f) < 0.05f ? 1.0f : 0.0f;
        mix_in(red, green, blue, dark, p);
    }
    if (cloth->collar && v < 0.028f) { /* a round neckline shows some skin */
        float w = v * (1.0f / 0.028f);
        EACH_LANE p[j] = clamp01((0.55f * (1.0f - w * w) - absolute(phi[j])) * 8.0f);
        mix_in(red, green, blue, cloth->skin, p);
    }
    if (cloth->hood && v < 0.05f) {
        const float dark[3] = {0.72f * rgb[0], 0.72f * rgb[1], 0.72f * rgb[2]};
        float w = v * 20.0f;
        EACH_LANE p[j] = 0.8f * clamp01((absolute(phi[j]) - 1.6f - w) * 4.0f);
        mix_in(red, green, blue, dark, p);
    }
}

static void
cloth_color(const rc_synth_cloth *cloth, const float rgb[3], float v, float pixel,
            float half, const lanes s, const lanes f, lanes red, lanes green, lanes blue)
{
    const double pi = RC_PI;
    const float turn = 0.1f / half; /* 0.1 phi per pixel in the middle */
    lanes phi, foot, p, fold;
    EACH_LANE foot[j] = turn / sqrtf(1.02f - s[j] * s[j]);
    EACH_LANE {
        double a = rc_synth_asin((double)s[j]) - (double)cloth->yaw;
        a = a > pi ? a - 2 * pi : a;
        phi[j] = (float)(a < -pi ? a + 2 * pi : a);
    }
    EACH_LANE red[j] = rgb[0];
    EACH_LANE green[j] = rgb[1];
    EACH_LANE blue[j] = rgb[2];
    if (cloth_pattern(cloth, v, pixel, phi, foot, p)) {
        mix_in(red, green, blue, cloth->rgb2, p);
    }
    cloth_details(cloth, rgb, v, phi, red, green, blue);
    if (v < 0.115f + 1.3f * cloth->logo_size && v > 0.115f - 1.3f * cloth->logo_size) {
        cloth_logos(cloth, v, pixel, phi, foot, red, green, blue);
    }
    cloth_straps(cloth, v, phi, foot, red, green, blue);
    double f0 = rc_synth_sin((double)cloth->folds[0]), f2 = rc_synth_sin((double)cloth->folds[2]);
    double a0 = 38 * (double)v + (double)cloth->folds[1], a1 = 21 * (double)v * f2;
    EACH_LANE {
        double t = s[j];
        fold[j] = (float)(1 + 0.05 * rc_synth_sin(a0 + 4 * t * f0)
                          + 0.05 * rc_synth_sin(5 * t + a1));
    }
    EACH_LANE red[j] *= fold[j] * f[j];
    EACH_LANE green[j] *= fold[j] * f[j];
    EACH_LANE blue[j] *= fold[j] * f[j];
}

#endif
