/* Element by element: activation, sum, product with a map or with a channel vector, forward and
 * backward; rules and letters: csrc/ops/{activation,add,mul_map,mul_channel}.c. One pass over
 * memory each; in and out may be the same memory. Sums over channels run over a row in float,
 * those over positions in float per 16 positions and in double across. */
#include "cpu/kernels/simd/element.h"

/* ---- activation and add: flat ---------------------------------------------------------------- */

typedef struct flat_job {
    const rc_call *call;
    rc_cut cut;
} flat_job;

static rc_cut
flat_cut(const rc_call *call)
{
    return cut_even(rc_shape_count(&call->ys), 16384, 64, 64);
}

/* y = act(a + b), b may be NULL. */
RC_INLINE void
flat_forward(const flat_job *j, int64_t from, int64_t to, const elem *b, int64_t act)
{
    const elem *a = j->call->x[0];
    elem *y = j->call->y;
    float slope = (float)j->call->attrs->slope;
    for (int64_t strip = from; strip < to; strip += STRIP) {
        int64_t end = strip + STRIP < to ? strip + STRIP : to;
        ask_strip(a + strip, end - strip);
        if (b) {
            ask_strip(b + strip, end - strip);
            RC_IVDEP
            for (int64_t i = strip; i < end; i++) {
                y[i] = e_put(act_value(act, slope, e_get(a[i]) + e_get(b[i])));
            }
        } else {
            RC_IVDEP
            for (int64_t i = strip; i < end; i++) {
                y[i] = e_put(act_value(act, slope, e_get(a[i])));
            }
        }
    }
}

static void
activation_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const flat_job *j = context;
    int64_t from = cut_from(j->cut, task), to = cut_to(j->cut, task);
    RC_EACH_ACT(j->call->attrs->act, flat_forward, j, from, to, NULL);
}

static void
add_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const flat_job *j = context;
    int64_t from = cut_from(j->cut, task), to = cut_to(j->cut, task);
    RC_EACH_ACT(j->call->attrs->act, flat_forward, j, from, to, j->call->x[1]);
}

static void
activation_forward(const rc_call *call)
{
    flat_job j = {call, flat_cut(call)};
    rc_parallel(j.cut.tasks, call->threads, activation_task, &j);
}

static void
add_forward(const rc_call *call)
{
    flat_job j = {call, flat_cut(call)};
    rc_parallel(j.cut.tasks, call->threads, add_task, &j);
}

/* to (+)= g. */
RC_INLINE void
flat_back(const rc_call *call, elem *to, bool add, int64_t from, int64_t last, int64_t act)
{
    const elem *dy = call->dy, *y = act == RC_ACT_NONE ? call->dy : call->y;
    float slope = (float)call->attrs->slope;
    if (add) {
        RC_IVDEP
        for (int64_t i = from; i < last; i++) {
            to[i] = e_put(e_get(to[i]) + act_gradient(act, slope, e_get(y[i]), e_get(dy[i])));
        }
    } else {
        RC_IVDEP
        for (int64_t i = from; i < last; i++) {
            to[i] = e_put(act_gradient(act, slope, e_get(y[i]), e_get(dy[i])));
        }
    }
}

/* Both gradients of add, of activation the one, strip by strip; the first last: it may lie in
 * the memory of dy. */
static void
flat_backward_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const flat_job *j = context;
    const rc_call *call = j->call;
    int64_t last = cut_to(j->cut, task);
    for (int64_t strip = cut_from(j->cut, task); strip < last; strip += STRIP) {
        int64_t end = strip + STRIP < last ? strip + STRIP : last;
        ask_strip((const elem *)call->dy + strip, end - strip);
        if (call->attrs->act != RC_ACT_NONE) {
            ask_strip((const elem *)call->y + strip, end - strip);
        }
        for (int i = call->n_in - 1; i >= 0; i--) {
            if (call->dx[i]) {
                RC_EACH_ACT(call->attrs->act, flat_back, call, call->dx[i], call->add[i], strip,
                            end);
            }
        }
    }
}

static void
flat_backward(const rc_call *call)
{
    flat_job j = {call, flat_cut(call)};
    rc_parallel(j.cut.tasks, call->threads, flat_backward_task, &j);
}

/* ---- products ----------------------------------------------------------------------------- */

typedef struct rows_job {
    const rc_call *call;
    int64_t c, p; /* channels, positions of an image */
    rc_cut rows;
    bool by_channel;
} rows_job;

static rows_job
rows_new(const rc_call *call, bool by_channel)
{
    int64_t c = call->ys.d[1], p = call->ys.d[2] * call->ys.d[3];
    return (rows_job){call, c, p, cut_rows(call->ys.d[0] * p, c), by_channel};
}

/* to (+)= from * factor, by row or by channel. */
RC_INLINE void
row_times(const elem *from, float row, const float *channel, elem *to, int64_t c, bool add)
{
    for (int64_t strip = 0; strip < c; strip += STRIP) {
        int64_t end = strip + STRIP < c ? strip + STRIP : c;
        ask_strip(from + strip, end - strip);
        RC_IVDEP
        for (int64_t k = strip; k < end; k++) {
            float v = (channel ? channel[k] : row) * e_get(from[k]);
            to[k] = e_put(add ? e_get(to[k]) + v : v);
        }
    }
}

static void
rows_times(const rows_job *j, int64_t task, const elem *from, elem *to, bool add)
{
    const elem *map = j->call->x[1];
    for (int64_t r = cut_from(j->rows, task); r < cut_to(j->rows, task); r++) {
        const float *channel = (const float *)j->call->x[1] + r / j->p * j->c; /* a vector */
        if (j->by_channel && add) {
            row_times(from + r * j->c, 0, channel, to + r * j->c, j->c, true);
        } else if (j->by_channel) {
            row_times(from + r * j->c, 0, channel, to + r * j->c, j->c, false);
        } else if (add) {
            row_times(from + r * j->c, e_get(map[r]), NULL, to + r * j->c, j->c, true);
        } else {
            row_times(from + r * j->c, e_get(map[r]), NULL, to + r * j->c, j->c, false);
        }
    }
}

static void
times_forward_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const rows_job *j = context;
    rows_times(j, task, j->call->x[0], j->call->y, false);
}

static void
mul_map_forward(const rc_call *call)
{
    rows_job j = rows_new(call, false);
    rc_parallel(j.rows.tasks, call->threads, times_forward_task, &j);
}

static void
mul_channel_forward(const rc_call *call)
{
    rows_job j = rows_new(call, true);
    rc_parallel(j.rows.tasks, call->threads, times_forward_task, &j);
}

/* Sum over a row of dy x: four vectors of sums, 128 channels in float at a time. */
static double
row_dot(const elem *dy, const elem *x, int64_t c)
{
    double total = 0;
    int64_t k = 0;
    while (k + VN <= c) {
        vf sum[4] = {{0}, {0}, {0}, {0}};
        int64_t end = k + 8 * 4 * VN < c ? k + 8 * 4 * VN : c;
        for (; k + 4 * VN <= end; k += 4 * VN) {
            for (int i = 0; i < 4; i++) {
                sum[i] += ve_load(dy + k + i * VN) * ve_load(x + k + i * VN);
                ask(dy + k + i * VN);
                ask(x + k + i * VN);
            }
        }
        for (; k + VN <= end; k += VN) {
            sum[0] += ve_load(dy + k) * ve_load(x + k);
        }
        total += vf_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
    }
    for (; k < c; k++) {
        total += e_get(dy[k]) * e_get(x[k]);
    }
    return total;
}

static void
mul_map_backward_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const rows_job *j = context;
    const rc_call *call = j->call;
    const elem *x = call->x[0], *dy = call->dy;
    elem *da = call->dx[1];
    for (int64_t r = cut_from(j->rows, task); da && r < cut_to(j->rows, task); r++) {
        float v = (float)row_dot(dy + r * j->c, x + r * j->c, j->c);
        da[r] = e_put(call->add[1] ? e_get(da[r]) + v : v);
    }
    if (call->dx[0]) {
        rows_times(j, task, call->dy, call->dx[0], call->add[0]);
    }
}

static void
mul_map_backward(const rc_call *call)
{
    rows_job j = rows_new(call, false);
    rc_parallel(j.rows.tasks, call->threads, mul_map_backward_task, &j);
}

#define WIDE 128 /* channels of an image whose sums over positions are one task */

static void
mul_channel_sums_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const rows_job *j = context;
    const rc_call *call = j->call;
    const elem *x = call->x[0], *dy = call->dy;
    float *ds = call->dx[1];
    int64_t c = j->c, strips = (c + WIDE - 1) / WIDE, n = task / strips;
    int64_t first = task % strips * WIDE, width = c - first < WIDE ? c - first : WIDE;
    double total[WIDE] = {0};
    for (int64_t p = 0; p < j->p; p += 16) {
        float block[WIDE] = {0};
        int64_t end = p + 16 < j->p ? p + 16 : j->p;
        for (int64_t i = p; i < end; i++) {
            const elem *xs = x + (n * j->p + i) * c + first;
            const elem *ds_from = dy + (n * j->p + i) * c + first;
            for (int64_t k = 0; k < width; k++) {
                block[k] += e_get(ds_from[k]) * e_get(xs[k]);
            }
        }
        for (int64_t k = 0; k < width; k++) {
            total[k] += block[k];
        }
    }
    for (int64_t k = 0; k < width; k++) {
        float *to = ds + n * c + first + k;
        *to = call->add[1] ? *to + (float)total[k] : (float)total[k];
    }
}

static void
times_backward_task(void *context, int64_t task, int worker)
{
    (void)worker;
    const rows_job *j = context;
    rows_times(j, task, j->call->dy, j->call->dx[0], j->call->add[0]);
}

static void
mul_channel_backward(const rc_call *call)
{
    rows_job j = rows_new(call, true);
    if (call->dx[1]) { /* first: dx may lie in the memory of dy */
        rc_parallel(call->ys.d[0] * ((j.c + WIDE - 1) / WIDE), call->threads,
                    mul_channel_sums_task, &j);
    }
    if (call->dx[0]) {
        rc_parallel(j.rows.tasks, call->threads, times_backward_task, &j);
    }
}

const rc_fast_kernel FAST(activation) = {
    .name = FAST_TEXT("activation"),
    .op = RC_OP_activation,
    .element = ELEMENT,
    .refuse = maps_only,
    .forward = activation_forward,
    .backward = flat_backward,
};
const rc_fast_kernel FAST(add) = {
    .name = FAST_TEXT("add"),
    .op = RC_OP_add,
    .element = ELEMENT,
    .refuse = maps_only,
    .forward = add_forward,
    .backward = flat_backward,
};
const rc_fast_kernel FAST(mul_map) = {
    .name = FAST_TEXT("mul_map"),
    .op = RC_OP_mul_map,
    .element = ELEMENT,
    .refuse = maps_only,
    .forward = mul_map_forward,
    .backward = mul_map_backward,
};
const rc_fast_kernel FAST(mul_channel) = {
    .name = FAST_TEXT("mul_channel"),
    .op = RC_OP_mul_channel,
    .element = ELEMENT,
    .refuse = maps_only,
    .forward = mul_channel_forward,
    .backward = mul_channel_backward,
};
