"""What happens to a training picture, as plain data; C does it (csrc/data/augment.c)."""
from dataclasses import asdict, dataclass, replace
from numbers import Integral, Real

from reidc import _checks, _core
from reidc._core import ArgumentError, ArgumentTypeError

THIRD = 1 / 0.3
# Random erasing. fill is written into the normalised picture: "sb" writes the ImageNet mean
# there (a quirk that its results rest on), zero is the mean colour; fast-reid erases before
# normalising, with the mean colour, which is the same as zero after it.
ERASING = {
    "sb": dict(area=(0.02, 0.4), ratio=(0.3, THIRD), log_ratio=False, tries=100,
               fill=(0.485, 0.456, 0.406)),
    "zero": dict(area=(0.02, 0.4), ratio=(0.3, THIRD), log_ratio=False, tries=100,
                 fill=(0.0, 0.0, 0.0)),
    "original": dict(area=(0.02, 0.4), ratio=(0.3, THIRD), log_ratio=False, tries=100,
                     fill=(0.4914, 0.4822, 0.4465)),
    "fast-reid": dict(area=(0.02, 0.33), ratio=(0.3, 3.3), log_ratio=True, tries=10,
                      fill=(0.0, 0.0, 0.0)),
}
JITTER = {
    "fast-reid": dict(p=0.5, brightness=0.15, contrast=0.15, saturation=0.1, hue=0.1),
    "dpr": dict(p=1.0, brightness=0.2, contrast=0.15, saturation=0.0, hue=0.0),
    "hamr": dict(p=1.0, brightness=0.1, contrast=0.1, saturation=0.1, hue=0.0, first=True),
}
PRESETS = {
    "sb": dict(),
    "mfa": dict(),
    "mbgn": dict(height=384, pad=0, erasing="zero"),
    "mgaf": dict(height=384, pad=0, erasing="zero"),
    "hamr": dict(pad=0, erasing="zero"),
    "fsac": dict(erasing=None),
    "dpr": dict(pad=0, scale_crop=0.5, erasing=None),
    "fast-reid": dict(jitter="fast-reid", erasing="fast-reid"),
    "none": dict(mirror=0.0, pad=0, erasing=None),
}


@dataclass(frozen=True)
class Augment:
    """How training pictures are varied; the defaults are the "bag of tricks" baseline's.

    Steps in this order: resize (or scale and crop), mirror, pad and crop, colour jitter,
    normalise, erase.

    height, width: the network's size in pixels.
    interpolation: "bilinear" or "bicubic", both as Pillow has them.
    mirror: probability of reversed columns, 0..1.
    pad: black pixels added on every side before a uniform crop to the size; 0: off.
    scale_crop: probability of resizing to 1.125 times the size and cropping uniformly; 0: off.
    jitter: None, "fast-reid", "dpr", "hamr", or a dict of p, brightness, contrast, saturation,
        hue and first (True: before the resize); what is left out is 0, p is 1.
    erasing: None, "sb" (fills 0.485, 0.456, 0.406 after normalisation), "zero", "original",
        "fast-reid", or a dict of area, ratio (pairs), log_ratio, tries, fill; what is left out
        is as in "zero".
    erase: probability of erasing, 0..1.
    mean, std: of each colour, for values 0..1.

    `Augment.preset("mbgn", width=64)` gives a recipe's; names in `reidc.augment.PRESETS`.
    Raises ValueError or TypeError that names the argument.
    """

    height: int = 256
    width: int = 128
    interpolation: str = "bilinear"
    mirror: float = 0.5
    pad: int = 10
    scale_crop: float = 0.0
    jitter: object = None
    erasing: object = "sb"
    erase: float = 0.5
    mean: tuple = (0.485, 0.456, 0.406)
    std: tuple = (0.229, 0.224, 0.225)

    def __post_init__(self):
        _core._augment_check(self._core())

    @classmethod
    def preset(cls, name, **changes):
        """The augmentation of a recipe: "sb", "mbgn", "mgaf", "hamr", "mfa", "fsac", "dpr",
        "fast-reid" or "none" (resize and normalise only), with `changes` on top."""
        if name not in PRESETS:
            raise ArgumentError(f"name: expected one of {', '.join(PRESETS)}, got {name!r}")
        return cls(**{**PRESETS[name], **changes})

    def replace(self, **changes):
        """A copy with some values changed."""
        return replace(self, **changes)

    def as_dict(self):
        """Plain data: `Augment(**a.as_dict()) == a`."""
        return asdict(self)

    def __call__(self, images, *, seed=0, epoch=0, first=0, threads=1):
        """uint8 N x H x W x 3, or a list of H x W x 3: float32 N x 3 x height x width.

        Sample i is varied by (seed, epoch, first + i) alone, whatever else is in the batch and
        however many threads there are."""
        return _core._augment_batch(
            images, self._core(), _checks.seed(seed), _checks.count("epoch", epoch, 0),
            _checks.count("first", first, 0), _checks.threads(threads))

    def _core(self):
        jitter = _choice("jitter", self.jitter, JITTER,
                         dict(p=1.0, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0,
                              first=False), dict(p=0.0))
        erasing = _choice("erasing", self.erasing, ERASING, ERASING["zero"], {})
        for kind, word, source, names in [
                (Integral, "an integer", vars(self), ("height", "width", "pad")),
                (Integral, "an integer", erasing, ("tries",)),
                (Real, "a number", vars(self), ("mirror", "scale_crop", "erase")),
                (Real, "a number", jitter, ("p", "brightness", "contrast", "saturation", "hue")),
                (str, "a word", vars(self), ("interpolation",))]:
            for name in names:
                if isinstance(source[name], bool) or not isinstance(source[name], kind):
                    raise ArgumentTypeError(f"{name}: expected {word}, got {source[name]!r}")
        triples = {n: _numbers(n, v, 3) for n, v in
                   [("mean", self.mean), ("std", self.std), ("fill", erasing["fill"])]}
        pairs = {n: _numbers(n, erasing[n], 2) for n in ("area", "ratio")}
        return dict(
            height=self.height, width=self.width, interpolation=self.interpolation,
            mirror=self.mirror, scale_crop=self.scale_crop, pad=self.pad, jitter=jitter["p"],
            brightness=jitter["brightness"], contrast=jitter["contrast"],
            saturation=jitter["saturation"], hue=jitter["hue"], jitter_first=jitter["first"],
            erase=0.0 if self.erasing is None else self.erase, log_ratio=erasing["log_ratio"],
            tries=erasing["tries"], **pairs, **triples)


class DeferredBatch:
    """Pictures that are augmented where they are used: by the card of the network that takes them
    (`m.train_step(batch, labels, optimizer)`), else by the CPU, as an array of them.

    images: uint8 N x H x W x 3, or a list of H x W x 3; augment: a `reidc.Augment` without colour
    jitter for a card; seed, epoch, first: as `augment(images, …)` takes them, and the same draws.
    """

    def __init__(self, images, augment, *, seed=0, epoch=0, first=0):
        self.images, self.augment = images, augment
        self.seed, self.epoch, self.first = seed, epoch, first

    def __len__(self):
        return len(self.images)

    @property
    def shape(self):
        """(N, 3, height, width), of the augmented pictures."""
        return len(self.images), 3, self.augment.height, self.augment.width

    def __array__(self, dtype=None, copy=None):
        if copy is False:
            raise ArgumentError("images: they are augmented when asked for; an array is a copy")
        array = self.augment(self.images, seed=self.seed, epoch=self.epoch, first=self.first)
        return array if dtype is None else array.astype(dtype, copy=False)

    @property
    def _deferred(self):
        return self.images, self.augment._core(), self.seed, self.epoch, self.first


def _choice(name, value, known, defaults, off):
    """The dict that a name, a dict or None stands for, complete."""
    if value is None:
        return {**defaults, **off}
    if isinstance(value, str) and value in known:
        return {**defaults, **known[value]}
    if not isinstance(value, dict):
        raise ArgumentError(
            f"{name}: expected None, {', '.join(map(repr, known))} or a dict, got {value!r}")
    unknown = sorted(set(value) - set(defaults))
    if unknown:
        raise ArgumentTypeError(
            f"{name}: unknown {', '.join(map(repr, unknown))}; known: {', '.join(defaults)}")
    return {**defaults, **value}


def _numbers(name, value, count):
    try:
        numbers = tuple(float(v) for v in value)
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != count:
        raise ArgumentError(f"{name}: expected {count} numbers, got {value!r}")
    return numbers
