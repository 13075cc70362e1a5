/* Network.embed, forward, backward, loss, train_step.
 *
 * Every method: check arguments with the interpreter lock held, take the model, let the lock go,
 * run, take it again, copy what came out, give the model back. Ctrl-C is asked about by the
 * core between two calls of a plan (rc_py_poll); a call that is stopped has changed nothing. */
#include "py/py_network.h"

#include "py/py_follow.h"

/* ---- embed ------------------------------------------------------------------------------------- */

static PyObject *
run_embed(rc_py_model *m, const rc_images *images, bool flip, bool normalize, int64_t batch)
{
    const rc_model_info *info = rc_model_get_info(m->model);
    npy_intp d[2] = {images->n, info->dimension};
    PyArrayObject *out = rc_py_new_array(2, d, rc_py_real(info)); /* new */
    if (!out || images->n == 0) {
        return (PyObject *)out;
    }
    rc_py_poll poll;
    rc_error err = {0};
    rc_py_poll_begin(&poll);
    rc_status status = rc_model_embed(m->model, images, flip, normalize, batch, PyArray_DATA(out),
                                      &poll.poll, &err);
    rc_py_poll_end(&poll);
    m->pending = 0;
    if (rc_py_failed(status, &err)) {
        Py_CLEAR(out);
    }
    return (PyObject *)out;
}

/* The same, left on the network's card. */
static PyObject *
run_embed_there(rc_py_model *m, const rc_images *images, bool flip, bool normalize, int64_t batch)
{
    void *block = NULL;
    rc_py_poll poll;
    rc_error err = {0};
    rc_py_poll_begin(&poll);
    rc_status status = rc_model_embed_there(m->model, images, flip, normalize, batch, &block,
                                            &poll.poll, &err);
    rc_py_poll_end(&poll);
    m->pending = 0;
    PyObject *array = status == RC_OK
                          ? rc_py_device_array(block, images->n,
                                               rc_model_get_info(m->model)->dimension,
                                               rc_model_device(m->model)) : NULL; /* new */
    if (rc_py_failed(status, &err)) {
        Py_CLEAR(array);
    }
    return array;
}

PyObject *
rc_py_network_embed(PyObject *self, PyObject *args, PyObject *kw)
{
    static char *names[] = {"images", "flip", "normalize", "batch_size", "device_output", NULL};
    PyObject *object, *batch_object = Py_None, *result = NULL;
    int flip = 0, normalize = 1, there = 0;
    rc_py_model *m = rc_py_network_get(self);
    if (!m || !PyArg_ParseTupleAndKeywords(args, kw, "O|$ppOp:embed", names, &object,
                                           &flip, &normalize, &batch_object, &there)) {
        return NULL;
    }
    const rc_model_info *info = rc_model_get_info(m->model);
    int64_t batch = 0;
    rc_py_images in;
    if (batch_object != Py_None && rc_py_count(batch_object, "batch_size", &batch) < 0) {
        return NULL;
    }
    if (info->dimension == 0) {
        return rc_py_fail(RC_ARGUMENT, "embed: this network has no output named 'embedding'");
    }
    if (rc_py_images_get(object, m->model, false, &in) < 0) {
        return NULL;
    }
    if (rc_py_model_enter(m) == 0) {
        result = (there ? run_embed_there : run_embed)(m, &in.images, flip != 0, normalize != 0,
                                                       batch);
        rc_py_model_leave(m);
    }
    Py_DECREF(in.array);
    return result;
}

/* ---- forward ----------------------------------------------------------------------------------- */

static int
put_output(PyObject *dict, const char *name, const rc_shape *shape, bool is_int, bool is_double,
           const void *data)
{
    PyObject *array = rc_py_output_array(shape, is_int, is_double, data); /* new */
    int result = array ? PyDict_SetItemString(dict, name, array) : -1;
    Py_XDECREF(array);
    return result;
}

/* The outputs of the last run as a dict. */
static PyObject *
collect_outputs(rc_model *model, bool training)
{
    bool is_double = rc_model_get_info(model)->is_double;
    PyObject *dict = PyDict_New(); /* new */
    for (int i = 0; dict && i < rc_model_output_count(model, training); i++) {
        rc_output_view view;
        rc_model_output(model, training, i, &view);
        if (put_output(dict, view.name, &view.shape, view.is_int, is_double, view.data) < 0) {
            Py_CLEAR(dict);
        }
    }
    return dict;
}

/* What an empty batch gives in evaluation: the outputs with no rows. */
static PyObject *
empty_outputs(rc_model *model)
{
    const rc_graph *g = rc_model_get_graph(model);
    bool is_double = rc_model_get_info(model)->is_double;
    PyObject *dict = PyDict_New(); /* new */
    for (int i = 0; dict && i < g->n_outputs; i++) {
        const rc_output *o = &g->outputs[i];
        rc_shape shape = g->values[o->value].shape;
        shape.d[0] = 0;
        if ((o->role & RC_ROLE_EVAL)
            && put_output(dict, o->name, &shape, g->values[o->value].is_int, is_double, NULL) < 0) {
            Py_CLEAR(dict);
        }
    }
    return dict;
}

PyObject *
rc_py_network_forward(PyObject *self, PyObject *args, PyObject *kw)
{
    static char *names[] = {"images", "training", "planes", NULL};
    PyObject *object, *planes_object = Py_None, *result = NULL;
    int training = 0;
    rc_py_model *m = rc_py_network_get(self);
    if (!m || !PyArg_ParseTupleAndKeywords(args, kw, "O|$pO:forward", names, &object, &training,
                                           &planes_object)) {
        return NULL;
    }
    const rc_model_info *info = rc_model_get_info(m->model);
    rc_py_images in;
    PyArrayObject *planes;
    if (rc_py_images_get(object, m->model, training != 0, &in) < 0) {
        return NULL;
    }
    if (rc_py_planes_get(planes_object, info, in.images.n, &planes) == 0
        && rc_py_model_enter(m) == 0) {
        if (in.images.n == 0) {
            result = empty_outputs(m->model);
        } else {
            rc_py_poll poll;
            rc_error err = {0};
            rc_py_poll_begin(&poll);
            rc_status status = rc_model_forward(m->model, &in.images, training != 0,
                                                planes ? PyArray_DATA(planes) : NULL, &poll.poll,
                                                &err);
            rc_py_poll_end(&poll);
            bool bad = rc_py_failed(status, &err);
            m->pending = training && !bad ? in.images.n : 0;
            result = bad ? NULL : collect_outputs(m->model, training != 0);
        }
        rc_py_model_leave(m);
    }
    Py_XDECREF(planes);
    Py_DECREF(in.array);
    return result;
}

/* ---- backward ---------------------------------------------------------------------------------- */

#define MAX_OUTPUTS 128

/* From N x C x H x W as users have it to the layout of the output. New reference. */
static PyArrayObject *
gradient_of(PyObject *object, const rc_output_view *view, bool is_double)
{
    char what[RC_NAME + 32];
    PyOS_snprintf(what, sizeof what, "gradients['%s']", view->name);
    if (view->is_int) {
        return (PyArrayObject *)rc_py_fail(RC_ARGUMENT, "%s: this output has no gradient", what);
    }
    PyArrayObject *array = rc_py_array_real(object, what, view->shape.rank, is_double); /* new */
    for (int i = 0; array && i < view->shape.rank; i++) {
        if (PyArray_DIM(array, i) != view->shape.d[i]) {
            char wanted[64];
            rc_shape got = {.rank = view->shape.rank};
            for (int k = 0; k < got.rank; k++) {
                got.d[k] = PyArray_DIM(array, k);
            }
            char given[64];
            rc_py_fail(RC_ARGUMENT, "%s: expected %s, got %s", what,
                       rc_shape_text(&view->shape, wanted), rc_shape_text(&got, given));
            Py_CLEAR(array);
        }
    }
    if (!array || view->shape.rank != 4) {
        return array;
    }
    npy_intp axes[4] = {0, 2, 3, 1};
    PyArray_Dims order = {axes, 4};
    PyObject *turned = PyArray_Transpose(array, &order); /* new */
    Py_DECREF(array);
    if (!turned) {
        return NULL;
    }
    array = PyArray_GETCONTIGUOUS((PyArrayObject *)turned); /* new */
    Py_DECREF(turned);
    return array;
}

/* Fills arrays (new references) by output; every key must be used. */
static int
gradients_by_output(rc_model *model, PyObject *dict, PyArrayObject **arrays)
{
    bool is_double = rc_model_get_info(model)->is_double;
    int n = rc_model_output_count(model, true);
    Py_ssize_t used = 0;
    rc_output_view view;
    for (int i = 0; i < n; i++) {
        rc_model_output(model, true, i, &view);
        PyObject *object = PyDict_GetItemString(dict, view.name); /* borrowed */
        if (object) {
            used++;
            arrays[i] = gradient_of(object, &view, is_double);
            if (!arrays[i]) {
                return -1;
            }
        }
    }
    if (used == PyDict_Size(dict)) {
        return 0;
    }
    Py_ssize_t position = 0;
    PyObject *key, *value; /* borrowed */
    while (PyDict_Next(dict, &position, &key, &value)) {
        const char *name = PyUnicode_Check(key) ? PyUnicode_AsUTF8(key) : "(not a name)";
        bool known = false;
        for (int i = 0; name && i < n && !known; i++) {
            rc_model_output(model, true, i, &view);
            known = !strcmp(view.name, name);
        }
        if (!known && name) {
            rc_model_output(model, true, 0, &view);
            rc_py_fail(RC_ARGUMENT, "gradients: expected names of training outputs ('%s', …), "
                       "got '%s'", n ? view.name : "none", name);
            break;
        }
    }
    return -1;
}

static PyObject *
run_backward(rc_py_model *m, PyObject *dict, bool input_gradient)
{
    if (m->pending == 0) {
        return rc_py_fail(RC_ARGUMENT, "backward: expected forward(training=True) right before, "
                          "on this network");
    }
    const rc_model_info *info = rc_model_get_info(m->model);
    PyArrayObject *arrays[MAX_OUTPUTS] = {NULL}, *dimages = NULL;
    const void *pointers[MAX_OUTPUTS];
    int n = rc_model_output_count(m->model, true);
    if (n > MAX_OUTPUTS) {
        return rc_py_fail(RC_INTERNAL, "backward: more than %d outputs", MAX_OUTPUTS);
    }
    bool ready = gradients_by_output(m->model, dict, arrays) == 0;
    if (ready && input_gradient) {
        npy_intp d[4] = {m->pending, 3, info->height, info->width};
        dimages = rc_py_new_array(4, d, rc_py_real(info)); /* new */
        ready = dimages != NULL;
    }
    bool bad = true;
    if (ready) {
        for (int i = 0; i < n; i++) {
            pointers[i] = arrays[i] ? PyArray_DATA(arrays[i]) : NULL;
        }
        rc_py_poll poll;
        rc_error err = {0};
        rc_py_poll_begin(&poll);
        rc_status status = rc_model_backward(m->model, pointers,
                                             dimages ? PyArray_DATA(dimages) : NULL, &poll.poll,
                                             &err);
        rc_py_poll_end(&poll);
        m->pending = 0;
        bad = rc_py_failed(status, &err);
    }
    for (int i = 0; i < n; i++) {
        Py_XDECREF(arrays[i]);
    }
    if (bad) {
        Py_XDECREF(dimages);
        return NULL;
    }
    return dimages ? (PyObject *)dimages : Py_NewRef(Py_None);
}

PyObject *
rc_py_network_backward(PyObject *self, PyObject *args, PyObject *kw)
{
    static char *names[] = {"gradients", "input_gradient", NULL};
    PyObject *dict, *result = NULL;
    int input_gradient = 0;
    rc_py_model *m = rc_py_network_get(self);
    if (!m || !PyArg_ParseTupleAndKeywords(args, kw, "O|$p:backward", names, &dict,
                                           &input_gradient)) {
        return NULL;
    }
    if (!PyDict_Check(dict)) {
        return rc_py_fail(RC_TYPE, "gradients: expected a dict from output names to arrays, got "
                          "%s", Py_TYPE(dict)->tp_name);
    }
    dict = PyDict_Copy(dict); /* new: our own, for converting entries may run the user's code */
    if (dict && rc_py_model_enter(m) == 0) {
        result = run_backward(m, dict, input_gradient != 0);
        rc_py_model_leave(m);
    }
    Py_XDECREF(dict);
    return result;
}

/* ---- loss, train_step ---------------------------------------------------------------------------- */

#define MAX_PARTS 32

static PyObject *
parts_dict(rc_model *model, const double *parts)
{
    PyObject *dict = PyDict_New(); /* new */
    for (int i = 0; dict && i < rc_model_loss_count(model); i++) {
        PyObject *value = PyFloat_FromDouble(parts[i]); /* new */
        if (!value || PyDict_SetItemString(dict, rc_model_loss_name(model, i), value) < 0) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(value);
    }
    return dict;
}

/* loss when optimizer is NULL, else train_step. */
static PyObject *
run_loss(rc_py_model *m, PyObject *images_object, PyObject *labels_object,
         PyObject *planes_object, rc_optimizer *optimizer, rc_ema *ema)
{
    const rc_model_info *info = rc_model_get_info(m->model);
    rc_py_images in = {0};
    PyArrayObject *labels = NULL, *planes = NULL;
    PyObject *result = NULL;
    if (!info->has_loss || rc_model_loss_count(m->model) > MAX_PARTS) {
        return rc_py_fail(RC_ARGUMENT, "loss: this network was built without a loss");
    }
    if (rc_py_images_get(images_object, m->model, true, &in) < 0) {
        return NULL;
    }
    labels = rc_py_labels_get(labels_object, m->model, in.images.n); /* new */
    if (labels && rc_py_planes_get(planes_object, info, in.images.n, &planes) == 0
        && rc_py_model_enter(m) == 0) {
        double parts[MAX_PARTS];
        const int64_t *l = PyArray_DATA(labels), *p = planes ? PyArray_DATA(planes) : NULL;
        rc_py_poll poll;
        rc_error err = {0};
        rc_status status;
        rc_py_poll_begin(&poll);
        status = optimizer ? rc_model_train_step(m->model, &in.images, l, p, optimizer, ema, parts,
                                                 &poll.poll, &err)
                           : rc_model_loss(m->model, &in.images, l, p, parts, &poll.poll, &err);
        rc_py_poll_end(&poll);
        m->pending = 0;
        result = rc_py_failed(status, &err) ? NULL : parts_dict(m->model, parts);
        rc_py_model_leave(m);
    }
    Py_XDECREF(planes);
    Py_XDECREF(labels);
    Py_DECREF(in.array);
    return result;
}

PyObject *
rc_py_network_loss(PyObject *self, PyObject *args, PyObject *kw)
{
    static char *names[] = {"images", "labels", "planes", NULL};
    PyObject *images, *labels, *planes = Py_None;
    rc_py_model *m = rc_py_network_get(self);
    if (!m || !PyArg_ParseTupleAndKeywords(args, kw, "OO|$O:loss", names, &images, &labels,
                                           &planes)) {
        return NULL;
    }
    return run_loss(m, images, labels, planes, NULL, NULL);
}

PyObject *
rc_py_network_train_step(PyObject *self, PyObject *args, PyObject *kw)
{
    static char *names[] = {"images", "labels", "optimizer", "planes", "ema", NULL};
    PyObject *images, *labels, *object, *planes = Py_None, *average = Py_None;
    rc_py_model *m = rc_py_network_get(self);
    if (!m || !PyArg_ParseTupleAndKeywords(args, kw, "OOO|$OO:train_step", names, &images, &labels,
                                           &object, &planes, &average)) {
        return NULL;
    }
    rc_optimizer *optimizer = rc_py_optimizer_get(object, m); /* borrowed from object */
    rc_ema *ema = NULL; /* borrowed from average */
    if (!optimizer || rc_py_ema_get(average, m, &ema) < 0) {
        return NULL;
    }
    return run_loss(m, images, labels, planes, optimizer, ema);
}
