/* Which kernel of a list runs a convolution: what a table of measurements says, else the lists' rule
 * (docs/tuning.md). Nothing is measured here. The choice depends on the shape alone, never on the
 * number of threads. One table for the process; plans keep the kernels that they were made with. */
#ifndef RC_TUNE_H
#define RC_TUNE_H

#include "cpu/cpu.h"

#define RC_TUNE_SOURCE 320

typedef struct rc_tune_result {
    int64_t taken, ignored; /* entries */
    char notes[1024];       /* those ignored, by line and reason, as far as they fit */
} rc_tune_result;

/* Puts a table in force, in the place of the one before, which stays if this fails. text: the whole
 * of a file as docs/tuning.md describes it, or NULL for the rule alone. source: where it is from, in
 * a few words; NULL, where there is no text: nobody chose the rule. version: of this package, which
 * the table must name; NULL: any.
 * RC_ARGUMENT: no table, another version, another CPU, a line that cannot be read. */
rc_status rc_tune_set(const char *text, const char *source, const char *version,
                      rc_tune_result *out, rc_error *err);

/* What is in force, as "user table …, 24 choices" or "a rule (unmeasured on this CPU)". */
void rc_tune_describe(char out[RC_TUNE_SOURCE]);

/* The kernel of a list (NULL: none takes the shape). A table's entry holds for its batch size and for
 * those that are nearer to it than to another entry's of the same layer. */
const rc_conv_kernel *rc_conv_choose(const rc_conv_kernel *const *list, const rc_conv_shape *s);

#endif
