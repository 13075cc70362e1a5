/* The pixel loops of the synthetic set, built once per instruction set from the same source
 * without contraction, so that all of them give the same bits (kernels.c picks by
 * rc_isa_get). Coordinates are in pixels of the canvas, pixel (row i, column j) has its
 * centre at (j + 0.5, i + 0.5). Every function works in whole groups of 16 columns: strides
 * are multiples of 16 and the columns behind the image's width are scratch. */
#ifndef RC_SYNTH_KERNELS_H
#define RC_SYNTH_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

enum { RC_SYNTH_CURVE = 1024, RC_SYNTH_ROWS = 12, RC_SYNTH_TAPS = 12, RC_SYNTH_PAD = 16 };

typedef struct rc_synth_canvas {
    float *plane[3];  /* (h, stride), values 0..1 and a little beyond */
    float *mask;      /* (h, stride) or NULL: coverage of the target */
    float mask_value; /* what shapes drawn now leave in the mask: 1 target, 0 others */
    int w, h, stride;
    float light, lambert; /* light position -1..1 and weight of the shading */
    float opacity;        /* 1, or less for shadows */
} rc_synth_canvas;

enum { RC_SYNTH_PLAIN, RC_SYNTH_STRIPE, RC_SYNTH_RINGS };

typedef struct rc_synth_capsule {
    float x0, y0, x1, y1, r0, r1;
    float rgb[3], rgb2[3];
    int style;                    /* stripe: |s| < 0.25; rings: frac(t * rate + phase) < duty */
    float rate, phase, duty;
} rc_synth_capsule;

typedef struct rc_synth_ellipse {
    float x, y, a, b;
    float tilt_c, tilt_s; /* direction of the axis a: (c, s) */
    float below;          /* drawn only above this row */
    float rgb[3];
    bool shaded;
} rc_synth_ellipse;

enum {
    RC_SYNTH_NO_PATTERN,
    RC_SYNTH_HORIZONTAL,
    RC_SYNTH_PRINT,
    RC_SYNTH_CHECK,
    RC_SYNTH_BLOCK,
    RC_SYNTH_BAND,
    RC_SYNTH_CAMOUFLAGE,
    RC_SYNTH_VERTICAL,
    RC_SYNTH_DOTS,
};
enum { RC_SYNTH_DISC, RC_SYNTH_SQUARE, RC_SYNTH_BARS, RC_SYNTH_DIAMOND };

typedef struct rc_synth_cloth { /* what the trunk wears; v in body heights below the neck */
    float yaw, folds[3];
    int pattern;
    float rgb2[3], inverse_period, duty, phase;
    bool logo_front, logo_back, open, tank, pack, collar, hood;
    int logo_shape, strap; /* strap: 0, or the bag's side */
    float logo_rgb[3], logo_size, inner_rgb[3], skin[3], strap_rgb[3], hem;
} rc_synth_cloth;

typedef struct rc_synth_profile {
    int rows;
    float y[RC_SYNTH_ROWS], x[RC_SYNTH_ROWS], half[RC_SYNTH_ROWS]; /* y never decreases */
    float corner;                   /* radius of the corners */
    float rgb[3];
    float split, split_rgb[3];      /* from this row down the second colour */
    const rc_synth_cloth *cloth;    /* or NULL */
    float v0, v_rate;               /* v = (row - v0) * v_rate */
    bool shaded;
} rc_synth_profile;

typedef struct rc_synth_head {
    float x, y, a, b, yaw;
    float skin[3], hair[3];
    bool bald;
    float line; /* where the hair begins on the forehead */
} rc_synth_head;

typedef struct rc_synth_bush {
    uint32_t key[2];
    float x0, unit; /* column it grows from; canvas pixels per pixel of a height of 256 */
} rc_synth_bush;

typedef struct rc_synth_tone { /* native pixels through the camera */
    float gain[3], saturation, contrast, haze, noise;
    float slope;
    bool shadow;
    float shadow_x, shadow_y, shadow_offset, shadow_factor;
    const float *curve; /* RC_SYNTH_CURVE + 2 values over [0, 1.5] */
    uint32_t noise_key;
} rc_synth_tone;

typedef struct rc_synth_axis { /* bilinear: out[i] = in[at[i]] + f[i] (in[at[i] + 1] - in[at[i]]) */
    int n;
    int32_t *at;
    float *f;
} rc_synth_axis;

typedef struct rc_synth_ops {
    /* plate: 3 planes of (384, 288) bytes; axes over the canvas, `at` counted in the plate. */
    void (*plate)(const rc_synth_canvas *canvas, const uint8_t *plate, int plate_h, int plate_w,
                  const rc_synth_axis *rows, const rc_synth_axis *columns, float *tmp);
    void (*capsule)(const rc_synth_canvas *canvas, const rc_synth_capsule *shape);
    void (*ellipse)(const rc_synth_canvas *canvas, const rc_synth_ellipse *shape);
    void (*profile)(const rc_synth_canvas *canvas, const rc_synth_profile *shape);
    void (*head)(const rc_synth_canvas *canvas, const rc_synth_head *shape);
    void (*bush)(const rc_synth_canvas *canvas, const rc_synth_bush *shape);
    void (*tone)(const rc_synth_canvas *canvas, const rc_synth_tone *tone);
    /* in: (h, stride) → out: (rows.n, out_stride); tmp: 2 * out_stride floats. */
    void (*enlarge)(const float *in, int stride, const rc_synth_axis *rows,
                    const rc_synth_axis *columns, float *out, int out_stride, float *tmp);
    /* In place; weights[0..radius], symmetric; tmp: h * stride + stride + 2 * PAD floats. */
    void (*blur)(float *plane, int w, int h, int stride, const float *weights, int radius,
                 float *tmp);
    void (*box)(float *plane, int w, int h, int stride, int length, float *tmp);
    /* Through 4:2:0 JPEG without entropy coding; quant: luma 64, chroma 64 (row major). */
    void (*jpeg)(float *const plane[3], int w, int h, int stride, const float *quant,
                 uint8_t *out, float *tmp);
    const char *name;
} rc_synth_ops;

extern const rc_synth_ops rc_synth_ops__generic;
#if defined(__x86_64__)
extern const rc_synth_ops rc_synth_ops__avx2;
extern const rc_synth_ops rc_synth_ops__avx512;
#endif
const rc_synth_ops *rc_synth_ops_get(void);

#endif
