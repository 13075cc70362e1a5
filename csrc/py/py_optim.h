/* What py_run.c needs of optimisers (py_optim.c) and of averages of the weights (py_ema.c). */
#ifndef RC_PY_OPTIM_H
#define RC_PY_OPTIM_H

#include "py/py_network.h"

/* The optimiser in `object` if it was made for this model, borrowed; else NULL, an exception. */
rc_optimizer *rc_py_optimizer_get(PyObject *object, const rc_py_model *m);
/* The average in `object` if it was made for this model (None: NULL), borrowed; -1: an exception. */
int rc_py_ema_get(PyObject *object, const rc_py_model *m, rc_ema **out);

#endif
