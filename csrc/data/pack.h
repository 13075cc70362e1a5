/* Pictures packed for a device (pack.c): what plan/feed.c puts into page-locked memory. */
#ifndef RC_PACK_H
#define RC_PACK_H

#include "data/data_impl.h"
#include "device/device.h"

/* Pixels that lie on the card already: bytes from picture to picture, column to column, colour to
 * colour; from row to row: the images' stride. */
typedef struct rc_pack_there {
    const uint8_t *pixels;
    int64_t picture, step, colour;
} rc_pack_there;

typedef struct rc_pack {
    rc_device_pictures head; /* bytes: what the block must have room for */
    const rc_image *images;  /* borrowed until it is written, as `there` */
    const rc_pack_there *there;
    rc_resize_set plain, larger;
    rc_device_resize *resizes; /* owned: of both sets */
    rc_normaliser normaliser;
} rc_pack;

/* n pictures to rule->height x rule->width, NHWC; `augment` NULL or without jitter (not looked at).
 * there NULL: pixels are copied, too. RC_ARGUMENT; RC_MEMORY. */
rc_status rc_pack_init(rc_pack *k, const rc_image *images, int64_t n, const rc_input_rule *rule,
                       const rc_augment *augment, const rc_pack_there *there,
                       rc_error *err) RC_CHECK_RESULT;
/* Into k->head.bytes bytes, at a multiple of 16; from then on k->head describes them. */
void rc_pack_write(rc_pack *k, char *block);
void rc_pack_fini(rc_pack *k); /* an all-zero one is fine */

#endif
