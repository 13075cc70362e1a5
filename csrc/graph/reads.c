/* The usual answers to "what does your backward read?", so that an operation says it in a word
 * (graph/op.h). */
#include "graph/op.h"

uint32_t
rc_reads_nothing(const rc_attrs *a, int n_in, const rc_shape *xs, uint32_t wants, bool training)
{
    (void)a, (void)n_in, (void)xs, (void)wants, (void)training;
    return 0;
}

uint32_t
rc_reads_result(const rc_attrs *a, int n_in, const rc_shape *xs, uint32_t wants, bool training)
{
    (void)a, (void)n_in, (void)xs, (void)wants, (void)training;
    return RC_READS_Y;
}

uint32_t
rc_reads_first(const rc_attrs *a, int n_in, const rc_shape *xs, uint32_t wants, bool training)
{
    (void)a, (void)n_in, (void)xs, (void)wants, (void)training;
    return RC_READS(0);
}

uint32_t
rc_reads_both(const rc_attrs *a, int n_in, const rc_shape *xs, uint32_t wants, bool training)
{
    (void)a, (void)n_in, (void)xs, (void)wants, (void)training;
    return RC_READS(0) | RC_READS(1);
}

uint32_t
rc_reads_other(const rc_attrs *a, int n_in, const rc_shape *xs, uint32_t wants, bool training)
{
    (void)a, (void)n_in, (void)xs, (void)training;
    return (wants & RC_READS(0) ? RC_READS(1) : 0) | (wants & RC_READS(1) ? RC_READS(0) : 0);
}
