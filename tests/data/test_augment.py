"""The augmentation chain against NumPy, colour jitter against Pillow too, and its statistics."""
import dataclasses
import os
import subprocess
import sys

import data_reference as reference
import numpy as np
import pytest

import reidc
from reidc import _core
from reidc.augment import ERASING, JITTER, PRESETS

RNG = np.random.default_rng(0)


def picture(h, w, seed=0):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (max(1, h // 5), max(1, w // 5), 3), dtype=np.uint8)
    smooth = _core._image_resize(small, h, w, "bicubic").astype(np.int64)
    return np.clip(smooth + rng.integers(-9, 10, smooth.shape), 0, 255).astype(np.uint8)


IMAGES = [picture(h, w, i) for i, (h, w) in
          enumerate([(128, 64), (160, 60), (90, 41), (48, 24), (33, 70), (128, 64)])]

CHAINS = {
    "sb": dict(),
    "plain": dict(mirror=0.0, pad=0, erasing=None),
    "dpr": dict(pad=0, scale_crop=0.5, jitter="dpr", erasing=None),
    "dpr, odd size": dict(height=35, width=13, pad=0, scale_crop=1.0),
    "fast-reid": dict(jitter="fast-reid", erasing="fast-reid", erase=1.0),
    "hamr": dict(pad=3, jitter="hamr", erasing="zero", erase=1.0),
    "everything": dict(scale_crop=0.7, pad=40, interpolation="bicubic", erasing="original",
                       jitter=dict(brightness=1.5, contrast=0.9, saturation=2.0, hue=0.5),
                       mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)),
    "erasing that seldom fits": dict(erasing=dict(area=(0.5, 1.0), ratio=(0.01, 90.0), tries=3),
                                     erase=1.0),
}


@pytest.mark.parametrize("chain", CHAINS)
def test_chain_equals_numpy(chain):
    a = reidc.Augment(**{"height": 48, "width": 24, **CHAINS[chain]})
    for epoch in range(8):
        got = a(IMAGES, seed=11, epoch=epoch, first=60)
        assert got.shape == (len(IMAGES), 3, a.height, a.width) and got.dtype == np.float32
        for i, image in enumerate(IMAGES):
            want = reference.augment(image, a._core(), 11, epoch, 60 + i)
            assert np.array_equal(got[i], want), (chain, epoch, i)


@pytest.mark.parametrize("chain", ["sb", "everything"])
def test_same_bits_for_any_threads_and_any_batch(chain):
    a = reidc.Augment(height=64, width=32, **CHAINS[chain])
    many = [IMAGES[i % 6] for i in range(40)]
    one = a(many, seed=3, epoch=2, first=5)
    for threads in (2, 7):
        assert np.array_equal(one, a(many, seed=3, epoch=2, first=5, threads=threads))
    parts = [a([many[i]], seed=3, epoch=2, first=5 + i)[0] for i in range(40)]
    assert np.array_equal(one, np.stack(parts))


@pytest.mark.parametrize("cpu", ["generic", "avx2"])
def test_same_bits_for_every_instruction_set(cpu):
    code = ("import sys, zlib; sys.path.insert(0, 'tests/data'); import test_augment as t; "
            "print(zlib.crc32(t.everything().tobytes()))")
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    seen = {subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True,
                           env={**os.environ, "REIDC_CPU": level}, timeout=60, check=True).stdout
            for level in (cpu, "amx")}
    assert len(seen) == 1


def everything():
    """Every step, and every width and rule of normalising that a kernel treats apart."""
    parts = [reidc.Augment(height=96, width=41, **CHAINS["everything"])(IMAGES, seed=5)]
    for width in range(1, 40):
        for change in (dict(pad=width // 3, std=(1e-38, 0.3, 1e30)), dict(pad=0)):
            parts.append(reidc.Augment(height=3, width=width, **change)(IMAGES, seed=width))
    return np.concatenate([part.ravel() for part in parts])


@pytest.mark.parametrize("width", [*range(1, 24), 47, 48, 49])
def test_every_byte_mirrored_and_normalised_whatever_the_rule(width):
    """Division is by multiplying where that gives the same bits for all bytes, else by table."""
    rng = np.random.default_rng(width)
    image = rng.permutation(np.resize(np.arange(256), (-(-256 // width) * width, 3)))
    image = image.astype(np.uint8).reshape(-1, width, 3)
    rules = [(rng.uniform(0, 1, 3), rng.uniform(0.1, 1, 3)) for _ in range(20)]
    rules += [((0, 0, 0), (1, 1 / 3, 7)), ((0.5, 1e-7, 1e30), (1e-38, 1e-45, 3e38)),
              ((-0.0, 1, 2), (255, 1 / 255, 1e-30))]
    for mean, std in rules:
        for mirror in (0.0, 1.0):
            a = reidc.Augment(height=len(image), width=width, pad=0, mirror=mirror, erasing=None,
                              mean=tuple(mean), std=tuple(std))
            with np.errstate(over="ignore"):
                x = image.astype(np.float32) / np.float32(255) - np.float32(mean)
                x = x / np.float32(std)
            want = np.moveaxis(x[:, ::-1] if mirror else x, -1, 0)
            assert a(image[None])[0].tobytes() == want.tobytes(), (mean, std, mirror)


def test_seed_epoch_and_number_all_matter_and_a_repeated_image_varies():
    a = reidc.Augment(height=64, width=32)
    same = np.stack([IMAGES[0]] * 8)
    base = a(same, seed=1, epoch=1, first=1)
    assert len({x.tobytes() for x in base}) > 6
    for change in (dict(seed=2), dict(epoch=2), dict(first=2)):
        assert not np.array_equal(base, a(same, **{**dict(seed=1, epoch=1, first=1), **change}))
    assert np.array_equal(base[1:], a(same, seed=1, epoch=1, first=2)[:-1])


def test_switching_one_step_leaves_the_others():
    images = [IMAGES[i % 6] for i in range(60)]
    on = reidc.Augment(height=64, width=32, pad=0)(images)
    off = reidc.Augment(height=64, width=32, pad=0, erasing=None)(images)
    fill = np.float32([0.485, 0.456, 0.406])[None, :, None, None]
    assert ((on == off) | (on == fill)).all() and (on != off).any()


def test_statistics():
    n, h, w = 6000, 32, 16
    image = np.zeros((h, w, 3), np.uint8)
    image[:, : w // 2] = 255  # mirrored or not shows
    same = np.broadcast_to(image, (n, h, w, 3))
    erasing = {"ratio": (0.3, 1 / 0.3), "fill": (9.0, 9.0, 9.0)}
    out = reidc.Augment(height=h, width=w, pad=0, erasing=erasing)(same, threads=2)
    gone = out[:, 0] == 9.0
    mirrored = np.where(gone[:, 0, 0] | gone[:, 0, -1], np.nan, out[:, 0, 0, 0] < 0)
    assert abs(np.nanmean(mirrored) - 0.5) < 0.03
    assert abs(gone.any((1, 2)).mean() - 0.5) < 0.03  # a try in a hundred always fits
    share = gone.mean((1, 2))[gone.any((1, 2))]
    assert share.min() > 0.01 and share.max() < 0.43 and 0.18 < share.mean() < 0.22
    out = reidc.Augment(height=h, width=w, mirror=0, pad=4, erasing=None)(
        np.full((n, h, w, 3), 255, np.uint8))
    top = (out[:, 0, :, w // 2] < 0).argmin(1)  # black rows above: 0 for shifts upwards
    counts = np.bincount(top, minlength=5)
    assert len(counts) == 5 and abs(counts[1:] / n - 1 / 9).max() < 0.02
    assert abs(counts[0] / n - 5 / 9) < 0.03


def test_erased_rectangles_reach_all_four_edges():
    a = reidc.Augment(height=24, width=12, mirror=0, pad=0, erase=1.0,
                      erasing={"fill": (9.0, 9.0, 9.0)})
    gone = (a(np.zeros((3000, 24, 12, 3), np.uint8))[:, 0] == 9.0).sum(0)
    assert gone[0].max() and gone[-1].max() and gone[:, 0].max() and gone[:, -1].max()
    assert abs(gone - gone[::-1]).max() < 0.12 * gone.max()  # the same upside down
    assert abs(gone - gone[:, ::-1]).max() < 0.12 * gone.max()


# ---- colour ----------------------------------------------------------------------------------


@pytest.mark.parametrize("op", range(4))
def test_jitter_steps_equal_numpy(op):
    for i in range(60):
        x = RNG.integers(0, 256, (17, 11, 3), dtype=np.uint8) if i % 2 else picture(31, 20, i)
        factor = RNG.uniform(-0.5, 0.5) if op == 3 else RNG.uniform(0, 2.5)
        for f in (factor, *((0.5, -0.5, 0.0) if op == 3 else (0.0, 1.0))):
            assert np.array_equal(_core._jitter(x, op, f), reference.OPERATIONS[op](x, f))


def pillow_jitter(x, op, factor):
    Image = pytest.importorskip("PIL.Image")
    ImageEnhance = pytest.importorskip("PIL.ImageEnhance")
    image = Image.fromarray(x)
    if op < 3:
        enhancer = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)[op]
        return np.asarray(enhancer(image).enhance(factor))
    h, s, v = image.convert("HSV").split()
    h = ((np.asarray(h).astype(np.int64) + int(factor * 255)) % 256).astype(np.uint8)
    return np.asarray(Image.merge("HSV", (Image.fromarray(h), s, v)).convert("RGB"))


@pytest.mark.parametrize("op", range(4))
def test_jitter_steps_equal_pillow(op):
    for i in range(60):
        x = RNG.integers(0, 256, (17, 11, 3), dtype=np.uint8) if i % 2 else picture(31, 20, i)
        factor = float(np.float32(RNG.uniform(-0.5, 0.5) if op == 3 else RNG.uniform(0, 2.5)))
        assert np.array_equal(_core._jitter(x, op, factor), pillow_jitter(x, op, factor))


@pytest.mark.slow
def test_hue_of_every_colour_equals_pillow():
    for red in range(0, 256, 16):
        v = np.arange(red << 16, red + 16 << 16, dtype=np.uint32)
        x = np.stack([v >> 16, v >> 8 & 255, v & 255], -1).astype(np.uint8).reshape(1024, 1024, 3)
        assert np.array_equal(_core._jitter(x, 3, 0.37), pillow_jitter(x, 3, 0.37))


# ---- the description -------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_presets(name):
    a = reidc.Augment.preset(name)
    assert reidc.Augment(**a.as_dict()) == a
    assert reidc.Augment.preset(name, width=64).width == 64
    assert a.replace(mirror=0.25).mirror == 0.25
    assert a([IMAGES[0]]).shape == (1, 3, a.height, a.width)


def test_tables_of_the_public_recipes():
    core = {name: reidc.Augment.preset(name)._core() for name in PRESETS}
    assert core["sb"]["fill"] == (0.485, 0.456, 0.406) and core["sb"]["pad"] == 10
    assert core["mbgn"]["fill"] == (0, 0, 0) and core["mbgn"]["pad"] == 0
    assert (core["mbgn"]["height"], core["mbgn"]["width"]) == (384, 128)
    assert core["fsac"]["erase"] == 0 and core["fsac"]["pad"] == 10
    assert core["fast-reid"]["tries"] == 10 and core["fast-reid"]["log_ratio"]
    assert core["fast-reid"]["jitter"] == 0.5 and core["sb"]["jitter"] == 0
    assert ERASING["original"]["fill"] == (0.4914, 0.4822, 0.4465)
    assert JITTER["dpr"]["brightness"] == 0.2


@pytest.mark.parametrize("change, error, word", [
    (dict(height=0), ValueError, "height"), (dict(width=1 << 40), ValueError, "width"),
    (dict(height=2.5), TypeError, "height"), (dict(mirror=1.5), ValueError, "mirror"),
    (dict(mirror=float("nan")), ValueError, "mirror"), (dict(mirror="yes"), TypeError, "mirror"),
    (dict(pad=-1), ValueError, "pad"), (dict(interpolation="nearest"), ValueError, "nearest"),
    (dict(interpolation=3), TypeError, "interpolation"),
    (dict(jitter="strong"), ValueError, "jitter"), (dict(jitter={"hue": 0.6}), ValueError, "hue"),
    (dict(jitter={"colour": 1}), TypeError, "colour"),
    (dict(jitter={"contrast": "1"}), TypeError, "contrast"),
    (dict(erasing="all"), ValueError, "erasing"), (dict(erase=-0.1), ValueError, "erase"),
    (dict(erasing={"area": (0.4, 0.2)}), ValueError, "area"),
    (dict(erasing={"area": 0.4}), ValueError, "area"),
    (dict(erasing={"ratio": (0.0, 1.0)}), ValueError, "ratio"),
    (dict(erasing={"tries": 101}), ValueError, "tries"),
    (dict(erasing={"fill": (0, 0, float("inf"))}), ValueError, "fill"),
    (dict(std=(1, 0, 1)), ValueError, "std"), (dict(mean=(1, 2)), ValueError, "mean"),
    (dict(noise=1), TypeError, "noise")])
def test_wrong_descriptions_are_refused(change, error, word):
    with pytest.raises(error, match=word):
        reidc.Augment(**change)


def test_wrong_images_and_frozen():
    a = reidc.Augment(height=16, width=8)
    with pytest.raises(TypeError, match="uint8"):
        a(np.zeros((1, 16, 8, 3)))
    with pytest.raises(ValueError, match="3 x H x W"):
        a(np.zeros((1, 3, 16, 8), np.uint8))
    image = np.zeros((1, 16, 8, 3), np.uint8)
    for change, error, word in [
            (dict(seed=-1), ValueError, "seed: expected 0 to"), (dict(seed=0.5), TypeError, "seed"),
            (dict(epoch=-1), ValueError, "epoch: expected 0 or more, got -1"),
            (dict(first="a"), TypeError, "first"), (dict(threads=0), ValueError, "threads"),
            (dict(first=1 << 63), ValueError, "first")]:
        with pytest.raises(error, match=word):
            a(image, **change)
    assert np.array_equal(a(image, seed=(1 << 64) - 1, threads=None),
                          a(image, seed=np.uint64((1 << 64) - 1), threads=np.int8(1)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        a.mirror = 1.0
    with pytest.raises(ValueError, match="sb"):
        reidc.Augment.preset("best")
    assert a([]).shape == (0, 3, 16, 8)
    x = np.asfortranarray(IMAGES[0])
    before = x.copy()
    assert np.array_equal(a([x]), a([IMAGES[0]])) and np.array_equal(x, before)


def test_memory_that_runs_out_leaves_nothing_behind():
    a = reidc.Augment(height=16, width=8, scale_crop=0.5, jitter="hamr")
    before, failures = _core._memory_live(), 0
    for n in range(1, 200):
        _core._memory_fail_after(n)
        try:
            a(IMAGES)
        except MemoryError:
            failures += 1
        finally:
            _core._memory_fail_after(-1)
        assert _core._memory_live() == before
    assert 10 < failures < 199
