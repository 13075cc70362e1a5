/* The stream of a device: what is waited for, images fed beside it, and recorded runs. */
#include <stdlib.h>

#include "data/device_input.h"
#include "runtime.h"

struct rc_device_graph {
    cudaGraph_t graph;
    cudaGraphExec_t ready;
};

static rc_status
new_event(cudaEvent_t *event, rc_error *err)
{
    return rc_cuda_status(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "an event", err);
}

rc_status
rc_stream_open(rc_device *d, rc_error *err)
{
    RC_TRY(rc_cuda_status(cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking), "a stream",
                          err));
    RC_TRY(rc_cuda_status(cudaStreamCreateWithFlags(&d->feeding, cudaStreamNonBlocking),
                          "a stream", err));
    for (int k = 0; k < 2; k++) {
        RC_TRY(new_event(&d->marks[k], err));
        RC_TRY(new_event(&d->items_copied[k], err));
    }
    for (int k = 0; k < RC_SLOTS; k++) {
        RC_TRY(new_event(&d->fed[k], err));
        RC_TRY(new_event(&d->taken[k], err));
    }
    return RC_OK;
}

static void
end_event(cudaEvent_t event)
{
    if (event) {
        (void)cudaEventDestroy(event);
    }
}

void
rc_stream_close(rc_device *d)
{
    for (int k = 0; k < 2; k++) {
        end_event(d->marks[k]);
        end_event(d->items_copied[k]);
    }
    for (int k = 0; k < RC_SLOTS; k++) {
        end_event(d->fed[k]);
        end_event(d->taken[k]);
        (void)cudaFree(d->slots[k]);
    }
    if (d->stream) {
        (void)cudaStreamDestroy(d->stream);
    }
    if (d->feeding) {
        (void)cudaStreamDestroy(d->feeding);
    }
}

/* From now on `stream` waits for what `other` holds now. */
rc_status
rc_stream_join(cudaStream_t stream, void *other, rc_error *err)
{
    cudaEvent_t event = NULL;
    RC_TRY(new_event(&event, err));
    rc_status status = rc_cuda_status(cudaEventRecord(event, other), "another stream", err);
    if (status == RC_OK) {
        status = rc_cuda_status(cudaStreamWaitEvent(stream, event, 0), "another stream", err);
    }
    (void)cudaEventDestroy(event); /* once it is reached */
    return status;
}

/* ---- feeding -------------------------------------------------------------------------------------- */

static rc_status
slot_memory(rc_device *d, int slot, int64_t bytes, rc_error *err)
{
    if (d->slot_bytes[slot] >= bytes) {
        return RC_OK;
    }
    bytes += d->slot_bytes[slot] ? bytes / 4 : 0; /* pictures of other sizes: not again soon */
    RC_TRY(rc_device_wait(d, err));
    (void)cudaFree(d->slots[slot]);
    d->slots[slot] = NULL;
    d->slot_bytes[slot] = 0;
    RC_TRY(rc_cuda_status(cudaMalloc(&d->slots[slot], (size_t)bytes), "the next images", err));
    d->slot_bytes[slot] = bytes;
    return RC_OK;
}

/* Host memory goes to a slot beside what is running; its address there once the stream may read it. */
static rc_status
to_slot(rc_device *d, const void *from, int64_t bytes, int64_t room, void **at, rc_error *err)
{
    int slot = d->slot;
    RC_TRY(rc_device_use(d, err));
    RC_TRY(slot_memory(d, slot, bytes + room, err));
    *at = d->slots[slot];
    RC_TRY(rc_cuda_status(cudaStreamWaitEvent(d->feeding, d->taken[slot], 0), "feeding", err));
    RC_TRY(rc_cuda_status(cudaMemcpyAsync(*at, from, (size_t)bytes, cudaMemcpyHostToDevice,
                                          d->feeding), "feeding", err));
    RC_TRY(rc_cuda_status(cudaEventRecord(d->fed[slot], d->feeding), "feeding", err));
    d->any_fed = true;
    return rc_cuda_status(cudaStreamWaitEvent(d->stream, d->fed[slot], 0), "feeding", err);
}

/* The stream has read its slot once it comes here; then the slot may be written to again. */
static rc_status
slot_taken(rc_device *d, rc_error *err)
{
    RC_TRY(rc_cuda_status(cudaEventRecord(d->taken[d->slot], d->stream), "feeding", err));
    d->slot = (d->slot + 1) % RC_SLOTS;
    return RC_OK;
}

rc_status
rc_device_feed(rc_device *d, void *to, const void *from, int64_t bytes, rc_error *err)
{
    void *at = NULL;
    RC_TRY(to_slot(d, from, bytes, 0, &at, err));
    RC_TRY(rc_cuda_status(cudaMemcpyAsync(to, at, (size_t)bytes, cudaMemcpyDeviceToDevice,
                                          d->stream), "feeding", err));
    return slot_taken(d, err);
}

rc_status
rc_device_feed_pictures(rc_device *d, const rc_device_pictures *p, float *to, rc_error *err)
{
    rc_device_pictures there = *p;
    int64_t room = p->augment ? p->n * (int64_t)sizeof(rc_cuda_draws) : 0;
    void *at = NULL;
    RC_TRY(to_slot(d, p->block, p->bytes, room, &at, err));
    there.block = at;
    rc_cuda_pictures(&there, (void *)(there.block + p->bytes), to, d->stream);
    RC_TRY(rc_device_check(d, err));
    return slot_taken(d, err);
}

/* Waits for the feeding stream alone: images that it still copies, and what others hold. */
rc_status
rc_device_peek(rc_device *d, void *to, const void *from, int64_t bytes, void *other, rc_error *err)
{
    RC_TRY(rc_device_use(d, err));
    RC_TRY(other ? rc_stream_join(d->feeding, other, err) : RC_OK);
    RC_TRY(rc_cuda_status(cudaMemcpyAsync(to, from, (size_t)bytes, cudaMemcpyDeviceToHost,
                                          d->feeding), "labels", err));
    return rc_cuda_status(cudaStreamSynchronize(d->feeding), "labels", err);
}

rc_status
rc_device_fed(rc_device *d, rc_error *err)
{
    int last = (d->slot + RC_SLOTS - 1) % RC_SLOTS;
    RC_TRY(rc_device_use(d, err));
    return d->any_fed ? rc_cuda_status(cudaEventSynchronize(d->fed[last]), "feeding", err) : RC_OK;
}

/* ---- waiting ---------------------------------------------------------------------------------------- */

rc_status
rc_device_mark(rc_device *d, int which, rc_error *err)
{
    RC_TRY(rc_device_use(d, err));
    return rc_cuda_status(cudaEventRecord(d->marks[which], d->stream), "a mark", err);
}

rc_status
rc_device_reach(rc_device *d, int which, rc_error *err)
{
    RC_TRY(rc_device_use(d, err));
    RC_TRY(rc_cuda_status(cudaEventSynchronize(d->marks[which]), "waiting for the card", err));
    return rc_device_check(d, err);
}

rc_status
rc_device_wait(rc_device *d, rc_error *err)
{
    RC_TRY(rc_device_use(d, err));
    RC_TRY(rc_cuda_status(cudaStreamSynchronize(d->feeding), "waiting for the card", err));
    RC_TRY(rc_cuda_status(cudaStreamSynchronize(d->stream), "waiting for the card", err));
    return rc_device_check(d, err);
}

/* ---- recorded runs ------------------------------------------------------------------------------- */

rc_status
rc_device_record_begin(rc_device *d, rc_error *err)
{
    RC_TRY(rc_device_check(d, err));
    return rc_cuda_status(cudaStreamBeginCapture(d->stream, cudaStreamCaptureModeThreadLocal),
                          "recording", err);
}

rc_status
rc_device_record_end(rc_device *d, rc_device_graph **out, rc_error *err)
{
    cudaGraph_t graph = NULL;
    rc_status status = rc_cuda_status(cudaStreamEndCapture(d->stream, &graph), "recording", err);
    status = status == RC_OK ? rc_device_check(d, err) : status;
    rc_device_graph *g = status == RC_OK ? calloc(1, sizeof *g) : NULL;
    if (g) {
        status = rc_cuda_status(cudaGraphInstantiate(&g->ready, graph, 0), "recording", err);
    } else if (status == RC_OK) {
        status = rc_fail(err, RC_MEMORY, "out of memory for a recorded run");
    }
    if (status != RC_OK) {
        free(g);
        if (graph) {
            (void)cudaGraphDestroy(graph);
        }
        return status;
    }
    g->graph = graph;
    *out = g;
    return RC_OK;
}

rc_status
rc_device_replay(rc_device *d, rc_device_graph *g, rc_error *err)
{
    RC_TRY(rc_device_check(d, err));
    return rc_cuda_status(cudaGraphLaunch(g->ready, d->stream), "a recorded run", err);
}

void
rc_device_graph_release(rc_device *d, rc_device_graph *g)
{
    if (g) {
        (void)rc_device_wait(d, NULL);
        (void)cudaGraphExecDestroy(g->ready);
        (void)cudaGraphDestroy(g->graph);
        free(g);
    }
}
