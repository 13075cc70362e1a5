"""reidc.plot: heat maps, attention and parts over pictures, and what is refused."""
import numpy as np
import pytest
from figures import IMAGES, drawn, shown, texts

import reidc

plot = reidc.plot
MAPS = np.random.default_rng(6).random((3, 4, 2)).astype(np.float32)


def test_overlay():
    masks = np.zeros((3, 32, 16))
    masks[:, 8:24, 4:12] = 1
    notes = [["a", "b"], ["c", "d"], ["e", "f"]]
    figure = drawn(plot.overlay(IMAGES, {"MBGN": MAPS, "HAMR": 1 - MAPS}, outline=masks,
                                rows=["p1\ncam 1", "p2", "p3"], notes=notes, title="Maps"))
    axes = shown(figure)
    assert len(axes) == 9
    for i in range(3):
        row = axes[3 * i:3 * i + 3]
        assert len(row[0].images) == 1
        for j, maps in enumerate((MAPS, 1 - MAPS)):
            under, heat = row[1 + j].images
            assert np.array_equal(under.get_array(), IMAGES[i])
            assert np.array_equal(heat.get_array(), maps[i])
            assert heat.get_alpha() == 0.5 and heat.get_clim() == (0, 1)
            assert heat.get_extent() == under.get_extent()  # it covers the picture
            assert row[1 + j].collections  # the outline
            assert texts(row[1 + j]) == [notes[i][j]]
    assert [a.get_title() for a in axes[:3]] == ["", "MBGN", "HAMR"]
    assert {"p1", "cam 1", "p2", "p3", "Maps"} <= {t.get_text() for t in figure.texts}
    one = drawn(plot.overlay(list(IMAGES), MAPS, titles=["only"], alpha=0.7, cmap="viridis"))
    assert len(shown(one)) == 6 and shown(one)[1].images[1].get_alpha() == 0.7
    assert len(shown(drawn(plot.overlay(IMAGES, [MAPS] * 9, titles=list("abcdefghi"))))) == 30
    drawn(plot.overlay(IMAGES, [MAPS] * 4, titles=["a rather long title"] * 4, width=4))


@pytest.mark.parametrize("maps, change, error, words", [
    (MAPS[:2], {}, ValueError, "expected 3 maps, one a picture, got 2"),
    (MAPS + 1, {}, ValueError, "values from 0 to 1"),
    (MAPS * np.nan, {}, ValueError, "finite"),
    ((MAPS * 9).astype(int), {}, TypeError, "expected floats"),
    (MAPS[0], {}, ValueError, "N x h x w"),
    ([], {}, ValueError, "at least one"),
    (3, {}, TypeError, "maps: expected"),
    ({"a": MAPS[:1]}, {}, ValueError, r"maps\['a'\]"),
    ({"a": MAPS}, {"titles": ["b"]}, ValueError, "titles already"),
    (MAPS, {"titles": ["a", "b"]}, ValueError, "titles: expected 1, got 2"),
    (MAPS, {"titles": "ab"}, TypeError, "titles"),
    (MAPS, {"rows": ["a"]}, ValueError, "rows: expected 3"),
    (MAPS, {"notes": [["a"]]}, ValueError, "notes: expected 3"),
    (MAPS, {"notes": [["a", "b"]] * 3}, ValueError, "notes: expected 1, got 2"),
    (MAPS, {"outline": MAPS[:2]}, ValueError, "outline: expected 3"),
    (MAPS, {"alpha": 0}, ValueError, "alpha"),
    (MAPS, {"width": 0.2}, ValueError, "width: expected 1 to 100"),
])
def test_overlay_refuses(maps, change, error, words):
    with pytest.raises(error, match=words):
        plot.overlay(IMAGES, maps, **change)


class Attentive:
    """Stands in for a network: what `attention` gives of each kind."""

    system, height, width = "stand-in", 64, 32

    def attention(self, images):
        n, t = len(images), 8  # 4 x 2 positions
        looks = np.zeros((n, t, t), np.float32)
        looks[:, :, 3] = 1  # every position looks at (1, 1)
        looks[:, 0] = np.eye(t)[6]  # but the first, at (3, 0)
        return {"mask": MAPS[:n], "block.attention": looks,
                "heads": np.stack([looks, looks], 1), "gate": np.ones((n, 16), np.float32),
                "cpaa.channel": np.ones((n, 8, 8), np.float32),
                "planes": np.ones((n, 4), np.int64)}


def test_attention():
    figure = drawn(plot.attention(Attentive(), IMAGES))
    axes = shown(figure)
    assert [a.get_title() for a in axes[:4]] == ["", "mask", "block.attention", "heads"]
    assert len(axes) == 12
    assert np.array_equal(axes[1].images[1].get_array(), MAPS[0])
    looked = axes[2].images[1].get_array()
    assert looked.shape == (4, 2) and looked[1, 1] == 7 / 8 and looked[3, 0] == 1 / 8
    assert axes[2].images[1].get_clim() == (0, 7 / 8)
    assert texts(axes[2]) == ["0 to 0.88"]
    figure = drawn(plot.attention(Attentive(), IMAGES, at=(0, 0), names=["heads", "mask"]))
    axes = shown(figure)
    looked = axes[1].images[1].get_array()
    assert looked[3, 0] == 1 and looked.sum() == 1
    assert len(axes[1].lines) == 1 and not axes[2].lines  # the ring where it has a meaning


def test_attention_refuses():
    for change, error, words in (({"at": 0.5}, ValueError, "at: expected"),
                                 ({"at": (0, 2)}, ValueError, "at: expected"),
                                 ({"names": ["gate"]}, ValueError, "nothing to draw at 'gate'")):
        with pytest.raises(error, match=words):
            plot.attention(Attentive(), IMAGES, **change)
    with pytest.raises(ValueError, match="baseline has no attention over positions"):
        plot.attention(narrow(reidc.Baseline), IMAGES)
    with pytest.raises(TypeError, match="network"):
        plot.attention(None, IMAGES)
    with pytest.raises(TypeError, match="uint8"):
        plot.attention(Attentive(), IMAGES / 255)


def narrow(cls, height=96, width=32, **options):
    return cls(3, height, width, backbone="resnet18", width_multiplier=0.25, **options)


@pytest.mark.parametrize("make, names", [
    (lambda: narrow(reidc.MBGN, num_attention=2), ["att3", "att4"]),
    (lambda: narrow(reidc.HAMR), ["sam1", "sam2", "sam3", "sam4"]),
    (lambda: narrow(reidc.MFA), ["cpaa.2.point", "cpaa.3.point", "cpaa.4.point"]),
    (lambda: narrow(reidc.MGAF), ["small.attention", "medium.attention", "large.attention"]),
    (lambda: reidc.FSAC(3, 96, 32, width_multiplier=0.25), ["layer3.0.conv2", "layer4.2.conv2"]),
])
def test_attention_of_the_networks(make, names):
    m = make()
    given = {k.removeprefix("backbone."): v for k, v in m.attention(IMAGES).items()}
    figure = drawn(plot.attention(m, IMAGES))
    axes = shown(figure)
    titles = [a.get_title() for a in axes]
    assert set(names) <= set(titles)
    assert not {"planes", "cam", "eca1", "cpaa.2.channel"} & set(titles)
    for name in names:
        heat, array = axes[titles.index(name)].images[1].get_array(), given[name][0]
        if array.shape != heat.shape:  # rows look; each sums to one, so the mean over them does
            assert heat.sum() == pytest.approx(1, abs=1e-4)
            assert heat.shape[0] == 3 * heat.shape[1] and heat.size == array.shape[-1]
            place = heat.shape[1] + 0  # the first position of the second row
            at = (1.5 / heat.shape[0], 0.5 / heat.shape[1])
            one = shown(plot.attention(m, IMAGES, at=at))[titles.index(name)]
            row = array[..., place, :]
            row = row.mean(0) if row.ndim == 2 else row
            assert np.allclose(one.images[1].get_array().reshape(-1), row, atol=1e-6)
        else:
            assert np.array_equal(heat, array)


def cuts(axes):
    return sorted({round(line.get_ydata()[0], 6) for line in axes.lines
                   if len(set(line.get_ydata())) == 1 and list(line.get_xdata()) == [0, 1]})


def test_parts_of_mbgn():
    m = narrow(reidc.MBGN)
    planes = np.array([[1, 2, 3, 5], [1, 2, 4, 5], [2, 3, 4, 5]])
    figure = drawn(plot.parts(m, IMAGES, planes=planes, rows=["a", "b", "c"]))
    for axes, line, label in zip(shown(figure), planes, "abc"):
        assert np.allclose(cuts(axes), line / 6 * 32)  # rows of the map to rows of the picture
        words = texts(axes)
        assert words == ["p1", "p2", "p3", "p4", "p5", "p6", label]
        edges = 1 - np.array([0, *line, 6]) / 6
        runs = [(0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 5)]
        brackets = [x.get_ydata() for x in axes.lines if x.get_transform() == axes.transAxes
                    and len(set(x.get_xdata())) == 1]
        assert len(brackets) == 6
        for (top, bottom), (first, last) in zip(brackets, runs):
            assert top == pytest.approx(edges[first], abs=0.01)
            assert bottom == pytest.approx(edges[last], abs=0.01)
    own = shown(plot.parts(m, IMAGES))
    for axes, line in zip(own, m.attention(IMAGES)["planes"]):
        assert np.allclose(cuts(axes), line / 6 * 32)
    with pytest.raises(ValueError, match="planes: expected integers 3 x 4"):
        plot.parts(m, IMAGES, planes=planes[:2])
    fine = plot.parts(narrow(reidc.MBGN, strategy="M+C"), IMAGES, planes=planes)
    assert len(texts(shown(drawn(fine))[0])) == 7


@pytest.mark.parametrize("make, count", [
    (lambda: narrow(reidc.HAMR), 6), (lambda: narrow(reidc.HAMR, parts=3), 3),
    (lambda: narrow(reidc.MFA), 4), (lambda: narrow(reidc.MGAF), 3),
    (lambda: narrow(reidc.MGAF, large=False), 2)])
def test_parts_that_are_stripes(make, count):
    figure = drawn(plot.parts(make(), IMAGES))
    for axes in shown(figure):
        assert np.allclose(cuts(axes), [32 * i / count for i in range(1, count)])
        assert texts(axes) == [str(i + 1) for i in range(count)]


def test_parts_refuses():
    for m, words in ((narrow(reidc.Baseline), "reads no parts"),
                     (narrow(reidc.HAMR, local="none"), "reads no parts"),
                     (narrow(reidc.MBGN, branch_l=False, structure=False), "reads no parts")):
        with pytest.raises(ValueError, match=words):
            plot.parts(m, IMAGES)
    with pytest.raises(ValueError, match="MBGN's alone"):
        plot.parts(narrow(reidc.HAMR), IMAGES, planes=np.zeros((3, 4), int))
    with pytest.raises(TypeError, match="network"):
        plot.parts("mbgn", IMAGES)
