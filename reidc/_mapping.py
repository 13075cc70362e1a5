"""Names of ResNet weights as others write them, to ours: torchvision's under `backbone.`.

torchvision, timm and IBN-Net write the names bare; torchreid puts `module.` before them when it
trained on several devices; fast-reid writes `backbone.` and keeps its head under `heads.`; SB
writes `base.`. Batch norms of IBN blocks are `bn1.IN` and `bn1.BN` with all who have them. The
authors of HAMR write their heads `classifierlayer{l}_{i}.`; these go to HAMR's `head{l}_{i}.`.
"""
import re

from reidc import _core

OUTER = re.compile(r"^(module|_orig_mod|model|backbone|base|base_model|encoder|encoder_q|net)\.")
NORM = r"(weight|bias|running_mean|running_var)"
ENTRY = re.compile(
    rf"^(conv1\.weight|bn1\.{NORM}|layer[1-4]\.\d+\.(conv[123]\.weight|bn[123](\.IN|\.BN)?\.{NORM}"
    rf"|downsample\.0\.weight|downsample\.1\.{NORM}))$")
# fast-reid's non-local blocks: loaded where both sides have them, never missed
NON_LOCAL = re.compile(rf"^NL_[1-4]\.\d+\.((theta|phi|g|W\.0)\.(weight|bias)|W\.1\.{NORM})$")
HALVED = re.compile(rf"^(layer[1-4]\.\d+\.bn1)\.{NORM}$")
HEADS = re.compile(r"^(fc|classifier|head|heads|bottleneck|bnneck|global_pool|last_linear|logits"
                   r"|fc_layers|classifiers)(\.|$)|(^|\.)(classifier|bnneck|bottleneck)\.")
HAMR_HEAD = re.compile(r"^classifierlayer(\d+_\d+)\.(conv1x1|add_block1\.0|add_block1\.2|"
                       r"add_block2\.0|classifier\.0)\.(\w+)$")
HAMR_LAYERS = {"conv1x1": "reduce", "add_block1.0": "bn1", "add_block1.2": "fc",
               "add_block2.0": "bn2", "classifier.0": "classifier"}
OUR_HEAD = re.compile(r"^head\d+_\d+\.")


def plain_name(name):
    """torchvision's name of an entry, without what wrappers put before it."""
    while OUTER.match(name):
        name = OUTER.sub("", name, count=1)
    return name


def hamr_head(plain):
    """Our name of an entry of the public HAMR's heads, or None."""
    found = HAMR_HEAD.match(plain)
    return found and f"head{found[1]}.{HAMR_LAYERS[found[2]]}.{found[3]}"


class Report:
    """What became of every name.

    loaded: {source name: [our names]}; ignored: {source name: why}; missing: our backbone's names
    that the source lacks (those of HAMR's heads too, where the source has such heads);
    mismatched: [(source name, our name, its shape, our shape)]; kept: our
    names under the prefixes that no ResNet has (attention and the like), which keep their start.
    str() is a table.
    """

    def __init__(self):
        self.source = "weights"
        self.loaded, self.ignored = {}, {}
        self.missing, self.mismatched, self.kept = [], [], []
        self.plain_bn = False  # the source has plain batch norms where we have IN and BN

    def check(self):
        """ValueError if the backbone did not get all it has."""
        if not self.missing and not self.mismatched:
            return
        if not self.loaded and not self.mismatched:
            what = "no name in it is that of a ResNet's weights"
            example = next(iter(self.ignored), None)
            what += f" (the first is {example})" if example else " (it is empty)"
        elif self.mismatched:
            name, ours, its_shape, our_shape = self.mismatched[0]
            what = (f"{len(self.mismatched)} of its entries have other shapes: {name} is "
                    f"{_shape(its_shape)}, {ours} is {_shape(our_shape)}")
        else:
            where = "heads" if OUR_HEAD.match(self.missing[0]) else "backbone"
            what = f"{len(self.missing)} entries of the {where} are not in it: {self.missing[0]}"
            if self.plain_bn:
                what += " (it has plain batch norms: halve_bn=True splits them into IN and BN)"
        raise _core.ArgumentError(f"pretrained: {self.source}: weights of another network: {what}")

    def __str__(self):
        lines = [f"{self.source}: {len(self.loaded)} loaded, {len(self.ignored)} ignored, "
                 f"{len(self.missing)} missing, {len(self.mismatched)} of another shape, "
                 f"{len(self.kept)} keep their start"]
        lines += [f"  loaded    {a} -> {', '.join(b)}" for a, b in self.loaded.items()]
        lines += [f"  ignored   {a}: {why}" for a, why in self.ignored.items()]
        lines += [f"  missing   {a}" for a in self.missing]
        lines += [f"  shape     {a} {_shape(x)} -> {b} {_shape(y)}"
                  for a, b, x, y in self.mismatched]
        lines += [f"  kept      {a}" for a in self.kept]
        return "\n".join(lines)


def _shape(shape):
    return "×".join(map(str, shape)) or "a number"


def _reason(plain):
    if plain.endswith("num_batches_tracked"):
        return "a counter that is not kept here"
    if HEADS.search(plain):
        return "a head: classes of another training"
    if ENTRY.match(plain) or NON_LOCAL.match(plain):
        return "this network has no such entry"
    return "not part of a ResNet"


def map_weights(source, target, *, prefixes=("backbone",), halve_bn=False):
    """Sort {name: array} of a ResNet into {our name: array}, for `target`: {our name: shape}.

    Each source entry goes to every `prefix.name` there is in the target; heads under the names of
    HAMR's authors go to HAMR's, but for classifiers of another number of classes. Returns
    (mapped, Report); nothing is copied or changed. `Report.check()` decides whether it may be
    loaded.
    """
    report, mapped, taken = Report(), {}, {}
    places, heads = {}, False
    for ours in target:
        for prefix in prefixes:
            if ours.startswith(prefix + "."):
                places.setdefault(ours[len(prefix) + 1:], []).append(ours)

    def offer(name, array, homes):
        for ours in homes:
            if tuple(array.shape) != tuple(target[ours]):
                report.mismatched.append((name, ours, tuple(array.shape), tuple(target[ours])))
            else:
                mapped[ours] = array
                report.loaded.setdefault(name, []).append(ours)

    for name, array in source.items():
        plain = plain_name(name)
        halved, head = HALVED.match(plain), hamr_head(plain)
        heads |= head in target
        if not (ENTRY.match(plain) or NON_LOCAL.match(plain)) and head not in target:
            report.ignored[name] = ("this network has no such head" if head and "num_" not in head
                                    else _reason(plain))
        elif plain in taken:
            report.ignored[name] = f"the same as {taken[plain]}"
        elif head in target:
            taken[plain] = name
            if ".classifier." in head and array.shape[:1] != tuple(target[head][:1]):
                report.ignored[name] = f"classes of another training: {_shape(array.shape)}"
                report.kept.append(head)
            else:
                offer(name, array, [head])
        elif plain in places:
            taken[plain] = name
            offer(name, array, places[plain])
        elif halved and f"{halved[1]}.BN.{halved[2]}" in places:
            taken[plain] = name
            report.plain_bn = True
            if not halve_bn:
                report.ignored[name] = "a plain batch norm where IN and BN are side by side here"
                continue
            homes = places.get(f"{halved[1]}.IN.{halved[2]}", [])  # none for running statistics
            half = target[places[f"{halved[1]}.BN.{halved[2]}"][0]][0]
            offer(name, array[:len(array) - half], homes)
            offer(name, array[len(array) - half:], places[f"{halved[1]}.BN.{halved[2]}"])
        else:
            report.ignored[name] = _reason(plain)
    wrong = {ours for _, ours, _, _ in report.mismatched}
    for plain, homes in places.items():
        for ours in homes:
            if ours not in mapped and ours not in wrong:
                (report.missing if ENTRY.match(plain) else report.kept).append(ours)
    for ours in target if heads else ():
        if OUR_HEAD.match(ours) and ours not in (*mapped, *wrong, *report.kept):
            report.missing.append(ours)
    return mapped, report
