/* Helpers of the pixel loops: 16 columns at a time, written so that the compiler turns each
 * loop of 16 into whole vectors. Everything is static: each instruction set has its own. */
#ifndef RC_SYNTH_LANES_H
#define RC_SYNTH_LANES_H

#include "synth/kernels/kernels.h"
#include "synth/mathf.h"

#define LANES 16
/* Not unrolled by hand of the compiler (it would do so before it vectorises, and then find
 * 16 scalar branches); lanes never depend on each other. */
#define EACH_LANE \
    _Pragma("GCC unroll 1") _Pragma("GCC ivdep") for (int j = 0; j < LANES; j++)

#define RC_JOIN_(a, b) a##__##b
#define RC_JOIN(a, b) RC_JOIN_(a, b)
#define RC_KERNEL(name) RC_JOIN(rc_synth_##name, RC_ISA)

typedef float lanes[LANES] __attribute__((aligned(64)));

static inline float
clamp01(float x)
{
    x = x < 0.0f ? 0.0f : x;
    return x > 1.0f ? 1.0f : x;
}

/* Shading of a round part at lateral place s in [-1, 1]. */
static inline float
shade(float s, float light, float lambert)
{
    float a = 0.8f * s - 0.5f * light;
    float b = 1.0f - a * a;
    b = b < 0.0f ? 0.0f : b;
    return (1.0f - lambert) + lambert * sqrtf(b);
}

typedef struct box { /* rows y0..y1, columns x0..x1 (multiples of 16), ends excluded */
    int y0, y1, x0, x1;
} box;

/* The part of the canvas that a shape reaching from (left, top) to (right, bottom) can touch. */
static inline box
box_of(const rc_synth_canvas *canvas, float left, float top, float right, float bottom)
{
    float w = (float)canvas->w, h = (float)canvas->h;
    left = left < 1.0f ? 1.0f : left > w ? w : left;
    right = right < 0.0f ? 0.0f : right > w - 1.0f ? w - 1.0f : right;
    top = top < 1.0f ? 1.0f : top > h ? h : top;
    bottom = bottom < 0.0f ? 0.0f : bottom > h - 1.0f ? h - 1.0f : bottom;
    box b = {.y0 = (int)top - 1, .y1 = (int)bottom + 1, .x0 = (int)left - 1,
             .x1 = (int)right + 1};
    b.x0 &= ~(LANES - 1);
    b.x1 = (b.x1 + LANES - 1) & ~(LANES - 1);
    return b;
}

/* canvas += (colour - canvas) * c, and the same in the mask. */
static inline void
blend(const rc_synth_canvas *canvas, int y, int x, const lanes c, const lanes r, const lanes g,
      const lanes b)
{
    int64_t at = (int64_t)y * canvas->stride + x;
    float opacity = canvas->opacity;
    lanes k;
    EACH_LANE k[j] = c[j] * opacity;
    const float *color[3] = {r, g, b};
    for (int i = 0; i < 3; i++) {
        float *p = canvas->plane[i] + at;
        lanes old;
        EACH_LANE old[j] = p[j];
        EACH_LANE old[j] += (color[i][j] - old[j]) * k[j];
        EACH_LANE p[j] = old[j];
    }
    if (canvas->mask) {
        float *m = canvas->mask + at, value = canvas->mask_value;
        EACH_LANE m[j] += (value - m[j]) * c[j];
    }
}

/* One colour times a factor for each lane. */
static inline void
blend_flat(const rc_synth_canvas *canvas, int y, int x, const lanes c, const float rgb[3],
           const lanes f)
{
    lanes r, g, b;
    EACH_LANE r[j] = rgb[0] * f[j];
    EACH_LANE g[j] = rgb[1] * f[j];
    EACH_LANE b[j] = rgb[2] * f[j];
    blend(canvas, y, x, c, r, g, b);
}

/* Is any coverage above 0? (A group without any changes nothing and may be left out.) */
static inline bool
any(const lanes c)
{
    int32_t found = 0;
    EACH_LANE found |= c[j] > 0.0f ? 1 : 0;
    return found != 0;
}

#endif
