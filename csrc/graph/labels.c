/* The rules for labels: in range, and two identities where a loss needs a negative. */
#include "graph/labels.h"

rc_status
rc_labels_check(const int64_t *labels, int64_t n, int64_t classes, bool needs_two, rc_error *err)
{
    bool differ = false;
    for (int64_t i = 0; i < n; i++) {
        if (labels[i] < 0) {
            return rc_fail(err, RC_ARGUMENT, "labels: expected values from 0 on, got %lld at "
                           "position %lld", (long long)labels[i], (long long)i);
        }
        if (classes > 0 && labels[i] >= classes) {
            return rc_fail(err, RC_ARGUMENT, "labels: expected 0..%lld (%lld classes), got %lld "
                           "at position %lld", (long long)classes - 1, (long long)classes,
                           (long long)labels[i], (long long)i);
        }
        differ = differ || labels[i] != labels[0];
    }
    if (needs_two && !differ) {
        return rc_fail(err, RC_ARGUMENT, "labels: the triplet loss needs at least two "
                       "identities in a batch, got %s", n == 0 ? "none" : "one");
    }
    return RC_OK;
}
