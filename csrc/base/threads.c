/* One pool of worker threads for the whole process.
 *
 * Tasks are handed out by an atomic counter, one at a time: they are cut by shape, so who
 * runs one does not change a bit. Workers spin for a short while after a job (the next one
 * usually follows within microseconds) and then sleep, so that an idle process costs nothing
 * and other libraries' threads are not starved. fork() leaves the child without workers: the
 * child's first job starts new ones. */
#define _GNU_SOURCE
#include "base/base.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SPIN_SECONDS 100e-6

typedef struct job {
    rc_task task;
    void *context;
    int64_t tasks;
    int threads;
} job;

static struct {
    pthread_mutex_t caller;      /* held while a job runs: one caller at a time */
    pthread_mutex_t lock;        /* guards `sleepers` waiting on `wake` */
    pthread_cond_t wake;
    job current;
    _Atomic int64_t next;        /* next task to hand out */
    _Atomic uint64_t generation; /* counts jobs; workers wait for it to change */
    _Atomic int running;         /* workers that have not yet finished the current job */
    int workers;                 /* started so far */
    uint64_t born[RC_MAX_THREADS]; /* the generation a worker was started in */
    bool fork_handler;
} pool = {                       /* lint: mutable static, the process's one pool */
    .caller = PTHREAD_MUTEX_INITIALIZER,
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .wake = PTHREAD_COND_INITIALIZER,
};

static _Thread_local bool inside; /* lint: mutable static, nested calls run inline */

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

static void *
worker_main(void *argument)
{
    int worker = (int)(intptr_t)argument; /* 1.. ; the caller is 0 */
    uint64_t seen = pool.born[worker];
    inside = true;
    for (;;) {
        double deadline = rc_seconds() + SPIN_SECONDS;
        int spins = 0;
        while (atomic_load(&pool.generation) == seen) {
            cpu_relax();
            if (++spins % 64 == 0 && rc_seconds() > deadline) {
                pthread_mutex_lock(&pool.lock);
                while (atomic_load(&pool.generation) == seen) {
                    pthread_cond_wait(&pool.wake, &pool.lock);
                }
                pthread_mutex_unlock(&pool.lock);
            }
        }
        seen = atomic_load(&pool.generation);
        job current = pool.current;
        if (worker < current.threads) {
            work(&current, worker);
        }
        atomic_fetch_sub(&pool.running, 1);
    }
    return NULL;
}

static void
forget_workers_after_fork(void)
{
    pthread_mutex_init(&pool.caller, NULL);
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.wake, NULL);
    pool.workers = 0;
    atomic_store(&pool.running, 0);
    atomic_store(&pool.generation, 0);
}

static void
start_workers(int wanted)
{
    if (!pool.fork_handler) {
        pthread_atfork(NULL, NULL, forget_workers_after_fork);
        pool.fork_handler = true;
    }
    while (pool.workers < wanted) {
        pthread_t thread;
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        pthread_attr_setstacksize(&attributes, (size_t)4 << 20);
        pool.born[pool.workers + 1] = atomic_load(&pool.generation); /* not an old job */
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
    if (threads <= 1 || inside || pthread_mutex_trylock(&pool.caller) != 0) {
        for (int64_t i = 0; i < tasks; i++) {
            task(context, i, 0);
        }
        return;
    }
    inside = true;
    start_workers(threads - 1);
    pool.current = (job){task, context, tasks, threads};
    atomic_store(&pool.next, 0);
    atomic_store(&pool.running, pool.workers);
    pthread_mutex_lock(&pool.lock);
    atomic_fetch_add(&pool.generation, 1);
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.lock);
    work(&pool.current, 0);
    for (int spins = 0; atomic_load(&pool.running) > 0; spins++) {
        if (spins < 4096) {
            cpu_relax();
        } else {
            sched_yield(); /* more threads than processors */
        }
    }
    inside = false;
    pthread_mutex_unlock(&pool.caller);
}

/* A container's share of processors, rounded up; 0 when there is no limit. */
static int
quota(void)
{
    long long limit = 0, period = 0;
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (!file) {
        return 0;
    }
    int fields = fscanf(file, "%lld %lld", &limit, &period); /* "max 100000" gives 0 */
    fclose(file);
    return fields == 2 && period > 0 ? (int)((limit + period - 1) / period) : 0;
}

int
rc_cpu_count(void)
{
    cpu_set_t set;
    int count = 1;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        count = CPU_COUNT(&set);
    } else {
        long online = sysconf(_SC_NPROCESSORS_ONLN);
        count = online > 0 ? (int)online : 1;
    }
    int allowed = quota();
    if (allowed > 0 && allowed < count) {
        count = allowed;
    }
    return count < 1 ? 1 : count > RC_MAX_THREADS ? RC_MAX_THREADS : count;
}
