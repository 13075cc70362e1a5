/* Element types of weight files, and their conversion to float32. */
#include "io/io.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "weight files are little-endian");

static const struct {
    const char *name;
    int64_t size;
} dtypes[RC_IO_DTYPE_COUNT] = {
#define ROW(name, size) {#name, size},
    RC_IO_DTYPES(ROW)
#undef ROW
};

const char *
rc_io_dtype_name(rc_io_dtype dtype)
{
    return dtypes[dtype].name;
}

int64_t
rc_io_dtype_size(rc_io_dtype dtype)
{
    return dtypes[dtype].size;
}

bool
rc_io_dtype_find(const char *name, rc_io_dtype *dtype)
{
    for (int i = 0; i < RC_IO_DTYPE_COUNT; i++) {
        if (strcmp(dtypes[i].name, name) == 0) {
            *dtype = (rc_io_dtype)i;
            return true;
        }
    }
    return false;
}

bool
rc_io_is_float(rc_io_dtype dtype)
{
    return dtype == RC_IO_F16 || dtype == RC_IO_BF16 || dtype == RC_IO_F32 || dtype == RC_IO_F64;
}

static float
from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

/* 1 sign, 5 exponent (bias 15), 10 fraction. Exact; a NaN keeps its fraction. */
static float
from_half(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = h >> 10 & 31u, fraction = h & 1023u;
    if (exponent == 31) {
        return from_bits(sign | 0x7f800000u | fraction << 13);
    }
    if (exponent == 0) { /* zero, or a subnormal: fraction · 2^-24 */
        float x = (float)fraction * 0x1p-24f;
        return sign ? -x : x;
    }
    return from_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

void
rc_io_to_f32(rc_io_dtype dtype, const void *source, int64_t count, float *out)
{
    const unsigned char *from = source;
    if (dtype == RC_IO_F32) {
        memcpy(out, from, (size_t)count * 4);
    } else if (dtype == RC_IO_F64) {
        for (int64_t i = 0; i < count; i++) {
            double x;
            memcpy(&x, from + 8 * i, 8);
            out[i] = (float)x;
        }
    } else if (dtype == RC_IO_BF16) {
        for (int64_t i = 0; i < count; i++) {
            uint16_t h;
            memcpy(&h, from + 2 * i, 2);
            out[i] = from_bits((uint32_t)h << 16);
        }
    } else {
        for (int64_t i = 0; i < count; i++) {
            uint16_t h;
            memcpy(&h, from + 2 * i, 2);
            out[i] = from_half(h);
        }
    }
}
