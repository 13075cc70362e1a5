/* Distances by differences, and ranks counted while they are made (device_eval.h).
 *
 * A block makes 128 x 128 distances, a thread 8 x 8 of them; each is one running sum over the
 * dimension, fma(a - b, a - b, sum), wherever it is made, so a match's distance has the same bits
 * alone as in a tile. Ranking: the matches' distances first, sorted; then every other image adds
 * one to the gap between matches where it falls (integers: no order matters); then sums. */
#include "eval/device_eval.h"
#include "rows.h"

namespace {

constexpr int SIDE = 128, DEPTH = 8, EACH = 8, LINE = SIDE + 4;

struct pairs {
    const float *query, *gallery, *lack_query, *lack_gallery;
    int queries, gallery_rows, d;

    __device__ __forceinline__ float finish(float square, int q, int g) const
    {
        return lack_query ? 0.5f * square + (lack_query[q] + lack_gallery[g]) : square;
    }
};

pairs
pairs_of(const rc_device_pairs *p)
{
    return {p->query, p->gallery, p->lack_query, p->lack_gallery, static_cast<int>(p->queries),
            static_cast<int>(p->gallery_rows), static_cast<int>(p->dimension)};
}

/* f.row(q): what a row of results needs; f.put(row's, q, g, distance). first, end: queries. */
template <class F>
__global__ void __launch_bounds__(256)
tile_kernel(pairs p, F f, int first, int end, int across)
{
    RC_SHARED(float, as, DEPTH * LINE);
    RC_SHARED(float, bs, DEPTH * LINE);
    int t = threadIdx.x, tx = t % 16, ty = t / 16;
    int q0 = first + static_cast<int>(blockIdx.x) / across * SIDE;
    int g0 = static_cast<int>(blockIdx.x) % across * SIDE;
    float sum[EACH][EACH] = {};
    for (int k0 = 0; k0 < p.d; k0 += DEPTH) {
        if (k0 > 0) {
            RC_SYNC();
        }
        for (int e = t; e < SIDE * DEPTH; e += 256) {
            int i = e / DEPTH, k = e % DEPTH;
            bool in = k0 + k < p.d;
            as[k * LINE + i] =
                in && q0 + i < end ? p.query[static_cast<int64_t>(q0 + i) * p.d + k0 + k] : 0.f;
            bs[k * LINE + i] = in && g0 + i < p.gallery_rows
                                   ? p.gallery[static_cast<int64_t>(g0 + i) * p.d + k0 + k]
                                   : 0.f;
        }
        RC_SYNC();
#pragma unroll
        for (int k = 0; k < DEPTH; k++) {
            float a[EACH], b[EACH];
#pragma unroll
            for (int i = 0; i < EACH; i++) {
                a[i] = as[k * LINE + ty + 16 * i];
                b[i] = bs[k * LINE + tx + 16 * i];
            }
#pragma unroll
            for (int i = 0; i < EACH; i++) {
#pragma unroll
                for (int j = 0; j < EACH; j++) {
                    float d = a[i] - b[j];
                    sum[i][j] = fmaf(d, d, sum[i][j]);
                }
            }
        }
    }
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        int q = q0 + ty + 16 * i;
        if (q >= end) {
            continue;
        }
        auto row = f.row(q);
#pragma unroll
        for (int j = 0; j < EACH; j++) {
            int g = g0 + tx + 16 * j;
            if (g < p.gallery_rows) {
                f.put(row, q, g, p.finish(sum[i][j], q, g));
            }
        }
    }
}

template <class F>
void
tiles(const pairs &p, F f, int64_t first, int64_t count, rc_cuda_stream stream)
{
    int64_t across = rc_up(p.gallery_rows, SIDE);
    if (count > 0 && across > 0) {
        rc_launch(tile_kernel<F>, dim3(static_cast<unsigned>(rc_up(count, SIDE) * across)),
                  dim3(256), 0, stream, p, f, static_cast<int>(first),
                  static_cast<int>(first + count), static_cast<int>(across));
    }
}

struct store {
    float *out;
    int first, g;
    __device__ __forceinline__ int64_t row(int q) const
    {
        return static_cast<int64_t>(q - first) * g;
    }
    __device__ __forceinline__ void put(int64_t row, int, int j, float d) const
    {
        out[row + j] = d;
    }
};

/* ---- ranks ---- */

/* Query of match i: the last whose start is not above it. */
__device__ __forceinline__ int
query_of(const int32_t *start, int queries, int i)
{
    int low = 0, high = queries;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (start[middle] <= i) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

/* A thread a match: one running sum, as in a tile. */
struct match_distance {
    pairs p;
    const int32_t *start, *match;
    float *distance;
    __device__ void operator()(int i) const
    {
        int q = query_of(start, p.queries, i), g = match[i];
        const float *a = p.query + static_cast<int64_t>(q) * p.d;
        const float *b = p.gallery + static_cast<int64_t>(g) * p.d;
        float sum = 0;
        for (int k = 0; k < p.d; k++) {
            float d = a[k] - b[k];
            sum = fmaf(d, d, sum);
        }
        distance[i] = p.finish(sum, q, g);
    }
};

/* To its place among the query's own; also empties the gap before it. */
struct sort_match {
    const int32_t *start, *match;
    const float *distance;
    float *sorted;
    int32_t *place, *gaps;
    int queries;
    __device__ void operator()(int i) const
    {
        int q = query_of(start, queries, i), to = start[q];
        for (int j = start[q]; j < start[q + 1]; j++) {
            to += distance[j] < distance[i] || (distance[j] == distance[i] && j < i);
        }
        sorted[to] = distance[i];
        place[to] = match[i];
        gaps[i] = 0;
    }
};

struct count_gaps {
    const int32_t *start, *place;
    const float *sorted;
    const int64_t *q_pids, *g_pids;
    int32_t *gaps;

    struct of {
        int first, end;
        int64_t pid;
        float last;
    };
    __device__ __forceinline__ of row(int q) const
    {
        int first = start[q], end = start[q + 1];
        return {first, end, q_pids[q], end > first ? sorted[end - 1] : -INFINITY};
    }
    __device__ __forceinline__ void put(const of &row, int, int g, float d) const
    {
        if (!(d <= row.last)) {
            return;
        }
        int64_t pid = g_pids[g];
        if (pid == row.pid || pid == -1) {
            return; /* a match, or junk */
        }
        int low = row.first, high = row.end; /* the first match behind (d, g) */
        while (low < high) {
            int middle = (low + high) / 2;
            if (sorted[middle] < d || (sorted[middle] == d && place[middle] < g)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        if (low < row.end) {
            atomicAdd(gaps + low, 1);
        }
    }
};

struct add_gaps {
    const int32_t *start;
    int32_t *ranks; /* gaps before */
    __device__ void operator()(int q) const
    {
        int before = 0;
        for (int i = start[q]; i < start[q + 1]; i++) {
            before += ranks[i];
            ranks[i] = before + i - start[q] + 1;
        }
    }
};

struct unit_rows {
    const float *rows;
    float *unit, *lack;
    int d;
    __device__ void operator()(int row, int lane) const
    {
        int64_t first = static_cast<int64_t>(row) * d;
        double square = 0, left = 0;
        for (int k = lane; k < d; k += 32) {
            square += static_cast<double>(rows[first + k]) * rows[first + k];
        }
        double length = sqrt(rc_warp_sum(square)), divisor = length < 1e-12 ? 1e-12 : length;
        for (int k = lane; k < d; k += 32) {
            float v = static_cast<float>(rows[first + k] / divisor);
            unit[first + k] = v;
            left += static_cast<double>(v) * v;
        }
        left = rc_warp_sum(left);
        if (lack && lane == 0) {
            lack[row] = length < 1e-12 ? static_cast<float>((1 - left) / 2) : 0;
        }
    }
};

struct find_bad {
    const float *rows;
    int32_t *bad;
    int d;
    __device__ void operator()(int row, int lane) const
    {
        const float *from = rows + static_cast<int64_t>(row) * d;
        bool any = false;
        for (int k = lane; k < d; k += 32) {
            any = any || (__float_as_int(from[k]) & 0x7f800000) == 0x7f800000;
        }
        if (__ballot_sync(RC_ALL, any) && lane == 0) {
            atomicMin(bad, row);
        }
    }
};

/* ---- the k smallest of a row ---- */

/* Floats in the order of unsigned integers. */
__device__ __forceinline__ uint32_t
key_of(float v)
{
    uint32_t u = static_cast<uint32_t>(__float_as_int(v));
    return u & 0x80000000u ? ~u : u | 0x80000000u;
}

/* Radix selection of the k-th key, eight bits at a time; what is below it and, in the order of
 * indices, as many equal ones as are left; then each of the k to its place. */
__global__ void __launch_bounds__(256)
nearest_kernel(const float *distances, int n, int k, int32_t *index, float *value)
{
    RC_SHARED(int, counts, 256);
    RC_SHARED(int, chosen, RC_CUDA_NEAREST);
    RC_SHARED(int, state, 10); /* digit, below; then per warp how many it takes */
    int t = threadIdx.x, lane = t % 32, warp = t / 32;
    const float *row = distances + static_cast<int64_t>(blockIdx.x) * n;
    uint32_t prefix = 0, mask = 0;
    int left = k; /* the k-th is the left-th of those with this prefix */
    for (int shift = 24; shift >= 0; shift -= 8) {
        counts[t] = 0;
        RC_SYNC();
        for (int j = t; j < n; j += 256) {
            uint32_t key = key_of(row[j]);
            if ((key & mask) == prefix) {
                rc_shared_add(counts, static_cast<int>(key >> shift & 255), 1);
            }
        }
        RC_SYNC();
        if (t == 0) {
            int below = 0, digit = 0;
            while (below + counts[digit] < left) {
                below += counts[digit];
                digit++;
            }
            state[0] = digit;
            state[1] = below;
        }
        RC_SYNC();
        prefix |= static_cast<uint32_t>(static_cast<int>(state[0])) << shift;
        mask |= 255u << shift;
        left -= state[1];
        RC_SYNC();
    }
    /* Those below first, then `left` equal ones: both in the order of indices. */
    int taken = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int j0 = 0; j0 < n && taken < k; j0 += 256) {
            int j = j0 + t;
            uint32_t key = j < n ? key_of(row[j]) : 0;
            bool take = j < n && (pass == 0 ? key < prefix : key == prefix);
            unsigned bits = __ballot_sync(RC_ALL, take);
            int mine = 0, all = 0;
            for (int i = 0; i < 32; i++) {
                mine += i < lane ? static_cast<int>(bits >> i & 1) : 0;
                all += static_cast<int>(bits >> i & 1);
            }
            if (lane == 0) {
                state[2 + warp] = all;
            }
            RC_SYNC();
            int before = taken, total = 0;
            for (int w = 0; w < 8; w++) {
                int of = state[2 + w];
                before += w < warp ? of : 0;
                total += of;
            }
            if (take && before + mine < k) {
                chosen[before + mine] = j;
            }
            taken += total;
            RC_SYNC();
        }
    }
    for (int i = t; i < k; i += 256) {
        int own = chosen[i], to = 0;
        float v = row[own];
        uint32_t key = key_of(v);
        for (int j = 0; j < k; j++) {
            int other = chosen[j];
            uint32_t at = key_of(row[other]);
            to += at < key || (at == key && other < own);
        }
        index[static_cast<int64_t>(blockIdx.x) * k + to] = own;
        value[static_cast<int64_t>(blockIdx.x) * k + to] = v;
    }
}

} // namespace

void
rc_cuda_unit_rows(const float *rows, int64_t n, int64_t d, float *unit, float *lack,
                  rc_cuda_stream stream)
{
    if (n > 0) {
        rc_rows::warps(stream, n, unit_rows{rows, unit, lack, static_cast<int>(d)});
    }
}

void
rc_cuda_find_bad(const float *rows, int64_t n, int64_t d, int32_t *bad, rc_cuda_stream stream)
{
    if (n > 0) {
        rc_rows::warps(stream, n, find_bad{rows, bad, static_cast<int>(d)});
    }
}

void
rc_cuda_distances(const rc_device_pairs *p, int64_t first, int64_t count, float *out,
                  rc_cuda_stream stream)
{
    tiles(pairs_of(p),
          store{out, static_cast<int>(first), static_cast<int>(p->gallery_rows)}, first, count,
          stream);
}

void
rc_cuda_rank(const rc_device_pairs *given, const rc_device_ranking *r, int64_t first, int64_t count,
             rc_cuda_stream stream)
{
    pairs p = pairs_of(given);
    if (first == 0) {
        rc_each(stream, r->matches, match_distance{p, r->start, r->match, r->distance});
        rc_each(stream, r->matches,
                sort_match{r->start, r->match, r->distance, r->sorted, r->place, r->ranks,
                           p.queries});
    }
    tiles(p, count_gaps{r->start, r->place, r->sorted, r->q_pids, r->g_pids, r->ranks}, first,
          count, stream);
    if (first + count == p.queries) {
        rc_each(stream, p.queries, add_gaps{r->start, r->ranks});
    }
}

void
rc_cuda_nearest(const float *distances, int64_t rows, int64_t n, int64_t k, int32_t *index,
                float *value, rc_cuda_stream stream)
{
    if (rows > 0) {
        rc_launch(nearest_kernel, dim3(static_cast<unsigned>(rows)), dim3(256), 0, stream,
                  distances, static_cast<int>(n), static_cast<int>(k), index, value);
    }
}
