/* Centre loss (csrc/ops/center.c). Backward to the centres: the first row of a label collects all
 * rows of that label, in their order, so nothing is added by two blocks. */
#include "double_rows.h"

namespace {

constexpr double LEAST = 1e-12, MOST = 1e12;

/* squares: (n), and what each row adds to the loss. */
template <class T> struct distances {
    const T *x;
    const int64_t *labels;
    const float *centers;
    double *squares, *losses; /* losses may be NULL */
    int c, k;
    __device__ void operator()(int row, int lane) const
    {
        double d = rc_double::distance2(x + static_cast<int64_t>(row) * c, 1.0,
                                        centers + labels[row] * c, 1.0, c, lane);
        if (lane == 0) {
            squares[row] = d;
            if (losses) {
                losses[row] = (d < LEAST ? LEAST : d > MOST ? MOST : d) + (k - 1) * LEAST;
            }
        }
    }
};

struct pull {
    const int64_t *labels;
    const float *centers, *dy;
    const double *squares;
    int n, c;

    template <class T>
    __device__ __forceinline__ float gradient(const T *x, int row, int channel) const
    {
        double square = squares[row];
        if (square < LEAST || square > MOST) {
            return 0;
        }
        double d = static_cast<double>(rc_get(x, static_cast<int64_t>(row) * c + channel))
                   - centers[labels[row] * c + channel];
        return static_cast<float>(2.0 * dy[0] / n * d);
    }
};

template <class T> struct to_rows {
    const T *x;
    T *dx;
    pull p;
    bool add;
    __device__ void operator()(int i) const
    {
        rc_put(dx, i, p.gradient(x, i / p.c, i % p.c), add);
    }
};

struct zeros {
    float *x;
    __device__ void operator()(int i) const { x[i] = 0; }
};

/* A warp a row; rows whose label came before leave it to that one. */
template <class T> struct to_centers {
    const T *x;
    float *dc;
    pull p;
    __device__ void operator()(int row, int lane) const
    {
        for (int i = 0; i < row; i++) {
            if (p.labels[i] == p.labels[row]) {
                return;
            }
        }
        for (int l = lane; l < p.c; l += 32) {
            float sum = dc[p.labels[row] * p.c + l];
            for (int i = row; i < p.n; i++) {
                sum -= p.labels[i] == p.labels[row] ? p.gradient(x, i, l) : 0;
            }
            dc[p.labels[row] * p.c + l] = sum;
        }
    }
};

template <class T>
void
squares_of(const rc_call *call, double *losses, rc_cuda_stream stream)
{
    rc_rows::warps(stream, call->xs[0].d[0],
                   distances<T>{static_cast<const T *>(call->x[0]),
                                static_cast<const int64_t *>(call->x[1]),
                                static_cast<const float *>(call->x[2]),
                                static_cast<double *>(call->tmp), losses,
                                static_cast<int>(call->xs[0].d[1]),
                                static_cast<int>(call->xs[2].d[0])});
}

template <class T>
void
forward(const rc_call *call, rc_cuda_stream stream)
{
    int64_t n = call->xs[0].d[0];
    double *losses = static_cast<double *>(call->tmp) + n;
    squares_of<T>(call, losses, stream);
    rc_double::mean(stream, losses, n, static_cast<double>(n), call->y);
}

template <class T>
void
backward(const rc_call *call, rc_cuda_stream stream)
{
    int64_t n = call->xs[0].d[0], c = call->xs[0].d[1];
    const T *x = static_cast<const T *>(call->x[0]);
    pull p = {static_cast<const int64_t *>(call->x[1]), static_cast<const float *>(call->x[2]),
              static_cast<const float *>(call->dy), static_cast<const double *>(call->tmp),
              static_cast<int>(n), static_cast<int>(c)};
    squares_of<T>(call, nullptr, stream);
    if (call->dx[0]) {
        rc_each(stream, n * c, to_rows<T>{x, static_cast<T *>(call->dx[0]), p, call->add[0]});
    }
    if (call->dx[2]) {
        float *dc = static_cast<float *>(call->dx[2]);
        if (!call->add[2]) {
            rc_each(stream, rc_shape_count(&call->xs[2]), zeros{dc});
        }
        rc_rows::warps(stream, n, to_centers<T>{x, dc, p});
    }
}

} // namespace

RC_CUDA_LAUNCHER(center, forward)
RC_CUDA_LAUNCHER(center, backward)
RC_CUDA_TMP(center)
{
    return call->xs[0].d[0] * (backward ? 8 : 16);
}
