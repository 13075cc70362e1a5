/* Network._quantize and what a checkpoint keeps of it; reidc/quantization.py gives them words. */
#include "py/py_network.h"

#include <string.h>

static PyObject *
layers_list(const rc_quantized *q)
{
    PyObject *list = PyList_New(q->n); /* new */
    for (int i = 0; list && i < q->n; i++) {
        const rc_quantized_layer *l = &q->layers[i];
        PyObject *row = Py_BuildValue("{s:s,s:O,s:O,s:d,s:d,s:d,s:d}", "name", l->name, "int8",
                                      l->in_bytes ? Py_True : Py_False, "measured",
                                      l->measured ? Py_True : Py_False, "low", l->low, "high",
                                      l->high, "step", l->step, "error", l->error); /* new */
        if (!row) {
            Py_CLEAR(list);
        } else {
            PyList_SET_ITEM(list, i, row);
        }
    }
    return list;
}

/* config with precision 'int8', in fresh dicts: copies of the network share the old ones. */
static PyObject *
config_in_bytes(PyObject *old)
{
    PyObject *config = PyDict_Copy(old), *text = PyUnicode_FromString("int8"); /* new, both */
    PyObject *settings = PyDict_GetItemString(old, "settings");               /* borrowed */
    settings = settings ? PyDict_Copy(settings) : NULL;                       /* new */
    if (!config || !text || !settings || PyDict_SetItemString(settings, "precision", text) < 0
        || PyDict_SetItemString(config, "settings", settings) < 0) {
        Py_CLEAR(config);
    }
    Py_XDECREF(settings);
    Py_XDECREF(text);
    return config;
}

PyObject *
rc_py_network__quantize(PyObject *self, PyObject *args, PyObject *kw)
{
    static char *names[] = {"images", "mse", "percentile", "limit", NULL};
    PyObject *object, *result = NULL;
    int mse;
    rc_quantize_options options;
    rc_py_model *m = rc_py_network_get(self);
    if (!m || !PyArg_ParseTupleAndKeywords(args, kw, "Opdd:_quantize", names, &object, &mse,
                                           &options.percentile, &options.limit)) {
        return NULL;
    }
    options.method = mse ? RC_QUANTIZE_MSE : RC_QUANTIZE_PERCENTILE;
    rc_py_images in;
    if (rc_py_images_get(object, m->model, true, &in) < 0) {
        return NULL;
    }
    PyObject *config = config_in_bytes(((rc_py_network *)self)->config); /* new */
    if (config && rc_py_model_enter(m) == 0) {
        rc_quantized out;
        rc_error err = {0};
        rc_py_poll poll;
        rc_py_poll_begin(&poll);
        rc_status status = rc_model_quantize(m->model, &in.images, &options, &out, &poll.poll, &err);
        rc_py_poll_end(&poll);
        if (status == RC_OK) {
            m->pending = 0;
            Py_XSETREF(((rc_py_network *)self)->config, Py_NewRef(config));
        }
        rc_py_model_leave(m);
        if (!rc_py_failed(status, &err)) {
            result = layers_list(&out);
        }
        rc_free(out.layers);
    }
    Py_XDECREF(config);
    Py_DECREF(in.array);
    return result;
}

PyObject *
rc_py_network__stored(PyObject *self, PyObject *Py_UNUSED(none))
{
    rc_py_model *m = rc_py_network_get(self);
    if (!m || rc_py_model_enter(m) < 0) {
        return NULL;
    }
    PyObject *list = PyList_New(0); /* new */
    for (int i = 0; list && i < rc_model_get_graph(m->model)->n_values; i++) {
        rc_stored_value v;
        if (!rc_model_stored(m->model, i, &v)) {
            continue;
        }
        PyObject *row = Py_BuildValue("[ifii]", (int)v.value, v.step, (int)v.zero,
                                      (int)v.in_bytes); /* new */
        if (!row || PyList_Append(list, row) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(row);
    }
    rc_py_model_leave(m);
    return list;
}

PyObject *
rc_py_network__set_stored(PyObject *self, PyObject *args, PyObject *kw)
{
    static char *names[] = {"values", NULL};
    PyObject *list;
    rc_py_model *m = rc_py_network_get(self);
    if (!m || !PyArg_ParseTupleAndKeywords(args, kw, "O!:_set_stored", names, &PyList_Type, &list)) {
        return NULL;
    }
    Py_ssize_t n = PyList_GET_SIZE(list);
    rc_stored_value *values = PyMem_Calloc((size_t)n + 1, sizeof *values);
    if (!values) {
        return PyErr_NoMemory();
    }
    bool fine = true;
    for (Py_ssize_t i = 0; fine && i < n; i++) {
        int value, zero, in_bytes;
        PyObject *row = PySequence_Tuple(PyList_GET_ITEM(list, i)); /* new */
        fine = row && PyArg_ParseTuple(row, "ifip", &value, &values[i].step, &zero, &in_bytes);
        if (fine) {
            values[i].value = value;
            values[i].zero = zero;
            values[i].in_bytes = in_bytes != 0;
        }
        Py_XDECREF(row);
    }
    if (fine && (fine = rc_py_model_enter(m) == 0)) {
        rc_error err = {0};
        rc_status status = rc_model_set_stored(m->model, values, (int)n, &err);
        rc_py_model_leave(m);
        fine = status == RC_OK;
        if (!fine) {
            rc_py_raise(status, &err);
        }
    }
    PyMem_Free(values);
    return fine ? Py_NewRef(Py_None) : NULL;
}
