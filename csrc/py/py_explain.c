/* Network.grad_cam, attention, explain, layers, heads: what a network looked at; and
 * energy_inside. Arguments are checked here, in the user's words, as in py_images.c; runs are as
 * in py_run.c: without the interpreter lock, asked about Ctrl-C, the network unchanged. */
#include "py/py_network.h"

/* ---- explain -------------------------------------------------------------------------------------- */

/* The shape of an output for a batch of n; false: there is none of that name. */
static bool
output_shape(rc_model *model, const char *name, int64_t n, rc_shape *shape)
{
    for (int training = 0; training < 2; training++) {
        for (int i = 0; i < rc_model_output_count(model, training != 0); i++) {
            rc_output_view view;
            rc_model_output(model, training != 0, i, &view);
            if (!strcmp(view.name, name)) {
                *shape = view.shape;
                shape->d[0] = n;
                return true;
            }
        }
    }
    return false;
}

static PyObject *
run_explain(rc_py_model *m, const rc_images *images, const char *layer, const char *output,
            PyArrayObject *gradient)
{
    const rc_model_info *info = rc_model_get_info(m->model);
    rc_error err = {0};
    rc_shape shape;
    rc_status status = rc_model_explain(m->model, images, layer, output, NULL, &shape, NULL, NULL,
                                        NULL, &err); /* asks for the shape */
    if (status != RC_OK) {
        return rc_py_raise(status, &err);
    }
    npy_intp d[RC_MAX_RANK];
    for (int i = 0; i < shape.rank; i++) {
        d[i] = shape.d[i];
    }
    PyArrayObject *map = rc_py_new_array(shape.rank, d, rc_py_real(info));  /* new */
    PyArrayObject *back = rc_py_new_array(shape.rank, d, rc_py_real(info)); /* new */
    PyObject *result = NULL;
    if (map && back) {
        rc_py_poll poll;
        rc_py_poll_begin(&poll);
        status = rc_model_explain(m->model, images, layer, output, PyArray_DATA(gradient), &shape,
                                  PyArray_DATA(map), PyArray_DATA(back), &poll.poll, &err);
        rc_py_poll_end(&poll);
        m->pending = 0;
        result = rc_py_failed(status, &err) ? NULL : PyTuple_Pack(2, map, back);
    }
    Py_XDECREF(map);
    Py_XDECREF(back);
    return result;
}

PyObject *
rc_py_network_explain(PyObject *self, PyObject *args, PyObject *kw)
{
    static char *names[] = {"images", "layer", "output", "gradient", NULL};
    PyObject *object, *layer_object, *output_object, *gradient_object, *result = NULL;
    const char *layer, *output;
    rc_py_model *m = rc_py_network_get(self);
    if (!m || !PyArg_ParseTupleAndKeywords(args, kw, "OOOO:explain", names, &object, &layer_object,
                                           &output_object, &gradient_object)
        || rc_py_text(layer_object, "layer", false, &layer) < 0
        || rc_py_text(output_object, "output", false, &output) < 0) {
        return NULL;
    }
    const rc_model_info *info = rc_model_get_info(m->model);
    rc_py_images in;
    rc_shape shape;
    if (rc_py_images_get(object, m->model, true, &in) < 0) {
        return NULL;
    }
    PyArrayObject *gradient = NULL;
    if (!output_shape(m->model, output, in.images.n, &shape)) {
        rc_py_fail(RC_ARGUMENT, "output: no output is called '%.60s'", output);
    } else {
        gradient = rc_py_array_real(gradient_object, "gradient", shape.rank,
                                    info->is_double); /* new */
    }
    if (gradient && PyArray_SIZE(gradient) != rc_shape_count(&shape)) {
        char text[64];
        rc_py_fail(RC_ARGUMENT, "gradient: expected the shape of '%.40s', %s", output,
                   rc_shape_text(&shape, text));
    } else if (gradient && rc_py_model_enter(m) == 0) {
        result = run_explain(m, &in.images, layer, output, gradient);
        rc_py_model_leave(m);
    }
    Py_XDECREF(gradient);
    Py_DECREF(in.array);
    return result;
}

/* ---- grad_cam ------------------------------------------------------------------------------------ */

/* What `target` says; arrays are owned. */
typedef struct target {
    PyArrayObject *classes, *references;
    rc_cam_request request;
} target;

#define TARGETS "None, a class, N classes, a float embedding (D or N×D) or 'norm'"

static int
fail_target(PyObject *object)
{
    rc_py_fail(RC_TYPE, "target: expected " TARGETS ", got %s", Py_TYPE(object)->tp_name);
    return -1;
}

static int
one_class(PyObject *object, target *out)
{
    npy_intp one = 1;
    int overflow = 0;
    PyObject *index = PyNumber_Index(object); /* new */
    long long c = index ? PyLong_AsLongLongAndOverflow(index, &overflow) : -1;
    Py_XDECREF(index);
    if (!index) {
        return -1;
    }
    out->classes = rc_py_new_array(1, &one, NPY_INT64); /* new */
    if (!out->classes) {
        return -1;
    }
    *(int64_t *)PyArray_DATA(out->classes) = overflow ? -1 : c;
    return 0;
}

/* Float references of D or N x D, in double. */
static int
some_references(PyArrayObject *array, const rc_model_info *info, int64_t n, target *out)
{
    int rank = PyArray_NDIM(array);
    const npy_intp *d = PyArray_DIMS(array);
    if (rank < 1 || rank > 2 || d[rank - 1] != info->dimension || (rank == 2 && d[0] != n)) {
        char got[64] = "one number";
        if (rank == 1) {
            PyOS_snprintf(got, sizeof got, "%lld numbers", (long long)d[0]);
        } else if (rank == 2) {
            PyOS_snprintf(got, sizeof got, "%lld×%lld", (long long)d[0], (long long)d[1]);
        } else if (rank > 2) {
            PyOS_snprintf(got, sizeof got, "%d dimensions", rank);
        }
        rc_py_fail(RC_ARGUMENT, "target: expected an embedding of %lld numbers, or %lld×%lld, got "
                   "%s (classes are integers)", (long long)info->dimension, (long long)n,
                   (long long)info->dimension, got);
        return -1;
    }
    out->references = (PyArrayObject *)PyArray_FROM_OTF(
        (PyObject *)array, NPY_FLOAT64,
        NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED | NPY_ARRAY_NOTSWAPPED); /* new */
    return out->references ? 0 : -1;
}

static int
target_get(PyObject *object, const rc_model_info *info, int64_t n, target *out)
{
    *out = (target){.request = {.target = RC_CAM_BEST}};
    if (object == Py_None) {
        return 0;
    }
    if (PyUnicode_Check(object)) {
        if (PyUnicode_CompareWithASCIIString(object, "norm")) {
            rc_py_fail(RC_ARGUMENT, "target: expected " TARGETS ", got '%.60s'",
                       PyUnicode_AsUTF8(object) ? PyUnicode_AsUTF8(object) : "?");
            return -1;
        }
        out->request.target = RC_CAM_NORM;
        return 0;
    }
    if (PyBool_Check(object)) {
        return fail_target(object);
    }
    if (!PyArray_Check(object) && PyIndex_Check(object)) {
        out->request.target = RC_CAM_CLASS;
        return one_class(object, out);
    }
    if (!PyArray_Check(object) && !PyList_Check(object) && !PyTuple_Check(object)
        && !PyObject_HasAttrString(object, "__array__")) {
        return fail_target(object);
    }
    PyArrayObject *array = (PyArrayObject *)PyArray_FROM_O(object); /* new */
    if (!array) {
        return -1;
    }
    int type = PyArray_TYPE(array), result = -1;
    if (type == NPY_FLOAT32 || type == NPY_FLOAT64) {
        out->request.target = RC_CAM_SIMILAR;
        result = some_references(array, info, n, out);
    } else if (PyTypeNum_ISINTEGER(type) && PyArray_NDIM(array) == 0) {
        out->request.target = RC_CAM_CLASS;
        result = one_class((PyObject *)array, out);
    } else if (PyTypeNum_ISINTEGER(type)) {
        out->request.target = RC_CAM_CLASS;
        out->classes = rc_py_array_i64((PyObject *)array, "target", 1); /* new */
        result = out->classes ? 0 : -1;
        if (out->classes && PyArray_DIM(out->classes, 0) != n) {
            rc_py_fail(RC_ARGUMENT, "target: expected %lld classes, one an image, got %lld",
                       (long long)n, (long long)PyArray_DIM(out->classes, 0));
            result = -1;
        }
    } else {
        PyObject *got = PyObject_Str((PyObject *)PyArray_DESCR(array)); /* new */
        const char *text = got ? PyUnicode_AsUTF8(got) : NULL;
        if (text) {
            rc_py_fail(RC_TYPE, "target: expected " TARGETS ", got %s", text);
        }
        Py_XDECREF(got);
    }
    Py_DECREF(array);
    return result;
}

/* 1: 'activation', 0: 'gradcam', -1 and an exception */
static int
method_get(const char *method)
{
    if (!strcmp(method, "gradcam") || !strcmp(method, "activation")) {
        return method[0] == 'a';
    }
    rc_py_fail(RC_ARGUMENT, "method: expected 'gradcam' or 'activation', got '%.60s'", method);
    return -1;
}

static PyObject *
run_grad_cam(rc_py_model *m, const rc_images *images, const rc_cam_request *request)
{
    const rc_model_info *info = rc_model_get_info(m->model);
    npy_intp d[3] = {images->n, info->height, info->width};
    PyArrayObject *out = rc_py_new_array(3, d, rc_py_real(info)); /* new */
    if (!out) {
        return NULL;
    }
    rc_py_poll poll;
    rc_error err = {0};
    rc_py_poll_begin(&poll);
    rc_status status = rc_model_grad_cam(m->model, images, request, PyArray_DATA(out), &poll.poll,
                                         &err);
    rc_py_poll_end(&poll);
    m->pending = 0;
    if (rc_py_failed(status, &err)) {
        Py_CLEAR(out);
    }
    return (PyObject *)out;
}

PyObject *
rc_py_network_grad_cam(PyObject *self, PyObject *args, PyObject *kw)
{
    static char *names[] = {"images", "target", "layer", "head", "method", NULL};
    PyObject *object, *target_object = Py_None, *layer_object = Py_None, *head_object = Py_None;
    PyObject *method_object = NULL, *result = NULL;
    const char *layer, *head, *method = "gradcam";
    rc_py_model *m = rc_py_network_get(self);
    if (!m || !PyArg_ParseTupleAndKeywords(args, kw, "O|OO$OO:grad_cam", names, &object,
                                           &target_object, &layer_object, &head_object,
                                           &method_object)
        || rc_py_text(layer_object, "layer", true, &layer) < 0
        || rc_py_text(head_object, "head", true, &head) < 0
        || (method_object && rc_py_text(method_object, "method", false, &method) < 0)) {
        return NULL;
    }
    const rc_model_info *info = rc_model_get_info(m->model);
    int activation = method_get(method);
    rc_py_images in;
    if (activation < 0 || rc_py_images_get(object, m->model, false, &in) < 0) {
        return NULL;
    }
    target t;
    bool ready = target_get(target_object, info, in.images.n, &t) == 0;
    if (ready && t.request.target == RC_CAM_NORM && !activation
        && rc_model_unit_embedding(m->model)) {
        ready = PyErr_WarnEx(PyExc_UserWarning,
                             "grad_cam: this network's embedding always has length 1, so target="
                             "'norm' depends on nothing: the maps are zero", 1) == 0;
    }
    if (ready && rc_py_model_enter(m) == 0) {
        PyArrayObject *rows = t.classes ? t.classes : t.references;
        t.request.classes = t.classes ? PyArray_DATA(t.classes) : NULL;
        t.request.references = t.references ? PyArray_DATA(t.references) : NULL;
        t.request.count = !rows ? 0 : t.references && PyArray_NDIM(rows) == 1
                              ? 1 : PyArray_DIM(rows, 0);
        t.request.layer = layer;
        t.request.head = head;
        t.request.activation = activation != 0;
        result = run_grad_cam(m, &in.images, &t.request);
        rc_py_model_leave(m);
    }
    Py_XDECREF(t.classes);
    Py_XDECREF(t.references);
    Py_DECREF(in.array);
    return result;
}

/* ---- attention ----------------------------------------------------------------------------------- */

#define MAX_ATTENTIONS 64

static PyObject *
run_attention(rc_py_model *m, const rc_images *images)
{
    const rc_model_info *info = rc_model_get_info(m->model);
    int n = rc_model_attention_count(m->model);
    void *out[MAX_ATTENTIONS] = {NULL};
    PyObject *dict = n > MAX_ATTENTIONS
                         ? rc_py_fail(RC_INTERNAL, "attention: more than %d maps", MAX_ATTENTIONS)
                         : PyDict_New(); /* new; owns the arrays */
    for (int i = 0; dict && i < n; i++) {
        rc_attention_view view;
        rc_model_attention_map(m->model, i, &view);
        npy_intp d[RC_MAX_RANK];
        for (int k = 0; k < view.shape.rank; k++) {
            d[k] = k ? view.shape.d[k] : images->n;
        }
        PyArrayObject *array = rc_py_new_array(view.shape.rank, d,
                                               view.is_int ? NPY_INT64 : rc_py_real(info)); /* new */
        out[i] = array ? PyArray_DATA(array) : NULL;
        if (!array || PyDict_SetItemString(dict, view.name, (PyObject *)array) < 0) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(array);
    }
    if (!dict) {
        return NULL;
    }
    rc_py_poll poll;
    rc_error err = {0};
    rc_py_poll_begin(&poll);
    rc_status status = rc_model_attention(m->model, images, out, &poll.poll, &err);
    rc_py_poll_end(&poll);
    m->pending = 0;
    if (rc_py_failed(status, &err)) {
        Py_CLEAR(dict);
    }
    return dict;
}

PyObject *
rc_py_network_attention(PyObject *self, PyObject *args, PyObject *kw)
{
    static char *names[] = {"images", NULL};
    PyObject *object, *result = NULL;
    rc_py_images in;
    rc_py_model *m = rc_py_network_get(self);
    if (!m || !PyArg_ParseTupleAndKeywords(args, kw, "O:attention", names, &object)
        || rc_py_images_get(object, m->model, false, &in) < 0) {
        return NULL;
    }
    if (rc_py_model_enter(m) == 0) {
        result = run_attention(m, &in.images);
        rc_py_model_leave(m);
    }
    Py_DECREF(in.array);
    return result;
}

/* ---- names --------------------------------------------------------------------------------------- */

PyObject *
rc_py_network_layers(PyObject *self, PyObject *Py_UNUSED(none))
{
    rc_py_model *m = rc_py_network_get(self);
    PyObject *dict = m ? PyDict_New() : NULL; /* new */
    const rc_graph *g = m ? rc_model_get_graph(m->model) : NULL;
    for (rc_value v = 0; dict && v < g->n_values; v++) {
        char name[RC_NAME];
        if (!rc_graph_value_name(g, v, name) || rc_graph_find_map(g, name) != v) {
            continue;
        }
        const int64_t *d = g->values[v].shape.d;
        PyObject *shape = Py_BuildValue("(LLL)", (long long)d[1], (long long)d[2],
                                        (long long)d[3]); /* new */
        if (!shape || PyDict_SetItemString(dict, name, shape) < 0) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(shape);
    }
    return dict;
}

PyObject *
rc_py_network_heads(PyObject *self, PyObject *Py_UNUSED(none))
{
    rc_py_model *m = rc_py_network_get(self);
    PyObject *list = m ? PyList_New(0) : NULL; /* new */
    for (int i = 0; list && i < rc_model_head_count(m->model); i++) {
        PyObject *name = PyUnicode_FromString(rc_model_head_name(m->model, i)); /* new */
        if (!name || PyList_Append(list, name) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(name);
    }
    return list;
}

/* ---- energy_inside --------------------------------------------------------------------------------- */

static PyObject *
energy_inside(PyObject *self, PyObject *args, PyObject *kw)
{
    static char *names[] = {"maps", "masks", NULL};
    PyObject *maps_object, *masks_object;
    (void)self;
    if (!PyArg_ParseTupleAndKeywords(args, kw, "OO:energy_inside", names, &maps_object,
                                     &masks_object)) {
        return NULL;
    }
    PyArrayObject *maps = rc_py_array_f32(maps_object, "maps", 3), *out = NULL; /* new */
    PyArrayObject *masks = maps ? rc_py_array_f32(masks_object, "masks", 3) : NULL; /* new */
    if (masks) {
        const npy_intp *d = PyArray_DIMS(maps), *e = PyArray_DIMS(masks);
        if (d[0] != e[0]) {
            rc_py_fail(RC_ARGUMENT, "masks: expected %lld, one a map, got %lld", (long long)d[0],
                       (long long)e[0]);
        } else if (d[0] && (d[1] < 1 || d[2] < 1 || e[1] < 1 || e[2] < 1)) {
            rc_py_fail(RC_ARGUMENT, "maps, masks: expected pixels");
        } else {
            out = rc_py_new_array(1, d, NPY_FLOAT64); /* new */
        }
        if (out) {
            Py_BEGIN_ALLOW_THREADS
            rc_cam_energy(PyArray_DATA(maps), d[0], d[1], d[2], PyArray_DATA(masks), e[1], e[2],
                          rc_cpu_count(), PyArray_DATA(out));
            Py_END_ALLOW_THREADS
        }
    }
    Py_XDECREF(maps);
    Py_XDECREF(masks);
    return (PyObject *)out;
}

static PyMethodDef functions[] = {
    {"energy_inside", (PyCFunction)(void (*)(void))energy_inside, METH_VARARGS | METH_KEYWORDS,
     "energy_inside(maps, masks)\n--\n\n"
     "The share of each map that lies inside its mask: float64 N, sum of map·mask / sum of map.\n\n"
     "maps: float32 N×H×W, 0 or more (grad_cam's). masks: float32 N×H'×W', 0..1\n"
     "(Synthetic.masks'); maps are brought to their size (bilinear, half-pixel centres). NaN where a\n"
     "map is zero everywhere. The share of a map that looks everywhere alike is the mask's mean.\n\n"
     "TypeError: another dtype. ValueError: rank, counts that differ."},
    {0},
};

int
rc_py_add_explain(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
