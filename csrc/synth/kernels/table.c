/* The table of this instruction set's loops. */
#include "synth/kernels/lanes.h"

#define DECLARE(name, ...) void RC_KERNEL(name)(__VA_ARGS__);
DECLARE(plate, const rc_synth_canvas *, const uint8_t *, int, int, const rc_synth_axis *,
        const rc_synth_axis *, float *)
DECLARE(capsule, const rc_synth_canvas *, const rc_synth_capsule *)
DECLARE(ellipse, const rc_synth_canvas *, const rc_synth_ellipse *)
DECLARE(profile, const rc_synth_canvas *, const rc_synth_profile *)
DECLARE(head, const rc_synth_canvas *, const rc_synth_head *)
DECLARE(bush, const rc_synth_canvas *, const rc_synth_bush *)
DECLARE(tone, const rc_synth_canvas *, const rc_synth_tone *)
DECLARE(enlarge, const float *, int, const rc_synth_axis *, const rc_synth_axis *, float *, int,
        float *)
DECLARE(blur, float *, int, int, int, const float *, int, float *)
DECLARE(box, float *, int, int, int, int, float *)
DECLARE(jpeg, float *const[3], int, int, int, const float *, uint8_t *, float *)

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

const rc_synth_ops RC_KERNEL(ops) = {
    .plate = RC_KERNEL(plate),
    .capsule = RC_KERNEL(capsule),
    .ellipse = RC_KERNEL(ellipse),
    .profile = RC_KERNEL(profile),
    .head = RC_KERNEL(head),
    .bush = RC_KERNEL(bush),
    .tone = RC_KERNEL(tone),
    .enlarge = RC_KERNEL(enlarge),
    .blur = RC_KERNEL(blur),
    .box = RC_KERNEL(box),
    .jpeg = RC_KERNEL(jpeg),
    .name = TEXT(RC_ISA),
};
