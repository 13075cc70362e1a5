/* The header of a safetensors file: JSON of one known shape, read by a parser of its own that
 * trusts nothing. Every position is checked against the end; numbers are non-negative integers
 * below 2^53; strings are decoded to UTF-8 and checked; unknown members are skipped, to a fixed
 * depth. Then the tensors must tile the data exactly. Called by safetensors.c. */
#include "io/io.h"

#include <stdlib.h>
#include <string.h>

#define DEPTH 16 /* of members that we skip */

typedef struct parser {
    const char *at, *start, *end;
    char *text; /* where the next string goes: strings never grow by decoding */
    const char *path;
    rc_error *err;
} parser;

static rc_status
bad(const parser *p, const char *what)
{
    return rc_fail(p->err, RC_FILE,
                   "%.300s: not a readable safetensors file: %s (header byte %lld)", p->path, what,
                   (long long)(p->at - p->start));
}

static void
skip_space(parser *p)
{
    while (p->at < p->end
           && (*p->at == ' ' || *p->at == '\n' || *p->at == '\r' || *p->at == '\t')) {
        p->at++;
    }
}

static bool
accept(parser *p, char c)
{
    skip_space(p);
    if (p->at < p->end && *p->at == c) {
        p->at++;
        return true;
    }
    return false;
}

static bool
read_hex4(parser *p, uint32_t *out)
{
    if (p->end - p->at < 4) {
        return false;
    }
    *out = 0;
    for (int i = 0; i < 4; i++) {
        char c = *p->at++;
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) {
            return false;
        }
        *out = *out << 4 | (uint32_t)digit;
    }
    return true;
}

static void
put_utf8(parser *p, uint32_t code)
{
    if (code < 0x80) {
        *p->text++ = (char)code;
    } else if (code < 0x800) {
        *p->text++ = (char)(0xc0 | code >> 6);
        *p->text++ = (char)(0x80 | (code & 63));
    } else if (code < 0x10000) {
        *p->text++ = (char)(0xe0 | code >> 12);
        *p->text++ = (char)(0x80 | (code >> 6 & 63));
        *p->text++ = (char)(0x80 | (code & 63));
    } else {
        *p->text++ = (char)(0xf0 | code >> 18);
        *p->text++ = (char)(0x80 | (code >> 12 & 63));
        *p->text++ = (char)(0x80 | (code >> 6 & 63));
        *p->text++ = (char)(0x80 | (code & 63));
    }
}

/* Length of the well-formed UTF-8 sequence at `at`, or 0. */
static int
utf8_length(const unsigned char *at, const unsigned char *end)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    int length = at[0] < 0x80 ? 1 : at[0] < 0xc2 ? 0 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3
                 : at[0] < 0xf5 ? 4 : 0;
    if (length == 0 || end - at < length) {
        return 0;
    }
    uint32_t code = length == 1 ? at[0] : at[0] & (0x7fu >> length);
    for (int i = 1; i < length; i++) {
        if ((at[i] & 0xc0) != 0x80) {
            return 0;
        }
        code = code << 6 | (at[i] & 63u);
    }
    bool surrogate = code >= 0xd800 && code < 0xe000;
    return code < least[length] || code > 0x10ffff || surrogate ? 0 : length;
}

static rc_status
read_escape(parser *p) /* the character after a backslash */
{
    uint32_t code, low;
    char c = p->at < p->end ? *p->at++ : 0;
    switch (c) {
    case '"':
    case '\\':
    case '/':
        *p->text++ = c;
        return RC_OK;
    case 'b':
        *p->text++ = '\b';
        return RC_OK;
    case 'f':
        *p->text++ = '\f';
        return RC_OK;
    case 'n':
        *p->text++ = '\n';
        return RC_OK;
    case 'r':
        *p->text++ = '\r';
        return RC_OK;
    case 't':
        *p->text++ = '\t';
        return RC_OK;
    case 'u':
        break;
    default:
        return bad(p, "unknown escape in a string");
    }
    if (!read_hex4(p, &code)) {
        return bad(p, "\\u without four hexadecimal digits");
    }
    if (code >= 0xd800 && code < 0xdc00) { /* a pair of surrogates */
        if (p->end - p->at < 2 || p->at[0] != '\\' || p->at[1] != 'u') {
            return bad(p, "half a surrogate pair");
        }
        p->at += 2;
        if (!read_hex4(p, &low) || low < 0xdc00 || low > 0xdfff) {
            return bad(p, "half a surrogate pair");
        }
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code == 0 || (code >= 0xdc00 && code < 0xe000)) {
        return bad(p, "a character that no string may hold");
    }
    put_utf8(p, code);
    return RC_OK;
}

static rc_status
read_string(parser *p, const char **out)
{
    if (!accept(p, '"')) {
        return bad(p, "expected a string");
    }
    *out = p->text;
    while (p->at < p->end) {
        unsigned char c = (unsigned char)*p->at;
        if (c == '"') {
            p->at++;
            *p->text++ = 0;
            return RC_OK;
        }
        if (c < 0x20) {
            return bad(p, "a control character in a string");
        }
        if (c == '\\') {
            p->at++;
            RC_TRY(read_escape(p));
            continue;
        }
        int length = utf8_length((const unsigned char *)p->at, (const unsigned char *)p->end);
        if (length == 0) {
            return bad(p, "a string that is not UTF-8");
        }
        memcpy(p->text, p->at, (size_t)length);
        p->text += length;
        p->at += length;
    }
    return bad(p, "a string does not end");
}

static rc_status
read_integer(parser *p, int64_t *out)
{
    skip_space(p);
    const char *first = p->at;
    int64_t value = 0;
    while (p->at < p->end && *p->at >= '0' && *p->at <= '9') {
        value = value * 10 + (*p->at++ - '0');
        if (value >= (int64_t)1 << 53) {
            return bad(p, "a number that is too large");
        }
    }
    if (p->at == first || (*first == '0' && p->at > first + 1)) {
        return bad(p, "expected a non-negative integer");
    }
    *out = value;
    return RC_OK;
}

/* At most `room` integers in brackets. */
static rc_status
read_integers(parser *p, int64_t *out, int room, int *count, const char *too_many)
{
    *count = 0;
    if (!accept(p, '[')) {
        return bad(p, "expected a list of integers");
    }
    if (accept(p, ']')) {
        return RC_OK;
    }
    do {
        if (*count == room) {
            return bad(p, too_many);
        }
        RC_TRY(read_integer(p, &out[(*count)++]));
    } while (accept(p, ','));
    return accept(p, ']') ? RC_OK : bad(p, "a list does not end");
}

/* Any value, ignored. */
static rc_status
skip_value(parser *p, int depth)
{
    const char *text;
    char *keep = p->text;
    if (depth == 0) {
        return bad(p, "members nested too deeply");
    }
    skip_space(p);
    if (p->at == p->end) {
        return bad(p, "expected a value");
    }
    char c = *p->at;
    if (c == '"') {
        RC_TRY(read_string(p, &text));
        p->text = keep;
        return RC_OK;
    }
    if (c == '{' || c == '[') {
        char close = c == '{' ? '}' : ']';
        p->at++;
        if (accept(p, close)) {
            return RC_OK;
        }
        do {
            if (c == '{') {
                RC_TRY(read_string(p, &text));
                p->text = keep;
                if (!accept(p, ':')) {
                    return bad(p, "expected ':'");
                }
            }
            RC_TRY(skip_value(p, depth - 1));
        } while (accept(p, ','));
        return accept(p, close) ? RC_OK : bad(p, "a list or an object does not end");
    }
    const char *first = p->at;
    while (p->at < p->end
           && ((*p->at >= '0' && *p->at <= '9') || (*p->at >= 'a' && *p->at <= 'z')
               || strchr("+-.E", *p->at))
           && *p->at != 0) {
        p->at++; /* a number or a word; of no interest */
    }
    return p->at > first ? RC_OK : bad(p, "expected a value");
}

static void *
grow(void *old, int64_t count, int64_t *room, size_t size)
{
    if (count < *room) {
        return old;
    }
    int64_t more = *room ? *room * 2 : 64;
    void *block = rc_alloc(more, size);
    if (block && old) {
        memcpy(block, old, (size_t)count * size);
    }
    if (block) {
        rc_free(old);
        *room = more;
    }
    return block;
}

static rc_status
no_memory(const parser *p)
{
    return rc_fail(p->err, RC_MEMORY, "out of memory: header of %.300s", p->path);
}

static rc_status
read_metadata(parser *p, rc_io_header *h)
{
    if (!accept(p, '{')) {
        return bad(p, "__metadata__ is not an object");
    }
    if (accept(p, '}')) {
        return RC_OK;
    }
    do {
        rc_io_pair *pairs = grow(h->pair, h->pairs, &h->room_pairs, sizeof *pairs);
        if (!pairs) {
            return no_memory(p);
        }
        h->pair = pairs;
        rc_io_pair *pair = &pairs[h->pairs];
        RC_TRY(read_string(p, &pair->key));
        if (!accept(p, ':')) {
            return bad(p, "expected ':'");
        }
        RC_TRY(read_string(p, &pair->value));
        h->pairs++;
    } while (accept(p, ','));
    return accept(p, '}') ? RC_OK : bad(p, "__metadata__ does not end");
}

static rc_status
read_tensor(parser *p, rc_tensor_info *t)
{
    bool has_dtype = false, has_shape = false, has_offsets = false;
    int64_t offsets[2];
    int count;
    if (!accept(p, '{')) {
        return bad(p, "a tensor is not an object");
    }
    do {
        const char *key, *name;
        RC_TRY(read_string(p, &key));
        if (!accept(p, ':')) {
            return bad(p, "expected ':'");
        }
        if (strcmp(key, "dtype") == 0 && !has_dtype) {
            has_dtype = true;
            RC_TRY(read_string(p, &name));
            if (!rc_io_dtype_find(name, &t->dtype)) {
                return bad(p, "an element type that is not read here");
            }
        } else if (strcmp(key, "shape") == 0 && !has_shape) {
            has_shape = true;
            RC_TRY(read_integers(p, t->shape, RC_IO_MAX_RANK, &t->rank,
                                 "a tensor of more than 8 dimensions"));
        } else if (strcmp(key, "data_offsets") == 0 && !has_offsets) {
            has_offsets = true;
            RC_TRY(read_integers(p, offsets, 2, &count, "more than two data_offsets"));
            if (count != 2) {
                return bad(p, "fewer than two data_offsets");
            }
        } else if (strcmp(key, "dtype") == 0 || strcmp(key, "shape") == 0
                   || strcmp(key, "data_offsets") == 0) {
            return bad(p, "a member that comes twice");
        } else {
            RC_TRY(skip_value(p, DEPTH));
        }
    } while (accept(p, ','));
    if (!accept(p, '}')) {
        return bad(p, "a tensor does not end");
    }
    if (!has_dtype || !has_shape || !has_offsets) {
        return bad(p, "a tensor without dtype, shape or data_offsets");
    }
    t->begin = offsets[0];
    t->end = offsets[1];
    t->count = 1;
    for (int i = 0; i < t->rank; i++) {
        if (__builtin_mul_overflow(t->count, t->shape[i], &t->count)) {
            return bad(p, "a shape that is too large");
        }
    }
    int64_t bytes;
    if (__builtin_mul_overflow(t->count, rc_io_dtype_size(t->dtype), &bytes)
        || t->end < t->begin || t->end - t->begin != bytes) {
        return bad(p, "data_offsets that do not fit the shape");
    }
    return RC_OK;
}

static int
compare_place(const void *left, const void *right)
{
    const rc_tensor_info *a = left, *b = right;
    if (a->begin != b->begin) {
        return a->begin < b->begin ? -1 : 1;
    }
    return a->end < b->end ? -1 : a->end > b->end;
}

static int
compare_text(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static rc_status
check_names_differ(parser *p, const rc_io_header *h)
{
    int64_t most = h->tensors > h->pairs ? h->tensors : h->pairs;
    const char **names = rc_alloc(most + 1, sizeof *names);
    if (!names) {
        return no_memory(p);
    }
    rc_status status = RC_OK;
    for (int which = 0; which < 2 && status == RC_OK; which++) {
        int64_t count = which ? h->pairs : h->tensors;
        for (int64_t i = 0; i < count; i++) {
            names[i] = which ? h->pair[i].key : h->tensor[i].name;
        }
        qsort(names, (size_t)count, sizeof *names, compare_text);
        for (int64_t i = 1; i < count && status == RC_OK; i++) {
            if (strcmp(names[i - 1], names[i]) == 0) {
                status = bad(p, "a name that comes twice");
            }
        }
    }
    rc_free(names);
    return status;
}

static rc_status
parse(parser *p, int64_t data_size, rc_io_header *h)
{
    bool has_metadata = false;
    if (p->at == p->end || *p->at != '{' || !accept(p, '{')) {
        return bad(p, "the header is not a JSON object");
    }
    if (!accept(p, '}')) {
        do {
            const char *name;
            RC_TRY(read_string(p, &name));
            if (!accept(p, ':')) {
                return bad(p, "expected ':'");
            }
            if (strcmp(name, "__metadata__") == 0) {
                if (has_metadata) {
                    return bad(p, "a name that comes twice");
                }
                has_metadata = true;
                RC_TRY(read_metadata(p, h));
                continue;
            }
            rc_tensor_info *tensors = grow(h->tensor, h->tensors, &h->room_tensors,
                                           sizeof *tensors);
            if (!tensors) {
                return no_memory(p);
            }
            h->tensor = tensors;
            tensors[h->tensors].name = name;
            RC_TRY(read_tensor(p, &tensors[h->tensors]));
            h->tensors++;
        } while (accept(p, ','));
        if (!accept(p, '}')) {
            return bad(p, "the header does not end");
        }
    }
    skip_space(p);
    if (p->at != p->end) {
        return bad(p, "something after the header's object");
    }
    RC_TRY(check_names_differ(p, h));
    if (h->tensors) {
        qsort(h->tensor, (size_t)h->tensors, sizeof *h->tensor, compare_place);
    }
    int64_t reached = 0;
    for (int64_t i = 0; i < h->tensors; i++) {
        if (h->tensor[i].begin != reached) {
            return bad(p, "a gap or an overlap between tensors");
        }
        reached = h->tensor[i].end;
    }
    if (reached != data_size) {
        return rc_fail(p->err, RC_FILE,
                       "%.300s: %s: the header describes %lld bytes of tensors, "
                       "the file holds %lld", p->path,
                       reached > data_size ? "truncated" : "damaged", (long long)reached,
                       (long long)data_size);
    }
    return RC_OK;
}

rc_status
rc_io_header_parse(const char *json, int64_t size, int64_t data_size, const char *path,
                   rc_io_header *header, rc_error *err)
{
    *header = (rc_io_header){0};
    header->text = rc_alloc(size + 1, 1);
    parser p = {json, json, json + size, header->text, path, err};
    rc_status status = header->text ? parse(&p, data_size, header) : no_memory(&p);
    if (status != RC_OK) {
        rc_io_header_clear(header);
    }
    return status;
}

void
rc_io_header_clear(rc_io_header *header)
{
    rc_free(header->tensor);
    rc_free(header->pair);
    rc_free(header->text);
    *header = (rc_io_header){0};
}
