"""Person re-identification networks with a C core: train, run, evaluate, explain."""
from reidc._core import Error, aabs, config  # noqa: F401
from reidc.evaluation import (  # noqa: F401
    compute_distance_matrix, evaluate, evaluate_rank)

__version__ = "0.1.0"

# What `import reidc` need not read.
_LATE = {"Augment": "reidc.augment", "Loader": "reidc.loader"}
_LATE_MODULES = ("datasets", "losses", "schedules")


def __getattr__(name):
    import importlib

    if name in _LATE_MODULES:
        return importlib.import_module(f"reidc.{name}")
    if name in _LATE:
        return getattr(importlib.import_module(_LATE[name]), name)
    raise AttributeError(f"module 'reidc' has no attribute {name!r}")
