/* reidc._core.Optimizer: SGD, Adam and AdamW on a network. reidc/optim.py gives each its own
 * class and signature. The optimiser holds its network. */
#include "py/py_optim.h"

#include <math.h>
#include <string.h>

typedef struct rc_py_optimizer {
    PyObject_HEAD
    /* owned */
    PyObject *network;
    rc_py_model *shared;
    rc_optimizer *optimizer; /* NULL before __init__ */
} rc_py_optimizer;

static PyTypeObject *optimizer_type; /* lint: mutable static, filled once at import */

static const char *const kind_names[] = {"sgd", "adam", "adamw", NULL};

/* Names of a kind's state: "m.<parameter>" and so on. */
static const char *
slot_name(rc_optimizer_kind kind, int slot)
{
    return kind == RC_OPT_SGD ? "momentum" : slot == 0 ? "m" : "v";
}

static rc_py_optimizer *
ready(PyObject *self)
{
    rc_py_optimizer *o = (rc_py_optimizer *)self;
    if (!o->optimizer) {
        rc_py_fail(RC_ARGUMENT, "optimizer: its __init__ was never called or has failed");
        return NULL;
    }
    return o;
}

rc_optimizer *
rc_py_optimizer_get(PyObject *object, const rc_py_model *m)
{
    if (!PyObject_TypeCheck(object, optimizer_type)) {
        return (rc_optimizer *)rc_py_fail(RC_TYPE, "optimizer: expected reidc.Adam, AdamW or SGD, "
                                          "got %s", Py_TYPE(object)->tp_name);
    }
    rc_py_optimizer *o = ready(object);
    if (o && o->shared != m) {
        return (rc_optimizer *)rc_py_fail(RC_ARGUMENT, "optimizer: it was made for another "
                                          "network");
    }
    return o ? o->optimizer : NULL;
}

/* ---- making one ---------------------------------------------------------------------------------- */

static int
real_of(PyObject *value, const char *what, double *out)
{
    if (!PyFloat_Check(value) && !PyLong_Check(value) && !PyArray_IsScalar(value, Number)) {
        rc_py_fail(RC_TYPE, "%s: expected a number, got %s", what, Py_TYPE(value)->tp_name);
        return -1;
    }
    *out = PyFloat_AsDouble(value);
    return PyErr_Occurred() ? -1 : 0;
}

static int
group_of(PyObject *pattern, PyObject *settings, rc_optimizer_group *group)
{
    Py_ssize_t position = 0, length = 0;
    PyObject *key, *value; /* borrowed */
    const char *text = PyUnicode_Check(pattern) ? PyUnicode_AsUTF8AndSize(pattern, &length) : NULL;
    if (!text || !PyDict_Check(settings)) {
        rc_py_fail(RC_TYPE, "groups: expected {pattern: {'lr_factor': number, 'weight_decay': "
                   "number}}");
        return -1;
    }
    if (length >= RC_NAME) {
        rc_py_fail(RC_ARGUMENT, "groups: expected patterns of fewer than %d characters", RC_NAME);
        return -1;
    }
    *group = (rc_optimizer_group){.lr_factor = 1, .weight_decay = -1};
    memcpy(group->pattern, text, (size_t)length + 1);
    while (PyDict_Next(settings, &position, &key, &value)) {
        const char *name = PyUnicode_Check(key) ? PyUnicode_AsUTF8(key) : "(not a name)";
        bool decay = name && !strcmp(name, "weight_decay");
        if (!name || (!decay && strcmp(name, "lr_factor") != 0)) {
            rc_py_fail(RC_TYPE, "groups['%s']: expected 'lr_factor' or 'weight_decay', got '%s'",
                       text, name ? name : "?");
            return -1;
        }
        double number;
        if (real_of(value, name, &number) < 0) {
            return -1;
        }
        if (!(number >= 0)) {
            rc_py_fail(RC_ARGUMENT, "groups['%s']: %s: expected a number >= 0", text, name);
            return -1;
        }
        *(decay ? &group->weight_decay : &group->lr_factor) = number;
    }
    return 0;
}

/* *groups: to be freed with PyMem_Free. Count, or -1. */
static int
groups_of(PyObject *object, rc_optimizer_group **groups)
{
    *groups = NULL;
    if (object == Py_None) {
        return 0;
    }
    if (!PyDict_Check(object)) {
        rc_py_fail(RC_TYPE, "groups: expected a dict from name patterns to dicts, got %s",
                   Py_TYPE(object)->tp_name);
        return -1;
    }
    Py_ssize_t position = 0;
    PyObject *pattern, *settings; /* borrowed */
    int n = 0;
    *groups = PyMem_Calloc((size_t)PyDict_Size(object) + 1, sizeof **groups);
    if (!*groups) {
        PyErr_NoMemory();
        return -1;
    }
    while (PyDict_Next(object, &position, &pattern, &settings)) {
        if (group_of(pattern, settings, &(*groups)[n++]) < 0) {
            return -1;
        }
    }
    return n;
}

/* None: 0, no clipping. */
static int
clip_of(PyObject *value, double *out)
{
    *out = 0;
    if (value == Py_None) {
        return 0;
    }
    if (real_of(value, "clip_norm", out) < 0) {
        return -1;
    }
    if (!(*out > 0) || !isfinite(*out)) {
        rc_py_fail(RC_ARGUMENT, "clip_norm: expected a finite number above 0, or None");
        return -1;
    }
    return 0;
}

static int
optimizer_init(PyObject *self, PyObject *args, PyObject *kw)
{
    static char *names[] = {"network", "kind", "lr", "weight_decay", "beta1", "beta2", "eps",
                            "momentum", "dampening", "nesterov", "groups", "clip_norm",
                            NULL};
    rc_py_optimizer *o = (rc_py_optimizer *)self;
    PyObject *network, *lr, *groups_object = Py_None, *clip = Py_None, *numbers[6] = {NULL};
    const char *kind;
    int nesterov = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kw, "OsO|$OOOOOOpOO:Optimizer", names, &network, &kind,
                                     &lr, &numbers[0], &numbers[1], &numbers[2], &numbers[3],
                                     &numbers[4], &numbers[5], &nesterov, &groups_object,
                                     &clip)) {
        return -1;
    }
    if (o->optimizer) {
        rc_py_fail(RC_ARGUMENT, "optimizer: __init__ was called a second time");
        return -1;
    }
    if (!rc_py_network_check(network)) {
        rc_py_fail(RC_TYPE, "network: expected a reidc network, got %s",
                   Py_TYPE(network)->tp_name);
        return -1;
    }
    rc_py_model *m = rc_py_network_get(network);
    rc_optimizer_config config = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8,
                                  .nesterov = nesterov != 0};
    double *fields[6] = {&config.weight_decay, &config.beta1, &config.beta2, &config.eps,
                         &config.momentum, &config.dampening};
    int k = 0;
    while (kind_names[k] && strcmp(kind_names[k], kind) != 0) {
        k++;
    }
    if (!m || !kind_names[k]) {
        if (m) {
            rc_py_fail(RC_ARGUMENT, "kind: expected 'sgd', 'adam' or 'adamw', got '%s'", kind);
        }
        return -1;
    }
    config.kind = (rc_optimizer_kind)k;
    if (real_of(lr, "lr", &config.lr) < 0) {
        return -1;
    }
    for (int i = 0; i < 6; i++) {
        if (numbers[i] && real_of(numbers[i], names[3 + i], fields[i]) < 0) {
            return -1;
        }
    }
    if (clip_of(clip, &config.clip_norm) < 0) {
        return -1;
    }
    rc_optimizer_group *groups = NULL;
    int n_groups = groups_of(groups_object, &groups);
    rc_error err = {0};
    rc_status status = RC_OK;
    if (n_groups >= 0) {
        Py_BEGIN_ALLOW_THREADS
        status = rc_optimizer_new(m->model, &config, groups, n_groups, &o->optimizer, &err);
        Py_END_ALLOW_THREADS
    }
    PyMem_Free(groups);
    if (n_groups < 0) {
        return -1;
    }
    if (status != RC_OK) {
        rc_py_raise(status, &err);
        return -1;
    }
    o->shared = rc_py_model_ref(m);
    o->network = Py_NewRef(network);
    return 0;
}

static int
optimizer_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((rc_py_optimizer *)self)->network);
    return 0;
}

static int
optimizer_clear(PyObject *self)
{
    Py_CLEAR(((rc_py_optimizer *)self)->network);
    return 0;
}

static void
optimizer_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    rc_py_optimizer *o = (rc_py_optimizer *)self;
    PyObject_GC_UnTrack(self);
    optimizer_clear(self);
    rc_optimizer_free(o->optimizer);
    rc_py_model_release(o->shared);
    type->tp_free(self);
    Py_DECREF(type);
}

/* ---- steps --------------------------------------------------------------------------------------- */

static PyObject *
optimizer_step(PyObject *self, PyObject *Py_UNUSED(none))
{
    rc_py_optimizer *o = ready(self);
    if (!o || rc_py_model_enter(o->shared) < 0) {
        return NULL;
    }
    rc_error err = {0};
    rc_status status;
    Py_BEGIN_ALLOW_THREADS
    rc_model_lock(o->shared->model);
    status = rc_optimizer_step(o->optimizer, &err);
    rc_model_unlock(o->shared->model);
    Py_END_ALLOW_THREADS
    rc_py_model_leave(o->shared);
    return status == RC_OK ? Py_NewRef(Py_None) : rc_py_raise(status, &err);
}

static PyObject *
optimizer_reset(PyObject *self, PyObject *Py_UNUSED(none))
{
    rc_py_optimizer *o = ready(self);
    if (!o || rc_py_model_enter(o->shared) < 0) {
        return NULL;
    }
    rc_optimizer_reset(o->optimizer);
    rc_py_model_leave(o->shared);
    Py_RETURN_NONE;
}

static PyObject *
optimizer_zero_grad(PyObject *self, PyObject *none)
{
    rc_py_optimizer *o = ready(self);
    if (!o || !o->network) {
        return NULL;
    }
    return rc_py_network_zero_grad(o->network, none);
}

/* ---- checkpoints --------------------------------------------------------------------------------- */

typedef struct slot_view {
    char name[RC_NAME + 16];
    void *data;
    rc_shape shape;
} slot_view;

/* State k (state entries times slots), or false where there is none. */
static bool
slot_at(rc_py_optimizer *o, int k, slot_view *out)
{
    int slots = rc_optimizer_slots(o->optimizer);
    rc_state_view view;
    rc_model_state(o->shared->model, k / slots, &view);
    out->data = rc_optimizer_slot(o->optimizer, k / slots, k % slots);
    out->shape = view.shape;
    PyOS_snprintf(out->name, sizeof out->name, "%s.%s",
                  slot_name(rc_optimizer_settings(o->optimizer)->kind, k % slots), view.name);
    return out->data != NULL;
}

static int
slot_count(rc_py_optimizer *o)
{
    return rc_model_state_count(o->shared->model) * rc_optimizer_slots(o->optimizer);
}

static PyObject *
copy_slots(rc_py_optimizer *o)
{
    const rc_model_info *info = rc_model_get_info(o->shared->model);
    PyObject *dict = PyDict_New(); /* new */
    for (int k = 0; dict && k < slot_count(o); k++) {
        slot_view slot;
        npy_intp d[RC_MAX_RANK];
        if (!slot_at(o, k, &slot)) {
            continue;
        }
        for (int i = 0; i < slot.shape.rank; i++) {
            d[i] = slot.shape.d[i];
        }
        PyArrayObject *array = rc_py_new_array(slot.shape.rank, d, rc_py_real(info)); /* new */
        if (array) {
            memcpy(PyArray_DATA(array), slot.data, (size_t)PyArray_NBYTES(array));
        }
        if (!array || PyDict_SetItemString(dict, slot.name, (PyObject *)array) < 0) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(array);
    }
    return dict;
}

/* {parameter: steps that passed over it}, of those that were frozen. */
static PyObject *
copy_skipped(rc_py_optimizer *o)
{
    PyObject *dict = PyDict_New(); /* new */
    for (int i = 0; dict && i < rc_model_state_count(o->shared->model); i++) {
        rc_state_view view;
        int64_t skipped = rc_optimizer_get_skipped(o->optimizer, i);
        rc_model_state(o->shared->model, i, &view);
        PyObject *count = skipped ? PyLong_FromLongLong(skipped) : NULL; /* new */
        if (skipped && (!count || PyDict_SetItemString(dict, view.name, count) < 0)) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(count);
    }
    return dict;
}

static PyObject *
optimizer_state_dict(PyObject *self, PyObject *Py_UNUSED(none))
{
    rc_py_optimizer *o = ready(self);
    if (!o || rc_py_model_enter(o->shared) < 0) {
        return NULL;
    }
    PyObject *state = copy_slots(o); /* new */
    PyObject *skipped = state ? copy_skipped(o) : NULL; /* new */
    const rc_optimizer_config *c = rc_optimizer_settings(o->optimizer);
    if (!skipped) {
        Py_CLEAR(state);
    }
    PyObject *result = !state ? NULL : Py_BuildValue(
        "{s:s,s:L,s:d,s:d,s:N,s:N}", "kind", kind_names[c->kind], "step",
        (long long)rc_optimizer_get_t(o->optimizer), "lr", c->lr, "weight_decay", c->weight_decay,
        "skipped", skipped, "state", state);
    rc_py_model_leave(o->shared);
    return result;
}

/* Every slot's array, converted (new references in `arrays`), or an exception. */
static int
gather_slots(rc_py_optimizer *o, PyObject *state, PyObject *arrays)
{
    const rc_model_info *info = rc_model_get_info(o->shared->model);
    Py_ssize_t used = 0;
    for (int k = 0; k < slot_count(o); k++) {
        slot_view slot;
        if (!slot_at(o, k, &slot)) {
            continue;
        }
        PyObject *value = PyDict_GetItemString(state, slot.name); /* borrowed */
        if (!value) {
            rc_py_fail(RC_ARGUMENT, "state: '%s' is missing; is it another network's?", slot.name);
            return -1;
        }
        used++;
        PyArrayObject *array = rc_py_array_real(value, slot.name, slot.shape.rank,
                                                info->is_double); /* new */
        bool same = array != NULL;
        for (int i = 0; same && i < slot.shape.rank; i++) {
            same = PyArray_DIM(array, i) == slot.shape.d[i];
        }
        if (array && !same) {
            char wanted[64];
            rc_py_fail(RC_ARGUMENT, "state['%s']: expected shape %s, got another", slot.name,
                       rc_shape_text(&slot.shape, wanted));
        }
        int result = same ? PyList_Append(arrays, (PyObject *)array) : -1;
        Py_XDECREF(array);
        if (result < 0) {
            return -1;
        }
    }
    if (used != PyDict_Size(state)) {
        rc_py_fail(RC_ARGUMENT, "state: expected %zd arrays, got %zd; is it another network's?",
                   used, PyDict_Size(state));
        return -1;
    }
    return 0;
}

/* Check the counts of steps that passed over frozen parameters (`set`: take them over, too);
 * a state without them has none. */
static int
load_skipped(rc_py_optimizer *o, PyObject *dict, long long t, bool set)
{
    Py_ssize_t used = 0, given = dict ? PyDict_Size(dict) : 0;
    for (int i = 0; i < rc_model_state_count(o->shared->model); i++) {
        rc_state_view view;
        rc_model_state(o->shared->model, i, &view);
        PyObject *value = dict ? PyDict_GetItemString(dict, view.name) : NULL; /* borrowed */
        long long skipped = value ? PyLong_AsLongLong(value) : 0;
        if (skipped == -1 && PyErr_Occurred()) {
            return -1;
        }
        if (skipped < 0 || skipped > t) {
            rc_py_fail(RC_ARGUMENT, "state: skipped['%s']: expected 0 to the step, %lld",
                       view.name, t);
            return -1;
        }
        used += value != NULL;
        if (set) {
            rc_optimizer_set_skipped(o->optimizer, i, skipped);
        }
    }
    if (used != given) {
        rc_py_fail(RC_ARGUMENT, "state: skipped: names of another network");
        return -1;
    }
    return 0;
}

static int
load(rc_py_optimizer *o, PyObject *dict)
{
    PyObject *kind = PyDict_GetItemString(dict, "kind"), *step = PyDict_GetItemString(dict, "step"),
             *lr = PyDict_GetItemString(dict, "lr"),
             *decay = PyDict_GetItemString(dict, "weight_decay"),
             *skipped = PyDict_GetItemString(dict, "skipped"), /* may be missing */
             *state = PyDict_GetItemString(dict, "state"); /* borrowed from our copy */
    rc_optimizer_config *c = rc_optimizer_settings(o->optimizer);
    if (!kind || !step || !lr || !decay || !state || !PyDict_Check(state)
        || !PyUnicode_Check(kind) || !PyLong_Check(step) || (skipped && !PyDict_Check(skipped))) {
        rc_py_fail(RC_ARGUMENT, "state: expected what state_dict() gave: kind, step, lr, "
                   "weight_decay, state");
        return -1;
    }
    if (PyUnicode_CompareWithASCIIString(kind, kind_names[c->kind]) != 0) {
        rc_py_fail(RC_ARGUMENT, "state: expected that of '%s', got that of another optimiser",
                   kind_names[c->kind]);
        return -1;
    }
    double new_lr, new_decay;
    long long t = PyLong_AsLongLong(step);
    if ((t == -1 && PyErr_Occurred()) || real_of(lr, "lr", &new_lr) < 0
        || real_of(decay, "weight_decay", &new_decay) < 0) {
        return -1;
    }
    if (t < 0 || !(new_lr >= 0) || !(new_decay >= 0)) {
        rc_py_fail(RC_ARGUMENT, "state: expected step, lr and weight_decay >= 0");
        return -1;
    }
    if (load_skipped(o, skipped, t, false) < 0) {
        return -1;
    }
    PyObject *arrays = PyList_New(0), *own = PyDict_Copy(state); /* new */
    int result = arrays && own ? gather_slots(o, own, arrays) : -1;
    if (result == 0 && (result = rc_py_model_enter(o->shared)) == 0) {
        Py_ssize_t next = 0;
        for (int k = 0; k < slot_count(o); k++) {
            slot_view slot;
            if (slot_at(o, k, &slot)) {
                PyArrayObject *array = (PyArrayObject *)PyList_GET_ITEM(arrays, next++);
                memcpy(slot.data, PyArray_DATA(array), (size_t)PyArray_NBYTES(array));
            }
        }
        c->lr = new_lr;
        c->weight_decay = new_decay;
        rc_optimizer_set_t(o->optimizer, t);
        result = load_skipped(o, skipped, t, true);
        rc_py_model_leave(o->shared);
    }
    Py_XDECREF(arrays);
    Py_XDECREF(own);
    return result;
}

static PyObject *
optimizer_load_state_dict(PyObject *self, PyObject *dict)
{
    rc_py_optimizer *o = ready(self);
    if (!o) {
        return NULL;
    }
    if (!PyDict_Check(dict)) {
        return rc_py_fail(RC_TYPE, "state: expected a dict, got %s", Py_TYPE(dict)->tp_name);
    }
    PyObject *own = PyDict_Copy(dict); /* new */
    int result = own ? load(o, own) : -1;
    Py_XDECREF(own);
    return result == 0 ? Py_NewRef(Py_None) : NULL;
}

/* ---- attributes ---------------------------------------------------------------------------------- */

static PyObject *
get_lr(PyObject *self, void *closure)
{
    (void)closure;
    rc_py_optimizer *o = ready(self);
    return o ? PyFloat_FromDouble(rc_optimizer_settings(o->optimizer)->lr) : NULL;
}

static int
set_lr(PyObject *self, PyObject *value, void *closure)
{
    (void)closure;
    double lr;
    rc_py_optimizer *o = ready(self);
    if (!o || !value) {
        if (o) {
            rc_py_fail(RC_TYPE, "lr: cannot be deleted");
        }
        return -1;
    }
    if (real_of(value, "lr", &lr) < 0) {
        return -1;
    }
    if (!isfinite(lr) || lr < 0) {
        rc_py_fail(RC_ARGUMENT, "lr: expected a finite number >= 0");
        return -1;
    }
    if (rc_py_model_enter(o->shared) < 0) { /* not in the middle of a step */
        return -1;
    }
    rc_optimizer_settings(o->optimizer)->lr = lr;
    rc_py_model_leave(o->shared);
    return 0;
}

static PyObject *
get_clip_norm(PyObject *self, void *closure)
{
    (void)closure;
    rc_py_optimizer *o = ready(self);
    if (!o) {
        return NULL;
    }
    double clip = rc_optimizer_settings(o->optimizer)->clip_norm;
    return clip > 0 ? PyFloat_FromDouble(clip) : Py_NewRef(Py_None);
}

static int
set_clip_norm(PyObject *self, PyObject *value, void *closure)
{
    (void)closure;
    double clip;
    rc_py_optimizer *o = ready(self);
    if (!o || !value) {
        if (o) {
            rc_py_fail(RC_TYPE, "clip_norm: cannot be deleted");
        }
        return -1;
    }
    if (clip_of(value, &clip) < 0 || rc_py_model_enter(o->shared) < 0) {
        return -1;
    }
    rc_optimizer_settings(o->optimizer)->clip_norm = clip;
    rc_py_model_leave(o->shared);
    return 0;
}

static PyObject *
get_gradient_norm(PyObject *self, void *closure)
{
    (void)closure;
    rc_py_optimizer *o = ready(self);
    if (!o) {
        return NULL;
    }
    double norm = rc_optimizer_norm(o->optimizer);
    return isnan(norm) ? Py_NewRef(Py_None) : PyFloat_FromDouble(norm);
}

static PyObject *
get_network(PyObject *self, void *closure)
{
    (void)closure;
    rc_py_optimizer *o = ready(self);
    return o ? Py_XNewRef(o->network) : NULL;
}

static PyObject *
get_kind(PyObject *self, void *closure)
{
    (void)closure;
    rc_py_optimizer *o = ready(self);
    return o ? PyUnicode_FromString(kind_names[rc_optimizer_settings(o->optimizer)->kind]) : NULL;
}

static PyGetSetDef attributes[] = {
    {"lr", get_lr, set_lr, "The learning rate; may be set at any time.", NULL},
    {"network", get_network, NULL, "The network whose parameters are updated.", NULL},
    {"clip_norm", get_clip_norm, set_clip_norm,
     "What the gradients' norm is clipped at, or None; may be set at any time.", NULL},
    {"gradient_norm", get_gradient_norm, NULL,
     "The gradients' norm before the last step clipped them; None where no step has.", NULL},
    {"kind", get_kind, NULL, "\"sgd\", \"adam\" or \"adamw\".", NULL},
    {0},
};

static PyMethodDef methods[] = {
    {"step", optimizer_step, METH_NOARGS,
     "step($self)\n--\n\n"
     "One update from the network's gradients. ValueError: there are none."},
    {"zero_grad", optimizer_zero_grad, METH_NOARGS,
     "zero_grad($self)\n--\n\nSet the network's gradients to zero."},
    {"state_dict", optimizer_state_dict, METH_NOARGS,
     "state_dict($self)\n--\n\n"
     "kind, step, lr, weight_decay, `skipped` (steps for which a parameter was frozen) and\n"
     "`state`: copies of the state arrays by name."},
    {"load_state_dict", optimizer_load_state_dict, METH_O,
     "load_state_dict($self, state, /)\n--\n\n"
     "Take over what state_dict() gave, all of it or nothing. ValueError: of another kind of\n"
     "optimiser or network."},
    {"reset", optimizer_reset, METH_NOARGS,
     "reset($self)\n--\n\n"
     "Forget momentum (Adam: m and v) and the steps taken, as a new optimiser; lr stays."},
    {0},
};

PyDoc_STRVAR(documentation,
             "Optimizer(network, kind, lr, *, weight_decay=0, beta1=0.9, beta2=0.999, eps=1e-8, "
             "momentum=0, dampening=0, nesterov=False, groups=None, clip_norm=None)\n--\n\n"
             "What reidc.Adam, AdamW and SGD are made of.");

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)documentation},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_init, optimizer_init},
    {Py_tp_dealloc, optimizer_dealloc},
    {Py_tp_traverse, optimizer_traverse},
    {Py_tp_clear, optimizer_clear},
    {Py_tp_methods, methods},
    {Py_tp_getset, attributes},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "reidc._core.Optimizer",
    .basicsize = sizeof(rc_py_optimizer),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};

int
rc_py_add_optim(PyObject *module)
{
    if (!optimizer_type) {
        optimizer_type = (PyTypeObject *)PyType_FromSpec(&spec);
        if (!optimizer_type) {
            return -1;
        }
    }
    return PyModule_AddObjectRef(module, "Optimizer", (PyObject *)optimizer_type);
}
