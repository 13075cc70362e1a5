/* From the empty plate to the canvas, and from the drawn canvas through the camera: tone,
 * noise, enlargement to the image's size and blur. The synthetic set page, section 8. */
#include "synth/kernels/lanes.h"

#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

/* out[i] = in[at[i]] + f[i] (in[at[i] + 1] - in[at[i]]) for whole groups of 16. Where the
 * indices of a group span at most 30 places (always when enlarging), two vectors hold all of
 * them: AVX-512 then permutes instead of gathering (the same values, so the same bits). `in`
 * has 32 readable floats behind its last index. */
static inline void
stretch(const float *in, const rc_synth_axis *axis, float *out)
{
    int n = (axis->n + LANES - 1) & ~(LANES - 1);
    for (int i = 0; i < n; i += LANES) {
        const int32_t *at = axis->at + i;
        const float *f = axis->f + i;
#if defined(__AVX512F__)
        int first = at[0] < at[LANES - 1] ? at[0] : at[LANES - 1]; /* mirrored: falling */
        int last = at[0] < at[LANES - 1] ? at[LANES - 1] : at[0];
        if (last - first <= 30) {
            __m512i index = _mm512_sub_epi32(_mm512_loadu_si512(at), _mm512_set1_epi32(first));
            __m512 low = _mm512_loadu_ps(in + first), high = _mm512_loadu_ps(in + first + 16);
            __m512 a = _mm512_permutex2var_ps(low, index, high);
            index = _mm512_add_epi32(index, _mm512_set1_epi32(1));
            __m512 b = _mm512_permutex2var_ps(low, index, high);
            __m512 step = _mm512_mul_ps(_mm512_loadu_ps(f), _mm512_sub_ps(b, a));
            _mm512_storeu_ps(out + i, _mm512_add_ps(a, step));
            continue;
        }
#endif
        EACH_LANE {
            float a = in[at[j]], b = in[at[j] + 1];
            out[i + j] = a + f[j] * (b - a);
        }
    }
}

void
RC_KERNEL(plate)(const rc_synth_canvas *canvas, const uint8_t *plate, int plate_h, int plate_w,
                 const rc_synth_axis *rows, const rc_synth_axis *columns, float *tmp)
{
    int begin = columns->at[0], end = columns->at[columns->n - 1]; /* columns that are read */
    if (begin > end) {
        int swap = begin;
        begin = end;
        end = swap;
    }
    begin &= ~(LANES - 1);
    for (int c = 0; c < 3; c++) {
        const uint8_t *plane = plate + (int64_t)c * plate_h * plate_w;
        for (int y = 0; y < rows->n; y++) {
            const uint8_t *top = plane + (int64_t)rows->at[y] * plate_w, *bottom = top + plate_w;
            float f = rows->f[y];
            for (int x = begin; x < end + 2; x += LANES) {
                lanes a, b;
                EACH_LANE a[j] = (float)top[x + j];
                EACH_LANE b[j] = (float)bottom[x + j];
                EACH_LANE a[j] = (a[j] + f * (b[j] - a[j])) * (1.0f / 255.0f);
                EACH_LANE tmp[x + j] = a[j];
            }
            stretch(tmp, columns, canvas->plane[c] + (int64_t)y * canvas->stride);
        }
    }
}

/* ---- tone: light, gain, gamma, saturation, contrast, haze, noise -------------------------- */

static inline void
apply_curve(const float *curve, float gain, const float *row, const lanes factor, lanes out)
{
    lanes f;
    int32_t at[LANES] __attribute__((aligned(64)));
    EACH_LANE {
        float x = row[j] * factor[j] * gain;
        x = x < 0.0f ? 0.0f : x;
        f[j] = (x > 1.5f ? 1.5f : x) * (RC_SYNTH_CURVE / 1.5f);
    }
    EACH_LANE at[j] = (int32_t)f[j];
    EACH_LANE f[j] -= (float)at[j];
    EACH_LANE {
        float a = curve[at[j]], b = curve[at[j] + 1];
        out[j] = a + f[j] * (b - a);
    }
}

static inline float
grain(uint32_t key, uint32_t counter)
{
    uint32_t x = rc_synth_mix32(key + counter);
    int32_t sum = (int32_t)((x & 255) + (x >> 8 & 255) + (x >> 16 & 255) + (x >> 24));
    return (float)(sum - 510) * (1.0f / 147.8f);
}

void
RC_KERNEL(tone)(const rc_synth_canvas *canvas, const rc_synth_tone *t)
{
    const float haze = t->haze, rest = 1.0f - haze, saturation = t->saturation;
    const float contrast = t->contrast, noise = t->noise;
    const uint32_t key = t->noise_key;
    for (int y = 0; y < canvas->h; y++) {
        float slope = 1.0f + t->slope * (((float)y + 0.5f) / (float)canvas->h - 0.5f);
        float shadow_y = t->shadow_y * ((float)y + 0.5f - 0.5f * (float)canvas->h)
                         - t->shadow_offset;
        for (int x = 0; x < canvas->stride; x += LANES) {
            int64_t at = (int64_t)y * canvas->stride + x;
            lanes factor, luma, rgb[3];
            EACH_LANE factor[j] = slope;
            if (t->shadow) {
                EACH_LANE {
                    float dx = (float)(x + j) + 0.5f - 0.5f * (float)canvas->w;
                    float in = clamp01(t->shadow_x * dx + shadow_y + 0.5f);
                    factor[j] *= 1.0f - (1.0f - t->shadow_factor) * in;
                }
            }
            for (int c = 0; c < 3; c++) {
                apply_curve(t->curve, t->gain[c], canvas->plane[c] + at, factor, rgb[c]);
            }
            EACH_LANE luma[j] = 0.30f * rgb[0][j] + 0.59f * rgb[1][j] + 0.11f * rgb[2][j];
            for (int c = 0; c < 3; c++) {
                uint32_t counter = 3u * (uint32_t)(y * canvas->w + x) + (uint32_t)c;
                lanes v;
                EACH_LANE {
                    v[j] = luma[j] + (rgb[c][j] - luma[j]) * saturation;
                    v[j] = (v[j] - 0.45f) * contrast + 0.45f;
                    v[j] = clamp01(v[j] * rest + haze);
                }
                EACH_LANE v[j] += noise * grain(key, counter + 3u * (uint32_t)j);
                float *p = canvas->plane[c] + at;
                EACH_LANE p[j] = v[j];
            }
        }
    }
}

/* ---- enlargement --------------------------------------------------------------------------- */

void
RC_KERNEL(enlarge)(const float *in, int stride, const rc_synth_axis *rows,
                   const rc_synth_axis *columns, float *out, int out_stride, float *tmp)
{
    float *line[2] = {tmp, tmp + out_stride};
    int held[2] = {-1, -1}; /* source rows in line[0], line[1] */
    int n = (columns->n + LANES - 1) & ~(LANES - 1);
    for (int y = 0; y < rows->n; y++) {
        for (int k = 0; k < 2; k++) {
            int want = rows->at[y] + k;
            if (held[want & 1] != want) {
                stretch(in + (int64_t)want * stride, columns, line[want & 1]);
                held[want & 1] = want;
            }
        }
        const float *top = line[rows->at[y] & 1], *bottom = line[(rows->at[y] + 1) & 1];
        float f = rows->f[y], *target = out + (int64_t)y * out_stride;
        for (int x = 0; x < n; x += LANES) {
            lanes v;
            EACH_LANE v[j] = top[x + j] + f * (bottom[x + j] - top[x + j]);
            EACH_LANE target[x + j] = v[j];
        }
    }
}

/* ---- blur ---------------------------------------------------------------------------------- */

/* A row with its edges repeated on both sides. */
static inline void
pad_row(const float *row, int w, float *padded)
{
    memcpy(padded + RC_SYNTH_PAD, row, (size_t)w * sizeof *row);
    for (int j = 0; j < RC_SYNTH_PAD; j++) {
        padded[j] = row[0];
        padded[RC_SYNTH_PAD + w + j] = row[w - 1];
    }
}

void
RC_KERNEL(blur)(float *plane, int w, int h, int stride, const float *weights, int radius,
                float *tmp)
{
    float *padded = tmp + (int64_t)h * stride;
    for (int y = 0; y < h; y++) {
        pad_row(plane + (int64_t)y * stride, w, padded);
        float *target = tmp + (int64_t)y * stride;
        for (int x = 0; x < w; x += LANES) {
            const float *p = padded + RC_SYNTH_PAD + x;
            lanes sum;
            EACH_LANE sum[j] = weights[0] * p[j];
            for (int i = 1; i <= radius; i++) {
                EACH_LANE sum[j] += weights[i] * (p[j - i] + p[j + i]);
            }
            EACH_LANE target[x + j] = sum[j];
        }
    }
    for (int y = 0; y < h; y++) {
        for (int x = 0; x < w; x += LANES) {
            const float *p = tmp + (int64_t)y * stride + x;
            lanes sum;
            EACH_LANE sum[j] = weights[0] * p[j];
            for (int i = 1; i <= radius; i++) {
                const float *up = tmp + (int64_t)(y - i < 0 ? 0 : y - i) * stride + x;
                const float *down = tmp + (int64_t)(y + i >= h ? h - 1 : y + i) * stride + x;
                EACH_LANE sum[j] += weights[i] * (up[j] + down[j]);
            }
            float *target = plane + (int64_t)y * stride + x;
            EACH_LANE target[j] = sum[j];
        }
    }
}

void
RC_KERNEL(box)(float *plane, int w, int h, int stride, int length, float *tmp)
{
    float weight = 1.0f / (float)length;
    int before = (length - 1) / 2;
    for (int y = 0; y < h; y++) {
        float *target = plane + (int64_t)y * stride;
        pad_row(target, w, tmp);
        for (int x = 0; x < w; x += LANES) {
            const float *p = tmp + RC_SYNTH_PAD + x - before;
            lanes sum;
            EACH_LANE sum[j] = p[j];
            for (int i = 1; i < length; i++) {
                EACH_LANE sum[j] += p[i + j];
            }
            EACH_LANE sum[j] *= weight;
            EACH_LANE target[x + j] = sum[j];
        }
    }
}
