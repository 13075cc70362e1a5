/* Labels of a batch, checked before anything runs: operations cannot see values when shapes are
 * inferred, and kernels cannot fail. */
#ifndef RC_LABELS_H
#define RC_LABELS_H

#include "base/base.h"

/* RC_ARGUMENT unless every label is in [0, classes) (classes 0: only >= 0), and, where needs_two
 * (a triplet loss), there are two different ones. labels: n. */
rc_status rc_labels_check(const int64_t *labels, int64_t n, int64_t classes, bool needs_two,
                          rc_error *err);

#endif
