/* DLPack's structures (its specification, version 0.8). */
#ifndef RC_PY_DLPACK_H
#define RC_PY_DLPACK_H

#include <stdint.h>

enum { DL_CUDA = 2, DL_CUDA_MANAGED = 13 };      /* devices */
enum { DL_INT = 0, DL_UINT = 1, DL_FLOAT = 2 };  /* kinds of numbers */

typedef struct dl_tensor {
    void *data;
    struct {
        int32_t type, id;
    } device;
    int32_t ndim;
    struct {
        uint8_t code, bits;
        uint16_t lanes;
    } dtype;
    int64_t *shape, *strides;
    uint64_t byte_offset;
} dl_tensor;

typedef struct dl_managed {
    dl_tensor tensor;
    void *context;
    void (*deleter)(struct dl_managed *self);
} dl_managed;

#endif
