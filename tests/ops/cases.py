"""Cases of the operations that shape, pool, normalise and convolve; each `ref_*` is the
definition, written for reading, in float64."""
import numpy as np
from harness import Case, away_from_zero, distinct

CASES = []
WRONG = []  # (op, attrs, shapes, words that the message must have)
RELU, LEAKY, SIGMOID = 1, 2, 3


def case(*args, **more):
    CASES.append(Case(*args, **more))


def wrong(*args):
    WRONG.append(args)


def act(v, attrs):
    kind, slope = attrs.get("act", 0), attrs.get("slope", 0.0)
    return {0: lambda: v, RELU: lambda: np.maximum(v, 0),
            LEAKY: lambda: np.where(v > 0, v, slope * v),
            SIGMOID: lambda: 1 / (1 + np.exp(-v))}[kind]()


ACTS = [{}, {"act": RELU}, {"act": LEAKY, "slope": 0.1}, {"act": SIGMOID}]


# ---- activation ------------------------------------------------------------------------------

def ref_activation(x, attrs, training):
    return act(x[0], attrs)


for a in ACTS:
    case("activation", a, [(2, 3, 4, 5)], ref_activation, inputs=away_from_zero)
case("activation", {"act": RELU}, [(7, 5)], ref_activation, inputs=away_from_zero)
case("activation", {"act": LEAKY, "slope": 0.1}, [(3, 17, 5, 7)], ref_activation,
     inputs=away_from_zero, numeric=False)
wrong("activation", {"act": 9}, [(2, 3)], "act")
