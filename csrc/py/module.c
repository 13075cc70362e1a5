/* The extension module reidc._core: multi-phase initialisation, parts from RC_PY_PARTS. */
#define RC_PY_IMPORTS_NUMPY
#include "py/py.h"

int
rc_py_add_type(PyObject *module, PyTypeObject **type, PyType_Spec *spec)
{
    if (!*type) {
        *type = (PyTypeObject *)PyType_FromSpec(spec); /* owned by the process */
    }
    return *type ? PyModule_AddType(module, *type) : -1;
}

static int
exec_module(PyObject *module)
{
    if (PyArray_ImportNumPyAPI() < 0) {
        return -1;
    }
    if (rc_py_add_errors(module) < 0) {
        return -1;
    }
#define ADD(part)                        \
    if (rc_py_add_##part(module) < 0) {  \
        return -1;                       \
    }
    RC_PY_PARTS(ADD)
#undef ADD
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, exec_module},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "reidc._core",
    .m_doc = "The C core of reidc. Import reidc, not this.",
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&definition);
}
