/* The run time's own small kernels (helpers.h), written as those of cuda/ops are (kernel.h). */
#include "helpers.h"

#include "kernel.h"

namespace {

/* ---- element by element ------------------------------------------------------------------------ */

struct fill {
    float *y;
    float value;
    __device__ void operator()(int i) const { y[i] = value; }
};

template <class From, class To> struct cast {
    const From *x;
    To *y;
    bool add;
    __device__ void operator()(int i) const { rc_put(y, i, rc_get(x, i), add); }
};

template <class T> struct epilogue {
    T *y;
    const float *bias;
    const T *residual;
    int c;
    rc_activation act;
    __device__ void operator()(int i) const
    {
        float v = rc_get(y, i);
        v += bias ? bias[i % c] : 0;
        v += residual ? rc_get(residual, i) : 0;
        rc_set(y, i, act.value(v));
    }
};

struct before_act {
    const float *y, *dy;
    float *d;
    rc_activation act;
    __device__ void operator()(int i) const { d[i] = act.gradient(y[i], dy[i]); }
};

template <class T> struct fold {
    const float *w, *bias, *gamma, *beta, *mean, *var;
    T *out, *shift;
    float *shift_float;
    double eps;
    int k, per;
    __device__ void operator()(int i) const
    {
        int row = i < k * per ? i / per : i - k * per;
        double f = gamma[row] / sqrt((double)var[row] + eps);
        if (i < k * per) {
            rc_set(out, i, w[i] * static_cast<float>(f));
            return;
        }
        float s = static_cast<float>(beta[row] + ((bias ? bias[row] : 0.0f) - mean[row]) * f);
        rc_set(shift, row, s);
        shift_float[row] = s;
    }
};

struct blend {
    float *a;
    const float *w;
    float share;
    __device__ void operator()(int i) const { a[i] += share * (w[i] - a[i]); }
};

struct gather {
    rc_device_maps from;
    float *to;
    int h, w;
    bool mirror;
    __device__ void operator()(int i) const
    {
        int c = i % 3, x = i / 3 % w, y = i / 3 / w % h, n = i / 3 / w / h;
        const int64_t *s = from.strides;
        int column = mirror ? w - 1 - x : x;
        to[i] = from.data[n * s[0] + c * s[1] + y * s[2] + column * s[3]];
    }
};

/* ---- sums over rows ------------------------------------------------------------------------------ */

constexpr int SUM_ROWS = 512; /* that a thread adds up */

template <class T> struct row_sums { /* parts (blocks of rows, c) */
    const T *x;
    float *parts;
    int64_t rows;
    int c;
    __device__ void operator()(int i) const
    {
        int64_t block = i / c, column = i % c, first = block * SUM_ROWS;
        int64_t last = first + SUM_ROWS < rows ? first + SUM_ROWS : rows;
        double sum = 0;
        for (int64_t r = first; r < last; r++) {
            sum += rc_get(x, r * c + column);
        }
        parts[i] = static_cast<float>(sum);
    }
};

struct part_sums {
    const float *parts;
    float *out;
    int blocks, c;
    bool add;
    __device__ void operator()(int i) const
    {
        double sum = 0;
        for (int b = 0; b < blocks; b++) {
            sum += parts[static_cast<int64_t>(b) * c + i];
        }
        rc_put(out, i, static_cast<float>(sum), add);
    }
};

/* ---- update -------------------------------------------------------------------------------------- */

/* The rules of csrc/cpu/update_loops.inc for one value. */
__device__ void
update_one(const rc_device_item &t, int i, float scale)
{
    const rc_update &u = t.rule;
    float d = scale * t.g[i] + static_cast<float>(u.decay) * t.w[i];
    float step = static_cast<float>(u.step);
    if (u.kind == RC_UPDATE_ADAM) {
        float m = static_cast<float>(u.beta1) * t.s0[i] + static_cast<float>(1 - u.beta1) * d;
        float v = static_cast<float>(u.beta2) * t.s1[i]
                  + static_cast<float>(1 - u.beta2) * (d * d);
        t.s0[i] = m;
        t.s1[i] = v;
        t.w[i] = static_cast<float>(u.shrink) * t.w[i]
                 - step * m
                       / (sqrtf(v) / static_cast<float>(u.root2) + static_cast<float>(u.eps));
    } else if (u.momentum != 0) {
        float old = u.first ? 0 : static_cast<float>(u.momentum);
        float fresh = u.first ? 1 : static_cast<float>(u.keep);
        float b = (u.first ? 0 : old * t.s0[i]) + fresh * d;
        t.s0[i] = b;
        t.w[i] -= step * (u.nesterov ? d + static_cast<float>(u.momentum) * b : b);
    } else {
        t.w[i] -= step * d;
    }
}

__global__ void __launch_bounds__(RC_BLOCK)
update_kernel(const rc_device_item *items, const rc_update_piece *pieces, const double *clip)
{
    const rc_update_piece piece = pieces[blockIdx.x];
    const rc_device_item &t = items[piece.item];
    double factor = clip && t.clipped ? t.rule.scale * clip[0] : t.rule.scale;
    for (int i = threadIdx.x; i < piece.count; i += RC_BLOCK) {
        update_one(t, piece.from + i, static_cast<float>(factor));
    }
}

/* The sum of squares of each piece, then of all of them, in their order. */
__global__ void __launch_bounds__(RC_BLOCK)
squares_kernel(const rc_device_item *items, const rc_update_piece *pieces, double *squares)
{
    RC_SHARED(double, s, 33);
    const rc_update_piece piece = pieces[blockIdx.x];
    const rc_device_item &t = items[piece.item];
    double sum = 0;
    for (int i = threadIdx.x; t.clipped && i < piece.count; i += RC_BLOCK) {
        double g = t.g[piece.from + i];
        sum += g * g;
    }
    sum = rc_block_sum(sum, s);
    if (threadIdx.x == 0) {
        squares[blockIdx.x] = sum;
    }
}

__global__ void __launch_bounds__(RC_BLOCK)
clip_kernel(const double *squares, int count, double limit, double *clip)
{
    RC_SHARED(double, s, 33);
    double sum = rc_parts_sum<double>(squares, count, s);
    if (threadIdx.x == 0) {
        double norm = sqrt(sum), scale = limit / (norm + 1e-6);
        clip[0] = scale < 1 || scale != scale ? scale : 1;
        clip[1] = norm;
    }
}

} // namespace

/* ---- launchers ------------------------------------------------------------------------------------ */

void
rc_help_fill(rc_cuda_stream stream, float *y, int64_t count, float value)
{
    rc_each(stream, count, fill{y, value});
}

template <class From, class To>
static void
cast_as(rc_cuda_stream stream, const void *x, void *y, int64_t count, bool add)
{
    rc_each(stream, count,
            cast<From, To>{static_cast<const From *>(x), static_cast<To *>(y), add});
}

void
rc_help_cast(rc_cuda_stream stream, const void *x, rc_cuda_type from, void *y, rc_cuda_type to,
             int64_t count, bool add)
{
    if (from == RC_CUDA_F32) {
        (to == RC_CUDA_F32 ? cast_as<float, float> : cast_as<float, rc_bf16>)(stream, x, y, count,
                                                                             add);
    } else {
        (to == RC_CUDA_F32 ? cast_as<rc_bf16, float>
                           : cast_as<rc_bf16, rc_bf16>)(stream, x, y, count, add);
    }
}

template <class T>
static void
epilogue_as(rc_cuda_stream stream, void *y, const float *bias, const void *residual, int64_t rows,
            int64_t c, rc_activation act)
{
    rc_each(stream, rows * c,
            epilogue<T>{static_cast<T *>(y), bias, static_cast<const T *>(residual),
                        static_cast<int>(c), act});
}

void
rc_help_epilogue(rc_cuda_stream stream, rc_cuda_type type, void *y, const float *bias,
                 const void *residual, int64_t rows, int64_t c, int act, float slope)
{
    (type == RC_CUDA_F32 ? epilogue_as<float> : epilogue_as<rc_bf16>)(stream, y, bias, residual,
                                                                      rows, c, {act, slope});
}

void
rc_help_before_act(rc_cuda_stream stream, const float *y, const float *dy, float *d,
                   int64_t count, int act, float slope)
{
    rc_each(stream, count, before_act{y, dy, d, {act, slope}});
}

int64_t
rc_help_sums_parts(int64_t rows, int64_t c)
{
    return rc_up(rows, SUM_ROWS) * c;
}

template <class T>
static void
row_sums_as(rc_cuda_stream stream, const void *x, float *parts, int64_t rows, int64_t c)
{
    rc_each(stream, rc_help_sums_parts(rows, c),
            row_sums<T>{static_cast<const T *>(x), parts, rows, static_cast<int>(c)});
}

void
rc_help_column_sums(rc_cuda_stream stream, rc_cuda_type type, const void *x, int64_t rows,
                    int64_t c, bool add, float *out, float *parts)
{
    int width = static_cast<int>(c);
    (type == RC_CUDA_F32 ? row_sums_as<float> : row_sums_as<rc_bf16>)(stream, x, parts, rows, c);
    rc_each(stream, c, part_sums{parts, out, static_cast<int>(rc_up(rows, SUM_ROWS)), width, add});
}

void
rc_help_fold(rc_cuda_stream stream, rc_cuda_type type, const float *w, const float *bias,
             const float *gamma, const float *beta, const float *mean, const float *var, double eps,
             int64_t k, int64_t per, void *out)
{
    int rows = static_cast<int>(k), row = static_cast<int>(per);
    void *shift = static_cast<char *>(out) + rc_folded_shift(type, k, per);
    float *as_float = reinterpret_cast<float *>(static_cast<char *>(out)
                                                + rc_folded_float(type, k, per));
    if (type == RC_CUDA_F32) {
        rc_each(stream, k * per + k,
                fold<float>{w, bias, gamma, beta, mean, var, static_cast<float *>(out),
                            static_cast<float *>(shift), as_float, eps, rows, row});
    } else {
        rc_each(stream, k * per + k,
                fold<rc_bf16>{w, bias, gamma, beta, mean, var, static_cast<rc_bf16 *>(out),
                              static_cast<rc_bf16 *>(shift), as_float, eps, rows, row});
    }
}

void
rc_help_gather(rc_cuda_stream stream, const rc_device_maps *from, float *to, int64_t n, int64_t h,
               int64_t w, bool mirror)
{
    rc_each(stream, n * h * w * 3,
            gather{*from, to, static_cast<int>(h), static_cast<int>(w), mirror});
}

void
rc_help_blend(rc_cuda_stream stream, float *a, const float *w, int64_t count, float share)
{
    rc_each(stream, count, blend{a, w, share});
}

void
rc_help_update(rc_cuda_stream stream, const rc_update_tables *t, double clip_norm)
{
    dim3 grid(static_cast<unsigned>(t->n_pieces));
    if (t->n_pieces == 0) {
        return;
    }
    if (clip_norm > 0) {
        rc_launch(squares_kernel, grid, dim3(RC_BLOCK), 0, stream, t->items, t->pieces,
                  t->squares);
        rc_launch(clip_kernel, dim3(1), dim3(RC_BLOCK), 0, stream, t->squares,
                  static_cast<int>(t->n_pieces), clip_norm, t->clip);
    }
    rc_launch(update_kernel, grid, dim3(RC_BLOCK), 0, stream, t->items, t->pieces,
              clip_norm > 0 ? t->clip : static_cast<double *>(nullptr));
}

bool
rc_help_fits(void)
{
#ifdef __CUDACC__
    cudaFuncAttributes attributes;
    bool fits = cudaFuncGetAttributes(&attributes, update_kernel) == cudaSuccess;
    (void)cudaGetLastError();
    return fits;
#else
    return true;
#endif
}
