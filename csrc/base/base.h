/* What every other folder stands on: status and errors, checked and counted allocation,
 * the thread pool, the CPU probe. Includes nothing of the project; everyone may include it. */
#ifndef RC_BASE_H
#define RC_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define RC_CHECK_RESULT __attribute__((warn_unused_result))
#define RC_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define RC_CHECK_RESULT
#define RC_PRINTF(fmt, args)
#endif

/* A function that kernels on a card call, too (cuda/). */
#if defined(__CUDACC__)
#define RC_ANYWHERE static __host__ __device__ inline
#else
#define RC_ANYWHERE static inline
#endif

/* ---- status (base/status.c) ---------------------------------------------------------- */

/* One code per kind of answer that a user can act on; csrc/py/errors.c maps each to its
 * Python exception and is the only place that does. */
typedef enum rc_status {
    RC_OK = 0,
    RC_ARGUMENT,    /* ValueError: a value that does not fit */
    RC_TYPE,        /* TypeError: wrong dtype, unknown keyword */
    RC_MEMORY,      /* MemoryError */
    RC_FILE,        /* OSError: unreadable, truncated */
    RC_NOT_FOUND,   /* FileNotFoundError */
    RC_UNSUPPORTED, /* NotImplementedError */
    RC_DEVICE,      /* reidc.DeviceError */
    RC_INTERRUPTED, /* the caller's poll function asked to stop: KeyboardInterrupt */
    RC_INTERNAL,    /* reidc.InternalError: our fault */
} rc_status;

typedef struct rc_error {
    rc_status code;
    char text[512]; /* what, expected, got; in the user's terms */
} rc_error;

/* Fill *err (may be NULL) and return `code`, so that `return rc_fail(err, …)` is one line. */
rc_status rc_fail(rc_error *err, rc_status code, const char *format, ...) RC_PRINTF(3, 4);

/* The one macro with a hidden return. */
#define RC_TRY(expression)                 \
    do {                                   \
        rc_status rc_try_ = (expression);  \
        if (rc_try_ != RC_OK) {            \
            return rc_try_;                \
        }                                  \
    } while (0)

/* ---- memory (base/memory.c) ----------------------------------------------------------- */

/* 64-byte aligned, counted; NULL when there is none (or a test asked for a failure), and
 * for negative or overflowing sizes. Blocks of 4 MiB and more ask for huge pages. */
void *rc_alloc(int64_t count, size_t element_size) RC_CHECK_RESULT;
void *rc_alloc_zero(int64_t count, size_t element_size) RC_CHECK_RESULT;
void rc_free(void *block); /* NULL is fine */
char *rc_strdup(const char *text) RC_CHECK_RESULT;

int64_t rc_memory_live(void);              /* bytes now held through rc_alloc */
void rc_memory_fail_after(int64_t allocations); /* tests: the n-th call from now fails; <0 off */

/* ---- threads (base/threads.c, base/processors.c) --------------------------------------- */

/* Call task(context, i, worker) once for every i in [0, tasks), on up to `threads` threads
 * (the caller's included; `worker` in [0, threads) names the thread for scratch memory).
 * Which thread runs which i is not fixed: a task must write only what is its own, and sums
 * over tasks are added afterwards in the order of i, so results do not depend on `threads`.
 * The pool starts at first use, is rebuilt after fork, and serves one caller at a time;
 * others (and nested calls) run their tasks themselves. Returns when all tasks are done. */
typedef void (*rc_task)(void *context, int64_t i, int worker);
void rc_parallel(int64_t tasks, int threads, rc_task task, void *context);

#define RC_MAX_THREADS 256

/* Processors this process may use: affinity, container quota, fast cores (base/processors.c). The
 * other three are its parts, for tests: what it would be with the files below `root`; the quota
 * alone, 0 for none; the processors in the order in which threads are pinned to them. */
int rc_cpu_count(void);
int rc_cpu_count_in(const char *root);
int rc_cpu_quota(const char *root);
int rc_cpu_order(const char *root, int *cpus, int most);
/* Binds the calling thread to the processor of worker `thread`, and lets it go anywhere again.
 * The pool does so with REIDC_PIN=1. */
void rc_cpu_pin(int thread);
void rc_cpu_unpin(void);
bool rc_pin_wanted(void);
const char *rc_pin_problem(void); /* NULL, or what is wrong with REIDC_PIN */

double rc_seconds(void); /* monotonic clock */
double rc_cpu_seconds(void); /* of all threads of the process */

/* ---- CPU (base/cpu.c) ----------------------------------------------------------------- */

typedef enum rc_isa { /* each level includes the ones before it */
    RC_ISA_GENERIC = 0,
    RC_ISA_AVX2,        /* AVX2 + FMA */
    RC_ISA_AVX2_VNNI,   /* + AVX-VNNI */
    RC_ISA_AVX512,      /* F BW DQ VL */
    RC_ISA_AVX512_VNNI,
    RC_ISA_AVX512_BF16,
    RC_ISA_AMX,
} rc_isa;

/* The level in use: what CPU and operating system offer, lowered by REIDC_CPU (read once;
 * it never raises). A level whose name is unknown is reported by rc_isa_problem. */
rc_isa rc_isa_get(void);
rc_isa rc_isa_probe(void);              /* what the machine offers, REIDC_CPU ignored */
bool rc_isa_runs(rc_isa isa);           /* at or below the level in use, and the CPU has it */
const char *rc_isa_name(rc_isa isa);
const char *rc_isa_problem(void);       /* NULL, or what is wrong with REIDC_CPU */

/* vendor-family-model-level, as AuthenticAMD-25-1-avx2, of the level in use: by which measurements
 * are kept. Where nobody says what the CPU is: unknown-0-0-level. */
#define RC_CPU_MODEL 64
void rc_cpu_model(char out[RC_CPU_MODEL]);

#endif
