/* Errors are values: a code and a sentence, filled where the fault is seen. */
#include "base/base.h"

#include <stdarg.h>
#include <stdio.h>

rc_status
rc_fail(rc_error *err, rc_status code, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        err->code = code;
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
    }
    return code;
}
