/* reidc._core: configuration and the hooks that the tests use. */
#include "py/py.h"

static PyObject *
config(PyObject *self, PyObject *Py_UNUSED(none))
{
    (void)self;
    return Py_BuildValue("{s:s,s:s,s:i}", "cpu", rc_isa_name(rc_isa_get()), "cpu_probe",
                         rc_isa_name(rc_isa_probe()), "threads", rc_cpu_count());
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
     "config()\n--\n\nInstruction set in use, what the CPU offers, processors usable."},
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
