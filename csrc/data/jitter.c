/* Colour jitter on bytes as torchvision does it with Pillow images (spec/common.md 4): each of
 * the operations ends in bytes again, so their order matters.
 *
 * Blends are trunc(d + factor * (x - d)) in float, clipped; d is black, the rounded mean grey
 * of the picture, or the pixel's own grey. With a constant d a table of 256 bytes does it.
 * Hue goes through Pillow's 8-bit HSV, whose roundings (which step is float, which double) are
 * followed step by step: the byte results depend on them. */
#include "data/data_impl.h"

#include <math.h>

static inline uint8_t
blend(int d, int x, float factor)
{
    float v = (float)d + factor * (float)(x - d);
    return v <= 0.0f ? 0 : v >= 255.0f ? 255 : (uint8_t)v;
}

static inline int
grey(const uint8_t *p)
{
    return (19595 * p[0] + 38470 * p[1] + 7471 * p[2] + 32768) >> 16;
}

static void
blend_with_constant(uint8_t *pixels, int64_t count, int d, float factor)
{
    uint8_t table[256];
    for (int v = 0; v < 256; v++) {
        table[v] = blend(d, v, factor);
    }
    for (int64_t i = 0; i < 3 * count; i++) {
        pixels[i] = table[pixels[i]];
    }
}

static int
mean_grey(const uint8_t *pixels, int64_t count)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < count; i++) {
        sum += grey(pixels + 3 * i);
    }
    return (int)((double)sum / (double)count + 0.5);
}

static void
blend_with_grey(uint8_t *pixels, int64_t count, float factor)
{
    for (int64_t i = 0; i < count; i++) {
        uint8_t *p = pixels + 3 * i;
        int d = grey(p);
        p[0] = blend(d, p[0], factor);
        p[1] = blend(d, p[1], factor);
        p[2] = blend(d, p[2], factor);
    }
}

/* ---- hue --------------------------------------------------------------------------------- */

static inline void
to_hsv(const uint8_t *rgb, int *hue, int *saturation, int *value)
{
    int r = rgb[0], g = rgb[1], b = rgb[2];
    int most = r > g ? (r > b ? r : b) : (g > b ? g : b);
    int least = r < g ? (r < b ? r : b) : (g < b ? g : b);
    *value = most;
    *hue = 0;
    *saturation = 0;
    if (most == least) {
        return;
    }
    float range = (float)(most - least);
    float dr = (float)(most - r) / range, dg = (float)(most - g) / range;
    float db = (float)(most - b) / range;
    float h;
    if (most == r) {
        h = db - dg;
    } else if (most == g) {
        h = (float)(2.0 + (double)dr - (double)db);
    } else {
        h = (float)(4.0 + (double)dg - (double)dr);
    }
    double turned = (double)h / 6.0 + 1.0; /* in [0.8, 1.9]: its fraction is the hue */
    h = (float)(turned >= 1.0 ? turned - 1.0 : turned);
    *hue = (int)((double)h * 255.0);
    *saturation = (int)((double)(range / (float)most) * 255.0);
}

static inline uint8_t
to_byte(double v) /* nearest, halves away from zero; 0 <= v <= 255 */
{
    int i = (int)(v + 0.5);
    return (uint8_t)(i > 255 ? 255 : i);
}

static inline void
from_hsv(int hue, int saturation, int value, uint8_t *rgb)
{
    double place = (double)hue * 6.0 / 255.0; /* 0 .. 6 */
    int sextant = (int)place;
    float f = (float)(place - sextant), s = (float)((double)saturation / 255.0);
    uint8_t v = (uint8_t)value;
    uint8_t p = to_byte(value * (1.0 - (double)s));
    uint8_t q = to_byte(value * (1.0 - (double)s * (double)f));
    uint8_t t = to_byte(value * (1.0 - (double)s * (1.0 - (double)f)));
    const uint8_t colours[6][3] = {{v, t, p}, {q, v, p}, {p, v, t},
                                   {p, q, v}, {t, p, v}, {v, p, q}};
    const uint8_t *colour = colours[sextant % 6];
    rgb[0] = colour[0];
    rgb[1] = colour[1];
    rgb[2] = colour[2];
}

static void
shift_hue(uint8_t *pixels, int64_t count, int shift)
{
    for (int64_t i = 0; i < count; i++) {
        int h, s, v;
        to_hsv(pixels + 3 * i, &h, &s, &v);
        from_hsv((h + shift) & 255, s, v, pixels + 3 * i);
    }
}

void
rc_jitter_apply(uint8_t *pixels, int64_t count, int op, double factor)
{
    switch (op) {
    case RC_JITTER_BRIGHTNESS: blend_with_constant(pixels, count, 0, (float)factor); break;
    case RC_JITTER_CONTRAST:
        blend_with_constant(pixels, count, mean_grey(pixels, count), (float)factor);
        break;
    case RC_JITTER_SATURATION: blend_with_grey(pixels, count, (float)factor); break;
    case RC_JITTER_HUE: shift_hue(pixels, count, (int)(factor * 255.0)); break;
    default: break;
    }
}
