/* The processors this process may use: its affinity, a container's quota (cgroup v1 and v2, at every
 * level of its path), and the fast cores alone of a CPU that has slow ones, too. Tasks are handed
 * out one at a time, but the last one of a job should not be a slow core's. And where threads go that
 * are pinned. All files are read below `root`, which is "" outside of tests. */
#define _GNU_SOURCE
#include "base/base.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH 1024

/* What pinning of this process's threads started from. */
static struct {
    bool known;
    cpu_set_t set;
} before; /* lint: mutable static, written by the pool's caller before the first thread is pinned */

static bool
first_line(const char *root, const char *name, char *text, int size)
{
    char path[2 * PATH];
    int length = snprintf(path, sizeof path, "%s%s", root, name);
    FILE *file = length < (int)sizeof path ? fopen(path, "r") : NULL;
    if (!file) {
        return false;
    }
    bool got = fgets(text, size, file) != NULL;
    fclose(file);
    return got;
}

/* ---- quota ---------------------------------------------------------------------------------- */

/* Of one group: processors, rounded up; 0 when there is no limit. */
static int
group_quota(const char *root, const char *group, bool v2)
{
    char name[PATH + 32], text[128];
    long long limit = 0, period = 0;
    snprintf(name, sizeof name, "%s/%s", group, v2 ? "cpu.max" : "cpu.cfs_quota_us");
    if (!first_line(root, name, text, sizeof text)) {
        return 0;
    }
    if (v2) {
        if (sscanf(text, "%lld %lld", &limit, &period) != 2) { /* "max 100000" */
            return 0;
        }
    } else {
        limit = atoll(text); /* -1: none */
        snprintf(name, sizeof name, "%s/cpu.cfs_period_us", group);
        period = first_line(root, name, text, sizeof text) ? atoll(text) : 0;
    }
    return limit > 0 && period > 0 ? (int)((limit + period - 1) / period) : 0;
}

/* The smallest of a group and those above it; `path` as /proc/self/cgroup has it. Within a
 * container it may name what only the host sees: then the mount's root counts. */
static int
path_quota(const char *root, const char *mount, const char *path, bool v2)
{
    char group[PATH];
    int least = 0, start = (int)strlen(mount);
    if (snprintf(group, sizeof group, "%s%s", mount, path) >= (int)sizeof group) {
        return 0;
    }
    for (;;) {
        int own = group_quota(root, group, v2);
        least = own > 0 && (!least || own < least) ? own : least;
        char *slash = strrchr(group + start, '/');
        if (!slash) {
            return least;
        }
        *slash = 0;
    }
}

static bool
has_word(const char *list, const char *word) /* list: a,b,c */
{
    size_t length = strlen(word);
    for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        if (!strncmp(at, word, length) && (at[length] == ',' || !at[length])) {
            return true;
        }
    }
    return false;
}

int
rc_cpu_quota(const char *root)
{
    char path[PATH], line[PATH], mount[PATH];
    int least = 0;
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file)) { /* number:controllers:path, v2: 0::path */
        line[strcspn(line, "\n")] = 0;
        char *list = strchr(line, ':'), *group = list ? strchr(list + 1, ':') : NULL;
        if (!group) {
            continue;
        }
        *list++ = *group++ = 0;
        bool v2 = !*list;
        if (!v2 && !has_word(list, "cpu")) {
            continue;
        }
        for (int i = 0; i < 2; i++) { /* v1: mounted by its list of controllers or by name;
                                         v2: alone or beside v1 */
            snprintf(mount, sizeof mount, "/sys/fs/cgroup%s%.200s", v2 && !i ? "" : "/",
                     v2 ? (i ? "unified" : "") : (i ? "cpu" : list));
            int own = path_quota(root, mount, strcmp(group, "/") ? group : "", v2);
            least = own > 0 && (!least || own < least) ? own : least;
        }
    }
    if (file) {
        fclose(file);
    }
    return least;
}

/* ---- cores ---------------------------------------------------------------------------------- */

/* "0-3,8" into a set; false if there is no such file. */
static bool
read_list(const char *root, const char *name, cpu_set_t *set)
{
    char text[1024];
    CPU_ZERO(set);
    if (!first_line(root, name, text, sizeof text)) {
        return false;
    }
    for (char *at = text; *at >= '0' && *at <= '9';) {
        long from = strtol(at, &at, 10), to = from;
        if (*at == '-') {
            to = strtol(at + 1, &at, 10);
        }
        for (long i = from; i <= to && i < CPU_SETSIZE; i++) {
            CPU_SET((int)i, set);
        }
        at += *at == ',';
    }
    return true;
}

static long
capacity(const char *root, int cpu)
{
    char name[128], text[32];
    snprintf(name, sizeof name, "/sys/devices/system/cpu/cpu%d/cpu_capacity", cpu);
    return first_line(root, name, text, sizeof text) ? atol(text) : 0;
}

/* Of `allowed`, the cores that are fast: all of them, unless the system tells two kinds apart. */
static void
keep_fast(const char *root, const cpu_set_t *allowed, cpu_set_t *fast)
{
    if (read_list(root, "/sys/devices/cpu_core/cpus", fast)) {
        CPU_AND(fast, fast, allowed);
    } else {
        long most = 0;
        for (int i = 0; i < CPU_SETSIZE; i++) {
            long own = CPU_ISSET(i, allowed) ? capacity(root, i) : 0;
            most = own > most ? own : most;
        }
        CPU_ZERO(fast);
        for (int i = 0; i < CPU_SETSIZE; i++) {
            if (CPU_ISSET(i, allowed) && 2 * capacity(root, i) >= most) {
                CPU_SET(i, fast);
            }
        }
    }
    if (!CPU_COUNT(fast)) {
        *fast = *allowed;
    }
}

/* The first allowed one among those that share its core. */
static bool
is_first_of_core(const char *root, int cpu, const cpu_set_t *allowed)
{
    char name[128];
    cpu_set_t siblings;
    snprintf(name, sizeof name, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    if (!read_list(root, name, &siblings)) {
        return true;
    }
    for (int i = 0; i < cpu; i++) {
        if (CPU_ISSET(i, &siblings) && CPU_ISSET(i, allowed)) {
            return false;
        }
    }
    return true;
}

static bool
allowed_now(cpu_set_t *set)
{
    if (before.known) {
        *set = before.set;
        return true;
    }
    return sched_getaffinity(0, sizeof *set, set) == 0;
}

int
rc_cpu_order(const char *root, int *cpus, int most)
{
    cpu_set_t allowed, fast;
    int n = 0;
    if (!allowed_now(&allowed)) {
        return 0;
    }
    keep_fast(root, &allowed, &fast);
    for (int second = 0; second < 2; second++) {
        for (int i = 0; i < CPU_SETSIZE; i++) {
            if (CPU_ISSET(i, &fast) && n < most
                && is_first_of_core(root, i, &allowed) == !second) {
                cpus[n++] = i;
            }
        }
    }
    return n;
}

int
rc_cpu_count_in(const char *root)
{
    cpu_set_t allowed, fast;
    int count;
    if (allowed_now(&allowed)) {
        keep_fast(root, &allowed, &fast);
        count = CPU_COUNT(&fast);
    } else {
        count = (int)sysconf(_SC_NPROCESSORS_ONLN);
    }
    int quota = rc_cpu_quota(root);
    count = quota > 0 && quota < count ? quota : count;
    return count < 1 ? 1 : count > RC_MAX_THREADS ? RC_MAX_THREADS : count;
}

int
rc_cpu_count(void)
{
    return rc_cpu_count_in("");
}

/* ---- pinning ---------------------------------------------------------------------------------- */

bool
rc_pin_wanted(void)
{
    const char *wish = getenv("REIDC_PIN");
    return wish && !strcmp(wish, "1");
}

const char *
rc_pin_problem(void)
{
    static char problem[64]; /* lint: mutable static, the same words whoever writes them */
    const char *wish = getenv("REIDC_PIN");
    if (!wish || !*wish || !strcmp(wish, "0") || rc_pin_wanted()) {
        return NULL;
    }
    snprintf(problem, sizeof problem, "REIDC_PIN: expected 1 or 0, got '%.20s'", wish);
    return problem;
}

void
rc_cpu_pin(int thread)
{
    int cpus[RC_MAX_THREADS], n;
    cpu_set_t one;
    if (!before.known && sched_getaffinity(0, sizeof before.set, &before.set) == 0) {
        before.known = true;
    }
    n = rc_cpu_order("", cpus, RC_MAX_THREADS);
    if (n > 0) {
        CPU_ZERO(&one);
        CPU_SET(cpus[thread % n], &one);
        (void)sched_setaffinity(0, sizeof one, &one);
    }
}

void
rc_cpu_unpin(void)
{
    if (before.known) {
        (void)sched_setaffinity(0, sizeof before.set, &before.set);
    }
}
