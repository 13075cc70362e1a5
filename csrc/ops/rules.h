/* Checks that shape rules share. Each returns RC_OK or fails in plain words: the operation,
 * which input, what was expected, what came. Used in the float build only (RC_RULES). */
#ifndef RC_RULES_H
#define RC_RULES_H

#include "graph/op.h"

/* xs[i] is there (not RC_NONE) and of rank `rank`; layout: "N x C x H x W". */
static inline rc_status
rc_rule_rank(const char *op, const char *input, const rc_shape *s, int rank, const char *layout,
             rc_error *err)
{
    char text[64];
    if (s->rank == 0) {
        return rc_fail(err, RC_ARGUMENT, "%s: %s is missing, expected %s", op, input, layout);
    }
    if (s->rank != rank) {
        return rc_fail(err, RC_ARGUMENT, "%s: %s: expected %s, got %s", op, input, layout,
                       rc_shape_text(s, text));
    }
    return RC_OK;
}

static inline rc_status
rc_rule_there(const char *op, const char *input, const rc_shape *s, rc_error *err)
{
    if (s->rank == 0) {
        return rc_fail(err, RC_ARGUMENT, "%s: %s is missing", op, input);
    }
    return RC_OK;
}

/* A vector of `count` values. */
static inline rc_status
rc_rule_vector(const char *op, const char *input, const rc_shape *s, int64_t count,
               rc_error *err)
{
    char text[64];
    if (s->rank != 1 || s->d[0] != count) {
        return rc_fail(err, RC_ARGUMENT, "%s: %s: expected %lld values, got %s", op, input,
                       (long long)count, rc_shape_text(s, text));
    }
    return RC_OK;
}

static inline rc_status
rc_rule_equal(const char *op, const char *input, const rc_shape *s, const rc_shape *expected,
              rc_error *err)
{
    char got[64], wanted[64];
    if (!rc_shape_equal(s, expected)) {
        return rc_fail(err, RC_ARGUMENT, "%s: %s: expected %s, got %s", op, input,
                       rc_shape_text(expected, wanted), rc_shape_text(s, got));
    }
    return RC_OK;
}

/* An integer attribute within [low, high]. */
static inline rc_status
rc_rule_int(const char *op, const char *name, int64_t value, int64_t low, int64_t high,
            rc_error *err)
{
    if (value < low || value > high) {
        return high == INT64_MAX
                   ? rc_fail(err, RC_ARGUMENT, "%s: %s: expected at least %lld, got %lld", op,
                             name, (long long)low, (long long)value)
                   : rc_fail(err, RC_ARGUMENT, "%s: %s: expected %lld to %lld, got %lld", op,
                             name, (long long)low, (long long)high, (long long)value);
    }
    return RC_OK;
}

/* act and slope: sigmoid only where `sigmoid`. Backward reads the sign of y, hence slope >= 0. */
static inline rc_status
rc_rule_act(const char *op, const rc_attrs *a, bool sigmoid, rc_error *err)
{
    RC_TRY(rc_rule_int(op, "act", a->act, RC_ACT_NONE,
                       sigmoid ? RC_ACT_SIGMOID : RC_ACT_LEAKY_RELU, err));
    if (a->act == RC_ACT_LEAKY_RELU && !(a->slope >= 0 && a->slope <= 1)) {
        return rc_fail(err, RC_ARGUMENT, "%s: slope: expected 0 to 1, got %g", op, a->slope);
    }
    return RC_OK;
}

/* Every dimension at least 1 (a batch of none is stopped before plans are made). */
static inline rc_status
rc_rule_not_empty(const char *op, const char *input, const rc_shape *s, rc_error *err)
{
    char text[64];
    if (rc_shape_count(s) <= 0) {
        return rc_fail(err, RC_ARGUMENT, "%s: %s is empty: %s", op, input,
                       rc_shape_text(s, text));
    }
    return RC_OK;
}

#endif
