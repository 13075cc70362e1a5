/* Forward and input gradient in bf16 by tdpbf16ps: 32 rows x 32 output channels in four registers of
 * 16 x 16 sums, 32 steps of k at a time. The drivers are those of the other levels; rows are padded
 * to whole such steps, and a last tile that is not full begins earlier and repeats some rows. */
#include "../avx512/vec.h"

#include <stddef.h>
#include <string.h>

#include "base/element.h"

#undef MR
#define MR 32
#define OWN_TILES 1
#define UNIT 2
#define K_MULTIPLE 32
#include "../shared/elem_bf16.inc"

#include "../shared/micro.inc"

#define TILE_ROWS 16
#define TILE_UNITS 16 /* of a row of a tile register: 64 bytes */

typedef struct setting {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16]; /* of a row of each register */
    uint8_t rows[16];
} setting;

/* Registers 0 to 3: sums; 4, 5: rows; 6, 7: weights. */
static void
set_registers(int64_t rows)
{
    setting s;
    memset(&s, 0, sizeof s);
    s.palette = 1;
    for (int i = 0; i < 8; i++) {
        s.bytes[i] = 64;
        s.rows[i] = (uint8_t)(i < 6 ? rows : TILE_ROWS);
    }
    __asm__ volatile("ldtilecfg %0" ::"m"(s));
}

/* sums (32 x NR) of the rows at a and at a2, or of those at a alone. */
RC_INLINE void
multiply(const bool two, const bool wide, int64_t k, const float *a, const float *a2, int64_t lda,
         const float *b, float *sums)
{
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (; k > 0; k -= TILE_UNITS) {
        _tile_loadd(4, a, lda * 4);
        _tile_loadd(6, b, NR * 4);
        _tile_dpbf16ps(0, 4, 6);
        if (wide) {
            _tile_loadd(7, b + VW, NR * 4);
            _tile_dpbf16ps(1, 4, 7);
        }
        if (two) {
            _tile_loadd(5, a2, lda * 4);
            _tile_dpbf16ps(2, 5, 6);
            if (wide) {
                _tile_dpbf16ps(3, 5, 7);
            }
        }
        a += TILE_UNITS;
        a2 += TILE_UNITS;
        b += TILE_UNITS * NR;
    }
    _tile_stored(0, sums, NR * 4);
    _tile_stored(1, sums + VW, NR * 4);
    if (two) {
        _tile_stored(2, sums + TILE_ROWS * NR, NR * 4);
        _tile_stored(3, sums + TILE_ROWS * NR + VW, NR * 4);
    }
}

/* Row r of the output from its sums. */
RC_INLINE void
finish_rows(const float *sums, int64_t first, int64_t rows, const int nv, const tile_out *out)
{
    tile_out t = *out;
    for (int64_t r = 0; r < rows; r++) {
        vec acc[MR][NV];
        for (int j = 0; j < nv; j++) {
            acc[0][j] = v_load(sums + r * NR + j * VW);
        }
        t.offset = out->offset + first + r;
        tile_finish(1, nv, acc, &t);
    }
}

static void
block_multiply(bool by_steps, int64_t rows, int64_t columns, int64_t k, const float *a,
               int64_t lda, const float *b, int64_t ldb, int64_t panel, const tile_out *out,
               fetch *next)
{
    (void)by_steps, (void)ldb, (void)next; /* by rows, whole panels, always */
    float sums[MR * NR] __attribute__((aligned(64)));
    int64_t height = smaller(rows, TILE_ROWS); /* of a tile; the last one ends at the last row */
    tile_out t = *out;
    set_registers(height);
    for (int64_t j = 0; j < columns; j += NR) {
        int64_t width = smaller(NR, columns - j);
        bool wide = width > VW;
        const float *bj = b + j / NR * panel;
        t.mask[0] = v_mask(width);
        t.mask[1] = v_mask(width - VW);
        t.c = out->c + j;
        t.residual = out->residual ? out->residual + j : NULL;
        t.bias = out->bias ? out->bias + j : NULL;
        for (int64_t r = 0; r < rows; r += MR) {
            bool two = r + TILE_ROWS < rows;
            int64_t from = smaller(r, rows - height);
            int64_t from2 = two ? smaller(r + TILE_ROWS, rows - height) : from;
            int64_t end = smaller(r + TILE_ROWS, rows), end2 = smaller(r + MR, rows);
            __asm__ volatile("" ::: "memory"); /* the intrinsics do not say what they read */
            if (two && wide) {
                multiply(true, true, k, a + from * lda, a + from2 * lda, lda, bj, sums);
            } else {
                multiply(two, wide, k, a + from * lda, a + from2 * lda, lda, bj, sums);
            }
            __asm__ volatile("" ::: "memory");
            if (wide) {
                finish_rows(sums + (r - from) * NR, r, end - r, 2, &t);
            } else {
                finish_rows(sums + (r - from) * NR, r, end - r, 1, &t);
            }
            if (two) {
                int64_t skipped = r + TILE_ROWS - from2;
                finish_rows(sums + (TILE_ROWS + skipped) * NR, r + TILE_ROWS,
                            end2 - r - TILE_ROWS, wide ? 2 : 1, &t);
            }
        }
    }
    _tile_release();
}

#include "../shared/grid.inc"

#include "../shared/conv_direct.inc"
