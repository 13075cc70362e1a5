/* A card, opened: what it is, its memory, copies, updates; and the table of all of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval/device_eval.h"
#include "runtime.h"

#define OLDEST_MAJOR 8 /* compute capability: bfloat16 and asynchronous copies begin there */

/* ---- results as statuses --------------------------------------------------------------------- */

rc_status
rc_cuda_status(cudaError_t code, const char *what, rc_error *err)
{
    if (code == cudaSuccess) {
        return RC_OK;
    }
    (void)cudaGetLastError(); /* those that do not stay are forgotten here */
    if (code == cudaErrorMemoryAllocation) {
        return rc_fail(err, RC_MEMORY, "out of memory on the card: %s", what);
    }
    return rc_fail(err, RC_DEVICE, "CUDA: %s: %s (%s)", what, cudaGetErrorString(code),
                   cudaGetErrorName(code));
}

rc_status
rc_cudnn_status(const rc_device *d, cudnnStatus_t code, const char *what, rc_error *err)
{
    if (code == CUDNN_STATUS_SUCCESS) {
        return RC_OK;
    }
    char text[200] = "";
    d->lib->cudnnGetLastErrorString(text, sizeof text);
    return rc_fail(err, RC_DEVICE, "cuDNN: %s: %s %s", what, d->lib->cudnnGetErrorString(code),
                   text);
}

rc_status
rc_blas_status(const rc_device *d, cublasStatus_t code, const char *what, rc_error *err)
{
    return code == CUBLAS_STATUS_SUCCESS
               ? RC_OK
               : rc_fail(err, RC_DEVICE, "cuBLAS: %s: %s", what,
                         d->lib->cublasLtGetStatusString(code));
}

void
rc_note_failure(rc_device *d, const char *what, const char *why)
{
    if (d->failure == RC_OK) {
        d->failure = RC_DEVICE;
        snprintf(d->failure_text, sizeof d->failure_text, "%s: %s", what, why);
    }
}

rc_status
rc_device_use(const rc_device *d, rc_error *err)
{
    return rc_cuda_status(cudaSetDevice(d->info.index), "choosing the card", err);
}

rc_status
rc_device_check(rc_device *d, rc_error *err)
{
    RC_TRY(rc_device_use(d, err));
    RC_TRY(rc_cuda_status(cudaGetLastError(), "a step", err));
    rc_status status = d->failure;
    d->failure = RC_OK;
    return status == RC_OK ? RC_OK : rc_fail(err, status, "device: %s", d->failure_text);
}

/* ---- opening ------------------------------------------------------------------------------------ */

static rc_status
find_card(rc_device *d, int index, rc_error *err)
{
    int driver = 0, count = 0;
    struct cudaDeviceProp properties;
    (void)cudaDriverGetVersion(&driver);
    if (!driver) {
        return rc_fail(err, RC_DEVICE, "device: cuda:%d: no NVIDIA driver is installed", index);
    }
    cudaError_t code = cudaGetDeviceCount(&count);
    if (code == cudaErrorInsufficientDriver) {
        (void)cudaGetLastError();
        return rc_fail(err, RC_DEVICE, "device: cuda:%d: the driver is for CUDA %d.%d, this build "
                       "of reidc needs %d.%d", index, driver / 1000, driver % 1000 / 10,
                       CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    }
    if (code != cudaSuccess || count == 0) {
        (void)cudaGetLastError();
        return rc_fail(err, RC_DEVICE, "device: cuda:%d: there is no card (%s)", index,
                       cudaGetErrorString(code == cudaSuccess ? cudaErrorNoDevice : code));
    }
    if (index >= count) {
        return rc_fail(err, RC_DEVICE, "device: cuda:%d: there %s (cuda:0%s%s)", index,
                       count == 1 ? "is one card" : "are fewer cards", count > 1 ? " to cuda:" : "",
                       count > 1 ? (char[]){(char)('0' + (count - 1) % 10), 0} : "");
    }
    RC_TRY(rc_cuda_status(cudaGetDeviceProperties(&properties, index), "asking what it is", err));
    if (properties.major < OLDEST_MAJOR) {
        return rc_fail(err, RC_DEVICE, "device: cuda:%d (%s) is too old: compute capability %d.%d, "
                       "expected %d.0 or newer", index, properties.name, properties.major,
                       properties.minor, OLDEST_MAJOR);
    }
    d->info.index = index;
    d->info.total_bytes = (int64_t)properties.totalGlobalMem;
    snprintf(d->info.name, sizeof d->info.name, "%.100s", properties.name);
    RC_TRY(rc_device_use(d, err));
    if (!rc_help_fits()) {
        return rc_fail(err, RC_DEVICE, "device: this build of reidc has no code for cuda:%d (%s, "
                       "compute capability %d.%d); build it again, with REIDC_CUDA_ARCHS=%d%d",
                       index, d->info.name, properties.major, properties.minor, properties.major,
                       properties.minor);
    }
    return RC_OK;
}

static void
close_device(rc_device *d)
{
    if (d) {
        if (d->stream) {
            (void)rc_device_use(d, NULL);
            (void)cudaStreamSynchronize(d->stream);
        }
        rc_choices_free(d);
        if (d->cudnn) {
            d->lib->cudnnDestroy(d->cudnn);
        }
        if (d->blas) {
            d->lib->cublasLtDestroy(d->blas);
        }
        rc_update_tables *t = &d->tables;
        (void)cudaFree(t->items);
        (void)cudaFree(t->pieces);
        (void)cudaFree(t->squares);
        (void)cudaFree(t->clip);
        (void)cudaFreeHost(t->host_items[0]);
        (void)cudaFreeHost(t->host_items[1]);
        (void)cudaFreeHost(t->host_norm);
        free(t->counts);
        rc_stream_close(d);
        free(d);
    }
}

static bool
is_on(const char *variable)
{
    const char *value = getenv(variable);
    return value && !strcmp(value, "1");
}

static rc_status
open_parts(rc_device *d, int index, const char *folders, rc_error *err)
{
    RC_TRY(find_card(d, index, err));
    if (!folders) {
        return rc_stream_open(d, err);
    }
    RC_TRY(rc_libraries_get(folders, &d->lib, err));
    d->tf32 = is_on("REIDC_CUDA_TF32");
    d->timed = is_on("REIDC_CUDA_TUNE");
    RC_TRY(rc_stream_open(d, err));
    RC_TRY(rc_cudnn_status(d, d->lib->cudnnCreate(&d->cudnn), "beginning", err));
    RC_TRY(rc_cudnn_status(d, d->lib->cudnnSetStream(d->cudnn, d->stream), "its stream", err));
    RC_TRY(rc_blas_status(d, d->lib->cublasLtCreate(&d->blas), "beginning", err));
    int driver = 0;
    (void)cudaDriverGetVersion(&driver);
    snprintf(d->info.versions, sizeof d->info.versions,
             "driver for CUDA %d.%d, CUDA %d.%d, cuDNN %d, cuBLASLt %d", driver / 1000,
             driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10,
             (int)d->lib->cudnnGetVersion(), (int)d->lib->cublasLtGetVersion());
    return RC_OK;
}

static rc_status
open_device(int index, const char *folders, rc_device **out, rc_error *err)
{
    rc_device *d = calloc(1, sizeof *d);
    if (!d) {
        return rc_fail(err, RC_MEMORY, "out of memory for the device");
    }
    rc_status status = open_parts(d, index, folders, err);
    if (status != RC_OK) {
        close_device(d);
        return status;
    }
    *out = d;
    return RC_OK;
}

static const rc_device_info *
info(const rc_device *d)
{
    return &d->info;
}

/* ---- memory -------------------------------------------------------------------------------------- */

static rc_status
alloc(rc_device *d, int64_t bytes, void **out, rc_error *err)
{
    char what[64];
    snprintf(what, sizeof what, "%.1f MiB", (double)bytes / 1048576);
    RC_TRY(rc_device_use(d, err));
    return rc_cuda_status(cudaMalloc(out, (size_t)bytes), what, err);
}

static void
release(rc_device *d, void *block)
{
    if (block) {
        (void)rc_device_wait(d, NULL);
        (void)cudaFree(block);
    }
}

static rc_status
host_alloc(rc_device *d, int64_t bytes, void **out, rc_error *err)
{
    RC_TRY(rc_device_use(d, err));
    cudaError_t code = cudaMallocHost(out, (size_t)bytes);
    if (code == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError();
        return rc_fail(err, RC_MEMORY, "out of page-locked memory: %.1f MiB",
                       (double)bytes / 1048576);
    }
    return rc_cuda_status(code, "page-locked memory", err);
}

static void
host_release(rc_device *d, void *block)
{
    if (block) {
        (void)rc_device_wait(d, NULL);
        (void)cudaFreeHost(block);
    }
}

static int64_t
free_bytes(rc_device *d)
{
    size_t left = 0, total = 0;
    (void)rc_device_use(d, NULL);
    (void)cudaMemGetInfo(&left, &total);
    return (int64_t)left;
}

static rc_status
copy_as(rc_device *d, void *to, const void *from, int64_t bytes, enum cudaMemcpyKind kind,
        rc_error *err)
{
    RC_TRY(rc_device_use(d, err));
    return rc_cuda_status(cudaMemcpyAsync(to, from, (size_t)bytes, kind, d->stream), "a copy", err);
}

static rc_status
upload(rc_device *d, void *to, const void *from, int64_t bytes, rc_error *err)
{
    return copy_as(d, to, from, bytes, cudaMemcpyHostToDevice, err);
}

static rc_status
download(rc_device *d, void *to, const void *from, int64_t bytes, rc_error *err)
{
    return copy_as(d, to, from, bytes, cudaMemcpyDeviceToHost, err);
}

static rc_status
copy(rc_device *d, void *to, const void *from, int64_t bytes, rc_error *err)
{
    return copy_as(d, to, from, bytes, cudaMemcpyDeviceToDevice, err);
}

static rc_status
zero(rc_device *d, void *to, int64_t bytes, rc_error *err)
{
    RC_TRY(rc_device_use(d, err));
    return rc_cuda_status(cudaMemsetAsync(to, 0, (size_t)bytes, d->stream), "zeros", err);
}

/* ---- updates -------------------------------------------------------------------------------------- */

/* Room for the items, and for their pieces; grows only. */
static rc_status
table_memory(rc_device *d, int n, int64_t n_pieces, rc_error *err)
{
    rc_update_tables *t = &d->tables;
    void *block = NULL;
    if (n > t->most_items) {
        int64_t bytes = n * (int64_t)sizeof *t->items;
        release(d, t->items);
        host_release(d, t->host_items[0]);
        host_release(d, t->host_items[1]);
        free(t->counts);
        t->items = t->host_items[0] = t->host_items[1] = NULL;
        t->counts = NULL;
        t->most_items = 0;
        t->n_pieces = 0;
        RC_TRY(alloc(d, bytes, &block, err));
        t->items = block;
        for (int k = 0; k < 2; k++) {
            RC_TRY(host_alloc(d, bytes, &block, err));
            t->host_items[k] = block;
        }
        t->counts = calloc((size_t)n + 1, sizeof *t->counts);
        if (!t->counts) {
            return rc_fail(err, RC_MEMORY, "out of memory for the update");
        }
        t->most_items = n;
    }
    if (!t->clip) {
        RC_TRY(alloc(d, 2 * (int64_t)sizeof(double), &block, err));
        t->clip = block;
    }
    if (!t->host_norm) {
        RC_TRY(host_alloc(d, (int64_t)sizeof(double), &block, err));
        t->host_norm = block;
    }
    if (n_pieces > t->most_pieces) {
        release(d, t->pieces);
        release(d, t->squares);
        t->pieces = NULL;
        t->squares = NULL;
        t->most_pieces = t->n_pieces = 0;
        RC_TRY(alloc(d, n_pieces * (int64_t)sizeof *t->pieces, &block, err));
        t->pieces = block;
        RC_TRY(alloc(d, n_pieces * (int64_t)sizeof *t->squares, &block, err));
        t->squares = block;
        t->most_pieces = n_pieces;
    }
    return RC_OK;
}

/* The list of pieces, made anew when the items' sizes differ from those of the last update. */
static rc_status
cut(rc_device *d, const rc_device_item *items, int n, rc_error *err)
{
    rc_update_tables *t = &d->tables;
    int64_t n_pieces = 0, at = 0;
    bool same = t->n_pieces > 0 && t->counts[n] == -1;
    for (int i = 0; i < n; i++) {
        n_pieces += (items[i].count + RC_UPDATE_PIECE - 1) / RC_UPDATE_PIECE;
        same = same && t->counts[i] == items[i].count;
    }
    if (same) {
        return RC_OK;
    }
    RC_TRY(table_memory(d, n, n_pieces, err));
    rc_update_piece *pieces = calloc((size_t)n_pieces + 1, sizeof *pieces);
    if (!pieces) {
        return rc_fail(err, RC_MEMORY, "out of memory for the update");
    }
    for (int i = 0; i < n; i++) {
        for (int64_t from = 0; from < items[i].count; from += RC_UPDATE_PIECE) {
            int64_t left = items[i].count - from;
            pieces[at++] = (rc_update_piece){
                i, (int32_t)from, (int32_t)(left < RC_UPDATE_PIECE ? left : RC_UPDATE_PIECE)};
        }
        t->counts[i] = items[i].count;
    }
    t->counts[n] = -1; /* so many, and no more */
    t->n_pieces = n_pieces;
    rc_status status = upload(d, t->pieces, pieces, n_pieces * (int64_t)sizeof *pieces, err);
    status = status == RC_OK ? rc_device_wait(d, err) : status;
    free(pieces);
    return status;
}

static rc_status
update(rc_device *d, const rc_device_item *items, int n, double clip_norm, rc_error *err)
{
    rc_update_tables *t = &d->tables;
    if (n == 0) {
        return RC_OK;
    }
    RC_TRY(n > t->most_items ? table_memory(d, n, 0, err) : RC_OK);
    RC_TRY(cut(d, items, n, err));
    t->turn = !t->turn;
    RC_TRY(rc_cuda_status(cudaEventSynchronize(d->items_copied[t->turn]), "an update", err));
    memcpy(t->host_items[t->turn], items, (size_t)n * sizeof *items);
    RC_TRY(upload(d, t->items, t->host_items[t->turn], n * (int64_t)sizeof *items, err));
    RC_TRY(rc_cuda_status(cudaEventRecord(d->items_copied[t->turn], d->stream), "an update", err));
    rc_help_update(d->stream, t, clip_norm);
    return rc_device_check(d, err);
}

static rc_status
norm(rc_device *d, double *out, rc_error *err)
{
    rc_update_tables *t = &d->tables;
    if (!t->clip) {
        return rc_fail(err, RC_ARGUMENT, "norm: no step has clipped");
    }
    RC_TRY(download(d, t->host_norm, t->clip + 1, (int64_t)sizeof(double), err));
    RC_TRY(rc_device_wait(d, err));
    *out = *t->host_norm;
    return RC_OK;
}

static rc_status
blend(rc_device *d, float *a, const float *w, int64_t count, float share, rc_error *err)
{
    RC_TRY(rc_device_use(d, err));
    rc_help_blend(d->stream, a, w, count, share);
    return rc_device_check(d, err);
}

/* ---- others' memory -------------------------------------------------------------------------------- */

static void *
stream(rc_device *d)
{
    return d->stream;
}

static rc_status
join(rc_device *d, void *other, rc_error *err)
{
    RC_TRY(rc_device_use(d, err));
    return rc_stream_join(d->stream, other, err);
}

static rc_status
gather(rc_device *d, const rc_device_maps *from, float *to, int64_t n, int64_t h, int64_t w,
       bool mirror, rc_error *err)
{
    RC_TRY(rc_device_use(d, err));
    rc_help_gather(d->stream, from, to, n, h, w, mirror);
    return rc_device_check(d, err);
}

static void
release_any(void *block)
{
    (void)cudaFree(block); /* waits for what still uses it */
}

/* ---- evaluation --------------------------------------------------------------------------------------- */

static rc_status
unit_rows(rc_device *d, const float *rows, int64_t n, int64_t columns, float *unit, float *lack,
          rc_error *err)
{
    RC_TRY(rc_device_use(d, err));
    rc_cuda_unit_rows(rows, n, columns, unit, lack, d->stream);
    return rc_device_check(d, err);
}

static rc_status
find_bad(rc_device *d, const float *rows, int64_t n, int64_t columns, int32_t *bad, rc_error *err)
{
    RC_TRY(rc_device_use(d, err));
    rc_cuda_find_bad(rows, n, columns, bad, d->stream);
    return rc_device_check(d, err);
}

static rc_status
distances(rc_device *d, const rc_device_pairs *p, int64_t first, int64_t count, float *out,
          rc_error *err)
{
    RC_TRY(rc_device_use(d, err));
    rc_cuda_distances(p, first, count, out, d->stream);
    return rc_device_check(d, err);
}

static rc_status
rank(rc_device *d, const rc_device_pairs *p, const rc_device_ranking *r, int64_t first,
     int64_t count, rc_error *err)
{
    RC_TRY(rc_device_use(d, err));
    rc_cuda_rank(p, r, first, count, d->stream);
    return rc_device_check(d, err);
}

/* ---- the table ------------------------------------------------------------------------------------- */

__attribute__((visibility("default"))) const rc_device_api *rc_device_library(void);

const rc_device_api *
rc_device_library(void)
{
    static const rc_device_api api = {
        .abi = RC_DEVICE_ABI,
        .open = open_device,
        .close = close_device,
        .info = info,
        .alloc = alloc,
        .release = release,
        .host_alloc = host_alloc,
        .host_release = host_release,
        .free_bytes = free_bytes,
        .upload = upload,
        .download = download,
        .copy = copy,
        .zero = zero,
        .feed = rc_device_feed,
        .fed = rc_device_fed,
        .feed_pictures = rc_device_feed_pictures,
        .peek = rc_device_peek,
        .mark = rc_device_mark,
        .reach = rc_device_reach,
        .wait = rc_device_wait,
        .check = rc_device_check,
        .takes = rc_device_takes,
        .select = rc_device_select,
        .stream = stream,
        .join = join,
        .gather = gather,
        .unit_rows = unit_rows,
        .find_bad = find_bad,
        .distances = distances,
        .rank = rank,
        .release_any = release_any,
        .update = update,
        .norm = norm,
        .blend = blend,
        .record_begin = rc_device_record_begin,
        .record_end = rc_device_record_end,
        .replay = rc_device_replay,
        .graph_release = rc_device_graph_release,
    };
    return &api;
}
