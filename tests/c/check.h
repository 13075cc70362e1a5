/* The smallest of test harnesses: CHECK counts, main prints and exits non-zero on a failure. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int checks, failures;

#define CHECK(condition)                                                          \
    do {                                                                          \
        checks++;                                                                 \
        if (!(condition)) {                                                       \
            failures++;                                                           \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);       \
        }                                                                         \
    } while (0)

#define REPORT()                                                                  \
    (printf("%s: %d passed, %d failed\n", __FILE__, checks - failures, failures), \
     failures ? 1 : 0)

#endif
