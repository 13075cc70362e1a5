/* Memory, streams, events and recorded runs of the stand-in (standin.h). */
#include "standin.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <deque>
#include <map>
#include <vector>

/* Of host.h, which defines CUDA's words for itself. */
namespace rc_host {
extern void (*enqueue)(void *stream, std::function<void()> body);
}
extern "C" const char *rc_host_error(void);

struct CUstream_st {
    std::deque<std::function<void()>> work;
    bool recording = false;
    std::vector<std::function<void()>> kept;
};

/* The work of its stream that was there when it was recorded. */
struct CUevent_st {
    CUstream_st *stream = nullptr;
    uint64_t number = 0; /* of the last record; work of the stream marks it as reached */
    uint64_t reached = 0;
};

struct CUgraph_st {
    std::vector<std::function<void()>> work;
};

struct CUgraphExec_st {
    std::vector<std::function<void()>> work;
};

namespace {

struct block {
    int64_t bytes;
    bool on_card;
};

struct failure {
    int n = 0, code = 0;
};

struct all {
    std::string log, problem;
    std::map<std::string, failure> failures;
    std::map<std::string, int64_t> alive;
    std::map<const char *, block> blocks;
    std::map<CUstream_st *, bool> streams;
    int cards = 1, major = 9, minor = 0, driver = 13000;
    int64_t bytes = INT64_C(1) << 40, used = 0;
    bool lazy = true;
    cudaError_t last = cudaSuccess;
};

all &
s()
{
    static all *it = new all; /* outlives whoever unloads in whatever order */
    return *it;
}

cudaError_t
result(int code)
{
    if (code) {
        s().last = static_cast<cudaError_t>(code);
    }
    return static_cast<cudaError_t>(code);
}

/* Waiting and allocating while a stream is recorded ends the recording on a card. */
cudaError_t
forbidden(const char *what)
{
    standin::problem("%s while a run is recorded", what);
    return result(cudaErrorStreamCaptureUnsupported);
}

void
drain(CUstream_st *stream)
{
    while (!stream->work.empty()) {
        std::function<void()> next = std::move(stream->work.front());
        stream->work.pop_front();
        next();
    }
}

void
drain_all()
{
    for (auto &entry : s().streams) {
        drain(entry.first);
    }
}

/* Until the event's last record before now is reached. */
void
drain_to(CUevent_st *event, uint64_t number)
{
    while (event->stream && event->reached < number) {
        if (event->stream->work.empty()) {
            standin::problem("an event that its stream never reaches");
            return;
        }
        std::function<void()> next = std::move(event->stream->work.front());
        event->stream->work.pop_front();
        next();
    }
}

cudaError_t
allocate(void **out, size_t bytes, bool on_card)
{
    int64_t wanted = static_cast<int64_t>(bytes);
    if (on_card && s().used + wanted > s().bytes) {
        return result(cudaErrorMemoryAllocation);
    }
    char *memory = static_cast<char *>(aligned_alloc(256, (bytes + 511) & ~size_t(255)));
    memset(memory, 0xff, bytes); /* NaN: what is read before it is written shows */
    s().blocks[memory] = {wanted, on_card};
    s().used += on_card ? wanted : 0;
    standin::count(on_card ? "memory" : "host", 1);
    standin::count(on_card ? "bytes" : "host bytes", wanted);
    *out = memory;
    return cudaSuccess;
}

cudaError_t
release(void *memory, bool on_card)
{
    if (!memory) {
        return cudaSuccess;
    }
    if (standin::recording()) {
        return forbidden("cudaFree");
    }
    auto at = s().blocks.find(static_cast<char *>(memory));
    if (at == s().blocks.end() || at->second.on_card != on_card) {
        standin::problem("freed, but not allocated");
        return result(cudaErrorInvalidValue);
    }
    drain_all(); /* cudaFree waits for the card */
    standin::count(on_card ? "memory" : "host", -1);
    standin::count(on_card ? "bytes" : "host bytes", -at->second.bytes);
    s().used -= on_card ? at->second.bytes : 0;
    memset(memory, 0xfe, static_cast<size_t>(at->second.bytes));
    s().blocks.erase(at);
    free(memory);
    return cudaSuccess;
}

void
launch(void *stream, std::function<void()> body)
{
    standin::call("kernel");
    standin::enqueue(static_cast<cudaStream_t>(stream), std::move(body));
}

struct hook {
    hook() { rc_host::enqueue = launch; }
} installed;

} // namespace

/* ---- for tests --------------------------------------------------------------------------------- */

const char *
standin_log(void)
{
    return s().log.c_str();
}

const char *
standin_problem(void)
{
    const char *kernels = rc_host_error();
    if (s().problem.empty() && kernels[0]) {
        s().problem = kernels;
    }
    return s().problem.c_str();
}

void
standin_reset(void)
{
    drain_all();
    s().log.clear();
    s().problem.clear();
    s().failures.clear();
    s().last = cudaSuccess;
    (void)rc_host_error();
    standin_machine(1, 9, 0, 13000, INT64_C(1) << 40);
    s().lazy = true;
}

void
standin_fail(const char *function, int n, int code)
{
    s().failures[function] = {n, code};
}

void
standin_machine(int cards, int major, int minor, int driver, int64_t bytes)
{
    s().cards = cards;
    s().major = major;
    s().minor = minor;
    s().driver = driver;
    s().bytes = bytes;
}

int64_t
standin_alive(const char *what)
{
    return s().alive[what];
}

void
standin_lazy(int on)
{
    s().lazy = on != 0;
}

namespace standin {

int
call(const char *function, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    s().log += std::string(function) + (text[0] ? " " : "") + text + "\n";
    failure &f = s().failures[function];
    return f.n > 0 && --f.n == 0 ? f.code : 0;
}

void
problem(const char *format, ...)
{
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (s().problem.empty()) {
        s().problem = text;
    }
}

void
count(const char *what, int64_t change)
{
    s().alive[what] += change;
}

static const block *
block_of(const void *at, int64_t *offset)
{
    auto next = s().blocks.upper_bound(static_cast<const char *>(at));
    if (next == s().blocks.begin()) {
        return nullptr;
    }
    --next;
    *offset = static_cast<const char *>(at) - next->first;
    return *offset <= next->second.bytes ? &next->second : nullptr;
}

bool
covers(const void *at, int64_t bytes, const char *what)
{
    int64_t offset;
    const block *b = block_of(at, &offset);
    if (b && b->on_card && offset + bytes <= b->bytes) {
        return true;
    }
    if (!b) {
        problem("%s: %lld bytes at an address that is not the card's", what, (long long)bytes);
    } else if (!b->on_card) {
        problem("%s: host memory where the card's is expected", what);
    } else {
        problem("%s: %lld bytes, %lld are left in the block", what, (long long)bytes,
                (long long)(b->bytes - offset));
    }
    return false;
}

bool
is_card(const void *at)
{
    int64_t offset;
    const block *b = block_of(at, &offset);
    return b && b->on_card;
}

float
values::get(int64_t i) const
{
    if (!half) {
        return static_cast<const float *>(at)[i];
    }
    uint32_t bits = static_cast<uint32_t>(static_cast<const uint16_t *>(at)[i]) << 16;
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

void
values::put(int64_t i, float v) const
{
    if (!half) {
        static_cast<float *>(at)[i] = v;
        return;
    }
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    bool nan = v != v;
    static_cast<uint16_t *>(at)[i] = static_cast<uint16_t>(
        nan ? bits >> 16 | 0x40 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

void
enqueue(cudaStream_t stream, std::function<void()> work)
{
    if (stream == cudaStreamLegacy || stream == cudaStreamPerThread) {
        work(); /* others' */
        return;
    }
    if (!s().streams.count(stream)) {
        problem("work for a stream that is not there");
        return;
    }
    if (stream->recording) {
        stream->kept.push_back(std::move(work));
        return;
    }
    stream->work.push_back(std::move(work));
    if (!s().lazy) {
        drain(stream);
    }
}

bool
recording(void)
{
    for (auto &entry : s().streams) {
        if (entry.first->recording) {
            return true;
        }
    }
    return false;
}

} // namespace standin

#define CALL(...)                                        \
    if (int code_ = standin::call(__func__, __VA_ARGS__)) { \
        return result(code_);                            \
    }

/* ---- the card -------------------------------------------------------------------------------------- */

cudaError_t
cudaGetLastError(void)
{
    cudaError_t last = s().last;
    s().last = cudaSuccess;
    return last;
}

const char *
cudaGetErrorString(cudaError_t code)
{
    return code == cudaErrorNoDevice           ? "no CUDA-capable device is detected"
           : code == cudaErrorMemoryAllocation ? "out of memory"
                                               : "an error of the stand-in";
}

const char *
cudaGetErrorName(cudaError_t code)
{
    return code == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaErrorOther";
}

cudaError_t
cudaDriverGetVersion(int *version)
{
    *version = s().driver;
    return cudaSuccess;
}

cudaError_t
cudaGetDeviceCount(int *count)
{
    CALL("");
    *count = s().cards;
    return s().driver < CUDART_VERSION / 1000 * 1000 ? result(cudaErrorInsufficientDriver)
           : s().cards                               ? cudaSuccess
                                                     : result(cudaErrorNoDevice);
}

cudaError_t
cudaSetDevice(int device)
{
    return device < s().cards ? cudaSuccess : result(cudaErrorInvalidDevice);
}

cudaError_t
cudaGetDeviceProperties(struct cudaDeviceProp *out, int)
{
    CALL("");
    memset(out, 0, sizeof *out);
    strcpy(out->name, "stand-in");
    out->major = s().major;
    out->minor = s().minor;
    out->totalGlobalMem = static_cast<size_t>(s().bytes);
    return cudaSuccess;
}

/* ---- memory ---------------------------------------------------------------------------------------- */

cudaError_t
cudaMalloc(void **out, size_t bytes)
{
    CALL("%zu", bytes);
    return standin::recording() ? forbidden("cudaMalloc") : allocate(out, bytes, true);
}

cudaError_t
cudaMallocHost(void **out, size_t bytes)
{
    CALL("%zu", bytes);
    return standin::recording() ? forbidden("cudaMallocHost") : allocate(out, bytes, false);
}

cudaError_t
cudaFree(void *memory)
{
    CALL("");
    return release(memory, true);
}

cudaError_t
cudaFreeHost(void *memory)
{
    CALL("");
    return release(memory, false);
}

cudaError_t
cudaMemGetInfo(size_t *left, size_t *total)
{
    *total = static_cast<size_t>(s().bytes);
    *left = static_cast<size_t>(s().bytes - s().used);
    return cudaSuccess;
}

cudaError_t
cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                cudaStream_t stream)
{
    CALL("%s %zu", kind == cudaMemcpyHostToDevice   ? "up"
                   : kind == cudaMemcpyDeviceToHost ? "down"
                                                    : "across", bytes);
    int64_t n = static_cast<int64_t>(bytes);
    bool to_card = kind != cudaMemcpyDeviceToHost, from_card = kind != cudaMemcpyHostToDevice;
    if (standin::is_card(to) != to_card || standin::is_card(from) != from_card) {
        standin::problem("a copy %s memory of the other side", to_card ? "up with" : "down with");
        return result(cudaErrorInvalidValue);
    }
    standin::enqueue(stream, [=]() {
        if ((!to_card || standin::covers(to, n, "a copy's target"))
            && (!from_card || standin::covers(from, n, "a copy's source"))) {
            memcpy(to, from, bytes);
        }
    });
    return cudaSuccess;
}

cudaError_t
cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
    CALL("%zu", bytes);
    standin::enqueue(stream, [=]() {
        if (standin::covers(to, static_cast<int64_t>(bytes), "zeros")) {
            memset(to, value, bytes);
        }
    });
    return cudaSuccess;
}

/* ---- streams and events ------------------------------------------------------------------------------ */

cudaError_t
cudaStreamCreateWithFlags(cudaStream_t *out, unsigned)
{
    CALL("");
    *out = new CUstream_st;
    s().streams[*out] = true;
    standin::count("streams", 1);
    return cudaSuccess;
}

cudaError_t
cudaStreamDestroy(cudaStream_t stream)
{
    CALL("");
    drain(stream);
    s().streams.erase(stream);
    standin::count("streams", -1);
    delete stream;
    return cudaSuccess;
}

cudaError_t
cudaStreamSynchronize(cudaStream_t stream)
{
    CALL("");
    if (stream->recording) {
        return forbidden("cudaStreamSynchronize");
    }
    drain(stream);
    return cudaSuccess;
}

cudaError_t
cudaEventCreateWithFlags(cudaEvent_t *out, unsigned)
{
    CALL("");
    *out = new CUevent_st;
    standin::count("events", 1);
    return cudaSuccess;
}

cudaError_t
cudaEventCreate(cudaEvent_t *out)
{
    return cudaEventCreateWithFlags(out, 0);
}

cudaError_t
cudaEventDestroy(cudaEvent_t event)
{
    CALL("");
    drain_all();
    standin::count("events", -1);
    delete event;
    return cudaSuccess;
}

cudaError_t
cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    CALL("");
    event->stream = s().streams.count(stream) ? stream : nullptr;
    uint64_t number = ++event->number;
    standin::enqueue(stream, [=]() { event->reached = number; });
    return cudaSuccess;
}

cudaError_t
cudaEventSynchronize(cudaEvent_t event)
{
    CALL("");
    if (standin::recording()) {
        return forbidden("cudaEventSynchronize");
    }
    drain_to(event, event->number);
    return cudaSuccess;
}

cudaError_t
cudaEventElapsedTime(float *out, cudaEvent_t, cudaEvent_t)
{
    CALL("");
    *out = 1;
    return cudaSuccess;
}

cudaError_t
cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    CALL("");
    uint64_t number = event->number;
    standin::enqueue(stream, [=]() { drain_to(event, number); });
    return cudaSuccess;
}

/* ---- recorded runs --------------------------------------------------------------------------------------- */

cudaError_t
cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode)
{
    CALL("");
    stream->recording = true;
    stream->kept.clear();
    return cudaSuccess;
}

cudaError_t
cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out)
{
    stream->recording = false;
    CALL("");
    *out = new CUgraph_st{std::move(stream->kept)};
    stream->kept.clear();
    standin::count("graphs", 1);
    return cudaSuccess;
}

cudaError_t
cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long)
{
    CALL("");
    *out = new CUgraphExec_st{graph->work};
    standin::count("graphs", 1);
    return cudaSuccess;
}

cudaError_t
cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream)
{
    CALL("%zu", graph->work.size());
    standin::enqueue(stream, [work = graph->work]() {
        for (const auto &one : work) {
            one();
        }
    });
    return cudaSuccess;
}

cudaError_t
cudaGraphExecDestroy(cudaGraphExec_t graph)
{
    CALL("");
    standin::count("graphs", -1);
    delete graph;
    return cudaSuccess;
}

cudaError_t
cudaGraphDestroy(cudaGraph_t graph)
{
    CALL("");
    standin::count("graphs", -1);
    delete graph;
    return cudaSuccess;
}
