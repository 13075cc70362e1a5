/* reidc._core.SynthSet: the embedded data set. reidc/synthetic.py wraps it for users. */
#include "py/py.h"

typedef struct synth_object {
    PyObject_HEAD
    rc_synth *set; /* owned */
} synth_object;

static PyObject *
synth_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"train", "test", "cameras", "seed", "level", "twins", "height",
                            "width", "occluded", NULL};
    long long train, test, cameras, height, width;
    unsigned long long seed;
    double level, twins;
    int occluded;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "LLLKddLLp", names, &train, &test, &cameras,
                                     &seed, &level, &twins, &height, &width, &occluded)) {
        return NULL;
    }
    rc_synth_options options = {
        .train = train, .test = test, .cameras = cameras, .seed = seed, .level = level,
        .twins = twins, .height = height, .width = width, .occluded = occluded,
    };
    rc_error err;
    rc_synth *set;
    rc_status status;
    Py_BEGIN_ALLOW_THREADS
    status = rc_synth_new(&options, &set, &err);
    Py_END_ALLOW_THREADS
    if (status != RC_OK) {
        return rc_py_raise(status, &err);
    }
    synth_object *self = (synth_object *)type->tp_alloc(type, 0); /* new */
    if (!self) {
        rc_synth_free(set);
        return NULL;
    }
    self->set = set;
    return (PyObject *)self;
}

static void
synth_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    rc_synth_free(((synth_object *)object)->set);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyObject *
synth_list(PyObject *object, PyObject *argument)
{
    rc_synth *set = ((synth_object *)object)->set;
    long split = PyLong_AsLong(argument);
    if (split == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (split < 0 || split > 2) {
        rc_error err;
        return rc_py_raise(rc_fail(&err, RC_ARGUMENT, "split: expected 0, 1 or 2, got %ld",
                                   split), &err);
    }
    npy_intp shape[2] = {(npy_intp)rc_synth_count(set, (rc_synth_split)split), 3};
    PyArrayObject *rows = rc_py_new_array(2, shape, NPY_INT64);   /* new */
    PyArrayObject *pids = rc_py_new_array(1, shape, NPY_INT64);   /* new */
    PyArrayObject *camids = rc_py_new_array(1, shape, NPY_INT64); /* new */
    if (!rows || !pids || !camids) {
        Py_XDECREF(rows);
        Py_XDECREF(pids);
        Py_XDECREF(camids);
        return NULL;
    }
    rc_synth_list(set, (rc_synth_split)split, PyArray_DATA(rows), PyArray_DATA(pids),
                  PyArray_DATA(camids));
    return Py_BuildValue("NNN", rows, pids, camids);
}

/* What render, masks, yaws and visible share: rows checked, `threads` read, memory made. */
typedef enum wanted {
    WANT_IMAGES,
    WANT_MASKS,
    WANT_YAWS,
    WANT_VISIBLE,
} wanted;

static PyObject *
draw(PyObject *object, PyObject *args, PyObject *kwargs, const char *format, wanted what)
{
    static char *names[] = {"rows", "threads", NULL};
    PyObject *rows_object; /* borrowed */
    int threads = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, names, &rows_object, &threads)) {
        return NULL;
    }
    PyArrayObject *rows = rc_py_array_i64(rows_object, "rows", 2); /* new */
    if (!rows) {
        return NULL;
    }
    rc_error err;
    if (PyArray_DIM(rows, 1) != 3) {
        rc_py_raise(rc_fail(&err, RC_ARGUMENT, "rows: expected n x 3 (identity, camera, index), "
                            "got %lld x %lld", (long long)PyArray_DIM(rows, 0),
                            (long long)PyArray_DIM(rows, 1)), &err);
        Py_DECREF(rows);
        return NULL;
    }
    rc_synth *set = ((synth_object *)object)->set;
    const rc_synth_options *o = rc_synth_options_get(set);
    npy_intp n = PyArray_DIM(rows, 0);
    npy_intp shape[4] = {n, (npy_intp)o->height, (npy_intp)o->width, 3};
    PyArrayObject *out = what == WANT_IMAGES  ? rc_py_new_array(4, shape, NPY_UINT8)
                         : what == WANT_MASKS ? rc_py_new_array(3, shape, NPY_FLOAT32)
                                              : rc_py_new_array(1, shape, NPY_FLOAT64); /* new */
    if (!out) {
        Py_DECREF(rows);
        return NULL;
    }
    void *data = PyArray_DATA(out);
    const int64_t *values = PyArray_DATA(rows);
    rc_synth_output wish = {
        .images = what == WANT_IMAGES ? data : NULL,
        .masks = what == WANT_MASKS ? data : NULL,
        .yaws = what == WANT_YAWS ? data : NULL,
        .visible = what == WANT_VISIBLE ? data : NULL,
    };
    rc_status status;
    Py_BEGIN_ALLOW_THREADS
    status = rc_synth_render(set, values, n, threads, &wish, &err);
    Py_END_ALLOW_THREADS
    Py_DECREF(rows);
    if (status != RC_OK) {
        Py_DECREF(out);
        return rc_py_raise(status, &err);
    }
    return (PyObject *)out;
}

static PyObject *
synth_render(PyObject *object, PyObject *args, PyObject *kwargs)
{
    return draw(object, args, kwargs, "O|i:render", WANT_IMAGES);
}

static PyObject *
synth_masks(PyObject *object, PyObject *args, PyObject *kwargs)
{
    return draw(object, args, kwargs, "O|i:masks", WANT_MASKS);
}

static PyObject *
synth_yaws(PyObject *object, PyObject *args, PyObject *kwargs)
{
    return draw(object, args, kwargs, "O|i:yaws", WANT_YAWS);
}

static PyObject *
synth_visible(PyObject *object, PyObject *args, PyObject *kwargs)
{
    return draw(object, args, kwargs, "O|i:visible", WANT_VISIBLE);
}

static int
put(PyObject *dict, const char *name, PyObject *value) /* value: stolen */
{
    int status = value ? PyDict_SetItemString(dict, name, value) : -1;
    Py_XDECREF(value);
    return status;
}

static PyObject *
synth_attributes(PyObject *object, PyObject *argument)
{
    long long pid = PyLong_AsLongLong(argument);
    if (pid == -1 && PyErr_Occurred()) {
        return NULL;
    }
    rc_error err;
    rc_synth_attributes a;
    rc_status status = rc_synth_describe(((synth_object *)object)->set, pid, &a, &err);
    if (status != RC_OK) {
        return rc_py_raise(status, &err);
    }
    PyObject *dict = PyDict_New(); /* new */
    if (!dict) {
        return NULL;
    }
#define WORD(name) || put(dict, #name, PyUnicode_FromString(a.name))
#define FLAG(name) || put(dict, #name, PyBool_FromLong(a.name))
#define NUMBER(name) || put(dict, #name, PyFloat_FromDouble((double)a.name))
#define COLOUR(name)                                                                        \
    || put(dict, #name, Py_BuildValue("(ddd)", (double)a.name[0], (double)a.name[1],        \
                                      (double)a.name[2]))
    if (0 WORD(sex) WORD(upper) WORD(lower) WORD(upper_color) WORD(lower_color) WORD(pattern)
        WORD(second_color) WORD(logo) WORD(logo_color) WORD(inner_color) WORD(sleeve)
        WORD(shoes_color) WORD(skin) WORD(hair) WORD(hair_color) WORD(hat) WORD(hat_color)
        WORD(bag) WORD(bag_color) WORD(bag_side) WORD(bag_second_color) FLAG(logo_on_back)
        FLAG(sleeve_in_second_color) FLAG(sleeve_stripe) FLAG(trouser_stripe) FLAG(boots)
        FLAG(bag_two_coloured) FLAG(from_family) COLOUR(upper_rgb) COLOUR(lower_rgb)
        COLOUR(second_rgb) COLOUR(logo_rgb) NUMBER(period) NUMBER(duty) NUMBER(phase)
        NUMBER(shoulder) NUMBER(waist) NUMBER(hip) NUMBER(head)) {
        Py_DECREF(dict);
        return NULL;
    }
    return dict;
}

static PyMethodDef methods[] = {
    {"list", synth_list, METH_O,
     "list($self, split, /)\n--\n\n(rows n x 3, pids, camids), int64; split 0 train, 1 query, "
     "2 gallery."},
    {"render", (PyCFunction)(void (*)(void))synth_render, METH_VARARGS | METH_KEYWORDS,
     "render($self, rows, threads=1)\n--\n\nImages of rows (n x 3 integers): uint8 n x H x W x "
     "3."},
    {"masks", (PyCFunction)(void (*)(void))synth_masks, METH_VARARGS | METH_KEYWORDS,
     "masks($self, rows, threads=1)\n--\n\nThe share of each pixel that shows the person: "
     "float32 n x H x W, 0..1."},
    {"yaws", (PyCFunction)(void (*)(void))synth_yaws, METH_VARARGS | METH_KEYWORDS,
     "yaws($self, rows, threads=1)\n--\n\nBody angles: float64 n, radians in [-pi, pi), 0 faces "
     "the camera, NaN without a person."},
    {"visible", (PyCFunction)(void (*)(void))synth_visible, METH_VARARGS | METH_KEYWORDS,
     "visible($self, rows, threads=1)\n--\n\nThe person's visible share of the image: float64 "
     "n."},
    {"attributes", synth_attributes, METH_O,
     "attributes($self, pid, /)\n--\n\nWhat is fixed about an identity, as a dict."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot type_slots[] = {
    {Py_tp_new, synth_new},
    {Py_tp_dealloc, synth_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_doc, "The embedded data set (use reidc.datasets.Synthetic)."},
    {0, NULL},
};

static PyType_Spec type_spec = {
    .name = "reidc._core.SynthSet",
    .basicsize = sizeof(synth_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = type_slots,
};

int
rc_py_add_synth(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &type_spec, NULL); /* new */
    if (!type) {
        return -1;
    }
    int status = PyModule_AddObjectRef(module, "SynthSet", type);
    Py_DECREF(type);
    return status;
}
