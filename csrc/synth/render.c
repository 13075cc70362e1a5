/* Draws images: plate, people, obstacles on a canvas of the native size, then the camera.
 *
 * One image is one task; a thread draws it in its own scratch memory, from integers only, so
 * neither order nor batch nor the number of threads shows. The loops over pixels are in
 * kernels/, one build for each instruction set, all with the same bits. */
#include "synth/synth_impl.h"

#include <string.h>

const rc_synth_ops *
rc_synth_ops_get(void)
{
#if defined(__x86_64__)
    rc_isa isa = rc_isa_get();
    if (isa >= RC_ISA_AVX512) {
        return &rc_synth_ops__avx512;
    }
    if (isa >= RC_ISA_AVX2) {
        return &rc_synth_ops__avx2;
    }
#endif
    return &rc_synth_ops__generic;
}

/* ---- scratch memory of one thread ----------------------------------------------------------- */

typedef struct scratch {
    float *plane[4], *full[3], *tmp;
    int32_t *row_at, *column_at;
    float *row_f, *column_f;
} scratch;

enum { SPARE = 64 }; /* floats behind a plane that wide loads may touch */

static int64_t
scratch_floats(const rc_synth_options *o)
{
    int64_t area = o->height * o->width + SPARE, most = o->height > o->width ? o->height : o->width;
    int64_t tmp = area + 32 * o->width + 2 * RC_SYNTH_PAD + PLATE_W + SPARE;
    return 4 * area + 3 * area + tmp + 4 * (most + SPARE);
}

static void
scratch_carve(const rc_synth_options *o, float *block, scratch *s)
{
    int64_t area = o->height * o->width + SPARE, most = o->height > o->width ? o->height : o->width;
    for (int i = 0; i < 4; i++, block += area) {
        s->plane[i] = block;
    }
    for (int i = 0; i < 3; i++, block += area) {
        s->full[i] = block;
    }
    s->row_f = block;
    s->column_f = s->row_f + most + SPARE;
    s->row_at = (int32_t *)(s->column_f + most + SPARE);
    s->column_at = s->row_at + most + SPARE;
    s->tmp = (float *)(s->column_at + most + SPARE);
}

/* ---- axes: where an output row or column reads --------------------------------------------- */

/* Half-pixel centres, edges repeated; counted from `first` in a line of `limit` values. */
static rc_synth_axis
make_axis(int32_t *at, float *f, int out, int in, int first, int limit, bool mirrored)
{
    double step = (double)in / out;
    int padded = (out + 15) & ~15;
    for (int i = 0; i < padded; i++) {
        int k = i < out ? (mirrored ? out - 1 - i : i) : (mirrored ? 0 : out - 1);
        double x = rc_synth_clamp((k + 0.5) * step - 0.5, 0, in - 1) + first;
        int whole = (int)x;
        whole = whole > limit - 2 ? limit - 2 : whole;
        at[i] = whole;
        f[i] = (float)(x - whole);
    }
    return (rc_synth_axis){.n = out, .at = at, .f = f};
}

/* ---- drawing --------------------------------------------------------------------------------- */

static void
draw_obstacle(const rc_synth_ops *ops, rc_synth_canvas *canvas, const rc_synth_scene *scene)
{
    float w = (float)canvas->w, h = (float)canvas->h, unit = h / 256.0f;
    if (scene->obstacle == OBSTACLE_BUSH) {
        rc_synth_bush bush = {.key = {scene->bush_key[0], scene->bush_key[1]},
                              .x0 = (float)scene->obstacle_x * w, .unit = unit};
        ops->bush(canvas, &bush);
        return;
    }
    bool post = scene->obstacle == OBSTACLE_POST;
    float x = (float)scene->obstacle_x * w;
    float half = (float)scene->obstacle_w * (post ? unit : w);
    float top = post ? -20 * unit : (float)scene->obstacle_y * h;
    rc_synth_profile profile = {
        .rows = 2, .y = {top, h + 20 * unit}, .x = {x, x}, .half = {half, half},
        .corner = (post ? 0.0f : scene->obstacle == OBSTACLE_LOW ? 10.0f : 14.0f) * unit,
        .split = 1e9f, .shaded = post,
    };
    memcpy(profile.rgb, scene->obstacle_rgb, sizeof profile.rgb);
    canvas->light = (float)scene->light;
    ops->profile(canvas, &profile);
}

static void
draw_scene(const rc_synth_ops *ops, const rc_synth_camera *lens, const rc_synth_scene *scene,
           rc_synth_canvas *canvas, scratch *s)
{
    const uint8_t *plate = lens->plates + (int64_t)scene->plate * 3 * PLATE_H * PLATE_W;
    rc_synth_axis rows = make_axis(s->row_at, s->row_f, canvas->h, CROP_H, scene->crop_row,
                                   PLATE_H, false);
    rc_synth_axis columns = make_axis(s->column_at, s->column_f, canvas->w, scene->crop_width,
                                      scene->crop_column, PLATE_W, scene->mirrored);
    ops->plate(canvas, plate, PLATE_H, PLATE_W, &rows, &columns, s->tmp);
    if (scene->has_behind) {
        rc_synth_body_draw(ops, canvas, &scene->behind, lens, scene->light);
    }
    if (scene->has_target) {
        rc_synth_contact_shadow(ops, canvas, &scene->target, lens);
        canvas->mask_value = 1;
        rc_synth_body_draw(ops, canvas, &scene->target, lens, scene->light);
        canvas->mask_value = 0;
    }
    if (scene->obstacle != OBSTACLE_NONE) {
        draw_obstacle(ops, canvas, scene);
    }
    if (scene->has_front) {
        rc_synth_body_draw(ops, canvas, &scene->front, lens, scene->light);
    }
}

/* ---- the camera ------------------------------------------------------------------------------ */

static void
fill_quant(int quality, float quant[128])
{
    static const uint8_t luma[64] = {
        16, 11, 10, 16, 24,  40,  51,  61,  12, 12, 14, 19, 26,  58,  60,  55,
        14, 13, 16, 24, 40,  57,  69,  56,  14, 17, 22, 29, 51,  87,  80,  62,
        18, 22, 37, 56, 68,  109, 103, 77,  24, 35, 55, 64, 81,  104, 113, 92,
        49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99};
    int factor = quality < 50 ? 5000 / quality : 200 - 2 * quality;
    for (int i = 0; i < 64; i++) {
        int step = (luma[i] * factor + 50) / 100;
        step = step < 1 ? 1 : step > 255 ? 255 : step;
        quant[i] = (float)step;
        quant[64 + i] = 1.2f * (float)step;
    }
}

static void
blur_planes(const rc_synth_ops *ops, const rc_synth_options *o, const rc_synth_scene *scene,
            scratch *s)
{
    int w = (int)o->width, h = (int)o->height;
    double sigma = 0.7 * scene->blur * h / 256;
    if (sigma >= 0.25) {
        float weights[RC_SYNTH_TAPS + 1];
        int radius = (int)(2.5 * sigma) + 1;
        radius = radius > RC_SYNTH_TAPS ? RC_SYNTH_TAPS : radius;
        double sum = 1, values[RC_SYNTH_TAPS + 1] = {1};
        for (int i = 1; i <= radius; i++) {
            values[i] = rc_synth_exp(-0.5 * i * i / (sigma * sigma));
            sum += 2 * values[i];
        }
        for (int i = 0; i <= radius; i++) {
            weights[i] = (float)(values[i] / sum);
        }
        for (int c = 0; c < 3; c++) {
            ops->blur(s->full[c], w, h, w, weights, radius, s->tmp);
        }
    }
    int length = (scene->motion * h + 128) / 256;
    length = length > RC_SYNTH_PAD ? RC_SYNTH_PAD : length;
    for (int c = 0; c < 3 && length > 1; c++) {
        ops->box(s->full[c], w, h, w, length, s->tmp);
    }
}

static void
photograph(const rc_synth_ops *ops, const rc_synth_options *o, const rc_synth_camera *lens,
           const rc_synth_scene *scene, rc_synth_canvas *canvas, scratch *s, uint8_t *image)
{
    rc_synth_tone tone = {
        .saturation = (float)lens->saturation, .contrast = (float)lens->contrast,
        .haze = (float)lens->haze, .noise = (float)lens->noise, .slope = (float)scene->slope,
        .shadow = scene->shadow, .shadow_factor = (float)scene->shadow_factor,
        .shadow_x = (float)rc_synth_cos(scene->shadow_angle),
        .shadow_y = (float)rc_synth_sin(scene->shadow_angle),
        .shadow_offset = (float)(scene->shadow_offset * canvas->h / 256),
        .curve = lens->curve, .noise_key = scene->noise_key,
    };
    for (int c = 0; c < 3; c++) {
        tone.gain[c] = (float)scene->gain[c];
    }
    ops->tone(canvas, &tone);
    rc_synth_axis rows = make_axis(s->row_at, s->row_f, (int)o->height, canvas->h, 0, canvas->h,
                                   false);
    rc_synth_axis columns = make_axis(s->column_at, s->column_f, (int)o->width, canvas->w, 0,
                                      canvas->w, false);
    for (int c = 0; c < 3; c++) {
        ops->enlarge(canvas->plane[c], canvas->stride, &rows, &columns, s->full[c],
                     (int)o->width, s->tmp);
    }
    blur_planes(ops, o, scene, s);
    float quant[128];
    fill_quant(scene->quality, quant);
    ops->jpeg(s->full, (int)o->width, (int)o->height, (int)o->width, quant, image, s->tmp);
}

typedef struct batch {
    rc_synth *set;
    const rc_synth_ops *ops;
    const int64_t *rows;
    float *block;
    int64_t block_size;
    rc_synth_output out;
} batch;

/* The mask at the image's size and, where asked for, its mean. */
static void
finish_mask(const batch *job, int64_t i, const rc_synth_canvas *canvas, scratch *s)
{
    const rc_synth_options *o = &job->set->options;
    int64_t area = o->height * o->width;
    float *mask = job->out.masks ? job->out.masks + i * area : s->full[0];
    rc_synth_axis rows = make_axis(s->row_at, s->row_f, (int)o->height, canvas->h, 0, canvas->h,
                                   false);
    rc_synth_axis columns = make_axis(s->column_at, s->column_f, (int)o->width, canvas->w, 0,
                                      canvas->w, false);
    job->ops->enlarge(canvas->mask, canvas->stride, &rows, &columns, mask, (int)o->width,
                      s->tmp);
    if (job->out.visible) {
        double sum = 0;
        for (int64_t k = 0; k < area; k++) {
            sum += mask[k];
        }
        job->out.visible[i] = sum / (double)area;
    }
}

static void
render_one(void *context, int64_t i, int worker)
{
    const batch *job = context;
    const rc_synth_options *o = &job->set->options;
    rc_synth_scene scene;
    rc_synth_scene_draw(job->set, job->rows + 3 * i, &scene);
    if (job->out.yaws) {
        double yaw = scene.target.yaw / (2 * RC_PI);
        yaw = 2 * RC_PI * (yaw - rc_synth_floor(yaw + 0.5));
        job->out.yaws[i] = scene.has_target ? yaw : NAN;
    }
    bool masked = job->out.masks || job->out.visible;
    if (!job->out.images && !masked) {
        return;
    }
    scratch s;
    scratch_carve(o, job->block + worker * job->block_size, &s);
    rc_synth_canvas canvas = {
        .plane = {s.plane[0], s.plane[1], s.plane[2]},
        .mask = masked ? s.plane[3] : NULL,
        .h = (int)((double)o->height * scene.scale + 0.5),
        .w = (int)((double)o->width * scene.scale + 0.5),
        .opacity = 1,
    };
    canvas.stride = (canvas.w + 15) & ~15;
    if (masked) {
        memset(canvas.mask, 0, (size_t)canvas.h * (size_t)canvas.stride * sizeof(float));
    }
    const rc_synth_camera *lens = &job->set->cameras[scene.camera];
    draw_scene(job->ops, lens, &scene, &canvas, &s);
    if (masked) {
        finish_mask(job, i, &canvas, &s);
    }
    if (job->out.images) {
        photograph(job->ops, o, lens, &scene, &canvas, &s,
                   job->out.images + i * 3 * o->height * o->width);
    }
}

/* ---- plates ---------------------------------------------------------------------------------- */

enum { PLATE_SIZE = 3 * PLATE_H * PLATE_W };

typedef struct plate_job {
    uint64_t seed;
    int camera;
    float *scratch;
    uint8_t *out;
} plate_job;

static void
plate_one(void *context, int64_t i, int worker)
{
    (void)worker;
    const plate_job *job = context;
    rc_synth_plate_draw(job->seed, job->camera, (int)i, job->scratch + i * PLATE_SIZE,
                        job->out + i * PLATE_SIZE);
}

/* The plates of one camera, drawn by whoever asks first. */
static rc_status
need_plates(rc_synth *set, int camera, int threads, rc_error *err)
{
    rc_synth_camera *lens = &set->cameras[camera];
    if (lens->plates) {
        return RC_OK;
    }
    pthread_mutex_lock(&set->lock);
    rc_status status = RC_OK;
    if (!lens->plates) {
        float *tmp = rc_alloc((int64_t)PLATES * PLATE_SIZE, sizeof(float));
        uint8_t *out = rc_alloc((int64_t)PLATES * PLATE_SIZE + SPARE, 1);
        if (tmp && out) {
            plate_job job = {set->options.seed, camera, tmp, out};
            rc_parallel(PLATES, threads, plate_one, &job);
            lens->plates = out;
        } else {
            rc_free(out);
            status = rc_fail(err, RC_MEMORY, "Synthetic: no memory for a camera's plates");
        }
        rc_free(tmp);
    }
    pthread_mutex_unlock(&set->lock);
    return status;
}

static rc_status
check_rows(const rc_synth *set, const int64_t *rows, int64_t n, rc_error *err)
{
    for (int64_t i = 0; i < n; i++) {
        const int64_t *r = rows + 3 * i;
        bool person = r[0] >= 1 && r[0] < RC_SYNTH_PASSERBY;
        bool extra = (r[0] >= RC_SYNTH_DISTRACTOR && r[0] < RC_SYNTH_DISTRACTOR + (1 << 20))
                     || (r[0] >= RC_SYNTH_JUNK && r[0] < RC_SYNTH_JUNK + (1 << 20));
        if (!person && !extra) {
            return rc_fail(err, RC_ARGUMENT, "rows[%lld]: expected an identity from 1 to %lld (or "
                           "2^32 + j, 2^33 + j), got %lld", (long long)i,
                           (long long)RC_SYNTH_PASSERBY - 1, (long long)r[0]);
        }
        if (r[1] < 0 || r[1] >= set->options.cameras) {
            return rc_fail(err, RC_ARGUMENT, "rows[%lld]: expected a camera from 0 to %lld, got "
                           "%lld", (long long)i, (long long)set->options.cameras - 1,
                           (long long)r[1]);
        }
        if (r[2] < 0 || r[2] >= (int64_t)1 << 32) {
            return rc_fail(err, RC_ARGUMENT, "rows[%lld]: expected an index from 0 to 2^32 - 1, "
                           "got %lld", (long long)i, (long long)r[2]);
        }
    }
    return RC_OK;
}

rc_status
rc_synth_render(rc_synth *set, const int64_t *rows, int64_t n, int threads,
                const rc_synth_output *out, rc_error *err)
{
    if (threads < 1) {
        return rc_fail(err, RC_ARGUMENT, "threads: expected 1 or more, got %d", threads);
    }
    RC_TRY(check_rows(set, rows, n, err));
    threads = threads > RC_MAX_THREADS ? RC_MAX_THREADS : threads;
    threads = threads > n ? (int)(n > 0 ? n : 1) : threads;
    batch job = {.set = set, .ops = rc_synth_ops_get(), .rows = rows, .out = *out};
    if (out->images || out->masks || out->visible) {
        for (int64_t i = 0; i < n; i++) {
            RC_TRY(need_plates(set, (int)rows[3 * i + 1], threads, err));
        }
        job.block_size = (scratch_floats(&set->options) + 15) & ~(int64_t)15;
        job.block = rc_alloc_zero(threads * job.block_size, sizeof(float));
        if (!job.block) {
            return rc_fail(err, RC_MEMORY, "Synthetic: no memory for %d threads", threads);
        }
    }
    rc_parallel(n, threads, render_one, &job);
    rc_free(job.block);
    return RC_OK;
}

rc_status
rc_synth_describe(const rc_synth *set, int64_t pid, rc_synth_attributes *out, rc_error *err)
{
    if (pid < 1 || pid >= RC_SYNTH_PASSERBY) {
        return rc_fail(err, RC_ARGUMENT, "pid: expected an identity from 1 to %lld, got %lld",
                       (long long)RC_SYNTH_PASSERBY - 1, (long long)pid);
    }
    rc_synth_person person;
    rc_synth_person_draw(set->options.seed, pid, set->options.twins, &person);
    rc_synth_person_describe(&person, out);
    return RC_OK;
}
