/* What each file of this folder, one instruction set each, gives to cpu/int8_conv.c: products of
 * tiles, and what becomes of their sums.
 *
 * A tile is some rows of the implicit matrix of activations, a fixed number of bytes apart; its
 * row is `runs` pieces of 4 * quads bytes, run_step apart (the lines under a window). It meets a
 * panel of PANEL output channels: for each 64 bytes of a row two blocks, of 16 channels each, of
 * 16 x 16 groups of four weights: b[row byte / 4][channel][row byte % 4]; where rows are widened, 32 x
 * 16 groups of two. Weights beyond the last piece are 0, up to a multiple of 64 bytes. */
#ifndef RC_INT8_TILE_H
#define RC_INT8_TILE_H

#include <stdbool.h>
#include <stdint.h>

#include "cpu/int8.h"

#define PANEL 32
#define STEP 64                     /* bytes of a row in a block of weights */
#define STEP_BYTES (PANEL * STEP)   /* of a panel for them */

#define RC_INT8_WIDE_ROWS 6         /* most rows of products of 16-bit integers … */
#define RC_INT8_UNIT 16             /* … and their channels */

typedef struct rc_int8_tile {
    const uint8_t *a;
    int64_t row;   /* of the output: of the tile's first … */
    int64_t next;  /* … and how many rows of it the tile's second is further on */
    int32_t rows;
} rc_int8_tile;

typedef struct rc_int8_product {
    int64_t lda;               /* between rows */
    int64_t runs, quads, run_step;
    const int8_t *b;           /* the panel */
    int32_t *sums;             /* [tile][most_rows][PANEL] */
    int32_t set[2];            /* multiply's own note between calls; 0 at first */
} rc_int8_product;

/* How a tile's rows are copied as 16-bit integers, each byte of its windows once: `parts` times
 * pieces + rows * row_pieces runs of bytes + rows * row_bytes, in fours. */
typedef struct rc_int8_wide {
    int64_t parts, pieces, row_pieces, bytes, row_bytes;
    int64_t part_step, piece_step; /* of what is read … */
    int64_t part_to, piece_to;     /* … and of the copy, in bytes of it */
    int64_t lda, run_step;         /* of the copy */
    int64_t size;                  /* bytes for RC_INT8_WIDE_ROWS rows; 0: rows are not copied */
} rc_int8_wide;

typedef struct rc_int8_target {
    const rc_int8_epilogue *e; /* of channel 0 */
    void *y;
    int64_t pitch;             /* between rows of y: all output channels */
    int64_t channel;           /* the panel's first … */
    int columns;               /* … and how many of it there are */
} rc_int8_target;

/* What cpu/int8_winograd.c needs of an instruction set: 16 positions of a patch, lines one after the
 * other; units of 16 output channels. */
typedef struct rc_int8_winograd {
    /* from: the patch's pixels of `channels` bytes (a multiple of 16); position t's go to to + t * step */
    void (*input)(const uint8_t *const from[16], int64_t channels, int16_t *to, int64_t step);
    /* Up to RC_INT8_WIDE_ROWS rows v of one position, `channels` apart, times
     * u[channel / 2][16][channel % 2]: m[row][16] */
    void (*multiply)(int rows, int64_t channels, const int16_t *v, const int16_t *u, int32_t *m);
    /* Tiles of one unit, positions of m `step` apart. pixels: the rows of y of each tile's 2x2 outputs, -1
     * for those outside, never the first; to: one unit's channels */
    void (*finish)(const int32_t *m, int64_t step, int tiles, const int64_t (*pixels)[4],
                   const rc_int8_target *to);
} rc_int8_winograd;

/* Whether y is bytes and nothing but their own floor of 0 bends t: the common case. */
static inline bool
floor_is_0(const rc_int8_epilogue *e)
{
    return !e->to_float && e->act != RC_ACT_LEAKY_RELU && !(e->act == RC_ACT_RELU && e->zero > 0);
}

typedef struct rc_int8_kernels {
    const char *name;
    int most_rows;             /* of a tile */
    int together;              /* tiles that multiply takes at once */
    bool whole_steps;          /* it takes runs of whole steps alone */
    void (*end)(void);         /* after the last product of a thread's piece of work; or NULL */
    /* Copies the rows at `a`; multiply and complete then find the tile there. NULL: they read bytes */
    void (*widen)(const rc_int8_wide *w, const uint8_t *a, int rows, uint8_t *to);
    void (*multiply)(rc_int8_product *p, const rc_int8_tile *tiles, int count);
    /* both of one tile without sums in memory; false: not done, it is not made for that. Or NULL */
    bool (*complete)(const rc_int8_product *p, const rc_int8_tile *tile, const rc_int8_target *to);
    void (*finish)(const rc_int8_target *to, const rc_int8_tile *tile, const int32_t *sums);
    const rc_int8_winograd *winograd; /* or NULL: it would not pay */
    const char *winograd_name;
} rc_int8_kernels;

extern const rc_int8_kernels rc_int8_conv__generic, rc_int8_conv__avx2, rc_int8_conv__avx2_vnni,
    rc_int8_conv__avx512_vnni, rc_int8_conv__amx;
extern const rc_int8_winograd rc_int8_winograd__avx2;

void rc_int8_finish__avx2(const rc_int8_target *to, const rc_int8_tile *tile, const int32_t *sums);
void rc_int8_finish__avx512(const rc_int8_target *to, const rc_int8_tile *tile,
                            const int32_t *sums);

#endif
