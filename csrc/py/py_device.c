/* Devices beside the CPU: where their library is, what there is, and networks that go there. */
#include "py/py_network.h"

int
rc_py_model_fetch(rc_py_model *m)
{
    rc_error err = {0};
    rc_status status;
    Py_BEGIN_ALLOW_THREADS
    rc_model_lock(m->model);
    status = rc_model_fetch(m->model, &err);
    rc_model_unlock(m->model);
    Py_END_ALLOW_THREADS
    if (status != RC_OK) {
        rc_py_raise(status, &err);
    }
    return status == RC_OK ? 0 : -1;
}

PyObject *
rc_py_network__move(PyObject *self, PyObject *args, PyObject *kw)
{
    static char *names[] = {"index", NULL};
    int index;
    rc_py_model *m = rc_py_network_get(self);
    if (!m || !PyArg_ParseTupleAndKeywords(args, kw, "i:_move", names, &index)
        || rc_py_model_enter(m) < 0) {
        return NULL;
    }
    rc_error err = {0};
    rc_status status;
    Py_BEGIN_ALLOW_THREADS
    status = rc_model_to(m->model, index, &err);
    Py_END_ALLOW_THREADS
    m->pending = status == RC_OK ? 0 : m->pending;
    rc_py_model_leave(m);
    return status == RC_OK ? Py_NewRef(Py_None) : rc_py_raise(status, &err);
}

PyObject *
rc_py_network_device_index(PyObject *self, void *closure)
{
    (void)closure;
    rc_py_model *m = rc_py_network_get(self);
    return m ? PyLong_FromLong(rc_model_device(m->model)) : NULL;
}

static PyObject *
info_dict(const rc_device_info *info, int64_t free_bytes)
{
    return Py_BuildValue("{s:i,s:s,s:s,s:L,s:L}", "index", info->index, "name", info->name,
                         "versions", info->versions, "total_bytes", (long long)info->total_bytes,
                         "free_bytes", (long long)free_bytes);
}

static PyObject *
device_paths(PyObject *self, PyObject *args)
{
    const char *library, *folders;
    rc_error err = {0};
    (void)self;
    if (!PyArg_ParseTuple(args, "ss:_device_paths", &library, &folders)) {
        return NULL;
    }
    rc_status status = rc_device_paths(library, folders, &err);
    return status == RC_OK ? Py_NewRef(Py_None) : rc_py_raise(status, &err);
}

static PyObject *
device_info(PyObject *self, PyObject *args)
{
    int index;
    rc_error err = {0};
    rc_device_info info = {0};
    int64_t free_bytes = 0;
    (void)self;
    if (!PyArg_ParseTuple(args, "i:_device_info", &index)) {
        return NULL;
    }
    rc_status status;
    Py_BEGIN_ALLOW_THREADS
    status = rc_device_ask(index, &info, &free_bytes, &err);
    Py_END_ALLOW_THREADS
    return status == RC_OK ? info_dict(&info, free_bytes) : rc_py_raise(status, &err);
}

static PyMethodDef functions[] = {
    {"_device_paths", device_paths, METH_VARARGS,
     "_device_paths(library, folders, /)\n--\n\n"
     "Where the CUDA back end is, and folders with its libraries, separated by colons."},
    {"_device_info", device_info, METH_VARARGS,
     "_device_info(index, /)\n--\n\n"
     "Open a card and say what it is: index, name, versions, total_bytes, free_bytes.\n"
     "DeviceError: no back end, no driver, no such card, too old, a library missing."},
    {0},
};

int
rc_py_add_device(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
