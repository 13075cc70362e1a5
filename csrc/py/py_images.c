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
    if (PyList_Check(object) || PyTuple_Check(object)
        || PyObject_HasAttrString(object, "__array__")) {
        return (PyArrayObject *)PyArray_FROM_O(object); /* new */
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

int
rc_py_images_get(PyObject *object, const rc_model_info *info, bool some, rc_py_images *out)
{
    out->array = NULL;
    int there = rc_py_device_images(object, info, some, out);
    if (there != 0) {
        return there > 0 ? 0 : -1;
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
    } else {
        fail_dtype(array, "images", info->is_double ? "uint8, float32 or float64"
                                                    : "uint8 or float32");
    }
    if (fits && some && PyArray_DIM(array, 0) == 0) {
        rc_py_fail(RC_ARGUMENT, "images: expected one or more images for training, got an empty "
                   "batch");
        fits = false;
    }
    if (fits) {
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

PyArrayObject *
rc_py_labels_get(PyObject *object, int64_t n)
{
    PyArrayObject *array = rc_py_array_i64(object, "labels", 1); /* new */
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
