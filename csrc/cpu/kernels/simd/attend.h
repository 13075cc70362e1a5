/* Attention of one image, or one head of it, by one thread: y = S v, where a row of S is a softmax
 * of a row of a b. S is made by blocks of rows that stay in the caches, whatever its size; backward
 * makes each block again and is done with it before the next. Letters: csrc/ops/attention.c.
 *
 * Sums over rows of S (the gradients of b and v) are kept where the caller says, in the thread's
 * scratch or elsewhere; attend_give adds them to their places. */
#ifndef RC_ATTEND_H
#define RC_ATTEND_H

#include "cpu/cpu.h"
#include "cpu/kernels/simd/vmath.h"

#define ATTEND_FLOATS (192 * 1024) /* of a block of S, at most; sums are carried once a block */

typedef struct attend {
    int64_t r, c, k, e;
    rc_factor a, b, v; /* as stored: a r×k, b k×c, v c×e, or turned */
    bool y_turned;     /* y and dy: e×r */
    int64_t block;     /* rows of S at a time */
    int64_t pitch;     /* of a row of S: no power of two, whose rows would meet in one cache set */
    /* Rows of S from what the product gave; l from dS, in place. */
    void (*softmax)(const struct attend *o, int64_t row, int64_t rows, float *s);
    void (*back)(const struct attend *o, int64_t row, int64_t rows, const float *s, float *l);
    const void *context; /* theirs */
} attend;

typedef struct attend_place {
    float *at; /* or NULL: not wanted */
    int64_t pitch;
    bool add;
} attend_place;

RC_INLINE int64_t
attend_larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* The blocks of an attention whose sizes are known. */
RC_INLINE void
attend_cut(attend *o)
{
    int64_t most = attend_larger(14, ATTEND_FLOATS / o->c / 14 * 14);
    int64_t blocks = (o->r + most - 1) / most;
    o->block = (o->r + blocks - 1) / blocks;
    o->pitch = rc_whole_lines(o->c) + 16;
}

/* The parts of a thread's scratch, in this order; size 0 where forward has none. */
typedef struct attend_parts {
    float *b, *v, *s, *copy, *out;            /* forward has these */
    float *back, *l, *dy_copy, *packed, *sums; /* backward too; sums: of b, then of v */
} attend_parts;

RC_INLINE int64_t
attend_sums(const attend *o)
{
    return rc_whole_lines(o->k * o->c) + rc_whole_lines(o->c * o->e);
}

/* Floats of scratch for a thread; *p gets the parts of one that begins at `from`. */
RC_INLINE int64_t
attend_scratch(const attend *o, bool backward, float *from, attend_parts *p)
{
    int64_t square = o->block * o->pitch, used = 0;
#define PART(name, floats) p->name = from + used, used += rc_whole_lines(floats)
    PART(b, rc_block_packed(o->c, o->k));
    PART(v, backward ? rc_block_packed(o->c, o->e) : rc_block_packed(o->e, o->c));
    PART(s, square);
    PART(copy, o->block * o->k);
    PART(out, o->block * attend_larger(o->e, o->k));
    if (backward) {
        PART(back, rc_block_packed(o->k, o->c));
        PART(l, square);
        PART(dy_copy, o->block * o->e);
        PART(packed, attend_larger(rc_block_packed(o->c, o->block),
                                   attend_larger(rc_block_packed(o->k, o->block),
                                                 rc_block_packed(o->e, o->block))));
        PART(sums, attend_sums(o));
    }
#undef PART
    return used;
}

/* Rows of a stored factor (turned: columns), copied so that they lie close. */
static rc_factor
attend_rows(rc_factor f, int64_t row, int64_t rows, int64_t length, float *copy)
{
    int64_t lines = f.turned ? length : rows, floats = f.turned ? rows : length;
    const float *from = f.at + (f.turned ? row : row * f.pitch);
    for (int64_t i = 0; i < lines; i++) {
        memcpy(copy + i * floats, from + i * f.pitch, (size_t)floats * sizeof *copy);
    }
    return (rc_factor){copy, floats, f.turned};
}

RC_INLINE rc_factor
attend_turn(rc_factor f)
{
    f.turned = !f.turned;
    return f;
}

/* to (columns × rows, pitch floats a row) (+)= the transpose of from (rows × columns). */
static void
attend_transposed(const float *from, int64_t rows, int64_t columns, bool add, float *to,
                  int64_t pitch)
{
    for (int64_t j = 0; j < columns; j++) {
        for (int64_t i = 0; i < rows; i++) {
            to[j * pitch + i] = (add ? to[j * pitch + i] : 0) + from[i * columns + j];
        }
    }
}

/* left (rows × k) times a packed factor to rows of a result that is stored turned or not. */
static void
attend_write(rc_factor left, int64_t rows, const float *packed, int64_t columns, int64_t k,
             bool turned, bool add, float *to, int64_t pitch, float *out)
{
    if (turned) {
        rc_block_multiply(left, rows, packed, columns, k, false, out, columns);
        attend_transposed(out, rows, columns, add, to, pitch);
    } else {
        rc_block_multiply(left, rows, packed, columns, k, add, to, pitch);
    }
}

/* Rows [from, to) of y. */
static void
attend_forward(const attend *o, int64_t from, int64_t to, float *y, int64_t pitch, float *scratch)
{
    attend_parts p;
    attend_scratch(o, false, scratch, &p);
    rc_block_pack(o->b, o->c, o->k, p.b);
    rc_block_pack(o->v, o->e, o->c, p.v);
    for (int64_t row = from; row < to; row += o->block) {
        int64_t rows = to - row < o->block ? to - row : o->block;
        rc_block_multiply(attend_rows(o->a, row, rows, o->k, p.copy), rows, p.b, o->c, o->k, false,
                          p.s, o->pitch);
        o->softmax(o, row, rows, p.s);
        attend_write((rc_factor){p.s, o->pitch, false}, rows, p.v, o->e, o->c, o->y_turned, false,
                     y + (o->y_turned ? row : row * pitch), pitch, p.out);
    }
}

/* sum (m × n) (+)= the transpose of x (rows × m) times z (rows × n). */
static void
attend_sum(rc_factor x, int64_t m, rc_factor z, int64_t n, int64_t rows, float *packed, bool add,
           float *sum)
{
    rc_block_pack(z, n, rows, packed);
    rc_block_multiply(attend_turn(x), m, packed, n, rows, add, sum, n);
}

/* What rows [from, to) of dy (stored as y) give: to their rows of da, and to `sums` of b and v. */
static void
attend_backward(const attend *o, int64_t from, int64_t to, rc_factor dy, attend_place da,
                bool db, bool dv, float *sums, float *scratch)
{
    attend_parts p;
    attend_scratch(o, true, scratch, &p);
    float *sum_b = sums, *sum_v = sums + rc_whole_lines(o->k * o->c);
    bool logits = da.at || db;
    rc_block_pack(o->b, o->c, o->k, p.b);
    if (logits) {
        rc_block_pack(attend_turn(o->v), o->c, o->e, p.v);
    }
    if (da.at) {
        rc_block_pack(attend_turn(o->b), o->k, o->c, p.back);
    }
    rc_factor s = {p.s, o->pitch, false}, l = {p.l, o->pitch, false};
    for (int64_t row = from; row < to; row += o->block) {
        int64_t rows = to - row < o->block ? to - row : o->block;
        bool add = row > from;
        rc_factor a = attend_rows(o->a, row, rows, o->k, p.copy);
        rc_factor g = attend_rows(dy, row, rows, o->e, p.dy_copy);
        rc_block_multiply(a, rows, p.b, o->c, o->k, false, p.s, o->pitch);
        o->softmax(o, row, rows, p.s);
        if (dv && o->v.turned) {
            attend_sum(g, o->e, s, o->c, rows, p.packed, add, sum_v);
        } else if (dv) {
            attend_sum(s, o->c, g, o->e, rows, p.packed, add, sum_v);
        }
        if (!logits) {
            continue;
        }
        rc_block_multiply(g, rows, p.v, o->c, o->e, false, p.l, o->pitch);
        o->back(o, row, rows, p.s, p.l);
        if (da.at) {
            attend_write(l, rows, p.back, o->k, o->c, o->a.turned, da.add,
                         da.at + (o->a.turned ? row : row * da.pitch), da.pitch, p.out);
        }
        if (db && o->b.turned) {
            attend_sum(l, o->c, a, o->k, rows, p.packed, add, sum_b);
        } else if (db) {
            attend_sum(a, o->k, l, o->c, rows, p.packed, add, sum_b);
        }
    }
}

/* `sums` of b and v, `parts` of them one after the other, to their places. */
static void
attend_give(const attend *o, const float *sums, int64_t parts, attend_place db, attend_place dv)
{
    attend_place place[2] = {db, dv};
    int64_t lines[2] = {o->b.turned ? o->c : o->k, o->v.turned ? o->e : o->c};
    int64_t length[2] = {o->b.turned ? o->k : o->c, o->v.turned ? o->c : o->e};
    for (int i = 0; i < 2; i++) {
        for (int64_t j = 0; place[i].at && j < lines[i]; j++) {
            float *to = place[i].at + j * place[i].pitch;
            for (int64_t part = 0; part < parts; part++) {
                const float *from = sums + part * attend_sums(o) + j * length[i];
                bool add = place[i].add || part > 0;
                RC_IVDEP
                for (int64_t q = 0; q < length[i]; q++) {
                    to[q] = (add ? to[q] : 0) + from[q];
                }
            }
        }
        sums += rc_whole_lines(o->k * o->c);
    }
}

#endif
