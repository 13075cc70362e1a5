/* Arguments of a network: images, labels, planes, gradients; outputs on the way back.
 *
 * Everything is checked here, before the interpreter lock is let go, in the user's words: what
 * was expected, what was given, and what is probably meant. Inputs are never written. */
#include "py/py_network.h"

#define IMAGES "uint8 N×H×W×3 or float32 N×3×height×width"

/* "8x3x256x128" of an array's shape. */
static const char *
shape_text(PyArrayObject *array, char text[160])
{
    int used = 0;
    text[0] = 0;
    for (int i = 0; i < PyArray_NDIM(array) && used < 120; i++) {
        used += PyOS_snprintf(text + used, (size_t)(160 - used), "%s%lld", i ? "×" : "",
                              (long long)PyArray_DIM(array, i));
    }
    return text;
}

/* New reference: any array, or what becomes one (a list of images, a tensor). */
static PyArrayObject *
as_array(PyObject *object, const char *what, const char *expected)
{
    if (PyArray_Check(object)) {
        return (PyArrayObject *)Py_NewRef(object);
    }
    bool list = PyList_Check(object) || PyTuple_Check(object);
    if (list || PyObject_HasAttrString(object, "__array__")) {
        PyArrayObject *array = (PyArrayObject *)PyArray_FROM_O(object); /* new */
        if (!array && list && PyErr_ExceptionMatches(PyExc_ValueError)) { /* of this and that */
            PyErr_Clear();
            rc_py_fail(RC_ARGUMENT, "%s: expected %s, got a %s whose parts differ in size", what,
                       expected, Py_TYPE(object)->tp_name);
        }
        return array;
    }
    return (PyArrayObject *)rc_py_fail(RC_TYPE, "%s: expected %s, got %s", what, expected,
                                       Py_TYPE(object)->tp_name);
}

static void
fail_dtype(PyArrayObject *array, const char *what, const char *expected)
{
    PyObject *got = PyObject_Str((PyObject *)PyArray_DESCR(array)); /* new */
    const char *text = got ? PyUnicode_AsUTF8(got) : NULL;
    if (text) {
        rc_py_fail(RC_TYPE, "%s: expected %s, got %s", what, expected, text);
    }
    Py_XDECREF(got);
}

/* The sizes of a uint8 array against N x H x W x 3. */
static bool
check_u8(PyArrayObject *array)
{
    char got[160];
    const npy_intp *d = PyArray_DIMS(array);
    if (PyArray_NDIM(array) != 4) {
        rc_py_fail(RC_ARGUMENT, "images: expected 4 dimensions, N×H×W×3, got %s%s",
                   shape_text(array, got),
                   PyArray_NDIM(array) == 3 ? " (one image is images[None])" : "");
        return false;
    }
    if (d[3] != 3) {
        rc_py_fail(RC_ARGUMENT, "images: expected uint8 N×H×W×3, got %s%s",
                   shape_text(array, got),
                   d[1] == 3 ? "; N×H×W×3? (images.transpose(0, 2, 3, 1))" : "");
        return false;
    }
    if (d[1] < 1 || d[2] < 1) {
        rc_py_fail(RC_ARGUMENT, "images: expected pixels, got %s", shape_text(array, got));
        return false;
    }
    return true;
}

/* The sizes of a float array against N x 3 x height x width. */
static bool
check_real(PyArrayObject *array, const rc_model_info *info)
{
    char got[160];
    const npy_intp *d = PyArray_DIMS(array);
    long long h = info->height, w = info->width;
    if (PyArray_NDIM(array) != 4) {
        rc_py_fail(RC_ARGUMENT,
                   "images: expected 4 dimensions, N×3×%lld×%lld, got %s%s", h, w,
                   shape_text(array, got),
                   PyArray_NDIM(array) == 3 ? " (one image is images[None])" : "");
        return false;
    }
    if (d[1] != 3 || d[2] != h || d[3] != w) {
        bool last = d[3] == 3 && d[1] == h && d[2] == w;
        rc_py_fail(RC_ARGUMENT, "images: expected float N×3×%lld×%lld, got %s%s", h,
                   w, shape_text(array, got),
                   last ? "; N×3×H×W? (images.transpose(0, 3, 1, 2))"
                        : "; only uint8 images are resized");
        return false;
    }
    return true;
}

/* The first element that is NaN or infinite, or -1. Looks at bits: no rounding, no traps. */
static int64_t
find_bad_f32(const uint32_t *bits, int64_t count)
{
    for (int64_t from = 0; from < count; from += 4096) {
        int64_t to = from + 4096 < count ? from + 4096 : count;
        uint32_t largest = 0;
        for (int64_t i = from; i < to; i++) {
            uint32_t exponent = bits[i] & 0x7f800000u;
            largest = exponent > largest ? exponent : largest;
        }
        for (int64_t i = from; largest == 0x7f800000u && i < to; i++) {
            if ((bits[i] & 0x7f800000u) == 0x7f800000u) {
                return i;
            }
        }
    }
    return -1;
}

static int64_t
find_bad_f64(const uint64_t *bits, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        if ((bits[i] & 0x7ff0000000000000u) == 0x7ff0000000000000u) {
            return i;
        }
    }
    return -1;
}

static bool
check_finite(PyArrayObject *array, bool is_double)
{
    int64_t bad, count = PyArray_SIZE(array);
    const void *data = PyArray_DATA(array);
    Py_BEGIN_ALLOW_THREADS
    bad = is_double ? find_bad_f64(data, count) : find_bad_f32(data, count);
    Py_END_ALLOW_THREADS
    if (bad >= 0) {
        const npy_intp *d = PyArray_DIMS(array);
        int64_t w = bad % d[3], h = bad / d[3] % d[2], c = bad / (d[3] * d[2]) % d[1];
        rc_py_fail(RC_ARGUMENT, "images: expected finite pixels, got NaN or infinity at "
                   "[%lld, %lld, %lld, %lld]", (long long)(bad / (d[3] * d[2] * d[1])),
                   (long long)c, (long long)h, (long long)w);
    }
    return bad < 0;
}

/* `some`: there must be an image. */
static bool
check_some(int64_t n, bool some)
{
    if (some && n == 0) {
        rc_py_fail(RC_ARGUMENT, "images: expected one or more, got an empty batch");
        return false;
    }
    return true;
}

/* Images that lie on a card; takes the view, even on failure. */
static int
images_there(const rc_py_view *view, const rc_model_info *info, bool some, rc_py_images *out)
{
    bool fits = false;
    long long h = info->height, w = info->width;
    bool is_u8 = view->kind == 'u' && view->bits == 8;
    const int64_t *d = view->shape;
    if (!is_u8 && (view->kind != 'f' || view->bits != 32)) {
        rc_py_fail(RC_TYPE, "images: expected uint8 or float32 on the card, got another dtype");
    } else if (is_u8 && (view->ndim != 4 || d[3] != 3 || d[1] < 1 || d[2] < 1)) {
        rc_py_fail(RC_ARGUMENT, "images: expected uint8 N×H×W×3 on the card, got %d dimensions%s",
                   view->ndim, view->ndim != 4 ? "" : d[1] == 3
                   ? "; N×H×W×3? (images.permute(0, 2, 3, 1))" : " of another size");
    } else if (!is_u8 && (view->ndim != 4 || d[1] != 3 || d[2] != h || d[3] != w)) {
        rc_py_fail(RC_ARGUMENT, "images: expected float32 N×3×%lld×%lld on the card, got %d "
                   "dimensions%s", h, w, view->ndim, view->ndim == 4 ? " of another size" : "");
    } else {
        fits = check_some(d[0], some);
    }
    if (!fits) {
        Py_DECREF(view->holder);
        return -1;
    }
    out->array = view->holder;
    out->images = (rc_images){.data = view->data, .is_u8 = is_u8, .there = true,
                              .card = view->card, .stream = view->stream, .n = d[0], .c = 3,
                              .h = d[is_u8 ? 1 : 2], .w = d[is_u8 ? 2 : 3]};
    memcpy(out->images.strides, view->strides, sizeof out->images.strides);
    return 0;
}

/* What a reidc.DeferredBatch is about, kept alive by a capsule. */
typedef struct deferred {
    rc_py_image_list list;
    rc_augment augment;
} deferred;

static void
deferred_free(PyObject *capsule)
{
    deferred *d = PyCapsule_GetPointer(capsule, NULL);
    rc_py_image_list_fini(&d->list);
    PyMem_Free(d);
}

/* 1: images for a card to augment; 0: they are none; -1: an exception. */
static int
images_deferred(PyObject *object, bool some, rc_py_images *out)
{
    if (PyArray_Check(object) || !PyObject_HasAttrString(object, "_deferred")) {
        return 0;
    }
    PyObject *tuple = PyObject_GetAttrString(object, "_deferred"); /* new */
    deferred *d = tuple ? PyMem_Calloc(1, sizeof *d) : NULL;
    PyObject *capsule = d ? PyCapsule_New(d, NULL, deferred_free) : NULL; /* new */
    PyObject *pictures, *augment; /* borrowed */
    unsigned long long seed;
    long long epoch, first;
    if (tuple && !d) {
        PyErr_NoMemory();
    } else if (d && !capsule) {
        PyMem_Free(d);
    }
    bool fine = capsule
                && PyArg_ParseTuple(tuple, "OOKLL", &pictures, &augment, &seed, &epoch, &first)
                && rc_py_augment_get(augment, &d->augment) == 0
                && rc_py_image_list_init(&d->list, pictures) == 0
                && check_some(d->list.n, some);
    Py_XDECREF(tuple);
    if (!fine) {
        Py_XDECREF(capsule);
        return -1;
    }
    out->array = capsule;
    out->images = (rc_images){.is_u8 = true, .n = d->list.n, .c = 3, .pictures = d->list.images,
                              .augment = &d->augment, .augment_seed = seed, .epoch = epoch,
                              .first = first};
    return 1;
}

int
rc_py_images_get(PyObject *object, const rc_model *model, bool some, rc_py_images *out)
{
    const rc_model_info *info = rc_model_get_info(model);
    out->array = NULL;
    rc_py_view view;
    int there = rc_py_view_get(object, "images", &view);
    if (there != 0) {
        return there > 0 ? images_there(&view, info, some, out) : -1;
    }
    int later = rc_model_device(model) >= 0 ? images_deferred(object, some, out) : 0;
    if (later != 0) { /* (a network on the CPU takes what __array__ gives) */
        return later > 0 ? 0 : -1;
    }
    PyArrayObject *array = as_array(object, "images", IMAGES); /* new */
    if (!array) {
        return -1;
    }
    int type = PyArray_TYPE(array), wanted = rc_py_real(info);
    bool is_u8 = type == NPY_UINT8, fits = false;
    if (is_u8) {
        fits = check_u8(array);
    } else if (type == wanted || (info->is_double && type == NPY_FLOAT32)) {
        fits = check_real(array, info);
    } else if (PyArray_NDIM(array) == 1 && !PyArray_SIZE(array)) { /* as [] becomes float64 */
        rc_py_fail(RC_ARGUMENT, "images: expected N×H×W×3, got an empty list");
    } else {
        fail_dtype(array, "images", info->is_double ? "uint8, float32 or float64"
                                                    : "uint8 or float32");
    }
    if (fits && check_some(PyArray_DIM(array, 0), some)) {
        out->array = PyArray_FROM_OTF(
            (PyObject *)array, is_u8 ? NPY_UINT8 : wanted, NPY_ARRAY_C_CONTIGUOUS
                | NPY_ARRAY_ALIGNED | NPY_ARRAY_NOTSWAPPED); /* new */
    }
    Py_DECREF(array);
    if (!out->array) {
        return -1;
    }
    PyArrayObject *ready = (PyArrayObject *)out->array;
    if (!is_u8 && !check_finite(ready, info->is_double)) {
        Py_CLEAR(out->array);
        return -1;
    }
    const npy_intp *d = PyArray_DIMS(ready);
    out->images = (rc_images){.data = PyArray_DATA(ready), .is_u8 = is_u8, .n = d[0], .c = 3,
                              .h = d[is_u8 ? 1 : 2], .w = d[is_u8 ? 2 : 3]};
    return 0;
}

/* Labels that lie on a card, as int64 here: they are checked before anything runs. Takes the view. */
static PyArrayObject *
labels_there(const rc_py_view *view, rc_model *model)
{
    int type = view->bits == 64 ? NPY_INT64 : view->bits == 32 ? NPY_INT32 : NPY_NOTYPE;
    PyArrayObject *array = NULL;
    if (view->kind != 'i' || type == NPY_NOTYPE) {
        rc_py_fail(RC_TYPE, "labels: expected int64 or int32 on the card, got another dtype");
    } else if (view->ndim != 1 || !rc_py_view_is_contiguous(view)) {
        rc_py_fail(RC_ARGUMENT, "labels: expected 1 dimension on the card%s",
                   view->ndim == 1 ? " that is contiguous (.contiguous())" : "");
    } else {
        npy_intp d[1] = {view->shape[0]};
        array = rc_py_new_array(1, d, type); /* new */
    }
    if (array) {
        rc_error err = {0};
        rc_status status;
        void *to = PyArray_DATA(array);
        int64_t bytes = PyArray_NBYTES(array);
        Py_BEGIN_ALLOW_THREADS
        status = rc_model_peek(model, view->card, view->stream, view->data, bytes, "labels", to,
                               &err);
        Py_END_ALLOW_THREADS
        PyArrayObject *wide = status == RC_OK ? rc_py_array_i64((PyObject *)array, "labels", 1)
                                              : NULL; /* new */
        if (status != RC_OK) {
            rc_py_raise(status, &err);
        }
        Py_DECREF(array);
        array = wide;
    }
    Py_DECREF(view->holder);
    return array;
}

PyArrayObject *
rc_py_labels_get(PyObject *object, rc_model *model, int64_t n)
{
    rc_py_view view;
    int there = rc_py_view_get(object, "labels", &view);
    PyArrayObject *array = there < 0 ? NULL : there ? labels_there(&view, model)
                                                    : rc_py_array_i64(object, "labels", 1); /* new */
    if (!array) {
        return NULL;
    }
    if (PyArray_DIM(array, 0) != n) {
        rc_py_fail(RC_ARGUMENT, "labels: expected %lld, one an image, got %lld", (long long)n,
                   (long long)PyArray_DIM(array, 0));
        Py_CLEAR(array);
    }
    return array;
}

int
rc_py_planes_get(PyObject *object, const rc_model_info *info, int64_t n, PyArrayObject **out)
{
    *out = NULL;
    if (object == Py_None) {
        return 0;
    }
    if (!info->takes_planes) {
        rc_py_fail(RC_ARGUMENT, "planes: this network takes none");
        return -1;
    }
    PyArrayObject *array = rc_py_array_i64(object, "planes", 2); /* new */
    if (!array) {
        return -1;
    }
    if (PyArray_DIM(array, 0) != n || PyArray_DIM(array, 1) != 4) {
        rc_py_fail(RC_ARGUMENT, "planes: expected %lld×4, got %lld×%lld", (long long)n,
                   (long long)PyArray_DIM(array, 0), (long long)PyArray_DIM(array, 1));
        Py_DECREF(array);
        return -1;
    }
    *out = array;
    return 0;
}

PyArrayObject *
rc_py_array_real(PyObject *object, const char *what, int rank, bool is_double)
{
    const char *expected = is_double ? "a float32 or float64 array" : "a float32 array";
    PyArrayObject *array = as_array(object, what, expected); /* new */
    if (!array) {
        return NULL;
    }
    int type = PyArray_TYPE(array), wanted = is_double ? NPY_FLOAT64 : NPY_FLOAT32;
    PyArrayObject *ready = NULL;
    if (type != wanted && !(is_double && type == NPY_FLOAT32)) {
        fail_dtype(array, what, expected);
    } else if (PyArray_NDIM(array) != rank) {
        char got[160];
        rc_py_fail(RC_ARGUMENT, "%s: expected %d dimensions, got %s", what, rank,
                   shape_text(array, got));
    } else {
        ready = (PyArrayObject *)PyArray_FROM_OTF(
            (PyObject *)array, wanted, NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED
                                           | NPY_ARRAY_NOTSWAPPED); /* new */
    }
    Py_DECREF(array);
    return ready;
}

PyObject *
rc_py_output_array(const rc_shape *shape, bool is_int, bool is_double, const void *data)
{
    npy_intp d[RC_MAX_RANK], strides[RC_MAX_RANK];
    int type = is_int ? NPY_INT64 : is_double ? NPY_FLOAT64 : NPY_FLOAT32;
    npy_intp size = is_int || is_double ? 8 : 4;
    for (int i = 0; i < shape->rank; i++) {
        d[i] = shape->d[i];
    }
    npy_intp step = size;
    static const int memory_order[4] = {0, 2, 3, 1}; /* n, h, w, c */
    for (int i = shape->rank - 1; i >= 0; i--) {
        int axis = shape->rank == 4 ? memory_order[i] : i;
        strides[axis] = step;
        step *= d[axis];
    }
    if (!data) { /* nothing was run: an empty batch */
        return PyArray_SimpleNew(shape->rank, d, type);
    }
    PyObject *view = PyArray_New(&PyArray_Type, shape->rank, d, type, strides, (void *)data, 0, 0,
                                 NULL); /* new: borrows data until the copy below */
    if (!view) {
        return NULL;
    }
    PyObject *copy = PyArray_NewCopy((PyArrayObject *)view, NPY_CORDER); /* new */
    Py_DECREF(view);
    return copy;
}
