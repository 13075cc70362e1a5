/* Dropout: the mask is drawn again in backward (csrc/ops/dropout.c: kind RC_RANDOM_DROP, c: row,
 * slot: element in the order C x H x W), the same as the CPU's. Seed and step lie on the device. */
#include "base/random.h"
#include "kernel.h"

namespace {

template <class T> struct masked {
    const T *from;
    T *to;
    const uint64_t *seed, *step;
    int node, size, c, p; /* of a row: size = c*p */
    float limit, scale;
    bool active, add;
    template <int V> __device__ void at(int i) const
    {
        float v[V];
        rc_get_pack<T, V>(from, i, v);
        if (active) {
            int row = i / size, k = i % size;
            uint64_t stream = rc_random_stream(*seed, RC_RANDOM_DROP, *step,
                                               static_cast<uint64_t>(node),
                                               static_cast<uint64_t>(row));
            for (int j = 0; j < V; j++) {
                uint64_t slot = static_cast<uint64_t>(k + j) % c * p + (k + j) / c;
                v[j] = rc_uniform(rc_random_step(stream, slot)) >= limit ? v[j] * scale : 0;
            }
        }
        rc_put_pack<T, V>(to, i, v, add);
    }
};

template <class T>
void
apply(const rc_call *call, const void *from, void *to, bool add, rc_cuda_stream stream)
{
    int64_t count = rc_shape_count(&call->ys), size = count / call->ys.d[0];
    int64_t c = call->ys.rank == 4 ? call->ys.d[1] : 1;
    bool active = call->training && call->attrs->p > 0;
    rc_packs<T>(stream, count, size,
                masked<T>{static_cast<const T *>(from), static_cast<T *>(to), call->seed,
                          call->step, call->node, static_cast<int>(size), static_cast<int>(c),
                          static_cast<int>(size / c), static_cast<float>(call->attrs->p),
                          static_cast<float>(1 / (1 - call->attrs->p)), active, add});
}

RC_CUDA_FORWARD_APPLIES
RC_CUDA_BACKWARD_APPLIES

} // namespace

RC_CUDA_LAUNCHER(dropout, forward)
RC_CUDA_LAUNCHER(dropout, backward)
