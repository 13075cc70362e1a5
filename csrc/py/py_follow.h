/* Objects that belong to a network (py_follow.c): optimisers (py_optim.c, py_optim_state.c) and
 * averages of its weights (py_ema.c); and what py_run.c needs of them. They hold their network. */
#ifndef RC_PY_FOLLOW_H
#define RC_PY_FOLLOW_H

#include "py/py_network.h"

typedef struct rc_py_follow {
    PyObject_HEAD
    /* owned */
    PyObject *network;   /* NULL before __init__ and once the collector has cleared it */
    rc_py_model *shared; /* the network's; NULL before __init__ */
    void *own;           /* rc_optimizer or rc_ema, freed by its type; NULL before __init__ */
} rc_py_follow;

/* `who` says in errors what the object is. */

/* __init__ begins: the model of `network`, borrowed, where `self` is new; else NULL, an
 * exception. */
rc_py_model *rc_py_follow_begin(PyObject *self, PyObject *network, const char *who);
/* __init__ has come to its end. Takes `own`. */
void rc_py_follow_set(PyObject *self, PyObject *network, rc_py_model *m, void *own);
/* After __init__, borrowed; else NULL, an exception. */
rc_py_follow *rc_py_follow_ready(PyObject *self, const char *who);
/* The same, and it was made for this model. `argument`: how the caller's argument is called. */
rc_py_follow *rc_py_follow_of(PyObject *object, const rc_py_model *m, const char *who,
                              const char *argument);
/* Ready, and its model entered: rc_py_model_leave follows. NULL: an exception. */
rc_py_follow *rc_py_follow_enter(PyObject *self, const char *who);
/* Ready to have an attribute set to `value`, which must not be NULL (deleted). */
rc_py_follow *rc_py_follow_settable(PyObject *self, PyObject *value, const char *who,
                                    const char *attribute);

/* A method without arguments: `run` under the model's locks, without the interpreter's. */
PyObject *rc_py_follow_run(PyObject *self, const char *who,
                           rc_status (*run)(void *own, rc_error *err));
/* load_state_dict: `load` is given a copy of the dict and returns 0, or -1 and an exception. */
PyObject *rc_py_follow_load(PyObject *self, PyObject *dict, const char *who,
                            int (*load)(rc_py_follow *f, PyObject *dict));

/* ---- slots and attributes of the types ---------------------------------------------------- */
int rc_py_follow_traverse(PyObject *self, visitproc visit, void *arg);
int rc_py_follow_clear(PyObject *self);
void rc_py_follow_dealloc(PyObject *self); /* all but `own` */
PyObject *rc_py_follow_get_network(PyObject *self, void *who);

/* ---- what else sees of them ---------------------------------------------------------------- */
/* The optimiser in `object` if it was made for this model, borrowed; else NULL, an exception. */
rc_optimizer *rc_py_optimizer_get(PyObject *object, const rc_py_model *m);
/* The average in `object` if it was made for this model (None: NULL), borrowed; -1: an exception. */
int rc_py_ema_get(PyObject *object, const rc_py_model *m, rc_ema **out);

/* ---- py_optim.c and py_optim_state.c share -------------------------------------------------- */
#define RC_PY_OPTIMIZER "optimizer"             /* `who` */
extern const char *const rc_py_optimizer_kinds[]; /* by rc_optimizer_kind; NULL at the end */
PyObject *rc_py_optimizer_state_dict(PyObject *self, PyObject *none);
PyObject *rc_py_optimizer_load_state_dict(PyObject *self, PyObject *dict);

#endif
