/* What one image shows: the tables of the image (kind 5), of its passers-by and obstacle
 * (kind 9) and of distractors and junk (kind 8). The synthetic set page, sections 5 and 9.
 * Everything is drawn whether it is used or not: a slot is a place, not a turn. */
#include "synth/synth_impl.h"

enum { /* kind 5 */
    SLOT_PLATE, SLOT_ROW, SLOT_COLUMN, SLOT_MIRROR, SLOT_HEIGHT, SLOT_X, SLOT_TOP, SLOT_CUT,
    SLOT_CUT_Z, SLOT_CUT_FEET, SLOT_YAW_CAMERA, SLOT_YAW_BACK, SLOT_YAW_N, SLOT_YAW_ANY,
    SLOT_LIGHT, SLOT_PHASE, SLOT_SWING, SLOT_SWING_WALK, SLOT_SWING_STAND, SLOT_ARMS,
    SLOT_BEHIND, SLOT_FRONT, SLOT_FRONT_KIND, SLOT_GAIN, SLOT_BRIGHTNESS = SLOT_GAIN + 3,
    SLOT_SLOPE, SLOT_SLOPE_U, SLOT_SHADOW, SLOT_SHADOW_ANGLE, SLOT_SHADOW_OFFSET,
    SLOT_SHADOW_FACTOR, SLOT_SCALE, SLOT_BLUR, SLOT_MOTION, SLOT_MOTION_N, SLOT_QUALITY,
    SLOT_FOLDS,
};

enum { /* kind 9 */
    NEAR_BEHIND = 0, NEAR_FRONT = 14, NEAR_OBSTACLE = 28, NEAR_POST = 30, NEAR_LOW = 32,
    NEAR_SIDE = 35, NEAR_BUSH = 38,
};
enum { /* of a passer-by, from NEAR_BEHIND or NEAR_FRONT */
    WALKER_ID, WALKER_SIDE, WALKER_OFFSET, WALKER_TOP, WALKER_HEIGHT, WALKER_YAW, WALKER_PHASE,
    WALKER_SWING, WALKER_SWING_WALK, WALKER_SWING_STAND, WALKER_ARMS, WALKER_FOLDS,
};

enum { /* kind 8 */
    EXTRA_CAMERA, EXTRA_TYPE, EXTRA_ID, EXTRA_OBSTACLE, EXTRA_OBSTACLE_KIND, EXTRA_WALKER,
    EXTRA_HEIGHT, EXTRA_X, EXTRA_TOP, EXTRA_SIDE, EXTRA_OFFSET, EXTRA_TALL, EXTRA_TALL_TOP,
};

/* Ours: pictures are exposed a little above the drawing's colours, so that their mean lies
 * where the page's section 10.4 wants it. */
static const double EXPOSURE = 1.07;

static double
sign(uint64_t s, int slot)
{
    return rc_synth_u(s, slot) < 0.5 ? -1 : 1;
}

static double
draw_swing(uint64_t s, int slot)
{
    return rc_synth_u(s, slot) < 0.75 ? rc_synth_range(s, slot + 1, 0.25, 0.55)
                                      : rc_synth_range(s, slot + 2, 0, 0.12);
}

static int
draw_arms(uint64_t s, int slot)
{
    return rc_synth_choice(s, slot, (const int[]){70, 12, 12, 6}, 4);
}

static int64_t
walker_identity(uint64_t s, int slot)
{
    return RC_SYNTH_PASSERBY + rc_synth_below(s, slot, 100000);
}

static void
draw_target(const rc_synth *set, uint64_t s, const rc_synth_camera *lens, rc_synth_figure *f)
{
    double level = set->options.level;
    f->height = 0.92 * rc_synth_exp(rc_synth_n(s, SLOT_HEIGHT, 0, 0.07 * level));
    f->x = 0.5 + rc_synth_n(s, SLOT_X, 0, 0.06 * level);
    f->top = (1 - f->height) / 2 + rc_synth_n(s, SLOT_TOP, 0, 0.03 * level);
    if (rc_synth_u(s, SLOT_CUT) < 0.12 * level) {
        double z = rc_synth_range(s, SLOT_CUT_Z, 0.15, 0.4);
        if (rc_synth_u(s, SLOT_CUT_FEET) < 0.7) {
            f->height *= 1 + z;
            f->top = 0.03;
        } else {
            f->height *= 1 + 0.6 * z;
            f->top = 0.97 - f->height;
        }
    }
    f->yaw = rc_synth_range(s, SLOT_YAW_ANY, 0, 2 * RC_PI);
    if (rc_synth_u(s, SLOT_YAW_CAMERA) < 0.8) {
        f->yaw = lens->direction + (rc_synth_u(s, SLOT_YAW_BACK) < 0.45 ? RC_PI : 0)
                 + rc_synth_n(s, SLOT_YAW_N, 0, 0.5);
    }
    f->phase = rc_synth_range(s, SLOT_PHASE, 0, 2 * RC_PI);
    f->swing = draw_swing(s, SLOT_SWING);
    f->arms = draw_arms(s, SLOT_ARMS);
    for (int i = 0; i < 3; i++) {
        f->folds[i] = rc_synth_range(s, SLOT_FOLDS + i, 0, 2 * RC_PI);
    }
}

static void
draw_walker(const rc_synth *set, uint64_t s, int slot, const rc_synth_figure *target,
            rc_synth_figure *f)
{
    bool front = slot == NEAR_FRONT;
    rc_synth_person_draw(set->options.seed, walker_identity(s, slot + WALKER_ID), 0, &f->person);
    double offset = front ? rc_synth_range(s, slot + WALKER_OFFSET, 0.42, 0.62)
                          : rc_synth_range(s, slot + WALKER_OFFSET, 0.3, 0.6);
    f->x = target->x + sign(s, slot + WALKER_SIDE) * offset;
    f->top = target->top + (front ? rc_synth_range(s, slot + WALKER_TOP, 0, 0.1)
                                  : rc_synth_n(s, slot + WALKER_TOP, -6, 12) / 256);
    f->height = target->height * (front ? rc_synth_range(s, slot + WALKER_HEIGHT, 0.95, 1.15)
                                        : rc_synth_range(s, slot + WALKER_HEIGHT, 0.8, 1));
    f->yaw = rc_synth_range(s, slot + WALKER_YAW, 0, 2 * RC_PI);
    f->phase = rc_synth_range(s, slot + WALKER_PHASE, 0, 2 * RC_PI);
    f->swing = draw_swing(s, slot + WALKER_SWING);
    f->arms = draw_arms(s, slot + WALKER_ARMS);
    for (int i = 0; i < 3; i++) {
        f->folds[i] = rc_synth_range(s, slot + WALKER_FOLDS + i, 0, 2 * RC_PI);
    }
}

static void
draw_obstacle(uint64_t s, int kind, rc_synth_scene *out)
{
    out->obstacle = kind;
    rc_synth_palette_get(rc_synth_below(s, NEAR_OBSTACLE, 20), out->obstacle_rgb);
    float factor = (float)rc_synth_range(s, NEAR_OBSTACLE + 1, 0.5, 1);
    for (int i = 0; i < 3; i++) {
        out->obstacle_rgb[i] *= factor;
    }
    switch (kind) {
    case OBSTACLE_POST:
        out->obstacle_x = rc_synth_range(s, NEAR_POST, 0.1, 0.9);
        out->obstacle_w = rc_synth_range(s, NEAR_POST + 1, 3, 9);
        break;
    case OBSTACLE_LOW:
        out->obstacle_y = rc_synth_range(s, NEAR_LOW, 0.62, 0.85);
        out->obstacle_x = rc_synth_range(s, NEAR_LOW + 1, 0.3, 0.7);
        out->obstacle_w = rc_synth_range(s, NEAR_LOW + 2, 0.4, 0.8);
        break;
    case OBSTACLE_SIDE:
        out->obstacle_x = sign(s, NEAR_SIDE) < 0 ? -0.05 : 1.05;
        out->obstacle_y = rc_synth_range(s, NEAR_SIDE + 1, 0.3, 0.6);
        out->obstacle_w = rc_synth_range(s, NEAR_SIDE + 2, 0.2, 0.4);
        break;
    default: /* bush */
        out->obstacle_x = sign(s, NEAR_BUSH) < 0 ? 0 : 1;
        out->bush_key[0] = (uint32_t)rc_random_step(s, NEAR_BUSH + 1);
        out->bush_key[1] = (uint32_t)rc_random_step(s, NEAR_BUSH + 2);
    }
}

static void
draw_photograph(const rc_synth *set, uint64_t s, const rc_synth_camera *lens,
                rc_synth_scene *out)
{
    double level = set->options.level;
    out->plate = rc_synth_below(s, SLOT_PLATE, PLATES);
    out->crop_width = (int)((CROP_H * set->options.width + set->options.height / 2)
                            / set->options.height);
    out->crop_width = out->crop_width > PLATE_W ? PLATE_W : out->crop_width;
    out->crop_row = rc_synth_below(s, SLOT_ROW, PLATE_H - CROP_H + 1);
    out->crop_column = rc_synth_below(s, SLOT_COLUMN, PLATE_W - out->crop_width + 1);
    out->mirrored = rc_synth_u(s, SLOT_MIRROR) < 0.5;
    out->light = rc_synth_clamp(lens->light + rc_synth_n(s, SLOT_LIGHT, 0, 0.25), -1, 1);
    double brightness = lens->brightness
                        * rc_synth_exp(rc_synth_n(s, SLOT_BRIGHTNESS, 0, 0.12 * level));
    for (int i = 0; i < 3; i++) {
        out->gain[i] = EXPOSURE * brightness * lens->gain[i]
                       * rc_synth_exp(rc_synth_n(s, SLOT_GAIN + i, 0, 0.04 * level));
    }
    out->slope = rc_synth_u(s, SLOT_SLOPE) < 0.3
                     ? 0.45 * level * rc_synth_range(s, SLOT_SLOPE_U, -1, 1) : 0;
    out->shadow = rc_synth_u(s, SLOT_SHADOW) < 0.2;
    out->shadow_angle = rc_synth_range(s, SLOT_SHADOW_ANGLE, 0, 2 * RC_PI);
    out->shadow_offset = rc_synth_n(s, SLOT_SHADOW_OFFSET, 0, 40);
    out->shadow_factor = rc_synth_range(s, SLOT_SHADOW_FACTOR, 0.5, 0.8);
    out->scale = rc_synth_clamp(lens->scale * rc_synth_exp(rc_synth_n(s, SLOT_SCALE, 0, 0.25)),
                                0.22, 1);
    out->blur = lens->blur * rc_synth_exp(rc_synth_n(s, SLOT_BLUR, 0, 0.3));
    out->motion = rc_synth_u(s, SLOT_MOTION) < 0.1 * level
                      ? 3 + rc_synth_below(s, SLOT_MOTION_N, 5) : 0;
    out->quality = (int)rc_synth_rint(rc_synth_clamp(
        lens->quality + rc_synth_n(s, SLOT_QUALITY, 0, 6), 12, 95));
}

/* Distractors: half empty plates, a quarter large parts of passers-by, a quarter whole ones. */
static void
draw_distractor(const rc_synth *set, uint64_t e, uint64_t near, rc_synth_scene *out)
{
    int type = rc_synth_below(e, EXTRA_TYPE, 4);
    out->has_target = type >= 2;
    if (type < 2) {
        out->has_behind = out->has_front = false;
        out->obstacle = OBSTACLE_NONE;
        if (rc_synth_u(e, EXTRA_OBSTACLE) < 0.5) {
            draw_obstacle(near, 1 + rc_synth_below(e, EXTRA_OBSTACLE_KIND, 4), out);
        }
        return;
    }
    rc_synth_person_draw(set->options.seed, walker_identity(e, EXTRA_WALKER), 0,
                         &out->target.person);
    if (type == 2) {
        out->target.height *= rc_synth_range(e, EXTRA_HEIGHT, 2, 3.5);
        out->target.x = rc_synth_u(e, EXTRA_X);
        out->target.top = rc_synth_range(e, EXTRA_TOP, 0.5 - 0.8 * out->target.height, 0.4);
    }
}

/* Junk: a test identity badly boxed, off to a side or far too large. */
static void
draw_junk(const rc_synth *set, uint64_t e, rc_synth_scene *out)
{
    int64_t id = set->test_ids[rc_synth_below(e, EXTRA_ID, (int)set->options.test)];
    rc_synth_person_draw(set->options.seed, id, set->options.twins, &out->target.person);
    if (rc_synth_below(e, EXTRA_TYPE, 2) == 0) {
        out->target.x += sign(e, EXTRA_SIDE) * rc_synth_range(e, EXTRA_OFFSET, 0.35, 0.6);
    } else {
        out->target.height *= rc_synth_range(e, EXTRA_TALL, 1.8, 2.6);
        out->target.top = rc_synth_range(e, EXTRA_TALL_TOP, 0.9 - out->target.height, 0.1);
    }
}

void
rc_synth_scene_draw(const rc_synth *set, const int64_t row[3], rc_synth_scene *out)
{
    const rc_synth_options *o = &set->options;
    const uint64_t a = (uint64_t)row[0], b = (uint64_t)row[1], c = (uint64_t)row[2];
    const rc_synth_camera *lens = &set->cameras[row[1]];
    uint64_t s = rc_random_stream(o->seed, KIND_IMAGE, a, b, c);
    uint64_t near = rc_random_stream(o->seed, KIND_PASSERBY, a, b, c);
    out->camera = (int)row[1];
    out->noise_key = (uint32_t)rc_random(o->seed, KIND_NOISE, a, b, c, 0);
    draw_photograph(set, s, lens, out);
    draw_target(set, s, lens, &out->target);
    out->has_target = true;
    out->has_behind = rc_synth_u(s, SLOT_BEHIND) < 0.22 * o->level;
    double front = rc_synth_u(s, SLOT_FRONT);
    if (o->occluded && row[2] == 0 && row[0] < RC_SYNTH_DISTRACTOR
        && rc_synth_is_test(set, row[0])) {
        front *= lens->obstacle; /* an occluded query: always below the probability */
    }
    out->has_front = front >= lens->obstacle && front < lens->obstacle + 0.08 * o->level;
    out->obstacle = OBSTACLE_NONE;
    if (front < lens->obstacle) {
        draw_obstacle(near, 1 + rc_synth_below(s, SLOT_FRONT_KIND, 4), out);
    }
    if (row[0] >= RC_SYNTH_JUNK) {
        uint64_t j = a - (uint64_t)RC_SYNTH_JUNK + (1u << 20);
        draw_junk(set, rc_random_stream(o->seed, KIND_EXTRA, j, 0, 0), out);
    } else if (row[0] >= RC_SYNTH_DISTRACTOR) {
        uint64_t j = a - (uint64_t)RC_SYNTH_DISTRACTOR;
        draw_distractor(set, rc_random_stream(o->seed, KIND_EXTRA, j, 0, 0), near, out);
    } else {
        double twins = row[0] >= RC_SYNTH_PASSERBY ? 0 : o->twins;
        rc_synth_person_draw(o->seed, row[0], twins, &out->target.person);
    }
    if (out->has_behind) {
        draw_walker(set, near, NEAR_BEHIND, &out->target, &out->behind);
    }
    if (out->has_front) {
        draw_walker(set, near, NEAR_FRONT, &out->target, &out->front);
    }
}
