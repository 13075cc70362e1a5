/* The loss of a JPEG file without the file: YCbCr, chroma averaged 2 x 2, 8 x 8 DCT,
 * quantisation (half to even), inverse, chroma repeated, bytes. The synthetic set page, 8.
 *
 * A tile is 8 rows x 16 columns, two blocks side by side: the transform of the columns runs
 * over 16 lanes, then both blocks are transposed and it runs again. 4:2:0: a macro row is 16
 * rows of luma, and 8 rows with Cb in the left half and Cr in the right. */
#include "synth/kernels/lanes.h"

typedef float tile[8][LANES] __attribute__((aligned(64)));

/* cos(k pi / 16) / 2, and 1 / (2 sqrt 2): the orthonormal DCT-II of length 8. */
#define C1 0.49039264020161522f
#define C2 0.46193976625564337f
#define C3 0.41573480615127262f
#define C4 0.35355339059327379f
#define C5 0.27778511650980111f
#define C6 0.19134171618254489f
#define C7 0.09754516100806413f

static inline void
dct_columns(tile x)
{
    EACH_LANE {
        float s0 = x[0][j] + x[7][j], d0 = x[0][j] - x[7][j];
        float s1 = x[1][j] + x[6][j], d1 = x[1][j] - x[6][j];
        float s2 = x[2][j] + x[5][j], d2 = x[2][j] - x[5][j];
        float s3 = x[3][j] + x[4][j], d3 = x[3][j] - x[4][j];
        float a0 = s0 + s3, b0 = s0 - s3, a1 = s1 + s2, b1 = s1 - s2;
        x[0][j] = C4 * (a0 + a1);
        x[4][j] = C4 * (a0 - a1);
        x[2][j] = C2 * b0 + C6 * b1;
        x[6][j] = C6 * b0 - C2 * b1;
        x[1][j] = (C1 * d0 + C3 * d1) + (C5 * d2 + C7 * d3);
        x[3][j] = (C3 * d0 - C7 * d1) - (C1 * d2 + C5 * d3);
        x[5][j] = (C5 * d0 - C1 * d1) + (C7 * d2 + C3 * d3);
        x[7][j] = (C7 * d0 - C5 * d1) + (C3 * d2 - C1 * d3);
    }
}

static inline void
idct_columns(tile x)
{
    EACH_LANE {
        float a0 = C4 * (x[0][j] + x[4][j]), a1 = C4 * (x[0][j] - x[4][j]);
        float b0 = C2 * x[2][j] + C6 * x[6][j], b1 = C6 * x[2][j] - C2 * x[6][j];
        float e0 = a0 + b0, e3 = a0 - b0, e1 = a1 + b1, e2 = a1 - b1;
        float p = x[1][j], q = x[3][j], r = x[5][j], s = x[7][j];
        float o0 = (C1 * p + C3 * q) + (C5 * r + C7 * s);
        float o1 = (C3 * p - C7 * q) - (C1 * r + C5 * s);
        float o2 = (C5 * p - C1 * q) + (C7 * r + C3 * s);
        float o3 = (C7 * p - C5 * q) + (C3 * r - C1 * s);
        x[0][j] = e0 + o0;
        x[7][j] = e0 - o0;
        x[1][j] = e1 + o1;
        x[6][j] = e1 - o1;
        x[2][j] = e2 + o2;
        x[5][j] = e2 - o2;
        x[3][j] = e3 + o3;
        x[4][j] = e3 - o3;
    }
}

static inline void
transpose(tile x)
{
    tile y;
    for (int i = 0; i < 8; i++) {
        for (int k = 0; k < 8; k++) {
            y[k][i] = x[i][k];
            y[k][8 + i] = x[i][8 + k];
        }
    }
    for (int i = 0; i < 8; i++) {
        EACH_LANE x[i][j] = y[i][j];
    }
}

/* step, inverse: (8,8) quantisation of the transposed block, repeated for the second block. */
static inline void
code_tile(tile x, const tile step, const tile inverse)
{
    dct_columns(x);
    transpose(x);
    dct_columns(x);
    for (int i = 0; i < 8; i++) {
        EACH_LANE {
            float n = x[i][j] * inverse[i][j];
            x[i][j] = ((n + 12582912.0f) - 12582912.0f) * step[i][j];
        }
    }
    idct_columns(x);
    transpose(x);
    idct_columns(x);
}

static void
code_rows(float *rows, int w, int stride, const tile step, const tile inverse)
{
    for (int x = 0; x < w; x += LANES) {
        tile t;
        for (int i = 0; i < 8; i++) {
            EACH_LANE t[i][j] = rows[i * stride + x + j];
        }
        code_tile(t, step, inverse);
        for (int i = 0; i < 8; i++) {
            EACH_LANE rows[i * stride + x + j] = t[i][j];
        }
    }
}

static void
fill_steps(const float *quant, tile step, tile inverse)
{
    for (int i = 0; i < 8; i++) {
        EACH_LANE {
            step[i][j] = quant[8 * (j & 7) + i];
            inverse[i][j] = 1.0f / step[i][j];
        }
    }
}

/* One row to YCbCr, luma around 0; chroma sums of column pairs are added to cb, cr. */
static inline void
to_ycc(const float *r, const float *g, const float *b, float *luma, float *cb, float *cr, int w)
{
    for (int x = 0; x < w; x += LANES) {
        EACH_LANE {
            float red = 255.0f * clamp01(r[x + j]), green = 255.0f * clamp01(g[x + j]);
            float blue = 255.0f * clamp01(b[x + j]);
            luma[x + j] = (0.299f * red + 0.587f * green + 0.114f * blue) - 128.0f;
            cb[x + j] = 0.5f * blue - (0.168735892f * red + 0.331264108f * green);
            cr[x + j] = 0.5f * red - (0.418687589f * green + 0.081312411f * blue);
        }
    }
}

static inline uint8_t
to_byte(float x)
{
    x = x < 0.0f ? 0.0f : x > 255.0f ? 255.0f : x;
    return (uint8_t)(int32_t)(x + 0.5f);
}

static inline void
to_rgb(const float *luma, const float *cb, const float *cr, uint8_t *out, int w)
{
    for (int x = 0; x < w; x += LANES) {
        lanes u, v;
        uint8_t red[LANES], green[LANES], blue[LANES];
        EACH_LANE u[j] = cb[(x + j) >> 1];
        EACH_LANE v[j] = cr[(x + j) >> 1];
        EACH_LANE {
            float l = luma[x + j] + 128.0f;
            red[j] = to_byte(l + 1.402f * v[j]);
            green[j] = to_byte(l - (0.344136286f * u[j] + 0.714136286f * v[j]));
            blue[j] = to_byte(l + 1.772f * u[j]);
        }
        EACH_LANE {
            out[3 * (x + j)] = red[j];
            out[3 * (x + j) + 1] = green[j];
            out[3 * (x + j) + 2] = blue[j];
        }
    }
}

/* tmp: 16 rows of luma, 8 of chroma, 4 of full chroma, each `stride` floats. */
void
RC_KERNEL(jpeg)(float *const plane[3], int w, int h, int stride, const float *quant,
                uint8_t *out, float *tmp)
{
    tile luma_step, luma_inverse, chroma_step, chroma_inverse;
    fill_steps(quant, luma_step, luma_inverse);
    fill_steps(quant + 64, chroma_step, chroma_inverse);
    float *luma = tmp, *chroma = tmp + 16 * (int64_t)stride, *full = chroma + 8 * (int64_t)stride;
    int half = w / 2;
    for (int y = 0; y < h; y += 16) {
        for (int i = 0; i < 16; i++) {
            int64_t at = (int64_t)(y + i) * stride;
            float *cb = full + (i & 1) * 2 * stride, *cr = cb + stride;
            to_ycc(plane[0] + at, plane[1] + at, plane[2] + at, luma + i * stride, cb, cr, w);
            if (i & 1) {
                float *target = chroma + (i >> 1) * stride;
                const float *cb0 = full, *cr0 = full + stride;
                for (int x = 0; x < half; x++) {
                    target[x] = 0.25f * ((cb0[2 * x] + cb0[2 * x + 1])
                                         + (cb[2 * x] + cb[2 * x + 1]));
                    target[half + x] = 0.25f * ((cr0[2 * x] + cr0[2 * x + 1])
                                                + (cr[2 * x] + cr[2 * x + 1]));
                }
            }
        }
        code_rows(luma, w, stride, luma_step, luma_inverse);
        code_rows(luma + 8 * (int64_t)stride, w, stride, luma_step, luma_inverse);
        code_rows(chroma, w, stride, chroma_step, chroma_inverse);
        for (int i = 0; i < 16; i++) {
            const float *cb = chroma + (i >> 1) * stride;
            to_rgb(luma + i * stride, cb, cb + half, out + (int64_t)(y + i) * 3 * w, w);
        }
    }
}
