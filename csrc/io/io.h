/* Weights in files: the safetensors format, read with every number checked and written whole or
 * not at all, and conversions to float32. No file can crash the reader or make it allocate more
 * than a small multiple of the file's size. Little-endian hosts only, as the format is. */
#ifndef RC_IO_H
#define RC_IO_H

#include "base/base.h"

#define RC_IO_MAX_RANK 8

/* Element types by the names of the format; what each becomes in memory. */
#define RC_IO_DTYPES(X) \
    X(BOOL, 1)          \
    X(U8, 1)            \
    X(I8, 1)            \
    X(I16, 2)           \
    X(U16, 2)           \
    X(F16, 2)           \
    X(BF16, 2)          \
    X(I32, 4)           \
    X(U32, 4)           \
    X(F32, 4)           \
    X(F64, 8)           \
    X(I64, 8)           \
    X(U64, 8)

typedef enum rc_io_dtype {
#define RC_IO_ENUM(name, size) RC_IO_##name,
    RC_IO_DTYPES(RC_IO_ENUM)
#undef RC_IO_ENUM
    RC_IO_DTYPE_COUNT
} rc_io_dtype;

const char *rc_io_dtype_name(rc_io_dtype dtype);
int64_t rc_io_dtype_size(rc_io_dtype dtype);
/* false: no such name. */
bool rc_io_dtype_find(const char *name, rc_io_dtype *dtype);

/* F16, BF16, F64 (rounded to nearest even) and F32 -> float32. Cannot fail; other types are not
 * to be given. source need not be aligned. */
bool rc_io_is_float(rc_io_dtype dtype);
void rc_io_to_f32(rc_io_dtype dtype, const void *source, int64_t count, float *out);

/* ---- file.c: a file that appears complete or not at all -------------------------------------- */

typedef struct rc_file_out {
    int fd;
    char *path, *temporary; /* owned */
} rc_file_out;

/* Writes go to a temporary file beside `path`; commit syncs it and renames it over `path`; abort
 * (also after a failure of the others; harmless twice) removes it and leaves `path` alone. */
rc_status rc_file_out_open(rc_file_out *file, const char *path, rc_error *err) RC_CHECK_RESULT;
rc_status rc_file_out_write(rc_file_out *file, const void *data, int64_t size,
                            rc_error *err) RC_CHECK_RESULT;
rc_status rc_file_out_commit(rc_file_out *file, rc_error *err) RC_CHECK_RESULT;
void rc_file_out_abort(rc_file_out *file);

/* A regular file opened for reading, or RC_NOT_FOUND / RC_FILE. */
rc_status rc_file_in_open(const char *path, int *fd, int64_t *size, rc_error *err) RC_CHECK_RESULT;
rc_status rc_file_in_read(int fd, int64_t offset, void *out, int64_t size, const char *path,
                          rc_error *err) RC_CHECK_RESULT;
void rc_file_in_close(int fd);

/* ---- header.c: the JSON in front of the tensors ------------------------------------------ */

typedef struct rc_tensor_info {
    const char *name; /* valid UTF-8, no NUL */
    rc_io_dtype dtype;
    int rank;
    int64_t shape[RC_IO_MAX_RANK];
    int64_t count;      /* elements */
    int64_t begin, end; /* bytes, from the end of the header */
} rc_tensor_info;

typedef struct rc_io_pair {
    const char *key, *value;
} rc_io_pair;

typedef struct rc_io_header {
    int64_t tensors, pairs, room_tensors, room_pairs;
    rc_tensor_info *tensor; /* owned, in the order of their bytes */
    rc_io_pair *pair;       /* owned: the file's metadata */
    char *text;             /* owned: all strings */
} rc_io_header;

/* json: (size) bytes. Checks all of it: the tensors must tile `data_size` bytes without gap or
 * overlap, names must differ. On failure nothing is held. `path` is for the message. */
rc_status rc_io_header_parse(const char *json, int64_t size, int64_t data_size, const char *path,
                             rc_io_header *header, rc_error *err) RC_CHECK_RESULT;
void rc_io_header_clear(rc_io_header *header);

/* ---- safetensors.c ------------------------------------------------------------------------ */

typedef struct rc_safetensors {
    int fd;
    char *path;      /* owned */
    int64_t data_at; /* where the tensors' bytes begin */
    rc_io_header header;
} rc_safetensors;

rc_status rc_safetensors_open(const char *path, rc_safetensors *file,
                              rc_error *err) RC_CHECK_RESULT;
/* Tensor i, as float32 if its type is a float type, else as it is. out: count elements. */
rc_status rc_safetensors_read(const rc_safetensors *file, int64_t i, void *out,
                              rc_error *err) RC_CHECK_RESULT;
void rc_safetensors_close(rc_safetensors *file);

typedef struct rc_tensor_out {
    const char *name; /* UTF-8 */
    rc_io_dtype dtype;
    int rank;
    int64_t shape[RC_IO_MAX_RANK];
    const void *data; /* C-contiguous */
} rc_tensor_out;

/* Atomic. The same tensors and pairs give the same bytes in whatever order they come: tensors by
 * element size (largest first, so all are aligned) and name, pairs by key. */
rc_status rc_safetensors_write(const char *path, const rc_tensor_out *tensors, int64_t count,
                               const rc_io_pair *pairs, int64_t pair_count,
                               rc_error *err) RC_CHECK_RESULT;

#endif
