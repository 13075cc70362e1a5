"""Independent PyTorch networks, written from the pages, that the C engine is compared with.

They share the pages' parameter names, so that one state serves both. Nothing here is imported by
`reidc`; `aabs.py` needs NumPy alone. `build(name, ...)` makes a twin by the name of its class.
"""


def build(name, num_classes, height, width, **options):
    """The twin of `reidc.<name>(num_classes, height, width, **options)`."""
    if name == "Baseline":
        from .baseline import Baseline as cls
    elif name == "MBGN":
        from .mbgn import MBGN as cls
    elif name == "HAMR":
        from .hamr import HAMR as cls
    elif name == "MGAF":
        from .mgaf import MGAF as cls
    elif name == "FSAC":
        from .fsac import FSAC as cls
    elif name == "MFA":
        from .mfa import MFA as cls
    else:
        raise ValueError(f"no twin of {name!r}")
    return cls(num_classes, height, width, **options)
