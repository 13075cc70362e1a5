/* What lower.c (units to steps), needs.c (what backward needs) and updates.c (what a training plan
 * does beside them) share. */
#ifndef RC_LOWER_H
#define RC_LOWER_H

#include "plan/plan.h"

/* What spare.c has a plan make again in backward although it is neither cheap nor gone otherwise. */
typedef struct rc_advice {
    bool *again;    /* per value: it is not kept for backward */
    /* Per unit, bits of `reads`: what is forgotten after the unit has been run again, or after its
     * backward step, and made again for the next that reads it. */
    uint32_t *after_again, *after_backward;
} rc_advice;

/* Facts about values that lowering works out; all arrays are per value of the graph. */
typedef struct rc_facts {
    rc_model *m;
    rc_plan *p;
    const rc_advice *advice; /* or NULL */
    int32_t *producer;  /* unit that computes it, or -1 */
    bool *wants;        /* its gradient leads somewhere */
    bool *flows;        /* a gradient comes to it */
    bool *kept;         /* backward reads it */
    bool *dropped;      /* … and it is computed again */
    bool *seen;         /* outputs, maps and sources: users look at it */
    int32_t *root;      /* the value whose memory it is, under another shape; mostly itself */
    int32_t *next;      /* … and the next value in that memory, or -1 */
    int32_t *holds;     /* of a root: by how many steps to come its data is held */
    int8_t *known;      /* memo of can_recompute: 0 unknown, 1 yes, 2 no */
    bool *backward;     /* per unit: has a backward step … */
    rc_ref *ws;         /* … and what its forward has kept for it, from that step on */
} rc_facts;

static inline const rc_op *
rc_unit_rules(const rc_unit *u)
{
    return rc_op_table[u->node.op];
}

static inline const rc_shape *
rc_unit_shapes(const rc_plan *p, int32_t unit)
{
    return p->unit_xs + (int64_t)unit * RC_MAX_IN;
}

/* needs.c. Fills wants, flows, kept, dropped and backward; producer is there. */
void rc_mark_needs(rc_facts *f);
/* Bit k: input k of a unit has a gradient to be worked out. */
uint32_t rc_wanted_inputs(const rc_facts *f, const rc_unit *u);
/* Whether a unit runs in training mode: all do in training but frozen batch norms. */
bool rc_unit_trains(const rc_facts *f, int32_t u);
/* What a unit's backward reads; an operation without the rule needs nothing but dy and ws. */
uint32_t rc_reads_of(const rc_facts *f, int32_t u, uint32_t wanted);

/* lower.c. Fills the lists of that name of rc_facts. */
void rc_find_places(const rc_model *m, const rc_plan *p, int32_t *producer, int32_t *root,
                    int32_t *next);
/* A step of a unit as it is before its refs and its kernel; its number is only known once
 * select.c has added packing steps before it, so lifetimes are noted at the end (memory.c). */
rc_step rc_lower_step(const rc_facts *f, int32_t u, rc_pass pass);
rc_status rc_lower_buffer(rc_plan *p, int64_t bytes, int32_t *out, rc_error *err);
int64_t rc_value_bytes(const rc_facts *f, rc_value v);
rc_ref rc_data_ref(const rc_facts *f, rc_value v);
rc_status rc_planning_failed(rc_error *err); /* RC_MEMORY */
/* updates.c */
rc_status rc_lower_sources(rc_facts *f, rc_error *err);
rc_status rc_lower_untouched(rc_facts *f, rc_error *err);
rc_status rc_lower_updates(rc_facts *f, rc_error *err);
rc_status rc_lower_commits(rc_facts *f, rc_error *err);

#endif
