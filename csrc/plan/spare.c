/* memory="low": what a training plan makes again in backward beyond what is cheap (needs.c), until
 * the fullest moment of the step is as empty as is worth its time.
 *
 * A search, in rounds. At the step where most bytes are alive lie activations that wait there for a
 * later reader. One is left out of the plan for that while: not kept for backward at all (`again`),
 * or forgotten after the reader before (`after_again`, `after_backward`), and made again for the
 * next. Those come first that free most bytes for the time it takes to make them. The plan is lowered
 * anew, and the change stays if the peak has fallen. What is made again is what it was, to the bit:
 * the same kernel, statistics, random numbers.
 *
 * [Chen et al. 2016, Training deep nets with sublinear memory cost; Kirisame et al. 2021, Dynamic
 * tensor rematerialization, whose h = bytes over time this is, with the future known.] */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plan/lower.h"

#define LINE 64             /* as memory.c places */
#define SMALL 256           /* parts of the peak: smaller ones are left alone */
#define MACS_A_SECOND 80e9  /* of a convolution, and … */
#define BYTES_A_SECOND 8e9  /* … of all else: which of two is cheaper, not how long it takes */
#define DEPTH 8             /* of what is made for what is made again, looked at */
#define ROUNDS 400          /* changes at most … */
#define LOOKS 1500          /* … of so many tried: planning has an end */

/* A change of the plan: bits of the lists of rc_advice. */
typedef enum kind {
    NOT_KEPT,       /* value `at` is not kept for backward */
    AFTER_AGAIN,    /* forgotten after unit `at` has been run again: its input, or output, `bit` … */
    AFTER_BACKWARD, /* … after its backward step */
} kind;

typedef struct change {
    kind kind;
    int32_t at;
    uint32_t bit;
    double worth;   /* bytes a second */
} change;

/* What a buffer holds. */
typedef struct content {
    rc_value value;        /* data of this value, or RC_NONE */
    int32_t holder;        /* the buffer that it was cast from, or itself */
    int32_t next;          /* another buffer of the value, or -1 */
    int32_t made;          /* the step that writes it */
    int32_t before, after; /* the last that reads it before the fullest step, the first after; -1 */
    int32_t last;          /* that reads it */
    bool there;            /* the fullest step reads or writes it */
} content;

typedef struct search {
    rc_model *m;
    rc_plan *p;
    int64_t held;          /* bytes beside the arena: weights, and what an optimiser remembers */
    rc_advice advice, refused;
    double *seconds;       /* per unit: forward, by a rule of thumb */
    content *contents;     /* per buffer */
    int32_t *first;        /* per value: the first of its buffers, or -1 */
    int32_t *producer, *root, *next; /* as in rc_facts */
    int64_t *alive;        /* per step */
    change *changes;       /* that may be made, best first */
    int32_t n_changes, cap_buffers, cap_steps;
    int32_t fullest, looks;
    int64_t peak;
    double spent;          /* seconds of what is made again */
} search;

/* ---- a round looked at ------------------------------------------------------------------------- */

static bool
in_memory(rc_ref ref)
{
    return ref.kind == RC_REF_BUFFER && ref.index >= 0;
}

/* The plan as it is with the advice: its peak and what it costs. */
static rc_status
look(search *s, rc_error *err)
{
    rc_plan *p = s->p;
    s->looks++;
    RC_TRY(rc_plan_lower(s->m, p, &s->advice, err));
    rc_plan_share(p);
    if (p->n_steps + 1 > s->cap_steps) {
        rc_free(s->alive);
        s->cap_steps = 2 * p->n_steps;
        s->alive = rc_alloc(s->cap_steps, sizeof *s->alive);
        if (!s->alive) {
            return rc_planning_failed(err);
        }
    }
    s->fullest = rc_plan_fullest(p, LINE, s->alive, &s->peak);
    s->spent = 0;
    for (int32_t i = p->n_forward; i < p->n_steps; i++) {
        s->spent += p->steps[i].pass == RC_PASS_AGAIN ? s->seconds[p->steps[i].unit] : 0;
    }
    return RC_OK;
}

static void
note_reader(search *s, int32_t buffer, int32_t step)
{
    content *c = &s->contents[s->contents[buffer].holder];
    if (step < s->fullest) {
        c->before = step;
    } else if (step > s->fullest) {
        c->after = c->after < 0 ? step : c->after;
    } else {
        c->there = true;
    }
    c->last = s->contents[buffer].last = step;
}

/* Fills contents: which value each buffer holds, and who reads it around the fullest step. */
static void
find_contents(search *s)
{
    const rc_plan *p = s->p;
    for (rc_value v = 0; v < s->m->graph->n_values; v++) {
        s->first[v] = -1;
    }
    for (int32_t b = 0; b < p->n_buffers; b++) {
        s->contents[b] = (content){RC_NONE, b, -1, -1, -1, -1, -1, false};
    }
    for (int32_t i = 0; i < p->n_backward; i++) {
        const rc_step *step = &p->steps[i];
        content *from = in_memory(step->x[0]) ? &s->contents[step->x[0].index] : NULL;
        if (step->pass == RC_PASS_CAST && from && from->value != RC_NONE) {
            content *to = &s->contents[step->y.index];
            to->value = from->value;
            to->holder = from->holder;
            s->contents[from->holder].there |= i == s->fullest;
            continue;
        }
        for (int k = 0; k < step->call.n_in; k++) {
            if (in_memory(step->x[k]) && s->contents[step->x[k].index].value != RC_NONE) {
                note_reader(s, step->x[k].index, i);
            }
        }
        if (!in_memory(step->y) || step->unit < 0) {
            continue;
        }
        content *y = &s->contents[step->y.index];
        if (step->pass == RC_PASS_BACKWARD && y->value != RC_NONE) {
            note_reader(s, step->y.index, i);
        } else if (step->pass == RC_PASS_FORWARD || step->pass == RC_PASS_AGAIN) {
            y->value = p->units[step->unit].node.out;
            y->made = i;
            y->there = i == s->fullest;
            y->next = s->first[y->value];
            s->first[y->value] = step->y.index;
        }
    }
}

/* Whether v's data lies there when step i runs. */
static bool
lies_there(const search *s, rc_value v, int32_t i)
{
    for (int32_t b = s->first[v]; b >= 0; b = s->contents[b].next) {
        if (s->contents[b].made < i && i <= s->contents[b].last) {
            return true;
        }
    }
    return false;
}

/* Seconds to make what unit u gives again for step i, with its inputs that are not there then. */
static double
time_again(const search *s, int32_t u, int32_t i, int depth)
{
    const rc_node *node = &s->p->units[u].node;
    double seconds = s->seconds[u];
    for (int k = 0; k < node->n_in && depth > 0; k++) {
        rc_value v = node->in[k];
        if (v != RC_NONE && s->producer[v] >= 0 && !lies_there(s, s->root[v], i)) {
            seconds += time_again(s, s->producer[v], i, depth - 1);
        }
    }
    return seconds;
}

/* ---- what may be changed ------------------------------------------------------------------------- */

static uint32_t *
bits_of(const rc_advice *a, const change *c)
{
    return &(c->kind == AFTER_AGAIN ? a->after_again : a->after_backward)[c->at];
}

static bool
is_set(const rc_advice *a, const change *c)
{
    return c->kind == NOT_KEPT ? a->again[c->at] : (*bits_of(a, c) & c->bit) != 0;
}

/* On, or off again. */
static void
turn(rc_advice *a, const change *c)
{
    if (c->kind == NOT_KEPT) {
        a->again[c->at] = !a->again[c->at];
    } else {
        *bits_of(a, c) ^= c->bit;
    }
}

/* Where a step reads what buffer b holds, as a bit of `reads`. */
static uint32_t
bit_of(const search *s, const rc_step *step, int32_t b)
{
    for (int k = 0; k < step->call.n_in && k < 31; k++) {
        if (in_memory(step->x[k]) && s->contents[step->x[k].index].holder == b) {
            return 1u << k;
        }
    }
    return RC_READS_Y;
}

/* The change that leaves the content of buffer b out at the fullest step; false: there is none. */
static bool
change_of(const search *s, int32_t b, change *out)
{
    const rc_plan *p = s->p;
    const content *c = &s->contents[b];
    if (c->value == RC_NONE || c->holder != b || c->there || c->after < p->n_forward
        || c->made < 0 || c->made >= s->fullest) {
        return false;
    }
    if (c->before >= p->n_forward) {
        const rc_step *reader = &p->steps[c->before];
        *out = (change){.kind = reader->pass == RC_PASS_AGAIN ? AFTER_AGAIN : AFTER_BACKWARD,
                        .at = reader->unit, .bit = bit_of(s, reader, b)};
        return true;
    }
    *out = (change){.kind = NOT_KEPT, .at = c->value};
    return c->made < p->n_forward;
}

static int
worthier_first(const void *a, const void *b)
{
    const change *x = a, *y = b;
    if (x->worth != y->worth) {
        return x->worth < y->worth ? 1 : -1;
    }
    if (x->at != y->at) {
        return x->at - y->at;
    }
    return x->kind != y->kind ? (int)x->kind - (int)y->kind : (x->bit > y->bit) - (x->bit < y->bit);
}

static rc_status
find_changes(search *s, rc_error *err)
{
    const rc_plan *p = s->p;
    if (p->n_buffers > s->cap_buffers) {
        rc_free(s->contents);
        rc_free(s->changes);
        s->cap_buffers = 2 * p->n_buffers;
        s->contents = rc_alloc(s->cap_buffers, sizeof *s->contents);
        s->changes = rc_alloc(s->cap_buffers, sizeof *s->changes);
        if (!s->contents || !s->changes) {
            return rc_planning_failed(err);
        }
    }
    find_contents(s);
    s->n_changes = 0;
    for (int32_t b = 0; b < p->n_buffers; b++) {
        change c;
        if (p->buffers[b].bytes >= s->peak / SMALL && change_of(s, b, &c)
            && !is_set(&s->refused, &c) && !is_set(&s->advice, &c)) {
            const content *what = &s->contents[b];
            c.worth = (double)p->buffers[b].bytes
                      / time_again(s, s->producer[what->value], what->after, DEPTH);
            s->changes[s->n_changes++] = c;
        }
    }
    qsort(s->changes, (size_t)s->n_changes, sizeof *s->changes, worthier_first);
    return RC_OK;
}

/* ---- the search --------------------------------------------------------------------------------- */

/* The first change that lowers the peak is made; those before it are refused, for now. */
static rc_status
improve(search *s, change *made, bool *found, rc_error *err)
{
    const int64_t peak = s->peak;
    *found = false;
    for (int32_t k = 0; k < s->n_changes && !*found && s->looks < LOOKS; k++) {
        turn(&s->advice, &s->changes[k]);
        RC_TRY(look(s, err));
        *found = s->peak < peak;
        *made = s->changes[k];
        if (!*found) {
            turn(&s->advice, &s->changes[k]);
            turn(&s->refused, &s->changes[k]);
        }
    }
    return RC_OK;
}

/* What did not help then may help now. */
static void
forgive(search *s)
{
    const size_t n = (size_t)s->m->graph->n_values, n_units = (size_t)s->p->n_units;
    memset(s->refused.again, 0, n * sizeof *s->refused.again);
    memset(s->refused.after_again, 0, n_units * sizeof *s->refused.after_again);
    memset(s->refused.after_backward, 0, n_units * sizeof *s->refused.after_backward);
}

/* Changes, one after the other, up to a whole forward pass made again. Of all plans on that way the
 * one with the least product of time and squared memory stays: for one percent of what a step holds
 * in all it may take two percent longer. */
static rc_status
run(search *s, rc_error *err)
{
    change made[ROUNDS];
    int n = 0, best = 0, asked_again = 0;
    double forward = 0, least = INFINITY;
    bool found = true;
    for (int32_t u = 0; u < s->p->n_units; u++) {
        forward += s->seconds[u];
    }
    RC_TRY(look(s, err));
    const double cheap = s->spent;
    while (found && n < ROUNDS && s->spent - cheap < forward) {
        double held = (double)(s->held + s->peak), cost = held * held * (3 * forward + s->spent);
        if (cost < least) {
            least = cost;
            best = n;
        }
        RC_TRY(find_changes(s, err));
        RC_TRY(improve(s, &made[n], &found, err));
        if (!found && n > asked_again) {
            forgive(s);
            asked_again = n;
            RC_TRY(look(s, err));
            RC_TRY(find_changes(s, err));
            RC_TRY(improve(s, &made[n], &found, err));
        }
        n += found;
    }
    while (n > best) {
        turn(&s->advice, &made[--n]);
    }
    return rc_plan_lower(s->m, s->p, &s->advice, err);
}

/* A rule of thumb: what it computes, and what it reads and writes. */
static double
seconds_of(const search *s, const rc_unit *u, const rc_shape *xs)
{
    const rc_plan *p = s->p;
    const rc_op *op = rc_op_table[u->node.op];
    double bytes = (double)rc_shape_count(&p->shapes[u->node.out]), macs = 0;
    for (int k = 0; k < u->node.n_in; k++) {
        bytes += u->node.in[k] == RC_NONE ? 0 : (double)rc_shape_count(&xs[k]);
    }
    if (op->macs) {
        macs = op->macs(&u->node.attrs, xs, &p->shapes[u->node.out], false);
    }
    return bytes * (double)s->m->real_size / BYTES_A_SECOND + macs / MACS_A_SECOND;
}

/* What does not change from round to round. */
static void
prepare(search *s)
{
    const rc_graph *g = s->m->graph;
    rc_find_places(s->m, s->p, s->producer, s->root, s->next);
    for (int32_t u = 0; u < s->p->n_units; u++) {
        const rc_unit *unit = &s->p->units[u];
        rc_shape xs[RC_MAX_IN] = {{0}};
        for (int k = 0; k < unit->node.n_in; k++) {
            xs[k] = unit->node.in[k] == RC_NONE ? xs[k] : s->p->shapes[unit->node.in[k]];
        }
        s->seconds[u] = seconds_of(s, unit, xs);
    }
    for (int32_t i = 0; i < g->n_states; i++) {
        int copies = g->states[i].kind == RC_STATE_BUFFER ? 1 : 1 + s->m->info.optimizer_states;
        s->held += copies * rc_shape_count(&g->states[i].shape) * (int64_t)s->m->real_size;
    }
}

rc_status
rc_plan_spare(rc_model *m, rc_plan *p, rc_error *err)
{
    const size_t n = (size_t)m->graph->n_values, n_units = (size_t)p->n_units;
    search s = {.m = m, .p = p};
    bool *flags = rc_alloc_zero((int64_t)n * 2, sizeof *flags);
    uint32_t *masks = rc_alloc_zero((int64_t)n_units * 4 + 1, sizeof *masks);
    int32_t *lists = rc_alloc_zero((int64_t)n * 4, sizeof *lists);
    s.seconds = rc_alloc_zero((int64_t)n_units + 1, sizeof *s.seconds);
    rc_status status = RC_MEMORY;
    if (flags && masks && lists && s.seconds) {
        s.advice = (rc_advice){flags, masks, masks + n_units};
        s.refused = (rc_advice){flags + n, masks + 2 * n_units, masks + 3 * n_units};
        s.first = lists;
        s.producer = lists + n;
        s.root = lists + 2 * n;
        s.next = lists + 3 * n;
        prepare(&s);
        status = run(&s, err);
    } else {
        status = rc_planning_failed(err);
    }
    rc_free(flags);
    rc_free(masks);
    rc_free(lists);
    rc_free(s.seconds);
    rc_free(s.contents);
    rc_free(s.alive);
    rc_free(s.changes);
    return status;
}
