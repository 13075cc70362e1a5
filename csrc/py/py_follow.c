/* What optimisers and averages of the weights have in common as Python objects: they hold their
 * network, are of no use before __init__, and take turns with the network's other calls. */
#include "py/py_follow.h"

/* ---- life ---------------------------------------------------------------------------------------- */

rc_py_model *
rc_py_follow_begin(PyObject *self, PyObject *network, const char *who)
{
    if (((rc_py_follow *)self)->own) {
        rc_py_fail(RC_ARGUMENT, "%s: __init__ was called a second time", who);
        return NULL;
    }
    if (!rc_py_network_check(network)) {
        rc_py_fail(RC_TYPE, "network: expected a reidc network, got %s",
                   Py_TYPE(network)->tp_name);
        return NULL;
    }
    return rc_py_network_get(network);
}

void
rc_py_follow_set(PyObject *self, PyObject *network, rc_py_model *m, void *own)
{
    rc_py_follow *f = (rc_py_follow *)self;
    f->own = own;
    f->shared = rc_py_model_ref(m);
    f->network = Py_NewRef(network);
}

int
rc_py_follow_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((rc_py_follow *)self)->network);
    return 0;
}

int
rc_py_follow_clear(PyObject *self)
{
    Py_CLEAR(((rc_py_follow *)self)->network);
    return 0;
}

void
rc_py_follow_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    rc_py_follow_clear(self);
    rc_py_model_release(((rc_py_follow *)self)->shared);
    type->tp_free(self);
    Py_DECREF(type);
}

/* ---- calls --------------------------------------------------------------------------------------- */

rc_py_follow *
rc_py_follow_ready(PyObject *self, const char *who)
{
    rc_py_follow *f = (rc_py_follow *)self;
    if (!f->own) {
        rc_py_fail(RC_ARGUMENT, "%s: its __init__ was never called or has failed", who);
        return NULL;
    }
    return f;
}

rc_py_follow *
rc_py_follow_of(PyObject *object, const rc_py_model *m, const char *who, const char *argument)
{
    rc_py_follow *f = rc_py_follow_ready(object, who);
    if (f && f->shared != m) {
        rc_py_fail(RC_ARGUMENT, "%s: it was made for another network", argument);
        return NULL;
    }
    return f;
}

rc_py_follow *
rc_py_follow_enter(PyObject *self, const char *who)
{
    rc_py_follow *f = rc_py_follow_ready(self, who);
    return f && rc_py_model_enter(f->shared) == 0 ? f : NULL;
}

rc_py_follow *
rc_py_follow_settable(PyObject *self, PyObject *value, const char *who, const char *attribute)
{
    rc_py_follow *f = rc_py_follow_ready(self, who);
    if (f && !value) {
        rc_py_fail(RC_TYPE, "%s: cannot be deleted", attribute);
        return NULL;
    }
    return f;
}

PyObject *
rc_py_follow_run(PyObject *self, const char *who, rc_status (*run)(void *own, rc_error *err))
{
    rc_py_follow *f = rc_py_follow_enter(self, who);
    if (!f) {
        return NULL;
    }
    rc_error err = {0};
    rc_status status;
    Py_BEGIN_ALLOW_THREADS
    rc_model_lock(f->shared->model);
    status = run(f->own, &err);
    rc_model_unlock(f->shared->model);
    Py_END_ALLOW_THREADS
    rc_py_model_leave(f->shared);
    return status == RC_OK ? Py_NewRef(Py_None) : rc_py_raise(status, &err);
}

PyObject *
rc_py_follow_load(PyObject *self, PyObject *dict, const char *who,
                  int (*load)(rc_py_follow *f, PyObject *dict))
{
    rc_py_follow *f = rc_py_follow_ready(self, who);
    if (!f) {
        return NULL;
    }
    if (!PyDict_Check(dict)) {
        return rc_py_fail(RC_TYPE, "state: expected a dict, got %s", Py_TYPE(dict)->tp_name);
    }
    PyObject *own = PyDict_Copy(dict); /* new: ours stays as it is while values are converted */
    int result = own ? load(f, own) : -1;
    Py_XDECREF(own);
    return result == 0 ? Py_NewRef(Py_None) : NULL;
}

PyObject *
rc_py_follow_get_network(PyObject *self, void *who)
{
    rc_py_follow *f = rc_py_follow_ready(self, who);
    return f ? Py_XNewRef(f->network) : NULL;
}
