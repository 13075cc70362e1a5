/* Cameras and their plates: the synthetic set page, section 4.
 *
 * A camera is its colour response, sharpness, place and habits; a plate is the empty place it
 * looks at, 384 x 288, four for each camera, drawn once and kept as bytes in planes. */
#include "synth/synth_impl.h"

enum {
    SLOT_GAIN, SLOT_GAMMA = 3, SLOT_BRIGHTNESS, SLOT_CONTRAST, SLOT_SATURATION, SLOT_HAZE,
    SLOT_BLUR, SLOT_NOISE, SLOT_SCALE, SLOT_QUALITY, SLOT_PITCH, SLOT_DIRECTION, SLOT_LIGHT,
    SLOT_LAMBERT, SLOT_OBSTACLE,
};

void
rc_synth_camera_draw(uint64_t seed, int camera, double level, bool occluded,
                     rc_synth_camera *out)
{
    uint64_t s = rc_random_stream(seed, KIND_CAMERA, (uint64_t)camera, 0, 0);
    static const double spread[3] = {0.16, 0.05, 0.16};
    for (int i = 0; i < 3; i++) {
        out->gain[i] = rc_synth_exp(level * rc_synth_n(s, SLOT_GAIN + i, 0, spread[i]));
    }
    out->gamma = rc_synth_exp(level * rc_synth_n(s, SLOT_GAMMA, 0, 0.22));
    out->brightness = rc_synth_exp(level * rc_synth_n(s, SLOT_BRIGHTNESS, 0, 0.18));
    out->contrast = rc_synth_exp(level * rc_synth_n(s, SLOT_CONTRAST, 0, 0.15));
    out->saturation = rc_synth_pow(rc_synth_range(s, SLOT_SATURATION, 0.55, 1.15), level);
    out->haze = level * rc_synth_range(s, SLOT_HAZE, 0, 0.12);
    out->blur = level * rc_synth_range(s, SLOT_BLUR, 0.3, 1.3);
    out->noise = level * rc_synth_range(s, SLOT_NOISE, 0.005, 0.03);
    out->scale = rc_synth_range(s, SLOT_SCALE, 0.35, 1);
    out->quality = 25 + rc_synth_below(s, SLOT_QUALITY, 55);
    out->pitch = rc_synth_range(s, SLOT_PITCH, 0, 22 * RC_PI / 180);
    out->direction = rc_synth_range(s, SLOT_DIRECTION, 0, 2 * RC_PI);
    out->light = rc_synth_range(s, SLOT_LIGHT, -1, 1);
    out->lambert = rc_synth_range(s, SLOT_LAMBERT, 0.15, 0.45);
    out->obstacle = level * rc_synth_range(s, SLOT_OBSTACLE, 0.05, 0.25);
    if (occluded && out->obstacle < 0.05) {
        out->obstacle = 0.05;
    }
    for (int i = 0; i < RC_SYNTH_CURVE + 2; i++) {
        out->curve[i] = (float)rc_synth_pow(1.5 * i / RC_SYNTH_CURVE, out->gamma);
    }
}

/* ---- plates ------------------------------------------------------------------------------ */

enum { /* slots of a plate; the lists have room for their longest case */
    PLATE_HORIZON, PLATE_WALL, PLATE_WALL_GREY, PLATE_GROUND, PLATE_GRASS_FACTOR, PLATE_GRASS,
    PLATE_TILES, PLATE_K1, PLATE_K2, PLATE_DARK, PLATE_BOXES, PLATE_BOX,
    PLATE_POSTS = PLATE_BOX + 9 * 6, PLATE_POST, PLATE_LEAVES = PLATE_POST + 3 * 4,
    PLATE_LEAF_FACTOR, PLATE_LEAF_KEYS, PLATE_LIGHT_KEY = PLATE_LEAF_KEYS + 2, PLATE_GRAIN_KEY,
};

typedef float plate_image[3][PLATE_H][PLATE_W];

static float
lattice(uint32_t key, int row, int column)
{
    return (float)(rc_synth_mix32(key + (uint32_t)(row * 1024 + column)) >> 8) * 0x1p-24f;
}

/* Value noise: lattice values, between them bilinear with t^2 (3 - 2t). */
static float
noise(uint32_t key, float cell, int y, int x)
{
    float fy = (float)y / cell, fx = (float)x / cell;
    int iy = (int)fy, ix = (int)fx;
    float ty = fy - (float)iy, tx = fx - (float)ix;
    ty = ty * ty * (3 - 2 * ty);
    tx = tx * tx * (3 - 2 * tx);
    float a = lattice(key, iy, ix), b = lattice(key, iy, ix + 1);
    float c = lattice(key, iy + 1, ix), d = lattice(key, iy + 1, ix + 1);
    float top = a + tx * (b - a), bottom = c + tx * (d - c);
    return top + ty * (bottom - top);
}

static void
fill(plate_image image, int y0, int y1, int x0, int x1, const float rgb[3])
{
    y0 = y0 < 0 ? 0 : y0;
    x0 = x0 < 0 ? 0 : x0;
    for (int c = 0; c < 3; c++) {
        for (int y = y0; y < y1 && y < PLATE_H; y++) {
            for (int x = x0; x < x1 && x < PLATE_W; x++) {
                image[c][y][x] = rgb[c];
            }
        }
    }
}

static void
draw_ground(uint64_t s, int horizon, plate_image image)
{
    float wall[3], ground[3];
    static const float grass[3] = {0.32f, 0.42f, 0.22f};
    rc_synth_palette_get(rc_synth_below(s, PLATE_WALL, 20), wall);
    float grey = (float)rc_synth_range(s, PLATE_WALL_GREY, 0, 0.3);
    float floor_grey = (float)rc_synth_range(s, PLATE_GROUND, 0.3, 0.65);
    float factor = (float)rc_synth_range(s, PLATE_GRASS_FACTOR, 0.7, 1.2);
    bool is_grass = rc_synth_u(s, PLATE_GRASS) < 0.25;
    for (int i = 0; i < 3; i++) {
        wall[i] = wall[i] * 0.5f + grey;
        ground[i] = is_grass ? grass[i] * factor : floor_grey;
    }
    fill(image, 0, horizon, 0, PLATE_W, wall);
    fill(image, horizon, PLATE_H, 0, PLATE_W, ground);
    if (rc_synth_u(s, PLATE_TILES) >= 0.7) {
        return;
    }
    double k1 = rc_synth_range(s, PLATE_K1, 8, 20), k2 = rc_synth_range(s, PLATE_K2, 0.05, 0.12);
    float dark = 1 - (float)rc_synth_range(s, PLATE_DARK, 0.04, 0.2);
    for (int y = horizon; y < PLATE_H; y++) {
        double depth = 40.0 / (y - horizon + 14);
        int64_t row = (int64_t)rc_synth_floor(k1 * depth);
        for (int x = 0; x < PLATE_W; x++) {
            int64_t column = (int64_t)rc_synth_floor((x - PLATE_W / 2) * k2 * depth);
            if ((row + column) & 1) {
                for (int c = 0; c < 3; c++) {
                    image[c][y][x] *= dark;
                }
            }
        }
    }
}

static void
draw_things(uint64_t s, int horizon, plate_image image)
{
    int boxes = 3 + rc_synth_below(s, PLATE_BOXES, 7);
    for (int i = 0; i < boxes; i++) {
        int slot = PLATE_BOX + 6 * i;
        float rgb[3];
        int w = (int)rc_synth_range(s, slot, 12, 90), h = (int)rc_synth_range(s, slot + 1, 12, 120);
        int x = (int)rc_synth_range(s, slot + 2, -w / 2, PLATE_W - w / 2);
        int bottom = (int)rc_synth_range(s, slot + 3, 12, horizon + 40);
        rc_synth_palette_get(rc_synth_below(s, slot + 4, 20), rgb);
        float factor = (float)rc_synth_range(s, slot + 5, 0.5, 1);
        for (int c = 0; c < 3; c++) {
            rgb[c] *= factor;
        }
        fill(image, bottom - h, bottom, x, x + w, rgb);
    }
    int posts = rc_synth_below(s, PLATE_POSTS, 4);
    for (int i = 0; i < posts; i++) {
        int slot = PLATE_POST + 4 * i;
        int x = (int)rc_synth_range(s, slot, 0, PLATE_W), w = 2 + rc_synth_below(s, slot + 1, 7);
        float grey = (float)rc_synth_range(s, slot + 2, 0.1, 0.6);
        int bottom = horizon + (int)rc_synth_range(s, slot + 3, 0, 120);
        fill(image, 0, bottom, x, x + w, (const float[3]){grey, grey, grey});
    }
}

static void
draw_leaves(uint64_t s, int horizon, plate_image image)
{
    if (rc_synth_u(s, PLATE_LEAVES) >= 0.5) {
        return;
    }
    static const float green[3] = {0.16f, 0.28f, 0.12f};
    float factor = (float)rc_synth_range(s, PLATE_LEAF_FACTOR, 0.6, 1.5);
    uint32_t coarse = (uint32_t)rc_random_step(s, PLATE_LEAF_KEYS);
    uint32_t fine = (uint32_t)rc_random_step(s, PLATE_LEAF_KEYS + 1);
    for (int y = 0; y < horizon + 30 && y < PLATE_H; y++) {
        for (int x = 0; x < PLATE_W; x++) {
            float n = 0.6f * noise(coarse, 16, y, x) + 0.4f * noise(fine, 5, y, x);
            float cover = (n - 0.55f) * 9.0f + 0.5f; /* leaves at the rim let light through */
            cover = cover < 0 ? 0 : cover > 1 ? 1 : cover;
            float light = factor * (0.8f + 0.7f * noise(fine, 7, y, x) * (1.55f - n));
            for (int c = 0; c < 3 && cover > 0; c++) {
                image[c][y][x] += (green[c] * light - image[c][y][x]) * cover;
            }
        }
    }
}

/* Light and grain over everything, clipped to 0..1. */
static void
light_plate(uint64_t s, plate_image image)
{
    uint32_t light = (uint32_t)rc_random_step(s, PLATE_LIGHT_KEY);
    uint32_t grain = (uint32_t)rc_random_step(s, PLATE_GRAIN_KEY);
    for (int y = 0; y < PLATE_H; y++) {
        for (int x = 0; x < PLATE_W; x++) {
            float factor = 0.8f + 0.4f * noise(light, 48, y, x);
            float shift = 0.08f * (noise(grain, 3, y, x) - 0.5f);
            for (int c = 0; c < 3; c++) {
                float value = image[c][y][x] * factor + shift;
                image[c][y][x] = value < 0 ? 0 : value > 1 ? 1 : value;
            }
        }
    }
}

/* Binomial 1 4 6 4 1 along a line of n values `step` apart, edges repeated. */
static void
soften_line(float *line, int n, int step)
{
    float kept[PLATE_H + 4];
    for (int i = -2; i < n + 2; i++) {
        kept[i + 2] = line[(i < 0 ? 0 : i >= n ? n - 1 : i) * step];
    }
    for (int i = 0; i < n; i++) {
        const float *k = kept + i;
        line[i * step] = (k[0] + k[4] + 4 * (k[1] + k[3]) + 6 * k[2]) * (1.0f / 16);
    }
}

void
rc_synth_plate_draw(uint64_t seed, int camera, int plate, float *scratch, uint8_t *out)
{
    float(*image)[PLATE_H][PLATE_W] = (float(*)[PLATE_H][PLATE_W])scratch;
    uint64_t s = rc_random_stream(seed, KIND_PLATE, (uint64_t)camera, (uint64_t)plate, 0);
    int horizon = (int)rc_synth_range(s, PLATE_HORIZON, 0.12 * PLATE_H, 0.45 * PLATE_H);
    draw_ground(s, horizon, image);
    draw_things(s, horizon, image);
    draw_leaves(s, horizon, image);
    light_plate(s, image);
    /* Ours: the camera looks at the people, what is behind them is a little out of focus. */
    for (int c = 0; c < 3; c++) {
        for (int y = 0; y < PLATE_H; y++) {
            soften_line(image[c][y], PLATE_W, 1);
        }
        for (int x = 0; x < PLATE_W; x++) {
            soften_line(&image[c][0][x], PLATE_H, PLATE_W);
        }
    }
    for (int64_t i = 0; i < (int64_t)3 * PLATE_H * PLATE_W; i++) {
        out[i] = (uint8_t)(255 * scratch[i] + 0.5f);
    }
}
