/* Base: errors, memory, threads, random numbers. */
#define _GNU_SOURCE /* mkdtemp */
#include <stdlib.h>
#include <sys/stat.h>
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
write_file(const char *root, const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s%s", root, name);
    for (char *slash = strchr(path + strlen(root) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(path, 0700);
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    CHECK(file && fputs(text, file) >= 0);
    if (file) {
        fclose(file);
    }
}

#define GROUPS "/proc/self/cgroup"

static void
test_processors(void)
{
    char root[] = "/tmp/reidc-test-XXXXXX";
    CHECK(mkdtemp(root));
    CHECK(rc_cpu_quota(root) == 0);
    /* v2: the least of the levels, half a processor counts as one, others' groups do not */
    write_file(root, GROUPS, "0::/a/b\n");
    CHECK(rc_cpu_quota(root) == 0);
    write_file(root, "/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    CHECK(rc_cpu_quota(root) == 0);
    write_file(root, "/sys/fs/cgroup/a/cpu.max", "250000 100000\n");
    write_file(root, "/sys/fs/cgroup/c/cpu.max", "100000 100000\n");
    CHECK(rc_cpu_quota(root) == 3);
    write_file(root, "/sys/fs/cgroup/a/b/cpu.max", "50000 100000\n");
    CHECK(rc_cpu_quota(root) == 1);
    CHECK(rc_cpu_count_in(root) == 1);
    write_file(root, GROUPS, "0::/\n");
    CHECK(rc_cpu_quota(root) == 0);
    /* v1, the path of the host, which the container does not see; v2 beside it without limits */
    write_file(root, GROUPS, "5:memory:/c\n4:cpu,cpuacct:/docker/0123\n0::/\n");
    write_file(root, "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    write_file(root, "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "50000\n");
    CHECK(rc_cpu_quota(root) == 0);
    write_file(root, "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "350000\n");
    CHECK(rc_cpu_quota(root) == 7);
    write_file(root, GROUPS, "4:cpuacct:/\n3:cpuset:/\n");
    CHECK(rc_cpu_quota(root) == 0);
    write_file(root, GROUPS, "4:cpu:/x\n");
    write_file(root, "/sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n");
    write_file(root, "/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "200000\n");
    CHECK(rc_cpu_quota(root) == 2);
    write_file(root, GROUPS, "0::/\n");
    /* hybrid: slow cores are left out; where only slow ones are allowed, they are used */
    int cpus[RC_MAX_THREADS], all = rc_cpu_order("", cpus, RC_MAX_THREADS), two[2], n;
    CHECK(all >= 1 && all <= RC_MAX_THREADS);
    char name[128], text[32];
    snprintf(text, sizeof text, "%d\n", cpus[all - 1]);
    write_file(root, "/sys/devices/cpu_core/cpus", text);
    n = rc_cpu_order(root, two, 2);
    CHECK(n == 1 && two[0] == cpus[all - 1] && rc_cpu_count_in(root) == 1);
    write_file(root, "/sys/devices/cpu_core/cpus", "1000-1002,1005\n");
    CHECK(rc_cpu_order(root, two, 2) == (all < 2 ? all : 2));
    snprintf(name, sizeof name, "%s/sys/devices/cpu_core/cpus", root);
    CHECK(remove(name) == 0);
    if (all >= 2) { /* by capacity, as on Arm */
        snprintf(name, sizeof name, "/sys/devices/system/cpu/cpu%d/cpu_capacity", cpus[0]);
        write_file(root, name, "400\n");
        snprintf(name, sizeof name, "/sys/devices/system/cpu/cpu%d/cpu_capacity", cpus[1]);
        write_file(root, name, "1024\n");
        CHECK(rc_cpu_order(root, two, 2) == 1 && two[0] == cpus[1]);
        /* threads of one core: the second one comes last */
        write_file(root, name, "500\n");
        int low = cpus[0] < cpus[1] ? cpus[0] : cpus[1], high = cpus[0] + cpus[1] - low;
        snprintf(text, sizeof text, "%d,%d\n", low, high);
        for (int i = 0; i < 2; i++) {
            snprintf(name, sizeof name, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list",
                     cpus[i]);
            write_file(root, name, text);
        }
        int order[RC_MAX_THREADS];
        n = rc_cpu_order(root, order, RC_MAX_THREADS);
        CHECK(n == all && order[0] == low && order[all - 1] == high);
    }
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", root);
    CHECK(system(command) == 0);
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
    test_processors();
    test_random();
    return REPORT();
}
