/* reidc._core.Optimizer: SGD, Adam and AdamW on a network. reidc/optim.py gives each its own
 * class and signature. The optimiser holds its network. */
#include "py/py_follow.h"

#include <math.h>
#include <string.h>

static PyTypeObject *optimizer_type; /* lint: mutable static, filled once at import */

const char *const rc_py_optimizer_kinds[] = {"sgd", "adam", "adamw", NULL};

rc_optimizer *
rc_py_optimizer_get(PyObject *object, const rc_py_model *m)
{
    if (!PyObject_TypeCheck(object, optimizer_type)) {
        return (rc_optimizer *)rc_py_fail(RC_TYPE, "optimizer: expected reidc.Adam, AdamW or SGD, "
                                          "got %s", Py_TYPE(object)->tp_name);
    }
    rc_py_follow *f = rc_py_follow_of(object, m, RC_PY_OPTIMIZER, "optimizer");
    return f ? f->own : NULL;
}

/* ---- making one ---------------------------------------------------------------------------------- */

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
        if (rc_py_number(value, name, &number) < 0) {
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
    if (rc_py_number(value, "clip_norm", out) < 0) {
        return -1;
    }
    if (!(*out > 0) || !isfinite(*out)) {
        rc_py_fail(RC_ARGUMENT, "clip_norm: expected a finite number above 0, or None, got %g", *out);
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
    PyObject *network, *lr, *groups_object = Py_None, *clip = Py_None, *numbers[6] = {NULL};
    const char *kind;
    int nesterov = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kw, "OsO|$OOOOOOpOO:Optimizer", names, &network, &kind,
                                     &lr, &numbers[0], &numbers[1], &numbers[2], &numbers[3],
                                     &numbers[4], &numbers[5], &nesterov, &groups_object,
                                     &clip)) {
        return -1;
    }
    rc_py_model *m = rc_py_follow_begin(self, network, RC_PY_OPTIMIZER);
    rc_optimizer_config config = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8,
                                  .nesterov = nesterov != 0};
    double *fields[6] = {&config.weight_decay, &config.beta1, &config.beta2, &config.eps,
                         &config.momentum, &config.dampening};
    int k = 0;
    while (rc_py_optimizer_kinds[k] && strcmp(rc_py_optimizer_kinds[k], kind) != 0) {
        k++;
    }
    if (!m || !rc_py_optimizer_kinds[k]) {
        if (m) {
            rc_py_fail(RC_ARGUMENT, "kind: expected 'sgd', 'adam' or 'adamw', got '%s'", kind);
        }
        return -1;
    }
    config.kind = (rc_optimizer_kind)k;
    if (rc_py_number(lr, "lr", &config.lr) < 0) {
        return -1;
    }
    for (int i = 0; i < 6; i++) {
        if (numbers[i] && rc_py_number(numbers[i], names[3 + i], fields[i]) < 0) {
            return -1;
        }
    }
    if (clip_of(clip, &config.clip_norm) < 0) {
        return -1;
    }
    rc_optimizer_group *groups = NULL;
    int n_groups = groups_of(groups_object, &groups);
    rc_optimizer *optimizer = NULL;
    rc_error err = {0};
    rc_status status = RC_OK;
    if (n_groups >= 0) {
        Py_BEGIN_ALLOW_THREADS
        status = rc_optimizer_new(m->model, &config, groups, n_groups, &optimizer, &err);
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
    rc_py_follow_set(self, network, m, optimizer);
    return 0;
}

static void
optimizer_dealloc(PyObject *self)
{
    rc_optimizer_free(((rc_py_follow *)self)->own);
    rc_py_follow_dealloc(self);
}

/* ---- steps --------------------------------------------------------------------------------------- */

static rc_status
step(void *own, rc_error *err)
{
    return rc_optimizer_step(own, err);
}

static PyObject *
optimizer_step(PyObject *self, PyObject *Py_UNUSED(none))
{
    return rc_py_follow_run(self, RC_PY_OPTIMIZER, step);
}

static PyObject *
optimizer_reset(PyObject *self, PyObject *Py_UNUSED(none))
{
    rc_py_follow *f = rc_py_follow_enter(self, RC_PY_OPTIMIZER);
    if (!f) {
        return NULL;
    }
    rc_optimizer_reset(f->own);
    rc_py_model_leave(f->shared);
    Py_RETURN_NONE;
}

static PyObject *
optimizer_zero_grad(PyObject *self, PyObject *none)
{
    rc_py_follow *f = rc_py_follow_ready(self, RC_PY_OPTIMIZER);
    if (!f || !f->network) {
        return NULL;
    }
    return rc_py_network_zero_grad(f->network, none);
}

/* ---- attributes ---------------------------------------------------------------------------------- */

static PyObject *
get_lr(PyObject *self, void *closure)
{
    (void)closure;
    rc_py_follow *f = rc_py_follow_ready(self, RC_PY_OPTIMIZER);
    return f ? PyFloat_FromDouble(rc_optimizer_settings(f->own)->lr) : NULL;
}

static int
set_lr(PyObject *self, PyObject *value, void *closure)
{
    (void)closure;
    double lr;
    rc_py_follow *f = rc_py_follow_settable(self, value, RC_PY_OPTIMIZER, "lr");
    if (!f || rc_py_number(value, "lr", &lr) < 0) {
        return -1;
    }
    if (!isfinite(lr) || lr < 0) {
        rc_py_fail(RC_ARGUMENT, "lr: expected a finite number >= 0, got %g", lr);
        return -1;
    }
    if (rc_py_model_enter(f->shared) < 0) { /* not in the middle of a step */
        return -1;
    }
    rc_optimizer_settings(f->own)->lr = lr;
    rc_py_model_leave(f->shared);
    return 0;
}

static PyObject *
get_clip_norm(PyObject *self, void *closure)
{
    (void)closure;
    rc_py_follow *f = rc_py_follow_ready(self, RC_PY_OPTIMIZER);
    if (!f) {
        return NULL;
    }
    double clip = rc_optimizer_settings(f->own)->clip_norm;
    return clip > 0 ? PyFloat_FromDouble(clip) : Py_NewRef(Py_None);
}

static int
set_clip_norm(PyObject *self, PyObject *value, void *closure)
{
    (void)closure;
    double clip;
    rc_py_follow *f = rc_py_follow_settable(self, value, RC_PY_OPTIMIZER, "clip_norm");
    if (!f || clip_of(value, &clip) < 0 || rc_py_model_enter(f->shared) < 0) {
        return -1;
    }
    rc_optimizer_settings(f->own)->clip_norm = clip;
    rc_py_model_leave(f->shared);
    return 0;
}

static PyObject *
get_gradient_norm(PyObject *self, void *closure)
{
    (void)closure;
    rc_py_follow *f = rc_py_follow_ready(self, RC_PY_OPTIMIZER);
    if (!f) {
        return NULL;
    }
    double norm = rc_optimizer_norm(f->own);
    return isnan(norm) ? Py_NewRef(Py_None) : PyFloat_FromDouble(norm);
}

static PyObject *
get_kind(PyObject *self, void *closure)
{
    (void)closure;
    rc_py_follow *f = rc_py_follow_ready(self, RC_PY_OPTIMIZER);
    if (!f) {
        return NULL;
    }
    return PyUnicode_FromString(rc_py_optimizer_kinds[rc_optimizer_settings(f->own)->kind]);
}

static PyGetSetDef attributes[] = {
    {"lr", get_lr, set_lr, "The learning rate; may be set at any time.", NULL},
    {"network", rc_py_follow_get_network, NULL, "The network whose parameters are updated.",
     RC_PY_OPTIMIZER},
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
    {"state_dict", rc_py_optimizer_state_dict, METH_NOARGS,
     "state_dict($self)\n--\n\n"
     "kind, step, lr, weight_decay, `skipped` (steps for which a parameter was frozen) and\n"
     "`state`: copies of the state arrays by name."},
    {"load_state_dict", rc_py_optimizer_load_state_dict, METH_O,
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
    {Py_tp_traverse, rc_py_follow_traverse},
    {Py_tp_clear, rc_py_follow_clear},
    {Py_tp_methods, methods},
    {Py_tp_getset, attributes},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "reidc._core.Optimizer",
    .basicsize = sizeof(rc_py_follow),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};

int
rc_py_add_optim(PyObject *module)
{
    return rc_py_add_type(module, &optimizer_type, &spec);
}
