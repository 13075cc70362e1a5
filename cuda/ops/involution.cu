/* Involution: a K x K kernel for every position and group, given as data (csrc/ops/involution.c).
 *
 * A block has a tile of 8 x 8 positions and 32 channels (whole groups, or parts of one) and keeps x
 * or dy of the tile and its margin in shared memory, as 32-channel rows; a thread has a run of four
 * positions in a row and four channels, so that what it loads of a row of x serves four outputs.
 * Kernel weights are read once each, straight from memory, by neighbours together.
 * Shapes that do not fit (channels no multiple of 32, groups that a pack of four or a tile would
 * cross, other K) take the plain kernels at the end. */
#include "kernel.h"

namespace {

constexpr int TILE = 8, WIDE = 32, PACK = 4, THREADS = 128; /* 8 rows x 2 runs x 8 packs */

struct window {
    int n, h, w, c, kernel, groups, per_group;
};

window
window_of(const rc_call *call)
{
    const rc_shape *s = &call->xs[0];
    window o = {static_cast<int>(s->d[0]), static_cast<int>(s->d[2]), static_cast<int>(s->d[3]),
                static_cast<int>(s->d[1]), static_cast<int>(call->attrs->kernel),
                static_cast<int>(call->attrs->groups), 0};
    o.per_group = o.c / o.groups;
    return o;
}

/* Whether groups and blocks of 32 channels, and packs of four, lie in each other. */
bool
fits(const window &o)
{
    bool kernel = o.kernel == 3 || o.kernel == 5 || o.kernel == 7;
    return kernel && o.c % WIDE == 0 && o.per_group % PACK == 0
           && (WIDE % o.per_group == 0 || o.per_group % WIDE == 0);
}

/* Where a block's tile lies, from its number. */
struct tile {
    int image, top, left, channel;
    __device__ __forceinline__ tile(const window &o, int id)
    {
        int across = (o.w + TILE - 1) / TILE, down = (o.h + TILE - 1) / TILE, deep = o.c / WIDE;
        channel = id % deep * WIDE;
        left = id / deep % across * TILE;
        top = id / deep / across % down * TILE;
        image = id / deep / across / down;
    }
};

int64_t
tiles_of(const window &o)
{
    return static_cast<int64_t>(o.n) * rc_up(o.h, TILE) * rc_up(o.w, TILE) * (o.c / WIDE);
}

/* 32 channels of the tile with a margin of R positions, zero outside the map: s[(y*S + x)*WIDE + k]
 * with S = TILE + 2 R. */
template <int K, class T, class S>
__device__ __forceinline__ void
load(const T *x, const window &o, const tile &at, S s)
{
    constexpr int R = (K - 1) / 2, SIDE = TILE + 2 * R;
    for (int e = threadIdx.x; e < SIDE * SIDE * (WIDE / PACK); e += THREADS) {
        int k = e % (WIDE / PACK) * PACK, place = e / (WIDE / PACK);
        int y = at.top - R + place / SIDE, col = at.left - R + place % SIDE;
        float v[PACK] = {};
        if (y >= 0 && y < o.h && col >= 0 && col < o.w) {
            rc_get_pack<T, PACK>(x, ((static_cast<int64_t>(at.image) * o.h + y) * o.w + col) * o.c
                                 + at.channel + k, v);
        }
#pragma unroll
        for (int j = 0; j < PACK; j++) {
            s[place * WIDE + k + j] = v[j];
        }
    }
    RC_SYNC();
}

/* y, or dx: there the weight that joins p and its neighbour q lies at q, at the tap from q to p. */
template <int K, bool BACK, class T>
__global__ void __launch_bounds__(THREADS)
tile_kernel(const T *x, const T *k, T *y, window o, bool add)
{
    constexpr int R = (K - 1) / 2, SIDE = TILE + 2 * R, RUN = 4;
    RC_SHARED(float, s, SIDE * SIDE * WIDE);
    tile at(o, static_cast<int>(blockIdx.x));
    load<K>(x, o, at, s);
    int t = threadIdx.x, pack = t % (WIDE / PACK) * PACK, run = t / (WIDE / PACK) % 2 * RUN;
    int row = t / (WIDE / PACK) / 2, group = (at.channel + pack) / o.per_group;
    int64_t weights = static_cast<int64_t>(o.groups) * K * K; /* of a position */
    float sum[RUN][PACK] = {};
    for (int ky = 0; ky < K; ky++) {
        int seen = at.top + row + ky - R; /* the row of the map that tap ky sees */
#pragma unroll
        for (int q = 0; q < RUN + K - 1; q++) { /* columns of the tile with its margin, from run */
            float v[PACK];
            int place = (row + ky) * SIDE + run + q;
#pragma unroll
            for (int j = 0; j < PACK; j++) {
                v[j] = s[place * WIDE + pack + j];
            }
#pragma unroll
            for (int p = 0; p < RUN; p++) {
                int kx = q - p;
                if (kx < 0 || kx >= K) {
                    continue;
                }
                int y0 = at.top + row, x0 = at.left + run + p, tap = ky * K + kx;
                int col = at.left + run + q - R;
                bool in = y0 < o.h && x0 < o.w && seen >= 0 && seen < o.h && col >= 0
                          && col < o.w;
                if (BACK) {
                    y0 = seen;
                    x0 = col;
                    tap = K * K - 1 - tap;
                }
                float weight = in ? rc_get(k, ((static_cast<int64_t>(at.image) * o.h + y0) * o.w
                                               + x0) * weights + group * (K * K) + tap)
                                  : 0;
#pragma unroll
                for (int j = 0; j < PACK; j++) {
                    sum[p][j] += weight * v[j];
                }
            }
        }
    }
    for (int p = 0; p < RUN; p++) {
        int y0 = at.top + row, x0 = at.left + run + p;
        if (y0 < o.h && x0 < o.w) {
            rc_put_pack<T, PACK>(y, ((static_cast<int64_t>(at.image) * o.h + y0) * o.w + x0) * o.c
                                 + at.channel + pack, sum[p], add);
        }
    }
}

/* dk: products of dy and x over the channels of a group. A thread has a position of the tile and a
 * group (or the 32 channels that the block has of one), and its K taps of a row at a time. */
template <int K, class T>
__global__ void __launch_bounds__(THREADS)
weights_kernel(const T *x, const T *dy, T *dk, window o, bool add)
{
    constexpr int R = (K - 1) / 2, SIDE = TILE + 2 * R;
    RC_SHARED(float, s, SIDE * SIDE * WIDE);
    window whole = o; /* groups wider than 32 channels: the block walks over all of them */
    int wide = o.per_group > WIDE ? o.per_group : WIDE, steps = wide / WIDE;
    whole.c = o.c / steps;
    tile at(whole, static_cast<int>(blockIdx.x));
    int first = at.channel * steps, groups = o.per_group < WIDE ? WIDE / o.per_group : 1;
    int span = o.per_group < WIDE ? o.per_group : WIDE;
    for (int work = threadIdx.x; work / THREADS * THREADS < TILE * TILE * groups;
         work += THREADS) {
        int place = work / groups, g = work % groups, row = place / TILE, col = place % TILE;
        int y0 = at.top + row, x0 = at.left + col;
        bool in = work < TILE * TILE * groups && y0 < o.h && x0 < o.w;
        int64_t p = (static_cast<int64_t>(at.image) * o.h + y0) * o.w + x0;
        for (int ky = 0; ky < K; ky++) {
            float sum[K] = {};
            for (int step = 0; step < steps; step++) {
                at.channel = first + step * WIDE;
                if (steps > 1 || (ky == 0 && work < THREADS)) {
                    RC_SYNC();
                    load<K>(x, o, at, s);
                }
                for (int j = 0; in && j < span; j += PACK) {
                    float d[PACK];
                    rc_get_pack<T, PACK>(dy, p * o.c + at.channel + g * span + j, d);
#pragma unroll
                    for (int kx = 0; kx < K; kx++) {
                        int from = ((row + ky) * SIDE + col + kx) * WIDE + g * span + j;
#pragma unroll
                        for (int i = 0; i < PACK; i++) {
                            sum[kx] += d[i] * s[from + i];
                        }
                    }
                }
            }
            for (int kx = 0; in && kx < K; kx++) {
                int group = first / o.per_group + g;
                rc_put(dk, (p * o.groups + group) * (K * K) + ky * K + kx, sum[kx], add);
            }
        }
    }
}

/* ---- any shape -------------------------------------------------------------------------------- */

template <class T> struct outputs {
    const T *x, *k;
    T *y;
    window o;
    bool back, add;
    __device__ void operator()(int i) const
    {
        int p = i / o.c, c = i % o.c, col = p % o.w, row = p / o.w % o.h, r = (o.kernel - 1) / 2;
        int taps = o.kernel * o.kernel;
        float sum = 0;
        for (int t = 0; t < taps; t++) {
            int dy = t / o.kernel - r, dx = t % o.kernel - r;
            if (row + dy >= 0 && row + dy < o.h && col + dx >= 0 && col + dx < o.w) {
                int q = p + dy * o.w + dx, at = back ? q : p, tap = back ? taps - 1 - t : t;
                sum += rc_get(x, static_cast<int64_t>(q) * o.c + c)
                       * rc_get(k, (static_cast<int64_t>(at) * o.groups + c / o.per_group) * taps
                                + tap);
            }
        }
        rc_put(y, i, sum, add);
    }
};

template <class T> struct weights {
    const T *x, *dy;
    T *dk;
    window o;
    bool add;
    __device__ void operator()(int i) const
    {
        int taps = o.kernel * o.kernel, r = (o.kernel - 1) / 2;
        int t = i % taps, g = i / taps % o.groups, p = i / taps / o.groups;
        int row = p / o.w % o.h + t / o.kernel - r, col = p % o.w + t % o.kernel - r;
        float sum = 0;
        if (row >= 0 && row < o.h && col >= 0 && col < o.w) {
            int64_t seen = p + (t / o.kernel - r) * o.w + t % o.kernel - r;
            for (int c = g * o.per_group; c < (g + 1) * o.per_group; c++) {
                sum += rc_get(dy, static_cast<int64_t>(p) * o.c + c) * rc_get(x, seen * o.c + c);
            }
        }
        rc_put(dk, i, sum, add);
    }
};

/* ---- launching -------------------------------------------------------------------------------- */

template <int K, bool BACK, class T>
void
tiles(const T *x, const T *k, T *y, const window &o, bool add, rc_cuda_stream stream)
{
    rc_launch(tile_kernel<K, BACK, T>, dim3(static_cast<unsigned>(tiles_of(o))), dim3(THREADS), 0,
              stream, x, k, y, o, add);
}

template <bool BACK, class T>
void
map(const void *x, const void *k, void *y, const window &o, bool add, rc_cuda_stream stream)
{
    const T *from = static_cast<const T *>(x), *by = static_cast<const T *>(k);
    T *to = static_cast<T *>(y);
    if (!fits(o)) {
        rc_each(stream, static_cast<int64_t>(o.n) * o.h * o.w * o.c,
                outputs<T>{from, by, to, o, BACK, add});
    } else if (o.kernel == 7) {
        tiles<7, BACK, T>(from, by, to, o, add, stream);
    } else if (o.kernel == 5) {
        tiles<5, BACK, T>(from, by, to, o, add, stream);
    } else {
        tiles<3, BACK, T>(from, by, to, o, add, stream);
    }
}

template <class T>
void
gradient_of_kernels(const T *x, const T *dy, T *dk, const window &o, bool add,
                    rc_cuda_stream stream)
{
    if (!fits(o)) {
        rc_each(stream, static_cast<int64_t>(o.n) * o.h * o.w * o.groups * o.kernel * o.kernel,
                weights<T>{x, dy, dk, o, add});
        return;
    }
    int64_t steps = o.per_group > WIDE ? o.per_group / WIDE : 1;
    dim3 grid(static_cast<unsigned>(tiles_of(o) / steps));
    rc_launch(o.kernel == 7   ? weights_kernel<7, T>
              : o.kernel == 5 ? weights_kernel<5, T>
                              : weights_kernel<3, T>,
              grid, dim3(THREADS), 0, stream, x, dy, dk, o, add);
}

template <class T>
void
forward(const rc_call *call, rc_cuda_stream stream)
{
    map<false, T>(call->x[0], call->x[1], call->y, window_of(call), false, stream);
}

template <class T>
void
backward(const rc_call *call, rc_cuda_stream stream)
{
    window o = window_of(call);
    if (call->dx[0]) {
        map<true, T>(call->dy, call->x[1], call->dx[0], o, call->add[0], stream);
    }
    if (call->dx[1]) {
        gradient_of_kernels<T>(static_cast<const T *>(call->x[0]),
                               static_cast<const T *>(call->dy), static_cast<T *>(call->dx[1]), o,
                               call->add[1], stream);
    }
}

} // namespace

RC_CUDA_LAUNCHER(involution, forward)
RC_CUDA_LAUNCHER(involution, backward)
