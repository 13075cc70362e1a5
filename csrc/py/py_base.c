/* reidc._core: configuration and the hooks that the tests use. */
#include "py/py.h"

static PyObject *
config(PyObject *self, PyObject *Py_UNUSED(none))
{
    (void)self;
    char model[RC_CPU_MODEL], tuned[RC_TUNE_SOURCE];
    rc_cpu_model(model);
    rc_tune_describe(tuned);
    return Py_BuildValue("{s:s,s:s,s:s,s:i,s:s}", "cpu", rc_isa_name(rc_isa_get()), "cpu_probe",
                         rc_isa_name(rc_isa_probe()), "cpu_model", model, "threads",
                         rc_cpu_count(), "convolutions", tuned);
}

static PyObject *
tune_set(PyObject *self, PyObject *args)
{
    (void)self;
    const char *text, *source, *version = NULL;
    if (!PyArg_ParseTuple(args, "zz|z:_tune_set", &text, &source, &version)) {
        return NULL;
    }
    rc_tune_result result;
    rc_error err = {0};
    rc_status status = rc_tune_set(text, source, version, &result, &err);
    if (status != RC_OK) {
        return rc_py_raise(status, &err);
    }
    return Py_BuildValue("Ls", (long long)result.ignored, result.notes);
}

static PyObject *
memory_live(PyObject *self, PyObject *Py_UNUSED(none))
{
    (void)self;
    return PyLong_FromLongLong(rc_memory_live());
}

static PyObject *
memory_fail_after(PyObject *self, PyObject *argument)
{
    (void)self;
    long long n = PyLong_AsLongLong(argument);
    if (n == -1 && PyErr_Occurred()) {
        return NULL;
    }
    rc_memory_fail_after(n);
    Py_RETURN_NONE;
}

static PyObject *
random_word(PyObject *self, PyObject *args)
{
    (void)self;
    unsigned long long v[6];
    if (!PyArg_ParseTuple(args, "KKKKKK", v, v + 1, v + 2, v + 3, v + 4, v + 5)) {
        return NULL;
    }
    return PyLong_FromUnsignedLongLong(rc_random(v[0], v[1], v[2], v[3], v[4], v[5]));
}

static PyMethodDef methods[] = {
    {"config", config, METH_NOARGS,
     "config()\n--\n\nInstruction set in use, what the CPU offers, processors usable; by which table\n"
     "or rule the kernels of convolutions are chosen (docs/tuning.md)."},
    {"_tune_set", tune_set, METH_VARARGS,
     "_tune_set(text, source, version=None): a table of kernels (None: the rule) for plans to come;\n"
     "how many entries were ignored, and which."},
    {"_memory_live", memory_live, METH_NOARGS, "Bytes held by the core (tests)."},
    {"_memory_fail_after", memory_fail_after, METH_O,
     "Make the n-th allocation from now fail; negative: off (tests)."},
    {"_random", random_word, METH_VARARGS,
     "_random(seed, kind, a, b, c, slot): one 64-bit word (tests)."},
    {NULL, NULL, 0, NULL},
};

int
rc_py_add_base(PyObject *module)
{
    const char *problem = rc_isa_problem() ? rc_isa_problem() : rc_pin_problem();
    if (problem) {
        PyErr_SetString(PyExc_ValueError, problem);
        return -1;
    }
    return PyModule_AddFunctions(module, methods);
}
