"""What a comparison of two networks is made of, without torch: one step, errors, rows, verdict.

`one_step` asks a network (the engine's, or a twin behind the same interface) for everything that is
compared; `Report` holds a row a tensor with its relative L2 error and its limit. Limits follow the
float32 twin: at most 8 times its error, plus 2e-5 (gradients 1e-4 more).
"""
from dataclasses import dataclass, field

import numpy as np

FACTOR, FLOOR, GRADIENT_FLOOR = 8.0, 2e-5, 1e-4
LOSS_STEPS, CHANGE_STEPS = 1e-4, 0.02


def error(x, truth):
    """Relative L2; infinite where anything is not a number or the shapes differ."""
    x, truth = np.asarray(x, np.float64), np.asarray(truth, np.float64)
    if x.shape != truth.shape or not np.isfinite(x).all():
        return float("inf")
    norm = np.linalg.norm(truth)
    gap = np.linalg.norm(x - truth)
    return float(gap / norm) if norm > 0 else (0.0 if gap == 0 else float("inf"))


@dataclass
class Row:
    kind: str        # embedding, output, loss, gradient, running
    name: str
    ours: float      # relative L2 error of the engine against float64
    peer: float      # the float32 twin's
    limit: float
    absolute: bool = False
    outvoted: bool = False  # see by_majority
    mute: bool = False      # failed, but so has the float32 twin: this state tells nothing

    @property
    def ok(self):
        return bool(self.ours <= self.limit) or self.outvoted

    def __str__(self):
        how = "norm" if self.absolute else "error"
        word = "vote" if self.outvoted else "ok  " if self.ok else "FAIL"
        return (f"{word} {self.kind:9} {self.name:44} {how} "
                f"{self.ours:.2e}  float32 twin {self.peer:.2e}  limit {self.limit:.2e}")


@dataclass
class Report:
    rows: list = field(default_factory=list)

    def add(self, kind, name, ours, peers, truth):
        a, b = error(ours, truth), max(error(p, truth) for p in peers)
        floor = FLOOR + (GRADIENT_FLOOR if kind == "gradient" else 0.0)
        self.rows.append(Row(kind, name, a, b, FACTOR * b + floor))

    def add_sets(self, kind, ours, peers, truth):
        """Three dicts by name; a name that only one of them has is a failure."""
        for name in sorted(set(ours) ^ set(truth)):
            self.rows.append(Row(kind, name + " (not in both)", float("inf"), 0.0, 0.0))
        for name in truth:
            if name in ours:
                self.add(kind, name, ours[name], [p[name] for p in peers], truth[name])

    @property
    def failures(self):
        return [r for r in self.rows if not r.ok]

    def worst(self, count=5):
        def share(r):
            return r.ours / r.limit if r.limit > 0 else (0.0 if r.ours == 0 else float("inf"))
        return sorted(self.rows, key=share, reverse=True)[:count]

    def summary(self):
        lines = []
        for kind in dict.fromkeys(r.kind for r in self.rows):
            rows = [r for r in self.rows if r.kind == kind and not r.absolute]
            ours, peer = [r.ours for r in rows], [r.peer for r in rows]
            lines.append(f"{kind:9} {len(rows):4} tensors  ours median {np.median(ours):.1e} max "
                         f"{max(ours):.1e}  float32 twin median {np.median(peer):.1e} max "
                         f"{max(peer):.1e}  bad {sum(not r.ok for r in rows)}")
        return "\n".join(lines + [str(r) for r in self.worst()])

    def check(self):
        bad = self.failures
        assert not bad, f"{len(bad)} of {len(self.rows)} differ\n" + "\n".join(map(str, bad[:40]))


def split_running(state):
    return {k: v for k, v in state.items() if k.endswith(("running_mean", "running_var"))}


def one_step(engine, state, images, labels, planes):
    """What a network of any kind gives: embedding, training outputs, parts, gradients, running."""
    engine.load_state_dict(state)
    embedding = engine.forward(images)["embedding"] if planes is None else \
        engine.forward(images, planes=planes)["embedding"]
    keyword = {} if planes is None else {"planes": planes}
    outputs = engine.forward(images, training=True, **keyword)
    running = split_running(engine.state_dict())
    engine.load_state_dict(state)
    engine.zero_grad()
    parts = engine.loss(images, labels, **keyword)
    after = split_running(engine.state_dict())
    return embedding, outputs, parts, engine.gradients(), running, after


def by_majority(run, seeds=(0, 1, 2, 3, 4), forgiven=("gradient", "change")):
    """run(seed) -> Report; the first report, judged with two more states where it fails, and with
    another two where those leave it open.

    Only the kinds in `forgiven` are put to the vote, each tensor by itself; anything else has to
    hold in every state that is tried. A mute row has no vote, and a tensor that is mute in every
    state has failed.
    """
    reports = [run(seeds[0])]
    for more in (seeds[1:3], seeds[3:]):
        if not (reports[0] if len(reports) == 1 else _vote(reports, forgiven)).failures:
            break
        reports += [run(seed) for seed in more]
    return reports[0] if len(reports) == 1 else _vote(reports, forgiven)


def _vote(reports, forgiven):
    votes = {}
    for report in reports:
        for row in report.rows:
            row.outvoted = False  # by fewer states
            votes.setdefault((row.kind, row.name), []).extend([] if row.mute else [row.ok])
    for report in reports:
        for row in report.rows:
            good = votes[row.kind, row.name]
            row.outvoted = row.kind in forgiven and 2 * sum(good) > len(good)
    return Report([row for report in reports for row in report.rows])
