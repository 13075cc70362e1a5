/* reidc._core: pictures in, network input, augmented batches and sampler epochs out.
 *
 * Images come as one uint8 array (n,h,w,3) or as a sequence of (h,w,3) arrays; all references
 * are held while the interpreter lock is off. The Python side (reidc/loader.py) documents what
 * users see; these are its plain counterparts. */
#include "py/py.h"

/* ---- images as C sees them -------------------------------------------------------------------- */

typedef struct image_list { /* owned: both members */
    PyObject *holder;       /* the array, or a list of arrays */
    rc_image *images;
    Py_ssize_t n;
} image_list;

static void
image_list_fini(image_list *list)
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

/* 0, or -1 with an exception set and nothing to release. */
static int
image_list_init(image_list *list, PyObject *object)
{
    *list = (image_list){NULL, NULL, 0};
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
        PyObject *given = PySequence_Fast(object, "images: expected an array or a list"); /* new */
        if (!given) {
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
                image_list_fini(list);
                return -1;
            }
            PyList_SET_ITEM(list->holder, i, (PyObject *)array); /* stolen */
            list->images[i] = (rc_image){PyArray_DATA(array), PyArray_DIM(array, 0),
                                         PyArray_DIM(array, 1), 0};
        }
        Py_DECREF(given);
    }
    if (!list->images || !list->holder) {
        image_list_fini(list);
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

/* ---- functions ----------------------------------------------------------------------------------- */

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
    image_list list;
    if (image_list_init(&list, object) < 0) {
        return NULL;
    }
    npy_intp h = height > 0 ? height : 0, w = width > 0 ? width : 0;
    npy_intp nhwc_shape[4] = {list.n, h, w, 3}, nchw_shape[4] = {list.n, 3, h, w};
    PyArrayObject *out = rc_py_new_array(4, nchw ? nchw_shape : nhwc_shape, NPY_FLOAT32); /* new */
    if (!out) {
        image_list_fini(&list);
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
    image_list_fini(&list);
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
    {NULL, NULL, 0, NULL},
};

int
rc_py_add_data(PyObject *module)
{
    return PyModule_AddFunctions(module, methods);
}
