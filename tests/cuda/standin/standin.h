/* A stand-in for a card, for tests: the functions of the CUDA run time, cuDNN's backend interface and
 * cuBLASLt that cuda/runtime calls, in host memory.
 *
 * Streams are lazy: what is put on one is done only when somebody waits for it, as late as a card
 * might, so memory that is written to or freed too early shows. Calls are logged; any of them can
 * be made to fail; every address that work touches must lie within memory that is alive, with room
 * for what is read or written there. What is wrong ends up in standin_problem.
 *
 *     memory.cc   memory, streams, events, recorded runs
 *     dnn.cc      cuDNN: descriptors, what it supports, convolutions
 *     blas.cc     cuBLASLt: matrix products */
#ifndef RC_STANDIN_H
#define RC_STANDIN_H

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>

#include <functional>
#include <string>

#define STANDIN_API extern "C" __attribute__((visibility("default")))

/* For tests. */
STANDIN_API const char *standin_log(void);     /* a call a line, since the last standin_reset */
STANDIN_API const char *standin_problem(void); /* the first one, "" if none */
STANDIN_API void standin_reset(void);          /* log, problem, failures; what is alive stays */
/* The n-th call (from 1) of this function from now on returns this code; n = 0: none does. */
STANDIN_API void standin_fail(const char *function, int n, int code);
STANDIN_API void standin_machine(int cards, int major, int minor, int driver, int64_t bytes);
STANDIN_API int64_t standin_alive(const char *what); /* memory, bytes, host, streams, events, … */
STANDIN_API void standin_lazy(int on);

namespace standin {

/* Logs the call; the code it is to fail with, or 0. */
int call(const char *function, const char *format = "", ...)
    __attribute__((format(printf, 2, 3)));
void problem(const char *format, ...) __attribute__((format(printf, 1, 2)));
void count(const char *what, int64_t change);

/* Memory of the card or page-locked: alive, and this large from there on. */
bool covers(const void *at, int64_t bytes, const char *what);
bool is_card(const void *at);

/* Elements of float32 or bfloat16 (rounded to nearest, ties to even). */
struct values {
    void *at;
    bool half;
    float get(int64_t i) const;
    void put(int64_t i, float v) const;
};

/* Work in the stream's order; in a stream that is being recorded it is kept instead. */
void enqueue(cudaStream_t stream, std::function<void()> work);
bool recording(void); /* whether any stream is: then nothing may wait or allocate */

} // namespace standin

#endif
