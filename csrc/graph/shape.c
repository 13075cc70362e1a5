/* Shapes compared and put into words: what shape rules and the builder share. */
#include "graph/graph.h"

#include <stdio.h>

bool
rc_shape_equal(const rc_shape *a, const rc_shape *b)
{
    if (a->rank != b->rank) {
        return false;
    }
    for (int i = 0; i < a->rank; i++) {
        if (a->d[i] != b->d[i]) {
            return false;
        }
    }
    return true;
}

const char *
rc_shape_text(const rc_shape *s, char text[64])
{
    size_t used = 0;
    if (s->rank == 0) {
        snprintf(text, 64, "nothing");
    }
    for (int i = 0; i < s->rank && used < 63; i++) { /* a longer text is cut, never overrun */
        int wrote = snprintf(text + used, 64 - used, i ? "x%lld" : "%lld", (long long)s->d[i]);
        used += wrote > 0 ? (size_t)wrote : 0;
    }
    return text;
}
