/* Convolution of bytes by itself, for tests/kernels and benchmarks/bench_conv.py. Private names. */
#include "py/py.h"

#include <string.h>

#include "cpu/int8.h"

static const rc_isa levels[] = {RC_ISA_AMX,       RC_ISA_AVX512_VNNI, RC_ISA_AVX2_VNNI,
                                RC_ISA_AVX2,      RC_ISA_GENERIC};
#define N_LEVELS ((int)(sizeof levels / sizeof levels[0]))

static PyObject *
int8_levels(PyObject *self, PyObject *Py_UNUSED(none))
{
    (void)self;
    PyObject *names = PyList_New(0); /* new */
    for (int i = 0; names && i < N_LEVELS; i++) {
        if (!rc_isa_runs(levels[i])) {
            continue;
        }
        PyObject *name = PyUnicode_FromString(rc_isa_name(levels[i])); /* new */
        if (!name || PyList_Append(names, name) < 0) {
            Py_CLEAR(names);
        }
        Py_XDECREF(name);
    }
    return names;
}

/* Data of a C array of this type and so many elements, or NULL. */
static void *
data_of(PyObject *object, const char *what, int type, int64_t count, bool writable)
{
    PyArrayObject *array = (PyArrayObject *)object;
    if (!PyArray_Check(object) || PyArray_TYPE(array) != type || !PyArray_IS_C_CONTIGUOUS(array)
        || !PyArray_ISALIGNED(array) || (writable && !PyArray_ISWRITEABLE(array))
        || PyArray_SIZE(array) != count) {
        PyErr_Format(PyExc_ValueError, "%s: expected a C array of %lld elements of type %d", what,
                     (long long)count, type);
        return NULL;
    }
    return PyArray_DATA(array);
}

static PyObject *
int8_conv(PyObject *self, PyObject *args, PyObject *keywords)
{
    (void)self;
    static char *names[] = {"level", "shape", "x", "zero", "w", "factor", "scale", "bias", "out", "residual",
                            "residual_scale", "act", "slope", "out_zero", "threads", "repeat", NULL};
    const char *level;
    rc_conv_shape s;
    PyObject *x, *w, *factor, *scale, *bias, *out, *residual = Py_None;
    int zero, act = 0, threads = 1, repeat = 1;
    rc_int8_epilogue e = {0};
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "sO&OiOOOOO|Ofiffii", names, &level,
                                     rc_py_conv_shape, &s, &x, &zero, &w, &factor, &scale, &bias, &out,
                                     &residual, &e.residual_scale, &act, &e.slope, &e.zero,
                                     &threads, &repeat)) {
        return NULL;
    }
    rc_isa isa = RC_ISA_GENERIC;
    bool known = false;
    for (int i = 0; i < N_LEVELS; i++) {
        if (!strcmp(level, rc_isa_name(levels[i])) && rc_isa_runs(levels[i])) {
            isa = levels[i];
            known = true;
        }
    }
    const char *reason = rc_int8_conv_refuse(&s);
    if (!known || reason) {
        PyErr_Format(PyExc_ValueError, "%s: %s", level, known ? reason : "not on this machine");
        return NULL;
    }
    int64_t ny = s.n * s.oh * s.ow * s.k;
    e.act = (rc_act)act;
    e.to_float = PyArray_Check(out) && PyArray_TYPE((PyArrayObject *)out) == NPY_FLOAT32;
    const uint8_t *px = data_of(x, "x", NPY_UINT8, s.n * s.h * s.w * s.c, false);
    const float *pw = px ? data_of(w, "w", NPY_FLOAT32, s.k * s.c * s.kh * s.kw, false) : NULL;
    const float *pf = pw ? data_of(factor, "factor", NPY_FLOAT32, s.k, false) : NULL;
    void *y = pf ? data_of(out, "out", e.to_float ? NPY_FLOAT32 : NPY_UINT8, ny, true) : NULL;
    e.scale = y ? data_of(scale, "scale", NPY_FLOAT32, s.k, false) : NULL;
    e.bias = e.scale ? data_of(bias, "bias", NPY_FLOAT32, s.k, false) : NULL;
    if (e.bias && residual != Py_None) {
        e.residual = data_of(residual, "residual", NPY_UINT8, ny, false);
    }
    if (!e.bias || (residual != Py_None && !e.residual)) {
        return NULL;
    }
    enum { ZONE = 64 }; /* bytes behind what the kernels may use, looked at afterwards */
    int64_t packed_size = rc_int8_conv_packed_size(isa, &s);
    int64_t scratch_size = rc_int8_conv_scratch_size(isa, &s, threads);
    int8_t *packed = rc_alloc(packed_size + ZONE, 1);
    int32_t *sums = rc_alloc(s.k, sizeof *sums);
    uint8_t *scratch = rc_alloc(scratch_size + ZONE, 1);
    if (!packed || !scratch || !sums) {
        rc_free(sums);
        rc_free(packed);
        rc_free(scratch);
        return PyErr_NoMemory();
    }
    memset(packed + packed_size, 0x5a, ZONE);
    memset(scratch + scratch_size, 0x5a, ZONE);
    double best = 1e30;
    rc_int8_conv_args run = {px, (uint8_t)zero, packed, &e, y, scratch, threads};
    Py_BEGIN_ALLOW_THREADS
    rc_int8_conv_pack(isa, &s, pw, pf, packed, sums, threads);
    for (int i = 0; i < repeat; i++) {
        double start = rc_py_clock(threads);
        rc_int8_conv_run(isa, &s, &run);
        double seconds = rc_py_clock(threads) - start;
        best = seconds < best ? seconds : best;
    }
    Py_END_ALLOW_THREADS
    bool intact = true;
    for (int i = 0; i < ZONE; i++) {
        intact = intact && packed[packed_size + i] == 0x5a && scratch[scratch_size + i] == 0x5a;
    }
    rc_free(sums);
    rc_free(packed);
    rc_free(scratch);
    if (!intact) {
        PyErr_Format(PyExc_RuntimeError, "%s wrote past its scratch or packed weights",
                     rc_int8_conv_name(isa, &s));
        return NULL;
    }
    return PyFloat_FromDouble(best);
}

static PyMethodDef methods[] = {
    {"_int8_levels", int8_levels, METH_NOARGS,
     "_int8_levels(): instruction sets with kernels for bytes that run here, best first (tests)."},
    {"_int8_conv", (PyCFunction)(void (*)(void))int8_conv, METH_VARARGS | METH_KEYWORDS,
     "_int8_conv(level, shape, x, zero, w, factor, scale, bias, out, ...): pack and run; seconds (tests)."},
    {NULL, NULL, 0, NULL},
};

int
rc_py_add_int8(PyObject *module)
{
    return PyModule_AddFunctions(module, methods);
}
