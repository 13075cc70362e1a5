/* Values as bytes and back, and the maximum of bytes over windows; built without contraction, so that
 * the bytes are the same on every instruction set. */
#include "cpu/int8.h"

#include "cpu/cast.h"
#include "cpu/kernels/simd/loops.h"

/* ---- casts: call->extra is the value's rc_bytes --------------------------------------------- */

typedef struct cast_job {
    const void *from;
    void *to;
    rc_cut cut;
    float step, inverse, zero;
} cast_job;

#define ROUND 8388608.0f /* 2^23: adding it leaves the nearest integer, ties to even, in the low bits */

static void
to_bytes_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const cast_job *j = context;
    const float *restrict from = j->from;
    uint8_t *restrict to = j->to;
    const float inverse = j->inverse, zero = j->zero;
    int64_t last = cut_to(j->cut, task);
    for (int64_t i = cut_from(j->cut, task); i < last; i++) {
        float t = from[i] * inverse + zero;
        t = t > 0.0f ? t : 0.0f;
        t = (t < 255.0f ? t : 255.0f) + ROUND;
        int32_t bits;
        memcpy(&bits, &t, sizeof bits);
        to[i] = (uint8_t)bits;
    }
}

static void
from_bytes_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const cast_job *j = context;
    const uint8_t *restrict from = j->from;
    float *restrict to = j->to;
    const float step = j->step, zero = j->zero;
    int64_t last = cut_to(j->cut, task);
    for (int64_t i = cut_from(j->cut, task); i < last; i++) {
        to[i] = ((float)from[i] - zero) * step;
    }
}

static void
cast(const rc_call *call, rc_task task)
{
    const rc_bytes *b = call->extra;
    cast_job j = {call->x[0], call->y, cut_even(rc_shape_count(&call->ys), 16384, 64, 64),
                  b->step, 1.0f / b->step, (float)b->zero};
    rc_parallel(j.cut.tasks, call->threads, task, &j);
}

static void
to_bytes(const rc_call *call)
{
    cast(call, to_bytes_task);
}

static void
from_bytes(const rc_call *call)
{
    cast(call, from_bytes_task);
}

const rc_cast_bytes RC_SIMD(rc_casts_bytes) = {
    .to_name = "rc_cast_u8__" RC_ISA_TEXT,
    .from_name = "rc_cast_u8_f32__" RC_ISA_TEXT,
    .to = to_bytes,
    .from = from_bytes,
};

/* ---- max_pool2d: input and result share step and zero ----------------------------------------- */

static void
largest(uint8_t *restrict y, const uint8_t *restrict x, int64_t count, bool first)
{
    if (first) {
        memcpy(y, x, (size_t)count);
        return;
    }
    for (int64_t k = 0; k < count; k++) {
        y[k] = x[k] > y[k] ? x[k] : y[k];
    }
}

/* A line of results: the largest of each column under it, then of neighbouring columns. */
static void
window_task(void *context, int64_t row, int worker)
{
    const rc_call *call = context;
    const int64_t h = call->xs[0].d[2], w = call->xs[0].d[3], c = call->ys.d[1];
    const int64_t oh = call->ys.d[2], ow = call->ys.d[3], kernel = call->attrs->kernel;
    const uint8_t *image = (const uint8_t *)call->x[0] + row / oh * h * w * c;
    uint8_t *columns = (uint8_t *)call->tmp + worker * w * c;
    uint8_t *y = (uint8_t *)call->y + row * ow * c;
    int64_t top = row % oh * call->attrs->stride - call->attrs->pad;
    bool first = true;
    for (int64_t iy = top < 0 ? 0 : top; iy < top + kernel && iy < h; iy++, first = false) {
        largest(columns, image + iy * w * c, w * c, first);
    }
    for (int64_t ox = 0; ox < ow; ox++, y += c) {
        int64_t left = ox * call->attrs->stride - call->attrs->pad;
        first = true;
        for (int64_t ix = left < 0 ? 0 : left; ix < left + kernel && ix < w; ix++, first = false) {
            largest(y, columns + ix * c, c, first);
        }
    }
}

static int64_t
max_pool2d_tmp(const rc_attrs *a, const rc_shape *xs, const rc_shape *y, bool backward, int threads)
{
    (void)a;
    (void)y;
    (void)backward;
    return threads * xs[0].d[3] * xs[0].d[1];
}

static void
max_pool2d(const rc_call *call)
{
    rc_parallel(call->ys.d[0] * call->ys.d[2], call->threads, window_task, (void *)call);
}

const rc_fast_kernel RC_SIMD(rc_fast_max_pool2d_bytes) = {
    .name = "rc_u8_max_pool2d__" RC_ISA_TEXT,
    .op = RC_OP_max_pool2d,
    .element = RC_U8,
    .tmp_size = max_pool2d_tmp,
    .forward = max_pool2d,
};
