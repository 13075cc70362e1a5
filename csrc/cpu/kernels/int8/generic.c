/* Products of bytes in plain C. */
#include "finish.h"

#include <string.h>

enum { ROWS = 4 };

static void
multiply(rc_int8_product *p, const rc_int8_tile *tiles, int count)
{
    (void)count;
    for (int r = 0; r < tiles->rows; r++) {
        int32_t *sums = p->sums + r * PANEL;
        int64_t row = 0; /* its bytes so far */
        memset(sums, 0, PANEL * sizeof *sums);
        for (int64_t i = 0; i < p->runs; i++) {
            const uint8_t *a = tiles->a + r * p->lda + i * p->run_step;
            for (int64_t k = 0; k < p->quads * 4; k += 4, row += 4) {
                const int8_t *left = p->b + row / STEP * STEP_BYTES + row % STEP * 16;
                for (int half = 0; half < 2; half++, left += STEP_BYTES / 2) {
                    for (int j = 0; j < 16; j++) {
                        sums[half * 16 + j] += a[k] * left[4 * j] + a[k + 1] * left[4 * j + 1]
                                               + a[k + 2] * left[4 * j + 2]
                                               + a[k + 3] * left[4 * j + 3];
                    }
                }
            }
        }
    }
}

static void
finish(const rc_int8_target *to, const rc_int8_tile *tile, const int32_t *sums)
{
    for (int r = 0; r < tile->rows; r++) {
        finish_plain(to, sums + r * PANEL, (tile->row + r * tile->next) * to->pitch + to->channel, 0);
    }
}

const rc_int8_kernels rc_int8_conv__generic = {
    .name = "rc_int8_conv__generic",
    .most_rows = ROWS, .together = 1, .multiply = multiply, .finish = finish,
};
