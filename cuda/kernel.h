/* What the kernels share: how they are started, elements and packs of them, sums over warps and
 * blocks, activations.
 *
 * cuda/ is CUDA C++ for nvcc. tests/cuda/host.h makes the same files compile with a host compiler,
 * for which shared memory is declared through RC_SHARED, barriers through RC_SYNC and kernels are
 * started through rc_launch; shared arrays are handed on as a template's argument, by value. */
#ifndef RC_CUDA_KERNEL_H
#define RC_CUDA_KERNEL_H

#include "cuda.h"

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_runtime.h>

typedef __nv_bfloat16 rc_bf16;
static __device__ __forceinline__ float
rc_to_float(rc_bf16 v)
{
    return __bfloat162float(v);
}
static __device__ __forceinline__ rc_bf16
rc_to_bf16(float v)
{
    return __float2bfloat16_rn(v);
}

#define RC_SHARED(type, name, count) __shared__ type name[count]
/* As many as the launch asked for bytes. */
#define RC_SHARED_AT_LAUNCH(type, name)                   \
    extern __shared__ __align__(16) char rc_at_launch_[]; \
    type *name = reinterpret_cast<type *>(rc_at_launch_)
#define RC_SYNC() __syncthreads()

template <class T>
static __device__ __forceinline__ T
rc_shared_add(T *s, int i, T value)
{
    return atomicAdd(s + i, value);
}

/* More than 48 KiB of shared memory must be asked for; the runtime looks at the launch's error
 * (cudaPeekAtLastError) after each launcher. */
template <class Kernel, class... Args>
static void
rc_launch(Kernel kernel, dim3 grid, dim3 block, size_t shared, rc_cuda_stream stream, Args... args)
{
    if (shared > 48 * 1024) {
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    }
    kernel<<<grid, block, shared, static_cast<cudaStream_t>(stream)>>>(args...);
}
#else
#include "host.h"

template <class Kernel, class... Args>
static void
rc_launch(Kernel kernel, dim3 grid, dim3 block, size_t shared, rc_cuda_stream stream, Args... args)
{
    rc_host::launch_on(stream, kernel, grid, block, shared, args...);
}
#endif

/* A launcher for both types: template <class T> static void name(const rc_call *, rc_cuda_stream)
 * becomes rc_cuda_<op>_<pass>. */
static inline rc_cuda_type
rc_cuda_type_of(const rc_call *call)
{
    return call->extra ? static_cast<const rc_cuda_record *>(call->extra)->type : RC_CUDA_F32;
}

#define RC_CUDA_LAUNCHER(op, pass)                                            \
    extern "C" void rc_cuda_##op##_##pass(const rc_call *, rc_cuda_stream);   \
    extern "C" void rc_cuda_##op##_##pass(const rc_call *call, rc_cuda_stream stream) \
    {                                                                         \
        if (rc_cuda_type_of(call) == RC_CUDA_BF16) {                          \
            pass<rc_bf16>(call, stream);                                      \
        } else {                                                              \
            pass<float>(call, stream);                                        \
        }                                                                     \
    }
/* For operations that do to dy what they do to x: apply<T>(call, from, to, add, stream). */
#define RC_CUDA_FORWARD_APPLIES                             \
    template <class T>                                      \
    void forward(const rc_call *call, rc_cuda_stream stream) \
    {                                                       \
        apply<T>(call, call->x[0], call->y, false, stream); \
    }
#define RC_CUDA_BACKWARD_APPLIES                                         \
    template <class T>                                                   \
    void backward(const rc_call *call, rc_cuda_stream stream)            \
    {                                                                    \
        apply<T>(call, call->dy, call->dx[0], call->add[0], stream);     \
    }
/* For operations whose values are float32 whatever the network's type is. */
#define RC_CUDA_LAUNCHER_F32(op, pass)                                        \
    extern "C" void rc_cuda_##op##_##pass(const rc_call *, rc_cuda_stream);   \
    extern "C" void rc_cuda_##op##_##pass(const rc_call *call, rc_cuda_stream stream) \
    {                                                                         \
        pass(call, stream);                                                   \
    }
#define RC_CUDA_TMP(op)                                                       \
    extern "C" int64_t rc_cuda_##op##_tmp(const rc_call *, bool);             \
    extern "C" int64_t rc_cuda_##op##_tmp(const rc_call *call, bool backward)

#define RC_CUDA_LIMIT(op)                                                     \
    extern "C" rc_cuda_limit rc_cuda_##op##_limit(const rc_call *, bool);     \
    extern "C" rc_cuda_limit rc_cuda_##op##_limit(const rc_call *call, bool backward)

/* Bytes of shared memory that a launch may ask for: any card's 99 KiB, less what kernels have of it
 * anyway. */
enum { RC_SHARED_ROOM = 84 * 1024 };

static inline int64_t
rc_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static inline int
rc_count(const rc_shape *s)
{
    return static_cast<int>(rc_shape_count(s)); /* at most RC_CUDA_MOST */
}

/* Whether there is an input i. */
static inline bool
rc_has(const rc_call *call, int i)
{
    return i < call->n_in && call->xs[i].rank > 0;
}

/* ---- elements ------------------------------------------------------------------------------- */

static __device__ __forceinline__ float
rc_get(const float *x, int64_t i)
{
    return x[i];
}
static __device__ __forceinline__ float
rc_get(const rc_bf16 *x, int64_t i)
{
    return rc_to_float(x[i]);
}
static __device__ __forceinline__ void
rc_set(float *x, int64_t i, float v)
{
    x[i] = v;
}
static __device__ __forceinline__ void
rc_set(rc_bf16 *x, int64_t i, float v)
{
    x[i] = rc_to_bf16(v);
}
/* Assign, or add to what is there. */
template <class T>
static __device__ __forceinline__ void
rc_put(T *x, int64_t i, float v, bool add)
{
    rc_set(x, i, add ? rc_get(x, i) + v : v);
}

/* V neighbours, read and written in one piece (16 bytes: 4 floats, 8 bfloat16). */
template <class T, int V> struct alignas(sizeof(T) * V) rc_raw {
    T v[V];
};

template <class T> constexpr int rc_wide = 16 / static_cast<int>(sizeof(T));

template <class T, int V>
static __device__ __forceinline__ void
rc_get_pack(const T *x, int64_t i, float (&out)[V])
{
    rc_raw<T, V> raw = *reinterpret_cast<const rc_raw<T, V> *>(x + i);
#pragma unroll
    for (int j = 0; j < V; j++) {
        out[j] = rc_get(raw.v, j);
    }
}
template <class T, int V>
static __device__ __forceinline__ void
rc_set_pack(T *x, int64_t i, const float (&v)[V])
{
    rc_raw<T, V> raw;
#pragma unroll
    for (int j = 0; j < V; j++) {
        rc_set(raw.v, j, v[j]);
    }
    *reinterpret_cast<rc_raw<T, V> *>(x + i) = raw;
}
template <class T, int V>
static __device__ __forceinline__ void
rc_put_pack(T *x, int64_t i, const float (&v)[V], bool add)
{
    if (!add) {
        rc_set_pack<T, V>(x, i, v);
        return;
    }
    float sum[V];
    rc_get_pack<T, V>(x, i, sum);
#pragma unroll
    for (int j = 0; j < V; j++) {
        sum[j] += v[j];
    }
    rc_set_pack<T, V>(x, i, sum);
}

/* V neighbours among float32 parameters, which begin at multiples of 16 bytes. */
template <int V>
static __device__ __forceinline__ void
rc_get_floats(const float *x, int64_t i, float (&out)[V])
{
    constexpr int P = V % 4 ? 1 : 4;
#pragma unroll
    for (int j = 0; j < V; j += P) {
        float part[P];
        rc_get_pack<float, P>(x, i + j, part);
#pragma unroll
        for (int l = 0; l < P; l++) {
            out[j + l] = part[l];
        }
    }
}

/* ---- one thread an element, or a pack -------------------------------------------------------- */

constexpr int RC_BLOCK = 256;

template <class F>
static __global__ void __launch_bounds__(RC_BLOCK)
rc_each_kernel(F f, int count)
{
    int64_t i = static_cast<int64_t>(blockIdx.x) * RC_BLOCK + threadIdx.x;
    if (i < count) {
        f(static_cast<int>(i));
    }
}

/* f(i) for i in [0, count), each by a thread of its own. */
template <class F>
static void
rc_each(rc_cuda_stream stream, int64_t count, F f)
{
    if (count > 0) {
        rc_launch(rc_each_kernel<F>, dim3(static_cast<unsigned>(rc_up(count, RC_BLOCK))),
                  dim3(RC_BLOCK), 0, stream, f, static_cast<int>(count));
    }
}

/* Whether rows of so many elements begin at whole packs. */
template <class T>
static inline bool
rc_fits_wide(int64_t width)
{
    return width % rc_wide<T> == 0;
}

template <int V, class F>
static __global__ void __launch_bounds__(RC_BLOCK)
rc_packs_kernel(F f, int packs)
{
    int64_t i = static_cast<int64_t>(blockIdx.x) * RC_BLOCK + threadIdx.x;
    if (i < packs) {
        f.template at<V>(static_cast<int>(i) * V);
    }
}

/* f.at<V>(i) for the packs of V that begin at i in [0, count): as wide as `width` allows, the
 * length of the rows that packs must not leave (count itself where there are none). */
template <class T, class F>
static void
rc_packs(rc_cuda_stream stream, int64_t count, int64_t width, F f)
{
    constexpr int V = rc_wide<T>;
    if (count <= 0) {
        return;
    }
    int packs = static_cast<int>(width % V ? count : count / V);
    dim3 grid(static_cast<unsigned>(rc_up(packs, RC_BLOCK)));
    if (width % V) {
        rc_launch(rc_packs_kernel<1, F>, grid, dim3(RC_BLOCK), 0, stream, f, packs);
    } else {
        rc_launch(rc_packs_kernel<V, F>, grid, dim3(RC_BLOCK), 0, stream, f, packs);
    }
}

/* ---- sums ------------------------------------------------------------------------------------- */

constexpr unsigned RC_ALL = 0xffffffffu;

template <class V>
static __device__ __forceinline__ V
rc_warp_sum(V v)
{
#pragma unroll
    for (int d = 16; d > 0; d /= 2) {
        v += __shfl_xor_sync(RC_ALL, v, d);
    }
    return v;
}

static __device__ __forceinline__ float
rc_warp_max(float v)
{
#pragma unroll
    for (int d = 16; d > 0; d /= 2) {
        v = fmaxf(v, __shfl_xor_sync(RC_ALL, v, d));
    }
    return v;
}

/* Over a block of up to 32 warps, known to every thread; s: 33 elements, free again afterwards. */
template <class V, class S>
static __device__ __forceinline__ V
rc_block_sum(V v, S s)
{
    int t = threadIdx.x, warps = blockDim.x / 32;
    v = rc_warp_sum(v);
    if (t % 32 == 0) {
        s[t / 32] = v;
    }
    RC_SYNC();
    if (t < 32) {
        V part = t < warps ? static_cast<V>(s[t]) : V(0);
        part = rc_warp_sum(part);
        if (t == 0) {
            s[32] = part;
        }
    }
    RC_SYNC();
    return s[32];
}
/* What such sums of many blocks add up to, by one block, likewise. */
template <class V, class P, class S>
static __device__ __forceinline__ V
rc_parts_sum(const P *parts, int count, S s)
{
    V sum = 0;
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        sum += parts[i];
    }
    return rc_block_sum(sum, s);
}
template <class S>
static __device__ __forceinline__ float
rc_block_max(float v, S s)
{
    int t = threadIdx.x, warps = blockDim.x / 32;
    v = rc_warp_max(v);
    if (t % 32 == 0) {
        s[t / 32] = v;
    }
    RC_SYNC();
    if (t < 32) {
        float part = t < warps ? static_cast<float>(s[t]) : -INFINITY;
        part = rc_warp_max(part);
        if (t == 0) {
            s[32] = part;
        }
    }
    RC_SYNC();
    return s[32];
}

/* ---- activations -------------------------------------------------------------------------------- */

RC_ACT_FUNCTIONS(rc_act, float, expf, static __device__ __forceinline__)

struct rc_activation {
    int kind;
    float slope;

    __device__ __forceinline__ float value(float v) const { return rc_act_value(kind, slope, v); }
    __device__ __forceinline__ float gradient(float y, float dy) const
    {
        return rc_act_gradient(kind, slope, y, dy);
    }
};

static inline rc_activation
rc_activation_of(const rc_attrs *a)
{
    return {static_cast<int>(a->act), static_cast<float>(a->slope)};
}

#endif
