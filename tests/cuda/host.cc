/* Blocks and their fibres for host.h. One block at a time; a thread runs until it waits, so one
 * that never does costs a single change of stacks, and the next takes over its stack. */
#include "host.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <vector>

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace {

constexpr int STACK = 128 * 1024, MOST_THREADS = 1024;

/* ---- changing stacks ---- */

#if defined(__x86_64__)
extern "C" void rc_host_switch(void **save, void *to);
__asm__(R"(
.text
.globl rc_host_switch
.hidden rc_host_switch
.type rc_host_switch, @function
rc_host_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size rc_host_switch, .-rc_host_switch
)");

void *
fresh_stack(char *base, void (*entry)())
{
    void **top = reinterpret_cast<void **>(base + STACK - 64);
    top[0] = reinterpret_cast<void *>(entry); /* ret goes there; then rsp is 8 modulo 16 */
    top[1] = nullptr;
    return top - 6;
}

struct context {
    void *at;
};
void
change(context *from, context *to)
{
    rc_host_switch(&from->at, to->at);
}
void
prepare(context *c, char *stack, void (*entry)())
{
    c->at = fresh_stack(stack, entry);
}
#else
} // namespace
#include <ucontext.h>
namespace {
struct context {
    ucontext_t at;
};
void
change(context *from, context *to)
{
    swapcontext(&from->at, &to->at);
}
void
prepare(context *c, char *stack, void (*entry)())
{
    getcontext(&c->at);
    c->at.uc_stack.ss_sp = stack;
    c->at.uc_stack.ss_size = STACK;
    c->at.uc_link = nullptr;
    makecontext(&c->at, entry, 0);
}
#endif

/* ---- the block that runs ---- */

enum state { NEW, RUNNING, DONE };

struct fibre {
    context at;
    state is;
    int stack;
    int barriers;        /* come to so far */
    uint32_t time, warp; /* barriers of the block, of the warp, passed */
};

struct warp {
    uint64_t slot[2][32];
    uint32_t there[2]; /* lanes whose value lies in slot */
    uint32_t arrived, mask;
    uint32_t generation;
    int kind;
};

struct declared {
    const void *tag;
    std::vector<char> data;
    std::vector<rc_host::mark> marks;
};

struct machine {
    context scheduler;
    std::vector<fibre> fibres;
    std::vector<char *> stacks;
    std::vector<int> free_stacks;
    std::vector<warp> warps;
    std::vector<declared> shared;
    size_t at_launch;
    void (*body)(void *);
    void *argument;
    int threads, current, waiting;
    uint32_t generation;
    bool progress, failed;
    int order, no_barrier, no_block, no_thread, most_barriers;
    int64_t launches;
    char error[400];
};

machine m = {{}, {}, {}, {}, {}, {}, 0, nullptr, nullptr, 0, 0, 0, 0, false, false, 0, -1, -1, -1,
             0, 0, ""};

void
leave()
{
    change(&m.fibres[m.current].at, &m.scheduler);
}

void
entry()
{
    m.body(m.argument);
    m.fibres[m.current].is = DONE;
    leave();
    abort();
}

void
note(const char *text)
{
    if (!m.error[0]) {
        snprintf(m.error, sizeof m.error, "block (%u,%u,%u): %s", blockIdx.x, blockIdx.y,
                 blockIdx.z, text);
    }
    m.failed = true;
}

void
point_at(int thread)
{
    m.current = thread;
    unsigned t = (unsigned)thread;
    threadIdx = dim3(t % blockDim.x, t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y);
}

/* The i-th of n under the order asked for: an affine step keeps it a permutation. */
int64_t
place(int64_t i, int64_t n)
{
    if (m.order == 0) {
        return i;
    }
    if (m.order == 1) {
        return n - 1 - i;
    }
    int64_t step = (int64_t)m.order * 7919 % n;
    for (;; step++) {
        int64_t a = step, b = n;
        while (b) {
            int64_t r = a % b;
            a = b;
            b = r;
        }
        if (a == 1) {
            break;
        }
    }
    return (i * step + m.order) % n;
}

void
run_block()
{
    m.waiting = 0;
    m.generation = 0;
    m.shared.clear();
    m.warps.assign((size_t)(m.threads + 31) / 32, warp());
    m.free_stacks.clear();
    for (size_t i = 0; i < m.stacks.size(); i++) {
        m.free_stacks.push_back((int)i);
    }
    for (int i = 0; i < m.threads; i++) {
        m.fibres[(size_t)i] = fibre();
    }
    int left = m.threads;
    if (m.no_thread >= 0 && m.no_thread < m.threads) {
        m.fibres[(size_t)m.no_thread].is = DONE;
        left--;
    }
    while (left > 0) {
        m.progress = false;
        for (int i = 0; i < m.threads; i++) {
            int t = (int)place(i, m.threads);
            fibre &f = m.fibres[(size_t)t];
            if (f.is == DONE) {
                continue;
            }
            if (f.is == NEW) {
                if (m.free_stacks.empty()) {
                    m.stacks.push_back(static_cast<char *>(malloc(STACK)));
                    m.free_stacks.push_back((int)m.stacks.size() - 1);
                }
                f.stack = m.free_stacks.back();
                m.free_stacks.pop_back();
                prepare(&f.at, m.stacks[(size_t)f.stack], entry);
                f.is = RUNNING;
            }
            point_at(t);
            change(&m.scheduler, &f.at);
            if (m.failed) {
                return;
            }
            if (f.is == DONE) {
                m.free_stacks.push_back(f.stack);
                m.most_barriers = f.barriers > m.most_barriers ? f.barriers : m.most_barriers;
                m.progress = true;
                left--;
            }
        }
        if (left > 0 && !m.progress) {
            note("threads wait for others that are elsewhere or have ended");
            return;
        }
    }
}

} // namespace

namespace rc_host {

void (*enqueue)(void *stream, std::function<void()> body);

void
fail(const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    char with[360];
    snprintf(with, sizeof with, "thread %d: %s", m.current, text);
    note(with);
    leave();
    abort();
}

void
run(dim3 grid, dim3 block, size_t shared, void (*body)(void *), void *argument)
{
    m.launches++;
    m.failed = m.error[0] != 0;
    if (m.failed) {
        return; /* what came before it is wrong already */
    }
    blockDim = block;
    gridDim = grid;
    m.threads = (int)(block.x * block.y * block.z);
    m.at_launch = shared;
    m.body = body;
    m.argument = argument;
    if (m.threads < 1 || m.threads > MOST_THREADS || m.threads % 32 || grid.x < 1 || grid.y < 1
        || grid.z < 1 || grid.y > 65535 || grid.z > 65535 || grid.x > 0x7fffffffu
        || shared > 227 * 1024) {
        note("a launch that no card takes: block, grid or shared memory");
        return;
    }
    m.fibres.resize(MOST_THREADS);
    int64_t blocks = (int64_t)grid.x * grid.y * grid.z;
    for (int64_t i = 0; i < blocks && !m.failed; i++) {
        int64_t b = place(i, blocks);
        blockIdx = dim3((unsigned)(b % grid.x), (unsigned)(b / grid.x % grid.y),
                        (unsigned)(b / grid.x / grid.y));
        if (b != m.no_block) {
            run_block();
        }
    }
}

/* ---- barriers ---- */

void
barrier(void)
{
    fibre &f = m.fibres[(size_t)m.current];
    if (f.barriers++ == m.no_barrier) {
        return;
    }
    uint32_t mine = m.generation;
    m.progress = true;
    if (++m.waiting == m.threads) {
        m.waiting = 0;
        m.generation++;
    }
    while (m.generation == mine) {
        leave();
    }
    f.time++;
    f.warp = 0;
}

int
lane(void)
{
    return m.current % 32;
}

/* All lanes of the mask come to the same kind of operation before any goes on. */
static uint32_t
meet(unsigned mask, uint64_t value, int kind)
{
    warp &w = m.warps[(size_t)m.current / 32];
    uint32_t bit = 1u << lane(), mine = w.generation;
    if (!(mask & bit)) {
        fail("a warp operation whose mask leaves out the caller");
    }
    if (w.arrived && (w.mask != mask || w.kind != kind)) {
        fail("lanes of a warp at different operations, or with different masks");
    }
    w.mask = mask;
    w.kind = kind;
    if (!w.arrived) {
        w.there[mine & 1] = 0;
    }
    w.slot[mine & 1][lane()] = value;
    w.there[mine & 1] |= bit;
    w.arrived |= bit;
    m.progress = true;
    if (w.arrived == mask) {
        w.arrived = 0;
        w.generation++;
    }
    while (w.generation == mine) {
        leave();
    }
    return mine & 1;
}

uint64_t
exchange(unsigned mask, uint64_t value, int from, bool *there)
{
    uint32_t side = meet(mask, value, 1);
    const warp &w = m.warps[(size_t)m.current / 32];
    *there = from >= 0 && from < 32 && (w.there[side] >> from & 1);
    if (!*there) {
        fail("a shuffle from a lane that is not there");
    }
    return w.slot[side][from];
}

void
warp_barrier(unsigned mask)
{
    meet(mask, 0, 2);
    m.fibres[(size_t)m.current].warp++;
}

unsigned
ballot(unsigned mask, bool value)
{
    uint32_t side = meet(mask, value, 3);
    const warp &w = m.warps[(size_t)m.current / 32];
    unsigned bits = 0;
    for (int i = 0; i < 32; i++) {
        bits |= (w.there[side] >> i & 1) && w.slot[side][i] ? 1u << i : 0;
    }
    return bits;
}

/* ---- shared memory ---- */

void *
shared_block(const void *tag, size_t size, size_t *count, const char *name, mark **marks)
{
    if (*count == 0) {
        *count = m.at_launch / size;
    }
    for (declared &d : m.shared) {
        if (d.tag == tag) {
            *marks = d.marks.data();
            return d.data.data();
        }
    }
    size_t all = *count * size;
    for (const declared &d : m.shared) {
        all += d.data.size();
    }
    if (all > 227 * 1024) {
        fail("%s: shared memory of %zu bytes in all", name, all);
    }
    m.shared.push_back({tag, std::vector<char>(*count * size, (char)0xff),
                        std::vector<rc_host::mark>(*count)});
    *marks = m.shared.back().marks.data();
    return m.shared.back().data.data();
}

/* Whether an access of thread `who` at (time, warp time) may happen at the same moment as one of
 * this thread now. */
static bool
together(int32_t who, uint32_t time, uint32_t warp_time)
{
    const fibre &f = m.fibres[(size_t)m.current];
    if (who == 0 || who == m.current + 1 || time != f.time) {
        return false;
    }
    if (who > 0 && (who - 1) / 32 == m.current / 32) {
        return warp_time == f.warp;
    }
    return true;
}

void
note_read(mark *k, const char *name)
{
    const fibre &f = m.fibres[(size_t)m.current];
    if (k->writer == 0) {
        fail("%s: read before anything was written there", name);
    }
    if (together(k->writer, k->write_time, k->write_warp)) {
        fail("%s: read without a barrier after thread %d wrote it", name, k->writer - 1);
    }
    int32_t own = m.current / 32 + 1, me = m.current + 1;
    if (k->reader == 0 || k->read_time != f.time) {
        k->reader = me;
        k->readers = own;
    } else if (k->readers != own) {
        k->reader = k->readers = -1;
    } else if (k->read_warp != f.warp) {
        k->reader = me; /* what lanes read before the last warp barrier is behind them */
    } else if (k->reader != me) {
        k->reader = -1;
    }
    k->read_time = f.time;
    k->read_warp = f.warp;
}

void
note_write(mark *k, const char *name)
{
    const fibre &f = m.fibres[(size_t)m.current];
    if (together(k->writer, k->write_time, k->write_warp)) {
        fail("%s: written without a barrier after thread %d wrote it", name, k->writer - 1);
    }
    bool clash = k->reader != 0 && k->read_time == f.time
                 && (k->readers != m.current / 32 + 1
                     || (k->read_warp == f.warp && k->reader != m.current + 1));
    if (clash) {
        fail("%s: written without a barrier after another thread read it", name);
    }
    k->writer = m.current + 1;
    k->write_time = f.time;
    k->write_warp = f.warp;
}

constexpr int32_t ATOMIC = 1 << 20; /* not a thread's number */

void
note_atomic(mark *k, const char *name)
{
    const fibre &f = m.fibres[(size_t)m.current];
    if (k->writer == 0) {
        fail("%s: added to before anything was written there", name);
    }
    if (k->writer != ATOMIC && together(k->writer, k->write_time, k->write_warp)) {
        fail("%s: added to without a barrier after thread %d wrote it", name, k->writer - 1);
    }
    k->writer = ATOMIC;
    k->write_time = f.time;
    k->write_warp = f.warp;
}

} // namespace rc_host

extern "C" {

const char *
rc_host_error(void)
{
    static char last[sizeof m.error];
    memcpy(last, m.error, sizeof last);
    m.error[0] = 0;
    return last;
}

void
rc_host_set_order(int order)
{
    m.order = order;
}

void
rc_host_leave_out(int barrier, int block, int thread)
{
    m.no_barrier = barrier;
    m.no_block = block;
    m.no_thread = thread;
}

int
rc_host_barriers(void)
{
    int n = m.most_barriers;
    m.most_barriers = 0;
    return n;
}

int64_t
rc_host_launches(void)
{
    return m.launches;
}

} // extern "C"
