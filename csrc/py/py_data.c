/* reidc._core: pictures in, network input, augmented batches and sampler epochs out.
 *
 * Images come as one uint8 array (n,h,w,3) or as a sequence of (h,w,3) arrays; all references
 * are held while the interpreter lock is off. The Python side (reidc/loader.py) documents what
 * users see; these are its plain counterparts. */
#include "py/py.h"

/* ---- images as C sees them --------------------------------------------------------------- */

void
rc_py_image_list_fini(rc_py_image_list *list)
{
    Py_CLEAR(list->holder);
    rc_free(list->images);
    list->images = NULL;
}

static int
check_rgb(PyArrayObject *array, const char *what)
{
    int rank = PyArray_NDIM(array);
    const npy_intp *shape = PyArray_DIMS(array);
    if (shape[rank - 1] == 3) {
        return 0;
    }
    rc_error err;
    rc_fail(&err, RC_ARGUMENT, "%s: the last dimension must be 3 (RGB), got %lld%s", what,
            (long long)shape[rank - 1],
            shape[rank - 3] == 3 ? "; is this 3 x H x W? uint8 images are H x W x 3" : "");
    rc_py_raise(RC_ARGUMENT, &err);
    return -1;
}

int
rc_py_image_list_init(rc_py_image_list *list, PyObject *object)
{
    *list = (rc_py_image_list){NULL, NULL, 0};
    if (PyArray_Check(object)) {
        PyArrayObject *array = rc_py_array_u8(object, "images", 4); /* new */
        if (!array || check_rgb(array, "images") < 0) {
            Py_XDECREF(array);
            return -1;
        }
        list->holder = (PyObject *)array;
        list->n = PyArray_DIM(array, 0);
        list->images = rc_alloc(list->n ? list->n : 1, sizeof *list->images);
        for (Py_ssize_t i = 0; list->images && i < list->n; i++) {
            list->images[i] = (rc_image){(const uint8_t *)PyArray_DATA(array)
                                             + i * PyArray_DIM(array, 1)
                                                   * PyArray_DIM(array, 2) * 3,
                                         PyArray_DIM(array, 1), PyArray_DIM(array, 2), 0};
        }
    } else {
        PyObject *given = PySequence_Fast(object, "images"); /* new */
        if (!given) {
            if (PyErr_ExceptionMatches(PyExc_TypeError)) {
                PyErr_Clear();
                rc_py_fail(RC_TYPE, "images: expected an array or a list, got %s",
                           Py_TYPE(object)->tp_name);
            }
            return -1;
        }
        list->n = PySequence_Fast_GET_SIZE(given);
        list->images = rc_alloc(list->n ? list->n : 1, sizeof *list->images);
        list->holder = PyList_New(list->n); /* new */
        for (Py_ssize_t i = 0; list->images && list->holder && i < list->n; i++) {
            char what[48];
            PyOS_snprintf(what, sizeof what, "images[%zd]", i);
            PyObject *item = PySequence_Fast_GET_ITEM(given, i); /* borrowed */
            PyArrayObject *array = rc_py_array_u8(item, what, 3); /* new */
            if (!array || check_rgb(array, what) < 0) {
                Py_XDECREF(array);
                Py_DECREF(given);
                rc_py_image_list_fini(list);
                return -1;
            }
            PyList_SET_ITEM(list->holder, i, (PyObject *)array); /* stolen */
            list->images[i] = (rc_image){PyArray_DATA(array), PyArray_DIM(array, 0),
                                         PyArray_DIM(array, 1), 0};
        }
        Py_DECREF(given);
    }
    if (!list->images || !list->holder) {
        rc_py_image_list_fini(list);
        rc_py_raise(RC_MEMORY, NULL);
        return -1;
    }
    return 0;
}

static int
parse_filter(const char *name, rc_filter *filter)
{
    if (strcmp(name, "bilinear") == 0) {
        *filter = RC_FILTER_BILINEAR;
    } else if (strcmp(name, "bicubic") == 0) {
        *filter = RC_FILTER_BICUBIC;
    } else {
        rc_error err;
        rc_py_raise(rc_fail(&err, RC_ARGUMENT,
                            "interpolation: expected 'bilinear' or 'bicubic', got '%.40s'", name),
                    &err);
        return -1;
    }
    return 0;
}

/* ---- functions --------------------------------------------------------------------------- */

static PyObject *
image_resize(PyObject *self, PyObject *args, PyObject *kwargs)
{
    (void)self;
    static char *names[] = {"image", "height", "width", "interpolation", "threads", NULL};
    PyObject *object;
    long long height, width;
    const char *interpolation = "bilinear";
    int threads = 1;
    rc_filter filter;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OLL|si:_image_resize", names, &object,
                                     &height, &width, &interpolation, &threads)
        || parse_filter(interpolation, &filter) < 0) {
        return NULL;
    }
    PyArrayObject *array = rc_py_array_u8(object, "image", 3); /* new */
    if (!array || check_rgb(array, "image") < 0) {
        Py_XDECREF(array);
        return NULL;
    }
    npy_intp shape[3] = {height > 0 ? height : 0, width > 0 ? width : 0, 3};
    PyArrayObject *out = rc_py_new_array(3, shape, NPY_UINT8); /* new */
    if (!out) {
        Py_DECREF(array);
        return NULL;
    }
    rc_image image = {PyArray_DATA(array), PyArray_DIM(array, 0), PyArray_DIM(array, 1), 0};
    uint8_t *result = PyArray_DATA(out);
    rc_error err = {0};
    rc_status status;
    Py_BEGIN_ALLOW_THREADS
    status = rc_image_resize(&image, height, width, filter, result, threads, &err);
    Py_END_ALLOW_THREADS
    Py_DECREF(array);
    if (status != RC_OK) {
        Py_DECREF(out);
        return rc_py_raise(status, &err);
    }
    return (PyObject *)out;
}

static PyObject *
images_to_input(PyObject *self, PyObject *args, PyObject *kwargs)
{
    (void)self;
    static char *names[] = {"images", "height", "width", "interpolation", "mirror", "nchw",
                            "mean", "std", "threads", NULL};
    PyObject *object;
    long long height, width;
    const char *interpolation = "bilinear";
    int mirror = 0, nchw = 0, threads = 1;
    rc_input_rule rule = rc_input_rule_default(0, 0);
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OLL|spp(fff)(fff)i:_images_to_input", names,
                                     &object, &height, &width, &interpolation, &mirror, &nchw,
                                     &rule.mean[0], &rule.mean[1], &rule.mean[2], &rule.std[0],
                                     &rule.std[1], &rule.std[2], &threads)
        || parse_filter(interpolation, &rule.filter) < 0) {
        return NULL;
    }
    rule.height = height;
    rule.width = width;
    rule.mirror = mirror;
    rule.nchw = nchw;
    rc_py_image_list list;
    if (rc_py_image_list_init(&list, object) < 0) {
        return NULL;
    }
    npy_intp h = height > 0 ? height : 0, w = width > 0 ? width : 0;
    npy_intp nhwc_shape[4] = {list.n, h, w, 3}, nchw_shape[4] = {list.n, 3, h, w};
    PyArrayObject *out = rc_py_new_array(4, nchw ? nchw_shape : nhwc_shape, NPY_FLOAT32); /* new */
    if (!out) {
        rc_py_image_list_fini(&list);
        return NULL;
    }
    float *result = PyArray_DATA(out);
    bool one_array = PyArray_Check(list.holder);
    rc_error err = {0};
    rc_status status;
    Py_BEGIN_ALLOW_THREADS
    if (one_array && list.n) {
        status = rc_images_to_input(list.images[0].pixels, list.n, list.images[0].height,
                                    list.images[0].width, &rule, result, threads, &err);
    } else {
        status = rc_image_list_to_input(list.images, list.n, &rule, result, threads, &err);
    }
    Py_END_ALLOW_THREADS
    rc_py_image_list_fini(&list);
    if (status != RC_OK) {
        Py_DECREF(out);
        return rc_py_raise(status, &err);
    }
    return (PyObject *)out;
}

static PyObject *
floats_to_input(PyObject *self, PyObject *args, PyObject *kwargs)
{
    (void)self;
    static char *names[] = {"images", "mirror", "threads", NULL};
    PyObject *object;
    int mirror = 0, threads = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|pi:_floats_to_input", names, &object,
                                     &mirror, &threads)) {
        return NULL;
    }
    PyArrayObject *array = rc_py_array_f32(object, "images", 4); /* new */
    if (!array) {
        return NULL;
    }
    if (PyArray_DIM(array, 1) != 3) {
        rc_error err;
        rc_fail(&err, RC_ARGUMENT, "images: float32 images are N x 3 x H x W, got %lld channels",
                (long long)PyArray_DIM(array, 1));
        Py_DECREF(array);
        return rc_py_raise(RC_ARGUMENT, &err);
    }
    npy_intp shape[4] = {PyArray_DIM(array, 0), PyArray_DIM(array, 2), PyArray_DIM(array, 3), 3};
    PyArrayObject *out = rc_py_new_array(4, shape, NPY_FLOAT32); /* new */
    if (!out) {
        Py_DECREF(array);
        return NULL;
    }
    const float *x = PyArray_DATA(array);
    float *y = PyArray_DATA(out);
    rc_error err = {0};
    rc_status status;
    Py_BEGIN_ALLOW_THREADS
    status = rc_floats_to_input(x, shape[0], shape[1], shape[2], mirror, y, threads, &err);
    Py_END_ALLOW_THREADS
    Py_DECREF(array);
    if (status != RC_OK) {
        Py_DECREF(out);
        return rc_py_raise(status, &err);
    }
    return (PyObject *)out;
}

/* ---- augmentation ------------------------------------------------------------------------ */

int
rc_py_augment_get(PyObject *dict, rc_augment *a)
{
    static char *names[] = {
        "height", "width", "interpolation", "mirror", "scale_crop", "pad", "jitter",
        "brightness", "contrast", "saturation", "hue", "jitter_first", "erase", "area", "ratio",
        "log_ratio", "tries", "fill", "mean", "std", NULL};
    long long height, width, pad, tries;
    const char *interpolation;
    int jitter_first, log_ratio;
    rc_error err = {0};
    memset(a, 0, sizeof *a);
    if (!PyDict_Check(dict)) {
        rc_py_raise(rc_fail(&err, RC_TYPE, "augment: expected a dict"), &err);
        return -1;
    }
    PyObject *none = PyTuple_New(0); /* new */
    if (!none) {
        return -1;
    }
    int parsed = PyArg_ParseTupleAndKeywords(
        none, dict, "LLsddLdddddpd(dd)(dd)pL(fff)(fff)(fff):augment", names, &height, &width,
        &interpolation, &a->mirror, &a->scale_crop, &pad, &a->jitter, &a->brightness,
        &a->contrast, &a->saturation, &a->hue, &jitter_first, &a->erase, &a->area[0],
        &a->area[1], &a->ratio[0], &a->ratio[1], &log_ratio, &tries, &a->fill[0], &a->fill[1],
        &a->fill[2], &a->mean[0], &a->mean[1], &a->mean[2], &a->std[0], &a->std[1], &a->std[2]);
    Py_DECREF(none);
    if (!parsed || parse_filter(interpolation, &a->filter) < 0) {
        return -1;
    }
    a->height = height;
    a->width = width;
    a->pad = pad;
    a->jitter_first = jitter_first;
    a->log_ratio = log_ratio;
    a->tries = tries;
    rc_status status = rc_augment_check(a, &err);
    if (status != RC_OK) {
        rc_py_raise(status, &err);
        return -1;
    }
    return 0;
}

static PyObject *
augment_check(PyObject *self, PyObject *argument)
{
    (void)self;
    rc_augment a;
    if (rc_py_augment_get(argument, &a) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
augment_batch(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *object, *dict;
    unsigned long long seed;
    long long epoch, first;
    int threads;
    rc_augment a;
    rc_py_image_list list;
    if (!PyArg_ParseTuple(args, "OOKLLi:_augment_batch", &object, &dict, &seed, &epoch, &first,
                          &threads)
        || rc_py_augment_get(dict, &a) < 0 || rc_py_image_list_init(&list, object) < 0) {
        return NULL;
    }
    npy_intp shape[4] = {list.n, 3, a.height, a.width};
    PyArrayObject *out = rc_py_new_array(4, shape, NPY_FLOAT32); /* new */
    if (!out) {
        rc_py_image_list_fini(&list);
        return NULL;
    }
    float *result = PyArray_DATA(out);
    rc_error err = {0};
    rc_status status;
    Py_BEGIN_ALLOW_THREADS
    status = rc_augment_batch(&a, list.images, list.n, seed, epoch, first, result, threads, &err);
    Py_END_ALLOW_THREADS
    rc_py_image_list_fini(&list);
    if (status != RC_OK) {
        Py_DECREF(out);
        return rc_py_raise(status, &err);
    }
    return (PyObject *)out;
}

static PyObject *
jitter_apply(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *object;
    int op;
    double factor;
    if (!PyArg_ParseTuple(args, "Oid:_jitter", &object, &op, &factor)) {
        return NULL;
    }
    PyArrayObject *array = rc_py_array_u8(object, "image", 3); /* new */
    if (!array || check_rgb(array, "image") < 0) {
        Py_XDECREF(array);
        return NULL;
    }
    PyArrayObject *copy = (PyArrayObject *)PyArray_NewCopy(array, NPY_CORDER); /* new */
    Py_DECREF(array);
    if (copy) {
        rc_jitter_apply(PyArray_DATA(copy), PyArray_SIZE(copy) / 3, op, factor);
    }
    return (PyObject *)copy;
}

/* ---- samplers ---------------------------------------------------------------------------- */

static PyObject *
sampler_epoch(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *labels_object, *cameras_object;
    long long classes, identities, images, epoch;
    unsigned long long seed;
    int kind;
    if (!PyArg_ParseTuple(args, "OOLLLiKL:_sampler_epoch", &labels_object, &cameras_object,
                          &classes, &identities, &images, &kind, &seed, &epoch)) {
        return NULL;
    }
    PyArrayObject *labels = rc_py_array_i64(labels_object, "labels", 1); /* new */
    if (!labels) {
        return NULL;
    }
    PyArrayObject *cameras = NULL;
    rc_error err = {0};
    if (cameras_object != Py_None) {
        cameras = rc_py_array_i64(cameras_object, "camids", 1); /* new */
        if (!cameras) {
            Py_DECREF(labels);
            return NULL;
        }
        if (PyArray_DIM(cameras, 0) != PyArray_DIM(labels, 0)) {
            rc_fail(&err, RC_ARGUMENT, "camids: expected %lld, one per image, got %lld",
                    (long long)PyArray_DIM(labels, 0), (long long)PyArray_DIM(cameras, 0));
            Py_DECREF(labels);
            Py_DECREF(cameras);
            return rc_py_raise(RC_ARGUMENT, &err);
        }
    }
    rc_sampler sampler = {PyArray_DATA(labels), cameras ? PyArray_DATA(cameras) : NULL,
                          PyArray_DIM(labels, 0), classes, identities, images,
                          (rc_sampler_kind)kind};
    int64_t *order = NULL, count = 0;
    rc_status status;
    Py_BEGIN_ALLOW_THREADS
    status = rc_sampler_epoch(&sampler, seed, epoch, &order, &count, &err);
    Py_END_ALLOW_THREADS
    Py_DECREF(labels);
    Py_XDECREF(cameras);
    if (status != RC_OK) {
        return rc_py_raise(status, &err);
    }
    npy_intp shape[1] = {count};
    PyArrayObject *out = rc_py_new_array(1, shape, NPY_INT64); /* new */
    if (out && count) {
        memcpy(PyArray_DATA(out), order, (size_t)count * sizeof *order);
    }
    rc_free(order);
    return (PyObject *)out;
}

static PyObject *
split_permutation(PyObject *self, PyObject *args)
{
    (void)self;
    long long n;
    unsigned long long seed;
    if (!PyArg_ParseTuple(args, "LK:_split_permutation", &n, &seed)) {
        return NULL;
    }
    if (n < 0 || n >= 1 << 24) {
        rc_error err;
        return rc_py_raise(rc_fail(&err, RC_ARGUMENT, "n: expected 0 to %d, got %lld",
                                   (1 << 24) - 1, n), &err);
    }
    npy_intp shape[1] = {n};
    PyArrayObject *out = rc_py_new_array(1, shape, NPY_INT64); /* new */
    if (out) {
        rc_split_permutation(n, seed, PyArray_DATA(out));
    }
    return (PyObject *)out;
}

#define FUNCTION(name) (PyCFunction)(void (*)(void))name, METH_VARARGS | METH_KEYWORDS

static PyMethodDef methods[] = {
    {"_image_resize", FUNCTION(image_resize),
     "_image_resize(image, height, width, interpolation='bilinear', threads=1)\n--\n\n"
     "uint8 (h,w,3) -> uint8 (height,width,3), byte for byte as Pillow 13 resizes it."},
    {"_images_to_input", FUNCTION(images_to_input),
     "_images_to_input(images, height, width, interpolation='bilinear', mirror=False, "
     "nchw=False, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), threads=1)\n--\n\n"
     "uint8 (n,h,w,3), or a list of (h,w,3), resized and normalised: float32 (n,height,width,3)\n"
     "or (n,3,height,width)."},
    {"_floats_to_input", FUNCTION(floats_to_input),
     "_floats_to_input(images, mirror=False, threads=1)\n--\n\n"
     "float32 (n,3,h,w) -> (n,h,w,3); NaN or infinite values are a ValueError."},
    {"_augment_check", augment_check, METH_O,
     "_augment_check(augment): ValueError or TypeError that names what is wrong."},
    {"_augment_batch", augment_batch, METH_VARARGS,
     "_augment_batch(images, augment, seed, epoch, first, threads): float32 (n,3,h,w)."},
    {"_jitter", jitter_apply, METH_VARARGS,
     "_jitter(image, operation, factor): one step of colour jitter (tests)."},
    {"_sampler_epoch", sampler_epoch, METH_VARARGS,
     "_sampler_epoch(labels, camids, classes, identities, images, kind, seed, epoch): indices."},
    {"_split_permutation", split_permutation, METH_VARARGS,
     "_split_permutation(n, seed): int64 (n), a permutation."},
    {NULL, NULL, 0, NULL},
};

int
rc_py_add_data(PyObject *module)
{
    return PyModule_AddFunctions(module, methods);
}
