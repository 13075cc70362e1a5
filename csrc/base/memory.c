/* The only allocator of the core: aligned for vector loads, counted for the leak tests,
 * and able to fail on demand so that every error path can be walked. */
#define _GNU_SOURCE
#include "base/base.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HEADER 64 /* keeps the block aligned; holds its size */
#define HUGE_FROM ((size_t)4 << 20)
#define HUGE_PAGE ((size_t)2 << 20)

static _Atomic int64_t live_bytes;            /* lint: mutable static, a counter */
static _Atomic int64_t fail_countdown = -1;   /* lint: mutable static, set by tests only */

void *
rc_alloc(int64_t count, size_t element_size)
{
    if (count < 0 || (element_size && (uint64_t)count > (SIZE_MAX / 4) / element_size)) {
        return NULL;
    }
    int64_t left = atomic_load(&fail_countdown);
    if (left >= 0 && atomic_fetch_sub(&fail_countdown, 1) == 0) {
        return NULL;
    }
    size_t size = (size_t)count * element_size;
    size_t total = (size + HEADER + 63) & ~(size_t)63;
    size_t alignment = total >= HUGE_FROM ? HUGE_PAGE : 64;
    void *base = NULL;
    if (posix_memalign(&base, alignment, total) != 0) {
        return NULL;
    }
    if (alignment == HUGE_PAGE) {
        /* A wish; refusal costs only speed. The end stays in small pages: of a block of 4 MiB and
         * its header, a third huge page would hold 64 bytes. */
        (void)madvise(base, total & ~(HUGE_PAGE - 1), MADV_HUGEPAGE);
    }
    memcpy(base, &size, sizeof size);
    atomic_fetch_add(&live_bytes, (int64_t)size);
    return (char *)base + HEADER;
}

void *
rc_alloc_zero(int64_t count, size_t element_size)
{
    void *block = rc_alloc(count, element_size);
    if (block) {
        memset(block, 0, (size_t)count * element_size);
    }
    return block;
}

void
rc_free(void *block)
{
    if (!block) {
        return;
    }
    char *base = (char *)block - HEADER;
    size_t size;
    memcpy(&size, base, sizeof size);
    atomic_fetch_sub(&live_bytes, (int64_t)size);
    free(base);
}

char *
rc_strdup(const char *text)
{
    size_t length = strlen(text) + 1;
    char *copy = rc_alloc((int64_t)length, 1);
    return copy ? memcpy(copy, text, length) : NULL;
}

int64_t
rc_memory_live(void)
{
    return atomic_load(&live_bytes);
}

void
rc_memory_fail_after(int64_t allocations)
{
    atomic_store(&fail_countdown, allocations);
}
