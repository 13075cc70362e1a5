/* The embedded data set: people that the package draws itself (the synthetic set page).
 *
 * Every image is drawn alone from integers (seed, identity, camera, index), with the same
 * bytes for every instruction set and any number of threads. An image is named by a row of
 * three integers (a, b, c): identity 1.., camera 0.., index 0..; a >= 2^32 names the extra
 * gallery images: 2^32 + j the j-th distractor, 2^33 + j the j-th junk image (c = 0). */
#ifndef RC_SYNTH_H
#define RC_SYNTH_H

#include "base/base.h"

typedef struct rc_synth rc_synth;

typedef struct rc_synth_options {
    int64_t train, test;   /* identities, each >= 1, together below 2^20 */
    int64_t cameras;       /* 2..64 */
    uint64_t seed;
    double level, twins;   /* nuisance in [0, 2]; likeness of people in [0, 1] */
    int64_t height, width; /* multiples of 16, 32..2048 */
    bool occluded;         /* every query has something in front of the person */
} rc_synth_options;

typedef enum rc_synth_split {
    RC_SYNTH_TRAIN,
    RC_SYNTH_QUERY,
    RC_SYNTH_GALLERY,
} rc_synth_split;

#define RC_SYNTH_DISTRACTOR ((int64_t)1 << 32)
#define RC_SYNTH_JUNK ((int64_t)1 << 33)
#define RC_SYNTH_PASSERBY ((int64_t)1 << 20) /* identities that walk through other images */

/* What is fixed about a person, as words; colours also as sRGB values 0..1. */
typedef struct rc_synth_attributes {
    const char *sex, *upper, *lower, *upper_color, *lower_color, *pattern, *second_color;
    const char *logo, *logo_color, *inner_color, *sleeve, *shoes_color, *skin, *hair_color;
    const char *hair, *hat, *hat_color, *bag, *bag_color, *bag_side, *bag_second_color;
    bool logo_on_back, sleeve_in_second_color, sleeve_stripe, trouser_stripe, boots;
    bool bag_two_coloured, from_family;
    float upper_rgb[3], lower_rgb[3], second_rgb[3], logo_rgb[3];
    float period, duty, phase, shoulder, waist, hip, head;
} rc_synth_attributes;

/* Lists the set; plates are drawn at the first image of their camera. */
rc_status rc_synth_new(const rc_synth_options *options, rc_synth **out, rc_error *err)
    RC_CHECK_RESULT;
void rc_synth_free(rc_synth *set); /* NULL is fine */
const rc_synth_options *rc_synth_options_get(const rc_synth *set);

int64_t rc_synth_count(const rc_synth *set, rc_synth_split split);
/* rows: (count,3)   pids, camids: (count); pid 0: distractor, -1: junk. */
void rc_synth_list(const rc_synth *set, rc_synth_split split, int64_t *rows, int64_t *pids,
                   int64_t *camids);

/* What to fill for n rows; members that are NULL are left out. */
typedef struct rc_synth_output {
    uint8_t *images; /* (n,height,width,3) */
    float *masks;    /* (n,height,width): the share of each pixel that shows the person */
    double *yaws;    /* (n): radians in [-pi, pi), 0 faces the camera; NaN: nobody there */
    double *visible; /* (n): the mean of the mask, the person's visible share of the image */
} rc_synth_output;

/* rows: (n,3). A row outside the set's ranges is RC_ARGUMENT and nothing is drawn. */
rc_status rc_synth_render(rc_synth *set, const int64_t *rows, int64_t n, int threads,
                          const rc_synth_output *out, rc_error *err) RC_CHECK_RESULT;

rc_status rc_synth_describe(const rc_synth *set, int64_t pid, rc_synth_attributes *out,
                            rc_error *err) RC_CHECK_RESULT;

#endif
