"""What all figures share: matplotlib, loaded late; style; grids of pictures; checks of input."""
from contextlib import contextmanager

import numpy as np

from reidc import _checks
from reidc._core import ArgumentError, ArgumentTypeError

# Okabe and Ito 2008, "Color universal design".
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
CURVES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
DASHES = ("-", "--", "-.", ":")
MARKERS = "os^Dv<>"
RIGHT, WRONG, ASKED, FAINT = GREEN, VERMILION, BLACK, "#6A6E76"
FRAMES = {RIGHT: "-", WRONG: (0, (3, 1.4)), ASKED: "-"}  # wrong is dashed, for prints in grey
MARKS = {True: "\N{CHECK MARK}", False: "\N{BALLOT X}"}
MARK_FONT = "DejaVu Sans"  # comes with matplotlib and has both marks

STYLE = {
    "font.size": 8, "axes.titlesize": 9, "axes.labelsize": 8, "xtick.labelsize": 7,
    "ytick.labelsize": 7, "legend.fontsize": 7, "axes.linewidth": 0.6, "lines.linewidth": 1.4,
    "lines.markersize": 3.5, "axes.grid": False, "axes.spines.top": False,
    "axes.spines.right": False, "xtick.major.width": 0.6, "ytick.major.width": 0.6,
    "legend.frameon": False, "figure.facecolor": "white", "axes.facecolor": "white",
    "figure.dpi": 110,
}
PAGE = 7.0  # inches
TALLEST = 2.0  # a picture, inches


def load():
    """matplotlib and the class of figures. ImportError that says what to install."""
    try:
        import matplotlib

        from reidc.plot._figure import Figure
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise ImportError("reidc.plot draws with matplotlib, which is not installed: "
                          "pip install 'reidc[plot]'") from None
    return matplotlib, Figure


@contextmanager
def style():
    """matplotlib with the style while a figure is made; yields the class of figures."""
    matplotlib, figure = load()
    with matplotlib.rc_context(STYLE):
        yield figure


class Grid:
    """Pictures in rows and columns, placed in inches so that nothing overlaps.

    `axes[row][column]` have no ticks. Columns of `gaps` have that much more room before them.
    label: room on the left; right: on the right; below: under each row; head: above the first row;
    foot: below the last.
    """

    def __init__(self, figure, rows, columns, ratio, width, *, label=0.0, head=0.3, below=0.06,
                 foot=0.05, gap=0.06, gaps=None, right=0.0):
        gaps, side = gaps or {}, 0.05
        fixed = label + 2 * side + right + gap * (columns - 1) + sum(gaps.values())
        if width <= fixed + 0.15 * columns:
            raise ArgumentError(f"width: {columns} columns need more than "
                                f"{fixed + 0.15 * columns:.1f} inches, got {width:g}")
        cell = min((width - fixed) / columns, TALLEST / ratio)
        tall = cell * ratio
        self.width, self.cell, self.tall = fixed + columns * cell, cell, tall
        self.height = head + rows * (tall + below) + foot
        self.figure = figure(figsize=(self.width, self.height))
        self.left, self.top = side + label, []
        self.axes = []
        for row in range(rows):
            y = self.height - head - row * (tall + below) - tall
            self.top.append(y + tall)
            x, line = self.left, []
            for column in range(columns):
                x += gaps.get(column, 0.0)
                line.append(self.place(x, y, cell, tall))
                x += cell + gap
            self.axes.append(line)
        self.side = side

    def place(self, x, y, width, height):
        """Axes at inches from the lower left."""
        axes = self.figure.add_axes((x / self.width, y / self.height, width / self.width,
                                     height / self.height))
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
        return axes

    def text(self, x, y, words, **options):
        """Text at inches from the lower left."""
        return self.figure.text(x / self.width, y / self.height, words, **options)

    def label(self, row, lines):
        """Lines beside a row: the first in black, the others faint."""
        for i, line in enumerate(lines):
            self.text(self.side, self.top[row] - 0.02 - 0.15 * i, line, va="top",
                      color=BLACK if i == 0 else FAINT, fontsize=8 if i == 0 else 7)


def picture(axes, image, extent=None):
    """Show a picture, filling the axes."""
    axes.imshow(image, aspect="auto", extent=extent)


def frame(axes, color):
    """A frame around the picture of axes."""
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(color)
        spine.set_linewidth(1.6)
        spine.set_linestyle(FRAMES[color])


def fitting(words, inches, size):
    """A size of letters, at most `size` points, at which words take no more than so many inches."""
    return max(3.5, min(size, inches * 72 / (0.62 * max(1, len(words)))))


def hide(axes):
    """Axes of a grid that have no picture."""
    axes.set_visible(False)


def caption(axes, words, **options):
    """A line under a picture."""
    axes.annotate(words, (0.5, 0), (0, -2.5), xycoords="axes fraction", textcoords="offset points",
                  ha="center", va="top", **{"color": FAINT, "fontsize": 6.5, **options})


# ---- checks ----------------------------------------------------------------------------------


def check_images(images, name="images"):
    """uint8 N×H×W×3, or a list of H×W×3: a list of arrays."""
    if isinstance(images, np.ndarray) and images.ndim == 3 and images.shape[2] == 3:
        raise ArgumentError(f"{name}: expected N x H x W x 3, got one picture "
                            f"{_shape(images)}; write {name}[None]")
    if isinstance(images, np.ndarray) and images.ndim != 4:
        raise ArgumentError(f"{name}: expected N x H x W x 3, got {_shape(images)}")
    if not isinstance(images, (np.ndarray, list, tuple)):
        raise ArgumentTypeError(f"{name}: expected a uint8 array N x H x W x 3 or a list of "
                                f"pictures, got {type(images).__name__}")
    for image in images:
        if getattr(image, "dtype", None) != np.uint8:
            raise ArgumentTypeError(f"{name}: expected uint8, got "
                                    f"{getattr(image, 'dtype', type(image).__name__)}")
        if image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ArgumentError(f"{name}: expected pictures H x W x 3, got {_shape(image)}")
    if not len(images):
        raise ArgumentError(f"{name}: expected at least one picture, got none")
    return list(images)


def _shape(array):
    return " x ".join(map(str, array.shape))


def check_maps(maps, n, name="maps", low=0.0, high=1.0):
    """Heat maps N×h×w of finite values from low to high (None: any): float array."""
    array = np.asarray(maps)
    if array.dtype.kind != "f":
        raise ArgumentTypeError(f"{name}: expected floats, got {array.dtype}")
    if array.ndim != 3 or not array.size:
        raise ArgumentError(f"{name}: expected N x h x w, got {_shape(array) or 'a number'}")
    if len(array) != n:
        raise ArgumentError(f"{name}: expected {n} maps, one a picture, got {len(array)}")
    if not np.isfinite(array).all():
        raise ArgumentError(f"{name}: expected finite values, got NaN or infinity")
    if low is not None and not (array.min() >= low - 1e-6 and array.max() <= high + 1e-6):
        raise ArgumentError(f"{name}: expected values from {low:g} to {high:g}, got "
                            f"{array.min():.3g} to {array.max():.3g}")
    return array


def check_texts(texts, n, name):
    """n texts, or None: n empty ones; a text may have several lines."""
    if texts is None:
        return [""] * n
    if isinstance(texts, str) or not hasattr(texts, "__len__"):
        raise ArgumentTypeError(f"{name}: expected {n} texts, got {type(texts).__name__}")
    if len(texts) != n:
        raise ArgumentError(f"{name}: expected {n}, got {len(texts)}")
    return [str(text) for text in texts]


def check_width(width):
    """Inches, above 0."""
    width = _checks.number("width", width, " of inches")
    if not 1 <= width <= 100:
        raise ArgumentError(f"width: expected 1 to 100 inches, got {width}")
    return width


def ratio_of(images):
    """Height through width of the first picture: the shape of a grid's cells."""
    return images[0].shape[0] / images[0].shape[1]
