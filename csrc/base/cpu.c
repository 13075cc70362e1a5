/* What the CPU can do and the operating system saves. Compiled with base flags only. */
#define _GNU_SOURCE
#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    rc_isa isa;
    const char *name;
} names[] = {
    {RC_ISA_GENERIC, "generic"},         {RC_ISA_AVX2, "avx2"},
    {RC_ISA_AVX2_VNNI, "avx2_vnni"},     {RC_ISA_AVX512, "avx512"},
    {RC_ISA_AVX512_VNNI, "avx512_vnni"}, {RC_ISA_AVX512_BF16, "avx512_bf16"},
    {RC_ISA_AMX, "amx"},
};
#define N_NAMES ((int)(sizeof names / sizeof names[0]))

static char problem[128]; /* lint: mutable static, written once with `level` */

const char *
rc_isa_name(rc_isa isa)
{
    for (int i = 0; i < N_NAMES; i++) {
        if (names[i].isa == isa) {
            return names[i].name;
        }
    }
    return "unknown";
}

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define ASK_FOR_STATE 0x1023 /* of arch_prctl: may this process use … */
#define TILE_DATA 18         /* … AMX's registers, which the system saves for those who ask */

static uint64_t
saved_state(void) /* XCR0: the registers that the system saves on a switch */
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return ((uint64_t)high << 32) | low;
}

static bool
may_use_tiles(void)
{
#if defined(__linux__)
    return syscall(SYS_arch_prctl, ASK_FOR_STATE, TILE_DATA) == 0;
#else
    return false;
#endif
}

/* CPUs with AVX-512 do not all have the short form of its dot products. */
static bool
has_avx_vnni(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

rc_isa
rc_isa_probe(void)
{
    unsigned a, b, c, d, b7, c7, d7, a71;
    if (!__get_cpuid(1, &a, &b, &c, &d)) {
        return RC_ISA_GENERIC;
    }
    bool fma = c >> 12 & 1, osxsave = c >> 27 & 1, avx = c >> 28 & 1;
    if (!osxsave || !avx || !fma || (saved_state() & 0x6) != 0x6) {
        return RC_ISA_GENERIC;
    }
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7) || !(b7 >> 5 & 1)) {
        return RC_ISA_GENERIC;
    }
    if (!__get_cpuid_count(7, 1, &a71, &b, &c, &d)) {
        a71 = 0;
    }
    bool f = b7 >> 16 & 1, dq = b7 >> 17 & 1, bw = b7 >> 30 & 1, vl = b7 >> 31 & 1;
    if (!(f && dq && bw && vl) || (saved_state() & 0xe6) != 0xe6) {
        return has_avx_vnni() ? RC_ISA_AVX2_VNNI : RC_ISA_AVX2;
    }
    if (!(c7 >> 11 & 1)) {
        return RC_ISA_AVX512;
    }
    if (!(a71 >> 5 & 1)) {
        return RC_ISA_AVX512_VNNI;
    }
    bool amx = (d7 >> 24 & 1) && (d7 >> 25 & 1) && (d7 >> 22 & 1);
    bool saved = (saved_state() & 0x60000) == 0x60000;
    return amx && saved && may_use_tiles() ? RC_ISA_AMX : RC_ISA_AVX512_BF16;
}
#else
static bool
has_avx_vnni(void)
{
    return false;
}

rc_isa
rc_isa_probe(void)
{
    return RC_ISA_GENERIC;
}
#endif

static rc_isa
choose(void)
{
    rc_isa level = rc_isa_probe();
    const char *wish = getenv("REIDC_CPU");
    if (!wish || !*wish) {
        return level;
    }
    for (int i = 0; i < N_NAMES; i++) {
        if (!strcmp(names[i].name, wish)) {
            rc_isa isa = names[i].isa < level ? names[i].isa : level;
            return isa == RC_ISA_AVX2_VNNI && !has_avx_vnni() ? RC_ISA_AVX2 : isa;
        }
    }
    snprintf(problem, sizeof problem,
             "REIDC_CPU: expected generic, avx2, avx2_vnni, avx512, avx512_vnni, "
             "avx512_bf16 or amx, got '%.20s'", wish);
    return level;
}

rc_isa
rc_isa_get(void)
{
    static int level = -1; /* lint: mutable static, the same value whoever writes it first */
    if (level < 0) {
        level = (int)choose();
    }
    return (rc_isa)level;
}

bool
rc_isa_runs(rc_isa isa)
{
    return isa <= rc_isa_get() && (isa != RC_ISA_AVX2_VNNI || has_avx_vnni());
}

const char *
rc_isa_problem(void)
{
    (void)rc_isa_get();
    return problem[0] ? problem : NULL;
}

void
rc_cpu_model(char out[RC_CPU_MODEL])
{
    char vendor[16] = "unknown";
    unsigned family = 0, model = 0;
#if defined(__x86_64__)
    unsigned a, b, c, d;
    if (__get_cpuid(0, &a, &b, &c, &d)) {
        const unsigned words[3] = {b, d, c};
        memcpy(vendor, words, sizeof words);
        vendor[sizeof words] = 0;
    }
    for (char *v = vendor; *v; v++) { /* a file is named by it */
        bool plain = (*v >= 'a' && *v <= 'z') || (*v >= 'A' && *v <= 'Z');
        *v = plain ? *v : '_';
    }
    if (__get_cpuid(1, &a, &b, &c, &d)) {
        family = a >> 8 & 15;
        model = (a >> 4 & 15) | (family == 6 || family == 15 ? a >> 12 & 0xf0 : 0);
        family += family == 15 ? a >> 20 & 255 : 0;
    }
#endif
    snprintf(out, RC_CPU_MODEL, "%s-%u-%u-%s", vendor, family, model, rc_isa_name(rc_isa_get()));
}
