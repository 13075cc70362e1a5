/* The safetensors format: 8 bytes with the header's length (little-endian), the header (JSON, see
 * header.c), the tensors' bytes. Files are read, not mapped: a file that shrinks under a map
 * kills the process. Bindings: csrc/py/py_io.c. */
#include "io/io.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_HEADER 100000000 /* the format's own limit */

rc_status
rc_safetensors_open(const char *path, rc_safetensors *file, rc_error *err)
{
    int64_t size = 0;
    uint64_t length = 0;
    char *json = NULL;
    rc_status status = RC_OK;
    *file = (rc_safetensors){.fd = -1};
    RC_TRY(rc_file_in_open(path, &file->fd, &size, err));
    if (size < 8) {
        status = rc_fail(err, RC_FILE, "%.300s: truncated: %lld bytes are no safetensors file",
                         path, (long long)size);
        goto fail;
    }
    status = rc_file_in_read(file->fd, 0, &length, 8, path, err);
    if (status != RC_OK) {
        goto fail;
    }
    if (length > MAX_HEADER || (int64_t)length > size - 8) {
        status = rc_fail(err, RC_FILE,
                         "%.300s: not a safetensors file, or truncated: a header of %llu bytes in "
                         "a file of %lld", path, (unsigned long long)length, (long long)size);
        goto fail;
    }
    json = rc_alloc((int64_t)length + 1, 1);
    file->path = rc_strdup(path);
    if (!json || !file->path) {
        status = rc_fail(err, RC_MEMORY, "out of memory: header of %.300s", path);
        goto fail;
    }
    status = rc_file_in_read(file->fd, 8, json, (int64_t)length, path, err);
    if (status != RC_OK) {
        goto fail;
    }
    file->data_at = 8 + (int64_t)length;
    status = rc_io_header_parse(json, (int64_t)length, size - file->data_at, path, &file->header,
                                err);
    if (status != RC_OK) {
        goto fail;
    }
    rc_free(json);
    return RC_OK;
fail:
    rc_free(json);
    rc_safetensors_close(file);
    return status;
}

rc_status
rc_safetensors_read(const rc_safetensors *file, int64_t i, void *out, rc_error *err)
{
    enum { PIECE = 1 << 16 }; /* elements converted at a time */
    const rc_tensor_info *t = &file->header.tensor[i];
    int64_t at = file->data_at + t->begin, size = rc_io_dtype_size(t->dtype);
    if (!rc_io_is_float(t->dtype) || t->dtype == RC_IO_F32) {
        return rc_file_in_read(file->fd, at, out, t->end - t->begin, file->path, err);
    }
    void *piece = rc_alloc(PIECE, (size_t)size);
    if (!piece) {
        return rc_fail(err, RC_MEMORY, "out of memory: reading %.300s", file->path);
    }
    rc_status status = RC_OK;
    for (int64_t done = 0; done < t->count && status == RC_OK; done += PIECE) {
        int64_t count = t->count - done < PIECE ? t->count - done : PIECE;
        status = rc_file_in_read(file->fd, at + done * size, piece, count * size, file->path, err);
        if (status == RC_OK) {
            rc_io_to_f32(t->dtype, piece, count, (float *)out + done);
        }
    }
    rc_free(piece);
    return status;
}

void
rc_safetensors_close(rc_safetensors *file)
{
    rc_file_in_close(file->fd);
    rc_io_header_clear(&file->header);
    rc_free(file->path);
    *file = (rc_safetensors){.fd = -1};
}

/* ---- writing ------------------------------------------------------------------------------ */

/* Text that grows; after a failed allocation `data` is NULL and further calls do nothing. */
typedef struct text {
    char *data;
    int64_t size, room;
} text;

static void
text_add(text *t, const char *bytes, int64_t count)
{
    if (!t->data) {
        return;
    }
    if (t->size + count > t->room) {
        int64_t room = 2 * (t->size + count);
        char *data = rc_alloc(room, 1);
        if (data) {
            memcpy(data, t->data, (size_t)t->size);
        }
        rc_free(t->data);
        t->data = data;
        t->room = room;
        if (!data) {
            return;
        }
    }
    memcpy(t->data + t->size, bytes, (size_t)count);
    t->size += count;
}

static void
text_string(text *t, const char *s) /* quoted and escaped */
{
    text_add(t, "\"", 1);
    for (; *s; s++) {
        char escaped[8];
        if (*s == '"' || *s == '\\') {
            text_add(t, (char[]){'\\', *s}, 2);
        } else if ((unsigned char)*s < 0x20) {
            snprintf(escaped, sizeof escaped, "\\u%04x", (unsigned)*s);
            text_add(t, escaped, 6);
        } else {
            text_add(t, s, 1);
        }
    }
    text_add(t, "\"", 1);
}

static void
text_integer(text *t, int64_t value)
{
    char digits[24];
    text_add(t, digits, snprintf(digits, sizeof digits, "%lld", (long long)value));
}

static int64_t
bytes_of(const rc_tensor_out *t)
{
    int64_t bytes = rc_io_dtype_size(t->dtype);
    for (int i = 0; i < t->rank; i++) {
        bytes *= t->shape[i];
    }
    return bytes;
}

static int
compare_out(const void *left, const void *right)
{
    const rc_tensor_out *a = *(const rc_tensor_out *const *)left;
    const rc_tensor_out *b = *(const rc_tensor_out *const *)right;
    int64_t size_a = rc_io_dtype_size(a->dtype), size_b = rc_io_dtype_size(b->dtype);
    return size_a != size_b ? (size_a > size_b ? -1 : 1) : strcmp(a->name, b->name);
}

static int
compare_pair(const void *left, const void *right)
{
    return strcmp(((const rc_io_pair *)left)->key, ((const rc_io_pair *)right)->key);
}

static void
write_header(text *t, const rc_tensor_out *const *order, int64_t count, const rc_io_pair *pairs,
             int64_t pair_count)
{
    text_add(t, "{", 1);
    if (pair_count) {
        text_add(t, "\"__metadata__\":{", 16);
        for (int64_t i = 0; i < pair_count; i++) {
            text_add(t, ",", i > 0);
            text_string(t, pairs[i].key);
            text_add(t, ":", 1);
            text_string(t, pairs[i].value);
        }
        text_add(t, "}", 1);
    }
    int64_t at = 0;
    for (int64_t i = 0; i < count; i++) {
        const rc_tensor_out *x = order[i];
        text_add(t, ",", i > 0 || pair_count > 0);
        text_string(t, x->name);
        text_add(t, ":{\"dtype\":", 10);
        text_string(t, rc_io_dtype_name(x->dtype));
        text_add(t, ",\"shape\":[", 10);
        for (int axis = 0; axis < x->rank; axis++) {
            text_add(t, ",", axis > 0);
            text_integer(t, x->shape[axis]);
        }
        text_add(t, "],\"data_offsets\":[", 18);
        text_integer(t, at);
        text_add(t, ",", 1);
        at += bytes_of(x);
        text_integer(t, at);
        text_add(t, "]}", 2);
    }
    text_add(t, "}", 1);
    while (t->data && t->size % 8) {
        text_add(t, " ", 1);
    }
}

rc_status
rc_safetensors_write(const char *path, const rc_tensor_out *tensors, int64_t count,
                     const rc_io_pair *pairs, int64_t pair_count, rc_error *err)
{
    const rc_tensor_out **order = rc_alloc(count + 1, sizeof *order);
    rc_io_pair *sorted = rc_alloc(pair_count + 1, sizeof *sorted);
    text header = {rc_alloc(4096, 1), 0, 4096};
    rc_file_out file = {.fd = -1};
    rc_status status = RC_OK;
    if (!order || !sorted) {
        status = rc_fail(err, RC_MEMORY, "out of memory: header of %.300s", path);
        goto done;
    }
    for (int64_t i = 0; i < count; i++) {
        if (strcmp(tensors[i].name, "__metadata__") == 0) {
            status = rc_fail(err, RC_ARGUMENT, "tensors: the name __metadata__ is taken");
            goto done;
        }
        order[i] = &tensors[i];
    }
    qsort(order, (size_t)count, sizeof *order, compare_out);
    for (int64_t i = 0; i < pair_count; i++) {
        sorted[i] = pairs[i];
    }
    qsort(sorted, (size_t)pair_count, sizeof *sorted, compare_pair);
    write_header(&header, order, count, sorted, pair_count);
    if (!header.data) {
        status = rc_fail(err, RC_MEMORY, "out of memory: header of %.300s", path);
        goto done;
    }
    if (header.size > MAX_HEADER) {
        status = rc_fail(err, RC_ARGUMENT, "%.300s: a header of %lld bytes; the format allows %d",
                         path, (long long)header.size, MAX_HEADER);
        goto done;
    }
    uint64_t length = (uint64_t)header.size;
    status = rc_file_out_open(&file, path, err);
    if (status == RC_OK) {
        status = rc_file_out_write(&file, &length, 8, err);
    }
    if (status == RC_OK) {
        status = rc_file_out_write(&file, header.data, header.size, err);
    }
    for (int64_t i = 0; i < count && status == RC_OK; i++) {
        status = rc_file_out_write(&file, order[i]->data, bytes_of(order[i]), err);
    }
    if (status == RC_OK) {
        status = rc_file_out_commit(&file, err);
    }
    rc_file_out_abort(&file);
done:
    rc_free(order);
    rc_free(sorted);
    rc_free(header.data);
    return status;
}
