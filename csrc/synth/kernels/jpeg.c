/* The loss of a JPEG file without the file: YCbCr, chroma averaged 2 x 2, 8 x 8 DCT,
 * quantisation (half to even), inverse, chroma repeated, bytes. The synthetic set page, 8.
 *
 * A tile is 8 rows x 16 columns, two blocks side by side: the transform of the columns runs
 * over 16 lanes, then both blocks are transposed and it runs again. 4:2:0: a macro row is 16
 * rows of luma, and 8 rows with Cb in the left half and Cr in the right. */
#include "synth/kernels/lanes.h"

#if defined(__AVX__)
#include <immintrin.h>
#endif

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

/* Both 8 x 8 blocks, by exchanging halves three times: bit k of row and column. */
static inline void
transpose(tile x)
{
#if defined(__AVX512F__)
    for (int k = 1; k < 8; k *= 2) {
        /* Row i (bit k of i clear) takes its own columns without bit k and row i + k's. */
        const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
        const __m512i bit = _mm512_set1_epi32(k);
        const __mmask16 odd = _mm512_test_epi32_mask(lane, bit);
        const __m512i low = _mm512_mask_add_epi32(lane, odd, lane, _mm512_set1_epi32(16 - k));
        const __m512i high = _mm512_mask_add_epi32(_mm512_add_epi32(lane, bit), odd, lane,
                                                   _mm512_set1_epi32(16));
        for (int i = 0; i < 8; i++) {
            if (!(i & k)) {
                __m512 a = _mm512_load_ps(x[i]), b = _mm512_load_ps(x[i + k]);
                _mm512_store_ps(x[i], _mm512_permutex2var_ps(a, low, b));
                _mm512_store_ps(x[i + k], _mm512_permutex2var_ps(a, high, b));
            }
        }
    }
#elif defined(__AVX__)
    for (int half = 0; half < LANES; half += 8) {
        __m256 a[8], b[8];
        for (int i = 0; i < 8; i++) {
            a[i] = _mm256_load_ps(x[i] + half);
        }
        for (int i = 0; i < 8; i += 2) {
            b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
            b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
        }
        for (int i = 0; i < 8; i += 4) {
            a[i] = _mm256_shuffle_ps(b[i], b[i + 2], 0x44);
            a[i + 1] = _mm256_shuffle_ps(b[i], b[i + 2], 0xee);
            a[i + 2] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0x44);
            a[i + 3] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0xee);
        }
        for (int i = 0; i < 4; i++) {
            _mm256_store_ps(x[i] + half, _mm256_permute2f128_ps(a[i], a[i + 4], 0x20));
            _mm256_store_ps(x[i + 4] + half, _mm256_permute2f128_ps(a[i], a[i + 4], 0x31));
        }
    }
#else
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
#endif
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
        lanes red, green, blue, l, u, v; /* local: nothing can alias, so all of it vectorises */
        EACH_LANE red[j] = 255.0f * clamp01(r[x + j]);
        EACH_LANE green[j] = 255.0f * clamp01(g[x + j]);
        EACH_LANE blue[j] = 255.0f * clamp01(b[x + j]);
        EACH_LANE l[j] = (0.299f * red[j] + 0.587f * green[j] + 0.114f * blue[j]) - 128.0f;
        EACH_LANE u[j] = 0.5f * blue[j] - (0.168735892f * red[j] + 0.331264108f * green[j]);
        EACH_LANE v[j] = 0.5f * red[j] - (0.418687589f * green[j] + 0.081312411f * blue[j]);
        EACH_LANE luma[x + j] = l[j];
        EACH_LANE cb[x + j] = u[j];
        EACH_LANE cr[x + j] = v[j];
    }
}

/* 16 values to bytes, clipped, half up. */
static inline void
to_bytes(const lanes value, uint8_t *out)
{
    int32_t n[LANES] __attribute__((aligned(64)));
    EACH_LANE {
        float x = value[j] < 0.0f ? 0.0f : value[j];
        n[j] = (int32_t)((x > 255.0f ? 255.0f : x) + 0.5f);
    }
#if defined(__AVX512F__)
    _mm_storeu_si128((__m128i *)out, _mm512_cvtepi32_epi8(_mm512_load_si512(n)));
#else
    EACH_LANE out[j] = (uint8_t)n[j];
#endif
}

/* 16 pixels of three planes to 48 bytes. */
static inline void
interleave(const uint8_t *red, const uint8_t *green, const uint8_t *blue, uint8_t *out)
{
#if defined(__AVX__)
    const __m128i r = _mm_loadu_si128((const __m128i *)red);
    const __m128i g = _mm_loadu_si128((const __m128i *)green);
    const __m128i b = _mm_loadu_si128((const __m128i *)blue);
    for (int k = 0; k < 3; k++) {
        int8_t pick[3][16]; /* byte i of part k is pixel (16 k + i) / 3, plane (16 k + i) % 3 */
        for (int i = 0; i < 16; i++) {
            for (int c = 0; c < 3; c++) {
                pick[c][i] = (16 * k + i) % 3 == c ? (int8_t)((16 * k + i) / 3) : (int8_t)-128;
            }
        }
        __m128i sum = _mm_shuffle_epi8(r, _mm_loadu_si128((const __m128i *)pick[0]));
        sum = _mm_or_si128(sum, _mm_shuffle_epi8(g, _mm_loadu_si128((const __m128i *)pick[1])));
        sum = _mm_or_si128(sum, _mm_shuffle_epi8(b, _mm_loadu_si128((const __m128i *)pick[2])));
        _mm_storeu_si128((__m128i *)(out + 16 * k), sum);
    }
#else
    EACH_LANE {
        out[3 * j] = red[j];
        out[3 * j + 1] = green[j];
        out[3 * j + 2] = blue[j];
    }
#endif
}

static inline void
to_rgb(const float *luma, const float *cb, const float *cr, uint8_t *out, int w)
{
    for (int x = 0; x < w; x += LANES) {
        lanes u, v, r, g, b;
        uint8_t red[LANES], green[LANES], blue[LANES];
        for (int j = 0; j < LANES / 2; j++) {
            u[2 * j] = u[2 * j + 1] = cb[x / 2 + j];
            v[2 * j] = v[2 * j + 1] = cr[x / 2 + j];
        }
        EACH_LANE r[j] = luma[x + j] + 128.0f + 1.402f * v[j];
        EACH_LANE g[j] = luma[x + j] + 128.0f - (0.344136286f * u[j] + 0.714136286f * v[j]);
        EACH_LANE b[j] = luma[x + j] + 128.0f + 1.772f * u[j];
        to_bytes(r, red);
        to_bytes(g, green);
        to_bytes(b, blue);
        interleave(red, green, blue, out + 3 * x);
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
                for (int x = 0; x < w; x += LANES) {
                    lanes u, v;
                    EACH_LANE u[j] = 0.25f * (cb0[x + j] + cb[x + j]);
                    EACH_LANE v[j] = 0.25f * (cr0[x + j] + cr[x + j]);
                    for (int j = 0; j < LANES / 2; j++) {
                        target[x / 2 + j] = u[2 * j] + u[2 * j + 1];
                    }
                    for (int j = 0; j < LANES / 2; j++) {
                        target[half + x / 2 + j] = v[2 * j] + v[2 * j + 1];
                    }
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
