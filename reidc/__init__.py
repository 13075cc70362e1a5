"""Person re-identification networks with a C core: train, run, evaluate, explain.

Only the core is loaded here; every other name is imported when it is first used.
"""
from reidc import _tuned
from reidc._core import (
    ArgumentError, ArgumentTypeError, DeviceArray, DeviceError, Error, FileError, FileMissingError,
    InternalError, OutOfMemoryError, UnsupportedError, aabs, config, energy_inside,
)

__version__ = "0.1.0"

_tuned.warn(__version__)

_NAMES = {  # name: the module that has it
    "Augment": "augment",
    "Loader": "loader",
    "compute_distance_matrix": "evaluation",
    "compare": "comparison",
    "evaluate": "evaluation",
    "evaluate_rank": "evaluation",
    "cuda_info": "devices",
    "Graph": "graph",
    "Baseline": "networks",
    "FSAC": "networks",
    "FeatureExtractor": "networks",
    "HAMR": "networks",
    "MBGN": "networks",
    "MFA": "networks",
    "MGAF": "networks",
    "Network": "networks",
    "build_model": "networks",
    "list_models": "networks",
    "load": "networks",
    "Adam": "optim",
    "AdamW": "optim",
    "EMA": "optim",
    "SGD": "optim",
    "Trainer": "trainer",
}
_MODULES = ("ablations", "datasets", "losses", "plot", "recipes", "schedules")

__all__ = ["ArgumentError", "ArgumentTypeError", "DeviceArray", "DeviceError", "Error", "FileError",
           "FileMissingError", "InternalError", "OutOfMemoryError", "UnsupportedError", "aabs",
           "config", "energy_inside", *_NAMES, *_MODULES]

TYPE_CHECKING = False
if TYPE_CHECKING:  # what type checkers and editors read; never runs
    from reidc import ablations, datasets, losses, plot, recipes, schedules  # noqa: F401
    from reidc.augment import Augment  # noqa: F401
    from reidc.comparison import compare  # noqa: F401
    from reidc.devices import cuda_info  # noqa: F401
    from reidc.evaluation import (  # noqa: F401
        compute_distance_matrix, evaluate, evaluate_rank,
    )
    from reidc.graph import Graph  # noqa: F401
    from reidc.loader import Loader  # noqa: F401
    from reidc.networks import (  # noqa: F401
        FSAC, HAMR, MBGN, MFA, MGAF, Baseline, FeatureExtractor, Network, build_model,
        list_models, load,
    )
    from reidc.optim import EMA, SGD, Adam, AdamW  # noqa: F401
    from reidc.trainer import Trainer  # noqa: F401


def __getattr__(name):
    from importlib import import_module

    if name in _NAMES:
        value = getattr(import_module("reidc." + _NAMES[name]), name)
    elif name in _MODULES:
        value = import_module("reidc." + name)
    else:
        raise AttributeError(f"module 'reidc' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})
