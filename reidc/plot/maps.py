"""Maps over pictures: heat maps, a network's own attention, the parts that it reads."""
import numpy as np

from reidc._core import ArgumentError, ArgumentTypeError
from reidc.plot import _canvas as c

# The runs of MBGN's five parts B1..B5 that have a head, first and last, as in csrc/nets/mbgn.c.
_RUNS = {
    "F": [(i, i) for i in range(5)], "M": [(i, i + 1) for i in range(4)],
    "M+F": [(0, 0), *((i, i + 1) for i in range(4)), (4, 4)],
    "M+C": [*((i, i + 1) for i in range(4)), *((i, i + 2) for i in range(3))],
}
LANE = 0.21  # inches for a bracket and its name beside a picture


def _heat(axes, image, values, cmap, alpha, low=0.0, high=1.0):
    """A map over its whole picture, whatever the sizes; bilinear."""
    extent = (0, image.shape[1], image.shape[0], 0)
    c.picture(axes, image, extent)
    return axes.imshow(values, cmap=cmap, alpha=alpha, vmin=low, vmax=high, extent=extent,
                       interpolation="bilinear", aspect="auto")


def _bar(grid, heat, words=("low", "high")):
    """A colour bar under the last column."""
    right = grid.width - grid.side
    axes = grid.place(right - 0.9 - 0.25, 0.09, 0.9, 0.07)
    bar = grid.figure.colorbar(heat, cax=axes, orientation="horizontal")
    bar.set_ticks([])
    bar.outline.set_linewidth(0.4)
    for x, word, side in ((-0.05, words[0], "right"), (1.05, words[1], "left")):
        axes.text(x, 0.5, word, transform=axes.transAxes, ha=side, va="center", fontsize=6.5,
                  color=c.FAINT)


def _columns(maps, titles, n):
    """[(title, maps N×h×w)] of an array, a list or a dict."""
    if isinstance(maps, dict):
        if titles is not None:
            raise ArgumentError("titles: a dict of maps has its titles already")
        titles, maps = list(maps), list(maps.values())
    elif isinstance(maps, np.ndarray):
        maps = [maps]
    elif not isinstance(maps, (list, tuple)):
        raise ArgumentTypeError("maps: expected an array N x h x w, a list or a dict of them, got "
                                f"{type(maps).__name__}")
    if not len(maps):
        raise ArgumentError("maps: expected at least one, got none")
    titles = c.check_texts(titles, len(maps), "titles")
    return [(title, c.check_maps(array, n, f"maps[{title!r}]" if title else f"maps[{i}]"))
            for i, (title, array) in enumerate(zip(titles, maps))]


def overlay(images, maps, titles=None, *, rows=None, notes=None, outline=None, alpha=0.5,
            cmap="inferno", title=None, width=7.0):
    """Heat maps over pictures: people in rows; the pictures, then one column for each set of maps.

    images: uint8 N×H×W×3, or a list of H×W×3. maps: float N×h×w of values from 0 to 1, as
        `m.grad_cam` gives them, or several in a list or as {title: maps}; of any size, each covers
        its whole picture. titles: of the maps in a list.
    rows: N labels. notes: a line under every map, N lists of one text a column.
    outline: float or bool N×H×W from 0 to 1, whose contour at one half is drawn (a person's mask).
    alpha: the map's share of what is seen, above 0 and up to 1. cmap: matplotlib's. width: inches.
    TypeError, ValueError: arrays that do not fit.
    """
    images, width = c.check_images(images), c.check_width(width)
    n = len(images)
    columns = _columns(maps, titles, n)
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 < alpha <= 1:
        raise ArgumentError(f"alpha: expected above 0 and up to 1, got {alpha!r}")
    if outline is not None:
        outline = np.asarray(outline)
        outline = c.check_maps(outline if outline.dtype.kind == "f" else outline.astype(float), n,
                               "outline")
    if notes is not None:
        notes = [c.check_texts(line, len(columns), "notes") for line in notes]
        if len(notes) != n:
            raise ArgumentError(f"notes: expected {n}, one list a picture, got {len(notes)}")
    labels = c.check_texts(rows, n, "rows")
    with c.style() as figure:
        grid = c.Grid(figure, n, 1 + len(columns), c.ratio_of(images), width,
                      label=0.68 if rows is not None else 0.0, head=0.45 if title else 0.24,
                      below=0.18 if notes is not None else 0.06, foot=0.2, gaps={1: 0.06})
        for i, (line, image) in enumerate(zip(grid.axes, images)):
            c.picture(line[0], image, (0, image.shape[1], image.shape[0], 0))
            for j, (axes, (_, values)) in enumerate(zip(line[1:], columns)):
                heat = _heat(axes, image, values[i], cmap, alpha)
                if outline is not None:
                    _contour(axes, image, outline[i])
                if notes is not None:
                    note = notes[i][j]
                    c.caption(axes, note, fontsize=c.fitting(note, grid.cell, 6.5))
            grid.label(i, labels[i].split("\n"))
        _finish(grid, heat, [word for word, _ in columns], 8, title)
    return grid.figure


def _finish(grid, heat, words, size, title):
    """The columns' words over the first row, the scale of colours and the title."""
    for axes, word in zip(grid.axes[0][1:], words):
        axes.set_title(word, fontsize=c.fitting(word, grid.cell, size), pad=4)
    _bar(grid, heat)
    if title:
        grid.text(grid.left, grid.height - 0.06, title, va="top", fontsize=9)


def _contour(axes, image, mask):
    """The line where a mask crosses one half, white on black."""
    rows, columns = mask.shape
    x = (np.arange(columns) + 0.5) * (image.shape[1] / columns)
    y = (np.arange(rows) + 0.5) * (image.shape[0] / rows)
    if mask.min() < 0.5 < mask.max():
        axes.contour(x, y, mask, levels=[0.5], colors="white", linewidths=0.8)


# ---- attention -------------------------------------------------------------------------------


def _looks(name, array):
    """Whether what `m.attention` gives under a name says where each position looks."""
    return array.ndim == 4 or name.endswith((".attention", ".point"))


def _spatial(name, array, ratio, at):
    """Maps N×h×w of what `m.attention` gives under a name; None: it has no positions.

    N×h×w is taken as it is. Of N×T×T and N×heads×T×T, which say for each position (a row) where it
    looks: the mean over heads, and over the positions that look, or the row of the position `at`.
    """
    if array.dtype.kind != "f" or array.ndim < 3 or name.endswith(".channel"):
        return None
    if not _looks(name, array):
        return array
    if array.ndim == 4:
        array = array.mean(1)
    w = round((array.shape[-1] / ratio) ** 0.5)  # T = h·w, h/w as the network's input
    h = array.shape[-1] // w
    if at is None:
        return array.mean(1).reshape(-1, h, w)
    y, x = min(h - 1, int(at[0] * h)), min(w - 1, int(at[1] * w))
    return array[:, y * w + x].reshape(-1, h, w)


def attention(m, images, *, names=None, at=None, alpha=0.5, cmap="inferno", title=None, width=7.0):
    """A network's own attention over pictures: a column for each module of `m.attention(images)`.

    m: a network with attention. images: uint8 N×H×W×3.
    names: the modules shown; None: all that have positions. Gates and affinities of channels have
        none and cannot be drawn.
    at: (share of the height, share of the width): where that position looks, which a ring marks,
        for modules that say so (N×T×T, N×heads×T×T; the mean over heads). None: how much all
        positions together look at each.
    Each map is stretched from its least to its largest value, which stand under it. TypeError,
    ValueError: input that does not fit, a network without such attention.
    """
    pictures, width = c.check_images(images), c.check_width(width)
    if not hasattr(m, "attention"):
        raise ArgumentTypeError(f"m: expected a network, got {type(m).__name__}")
    if at is not None and (np.shape(at) != (2,) or not all(0 <= x <= 1 for x in at)):
        raise ArgumentError("at: expected (share of the height, share of the width) from 0 to 1, "
                            f"got {at!r}")
    c.load()  # a missing matplotlib is said before the network runs
    given = {name: np.asarray(array) for name, array in m.attention(images).items()}
    drawn = {name: _spatial(name, array, m.height / m.width, at) for name, array in given.items()}
    drawn = {name: array for name, array in drawn.items() if array is not None}
    if names is not None:
        wrong = [name for name in names if name not in drawn]
        if wrong:
            raise ArgumentError(f"names: nothing to draw at {wrong[0]!r}; there are "
                                f"{', '.join(drawn) or 'none'}")
        drawn = {name: drawn[name] for name in names}
    if not drawn:
        raise ArgumentError(f"m: this {getattr(m, 'system', 'network')} has no attention over "
                            "positions")
    with c.style() as figure:
        grid = c.Grid(figure, len(pictures), 1 + len(drawn), c.ratio_of(pictures), width,
                      head=0.45 if title else 0.24, below=0.18, foot=0.2)
        letters = c.fitting("0.0012 to 0.98", grid.cell, 6.5)  # the longest of what stands below
        for i, (line, image) in enumerate(zip(grid.axes, pictures)):
            c.picture(line[0], image, (0, image.shape[1], image.shape[0], 0))
            for axes, (name, array) in zip(line[1:], drawn.items()):
                low, high = float(array[i].min()), float(array[i].max())
                heat = _heat(axes, image, array[i], cmap, alpha, low, max(high, low + 1e-12))
                c.caption(axes, f"{low:.2g} to {high:.2g}", fontsize=letters)
                if at is not None and _looks(name, given[name]):
                    axes.plot(at[1] * image.shape[1], at[0] * image.shape[0], "o", color="white",
                              markerfacecolor="none", markersize=6, markeredgewidth=1.2)
        _finish(grid, heat, [name.removeprefix("backbone.") for name in drawn], 7, title)
    return grid.figure


# ---- parts -----------------------------------------------------------------------------------


def _parts(m, images, planes):
    """(cuts, runs): where each picture is cut, shares of its height, N lists; and the runs of those
    pieces that have a head: (name, first, last), counted from 0."""
    system = getattr(m, "system", None)
    settings = m.config["settings"] if hasattr(m, "config") else {}
    n = len(images)
    if planes is not None and system != "mbgn":
        raise ArgumentError("planes: they are MBGN's alone")
    if system == "mbgn" and settings["branch_l"]:
        if settings["strategy"] == "MGN":
            halves, thirds = [1 / 2], [1 / 3, 2 / 3]
            cuts = sorted(halves + thirds)
            runs = [("p1", 0, 1), ("p2", 2, 3), ("p3", 0, 0), ("p4", 1, 2), ("p5", 3, 3)]
            return [cuts] * n, runs
        rows = m.height // 16
        if planes is None:
            planes = m.attention(images)["planes"]
        planes = np.asarray(planes)
        if planes.shape != (n, 4) or planes.dtype.kind not in "iu":
            raise ArgumentError(f"planes: expected integers {n} x 4, got {planes.dtype} of shape "
                                f"{planes.shape}")
        return ([[int(plane) / rows for plane in line] for line in planes],
                [(f"p{i + 1}", *run) for i, run in enumerate(_RUNS[settings["strategy"]])])
    count = {"hamr": settings.get("parts"), "mfa": settings.get("regions"),
             "mgaf": 3 if settings.get("large") else 2}.get(system, 0)
    if (system == "hamr" and settings["local"] == "none") or (
            system == "mfa" and not settings["local_branches"]) or (
            system == "mgaf" and not (settings["large"] or settings["medium"])):
        count = 0
    if not count:
        raise ArgumentError(f"m: this {system or type(m).__name__} reads no parts")
    return ([[i / count for i in range(1, count)]] * n,
            [(f"{i + 1}", i, i) for i in range(count)])


def parts(m, images, *, planes=None, rows=None, title=None, width=7.0):
    """The horizontal parts that a network reads, drawn on the people.

    m: an MBGN (the planes it finds in each picture, and a bracket for each run of parts that has
        a head), or HAMR, MFA or MGAF (equal stripes). images: uint8 N×H×W×3.
    planes: integers N×4, rows of MBGN's map, in place of what it finds. rows: N labels, under the
    pictures. TypeError, ValueError: input that does not fit, a network that reads no parts.
    """
    pictures, width = c.check_images(images), c.check_width(width)
    if not hasattr(m, "config"):
        raise ArgumentTypeError(f"m: expected a network, got {type(m).__name__}")
    labels = c.check_texts(rows, len(pictures), "rows")
    c.load()
    cuts, runs = _parts(m, images, planes)
    overlapping = any(first != last for _, first, last in runs)
    lanes = _lanes(runs) if overlapping else []
    side = LANE * (max(lanes) + 1) if lanes else 0.1
    with c.style() as figure:
        grid = c.Grid(figure, 1, len(pictures), c.ratio_of(pictures), width,
                      head=0.28 if title else 0.06, below=0.18 if rows is not None else 0.06,
                      gap=side + 0.08, right=side)
        for axes, image, lines, label in zip(grid.axes[0], pictures, cuts, labels):
            height, wide = image.shape[:2]
            c.picture(axes, image, (0, wide, height, 0))
            for share in lines:
                axes.axhline(share * height, color="black", linewidth=1.6)
                axes.axhline(share * height, color="white", linewidth=0.9)
            edges = [0.0, *lines, 1.0]
            for i, (name, first, last) in enumerate(runs):
                top, bottom = edges[first], edges[last + 1]
                color = c.CURVES[i % (len(c.CURVES) - 1)]
                x = 1 + (0.04 + (LANE * lanes[i] if lanes else 0)) / grid.cell
                if lanes:
                    axes.plot([x, x], [1 - top - 0.006, 1 - bottom + 0.006], color=color,
                              linewidth=1.8, clip_on=False, transform=axes.transAxes,
                              solid_capstyle="butt")
                axes.text(x + 0.025 / grid.cell, 1 - (top + bottom) / 2, name, fontsize=6,
                          color=color if lanes else c.FAINT, va="center", ha="left",
                          transform=axes.transAxes)
            if label:
                c.caption(axes, label)
        if title:
            grid.text(grid.side, grid.height - 0.06, title, va="top", fontsize=9)
    return grid.figure


def _lanes(runs):
    """A lane for each run, so that none covers another: the first that is free."""
    ends, lanes = [], []
    for _, first, last in runs:
        free = [i for i, taken in enumerate(ends)
                if all(last < a or first > b for a, b in taken)]
        lane = free[0] if free else len(ends)
        if lane == len(ends):
            ends.append([])
        ends[lane].append((first, last))
        lanes.append(lane)
    return lanes
