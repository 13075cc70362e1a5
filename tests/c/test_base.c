/* Base: errors, memory, threads, random numbers. */
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "reidc.h"

static void
test_errors(void)
{
    rc_error err = {0};
    CHECK(rc_fail(&err, RC_TYPE, "x: got %d", 3) == RC_TYPE);
    CHECK(err.code == RC_TYPE && !strcmp(err.text, "x: got 3"));
    CHECK(rc_fail(NULL, RC_FILE, "nobody listens") == RC_FILE);
}

static void
test_memory(void)
{
    int64_t before = rc_memory_live();
    char *block = rc_alloc(1000, 8);
    CHECK(block && (uintptr_t)block % 64 == 0);
    CHECK(rc_memory_live() == before + 8000);
    rc_free(block);
    CHECK(rc_memory_live() == before);
    CHECK(!rc_alloc(-1, 8));
    CHECK(!rc_alloc(INT64_MAX, 8));
    rc_memory_fail_after(1);
    void *first = rc_alloc(1, 1), *second = rc_alloc(1, 1);
    rc_memory_fail_after(-1);
    CHECK(first && !second);
    rc_free(first);
}

static void
add_one(void *context, int64_t i, int worker)
{
    (void)worker;
    ((int *)context)[i]++;
}

static void
nested(void *context, int64_t i, int worker)
{
    (void)worker;
    rc_parallel(10, 2, add_one, (int *)context + 10 * i);
}

static bool
each_once(void)
{
    int counts[1000] = {0};
    for (int threads = 1; threads <= 7; threads += 2) {
        rc_parallel(1000, threads, add_one, counts);
    }
    for (int i = 0; i < 1000; i++) {
        if (counts[i] != 4) {
            return false;
        }
    }
    return true;
}

static void
test_threads(void)
{
    int counts[100] = {0}, wrong = 0;
    CHECK(each_once());
    rc_parallel(10, 3, nested, counts);
    for (int i = 0; i < 100; i++) {
        wrong += counts[i] != 1;
    }
    CHECK(wrong == 0);
    fflush(stdout);
    pid_t child = fork(); /* the pool's workers do not survive it; a new pool must */
    if (child == 0) {
        _exit(each_once() ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(rc_cpu_count() >= 1);
}

static void
test_random(void)
{
    double sum = 0, squares = 0;
    for (uint64_t i = 0; i < 100000; i++) {
        double v = rc_normal(rc_random(7, RC_RANDOM_INIT, 0, 0, 0, i));
        sum += v;
        squares += v * v;
    }
    CHECK(sum / 1e5 > -0.02 && sum / 1e5 < 0.02);
    CHECK(squares / 1e5 > 0.97 && squares / 1e5 < 1.03);
    CHECK(rc_random_step(rc_random_stream(1, 2, 3, 4, 5), 6) == rc_random(1, 2, 3, 4, 5, 6));
}

int
main(void)
{
    test_errors();
    test_memory();
    test_threads();
    test_random();
    return REPORT();
}
