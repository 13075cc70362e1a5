/* Products of bytes by tdpbusd: two tiles of up to 16 rows times a panel in four tile registers of
 * sums. Tile registers are set up for a number of rows, which changes only where a line of the
 * image ends, so the setting is kept until another one is needed. */
#include <immintrin.h>
#include <string.h>

#include "tile.h"

typedef struct setting {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16]; /* of a row of each tile register */
    uint8_t rows[16];
} setting;

/* Registers 0, 1: sums of the first tile; 2, 3: of the second; 4, 5: activations; 6, 7: weights. */
static void
set(rc_int8_product *p, int32_t rows, int32_t rows2)
{
    if (p->set[0] == rows && p->set[1] == rows2) {
        return;
    }
    setting s;
    memset(&s, 0, sizeof s);
    s.palette = 1;
    for (int i = 0; i < 8; i++) {
        bool second = i == 2 || i == 3 || i == 5;
        s.bytes[i] = 64;
        s.rows[i] = (uint8_t)(i >= 6 ? 16 : second ? rows2 : rows);
    }
    __asm__ volatile("ldtilecfg %0" ::"m"(s)); /* gcc 12's intrinsic names 8 of the 64 bytes */
    p->set[0] = rows;
    p->set[1] = rows2;
}

static void
end(void)
{
    _tile_release();
}

static void
multiply_two(const rc_int8_product *p, const rc_int8_tile *tiles)
{
    const int8_t *b = p->b;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t i = 0; i < p->runs; i++) {
        const uint8_t *a = tiles[0].a + i * p->run_step, *a2 = tiles[1].a + i * p->run_step;
        for (int64_t k = 0; k < p->quads; k += STEP / 4) {
            _tile_loadd(6, b, 64);
            _tile_loadd(4, a, p->lda);
            _tile_dpbusd(0, 4, 6);
            _tile_loadd(7, b + STEP_BYTES / 2, 64);
            _tile_dpbusd(1, 4, 7);
            _tile_loadd(5, a2, p->lda);
            _tile_dpbusd(2, 5, 6);
            _tile_dpbusd(3, 5, 7);
            a += STEP;
            a2 += STEP;
            b += STEP_BYTES;
        }
    }
    _tile_stored(0, p->sums, PANEL * 4);
    _tile_stored(1, p->sums + 16, PANEL * 4);
    _tile_stored(2, p->sums + 16 * PANEL, PANEL * 4);
    _tile_stored(3, p->sums + 16 * PANEL + 16, PANEL * 4);
}

static void
multiply_one(const rc_int8_product *p, const rc_int8_tile *tile)
{
    const int8_t *b = p->b;
    _tile_zero(0);
    _tile_zero(1);
    for (int64_t i = 0; i < p->runs; i++) {
        const uint8_t *a = tile->a + i * p->run_step;
        for (int64_t k = 0; k < p->quads; k += STEP / 4) {
            _tile_loadd(4, a, p->lda);
            _tile_loadd(6, b, 64);
            _tile_dpbusd(0, 4, 6);
            _tile_loadd(7, b + STEP_BYTES / 2, 64);
            _tile_dpbusd(1, 4, 7);
            a += STEP;
            b += STEP_BYTES;
        }
    }
    _tile_stored(0, p->sums, PANEL * 4);
    _tile_stored(1, p->sums + 16, PANEL * 4);
}

static void
multiply(rc_int8_product *p, const rc_int8_tile *tiles, int count)
{
    set(p, tiles[0].rows, tiles[count - 1].rows);
    __asm__ volatile("" ::: "memory"); /* the intrinsics do not say what they read and write */
    if (count == 2) {
        multiply_two(p, tiles);
    } else {
        multiply_one(p, tiles);
    }
    __asm__ volatile("" ::: "memory");
}

const rc_int8_kernels rc_int8_conv__amx = {
    .name = "rc_int8_conv__amx",
    .most_rows = 16, .together = 2, .whole_steps = true, .end = end,
    .multiply = multiply, .finish = rc_int8_finish__avx512,
};
