/* CUDA's language for a host compiler, enough of it for cuda/ (tests only): kernels run block by
 * block, the threads of a block as fibres that change at barriers and warp operations.
 *
 * What a card would pass over is an error here (rc_host_error): shared memory read before it is
 * written or outside its array, two threads at one place without a barrier in between (a write
 * and anything else), threads that wait at different barriers or end before one that others
 * reach, warp operations with lanes missing, blocks that are no whole warps. The order of blocks
 * and threads can be changed (rc_host_set_order): bits that follow it show a race through global
 * memory. And a barrier, a block or a thread can be left out on purpose, to see that tests fail. */
#ifndef RC_HOST_H
#define RC_HOST_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include <functional>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __restrict__ __restrict

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};

extern dim3 threadIdx, blockIdx, blockDim, gridDim;

#define RC_HOST_API __attribute__((visibility("default")))
extern "C" {
RC_HOST_API const char *rc_host_error(void); /* the first since the last call, "" if none */
RC_HOST_API void rc_host_set_order(int order); /* 0 as numbered, 1 backwards, n > 1 shuffled with seed n */
/* Leave out the n-th barrier that a thread comes to, from 0 (negative: none), of every launch;
 * a block or thread of every launch, by number. */
RC_HOST_API void rc_host_leave_out(int barrier, int block, int thread);
RC_HOST_API int rc_host_barriers(void); /* the most that a thread of a launch came to, since the last call */
RC_HOST_API int64_t rc_host_launches(void); /* so far */
}

namespace rc_host {

/* ---- running (host.cc) ---- */

void run(dim3 grid, dim3 block, size_t shared, void (*body)(void *), void *context);
void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

template <class Kernel, class... Args>
void
launch(Kernel kernel, dim3 grid, dim3 block, size_t shared, Args... args)
{
    auto body = [&]() { kernel(args...); };
    run(grid, block, shared, [](void *f) { (*static_cast<decltype(body) *>(f))(); }, &body);
}

/* Who keeps launches until their stream's turn comes (standin/); NULL: they run at once. */
extern void (*enqueue)(void *stream, std::function<void()> body);

template <class Kernel, class... Args>
void
launch_on(void *stream, Kernel kernel, dim3 grid, dim3 block, size_t shared, Args... args)
{
    if (enqueue) {
        enqueue(stream, [=]() { launch(kernel, grid, block, shared, args...); });
    } else {
        launch(kernel, grid, block, shared, args...);
    }
}

/* ---- shared memory ---- */

struct mark { /* who was at an element last, and when */
    int32_t writer, reader; /* thread + 1; 0: nobody; a reader of -1: several */
    int32_t readers;        /* their warp + 1, -1: of several warps */
    uint32_t write_time, read_time, write_warp, read_warp;
};

void note_read(mark *m, const char *name);
void note_write(mark *m, const char *name);
void note_atomic(mark *m, const char *name);
/* The block's memory for the declaration `tag`; count 0: what the launch asked for. */
void *shared_block(const void *tag, size_t size, size_t *count, const char *name, mark **marks);

template <class T> struct element {
    T *value;
    mark *m;
    const char *name;
    operator T() const
    {
        note_read(m, name);
        return *value;
    }
    T operator=(T v) const
    {
        note_write(m, name);
        return *value = v;
    }
    T operator=(const element &other) const { return *this = (T)other; }
    T operator+=(T v) const { return *this = (T) * this + v; }
};

template <class T> struct shared {
    T *data;
    mark *marks;
    int count;
    const char *name;
    element<T> operator[](int64_t i) const
    {
        if (i < 0 || i >= count) {
            fail("%s[%lld]: outside its %d elements", name, (long long)i, count);
        }
        return {data + i, marks + i, name};
    }
    shared operator+(int64_t i) const
    {
        if (i < 0 || i > count) {
            fail("%s + %lld: outside its %d elements", name, (long long)i, count);
        }
        return {data + i, marks + i, count - (int)i, name};
    }
};

template <class T>
shared<T>
declare(const void *tag, size_t count, const char *name)
{
    mark *marks;
    void *data = shared_block(tag, sizeof(T), &count, name, &marks);
    return {static_cast<T *>(data), marks, (int)count, name};
}

/* ---- warps ---- */

uint64_t exchange(unsigned mask, uint64_t value, int from, bool *there);

template <class T>
T
shuffle(unsigned mask, T value, int from)
{
    static_assert(sizeof(T) <= 8, "shuffles of up to 8 bytes");
    uint64_t word = 0;
    bool there;
    memcpy(&word, &value, sizeof value);
    word = exchange(mask, word, from, &there);
    if (there) {
        memcpy(&value, &word, sizeof value);
    }
    return value;
}

int lane(void);
void barrier(void);
void warp_barrier(unsigned mask);
unsigned ballot(unsigned mask, bool value);

} // namespace rc_host

#define RC_SHARED(type, name, count)             \
    static const char name##_tag = 0;            \
    rc_host::shared<type> name = rc_host::declare<type>(&name##_tag, count, #name)
#define RC_SHARED_AT_LAUNCH(type, name) RC_SHARED(type, name, 0)
#define RC_SYNC() rc_host::barrier()

template <class T> T __shfl_sync(unsigned m, T v, int from) { return rc_host::shuffle(m, v, from); }
template <class T>
T
__shfl_xor_sync(unsigned m, T v, int bits)
{
    return rc_host::shuffle(m, v, rc_host::lane() ^ bits);
}
template <class T>
T
__shfl_down_sync(unsigned m, T v, int by)
{
    int from = rc_host::lane() + by;
    return rc_host::shuffle(m, v, from < 32 ? from : rc_host::lane());
}
static inline void __syncwarp(unsigned m = 0xffffffffu) { rc_host::warp_barrier(m); }
static inline unsigned __ballot_sync(unsigned m, bool v) { return rc_host::ballot(m, v); }

/* Integers only: sums of floats in no fixed order have no place in cuda/. */
template <class T>
T
atomicAdd(T *to, T value)
{
    static_assert(std::is_integral<T>::value, "atomics on integers only");
    T old = *to;
    *to = old + value;
    return old;
}

template <class T>
T
atomicMin(T *to, T value)
{
    static_assert(std::is_integral<T>::value, "atomics on integers only");
    T old = *to;
    *to = value < old ? value : old;
    return old;
}

template <class T>
T
rc_shared_add(rc_host::shared<T> s, int i, T value)
{
    static_assert(std::is_integral<T>::value, "atomics on integers only");
    rc_host::element<T> e = s[i];
    rc_host::note_atomic(e.m, e.name);
    T old = *e.value;
    *e.value = old + value;
    return old;
}

static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline float __int_as_float(int i) { float f; memcpy(&f, &i, 4); return f; }
static inline int __float_as_int(float f) { int i; memcpy(&i, &f, 4); return i; }

/* bfloat16: the upper half of a float, to nearest, ties to even; NaN stays NaN. */
struct rc_bf16 {
    uint16_t bits;
};
static inline float
rc_to_float(rc_bf16 v)
{
    return __int_as_float((int)((uint32_t)v.bits << 16));
}
static inline rc_bf16
rc_to_bf16(float v)
{
    uint32_t u = (uint32_t)__float_as_int(v);
    if ((u & 0x7fffffffu) > 0x7f800000u) {
        return {(uint16_t)(u >> 16 | 0x40)};
    }
    return {(uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16)};
}

#endif
