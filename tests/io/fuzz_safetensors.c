/* The safetensors reader on mutated files, for a build with sanitizers: any read outside a buffer
 * ends the program. Built and run by test_sanitized.py: fuzz_safetensors <scratch file> <rounds>.
 * Prints "accepted refused"; every accepted file's tensors are read too. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "io/io.h"

static uint64_t counter;

static int64_t
draw(int64_t n)
{
    return rc_below(rc_random(1, 99, counter++, 0, 0, 0), n);
}

static int64_t
mutate(unsigned char *data, int64_t size, int64_t room, int64_t header)
{
    static const char *const words[] = {"{", "}", "[", "]", "\"", "\\", ",", ":", "999999999999999",
                                        "\\u0000", "\\ud800", "\\u00e9", "\xff", "\xf0\x9f", "-",
                                        "\"dtype\":\"F64\",", "0"};
    bool whole = draw(4) == 0; /* else only the header, and its length kept right */
    int64_t end = whole ? size : 8 + header, tail = size - 8 - header, start = whole ? 0 : 8;
    for (int64_t i = 1 + draw(3); i > 0 && end > start + 24; i--) {
        int64_t at = start + draw(end - start), kind = draw(5);
        if (kind == 0) {
            data[at] = (unsigned char)draw(256);
        } else if (kind == 1) {
            data[at] ^= (unsigned char)(1 << draw(8));
        } else if (kind == 2) {
            int64_t gone = 1 + draw(20);
            gone = gone < end - at ? gone : end - at;
            memmove(data + at, data + at + gone, (size_t)(size - at - gone));
            end -= gone;
            size -= gone;
        } else {
            const char *word = words[draw((int64_t)(sizeof words / sizeof *words))];
            int64_t more = (int64_t)strlen(word);
            if (size + more <= room) {
                memmove(data + at + more, data + at, (size_t)(size - at));
                memcpy(data + at, word, (size_t)more);
                end += more;
                size += more;
            }
        }
    }
    if (!whole) {
        uint64_t length = (uint64_t)(size - 8 - tail);
        memcpy(data, &length, 8);
    } else if (draw(4) == 0) {
        size = draw(size);
    }
    return size;
}

static bool
write_file(const char *path, const void *data, int64_t size)
{
    FILE *file = fopen(path, "wb");
    bool fine = file && fwrite(data, 1, (size_t)size, file) == (size_t)size;
    return file && fclose(file) == 0 && fine;
}

int
main(int count, char **arguments)
{
    static unsigned char whole[4096], data[8192];
    float x[6] = {1, 2, 3, 4, 5, 6};
    uint16_t h[4] = {0x3c00, 0x0001, 0x7c00, 0xfbff};
    rc_tensor_out tensors[] = {{"backbone.conv1.weight", RC_IO_F32, 2, {2, 3}, x},
                               {"half \"x\"\n", RC_IO_F16, 3, {1, 4, 1}, h},
                               {"brain", RC_IO_BF16, 1, {3}, h},
                               {"step", RC_IO_I64, 0, {0}, x},
                               {"empty", RC_IO_U8, 2, {0, 7}, x}};
    rc_io_pair pairs[] = {{"reidc", "{\"a\": [1, 2]}"}, {"k\xc3\xa9y", "\t"}};
    if (count != 3) {
        return 2;
    }
    const char *path = arguments[1];
    rc_error err = {0};
    if (rc_safetensors_write(path, tensors, 5, pairs, 2, &err) != RC_OK) {
        printf("%s\n", err.text);
        return 1;
    }
    FILE *file = fopen(path, "rb");
    int64_t size = file ? (int64_t)fread(whole, 1, sizeof whole, file) : 0;
    uint64_t header;
    if (!file || size < 64) {
        return 1;
    }
    fclose(file);
    memcpy(&header, whole, 8);
    long accepted = 0, refused = 0;
    for (long round = atol(arguments[2]); round > 0; round--) {
        memcpy(data, whole, (size_t)size);
        int64_t changed = mutate(data, size, sizeof data, (int64_t)header);
        rc_safetensors in;
        if (!write_file(path, data, changed)) {
            return 1;
        }
        rc_status status = rc_safetensors_open(path, &in, &err);
        if (status != RC_OK) {
            if (status != RC_FILE || !err.text[0]) {
                printf("status %d: %s\n", (int)status, err.text);
                return 1;
            }
            refused++;
            continue;
        }
        accepted++;
        for (int64_t i = 0; i < in.header.tensors; i++) {
            const rc_tensor_info *t = &in.header.tensor[i];
            int64_t element = rc_io_is_float(t->dtype) ? 4 : rc_io_dtype_size(t->dtype);
            void *out = malloc((size_t)(t->count * element)); /* exact, so that ASan sees all */
            if (rc_safetensors_read(&in, i, out, &err) != RC_OK) {
                return 1;
            }
            free(out);
        }
        rc_safetensors_close(&in);
    }
    printf("%ld %ld\n", accepted, refused);
    return rc_memory_live() != 0;
}
