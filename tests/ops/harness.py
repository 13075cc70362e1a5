"""What a case of an operation is, and the checks that every case goes through.

A case names an operation, its attributes and the shapes of its inputs (N x C x H x W; None: no
such input), with a definition of the result in NumPy. Case tables: cases.py, cases_attention.py,
cases_losses.py; each has a list CASES (and WRONG: inputs that must be refused). test_ops.py runs
them all.
"""
from dataclasses import dataclass
from collections.abc import Callable

import numpy as np
from reidc import _core

EPS32 = float(np.finfo(np.float32).eps)
HALF = 2.0**-8  # the largest relative error of one rounding to bf16
SEED, STEP, NODE = 11, 5, 3  # keys of random numbers in every run


@dataclass
class Case:
    op: str
    attrs: dict
    shapes: list  # a tuple or None per input
    ref: Callable  # (inputs: float64 arrays, attrs, training) -> y from the definition
    training: bool = False
    inputs: Callable | None = None  # (rng, shapes) -> arrays; default: standard normal
    terms: int = 16  # length of the longest sum behind a result or gradient: error bounds
    exact: float = 1e-12  # bound of float64 against ref, relative, times terms
    numeric: bool = True  # central differences (off for large shapes: checked on small ones)
    numeric_eps: float = 1e-5
    numeric_bound: float = 1e-6
    grad_ref: Callable | None = None  # (inputs, attrs, dy) -> gradients or None each, where
    #   central differences do not apply (detached parts)
    state_ref: Callable | None = None  # (inputs, attrs) -> running statistics after commit
    slack: float = 1.0  # factor on the float32 bound, with a reason where it is used
    label: str = ""
    seed: int = 0
    gradient: bool = True  # False: this form is never differentiated

    def __str__(self):
        shape = "x".join(map(str, self.shapes[0])) if self.shapes[0] else "-"
        attrs = ",".join(f"{k}={v}" for k, v in self.attrs.items())
        mode = "train" if self.training else "eval"
        return "-".join(p for p in (self.op, shape, attrs, mode, self.label) if p)

    def arrays(self):
        """Inputs whose values are exact in float32, so that both precisions see the same."""
        rng = np.random.default_rng(self.seed + 1)
        if self.inputs:
            values = self.inputs(rng, self.shapes)
        else:
            values = [None if s is None else rng.standard_normal(s) for s in self.shapes]
        return [v if v is None or np.issubdtype(v.dtype, np.integer)
                else np.asarray(v, np.float32).astype(np.float64) for v in values]

    def run(self, inputs, dtype="float64", **more):
        return _core._op_run(self.op, self.attrs, inputs, dtype, training=self.training,
                             seed=SEED, step=STEP, node=NODE, **more)

    def dy(self, y):
        return np.random.default_rng(99).standard_normal(y.shape).astype(
            np.float32).astype(np.float64)

    def info(self):
        return _core._op_info(self.op)

    def has_gradient(self):
        return self.gradient and self.info()["backward"]


def distinct(rng, shapes):
    """Values at least 0.01 apart, so that no maximum changes within a small step."""
    out = []
    for shape in shapes:
        if shape is None:
            out.append(None)
            continue
        count = int(np.prod(shape))
        out.append(((rng.permutation(count) - count / 2 + 0.25) * 0.02).reshape(shape))
    return out


def away_from_zero(rng, shapes):
    """Magnitudes of at least 0.05: no kink of a ReLU within a small step."""
    out = []
    for shape in shapes:
        if shape is None:
            out.append(None)
            continue
        v = rng.standard_normal(shape)
        out.append(np.where(np.abs(v) < 0.05, v + np.copysign(0.1, v), v))
    return out


def close(got, want, bound, what):
    """|got - want| <= bound everywhere; a NaN fails. bound: absolute, or an array."""
    assert got.shape == want.shape, f"{what}: shape {got.shape}, expected {want.shape}"
    error = np.abs(got.astype(np.float64) - want.astype(np.float64))
    bad = ~(error <= bound)
    if bad.any():
        at = np.unravel_index(np.argmax(np.where(np.isnan(error), np.inf, error)), error.shape)
        limit = np.broadcast_to(bound, error.shape)[at]
        raise AssertionError(f"{what}: {bad.sum()} of {bad.size} values off; at {at} got "
                             f"{got[at]!r}, expected {want[at]!r}, error {error[at]:.3g} > "
                             f"{limit:.3g}")


def same_bits(a, b, what):
    assert a.shape == b.shape and a.tobytes() == b.tobytes(), f"{what}: bits differ"


def magnitude(v):
    return max(float(np.max(np.abs(v), initial=0.0)), 1e-30)


# ---- the checks ------------------------------------------------------------------------------


def check_forward(case):
    inputs = case.arrays()
    result = case.run(inputs)
    got = result["y"]
    want = np.asarray(case.ref(inputs, case.attrs, case.training))
    if np.issubdtype(got.dtype, np.integer):
        assert np.array_equal(got, want)
        return
    close(got, want, case.exact * case.terms * max(1.0, magnitude(want)), "y")
    if case.state_ref and case.training:
        for a, b in zip(result["state"], case.state_ref(inputs, case.attrs), strict=True):
            close(a, b, case.exact * case.terms * max(1.0, magnitude(b)), "state")


def gradients(case, inputs, dtype="float64", **more):
    y = case.run(inputs, dtype)["y"]
    return case.run(inputs, dtype, dy=case.dy(y), **more)


def check_gradient(case):
    """Every element of small inputs, else some elements and some directions."""
    inputs = case.arrays()
    result = gradients(case, inputs)
    dy = case.dy(result["y"])
    if case.grad_ref:
        for i, want in enumerate(case.grad_ref(inputs, case.attrs, dy)):
            if want is not None:
                close(result["dx"][i], want, case.exact * case.terms
                      * max(1.0, magnitude(want)), f"gradient {i}")
        return
    rng = np.random.default_rng(5)
    checked = 0
    for i, dx in enumerate(result["dx"]):
        if dx is None:
            continue
        checked += 1
        count = inputs[i].size
        steps = [(e,) for e in (range(count) if count <= 48 else rng.choice(count, 24, False))]
        directions = []
        for (e,) in steps:
            d = np.zeros(count)
            d[e] = 1
            directions.append(d)
        if count > 48:
            directions += [rng.standard_normal(count) / np.sqrt(count) for _ in range(4)]
        scale = max(magnitude(dx), 1.0)
        for d in directions:
            d = d.reshape(inputs[i].shape)
            side = []
            for sign in (1, -1):
                moved = list(inputs)
                moved[i] = inputs[i] + sign * case.numeric_eps * d
                side.append(float(np.sum(case.run(moved)["y"] * dy)))
            numeric = (side[0] - side[1]) / (2 * case.numeric_eps)
            analytic = float(np.sum(dx * d))
            assert abs(numeric - analytic) <= case.numeric_bound * scale * max(
                1.0, np.abs(d).sum() ** 0.5), (
                f"gradient of input {i}: central difference {numeric}, backward {analytic}")
    assert checked > 0, "no gradient was checked"


def bounds32(case, want):
    """Sums of `terms` float32 products: (terms + 16) roundings of the largest value at most."""
    return case.slack * (case.terms + 16) * EPS32 * max(1.0, magnitude(want))


def check_float32(case, kernel="reference"):
    """float32 (plain or fast) against the plain float64 operation. Returns the kernel's name."""
    inputs = case.arrays()
    backward = case.has_gradient()
    if backward:
        truth, got = gradients(case, inputs), None
        got = case.run(inputs, "float32", kernel=kernel, dy=case.dy(truth["y"]))
    else:
        truth, got = case.run(inputs), case.run(inputs, "float32", kernel=kernel)
    if kernel == "fast" and got["kernel"] == "reference":
        return None
    if np.issubdtype(truth["y"].dtype, np.integer):
        assert np.array_equal(got["y"], truth["y"])
    else:
        close(got["y"], truth["y"], bounds32(case, truth["y"]), f"{got['kernel']} y")
    for i, want in enumerate(truth.get("dx", [])):
        if want is not None:
            close(got["dx"][i], want, bounds32(case, want), f"{got['kernel']} dx[{i}]")
    for i, want in enumerate(truth.get("state", [])):
        close(got["state"][i], want, bounds32(case, want), f"{got['kernel']} state[{i}]")
    return got["kernel"]


def to_bf16(v):
    """float64 values that are float32 -> the nearest that are bf16, ties to even; a vector and
    integers as they are."""
    if v is None or v.ndim < 3 or np.issubdtype(v.dtype, np.integer):
        return v
    bits = v.astype(np.float32).view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)


def takes_bf16(case):
    return case.run(case.arrays(), "bfloat16", kernel="fast")["kernel"].startswith("rc_bf16")


def bounds_bf16(case, want, before=0.0):
    """The float32 bound, and for a map its own rounding. before: the largest value on the way to
    it that was rounded, too."""
    own = np.abs(want) if want.ndim >= 3 else 0
    return bounds32(case, want) + HALF * (own + before)


def check_bf16(case):
    """The bf16 kernel against the plain float64 operation on inputs rounded to bf16. Returns
    whether there is one."""
    if not takes_bf16(case):
        return False
    inputs, more = [to_bf16(v) for v in case.arrays()], {}
    if case.has_gradient():
        more = {"dy": to_bf16(case.dy(case.run(inputs)["y"]))}
    truth, got = case.run(inputs, **more), case.run(inputs, "bfloat16", kernel="fast", **more)
    close(got["y"], truth["y"], bounds_bf16(case, truth["y"]), f"{got['kernel']} y")
    sigmoid = case.attrs.get("act") == 3
    for i, want in enumerate(truth.get("dx", [])):
        if want is not None:
            before = 0.0
            if sigmoid:  # its derivative takes y: half a rounding, times dy, gamma / sigma (< 2.2)
                before = 1.1 * magnitude(more["dy"]) * (case.terms if want.ndim < 3 else 1)
            close(got["dx"][i], want, bounds_bf16(case, want, before), f"{got['kernel']} dx[{i}]")
    for i, want in enumerate(truth.get("state", [])):
        close(got["state"][i], want, bounds32(case, want), f"{got['kernel']} state[{i}]")
    return True


def check_add(case, dtype="float64", kernel="reference"):
    """Gradients that are added to what is there: all of them, and each with its own flag."""
    inputs = case.arrays()
    plain = gradients(case, inputs, dtype, kernel=kernel)
    rng = np.random.default_rng(7)
    start = [None if d is None else rng.integers(-4, 5, d.shape).astype(np.float64)
             for d in plain["dx"]]
    eps = 4 * (HALF if dtype == "bfloat16" else np.finfo(dtype).eps)
    for chosen in ((0, 1), (0,), (1,)):
        begin = [s if i % 2 in chosen else None for i, s in enumerate(start)]
        added = gradients(case, inputs, dtype, kernel=kernel, dx=begin)
        for i, d in enumerate(plain["dx"]):
            if d is not None:
                # a fast kernel may round the sum itself in another order when it adds
                loose = case.terms * eps * magnitude(d) if kernel == "fast" else 0
                close(added["dx"][i], (0 if begin[i] is None else begin[i])
                      + d.astype(np.float64), eps * (4 + np.abs(d)) + loose, f"added dx[{i}]")


def check_in_place(case, dtype="float64", kernel="reference"):
    """Declared aliasing changes no bit. Returns whether there was any."""
    inputs, info, some = case.arrays(), case.info(), False
    plain = case.run(inputs, dtype, kernel=kernel)
    if info["in_place"]:
        same_bits(case.run(inputs, dtype, kernel=kernel, in_place=True)["y"], plain["y"], "y")
        some = True
    if info["bwd_in_place"] and case.has_gradient():
        dy = case.dy(plain["y"])
        a = case.run(inputs, dtype, kernel=kernel, dy=dy)
        b = case.run(inputs, dtype, kernel=kernel, dy=dy, bwd_in_place=True)
        for i, d in enumerate(a["dx"]):
            if d is not None:
                same_bits(b["dx"][i], d, f"dx[{i}] with dx[0] in the memory of dy")
        some = True
    return some


def check_again(case, dtype="float64", kernel="reference"):
    """Forward run a second time, as where y was dropped: the same bits."""
    inputs = case.arrays()
    first = case.run(inputs, dtype, kernel=kernel)["y"]
    dy = case.dy(first) if case.has_gradient() else None
    same_bits(case.run(inputs, dtype, kernel=kernel, again=True, dy=dy)["y"], first, "y again")


def check_threads(case, dtype="float64", kernel="reference"):
    inputs = case.arrays()
    runs = []
    for threads in (1, 2, 3):
        if case.has_gradient():
            runs.append(gradients(case, inputs, dtype, kernel=kernel, threads=threads))
        else:
            runs.append(case.run(inputs, dtype, kernel=kernel, threads=threads))
    for other in runs[1:]:
        same_bits(other["y"], runs[0]["y"], "y, more threads")
        for i, d in enumerate(runs[0].get("dx", [])):
            if d is not None:
                same_bits(other["dx"][i], d, f"dx[{i}], more threads")


def check_wants(case, dtype="float64", kernel="reference"):
    """One gradient wanted at a time: `reads` names all that this takes, and no bit changes."""
    inputs = case.arrays()
    everything = gradients(case, inputs, dtype, kernel=kernel)
    for i, d in enumerate(everything["dx"]):
        if d is not None:
            wants = [j == i for j in range(len(inputs))]
            alone = gradients(case, inputs, dtype, kernel=kernel, wants=wants)
            same_bits(alone["dx"][i], d, f"dx[{i}] alone")
            assert all(o is None for j, o in enumerate(alone["dx"]) if j != i)
