/* float32 to bf16 (to the nearest, ties to even) and back. */
#include "cpu/cast.h"

#include "base/element.h"
#include "cpu/kernels/simd/loops.h"

typedef struct cast_job {
    const void *from;
    void *to;
    rc_cut cut;
    bool add;
} cast_job;

static void
to_bf16_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const cast_job *j = context;
    const float *from = j->from;
    uint16_t *to = j->to;
    int64_t last = cut_to(j->cut, task);
    for (int64_t strip = cut_from(j->cut, task); strip < last; strip += STRIP) {
        int64_t end = strip + STRIP < last ? strip + STRIP : last;
        ask_strip(from + strip, end - strip);
        if (j->add) {
            RC_IVDEP
            for (int64_t i = strip; i < end; i++) {
                to[i] = rc_to_bf16(rc_from_bf16(to[i]) + from[i]);
            }
        } else {
            RC_IVDEP
            for (int64_t i = strip; i < end; i++) {
                to[i] = rc_to_bf16(from[i]);
            }
        }
    }
}

static void
to_real_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const cast_job *j = context;
    const uint16_t *from = j->from;
    float *to = j->to;
    int64_t last = cut_to(j->cut, task);
    int64_t first = cut_from(j->cut, task);
    if (j->add) {
        RC_IVDEP
        for (int64_t i = first; i < last; i++) {
            to[i] += rc_from_bf16(from[i]);
        }
    } else {
        RC_IVDEP
        for (int64_t i = first; i < last; i++) {
            to[i] = rc_from_bf16(from[i]);
        }
    }
}

static void
cast(const rc_call *call, rc_task task)
{
    cast_job j = {call->x[0], call->y, cut_even(rc_shape_count(&call->ys), 16384, 64, 64),
                  call->add[0]};
    rc_parallel(j.cut.tasks, call->threads, task, &j);
}

static void
to_bf16(const rc_call *call)
{
    cast(call, to_bf16_task);
}

static void
to_real(const rc_call *call)
{
    cast(call, to_real_task);
}

const rc_cast_kernels RC_SIMD(rc_casts) = {
    .to_bf16_name = "rc_cast_bf16__" RC_ISA_TEXT,
    .to_real_name = "rc_cast_f32__" RC_ISA_TEXT,
    .to_bf16 = to_bf16,
    .to_real = to_real,
};
