/* reidc._core._op_run: one operation for the tests and benchmarks, run exactly as a plan runs it.
 *
 * Arrays are N x C x H x W in Python; rank 4 values (not weights) are turned to n,h,w,c and
 * back. What a plan would not provide is not provided here either: backward gets NULL for
 * inputs and y that `reads` does not name, ws is booked only in training (or when gradients
 * are wanted), outputs start as NaN, and zones around every buffer must stay untouched.
 *
 * dtype "bfloat16" takes the bf16 kernel of the operation: arrays are float32 in Python, maps and
 * their gradients are rounded on the way in. Without such a kernel everything is float32. */
#include "py/py_ops.h"

#include <string.h>

#define GUARD 256       /* bytes before and after each buffer */
#define GUARD_BYTE 0xFF /* NaN: what is read from there shows too */

/* ---- buffers with guard zones ------------------------------------------------------------- */

typedef struct buffer {
    unsigned char *block; /* owned */
    int64_t bytes;
} buffer;

static void *
buffer_new(buffer *b, int64_t bytes)
{
    b->bytes = bytes;
    b->block = rc_alloc(bytes + 2 * GUARD, 1);
    if (!b->block) {
        PyErr_NoMemory();
        return NULL;
    }
    memset(b->block, GUARD_BYTE, GUARD);
    memset(b->block + GUARD, 0xFF, (size_t)bytes); /* NaN as float or double */
    memset(b->block + GUARD + bytes, GUARD_BYTE, GUARD);
    return b->block + GUARD;
}

static int
buffer_check(const buffer *b, const char *what)
{
    for (int i = 0; b->block && i < GUARD; i++) {
        if (b->block[i] != GUARD_BYTE || b->block[GUARD + b->bytes + i] != GUARD_BYTE) {
            PyErr_Format(PyExc_RuntimeError, "kernel wrote outside %s", what);
            return -1;
        }
    }
    return 0;
}

/* ---- arrays in and out -------------------------------------------------------------------- */

static bool
is_weight(rc_op_id op, int input)
{
    return op == RC_OP_conv2d && input == 1;
}

static int
shape_from_array(PyArrayObject *array, rc_shape *s)
{
    if (PyArray_NDIM(array) < 1 || PyArray_NDIM(array) > RC_MAX_RANK) {
        PyErr_SetString(PyExc_ValueError, "expected 1 to 4 dimensions");
        return -1;
    }
    *s = (rc_shape){PyArray_NDIM(array), {1, 1, 1, 1}};
    for (int i = 0; i < s->rank; i++) {
        s->d[i] = PyArray_DIM(array, i);
    }
    return 0;
}

/* Copies between n,c,h,w and n,h,w,c; size: bytes of an element. */
static void
turn(const unsigned char *from, unsigned char *to, const rc_shape *s, size_t size, bool to_nhwc)
{
    int64_t c = s->d[1], p = s->d[2] * s->d[3];
    for (int64_t n = 0; n < s->d[0]; n++) {
        for (int64_t i = 0; i < c; i++) {
            for (int64_t j = 0; j < p; j++) {
                int64_t nchw = (n * c + i) * p + j, nhwc = (n * p + j) * c + i;
                memcpy(to + (size_t)(to_nhwc ? nhwc : nchw) * size,
                       from + (size_t)(to_nhwc ? nchw : nhwc) * size, size);
            }
        }
    }
}

/* Values of bf16 at `half`, of float at `whole`. */
static void
narrow(const float *whole, uint16_t *half, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        half[i] = rc_to_bf16(whole[i]);
    }
}

static void
load(PyArrayObject *array, void *to, const rc_shape *s, size_t size, bool plain)
{
    if (s->rank == 4 && !plain) {
        turn(PyArray_DATA(array), to, s, size, true);
    } else {
        memcpy(to, PyArray_DATA(array), (size_t)rc_shape_count(s) * size);
    }
}

static PyObject * /* new */
store_as(const void *from, const rc_shape *s, int type, size_t size, bool plain)
{
    npy_intp dims[RC_MAX_RANK];
    for (int i = 0; i < s->rank; i++) {
        dims[i] = (npy_intp)s->d[i];
    }
    PyArrayObject *array = rc_py_new_array(s->rank, dims, type);
    if (!array) {
        return NULL;
    }
    if (s->rank == 4 && !plain) {
        turn(from, PyArray_DATA(array), s, size, false);
    } else {
        memcpy(PyArray_DATA(array), from, (size_t)rc_shape_count(s) * size);
    }
    return (PyObject *)array;
}

/* ---- one run ------------------------------------------------------------------------------ */

typedef struct run {
    const rc_op *op;
    rc_op_id id;
    rc_attrs attrs;
    rc_call call;
    rc_shape xs[RC_MAX_IN];
    const rc_fast_kernel *fast;
    int real_type, real_bits; /* NPY_FLOAT or NPY_DOUBLE; index into forward[] */
    size_t real_size;
    bool is_int[RC_MAX_IN];
    bool wants[RC_MAX_IN];
    bool backward, in_place, bwd_in_place, again;
    uint64_t seed, step;
    buffer x[RC_MAX_IN], dx[RC_MAX_IN], y, y2, dy, ws, tmp, state[2];
    double seconds[2]; /* the best of `repeat` */
    int repeat;
} run;

static void
run_free(run *r)
{
    for (int i = 0; i < RC_MAX_IN; i++) {
        rc_free(r->x[i].block);
        rc_free(r->dx[i].block);
    }
    buffer *others[] = {&r->y, &r->y2, &r->dy, &r->ws, &r->tmp, &r->state[0], &r->state[1]};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        rc_free(others[i]->block);
    }
}

static bool
is_half(const run *r, const rc_shape *s)
{
    return r->fast && r->fast->element == RC_BF16 && s->rank >= 3;
}

static int64_t
bytes_of(const run *r, const rc_shape *s)
{
    return rc_shape_count(s) * (int64_t)(is_half(r, s) ? 2 : r->real_size);
}

/* Inputs that the kernel takes as bf16 become that. */
static int
narrow_inputs(run *r)
{
    for (int i = 0; i < r->call.n_in; i++) {
        if (!r->is_int[i] && is_half(r, &r->xs[i])) {
            buffer whole = r->x[i];
            r->x[i] = (buffer){0};
            void *half = buffer_new(&r->x[i], bytes_of(r, &r->xs[i]));
            if (half) {
                narrow(r->call.x[i], half, rc_shape_count(&r->xs[i]));
            }
            rc_free(whole.block);
            r->call.x[i] = half;
            if (!half) {
                return -1;
            }
        }
    }
    return 0;
}

static PyObject * /* new */
store(const run *r, const void *from, const rc_shape *s, bool plain)
{
    if (!is_half(r, s)) {
        return store_as(from, s, r->real_type, r->real_size, plain);
    }
    int64_t count = rc_shape_count(s);
    float *whole = rc_alloc(count, sizeof *whole);
    if (!whole) {
        return PyErr_NoMemory();
    }
    for (int64_t i = 0; i < count; i++) {
        whole[i] = rc_from_bf16(((const uint16_t *)from)[i]);
    }
    PyObject *array = store_as(whole, s, r->real_type, r->real_size, plain);
    rc_free(whole);
    return array;
}

static int
load_inputs(run *r, PyObject *inputs)
{
    Py_ssize_t n = PyList_Size(inputs);
    if (n < 0) {
        return -1;
    }
    if (rc_py_op_count(r->op, n) < 0) {
        return -1;
    }
    r->call.n_in = (int32_t)n;
    for (int i = 0; i < n; i++) {
        PyObject *item = PyList_GetItem(inputs, i); /* borrowed */
        if (item == Py_None) {
            continue;
        }
        r->is_int[i] = PyArray_Check(item)
                       && PyTypeNum_ISINTEGER(PyArray_TYPE((PyArrayObject *)item));
        PyArrayObject *array = (PyArrayObject *)PyArray_FROM_OTF(
            item, r->is_int[i] ? NPY_INT64 : r->real_type,
            NPY_ARRAY_IN_ARRAY | NPY_ARRAY_FORCECAST); /* new */
        if (!array) {
            return -1;
        }
        size_t size = r->is_int[i] ? 8 : r->real_size;
        void *to = NULL;
        if (shape_from_array(array, &r->xs[i]) == 0) {
            to = buffer_new(&r->x[i], rc_shape_count(&r->xs[i]) * (int64_t)size);
        }
        if (to) {
            load(array, to, &r->xs[i], size, is_weight(r->id, i));
        }
        Py_DECREF(array);
        if (!to) {
            return -1;
        }
        r->call.x[i] = to;
    }
    return 0;
}

static int
book_tmp(run *r, bool backward)
{
    rc_free(r->tmp.block);
    r->tmp = (buffer){0};
    r->call.tmp = NULL;
    bool fast = r->fast && (backward ? r->fast->backward : r->fast->forward);
    int64_t bytes = 0;
    if (fast && r->fast->tmp_size) {
        bytes = r->fast->tmp_size(&r->attrs, r->xs, &r->call.ys, backward, r->call.threads);
    } else if (!fast && r->op->tmp_size) {
        bytes = r->op->tmp_size(&r->attrs, r->xs, &r->call.ys, r->real_size, backward,
                                r->call.threads);
    }
    if (bytes > 0 && !(r->call.tmp = buffer_new(&r->tmp, bytes))) {
        return -1;
    }
    return 0;
}

static void
time_kernel(run *r, rc_kernel kernel, int pass)
{
    r->seconds[pass] = 1e30;
    for (int i = 0; i < r->repeat; i++) {
        double start = rc_py_clock(r->call.threads);
        kernel(&r->call);
        double took = rc_py_clock(r->call.threads) - start;
        r->seconds[pass] = took < r->seconds[pass] ? took : r->seconds[pass];
    }
}

static int
run_forward(run *r)
{
    rc_call *call = &r->call;
    int64_t y_bytes = r->op->y_is_int ? rc_shape_count(&call->ys) * 8 : bytes_of(r, &call->ys);
    int64_t ws = r->op->ws_size ? r->op->ws_size(&r->attrs, r->xs, &call->ys, r->real_size) : 0;
    if (ws > 0 && (call->training || r->backward) && !(call->ws = buffer_new(&r->ws, ws))) {
        return -1;
    }
    if (book_tmp(r, false) < 0) {
        return -1;
    }
    if (r->in_place) {
        call->y = (void *)call->x[0];
    } else if (!(call->y = buffer_new(&r->y, y_bytes))) {
        return -1;
    }
    rc_kernel kernel = r->fast && r->fast->forward ? r->fast->forward
                                                   : r->op->forward[r->real_bits];
    time_kernel(r, kernel, 0);
    if (r->again) { /* what a plan does that dropped y */
        call->y = buffer_new(&r->y2, y_bytes);
        if (!call->y) {
            return -1;
        }
        call->again = true;
        kernel(call);
    }
    return buffer_check(&r->y, "y") || buffer_check(&r->ws, "ws") || buffer_check(&r->tmp, "tmp")
                   || buffer_check(&r->x[0], "y")
               ? -1
               : 0;
}

static int
load_like(run *r, PyObject *object, buffer *b, const rc_shape *s, bool plain, const char *what)
{
    PyArrayObject *array = (PyArrayObject *)PyArray_FROM_OTF(
        object, r->real_type, NPY_ARRAY_IN_ARRAY | NPY_ARRAY_FORCECAST); /* new */
    rc_shape got;
    int result = -1;
    if (array && shape_from_array(array, &got) == 0) {
        if (!rc_shape_equal(&got, s)) {
            PyErr_Format(PyExc_ValueError, "%s: wrong shape", what);
        } else {
            void *to = b->block + GUARD;
            bool half = is_half(r, s);
            float *whole = half ? rc_alloc(rc_shape_count(s), sizeof *whole) : to;
            if (whole) {
                load(array, whole, s, r->real_size, plain);
                result = 0;
            } else {
                PyErr_NoMemory();
            }
            if (whole && half) {
                narrow(whole, to, rc_shape_count(s));
                rc_free(whole);
            }
        }
    }
    Py_XDECREF(array);
    return result;
}

/* start: list of starting values of dx (None: assign) or NULL. */
static int
run_backward(run *r, PyObject *dy, PyObject *start)
{
    rc_call *call = &r->call;
    rc_kernel kernel = r->fast && r->fast->backward ? r->fast->backward
                                                    : r->op->backward[r->real_bits];
    if (!kernel) {
        PyErr_Format(PyExc_ValueError, "%s has no backward", r->op->name);
        return -1;
    }
    void *to = buffer_new(&r->dy, bytes_of(r, &call->ys));
    if (!to || load_like(r, dy, &r->dy, &call->ys, false, "dy") < 0) {
        return -1;
    }
    call->dy = to;
    uint32_t wanted = 0;
    for (int i = 0; i < call->n_in; i++) {
        if (!r->wants[i]) {
            continue;
        }
        wanted |= RC_READS(i);
        PyObject *from = start ? PyList_GetItem(start, i) : Py_None; /* borrowed */
        if (!from) {
            return -1;
        }
        call->add[i] = from != Py_None;
        if (i == 0 && r->bwd_in_place && !call->add[0]) {
            call->dx[0] = to;
            continue;
        }
        call->dx[i] = buffer_new(&r->dx[i], bytes_of(r, &r->xs[i]));
        if (!call->dx[i] || (call->add[i] && load_like(r, from, &r->dx[i], &r->xs[i],
                                                       is_weight(r->id, i), "dx") < 0)) {
            return -1;
        }
    }
    uint32_t reads = r->op->reads ? r->op->reads(&r->attrs, call->n_in, r->xs, wanted,
                                                 call->training)
                                  : 0;
    const void *kept_x[RC_MAX_IN];
    void *kept_y = call->y;
    memcpy(kept_x, call->x, sizeof kept_x);
    for (int i = 0; i < call->n_in; i++) {
        if (!(reads & RC_READS(i))) {
            call->x[i] = NULL;
        }
    }
    if (!(reads & RC_READS_Y)) {
        call->y = NULL;
    }
    call->again = false;
    if (book_tmp(r, true) < 0) {
        return -1;
    }
    time_kernel(r, kernel, 1);
    memcpy(call->x, kept_x, sizeof kept_x);
    call->y = kept_y;
    for (int i = 0; i < call->n_in; i++) {
        if (buffer_check(&r->dx[i], "dx") < 0 || buffer_check(&r->x[i], "x") < 0) {
            return -1;
        }
    }
    return buffer_check(&r->dy, "dy") || buffer_check(&r->ws, "ws") || buffer_check(&r->tmp, "tmp")
               ? -1
               : 0;
}

/* Commit on copies of the running statistics (inputs 3 and 4 of batch_norm). */
static int
run_commit(run *r)
{
    for (int i = 0; i < 2; i++) {
        int64_t bytes = rc_shape_count(&r->xs[3 + i]) * (int64_t)r->real_size;
        r->call.state[i] = buffer_new(&r->state[i], bytes);
        if (!r->call.state[i]) {
            return -1;
        }
        memcpy(r->call.state[i], r->call.x[3 + i], (size_t)bytes);
    }
    r->op->commit[r->real_bits](&r->call);
    return buffer_check(&r->state[0], "state") || buffer_check(&r->state[1], "state") ? -1 : 0;
}

static int
put(PyObject *dict, const char *key, PyObject *value) /* steals value */
{
    int status = value ? PyDict_SetItemString(dict, key, value) : -1;
    Py_XDECREF(value);
    return status;
}

static PyObject * /* new */
results(run *r)
{
    rc_call *call = &r->call;
    PyObject *out = PyDict_New();
    if (!out
        || put(out, "y", r->op->y_is_int ? store_as(call->y, &call->ys, NPY_INT64, 8, false)
                                         : store(r, call->y, &call->ys, false)) < 0
        || put(out, "kernel", PyUnicode_FromString(r->fast ? r->fast->name : "reference")) < 0
        || put(out, "seconds", Py_BuildValue("(dd)", r->seconds[0], r->seconds[1])) < 0) {
        goto fail;
    }
    if (r->backward) {
        PyObject *list = PyList_New(call->n_in);
        for (int i = 0; list && i < call->n_in; i++) {
            PyObject *item = call->dx[i] ? store(r, call->dx[i], &r->xs[i], is_weight(r->id, i))
                                         : Py_NewRef(Py_None);
            if (!item) {
                Py_CLEAR(list);
                break;
            }
            PyList_SetItem(list, i, item); /* steals */
        }
        if (put(out, "dx", list) < 0) {
            goto fail;
        }
    }
    if (call->state[0]) {
        if (put(out, "state",
                Py_BuildValue("[NN]", store(r, call->state[0], &r->xs[3], true),
                              store(r, call->state[1], &r->xs[4], true))) < 0) {
            goto fail;
        }
    }
    return out;
fail:
    Py_XDECREF(out);
    return NULL;
}

PyObject *
rc_py_op_run(PyObject *self, PyObject *args, PyObject *keywords)
{
    (void)self;
    static char *names[] = {"name", "attrs", "inputs", "dtype", "dy", "dx", "wants", "training",
                            "seed", "step", "node", "threads", "kernel", "in_place",
                            "bwd_in_place", "again", "repeat", NULL};
    const char *name, *dtype = "float32", *kernel = "reference";
    PyObject *attrs, *inputs, *dy = Py_None, *dx = Py_None, *wants = Py_None;
    int training = 0, node = 0, threads = 1, in_place = 0, bwd_in_place = 0, again = 0,
        repeat = 1;
    unsigned long long seed = 0, step = 0;
    if (!PyArg_ParseTupleAndKeywords(
            args, keywords, "sO!O!|s$OOOpKKiispppi", names, &name, &PyDict_Type, &attrs,
            &PyList_Type, &inputs, &dtype, &dy, &dx, &wants, &training, &seed, &step, &node,
            &threads, &kernel, &in_place, &bwd_in_place, &again, &repeat)) {
        return NULL;
    }
    run *r = rc_alloc_zero(1, sizeof *r);
    if (!r) {
        return PyErr_NoMemory();
    }
    PyObject *out = NULL;
    rc_error err = {0};
    r->op = rc_py_op_find(name, &r->id);
    if (!r->op || rc_py_op_attrs(attrs, &r->attrs) < 0) {
        goto done;
    }
    r->real_bits = strcmp(dtype, "float64") == 0;
    r->real_type = r->real_bits ? NPY_DOUBLE : NPY_FLOAT;
    r->real_size = r->real_bits ? 8 : 4;
    r->backward = dy != Py_None;
    r->in_place = in_place;
    r->bwd_in_place = bwd_in_place;
    r->again = again;
    r->repeat = repeat;
    r->seed = seed;
    r->step = step;
    r->call = (rc_call){.attrs = &r->attrs, .xs = r->xs, .node = node, .training = training,
                        .threads = threads, .seed = &r->seed, .step = &r->step};
    if (load_inputs(r, inputs) < 0) {
        goto done;
    }
    rc_status status = r->op->infer(&r->attrs, r->call.n_in, r->xs, &r->call.ys, &err);
    if (status != RC_OK) {
        rc_py_raise(status, &err);
        goto done;
    }
    for (int i = 0; i < r->call.n_in; i++) {
        r->wants[i] = r->xs[i].rank > 0 && !r->is_int[i] && !(r->op->no_grad >> i & 1);
        if (r->wants[i] && wants != Py_None) {
            PyObject *item = PySequence_GetItem(wants, i); /* new */
            r->wants[i] = item && PyObject_IsTrue(item) == 1;
            Py_XDECREF(item);
        }
    }
    if (PyErr_Occurred()) {
        goto done;
    }
    if (strcmp(kernel, "fast") == 0 && !r->real_bits) {
        r->fast = rc_fast_find(strcmp(dtype, "bfloat16") == 0 ? RC_BF16 : RC_REAL, r->id,
                               &r->attrs, r->call.n_in, r->xs, &r->call.ys);
    }
    if (narrow_inputs(r) < 0 || run_forward(r) < 0
        || (r->backward && run_backward(r, dy, dx == Py_None ? NULL : dx) < 0)
        || (training && r->op->commit[r->real_bits] && run_commit(r) < 0)) {
        goto done;
    }
    out = results(r);
done:
    run_free(r);
    rc_free(r);
    return out;
}
