/* One pool of worker threads for the whole process.
 *
 * Tasks are handed out by an atomic counter, one at a time: they are cut by shape, so who
 * runs one does not change a bit. A job is a gate that the caller opens and closes again when no
 * task is left; a worker that comes too late finds it closed, and the caller waits only for those
 * who went in. So a worker that the system does not let run holds nobody up unless it was stopped
 * inside a task.
 *
 * Both sides wait by spinning (the next job usually follows within microseconds) and then sleep.
 * How long they spin adapts: a wait that was worth it doubles the patience, one in vain halves it.
 * An idle process costs nothing, and where others want the processors, too, little is wasted.
 * fork() leaves the child without workers: the child's first job starts new ones. */
#define _GNU_SOURCE
#include "base/base.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define MOST_PATIENCE 200e-6 /* seconds */
#define LEAST_PATIENCE 3e-6
#define PAUSES 16            /* between two looks at the clock */

typedef struct job {
    rc_task task;
    void *context;
    int64_t tasks;
    int threads;
} job;

static struct {
    pthread_mutex_t caller;      /* held while a job runs: one caller at a time */
    pthread_mutex_t lock;        /* for sleeping on `wake` and `left` */
    pthread_cond_t wake;         /* the gate was opened */
    pthread_cond_t left;         /* the last worker went out */
    job current;                 /* written while the gate is closed and nobody inside */
    _Atomic int64_t next;        /* next task to hand out */
    _Atomic uint32_t gate;       /* odd: open; counts up */
    _Atomic int inside;          /* workers that may be looking at `current` */
    _Atomic int sleepers;        /* workers asleep or about to be */
    _Atomic bool caller_sleeps;
    double patience;             /* of the caller */
    int workers;                 /* started so far */
    bool started;                /* once: fork handler, whether to pin */
    bool pin;
} pool = {                       /* lint: mutable static, the process's one pool */
    .caller = PTHREAD_MUTEX_INITIALIZER,
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .wake = PTHREAD_COND_INITIALIZER,
    .left = PTHREAD_COND_INITIALIZER,
    .patience = MOST_PATIENCE,
};

static _Thread_local bool inside;   /* lint: mutable static, nested calls run inline */
static _Thread_local int8_t placed; /* lint: mutable static, 1: pinned as caller, -1: set free */

double
rc_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

double
rc_cpu_seconds(void)
{
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (double)used.tv_sec + 1e-9 * (double)used.tv_nsec;
}

static void
cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void
work(const job *current, int worker)
{
    for (;;) {
        int64_t i = atomic_fetch_add(&pool.next, 1);
        if (i >= current->tasks) {
            return;
        }
        current->task(current->context, i, worker);
    }
}

/* ---- waiting ----------------------------------------------------------------------------- */

static bool
is_open(uint32_t seen)
{
    uint32_t gate = atomic_load(&pool.gate);
    return (gate & 1) && gate != seen;
}

static bool
is_empty(uint32_t unused)
{
    (void)unused;
    return atomic_load(&pool.inside) == 0;
}

/* Until ready(what), or the patience is at an end: then false. */
static bool
spin(bool (*ready)(uint32_t), uint32_t what, double *patience)
{
    bool yes = ready(what);
    if (yes) {
        return true;
    }
    for (double end = rc_seconds() + *patience; !yes && rc_seconds() < end;) {
        for (int i = 0; i < PAUSES && !yes; i++) {
            cpu_relax();
            yes = ready(what);
        }
    }
    *patience *= yes ? 2 : 0.5;
    *patience = *patience > MOST_PATIENCE    ? MOST_PATIENCE
                : *patience < LEAST_PATIENCE ? LEAST_PATIENCE
                                             : *patience;
    return yes;
}

/* Whoever sleeps first says so and then looks once more; whoever wakes first changes what is
 * looked at and then asks whether somebody sleeps: one of them sees the other. */
static void
wait_for_job(uint32_t seen, double *patience)
{
    if (spin(is_open, seen, patience)) {
        return;
    }
    atomic_fetch_add(&pool.sleepers, 1);
    pthread_mutex_lock(&pool.lock);
    while (!is_open(seen)) {
        pthread_cond_wait(&pool.wake, &pool.lock);
    }
    pthread_mutex_unlock(&pool.lock);
    atomic_fetch_sub(&pool.sleepers, 1);
}

static void
wait_for_workers(void)
{
    if (spin(is_empty, 0, &pool.patience)) {
        return;
    }
    atomic_store(&pool.caller_sleeps, true);
    pthread_mutex_lock(&pool.lock);
    while (!is_empty(0)) {
        pthread_cond_wait(&pool.left, &pool.lock);
    }
    pthread_mutex_unlock(&pool.lock);
    atomic_store(&pool.caller_sleeps, false);
}

static void *
worker_main(void *argument)
{
    int worker = (int)(intptr_t)argument; /* 1.. ; the caller is 0 */
    uint32_t seen = 0;
    double patience = MOST_PATIENCE;
    inside = true;
    if (pool.pin) {
        rc_cpu_pin(worker);
    }
    for (;;) {
        wait_for_job(seen, &patience);
        atomic_fetch_add(&pool.inside, 1);
        seen = atomic_load(&pool.gate); /* read inside: `current` stays while it is open */
        if ((seen & 1) && worker < pool.current.threads) {
            work(&pool.current, worker);
        }
        if (atomic_fetch_sub(&pool.inside, 1) == 1 && atomic_load(&pool.caller_sleeps)) {
            pthread_mutex_lock(&pool.lock);
            pthread_cond_signal(&pool.left);
            pthread_mutex_unlock(&pool.lock);
        }
    }
    return NULL;
}

/* ---- the pool ---------------------------------------------------------------------------- */

static void
forget_workers_after_fork(void)
{
    pthread_mutex_init(&pool.caller, NULL);
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.wake, NULL);
    pthread_cond_init(&pool.left, NULL);
    pool.workers = 0;
    pool.patience = MOST_PATIENCE;
    atomic_store(&pool.gate, 0);
    atomic_store(&pool.inside, 0);
    atomic_store(&pool.sleepers, 0);
    atomic_store(&pool.caller_sleeps, false);
}

/* With REIDC_PIN=1 a thread that calls has a processor of its own, too. One that works beside a
 * caller (a loader's, which inherits the place of the thread that made it) may run anywhere. */
static void
place_caller(bool calls)
{
    int8_t wanted = calls ? 1 : -1;
    if (pool.pin && placed != wanted) {
        placed = wanted;
        if (calls) {
            rc_cpu_pin(0);
        } else {
            rc_cpu_unpin();
        }
    }
}

static void
start_workers(int wanted)
{
    if (!pool.started) {
        pool.pin = rc_pin_wanted();
        pthread_atfork(NULL, NULL, forget_workers_after_fork);
        pool.started = true;
    }
    place_caller(true);
    while (pool.workers < wanted) {
        pthread_t thread;
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        pthread_attr_setstacksize(&attributes, (size_t)4 << 20);
        int failed = pthread_create(
            &thread, &attributes, worker_main, (void *)(intptr_t)(pool.workers + 1));
        pthread_attr_destroy(&attributes);
        if (failed) {
            return; /* fewer threads, same results */
        }
        pool.workers++;
    }
}

void
rc_parallel(int64_t tasks, int threads, rc_task task, void *context)
{
    if (threads > RC_MAX_THREADS) {
        threads = RC_MAX_THREADS;
    }
    if (threads > tasks) {
        threads = (int)tasks;
    }
    bool alone = threads <= 1 || inside;
    if (!alone && pthread_mutex_trylock(&pool.caller) != 0) {
        place_caller(false);
        alone = true;
    }
    if (alone) {
        for (int64_t i = 0; i < tasks; i++) {
            task(context, i, 0);
        }
        return;
    }
    inside = true;
    start_workers(threads - 1);
    pool.current = (job){task, context, tasks, threads};
    atomic_store(&pool.next, 0);
    atomic_fetch_add(&pool.gate, 1);
    if (atomic_load(&pool.sleepers) > 0) {
        pthread_mutex_lock(&pool.lock);
        pthread_cond_broadcast(&pool.wake);
        pthread_mutex_unlock(&pool.lock);
    }
    work(&pool.current, 0);
    atomic_fetch_add(&pool.gate, 1);
    wait_for_workers();
    inside = false;
    pthread_mutex_unlock(&pool.caller);
}
