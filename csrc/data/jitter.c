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
    float h = most == r   ? db - dg
              : most == g ? (float)(2.0 + (double)dr - (double)db)
                          : (float)(4.0 + (double)dg - (double)dr);
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

/* What depends on one byte of hue or saturation alone, so that a pixel divides less. */
typedef struct hsv_tables {
    uint8_t sextant[256]; /* 0 .. 5 */
    double rest[256];     /* share of the middle colour's way down (odd sextants) or up */
    double saturation[256];
} hsv_tables;

static void
hsv_tables_init(hsv_tables *tables)
{
    for (int v = 0; v < 256; v++) {
        double place = (double)v * 6.0 / 255.0; /* 0 .. 6 */
        int sextant = (int)place;
        double f = (double)(float)(place - sextant);
        tables->sextant[v] = (uint8_t)(sextant % 6);
        tables->rest[v] = sextant % 2 ? f : 1.0 - f;
        tables->saturation[v] = (double)(float)((double)v / 255.0);
    }
}

static inline void
from_hsv(const hsv_tables *tables, int hue, int saturation, int value, uint8_t *rgb)
{
    /* Where the largest, the middle and the least colour are, by sextant. */
    static const uint8_t largest[6] = {0, 1, 1, 2, 2, 0}, middle[6] = {1, 0, 2, 1, 0, 2};
    int sextant = tables->sextant[hue], high = largest[sextant], mid = middle[sextant];
    double s = tables->saturation[saturation];
    rgb[high] = (uint8_t)value;
    rgb[mid] = to_byte(value * (1.0 - s * tables->rest[hue]));
    rgb[3 - high - mid] = to_byte(value * (1.0 - s));
}

static void
shift_hue(uint8_t *pixels, int64_t count, int shift)
{
    hsv_tables tables;
    hsv_tables_init(&tables);
    for (int64_t i = 0; i < count; i++) {
        int h, s, v;
        to_hsv(pixels + 3 * i, &h, &s, &v);
        from_hsv(&tables, (h + shift) & 255, s, v, pixels + 3 * i);
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
