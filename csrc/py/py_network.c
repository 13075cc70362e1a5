/* reidc._core.Network: a model as a Python object that classes may inherit from.
 *
 * The object holds a share of the model (rc_py_model); optimisers and NumPy views of weights
 * hold others. What it can do stands in the tables of py_network.h. */
#include "py/py_network.h"

#include <math.h>
#include <string.h>

#define WAIT_MICROSECONDS 50000

static PyTypeObject *network_type; /* lint: mutable static, filled once at import */

/* ---- the shared model -------------------------------------------------------------------------- */

rc_py_model *
rc_py_model_new(rc_model *model)
{
    rc_py_model *m = PyMem_Calloc(1, sizeof *m);
    PyThread_type_lock lock = m ? PyThread_allocate_lock() : NULL;
    if (!lock) {
        PyMem_Free(m);
        rc_model_free(model);
        PyErr_NoMemory();
        return NULL;
    }
    m->references = 1;
    m->model = model;
    m->lock = lock;
    return m;
}

void
rc_py_model_release(rc_py_model *m)
{
    if (m && --m->references == 0) {
        rc_model_free(m->model);
        PyThread_free_lock(m->lock);
        PyMem_Free(m);
    }
}

int
rc_py_model_enter(rc_py_model *m)
{
    unsigned long self = PyThread_get_thread_ident();
    if (m->owner == self) { /* a signal handler: waiting would never end */
        rc_py_fail(RC_ARGUMENT, "network: a call on this network is running in this very thread; "
                   "signal handlers cannot use it");
        return -1;
    }
    while (!PyThread_acquire_lock(m->lock, NOWAIT_LOCK)) {
        PyLockStatus status;
        Py_BEGIN_ALLOW_THREADS
        status = PyThread_acquire_lock_timed(m->lock, WAIT_MICROSECONDS, 0);
        Py_END_ALLOW_THREADS
        if (status == PY_LOCK_ACQUIRED) {
            break;
        }
        if (PyErr_CheckSignals() < 0) {
            return -1;
        }
    }
    m->owner = self;
    return 0;
}

void
rc_py_model_leave(rc_py_model *m)
{
    m->owner = 0;
    PyThread_release_lock(m->lock);
}

/* Called by the core between two calls, on the thread that began, without the GIL. */
static bool
should_stop(void *context)
{
    rc_py_poll *poll = context;
    PyEval_RestoreThread(poll->state);
    bool stop = PyErr_CheckSignals() < 0;
    poll->state = PyEval_SaveThread();
    return stop;
}

void
rc_py_poll_begin(rc_py_poll *poll)
{
    poll->poll = (rc_poll){should_stop, poll};
    poll->state = PyEval_SaveThread();
}

void
rc_py_poll_end(rc_py_poll *poll)
{
    PyEval_RestoreThread(poll->state);
}

/* ---- settings ---------------------------------------------------------------------------------- */

/* One value; *plain gets a new reference to the same as plain Python data. */
static int
setting_scalar(const char *name, PyObject *value, rc_setting *s, PyObject **plain)
{
    if (value == Py_None) {
        s->kind = RC_SETTING_NONE;
        *plain = Py_NewRef(Py_None);
    } else if (PyBool_Check(value) || PyArray_IsScalar(value, Bool)) {
        s->kind = RC_SETTING_BOOL;
        s->i = PyObject_IsTrue(value);
        *plain = PyBool_FromLong((long)s->i);
    } else if (PyUnicode_Check(value)) {
        s->kind = RC_SETTING_TEXT;
        *plain = Py_NewRef(value);
        s->s = PyUnicode_AsUTF8(*plain);
        if (!s->s) {
            Py_CLEAR(*plain);
        }
    } else if (PyFloat_Check(value) || PyArray_IsScalar(value, Floating)) {
        s->kind = RC_SETTING_REAL;
        s->r = PyFloat_AsDouble(value);
        *plain = PyErr_Occurred() ? NULL : PyFloat_FromDouble(s->r);
    } else if (PyIndex_Check(value)
               && !(PyArray_Check(value) && PyArray_NDIM((PyArrayObject *)value) > 0)) {
        PyObject *index = PyNumber_Index(value); /* new */
        int overflow = 0;
        s->kind = RC_SETTING_INT;
        s->i = index ? PyLong_AsLongLongAndOverflow(index, &overflow) : 0;
        if (overflow) {
            rc_py_fail(RC_ARGUMENT, "%s: expected a 64-bit integer, got a larger one", name);
            Py_CLEAR(index);
        }
        *plain = index;
    } else {
        rc_py_fail(RC_TYPE, "%s: expected None, a bool, a number, text or a tuple of numbers, "
                   "got %s", name, Py_TYPE(value)->tp_name);
        *plain = NULL;
    }
    return *plain ? 0 : -1;
}

static int
setting_list(const char *name, PyObject *value, rc_setting *s, PyObject **plain)
{
    PyObject *items = PySequence_Fast(value, "expected a sequence"); /* new */
    *plain = items ? PyList_New(0) : NULL;
    if (!*plain) {
        Py_XDECREF(items);
        return -1;
    }
    Py_ssize_t n = PySequence_Fast_GET_SIZE(items);
    int failed = 0;
    if (n > 8) {
        rc_py_fail(RC_ARGUMENT, "%s: expected up to 8 numbers, got %zd", name, n);
        failed = -1;
    }
    s->kind = RC_SETTING_LIST;
    for (Py_ssize_t i = 0; !failed && i < n; i++) {
        rc_setting one = {0};
        PyObject *item = NULL;
        failed = setting_scalar(name, PySequence_Fast_GET_ITEM(items, i), &one, &item);
        if (!failed && one.kind != RC_SETTING_INT && one.kind != RC_SETTING_REAL) {
            rc_py_fail(RC_TYPE, "%s: expected a tuple of numbers", name);
            failed = -1;
        }
        if (!failed) {
            s->list[i] = one.kind == RC_SETTING_INT ? one.i : 0;
            s->r_list[i] = one.kind == RC_SETTING_INT ? (double)one.i : one.r;
            s->count++;
            failed = PyList_Append(*plain, item);
        }
        Py_XDECREF(item);
    }
    Py_DECREF(items);
    if (failed) {
        Py_CLEAR(*plain);
    }
    return failed;
}

static bool
is_list(PyObject *value)
{
    return PyList_Check(value) || PyTuple_Check(value) || PyRange_Check(value)
           || (PyArray_Check(value) && PyArray_NDIM((PyArrayObject *)value) == 1);
}

int
rc_py_settings_get(PyObject *dict, rc_py_settings *out)
{
    *out = (rc_py_settings){0};
    if (!PyDict_Check(dict)) {
        rc_py_fail(RC_TYPE, "settings: expected a dict, got %s", Py_TYPE(dict)->tp_name);
        return -1;
    }
    Py_ssize_t position = 0;
    PyObject *key, *value; /* borrowed */
    out->plain = PyDict_New();
    out->items = PyMem_Calloc((size_t)PyDict_Size(dict) + 1, sizeof *out->items);
    if (!out->plain || !out->items) {
        rc_py_settings_free(out);
        PyErr_NoMemory();
        return -1;
    }
    while (PyDict_Next(dict, &position, &key, &value)) {
        const char *name = PyUnicode_Check(key) ? PyUnicode_AsUTF8(key) : NULL;
        rc_setting *s = &out->items[out->count];
        PyObject *plain = NULL;
        int failed = -1;
        if (!name) {
            rc_py_fail(RC_TYPE, "settings: expected names as keys");
        } else if (is_list(value)) {
            failed = setting_list(name, value, s, &plain);
        } else {
            failed = setting_scalar(name, value, s, &plain);
        }
        failed = failed ? -1 : PyDict_SetItem(out->plain, key, plain);
        Py_XDECREF(plain); /* the dict holds it now, and with it its text */
        if (failed) {
            rc_py_settings_free(out);
            return -1;
        }
        s->name = name;
        out->count++;
    }
    return 0;
}

void
rc_py_settings_free(rc_py_settings *s)
{
    PyMem_Free(s->items);
    Py_XDECREF(s->plain);
    *s = (rc_py_settings){0};
}

/* ---- life ---------------------------------------------------------------------------------------- */

bool
rc_py_network_check(PyObject *object)
{
    return PyObject_TypeCheck(object, network_type);
}

rc_py_model *
rc_py_network_get(PyObject *self)
{
    rc_py_model *m = ((rc_py_network *)self)->shared;
    if (!m) {
        rc_py_fail(RC_ARGUMENT, "network: its __init__ was never called or has failed");
    }
    return m;
}

int
rc_py_network_fill(PyObject *self, rc_model *model, PyObject *config)
{
    rc_py_network *network = (rc_py_network *)self;
    if (network->shared) {
        rc_model_free(model);
        rc_py_fail(RC_ARGUMENT, "network: __init__ was called a second time");
        return -1;
    }
    network->shared = rc_py_model_new(model);
    if (!network->shared) {
        return -1;
    }
    Py_XSETREF(network->config, Py_NewRef(config));
    return 0;
}

static PyObject *
network_new(PyTypeObject *type, PyObject *args, PyObject *kw)
{
    (void)args;
    (void)kw;
    return type->tp_alloc(type, 0); /* members are NULL; tp_alloc takes a reference to the type */
}

static int
network_init(PyObject *self, PyObject *args, PyObject *kw)
{
    static char *names[] = {"system", "settings", NULL};
    const char *system;
    PyObject *dict;
    rc_py_settings settings;
    if (!PyArg_ParseTupleAndKeywords(args, kw, "sO:Network", names, &system, &dict)
        || rc_py_settings_get(dict, &settings) < 0) {
        return -1;
    }
    rc_model *model = NULL;
    rc_error err = {0};
    rc_status status;
    Py_BEGIN_ALLOW_THREADS
    status = rc_model_new(system, settings.items, settings.count, &model, &err);
    Py_END_ALLOW_THREADS
    int result = -1;
    if (status != RC_OK) {
        rc_py_raise(status, &err);
    } else {
        PyObject *config = Py_BuildValue("{s:s,s:O}", "system", system, "settings",
                                         settings.plain); /* new */
        if (config) {
            result = rc_py_network_fill(self, model, config);
            Py_DECREF(config);
        } else {
            rc_model_free(model);
        }
    }
    rc_py_settings_free(&settings);
    return result;
}

#define MEMBERS(X) X(config) /* the Python objects of rc_py_network, all owned */

static int
network_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
#define VISIT(member) Py_VISIT(((rc_py_network *)self)->member);
    MEMBERS(VISIT)
#undef VISIT
    return 0;
}

static int
network_clear(PyObject *self)
{
#define CLEAR(member) Py_CLEAR(((rc_py_network *)self)->member);
    MEMBERS(CLEAR)
#undef CLEAR
    return 0;
}

static void
network_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    network_clear(self);
    rc_py_model_release(((rc_py_network *)self)->shared);
    type->tp_free(self);
    Py_DECREF(type);
}

/* ---- copy ---------------------------------------------------------------------------------------- */

static void
copy_states(rc_model *from, rc_model *to)
{
    size_t size = rc_model_get_info(from)->is_double ? sizeof(double) : sizeof(float);
    for (int i = 0; i < rc_model_state_count(from); i++) {
        rc_state_view a, b;
        rc_model_state(from, i, &a);
        rc_model_state(to, i, &b);
        memcpy(b.data, a.data, (size_t)rc_shape_count(&a.shape) * size);
    }
    rc_model_set_step(to, rc_model_get_step(from));
    rc_model_freeze_like(to, from);
    rc_model_touch(to);
}

static rc_status
new_like(rc_model *from, const char *system, const rc_py_settings *s, rc_model **out,
         rc_error *err)
{
    if (strcmp(system, "graph") != 0) {
        return rc_model_new(system, s->items, s->count, out, err);
    }
    rc_graph *graph = rc_graph_copy(rc_model_get_graph(from));
    if (!graph) {
        return rc_fail(err, RC_MEMORY, "copy: out of memory");
    }
    return rc_model_from_graph(graph, s->items, s->count, out, err);
}

PyObject *
rc_py_network_copy(PyObject *self, PyObject *Py_UNUSED(none))
{
    rc_py_model *m = rc_py_network_get(self);
    PyObject *config = ((rc_py_network *)self)->config;
    rc_py_settings settings;
    if (!m || rc_py_settings_get(PyDict_GetItemString(config, "settings"), &settings) < 0) {
        return NULL;
    }
    if (rc_py_model_enter(m) < 0) {
        rc_py_settings_free(&settings);
        return NULL;
    }
    const char *system = rc_model_get_info(m->model)->system;
    rc_model *model = NULL;
    rc_error err = {0};
    rc_status status;
    Py_BEGIN_ALLOW_THREADS
    status = rc_model_fetch(m->model, &err);
    status = status == RC_OK ? new_like(m->model, system, &settings, &model, &err) : status;
    if (status == RC_OK) {
        copy_states(m->model, model);
        status = rc_model_stored_like(model, m->model, &err);
        status = status == RC_OK ? rc_model_to(model, rc_model_device(m->model), &err) : status;
        if (status != RC_OK) {
            rc_model_free(model);
        }
    }
    Py_END_ALLOW_THREADS
    rc_py_model_leave(m);
    rc_py_settings_free(&settings);
    if (status != RC_OK) {
        return rc_py_raise(status, &err);
    }
    PyObject *copy = network_new(Py_TYPE(self), NULL, NULL); /* new */
    if (!copy) {
        rc_model_free(model);
        return NULL;
    }
    if (rc_py_network_fill(copy, model, config) < 0) {
        Py_DECREF(copy);
        return NULL;
    }
    return copy;
}

/* ---- attributes ---------------------------------------------------------------------------------- */

#define ATTRIBUTES(X)                                                                           \
    X(system, PyUnicode_FromString(info->system), "The registry's name of this network.")       \
    X(height, PyLong_FromLongLong(info->height), "Rows of the input, in pixels.")               \
    X(width, PyLong_FromLongLong(info->width), "Columns of the input, in pixels.")              \
    X(num_classes, PyLong_FromLongLong(info->classes), "Identities of the classifier; 0: none.") \
    X(dimension, PyLong_FromLongLong(info->dimension), "D of the embedding.")                   \
    X(precision, PyUnicode_FromString(info->precision),                                         \
      "\"float32\", or \"float64\": the plain C reference, slow.")                              \
    X(memory, PyUnicode_FromString(info->low_memory ? "low" : "normal"),                        \
      "\"normal\", or \"low\": training makes more again instead of keeping it.")               \
    X(threads, PyLong_FromLong(info->threads), "Threads of a call.")                            \
    X(normalized, PyBool_FromLong(info->normalized), "The embedding itself is of unit length.") \
    X(test_flip, PyBool_FromLong(info->test_flip), "The page's test averages mirrored images.") \
    X(has_loss, PyBool_FromLong(info->has_loss), "Whether loss and train_step work.")           \
    X(takes_planes, PyBool_FromLong(info->takes_planes), "Whether forward takes planes.")       \
    X(num_parameters, PyLong_FromLongLong(info->parameters),                                    \
      "All of parameters(), classifiers and centres included.")                                 \
    X(num_inference_parameters, PyLong_FromLongLong(info->inference_parameters),                \
      "Those that an embedding needs.")                                                         \
    X(macs, PyLong_FromDouble(info->macs),                                                      \
      "Multiply-accumulates of one image in evaluation, factored where the page factors.")      \
    X(macs_literal, PyLong_FromDouble(info->macs_literal), "The same without factoring.")

#define GETTER(name, value, doc)                                 \
    static PyObject *get_##name(PyObject *self, void *closure)   \
    {                                                            \
        (void)closure;                                           \
        rc_py_model *m = rc_py_network_get(self);                \
        if (!m) {                                                \
            return NULL;                                         \
        }                                                        \
        const rc_model_info *info = rc_model_get_info(m->model); \
        return value;                                            \
    }
ATTRIBUTES(GETTER)

static PyObject *
get_config(PyObject *self, void *closure)
{
    (void)closure;
    rc_py_model *m = rc_py_network_get(self);
    if (!m) {
        return NULL;
    }
    PyObject *config = PyDict_Copy(((rc_py_network *)self)->config); /* new */
    PyObject *settings = config ? PyDict_Copy(PyDict_GetItemString(config, "settings"))
                                : NULL; /* new */
    if (!settings || PyDict_SetItemString(config, "settings", settings) < 0) {
        Py_CLEAR(config);
    }
    Py_XDECREF(settings);
    return config;
}

static PyObject *
get_step(PyObject *self, void *closure)
{
    (void)closure;
    rc_py_model *m = rc_py_network_get(self);
    return m ? PyLong_FromUnsignedLongLong(rc_model_get_step(m->model)) : NULL;
}

static int
set_step(PyObject *self, PyObject *value, void *closure)
{
    (void)closure;
    rc_py_model *m = rc_py_network_get(self);
    if (!m) {
        return -1;
    }
    if (!value || !PyIndex_Check(value)) {
        rc_py_fail(RC_TYPE, "step: expected an integer >= 0");
        return -1;
    }
    PyObject *index = PyNumber_Index(value); /* new */
    int overflow = 0;
    long long step = index ? PyLong_AsLongLongAndOverflow(index, &overflow) : -1;
    Py_XDECREF(index);
    if (step < 0 || overflow) {
        rc_py_fail(RC_ARGUMENT, "step: expected an integer from 0 to 2^63-1");
        return -1;
    }
    if (rc_py_model_enter(m) < 0) {
        return -1;
    }
    rc_model_set_step(m->model, (uint64_t)step);
    rc_py_model_leave(m);
    return 0;
}

static PyGetSetDef attributes[] = {
#define ENTRY(name, value, doc) {#name, get_##name, NULL, doc, NULL},
    ATTRIBUTES(ENTRY)
#undef ENTRY
    {"config", get_config, NULL, "System and settings as given, plain data; a copy.", NULL},
    {"_device_index", rc_py_network_device_index, NULL, "Of its card; -1: the CPU.", NULL},
    {"frozen", rc_py_network_frozen, NULL,
     "Names of the parameters that training leaves alone (`freeze`), a tuple.", NULL},
    {"step", get_step, set_step,
     "Training forwards so far: what dropout is drawn from; part of a checkpoint.", NULL},
    {0},
};

#define CALL_KEYWORDS(name) \
    (PyCFunction)(void (*)(void))rc_py_network_##name, METH_VARARGS | METH_KEYWORDS
#define CALL_NOARGS(name) rc_py_network_##name, METH_NOARGS
#define ENTRY(kind, name, doc) {#name, CALL_##kind(name), doc},
static PyMethodDef methods[] = {RC_PY_NETWORK_METHODS(ENTRY){0}};
#undef ENTRY

PyDoc_STRVAR(documentation,
             "Network(system, settings)\n--\n\n"
             "A network with its weights: what reidc's classes and Graph.build make.\n\n"
             "system: a name of list_systems(). settings: its switches by name, and num_classes,\n"
             "height, width, backbone, width_multiplier, zero_init_residual, seed, threads,\n"
             "precision, memory. Unknown names are a TypeError, values that do not fit a ValueError. Two\n"
             "threads may share a network: one call waits for the other.");

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)documentation},
    {Py_tp_new, network_new},
    {Py_tp_init, network_init},
    {Py_tp_dealloc, network_dealloc},
    {Py_tp_traverse, network_traverse},
    {Py_tp_clear, network_clear},
    {Py_tp_methods, methods},
    {Py_tp_getset, attributes},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "reidc._core.Network",
    .basicsize = sizeof(rc_py_network),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};

static PyObject *
list_systems(PyObject *self, PyObject *Py_UNUSED(none))
{
    (void)self;
    PyObject *list = PyList_New(0); /* new */
    for (int i = 0; list && i < rc_system_count(); i++) {
        PyObject *name = PyUnicode_FromString(rc_system_name(i)); /* new */
        if (!name || PyList_Append(list, name) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(name);
    }
    return list;
}

static PyMethodDef functions[] = {
    {"list_systems", list_systems, METH_NOARGS,
     "list_systems()\n--\n\nNames of the registry's networks."},
    {0},
};

int
rc_py_add_network(PyObject *module)
{
    if (PyModule_AddFunctions(module, functions) < 0) {
        return -1;
    }
    return rc_py_add_type(module, &network_type, &spec);
}
