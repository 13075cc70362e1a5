/* Matrix products that are no library's business: factors that are transposed, gathered or made on
 * the way. In float on the general units; each element is summed in the order of k, in pieces. */
#ifndef RC_CUDA_PRODUCTS_H
#define RC_CUDA_PRODUCTS_H

#include "kernel.h"

namespace rc_products {

/* ---- a matrix of 64 x 64 a block -------------------------------------------------------------- */

constexpr int SIDE = 64, DEPTH = 16;

/* f.a(batch, i, k), f.b(batch, k, j), f.put(batch, i, j, sum); f.a_by_k, f.b_by_k: whether
 * neighbours in memory are those of k. Pieces of 16 products are added with compensation
 * (Kahan), so that a sum of thousands of terms is as good as one in double rounded to float. */
template <class F>
static __global__ void __launch_bounds__(256)
matrix_kernel(F f, int m, int n, int depth, int across)
{
    RC_SHARED(float, as, DEPTH * (SIDE + 1));
    RC_SHARED(float, bs, DEPTH * (SIDE + 1));
    int t = threadIdx.x, tx = t % 16, ty = t / 16, batch = blockIdx.y;
    int i0 = static_cast<int>(blockIdx.x) / across * SIDE;
    int j0 = static_cast<int>(blockIdx.x) % across * SIDE;
    float sum[4][4] = {}, lost[4][4] = {};
    for (int k0 = 0; k0 < depth; k0 += DEPTH) {
        if (k0 > 0) {
            RC_SYNC();
        }
#pragma unroll
        for (int e = t; e < SIDE * DEPTH; e += 256) {
            int i = f.a_by_k ? e / DEPTH : e % SIDE, k = f.a_by_k ? e % DEPTH : e / SIDE;
            bool in = i0 + i < m && k0 + k < depth;
            as[k * (SIDE + 1) + i] = in ? f.a(batch, i0 + i, k0 + k) : 0;
            int j = f.b_by_k ? e / DEPTH : e % SIDE, l = f.b_by_k ? e % DEPTH : e / SIDE;
            in = j0 + j < n && k0 + l < depth;
            bs[l * (SIDE + 1) + j] = in ? f.b(batch, k0 + l, j0 + j) : 0;
        }
        RC_SYNC();
        float part[4][4] = {};
#pragma unroll
        for (int k = 0; k < DEPTH; k++) {
            float av[4], bv[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                av[i] = as[k * (SIDE + 1) + ty + 16 * i];
                bv[i] = bs[k * (SIDE + 1) + tx + 16 * i];
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    part[i][j] += av[i] * bv[j];
                }
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                float v = part[i][j] - lost[i][j], s = sum[i][j] + v;
                lost[i][j] = (s - sum[i][j]) - v;
                sum[i][j] = s;
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            int row = i0 + ty + 16 * i, column = j0 + tx + 16 * j;
            if (row < m && column < n) {
                f.put(batch, row, column, sum[i][j]);
            }
        }
    }
}

/* Batches: at most 65535. */
template <class F>
static void
matrix(rc_cuda_stream stream, int64_t batches, int64_t m, int64_t n, int64_t depth, F f)
{
    int64_t across = rc_up(n, SIDE);
    rc_launch(matrix_kernel<F>,
              dim3(static_cast<unsigned>(rc_up(m, SIDE) * across), static_cast<unsigned>(batches)),
              dim3(256), 0, stream, f, static_cast<int>(m), static_cast<int>(n),
              static_cast<int>(depth), static_cast<int>(across));
}

/* ---- BR rows by whatever a block's 256 threads -------------------------------------------------- */

constexpr int A_TILE = 512, B_TILE = 2048 + 64; /* floats of shared memory */

/* put(i, j, sum over k < depth of a(i, k) b(k, j)) for i in [0, BR), j in [0, n). Thread of a row
 * group g: rows g, g + 8 …; four columns. All threads come here; a reads what a barrier has made
 * known, and a barrier comes before as, bs and what was put are used again. */
template <int BR, class A, class B, class Put, class SA, class SB>
static __device__ __forceinline__ void
rows(int n, int depth, bool b_by_k, SA as, SB bs, A a, B b, Put put)
{
    constexpr int G = BR < 8 ? BR : 8, CT = 256 / G, R = BR / G, NT = CT * 4, KT = 2048 / NT;
    int t = threadIdx.x, g = t / CT, tx = t % CT;
    for (int n0 = 0; n0 < n; n0 += NT) {
        float sum[R][4] = {};
        for (int k0 = 0; k0 < depth; k0 += KT) {
            if (n0 > 0 || k0 > 0) {
                RC_SYNC();
            }
            for (int e = t; e < BR * KT; e += 256) {
                int i = e / KT, k = e % KT;
                as[i * KT + k] = k0 + k < depth ? a(i, k0 + k) : 0.f;
            }
            for (int e = t; e < NT * KT; e += 256) {
                int j = b_by_k ? e / KT : e % NT, k = b_by_k ? e % KT : e / NT;
                bool in = n0 + j < n && k0 + k < depth;
                bs[k * (NT + 1) + j] = in ? b(k0 + k, n0 + j) : 0.f;
            }
            RC_SYNC();
#pragma unroll
            for (int k = 0; k < KT; k++) {
                float bv[4];
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    bv[j] = bs[k * (NT + 1) + tx + CT * j];
                }
#pragma unroll
                for (int i = 0; i < R; i++) {
                    float av = as[(g + G * i) * KT + k];
#pragma unroll
                    for (int j = 0; j < 4; j++) {
                        sum[i][j] += av * bv[j];
                    }
                }
            }
        }
#pragma unroll
        for (int i = 0; i < R; i++) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                if (n0 + tx + CT * j < n) {
                    put(g + G * i, n0 + tx + CT * j, sum[i][j]);
                }
            }
        }
    }
}

} // namespace rc_products

#endif
