/* Rows of a softmax times values without the matrix of all pairs in memory: a block makes the rows
 * of S that it needs in shared memory, whole, uses them and forgets them. Forward a block has BR
 * queries; backward one kernel has BR queries (for d op(a)) and a second BR keys (for d op(b) and
 * dv), which makes its columns of S again from the rows' maxima and sums.
 *
 * A problem says what it is about (P below): r queries, c keys, k products a logit, e values;
 *     at(image)           moves to an image (or head)
 *     a(i,k) b(k,j) v(j,e) dy(i,e)    elements
 *     b_by_k v_by_key y_by_query      what is contiguous
 *     logit(i, j, sum)    the logit from the sum of products
 *     put_y, put_a, put_b, put_v      results
 *     collect(rows of l …)            for what else depends on the logits */
#ifndef RC_CUDA_ATTENTION_H
#define RC_CUDA_ATTENTION_H

#include "products.h"

namespace rc_attend {

using rc_products::A_TILE;
using rc_products::B_TILE;

constexpr int ROOM = 84 * 1024; /* bytes for rows: with the tiles below any card's 99 KiB */

/* What backward keeps of a row i of an image: its largest logit, the sum of exponentials, and the
 * mean of dS under S. */
struct kept {
    float *of; /* (images, r, 3) */
    int64_t first;
    __device__ __forceinline__ float &top(int i) const { return of[(first + i) * 3]; }
    __device__ __forceinline__ float &sum(int i) const { return of[(first + i) * 3 + 1]; }
    __device__ __forceinline__ float &mean(int i) const { return of[(first + i) * 3 + 2]; }
};

/* Rows [i0, i0 + BR) of S in s: (BR, c), a warp a row. */
template <int BR, class P, class S, class SA, class SB>
static __device__ __forceinline__ void
softmax_rows(const P &p, int i0, S s, SA as, SB bs, const kept *keep)
{
    int lane = threadIdx.x % 32, c = p.c;
    rc_products::rows<BR>(
        c, p.k, p.b_by_k(), as, bs,
        [&](int i, int k) { return i0 + i < p.r ? p.a(i0 + i, k) : 0.f; },
        [&](int k, int j) { return p.b(k, j); },
        [&](int i, int j, float v) {
            s[i * c + j] = i0 + i < p.r ? p.logit(i0 + i, j, v) : 0.f;
        });
    if (BR < 8) { /* else a lane takes just those that it made */
        RC_SYNC();
    }
    for (int i = threadIdx.x / 32; i < BR; i += 8) {
        float top = -INFINITY, sum = 0;
        for (int j = lane; j < c; j += 32) {
            top = fmaxf(top, s[i * c + j]);
        }
        top = rc_warp_max(top);
        for (int j = lane; j < c; j += 32) {
            float v = expf(s[i * c + j] - top);
            s[i * c + j] = v;
            sum += v;
        }
        sum = rc_warp_sum(sum);
        for (int j = lane; j < c; j += 32) {
            s[i * c + j] = s[i * c + j] / sum;
        }
        if (keep && lane == 0 && i0 + i < p.r) {
            keep->top(i0 + i) = top;
            keep->sum(i0 + i) = sum;
        }
    }
    RC_SYNC();
}

template <int BR, class P>
static __global__ void __launch_bounds__(256, 2)
forward_kernel(P p, int blocks)
{
    RC_SHARED_AT_LAUNCH(float, s);
    RC_SHARED(float, as, A_TILE);
    RC_SHARED(float, bs, B_TILE);
    int i0 = static_cast<int>(blockIdx.x) % blocks * BR, c = p.c;
    p.at(static_cast<int>(blockIdx.x) / blocks);
    softmax_rows<BR>(p, i0, s, as, bs, nullptr);
    if (P::only_rows) {
        for (int e = threadIdx.x; e < BR * c; e += 256) {
            if (i0 + e / c < p.r) {
                p.put_y(i0 + e / c, e % c, s[e]);
            }
        }
        return;
    }
    rc_products::rows<BR>(
        p.e, c, p.v_by_key(), as, bs, [&](int i, int j) -> float { return s[i * c + j]; },
        [&](int j, int e) { return p.v(j, e); },
        [&](int i, int e, float v) {
            if (i0 + i < p.r) {
                p.put_y(i0 + i, e, v);
            }
        });
}

/* Queries: rows' maxima, sums and means to `keep`, and d op(a). */
template <int BR, class P>
static __global__ void __launch_bounds__(256, 2)
queries_kernel(P p, kept keep, int blocks)
{
    RC_SHARED_AT_LAUNCH(float, s);
    RC_SHARED(float, as, A_TILE);
    RC_SHARED(float, bs, B_TILE);
    int i0 = static_cast<int>(blockIdx.x) % blocks * BR, c = p.c, lane = threadIdx.x % 32;
    int image = static_cast<int>(blockIdx.x) / blocks;
    auto l = s + BR * c;
    p.at(image);
    keep.first = static_cast<int64_t>(image) * p.r;
    softmax_rows<BR>(p, i0, s, as, bs, &keep);
    if (!p.wants_logits()) {
        return;
    }
    rc_products::rows<BR>(
        c, p.e, !p.v_by_key(), as, bs,
        [&](int i, int e) { return i0 + i < p.r ? p.dy(i0 + i, e) : 0.f; },
        [&](int e, int j) { return p.v(j, e); },
        [&](int i, int j, float v) { l[i * c + j] = v; });
    RC_SYNC();
    for (int i = threadIdx.x / 32; i < BR; i += 8) {
        float mean = 0;
        for (int j = lane; j < c; j += 32) {
            mean += s[i * c + j] * l[i * c + j];
        }
        mean = rc_warp_sum(mean);
        if (lane == 0 && i0 + i < p.r) {
            keep.mean(i0 + i) = mean;
        }
        for (int j = lane; j < c; j += 32) {
            l[i * c + j] = p.factor * s[i * c + j] * (l[i * c + j] - mean);
        }
    }
    RC_SYNC();
    p.template collect<BR>(i0, l);
    if (p.wants_a()) {
        rc_products::rows<BR>(
            p.k, c, !p.b_by_k(), as, bs, [&](int i, int j) -> float { return l[i * c + j]; },
            [&](int j, int k) { return p.b(k, j); },
            [&](int i, int k, float v) {
                if (i0 + i < p.r) {
                    p.put_a(i0 + i, k, v);
                }
            });
    }
}

/* Keys: d op(b) and dv, or one of them. */
template <int BR, class P>
static __global__ void __launch_bounds__(256, 2)
keys_kernel(P p, kept keep, int blocks, bool to_b, bool to_v)
{
    RC_SHARED_AT_LAUNCH(float, s);
    RC_SHARED(float, as, A_TILE);
    RC_SHARED(float, bs, B_TILE);
    int j0 = static_cast<int>(blockIdx.x) % blocks * BR, r = p.r;
    int image = static_cast<int>(blockIdx.x) / blocks;
    p.at(image);
    keep.first = static_cast<int64_t>(image) * r;
    rc_products::rows<BR>(
        r, p.k, p.a_by_k(), as, bs,
        [&](int j, int k) { return j0 + j < p.c ? p.b(k, j0 + j) : 0.f; },
        [&](int k, int i) { return p.a(i, k); },
        [&](int j, int i, float v) {
            s[j * r + i] = j0 + j < p.c ? expf(p.logit(i, j0 + j, v) - keep.top(i)) / keep.sum(i)
                                        : 0.f;
        });
    RC_SYNC();
    if (to_v) {
        rc_products::rows<BR>(
            p.e, r, p.y_by_query(), as, bs, [&](int j, int i) -> float { return s[j * r + i]; },
            [&](int i, int e) { return p.dy(i, e); },
            [&](int j, int e, float v) {
                if (j0 + j < p.c) {
                    p.put_v(j0 + j, e, v);
                }
            });
    }
    if (!to_b) {
        return;
    }
    if (to_v) {
        RC_SYNC();
    }
    rc_products::rows<BR>(
        r, p.e, !p.y_by_query(), as, bs,
        [&](int j, int e) { return j0 + j < p.c ? p.v(j0 + j, e) : 0.f; },
        [&](int e, int i) { return p.dy(i, e); },
        [&](int j, int i, float v) {
            s[j * r + i] = p.factor * s[j * r + i] * (v - keep.mean(i));
        });
    RC_SYNC();
    rc_products::rows<BR>(
        p.k, r, !p.a_by_k(), as, bs, [&](int j, int i) -> float { return s[j * r + i]; },
        [&](int i, int k) { return p.a(i, k); },
        [&](int j, int k, float v) {
            if (j0 + j < p.c) {
                p.put_b(k, j0 + j, v);
            }
        });
}

template <int BR, class P>
static void
forward_rows(rc_cuda_stream stream, int64_t images, P p)
{
    int blocks = static_cast<int>(rc_up(p.r, BR));
    rc_launch(forward_kernel<BR, P>, dim3(static_cast<unsigned>(images * blocks)), dim3(256),
              static_cast<size_t>(BR) * p.c * 4, stream, p, blocks);
}
template <int BR, class P>
static void
queries_rows(rc_cuda_stream stream, int64_t images, P p, kept keep)
{
    int blocks = static_cast<int>(rc_up(p.r, BR));
    rc_launch(queries_kernel<BR, P>, dim3(static_cast<unsigned>(images * blocks)), dim3(256),
              static_cast<size_t>(BR) * p.c * 8, stream, p, keep, blocks);
}
template <int BR, class P>
static void
keys_rows(rc_cuda_stream stream, int64_t images, P p, kept keep, bool to_b, bool to_v)
{
    int blocks = static_cast<int>(rc_up(p.c, BR));
    rc_launch(keys_kernel<BR, P>, dim3(static_cast<unsigned>(images * blocks)), dim3(256),
              static_cast<size_t>(BR) * p.r * 4, stream, p, keep, blocks, to_b, to_v);
}

/* As many rows as there is room for, `bytes` each; a row of more than that has no kernel (`limit`). */
#define RC_BY_ROWS(bytes, function, ...)        \
    do {                                        \
        int64_t fit_ = RC_SHARED_ROOM / (bytes);          \
        if (fit_ >= 32) {                       \
            function<32>(__VA_ARGS__);          \
        } else if (fit_ >= 16) {                \
            function<16>(__VA_ARGS__);          \
        } else if (fit_ >= 8) {                 \
            function<8>(__VA_ARGS__);           \
        } else if (fit_ >= 4) {                 \
            function<4>(__VA_ARGS__);           \
        } else {                                \
            function<1>(__VA_ARGS__);           \
        }                                       \
    } while (0)

/* r queries and c keys: of the longer row, which is the keys' but where backward goes by keys. */
static inline rc_cuda_limit
limit(int64_t r, int64_t c, bool backward)
{
    int64_t keys = RC_SHARED_ROOM / (backward ? 8 : 4), queries = RC_SHARED_ROOM / 4;
    if (backward && r > queries && c <= keys) {
        return {r, queries, "queries"};
    }
    return {c, keys, "keys"};
}

template <class P>
static void
forward(rc_cuda_stream stream, int64_t images, P p)
{
    RC_BY_ROWS(p.c * 4LL, forward_rows, stream, images, p);
}

/* room: images * r * 3 floats. Gradients of b and v may be one and the same memory. */
template <class P>
static void
backward(rc_cuda_stream stream, int64_t images, P p, float *room)
{
    kept keep = {room, 0};
    bool b = p.wants_b(), v = p.wants_v();
    RC_BY_ROWS(p.c * 8LL, queries_rows, stream, images, p, keep);
    if (b && v && p.shared_gradients()) {
        RC_BY_ROWS(p.r * 4LL, keys_rows, stream, images, p, keep, true, false);
        RC_BY_ROWS(p.r * 4LL, keys_rows, stream, images, p, keep, false, true);
    } else if (b || v) {
        RC_BY_ROWS(p.r * 4LL, keys_rows, stream, images, p, keep, b, v);
    }
}

} // namespace rc_attend

#endif
