/* Sums over rows, column by column: what normalisations and poolings do with (rows, channels).
 *
 * Columns are neighbours in memory, so a warp reads 32 packs of a row; eight warps share the rows
 * of a chunk, and a sum runs over at most some dozens of rows before it meets others in a tree.
 * Chunks are cut by shape alone; where there are several, their sums are added by a second kernel
 * in double. */
#ifndef RC_CUDA_COLUMNS_H
#define RC_CUDA_COLUMNS_H

#include "kernel.h"

namespace rc_columns {

constexpr int LANES = 32, ROWS = 8; /* of a block */

/* How rows are cut: enough blocks for a large card (132 processors, eight blocks each), no chunk
 * below 64 rows. */
struct cut {
    int64_t chunks, rows; /* of a chunk */
};

static inline cut
cut_of(int64_t rows, int64_t blocks)
{
    int64_t chunks = rc_up(1056, blocks > 0 ? blocks : 1), most = rc_up(rows, 64);
    chunks = chunks > most ? most : chunks;
    chunks = chunks < 1 ? 1 : chunks;
    int64_t height = rc_up(rows, chunks);
    return {rc_up(rows, height), height};
}

template <class T>
static inline int64_t
blocks_of(int64_t c)
{
    int V = rc_fits_wide<T>(c) ? rc_wide<T> : 1;
    return rc_up(c, LANES * V);
}

/* Values of one thread, column j of its pack, to the sum over the block's eight warps, which the
 * first of them knows. s: ROWS*LANES*V; a barrier comes before it is used again. */
template <class A, int V, class S>
static __device__ __forceinline__ void
across(A (&v)[V], S s, int tx, int ty)
{
#pragma unroll
    for (int j = 0; j < V; j++) {
        s[(j * ROWS + ty) * LANES + tx] = v[j];
    }
    RC_SYNC();
    if (ty == 0) {
#pragma unroll
        for (int j = 0; j < V; j++) {
            A part[ROWS];
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                part[r] = s[(j * ROWS + r) * LANES + tx];
            }
            v[j] = ((part[0] + part[4]) + (part[2] + part[6]))
                   + ((part[1] + part[5]) + (part[3] + part[7]));
        }
    }
}

/* f.add<V>(group, row, channel, sums): adds the K values of V channels to sums[K][V].
 * f.finish(group, channel, sums): the K sums of a channel over all rows of a group. */
template <class A, int K, int V, class F>
static __global__ void __launch_bounds__(LANES * ROWS, 2)
kernel(F f, int c, int blocks, int rows, int chunks, int height, float *partial)
{
    RC_SHARED(A, s, ROWS * LANES * V);
    int tx = threadIdx.x, ty = threadIdx.y, id = blockIdx.x;
    int k = (id % blocks * LANES + tx) * V, chunk = id / blocks % chunks;
    int group = id / blocks / chunks;
    int end = rows - chunk * height < height ? rows : (chunk + 1) * height;
    A sums[K][V];
#pragma unroll
    for (int i = 0; i < K; i++) {
#pragma unroll
        for (int j = 0; j < V; j++) {
            sums[i][j] = 0;
        }
    }
    if (k < c) {
#pragma unroll(V > 4 ? 2 : 4) /* rows in flight */
        for (int r = chunk * height + ty; r < end; r += ROWS) {
            f.template add<V>(group, r, k, sums);
        }
    }
#pragma unroll
    for (int i = 0; i < K; i++) {
        if (i > 0) {
            RC_SYNC();
        }
        across<A, V>(sums[i], s, tx, ty);
    }
    if (ty > 0 || k >= c) {
        return;
    }
#pragma unroll
    for (int j = 0; j < V; j++) {
        if (chunks == 1) {
            A of[K];
#pragma unroll
            for (int i = 0; i < K; i++) {
                of[i] = sums[i][j];
            }
            f.finish(group, k + j, of);
        } else {
#pragma unroll
            for (int i = 0; i < K; i++) {
                partial[((static_cast<int64_t>(group) * chunks + chunk) * K + i) * c + k + j] =
                    static_cast<float>(sums[i][j]);
            }
        }
    }
}

template <int K, class F> struct collect {
    F f;
    const float *partial;
    int c, chunks;
    template <int V>
    __device__ __forceinline__ void add(int group, int row, int k, double (&sums)[K][V]) const
    {
#pragma unroll
        for (int i = 0; i < K; i++) {
            sums[i][0] +=
                partial[((static_cast<int64_t>(group) * chunks + row) * K + i) * c + k];
        }
    }
    __device__ __forceinline__ void finish(int group, int k, const double (&sums)[K]) const
    {
        f.finish(group, k, sums);
    }
};

/* Bytes of scratch for `run`. */
static inline int64_t
scratch(const rc_call *call, int64_t groups, int64_t rows, int64_t c, int64_t K)
{
    int64_t blocks = rc_cuda_type_of(call) == RC_CUDA_BF16 ? blocks_of<rc_bf16>(c)
                                                           : blocks_of<float>(c);
    cut u = cut_of(rows, groups * blocks);
    return u.chunks > 1 ? groups * u.chunks * K * c * 4 : 0;
}

template <class T, int K, class F>
static void
run(rc_cuda_stream stream, int64_t groups, int64_t rows, int64_t c, float *partial, F f)
{
    constexpr int W = rc_wide<T>;
    int64_t blocks = blocks_of<T>(c);
    cut u = cut_of(rows, groups * blocks);
    dim3 grid(static_cast<unsigned>(groups * u.chunks * blocks)), block(LANES, ROWS);
    int n = static_cast<int>(c), b = static_cast<int>(blocks), r = static_cast<int>(rows);
    int chunks = static_cast<int>(u.chunks), height = static_cast<int>(u.rows);
    if (rc_fits_wide<T>(c)) {
        rc_launch(kernel<float, K, W, F>, grid, block, 0, stream, f, n, b, r, chunks, height,
                  partial);
    } else {
        rc_launch(kernel<float, K, 1, F>, grid, block, 0, stream, f, n, b, r, chunks, height,
                  partial);
    }
    if (chunks > 1) {
        int narrow = static_cast<int>(rc_up(c, LANES));
        rc_launch(kernel<double, K, 1, collect<K, F>>,
                  dim3(static_cast<unsigned>(groups * narrow)), block, 0, stream,
                  collect<K, F>{f, partial, n, chunks}, n, narrow, chunks, 1, chunks,
                  static_cast<float *>(nullptr));
    }
}

} // namespace rc_columns

#endif
