"""A recipe: which keys there are, what they may hold, and how one is changed.

The published ones are in `reidc.recipes`; `docs/training.md` has every key in a table. An unknown
key, wherever it stands, is an error that names the nearest known one.
"""
import difflib
import inspect

from reidc import _checks, schedules
from reidc._core import ArgumentError, ArgumentTypeError

DEFAULTS = {  # what a recipe of one's own need not say
    "options": {}, "sampler": "pk", "seed": 0, "augment": {}, "per_step": False,
    "evaluate_every": 0, "freeze": None, "ema": None, "clip_norm": None, "validation": None,
}
OPTIMIZER_DEFAULTS = {"kind": "adam", "groups": None, "momentum_reset": None}

KEYS = ("system", "epochs", "identities", "images", "optimizer", "schedule", *DEFAULTS)
KINDS = {  # keys of an optimiser beside those that all have
    "adam": ("betas", "eps"), "adamw": ("betas", "eps"),
    "sgd": ("momentum", "nesterov", "dampening"),
}
COMMON = ("kind", "lr", "weight_decay", "groups", "momentum_reset")
GROUP = ("lr_factor", "weight_decay")
SCHEDULES = ("constant", "multistep", "exponential", "cosine", "strong_baseline", "hamr")
WARMUP = ("epochs", "iterations", "factor", "kind")
FREEZE = ("layers", "epochs", "iterations")


def _parameters(function):
    return tuple(inspect.signature(function).parameters)


def _schedule_keys(kind):
    return ("kind", "warmup", *_parameters(getattr(schedules, kind))[1:])


def _augment_keys():
    from reidc.augment import Augment

    return tuple(name for name in _parameters(Augment) if name not in ("height", "width"))


def _option_keys(system):
    """The switches of a system's class; None: any (a network of one's own)."""
    from reidc.networks import SYSTEMS

    cls = SYSTEMS.get(str(system).lower())
    return None if cls is None else _parameters(cls)[1:]


def _known(section, recipe):
    """The keys that a section of the recipe may have, None: any."""
    if section == "":
        return KEYS
    if section == "optimizer":
        return (*COMMON, *KINDS["adam"], *KINDS["sgd"])
    if section == "schedule":
        return tuple(dict.fromkeys(key for kind in SCHEDULES for key in _schedule_keys(kind)))
    if section == "augment":
        return _augment_keys()
    if section == "options":
        return _option_keys(recipe.get("system"))
    if section.startswith("optimizer.groups."):
        return GROUP
    return {"schedule.warmup": WARMUP, "freeze": FREEZE}.get(section)


def nearest(word, known):
    """The known word that looks most like it."""
    return difflib.get_close_matches(str(word), [str(k) for k in known], 1, 0)[0]


def _split(key):
    """'a.b' as ['a', 'b']; a group's pattern may have dots of its own."""
    parts = str(key).split(".")
    if parts[:2] == ["optimizer", "groups"] and len(parts) > 3:
        return [*parts[:2], ".".join(parts[2:-1]), parts[-1]]
    return parts


def is_number(value):
    """A number, not a truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class Recipe(dict):
    """A recipe; `str()` is a table, `set("a.b", value)` changes one key."""

    def set(self, key, value):
        """Change a key, named with dots ("optimizer.groups.backbone.*.lr_factor": the pattern may
        have some of its own). With a new `optimizer.kind` or `schedule.kind` the keys of the kind
        before go. ValueError: there is no such key (the nearest is named)."""
        *path, last = _split(key)
        place, section = self, ""
        for part in path:
            self._check_key(part, section, place, key)
            if place.get(part) is None:
                place[part] = {}
            if not isinstance(place[part], dict):
                raise ArgumentError(f"recipe: {key!r}: {part} is {place[part]!r}, it has no keys")
            place, section = place[part], f"{section}.{part}" if section else part
        self._check_key(last, section, place, key)
        changed = place.get(last) != value
        place[last] = value
        if changed and key in ("optimizer.kind", "schedule.kind"):
            self._drop_others(section)
        return self

    def _drop_others(self, section):
        """Leave out what belonged to the kind before: of an optimiser what the new one does not
        have, of a schedule all but the warm-up (the same word may mean another thing)."""
        place = self[section]
        known = ("kind", "warmup")
        if section == "optimizer":
            known = (*COMMON, *KINDS.get(str(place["kind"]), place))
        for name in [name for name in place if name not in known]:
            del place[name]

    def _check_key(self, name, section, place, whole):
        known = _known(section, self)
        if known is not None and name not in known and name not in place:
            raise ArgumentError(self._unknown(whole))

    def _unknown(self, key):
        sections = ["", "optimizer", "schedule", "schedule.warmup", "freeze", "augment", "options"]
        if str(key).startswith("optimizer.groups."):
            sections = [".".join(_split(key)[:-1])]
        names = [f"{section}.{name}" if section else name for section in sections
                 for name in _known(section, self) or ()]
        return f"recipe: no key {key!r}; did you mean {nearest(key, names)!r}?"

    def flat(self):
        """{dotted key: value}."""
        def walk(prefix, value):
            if isinstance(value, dict) and value:
                for name, inner in value.items():
                    yield from walk(f"{prefix}.{name}" if prefix else name, inner)
            else:
                yield prefix, value
        return dict(walk("", dict(self)))

    # ---- checks

    def check(self):
        """The recipe itself. ValueError or TypeError that names a key which is unknown (with the
        nearest known one), missing, or has a value that means nothing."""
        self._check_section("", self)
        for name in ("optimizer", "schedule", "augment", "options"):
            self._check_section(name, self[name])
        for key in ("epochs", "identities", "images", "seed", "evaluate_every"):
            value = self[key]  # (not NumPy's, which JSON would not hold)
            if isinstance(value, bool) or not isinstance(value, int):
                raise ArgumentTypeError(f"{key}: expected a whole number, got {value!r}")
            if key == "seed":
                _checks.seed(value, 63)
            else:
                _checks.count(key, value, 0 if key == "evaluate_every" else 1)
        for place, key, known in ((self, "sampler", ("pk", "once", "balanced")),
                                  (self["optimizer"], "kind", tuple(KINDS))):
            if place[key] not in known:
                raise ArgumentError(f"{key}: expected {', '.join(known)}, got {place[key]!r}")
        self._check_optimizer()
        self._check_freeze()
        self._check_numbers()
        self._check_augment()
        self.rate()(0)
        return self

    def _check_section(self, section, place):
        if not isinstance(place, dict):
            raise ArgumentTypeError(f"{section}: expected a dict, got {place!r}")
        known = _known(section, self)
        for key in place:
            if known is not None and key not in known:
                raise ArgumentError(self._unknown(f"{section}.{key}" if section else key))

    def _check_optimizer(self):
        settings = self["optimizer"]
        kind = settings["kind"]
        if "lr" not in settings:
            raise ArgumentError("optimizer.lr: missing")
        if not is_number(settings["lr"]):
            raise ArgumentTypeError(f"optimizer.lr: expected a number, got {settings['lr']!r}")
        if not 0 <= settings["lr"] < float("inf"):
            raise ArgumentError(f"optimizer.lr: expected a finite number >= 0, got "
                                f"{settings['lr']!r}")
        wrong = [key for key in settings if kind != "sgd" and key in KINDS["sgd"]]
        if wrong:  # Adam's keys with SGD are what is left of a recipe whose kind was changed
            raise ArgumentError(f"optimizer.{wrong[0]}: does not go with kind {kind!r}")
        if settings.get("momentum_reset") not in (None, "epoch"):
            raise ArgumentError(f"optimizer.momentum_reset: expected 'epoch' or None, got "
                                f"{settings['momentum_reset']!r}")
        groups = settings.get("groups")
        if groups is not None:
            self._check_dict("optimizer.groups", groups)
            for pattern, group in groups.items():
                self._check_section(f"optimizer.groups.{pattern}", group)

    def _check_freeze(self):
        rule = self["freeze"]
        if rule is None:
            return
        self._check_section("freeze", rule)
        layers = rule.get("layers")
        if not isinstance(layers, (list, tuple)) or not layers or not all(
                isinstance(pattern, str) for pattern in layers):
            raise ArgumentTypeError(f"freeze.layers: expected a list of name patterns as "
                                    f"'backbone.*', got {layers!r}")
        _check_length("freeze", rule)

    def _check_numbers(self):
        ema, clip, validation = self["ema"], self["clip_norm"], self["validation"]
        if ema is not None and not (is_number(ema) and 0 <= ema < 1):
            raise ArgumentError(f"ema: expected a decay from 0 to below 1, or None, got {ema!r}")
        if clip is not None and not (is_number(clip) and 0 < clip < float("inf")):
            raise ArgumentError(f"clip_norm: expected a finite number above 0, or None, got "
                                f"{clip!r}")
        if validation is None or validation is False:
            return
        check_validation(validation)
        if self["evaluate_every"] < 1:
            raise ArgumentError("validation: needs evaluate_every of 1 or more, how often to try "
                                f"which epoch is best, got {self['evaluate_every']}")

    def _check_augment(self):
        from reidc.augment import Augment

        try:
            Augment(**self["augment"])
        except (ArgumentError, ArgumentTypeError) as error:
            raise type(error)(f"augment: {error}") from None

    @staticmethod
    def _check_dict(name, value):
        if not isinstance(value, dict):
            raise ArgumentTypeError(f"{name}: expected a dict, got {value!r}")

    # ---- the rate

    def rate(self):
        """The learning rate as a function of the epoch (from 0; with `per_step` it has a
        fraction) and the iteration, which a warm-up counted in iterations looks at."""
        rule = dict(self["schedule"])
        base, kind, warm = self["optimizer"]["lr"], rule.pop("kind", None), rule.pop("warmup", None)
        if kind not in SCHEDULES:
            raise ArgumentError(f"schedule.kind: expected one of {', '.join(SCHEDULES)}, got "
                                f"{kind!r}")
        wrong = [key for key in rule if key not in _schedule_keys(kind)]
        if wrong:
            raise ArgumentError(f"schedule.{wrong[0]}: does not go with kind {kind!r}, which has "
                                f"{', '.join(_schedule_keys(kind)[2:]) or 'no other key'}")
        if kind == "cosine":
            rule.setdefault("epochs", self["epochs"])
        try:
            schedule = getattr(schedules, kind)(base, **rule)
        except TypeError as error:
            raise ArgumentTypeError(f"schedule: {error}") from None
        factor, by_iteration = self._warmup(warm)
        return lambda epoch, iteration=0: (
            schedule(epoch) * factor(iteration if by_iteration else epoch))

    def _warmup(self, rule):
        """(factor as a function of the epoch or the iteration, whether it is the iteration)."""
        if rule is None:
            return lambda t: 1.0, False
        self._check_section("schedule.warmup", rule)
        _check_length("schedule.warmup", rule)
        by_iteration = "iterations" in rule
        length = rule["iterations" if by_iteration else "epochs"]
        more = {key: rule[key] for key in ("factor", "kind") if key in rule}
        try:
            return schedules.warmup_factor(length, **more), by_iteration
        except TypeError as error:
            raise ArgumentTypeError(f"schedule.warmup: {error}") from None

    def __str__(self):
        flat = self.flat()
        width = max(map(len, flat))
        return "\n".join(f"{key:<{width}}  {value}" for key, value in flat.items())


def _check_length(name, rule):
    """A dict that says either `epochs` or `iterations`."""
    given = [key for key in ("epochs", "iterations") if rule.get(key) is not None]
    if len(given) != 1:
        raise ArgumentError(f"{name}: expected either epochs or iterations, got "
                            f"{' and '.join(given) or 'neither'}")
    value = rule[given[0]]
    if not is_number(value) or not 0 < value < float("inf"):
        raise ArgumentError(f"{name}.{given[0]}: expected a number above 0, got {value!r}")


def check_validation(value):
    """A share of the identities, a number of them, or True: ValueError, TypeError."""
    if value is True:
        return
    if not is_number(value):
        raise ArgumentTypeError(f"validation: expected a share of the identities, a number of "
                                f"them, True or None, got {value!r}")
    if not (0 < value < 1 if isinstance(value, float) else value >= 2):
        raise ArgumentError(f"validation: expected a share between 0 and 1, or a whole number of "
                            f"identities from 2, got {value!r}")
