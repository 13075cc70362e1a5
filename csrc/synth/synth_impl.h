/* What the files of csrc/synth share: people, cameras, the scene of one image.
 *
 * identity.c and camera.c turn hashes into tables, scene.c says what one image shows,
 * body.c and dress.c turn a person in a pose into shapes, render.c draws and photographs them
 * with the functions of kernels/, split.c lists the set. Lengths of a person are in body
 * heights. */
#ifndef RC_SYNTH_IMPL_H
#define RC_SYNTH_IMPL_H

#include <pthread.h>

#include "base/random.h"
#include "synth/kernels/kernels.h"
#include "synth/mathf.h"
#include "synth/synth.h"

enum { /* kinds of random numbers; the numbers are part of the set's definition */
    KIND_IDENTITY = 1,
    KIND_FAMILY,
    KIND_PLATE,
    KIND_CAMERA,
    KIND_IMAGE,
    KIND_SPLIT,
    KIND_PRESENCE,
    KIND_EXTRA,
    KIND_PASSERBY,
    KIND_NOISE,
};

enum { PLATE_H = 384, PLATE_W = 288, PLATES = 4, CROP_H = 256 };

/* ---- draws: one slot of a stream each ---------------------------------------------------- */

static inline double
rc_synth_u(uint64_t stream, int slot)
{
    return (double)(rc_random_step(stream, (uint64_t)slot) >> 40) * 0x1p-24;
}

static inline double
rc_synth_range(uint64_t stream, int slot, double a, double b)
{
    return a + (b - a) * rc_synth_u(stream, slot);
}

static inline double
rc_synth_n(uint64_t stream, int slot, double mean, double deviation)
{
    return mean + deviation * rc_normal4(rc_random_step(stream, (uint64_t)slot));
}

static inline int
rc_synth_below(uint64_t stream, int slot, int n)
{
    return (int)rc_below(rc_random_step(stream, (uint64_t)slot), n);
}

/* The first k whose cumulated weight exceeds U * (sum of weights). */
int rc_synth_choice(uint64_t stream, int slot, const int *weights, int count);

/* ---- identity.c ------------------------------------------------------------------------- */

enum { UPPER_TEE, UPPER_LONG, UPPER_JACKET, UPPER_HOODIE, UPPER_COAT, UPPER_DRESS, UPPER_TANK };
enum { LOWER_TROUSERS, LOWER_SHORTS, LOWER_SKIRT, LOWER_WIDE };
enum { HAIR_LONG, HAIR_PONY, HAIR_SHORT, HAIR_BUN, HAIR_CROP, HAIR_BALD };
enum { HAT_NONE, HAT_CAP, HAT_BEANIE };
enum { BAG_NONE, BAG_BACKPACK, BAG_SHOULDER, BAG_HAND };

typedef struct rc_synth_color {
    int name; /* place in the palette */
    float rgb[3];
} rc_synth_color;

typedef struct rc_synth_person {
    bool female, family;
    int upper, lower, pattern;
    rc_synth_color cu, cl, cu2;
    double period, duty, phase;
    bool logo, logo_back;
    int logo_shape;
    rc_synth_color logo_color, inner;
    double logo_size;
    double sleeve; /* 0, 1/2 or 1 */
    bool sleeve_cu2, sleeve_stripe, trouser_stripe, boots;
    rc_synth_color shoes;
    double skirt, shorts;
    int skin_name, hair_name, hair, hat, bag;
    float skin[3], hair_rgb[3];
    rc_synth_color hat_color, bag_color, bag_color2;
    int side; /* +1: the bag hangs on the person's left */
    double bag_size;
    bool bag_two;
    double shoulder, waist, hip_width, depth, head, hip, leg, slack;
} rc_synth_person;

void rc_synth_person_draw(uint64_t seed, int64_t pid, double twins, rc_synth_person *out);
void rc_synth_palette_get(int index, float rgb[3]);
void rc_synth_person_describe(const rc_synth_person *p, rc_synth_attributes *out);

/* ---- camera.c --------------------------------------------------------------------------- */

typedef struct rc_synth_camera {
    double gain[3], gamma, brightness, contrast, saturation, haze, blur, noise, scale;
    int quality;
    double pitch, direction, light, lambert, obstacle;
    float curve[RC_SYNTH_CURVE + 2]; /* x^gamma at x = 1.5 i / RC_SYNTH_CURVE */
    _Atomic(uint8_t *) plates;       /* (4,3,384,288), or NULL until needed */
} rc_synth_camera;

void rc_synth_camera_draw(uint64_t seed, int camera, double level, bool occluded,
                          rc_synth_camera *out);
/* scratch, out: (3,384,288) */
void rc_synth_plate_draw(uint64_t seed, int camera, int plate, float *scratch, uint8_t *out);

/* ---- scene.c: what one image shows ------------------------------------------------------- */

typedef struct rc_synth_figure {
    rc_synth_person person;
    double height, x, top; /* of the image's height, width, height */
    double yaw, phase, swing, folds[3];
    int arms; /* 0 free, 1 telephone, 2 pockets, 3 one arm bent */
} rc_synth_figure;

enum { OBSTACLE_NONE, OBSTACLE_POST, OBSTACLE_LOW, OBSTACLE_BUSH, OBSTACLE_SIDE };

typedef struct rc_synth_scene {
    int camera, plate, crop_row, crop_column, crop_width;
    bool mirrored;
    bool has_behind, has_target, has_front;
    rc_synth_figure behind, target, front;
    int obstacle;
    float obstacle_rgb[3];
    double obstacle_x, obstacle_y, obstacle_w; /* of W, H, W; post: x, half width in px */
    uint32_t bush_key[2];
    double light;
    double gain[3]; /* gains and brightness, jitter included */
    double slope;
    bool shadow;
    double shadow_angle, shadow_offset, shadow_factor;
    double scale, blur;
    int motion, quality;
    uint32_t noise_key;
} rc_synth_scene;

struct rc_synth {
    rc_synth_options options;
    int64_t *train_ids, *test_ids; /* ascending */
    int64_t count[3], distractors, junk;
    int64_t *rows[3]; /* (count,3) */
    rc_synth_camera *cameras;
    pthread_mutex_t lock; /* held while plates are drawn */
};

void rc_synth_scene_draw(const rc_synth *set, const int64_t row[3], rc_synth_scene *out);
bool rc_synth_is_test(const rc_synth *set, int64_t pid);

/* ---- body.c ------------------------------------------------------------------------------ */

/* Draws one person on the canvas; `lens` is the camera. */
void rc_synth_body_draw(const rc_synth_ops *ops, rc_synth_canvas *canvas,
                        const rc_synth_figure *figure, const rc_synth_camera *lens,
                        double light);
void rc_synth_contact_shadow(const rc_synth_ops *ops, rc_synth_canvas *canvas,
                             const rc_synth_figure *figure, const rc_synth_camera *lens);

#endif
