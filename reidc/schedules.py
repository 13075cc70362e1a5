"""Learning-rate schedules (spec/common.md 3): functions of the epoch.

Each call makes one: `rate = multistep(3.5e-4, (40, 70)); rate(e)` is the rate of epoch e, which
counts from 0 and may be fractional (warm-up counted in iterations). Wrappers take a schedule and
return another. ValueError: a milestone, factor or length that does not fit; an epoch below 0.
"""
from math import cos, isfinite, pi

from reidc._core import ArgumentError, ArgumentTypeError


def _number(name, value, least=None, above=None):
    try:
        value = float(value)
    except (TypeError, ValueError):
        raise ArgumentTypeError(f"{name}: expected a number, got {value!r}") from None
    if not isfinite(value) or (least is not None and value < least) or (
            above is not None and value <= above):
        bound = f" >= {least}" if least is not None else f" > {above}" if above is not None else ""
        raise ArgumentError(f"{name}: expected a finite number{bound}, got {value!r}")
    return value


def _epoch(e):
    try:
        fits = e >= 0
    except TypeError:
        raise ArgumentTypeError(f"epoch: expected a number, got {type(e).__name__}") from None
    if not fits:
        raise ArgumentError(f"epoch: expected a number >= 0, got {e!r}")
    return e


def constant(base):
    """base in every epoch."""
    base = _number("base", base, least=0)
    return lambda e: base * (_epoch(e) >= 0)


def multistep(base, milestones, gamma=0.1):
    """base times gamma to the number of milestones <= e."""
    base, gamma = _number("base", base, least=0), _number("gamma", gamma, least=0)
    if not hasattr(milestones, "__iter__"):
        raise ArgumentTypeError(f"milestones: expected numbers, got {milestones!r}")
    steps = sorted(_number("milestones", m, least=0) for m in milestones)
    return lambda e: base * gamma ** sum(m <= _epoch(e) for m in steps)


def exponential(base, gamma, hold=0):
    """base for e < hold, then base * gamma**(e - hold + 1)."""
    base, gamma = _number("base", base, least=0), _number("gamma", gamma, least=0)
    hold = _number("hold", hold, least=0)
    return lambda e: base if _epoch(e) < hold else base * gamma ** (e - hold + 1)


def cosine(base, epochs, eta_min=0.0, delay=0):
    """Half a cosine from base down to eta_min over epochs delay..epochs; base while e < delay."""
    base, low = _number("base", base, least=0), _number("eta_min", eta_min, least=0)
    delay = _number("delay", delay, least=0)
    epochs = _number("epochs", epochs, above=delay)

    def rate(e):
        if _epoch(e) < delay:
            return base
        return low + (base - low) * (1 + cos(pi * (e - delay) / (epochs - delay))) / 2
    return rate


def warmup_factor(length, factor, kind="linear"):
    """What a warm-up multiplies a rate with, as a function of t, epochs or iterations: while
    t < length 'linear' factor*(1 - t/length) + t/length, 'constant' factor, 'exponential'
    factor**(1 - t/length); then 1."""
    length = _number("epochs", length, above=0)
    factor = _number("factor", factor, above=0 if kind == "exponential" else None,
                     least=None if kind == "exponential" else 0)
    shapes = {"linear": lambda t: factor * (1 - t) + t, "constant": lambda t: factor,
              "exponential": lambda t: factor ** (1 - t)}
    if kind not in shapes:
        raise ArgumentError(f"kind: expected one of {', '.join(map(repr, shapes))}, got {kind!r}")
    shape = shapes[kind]
    return lambda t: shape(t / length) if _epoch(t) < length else 1.0


def warmup(schedule, epochs, factor, kind="linear"):
    """The schedule times `warmup_factor` of the epoch; the schedule runs on underneath."""
    warm = warmup_factor(epochs, factor, kind)
    return lambda e: schedule(e) * warm(e)


def warmup_from(schedule, epochs, begin, base):
    """From an absolute rate: begin + (base - begin)*e/epochs for e < epochs, then the schedule."""
    epochs = _number("epochs", epochs, above=0)
    begin, base = _number("begin", begin, least=0), _number("base", base, least=0)
    return lambda e: (begin + (base - begin) * e / epochs if _epoch(e) < epochs else schedule(e))


def shifted(schedule, by=1):
    """The schedule read `by` epochs later: codes that step their scheduler at the start of an
    epoch run the first one with e = 1."""
    by = _number("by", by, least=0)
    return lambda e: schedule(_epoch(e) + by)


def strong_baseline(base=3.5e-4, milestones=(40, 70), gamma=0.1, epochs=10, factor=0.01):
    """reid-strong-baseline's: multistep with linear warm-up, its first epoch run with e = 1
    (3.815e-5 with the defaults)."""
    return shifted(warmup(multistep(base, milestones, gamma), epochs, factor))


def hamr(base=0.01, milestones=(60, 90, 120), gamma=0.5, epochs=10, begin=3e-4, form="paper"):
    """HAMR's: base, times gamma at each milestone; before that ten epochs of warm-up.
    'paper', its equation (5): begin*(e + 1)/epochs for e < epochs, then a jump to base;
    'linear', its script's: from begin at e = 0 straight to base."""
    steps = multistep(base, milestones, gamma)
    if form == "linear":
        return warmup_from(steps, epochs, begin, base)
    if form != "paper":
        raise ArgumentError(f"form: expected 'paper' or 'linear', got {form!r}")
    begin, epochs = _number("begin", begin, least=0), _number("epochs", epochs, above=0)
    return lambda e: begin * (e + 1) / epochs if _epoch(e) < epochs else steps(e)
