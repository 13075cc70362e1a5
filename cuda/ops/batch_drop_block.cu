/* One rectangle of positions zeroed, the same for the whole batch (csrc/ops/batch_drop_block.c);
 * every thread draws it anew from seed and step on the device. */
#include <math.h>

#include "base/random.h"
#include "kernel.h"

namespace {

template <class T> struct masked {
    const T *from;
    T *to;
    const uint64_t *seed, *step;
    int node, c, h, w, rows, columns;
    bool active, add;
    template <int V> __device__ void at(int i) const
    {
        float v[V];
        rc_get_pack<T, V>(from, i, v);
        if (active) {
            uint64_t stream = rc_random_stream(*seed, RC_RANDOM_DROP, *step,
                                               static_cast<uint64_t>(node), 0);
            int top = static_cast<int>(rc_below(rc_random_step(stream, 0), h - rows + 1));
            int left = static_cast<int>(rc_below(rc_random_step(stream, 1), w - columns + 1));
            int y = i / c / w % h - top, x = i / c % w - left;
            if (y >= 0 && y < rows && x >= 0 && x < columns) {
                for (int j = 0; j < V; j++) {
                    v[j] = 0;
                }
            }
        }
        rc_put_pack<T, V>(to, i, v, add);
    }
};

template <class T>
void
apply(const rc_call *call, const void *from, void *to, bool add, rc_cuda_stream stream)
{
    const rc_shape *y = &call->ys;
    double h = static_cast<double>(y->d[2]), w = static_cast<double>(y->d[3]);
    rc_packs<T>(stream, rc_shape_count(y), y->d[1],
                masked<T>{static_cast<const T *>(from), static_cast<T *>(to), call->seed,
                          call->step, call->node, static_cast<int>(y->d[1]),
                          static_cast<int>(y->d[2]), static_cast<int>(y->d[3]),
                          static_cast<int>(nearbyint(call->attrs->height_ratio * h)),
                          static_cast<int>(nearbyint(call->attrs->width_ratio * w)),
                          call->training, add});
}

RC_CUDA_FORWARD_APPLIES
RC_CUDA_BACKWARD_APPLIES

} // namespace

RC_CUDA_LAUNCHER(batch_drop_block, forward)
RC_CUDA_LAUNCHER(batch_drop_block, backward)
