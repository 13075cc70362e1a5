/* Lifetimes, and from them offsets in the arena. First, results that may overwrite an input that
 * dies there take its place; then one buffer after the other, each into the tightest gap that is
 * free for its whole life. In which order decides how near to the optimum this comes, and none is
 * best for all networks: the largest first, the largest product of size and life first, or those
 * first that are alive when most is; the smallest arena counts. */
#include <stdlib.h>
#include <string.h>

#include "plan/plan.h"

#define LINE 64 /* bytes that a place in the arena is a multiple of */
#define TRIES 100
#define SMALL 512 /* parts of the arena: smaller buffers find gaps */
#define NEAR 100  /* parts of it that are not worth a try */
#define ALIGN(n, line) (((n) + (line) - 1) & -(int64_t)(line)) /* line: a power of two */

/* ---- lifetimes ------------------------------------------------------------------------------- */

/* Note that step number `at` uses buffer b. */
static void
use(rc_plan *p, int32_t b, int32_t at)
{
    if (b >= 0) {
        rc_buffer *buffer = &p->buffers[b];
        buffer->last = at > buffer->last ? at : buffer->last;
    }
}

/* Lifetimes from the finished list; what users read or write lives on to the end. */
void
rc_plan_note_uses(const rc_model *m, rc_plan *p)
{
    const rc_graph *g = m->graph;
    for (int32_t s = 0; s < p->n_steps; s++) {
        const rc_step *step = &p->steps[s];
        const rc_ref *single[4] = {&step->y, &step->dy, &step->ws, &step->tmp};
        for (int k = 0; k < 4; k++) {
            if (single[k]->kind == RC_REF_BUFFER) {
                use(p, single[k]->index, s);
            }
        }
        for (int k = 0; k < RC_MAX_IN; k++) {
            if (step->x[k].kind == RC_REF_BUFFER) {
                use(p, step->x[k].index, s);
            }
            if (step->dx[k].kind == RC_REF_BUFFER) {
                use(p, step->dx[k].index, s);
            }
        }
    }
    for (int32_t i = 0; i < g->n_outputs; i++) {
        rc_value v = g->outputs[i].value;
        use(p, p->value_buffer[v], p->n_steps);
        if (p->spec.kind == RC_PLAN_TRAIN && p->gradient_buffer[v] >= 0) {
            /* written by the caller between forward and backward */
            p->buffers[p->gradient_buffer[v]].first = p->n_forward;
        }
    }
    for (int32_t i = 0; !p->spec.updates && i < g->n_states; i++) { /* until the update */
        use(p, p->state_gradient[i], p->n_steps);
    }
    for (rc_value v = 0; v < g->n_values; v++) {
        bool map = rc_explain_is_map(m, &p->spec, v);
        if (map || rc_explain_is_source(m, &p->spec, v)) {
            use(p, p->value_buffer[v], p->n_steps);
            use(p, map ? p->gradient_buffer[v] : -1, p->n_steps);
        }
    }
    if (p->spec.input_gradient) {
        use(p, p->gradient_buffer[g->images], p->n_steps);
    }
}

/* ---- in place -------------------------------------------------------------------------------- */

static int32_t
root(const rc_plan *p, int32_t b)
{
    while (p->buffers[b].same_as >= 0) {
        b = p->buffers[b].same_as;
    }
    return b;
}

static bool
uses_twice(const rc_plan *p, const rc_step *step, int32_t buffer)
{
    int count = 0;
    for (int k = 0; k < step->call.n_in; k++) {
        count += step->x[k].kind == RC_REF_BUFFER && root(p, step->x[k].index) == buffer;
        count += step->dx[k].kind == RC_REF_BUFFER && root(p, step->dx[k].index) == buffer;
    }
    const rc_ref *others[4] = {&step->y, &step->dy, &step->ws, &step->tmp};
    for (int k = 0; k < 4; k++) {
        count += others[k]->kind == RC_REF_BUFFER && root(p, others[k]->index) == buffer;
    }
    return count > 1;
}

/* Let `to`, written at step s, take the memory of `from`, which is last used there. */
static void
merge(rc_plan *p, int32_t s, rc_ref from, rc_ref to)
{
    if (from.kind != RC_REF_BUFFER || to.kind != RC_REF_BUFFER || from.index < 0) {
        return;
    }
    int32_t a = root(p, from.index), b = to.index;
    rc_buffer *old = &p->buffers[a], *new = &p->buffers[b];
    if (a == b || new->same_as >= 0 || old->last != s || old->bytes != new->bytes
        || new->first > s || new->last < s || uses_twice(p, &p->steps[s], a)) {
        return;
    }
    for (int32_t earlier = new->first; earlier < s; earlier++) { /* only packing lies between */
        if (p->steps[earlier].pass != RC_PASS_PACK) {
            return;
        }
    }
    new->same_as = a;
    old->last = new->last;
}

void
rc_plan_share(rc_plan *p)
{
    for (int32_t s = 0; s < p->n_steps; s++) {
        const rc_step *step = &p->steps[s];
        if (step->unit < 0 || s == p->n_forward) {
            continue;
        }
        const rc_op *op = rc_op_table[p->units[step->unit].node.op];
        if ((step->pass == RC_PASS_FORWARD || step->pass == RC_PASS_AGAIN) && op->in_place) {
            merge(p, s, step->x[0], step->y);
        }
        if (step->pass == RC_PASS_BACKWARD && op->bwd_in_place && !step->call.add[0]) {
            merge(p, s, step->dy, step->dx[0]);
        }
    }
}

typedef struct place {
    int32_t buffer;
    bool at_peak;
    double weight; /* heavier ones are placed first */
} place;

static int
heavier_first(const void *a, const void *b)
{
    const place *x = a, *y = b;
    if (x->at_peak != y->at_peak) {
        return x->at_peak ? -1 : 1;
    }
    if (x->weight != y->weight) {
        return x->weight < y->weight ? 1 : -1;
    }
    return x->buffer - y->buffer;
}

static int
by_offset(const void *a, const void *b)
{
    const rc_buffer *x = *(const rc_buffer *const *)a, *y = *(const rc_buffer *const *)b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

int32_t
rc_plan_fullest(const rc_plan *p, int64_t line, int64_t *alive, int64_t *bytes)
{
    int32_t fullest = 0;
    memset(alive, 0, (size_t)(p->n_steps + 1) * sizeof *alive);
    for (int32_t b = 0; b < p->n_buffers; b++) {
        const rc_buffer *o = &p->buffers[b];
        if (o->same_as < 0) {
            alive[o->first] += ALIGN(o->bytes, line);
            if (o->last < p->n_steps) {
                alive[o->last + 1] -= ALIGN(o->bytes, line);
            }
        }
    }
    for (int32_t i = 1; i < p->n_steps; i++) {
        alive[i] += alive[i - 1];
        fullest = alive[i] > alive[fullest] ? i : fullest;
    }
    *bytes = alive[fullest];
    return fullest;
}

enum { BY_SIZE, BY_SIZE_AND_LIFE, BY_PEAK, ORDERS };

static int32_t
order_of(const rc_plan *p, int how, int32_t fullest, place *order)
{
    int32_t n = 0;
    for (int32_t b = 0; b < p->n_buffers; b++) {
        const rc_buffer *o = &p->buffers[b];
        if (o->same_as < 0) {
            double life = how == BY_SIZE_AND_LIFE ? o->last - o->first + 1 : 1;
            order[n++] = (place){b, how == BY_PEAK && o->first <= fullest && fullest <= o->last,
                                 (double)o->bytes * life};
        }
    }
    qsort(order, (size_t)n, sizeof *order, heavier_first);
    return n;
}

/* Gives every buffer its offset, in this order; returns the arena's size. */
static int64_t
place_all(rc_plan *p, const place *order, int32_t n, const rc_buffer **near, int32_t *placed)
{
    int64_t arena = 64;
    int32_t done = 0;
    for (int32_t i = 0; i < n; i++) {
        rc_buffer *b = &p->buffers[order[i].buffer];
        int32_t n_near = 0;
        for (int32_t k = 0; k < done; k++) {
            const rc_buffer *o = &p->buffers[placed[k]];
            if (o->first <= b->last && b->first <= o->last) {
                near[n_near++] = o;
            }
        }
        qsort(near, (size_t)n_near, sizeof *near, by_offset);
        int64_t at = 0, best = -1, best_gap = INT64_MAX, need = ALIGN(b->bytes, LINE);
        for (int32_t k = 0; k < n_near; k++) {
            int64_t gap = near[k]->offset - at;
            if (gap >= need && gap < best_gap) {
                best = at;
                best_gap = gap;
            }
            int64_t end = near[k]->offset + ALIGN(near[k]->bytes, LINE);
            at = end > at ? end : at;
        }
        b->offset = best >= 0 ? best : at;
        arena = b->offset + need > arena ? b->offset + need : arena;
        placed[done++] = order[i].buffer;
    }
    return arena;
}

/* Large ones first; returns how many. */
static int32_t
large_first(const rc_plan *p, place *order, int32_t n, int64_t large)
{
    place *scratch = order + n;
    int32_t n_large = 0, n_small = 0;
    for (int32_t i = 0; i < n; i++) {
        if (p->buffers[order[i].buffer].bytes >= large) {
            order[n_large++] = order[i];
        } else {
            scratch[n_small++] = order[i];
        }
    }
    memcpy(order + n_large, scratch, (size_t)n_small * sizeof *order);
    return n_large;
}

/* No order that is worked out comes near the optimum where lives are many and short. So whoever lies
 * on top is placed earlier, again and again; `best` becomes an order by which the large ones need
 * less than *least. */
static void
climb(rc_plan *p, place *order, int32_t n, int32_t n_large, int64_t goal, const rc_buffer **near,
      int32_t *placed, place *best, int64_t *least)
{
    for (int tries = 0; tries < TRIES && *least > goal; tries++) {
        int64_t arena = place_all(p, order, n_large, near, placed);
        if (arena < *least) {
            *least = arena;
            memcpy(best, order, (size_t)n * sizeof *order);
        }
        int32_t top = 0;
        for (int32_t i = 1; i < n_large; i++) {
            const rc_buffer *b = &p->buffers[order[i].buffer], *o = &p->buffers[order[top].buffer];
            top = b->offset + b->bytes > o->offset + o->bytes ? i : top;
        }
        place moved = order[top];
        memmove(order + top / 2 + 1, order + top / 2, (size_t)(top - top / 2) * sizeof *order);
        order[top / 2] = moved;
    }
}

rc_status
rc_plan_place(rc_plan *p, rc_error *err)
{
    place *order = rc_alloc(2 * (int64_t)p->n_buffers, sizeof *order); /* … and room to sort it */
    place *best = rc_alloc(p->n_buffers, sizeof *best);
    const rc_buffer **near = rc_alloc(p->n_buffers, sizeof *near);
    int32_t *placed = rc_alloc(p->n_buffers, sizeof *placed);
    int64_t *alive = rc_alloc(p->n_steps + 1, sizeof *alive);
    rc_status status = RC_OK;
    if (!order || !best || !near || !placed || !alive) {
        status = rc_fail(err, RC_MEMORY, "out of memory while planning");
    } else {
        int64_t most, least = INT64_MAX;
        int32_t fullest = rc_plan_fullest(p, LINE, alive, &most), n = 0;
        for (int32_t how = 0; how < ORDERS; how++) {
            n = order_of(p, how, fullest, order);
            int64_t arena = place_all(p, order, n, near, placed);
            if (arena < least) {
                least = arena;
                memcpy(best, order, (size_t)n * sizeof *order);
            }
        }
        const int64_t goal = most + most / NEAR;
        for (int32_t how = 0; how < ORDERS && least > goal; how++) {
            n = order_of(p, how, fullest, order);
            int32_t n_large = large_first(p, order, n, most / SMALL);
            climb(p, order, n, n_large, goal, near, placed, best, &least);
        }
        p->arena_bytes = place_all(p, best, n, near, placed);
    }
    for (int32_t b = 0; status == RC_OK && b < p->n_buffers; b++) {
        p->buffers[b].offset = p->buffers[root(p, b)].offset;
    }
    rc_free(order);
    rc_free(best);
    rc_free(near);
    rc_free(placed);
    rc_free(alive);
    return status;
}
