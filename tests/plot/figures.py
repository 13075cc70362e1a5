"""What the tests of reidc.plot look at: a figure's words, pictures and frames."""
import io

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra: plot)")
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

IMAGES = np.random.default_rng(5).integers(0, 256, (3, 32, 16, 3)).astype(np.uint8)


def words_of(figure):
    """Every text that a reader sees; ticks beyond an axis' ends are not drawn."""
    found = list(figure.texts)
    for axes in figure.axes:
        if not axes.get_visible():
            continue
        found += [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        found += axes.get_legend().texts if axes.get_legend() else []
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            found += [tick.label1 for tick in axis.get_major_ticks()
                      if low <= tick.get_loc() <= high]
    return [t for t in found if t.get_visible() and t.get_text().strip()]


def drawn(figure):
    """The figure, drawn: no word leaves it, and no two words lie on each other."""
    assert isinstance(figure, Figure)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    assert file.getvalue().startswith(b"\x89PNG")
    boxes = [(t.get_text(), t.get_window_extent()) for t in words_of(figure)]
    whole = figure.bbox
    for word, box in boxes:
        assert box.x0 >= whole.x0 - 1 and box.x1 <= whole.x1 + 1, (word, box, whole)
        assert box.y0 >= whole.y0 - 1 and box.y1 <= whole.y1 + 1, (word, box, whole)
    for i, (word, a) in enumerate(boxes):
        for other, b in boxes[:i]:
            met = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
            assert min(met) <= 1.5, (word, other, met)
    return figure


def texts(axes):
    return [t.get_text() for t in axes.texts]


def shown(figure):
    """Axes with a picture."""
    return [axes for axes in figure.axes if axes.get_visible() and axes.images]


def frame_of(axes):
    """(colour, whole line?) of the frame; None without one."""
    spines = list(axes.spines.values())
    if not any(s.get_visible() for s in spines):
        return None
    (color,) = {to_hex(s.get_edgecolor()).upper() for s in spines}
    (whole,) = {s.get_linestyle() == "-" or s.get_linestyle() == "solid" for s in spines}
    return color, whole
