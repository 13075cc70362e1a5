/* The matrix kernels one by one, for tests/kernels and benchmarks/bench_conv.py. Private names:
 * not part of the public interface. Arrays are float32, C-contiguous, in the kernels' layouts. */
#define _GNU_SOURCE
#include "py/py.h"

#include <time.h>

/* One thread is timed by its own processor time, so that other processes disturb it little;
 * several by the clock. */
double
rc_py_clock(int threads)
{
    if (threads > 1) {
        return rc_seconds();
    }
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static const rc_conv_kernel *const *
kernels_of(const char *pass, rc_element element)
{
    if (!strcmp(pass, "fwd")) {
        return rc_conv_fwd_kernels(element);
    }
    if (!strcmp(pass, "bwd_x")) {
        return rc_conv_bwd_x_kernels(element);
    }
    if (!strcmp(pass, "bwd_w")) {
        return rc_conv_bwd_w_kernels(element);
    }
    PyErr_Format(PyExc_ValueError, "pass: expected fwd, bwd_x or bwd_w, got '%s'", pass);
    return NULL;
}

static const rc_conv_kernel *
kernel_named(const char *name)
{
    const rc_conv_kernel *kernel = rc_conv_kernel_named(name);
    if (!kernel) {
        PyErr_Format(PyExc_ValueError, "kernel: none is called '%s' here", name);
    }
    return kernel;
}

int
rc_py_conv_shape(PyObject *object, void *address)
{
    rc_conv_shape *s = address;
    long long v[10];
    if (!PyTuple_Check(object)
        || !PyArg_ParseTuple(object, "LLLLLLLLLL", v, v + 1, v + 2, v + 3, v + 4, v + 5, v + 6,
                             v + 7, v + 8, v + 9)) {
        PyErr_SetString(PyExc_ValueError, "shape: expected (n,h,w,c,k,kh,kw,stride,pad,groups)");
        return 0;
    }
    int64_t sizes[10];
    for (int i = 0; i < 10; i++) {
        sizes[i] = v[i];
    }
    if (!rc_conv_shape_make(sizes, s)) {
        PyErr_SetString(PyExc_ValueError, "shape: not a convolution");
        return 0;
    }
    return 1;
}

/* Borrowed data of a writable or readable float32 C array of `count` floats, or NULL. */
static float *
floats(PyObject *object, const char *what, int64_t count, bool writable)
{
    PyArrayObject *array = (PyArrayObject *)object;
    if (!PyArray_Check(object) || PyArray_TYPE(array) != NPY_FLOAT32
        || !PyArray_IS_C_CONTIGUOUS(array) || !PyArray_ISALIGNED(array)
        || (writable && !PyArray_ISWRITEABLE(array)) || PyArray_SIZE(array) != count) {
        PyErr_Format(PyExc_ValueError, "%s: expected a float32 C array of %lld elements", what,
                     (long long)count);
        return NULL;
    }
    return PyArray_DATA(array);
}

/* The same of uint16, the bits of bf16, where the kernel takes those. */
static void *
elements(PyObject *object, const char *what, int64_t count, rc_element element, bool writable)
{
    PyArrayObject *array = (PyArrayObject *)object;
    if (element == RC_REAL) {
        return floats(object, what, count, writable);
    }
    if (!PyArray_Check(object) || PyArray_TYPE(array) != NPY_UINT16
        || !PyArray_IS_C_CONTIGUOUS(array) || (writable && !PyArray_ISWRITEABLE(array))
        || PyArray_SIZE(array) != count) {
        PyErr_Format(PyExc_ValueError, "%s: expected a uint16 C array of %lld elements", what,
                     (long long)count);
        return NULL;
    }
    return PyArray_DATA(array);
}

static PyObject *
conv_kernels(PyObject *self, PyObject *args)
{
    (void)self;
    const char *pass;
    rc_conv_shape s;
    PyObject *shape = NULL;
    int bf16 = 0;
    if (!PyArg_ParseTuple(args, "s|Op", &pass, &shape, &bf16)) {
        return NULL;
    }
    if (shape && !rc_py_conv_shape(shape, &s)) {
        return NULL;
    }
    const rc_conv_kernel *const *kernels = kernels_of(pass, bf16 ? RC_BF16 : RC_REAL);
    PyObject *names = kernels ? PyList_New(0) : NULL; /* new */
    const rc_conv_kernel *chosen = names && shape ? rc_conv_choose(kernels, &s) : NULL;
    for (; names && *kernels; kernels++) {
        if (shape && (*kernels)->refuse(&s)) {
            continue;
        }
        PyObject *name = PyUnicode_FromString((*kernels)->name); /* new */
        if (!name || PyList_Insert(names, *kernels == chosen ? 0 : PyList_GET_SIZE(names), name) < 0) {
            Py_CLEAR(names);
        }
        Py_XDECREF(name);
    }
    return names;
}

static PyObject *
conv_run(PyObject *self, PyObject *args, PyObject *keywords)
{
    (void)self;
    static char *names[] = {"kernel", "shape", "a", "b", "out", "scale", "bias", "residual",
                            "act", "slope", "add", "threads", "repeat", NULL};
    const char *name;
    rc_conv_shape s;
    PyObject *a, *b, *out, *scale = Py_None, *bias = Py_None, *residual = Py_None;
    int act = 0, add = 0, threads = 1, repeat = 1;
    float slope = 0;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "sO&OOO|OOOifpii", names, &name, rc_py_conv_shape,
                                     &s, &a, &b, &out, &scale, &bias, &residual, &act, &slope,
                                     &add, &threads, &repeat)) {
        return NULL;
    }
    const rc_conv_kernel *kernel = kernel_named(name);
    if (!kernel) {
        return NULL;
    }
    const char *reason = kernel->refuse(&s);
    if (reason) {
        PyErr_Format(PyExc_ValueError, "%s: %s", name, reason);
        return NULL;
    }
    bool fwd = strstr(name, "_fwd_") != NULL, bwd_w = strstr(name, "_bwd_w_") != NULL;
    int64_t nx = s.n * s.h * s.w * s.c, ny = s.n * s.oh * s.ow * s.k;
    int64_t nw = s.k * (s.c / s.groups) * s.kh * s.kw;
    rc_element element = kernel->element, of_b = bwd_w ? element : RC_REAL;
    void *pa = elements(a, "a", fwd ? nx : ny, element, false);
    void *pb = pa ? elements(b, "b", bwd_w ? nx : nw, of_b, false) : NULL;
    void *po = pb ? elements(out, "out", fwd ? ny : bwd_w ? nw : nx, bwd_w ? RC_REAL : element,
                             true) : NULL;
    float *ps = NULL;
    rc_epilogue e = {.act = (rc_act)act, .slope = slope};
    if (!po || (scale != Py_None && !(ps = floats(scale, "scale", s.k, false)))
        || (bias != Py_None && !(e.bias = floats(bias, "bias", s.k, false)))
        || (residual != Py_None
            && !(e.residual = elements(residual, "residual", ny, element, false)))) {
        return NULL;
    }
    int64_t packed_size = kernel->packed_size(&s), scratch_size = kernel->scratch_size(&s, threads);
    float *packed = rc_alloc(packed_size + 1, sizeof(float));
    float *scratch = rc_alloc(scratch_size + 16, sizeof(float));
    if (!packed || !scratch) {
        rc_free(packed);
        rc_free(scratch);
        return PyErr_NoMemory();
    }
    packed[packed_size] = 12345.0f; /* canaries: the kernels keep to their sizes */
    for (int i = 0; i < 16; i++) {
        scratch[scratch_size + i] = 12345.0f;
    }
    double best = 1e30, pack_time = 0;
    Py_BEGIN_ALLOW_THREADS
    if (packed_size) {
        pack_time = rc_py_clock(threads);
        kernel->pack(&s, pb, ps, packed, threads);
        pack_time = rc_py_clock(threads) - pack_time;
        pb = packed;
    }
    bool plain = !fwd || (!e.bias && !e.residual && e.act == RC_ACT_NONE);
    for (int i = 0; i < repeat; i++) {
        double start = rc_py_clock(threads);
        kernel->run(&s, pa, pb, plain ? NULL : &e, add, po, scratch, threads);
        double seconds = rc_py_clock(threads) - start;
        best = seconds < best ? seconds : best;
    }
    Py_END_ALLOW_THREADS
    bool intact = packed[packed_size] == 12345.0f;
    for (int i = 0; i < 16; i++) {
        intact = intact && scratch[scratch_size + i] == 12345.0f;
    }
    rc_free(packed);
    rc_free(scratch);
    if (!intact) {
        PyErr_Format(PyExc_RuntimeError, "%s wrote past its scratch or packed weights", name);
        return NULL;
    }
    return Py_BuildValue("{s:d,s:d,s:L,s:L}", "seconds", best, "pack_seconds", pack_time,
                         "packed", (long long)packed_size, "scratch", (long long)scratch_size);
}

static PyObject *
gemm(PyObject *self, PyObject *args, PyObject *keywords)
{
    (void)self;
    static char *names[] = {"shape", "a", "b", "c", "trans_a", "trans_b", "lda", "ldb", "ldc",
                            "strides", "bias", "residual", "act", "slope", "add", "threads",
                            "repeat", NULL};
    long long batch, m, n, k, lda, ldb, ldc, stride_a, stride_b, stride_c;
    PyObject *a, *b, *c, *bias = Py_None, *residual = Py_None;
    int trans_a, trans_b, act = 0, add = 0, threads = 1, repeat = 1;
    float slope = 0;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "(LLLL)OOOppLLL(LLL)|OOifpii", names, &batch,
                                     &m, &n, &k, &a, &b, &c, &trans_a, &trans_b, &lda, &ldb, &ldc,
                                     &stride_a, &stride_b, &stride_c, &bias, &residual, &act,
                                     &slope, &add, &threads, &repeat)) {
        return NULL;
    }
    rc_gemm_shape s = {batch, m, n, k, lda, ldb, ldc, stride_a, stride_b, stride_c, trans_a,
                       trans_b};
    int64_t rows_a = trans_a ? k : m, rows_b = trans_b ? n : k;
    int64_t na = (batch - 1) * stride_a + rows_a * lda, nb = (batch - 1) * stride_b + rows_b * ldb;
    int64_t nc = (batch - 1) * stride_c + m * ldc;
    float *pa = floats(a, "a", na, false), *pb = pa ? floats(b, "b", nb, false) : NULL;
    float *pc = pb ? floats(c, "c", nc, true) : NULL;
    rc_epilogue e = {.act = (rc_act)act, .slope = slope};
    if (!pc || (bias != Py_None && !(e.bias = floats(bias, "bias", n, false)))
        || (residual != Py_None && !(e.residual = floats(residual, "residual", nc, false)))) {
        return NULL;
    }
    int64_t scratch_size = rc_gemm_scratch(&s, threads);
    float *scratch = rc_alloc(scratch_size + 1, sizeof(float));
    if (!scratch) {
        return PyErr_NoMemory();
    }
    scratch[scratch_size] = 12345.0f;
    bool plain = !e.bias && !e.residual && e.act == RC_ACT_NONE;
    double best = 1e30;
    Py_BEGIN_ALLOW_THREADS
    for (int i = 0; i < repeat; i++) {
        double start = rc_py_clock(threads);
        rc_gemm(&s, pa, pb, plain ? NULL : &e, add, pc, scratch, threads);
        double seconds = rc_py_clock(threads) - start;
        best = seconds < best ? seconds : best;
    }
    Py_END_ALLOW_THREADS
    bool intact = scratch[scratch_size] == 12345.0f;
    rc_free(scratch);
    if (!intact) {
        PyErr_SetString(PyExc_RuntimeError, "rc_gemm wrote past its scratch");
        return NULL;
    }
    return PyFloat_FromDouble(best);
}

typedef struct peak_job {
    double flops[RC_MAX_THREADS];
} peak_job;

static void
peak_task(void *context, int64_t i, int worker)
{
    (void)worker;
    float sink = 1e-3f;
    ((peak_job *)context)->flops[i] = rc_cpu_peak(400000, &sink);
}

static PyObject *
peak(PyObject *self, PyObject *args)
{
    (void)self;
    int threads;
    if (!PyArg_ParseTuple(args, "i", &threads)) {
        return NULL;
    }
    threads = threads < 1 ? 1 : threads > RC_MAX_THREADS ? RC_MAX_THREADS : threads;
    peak_job job;
    double best = 0;
    Py_BEGIN_ALLOW_THREADS
    for (int round = 0; round < 5; round++) {
        double start = rc_py_clock(threads), flops = 0;
        rc_parallel(threads, threads, peak_task, &job);
        double seconds = rc_py_clock(threads) - start;
        for (int i = 0; i < threads; i++) {
            flops += job.flops[i];
        }
        best = flops / seconds > best ? flops / seconds : best;
    }
    Py_END_ALLOW_THREADS
    return PyFloat_FromDouble(best);
}

static PyMethodDef methods[] = {
    {"_conv_kernels", conv_kernels, METH_VARARGS,
     "_conv_kernels(pass, shape=None, bf16=False): names, best first; of those that take the\n"
     "shape, the chosen one first (tests, tuning)."},
    {"_conv_run", (PyCFunction)(void (*)(void))conv_run, METH_VARARGS | METH_KEYWORDS,
     "_conv_run(kernel, shape, a, b, out, ...): pack and run one kernel (tests)."},
    {"_gemm", (PyCFunction)(void (*)(void))gemm, METH_VARARGS | METH_KEYWORDS,
     "_gemm((batch,m,n,k), a, b, c, trans_a, trans_b, lda, ldb, ldc, strides, ...): seconds."},
    {"_peak", peak, METH_VARARGS, "_peak(threads): measured float32 operations a second."},
    {NULL, NULL, 0, NULL},
};

int
rc_py_add_cpu(PyObject *module)
{
    return PyModule_AddFunctions(module, methods);
}
