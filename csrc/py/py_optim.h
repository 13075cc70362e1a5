/* What py_run.c needs of optimisers (py_optim.c). */
#ifndef RC_PY_OPTIM_H
#define RC_PY_OPTIM_H

#include "py/py_network.h"

/* The optimiser in `object` if it was made for this model, borrowed; else NULL, an exception. */
rc_optimizer *rc_py_optimizer_get(PyObject *object, const rc_py_model *m);

#endif
