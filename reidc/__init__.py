"""Person re-identification networks with a C core: train, run, evaluate, explain."""
from reidc._core import Error, config  # noqa: F401
from reidc.evaluation import compute_distance_matrix, evaluate_rank  # noqa: F401

__version__ = "0.1.0"

_LATE = {"Augment": "reidc.augment", "Loader": "reidc.loader"}  # what `import reidc` need not read


def __getattr__(name):
    import importlib

    if name == "datasets":
        return importlib.import_module("reidc.datasets")
    if name in _LATE:
        return getattr(importlib.import_module(_LATE[name]), name)
    raise AttributeError(f"module 'reidc' has no attribute {name!r}")
