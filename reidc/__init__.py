"""Person re-identification networks with a C core: train, run, evaluate, explain."""
from reidc._core import Error, config  # noqa: F401
from reidc.evaluation import compute_distance_matrix, evaluate_rank  # noqa: F401

__version__ = "0.1.0"
