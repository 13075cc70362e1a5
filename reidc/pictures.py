"""Pictures of what a network does, drawn by Pillow: ranked galleries, training curve, data sheet,
heat maps over pictures.

Nothing is computed here; numbers and rows of pictures come in, an image goes out.
"""
from reidc._files import write_atomic

INK, FAINT, PAPER = (32, 34, 38), (118, 122, 130), (255, 255, 255)
RIGHT, WRONG, ASKED, LINE = (22, 148, 72), (206, 44, 44), (44, 92, 190), (224, 226, 230)
CURVES = ((44, 92, 190), (214, 120, 24), (120, 72, 168))


# A heat map's colours at equal distances, dark to bright; between them Pillow's palette is filled.
HEAT = ((8, 6, 40), (84, 16, 110), (186, 54, 85), (246, 132, 32), (252, 248, 164))


def _font(size):
    from PIL import ImageFont

    try:
        return ImageFont.load_default(size)
    except TypeError:  # Pillow before 10.1 has one size only
        return ImageFont.load_default()


def _canvas(width, height):
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (width, height), PAPER)
    return image, ImageDraw.Draw(image)


def _thumb(array, size):
    from PIL import Image

    return Image.fromarray(array).resize(size, Image.Resampling.LANCZOS)


def save(image, path, colors=None):
    """As PNG, whole or not at all; `colors`: at most so many, for a smaller file."""
    from PIL import Image

    if colors:
        image = image.quantize(colors, Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG)
    with write_atomic(path) as file:
        image.save(file, format="PNG", optimize=True)


def _palette():
    """256 colours along HEAT."""
    from PIL import Image

    strip = Image.new("RGB", (len(HEAT), 1))
    strip.putdata(HEAT)
    box = (0.5, 0, len(HEAT) - 0.5, 1)  # from the middle of the first colour to that of the last
    line = strip.resize((256, 1), Image.Resampling.BILINEAR, box)
    return line.tobytes()


def heat(picture, values):
    """Half picture, half heat map, at the picture's size.

    picture: uint8 H×W×3. values: float32 h×w in [0, 1], enlarged (bilinear) to H×W.
    """
    from PIL import Image

    below = Image.fromarray(picture)
    above = Image.fromarray(values).resize(below.size, Image.Resampling.BILINEAR)
    above = above.point(lambda v: v * 255 + 0.5).convert("L")
    above.putpalette(_palette())
    return Image.blend(below, above.convert("RGB"), 0.5)


def _headline(draw, text, margin, width):
    """As large as fits."""
    size = 19
    while size > 9 and draw.textlength(text, _font(size)) > width - 2 * margin:
        size -= 1
    draw.text((margin, 14 + (19 - size)), text, INK, _font(size))


def ranking(rows, title, thumb=(64, 128)):
    """Queries with their ranked galleries.

    rows: dicts with `query` (uint8 H×W×3), `label` (lines of text), `gallery` (pictures in the
    order of their distance), `right` (a flag each), `captions` (a line each).
    """
    tw, th = thumb
    frame, gap, margin = 3, 10, 20
    cell_w, cell_h = tw + 2 * frame + gap, th + 2 * frame + 24
    label_w, top = 124, 78
    columns = max(len(row["gallery"]) for row in rows)
    left = margin + label_w + cell_w + 16
    image, draw = _canvas(left + columns * cell_w + margin - gap,
                          top + len(rows) * (cell_h + 8) + margin - 8)
    _headline(draw, title, margin, image.width)
    small, normal = _font(11), _font(13)
    x = margin
    for color, text in ((ASKED, "query"), (RIGHT, "same person"), (WRONG, "someone else")):
        draw.rectangle((x, 47, x + 11, 58), outline=color, width=3)
        draw.text((x + 17, 45), text, FAINT, normal)
        x += 30 + int(draw.textlength(text, normal)) + 14
    draw.text((x, 45), "from left to right: nearest first", FAINT, normal)
    y = top

    def put(x, array, color, caption):
        draw.rectangle((x, y, x + tw + 2 * frame - 1, y + th + 2 * frame - 1), fill=color)
        image.paste(_thumb(array, thumb), (x + frame, y + frame))
        width = draw.textlength(caption, small)
        draw.text((x + frame + (tw - width) // 2, y + th + 2 * frame + 4), caption, FAINT, small)

    for row in rows:
        for i, line in enumerate(row["label"]):
            draw.text((margin, y + 8 + 18 * i), line, INK if i == 0 else FAINT,
                      _font(14) if i == 0 else normal)
        put(margin + label_w, row["query"], ASKED, "query")
        for i, (array, right) in enumerate(zip(row["gallery"], row["right"])):
            put(left + i * cell_w, array, RIGHT if right else WRONG, row["captions"][i])
        y += cell_h + 8
        if row is not rows[-1]:
            draw.line((margin, y - 5, image.width - margin, y - 5), LINE)
    return image


def sheet(rows, title, notes=(), thumb=(64, 128)):
    """Rows of pictures: `rows` are (label lines, pictures, captions)."""
    tw, th = thumb
    gap, margin, label_w, top = 8, 20, 128, 52 + 18 * len(notes)
    columns = max(len(pictures) for _, pictures, _ in rows)
    image, draw = _canvas(margin * 2 + label_w + columns * (tw + gap) - gap,
                          top + len(rows) * (th + 30) + 4)
    _headline(draw, title, margin, image.width)
    for i, note in enumerate(notes):
        draw.text((margin, 42 + 18 * i), note, FAINT, _font(13))
    y = top
    for label, pictures, captions in rows:
        for i, line in enumerate(label):
            draw.text((margin, y + 6 + 17 * i), line, INK if i == 0 else FAINT,
                      _font(14 if i == 0 else 12))
        for i, (array, caption) in enumerate(zip(pictures, captions)):
            x = margin + label_w + i * (tw + gap)
            image.paste(_thumb(array, thumb), (x, y))
            width = draw.textlength(caption, _font(11))
            draw.text((x + (tw - width) // 2, y + th + 4), caption, FAINT, _font(11))
        y += th + 30
    return image


def _ticks(high, most=6, least=1e-6):
    """Round numbers from 0 to high, `least` or more apart."""
    step, i = least, 0
    while high / step > most:
        step *= (2, 2.5, 2)[i % 3]
        i += 1
    return [n * step for n in range(int(high / step * (1 + 1e-9)) + 1)]


def chart(panels, title, size=(440, 300)):
    """Curves side by side.

    panels: dicts with `title`, `x` (axis name), `top` (highest value, or None), `lines`: (name,
    [(x, y), …]) and `level`: None or (y, name), a dashed line.
    """
    scale = 2  # drawn twice as large and reduced, for smooth lines
    w, h, margin, top = size[0] * scale, size[1] * scale, 20 * scale, 54 * scale
    image, draw = _canvas(margin + len(panels) * (w + margin), top + h + margin)
    draw.text((margin, 14 * scale), title, INK, _font(19 * scale))
    for number, panel in enumerate(panels):
        _panel(draw, panel, margin + number * (w + margin), top, w, h, scale)
    return image.resize((image.width // scale, image.height // scale))


def _panel(draw, panel, x0, y0, w, h, scale):
    font, small = _font(14 * scale), _font(12 * scale)
    points = [p for _, line in panel["lines"] for p in line]
    x_high = max(x for x, _ in points)
    y_high = panel.get("top") or max(y for _, y in points) * 1.05
    left, bottom, right, top = x0 + 52 * scale, y0 + h - 40 * scale, x0 + w, y0 + 30 * scale

    def place(x, y):
        return (left + (right - left) * x / x_high, bottom - (bottom - top) * y / y_high)

    draw.text((x0, y0), panel["title"], INK, font)
    for tick in _ticks(y_high):
        _, y = place(0, tick)
        draw.line((left, y, right, y), LINE, scale)
        draw.text((left - 8 * scale, y), f"{tick:g}", FAINT, small, anchor="rm")
    for tick in _ticks(x_high, 8, 1):
        x, _ = place(tick, 0)
        draw.line((x, bottom, x, bottom + 4 * scale), FAINT, scale)
        draw.text((x, bottom + 8 * scale), f"{tick:g}", FAINT, small, anchor="ma")
    draw.line((left, bottom, right, bottom), FAINT, scale)
    draw.text((right, bottom + 24 * scale), panel["x"], FAINT, small, anchor="ra")
    if panel.get("level"):
        value, name = panel["level"]
        _, y = place(0, value)
        x = left
        while x < right:
            draw.line((x, y, min(right, x + 6 * scale), y), FAINT, scale)
            x += 11 * scale
        draw.text((right, y - 4 * scale), name, FAINT, small, anchor="rs")
    legend = right
    for (name, line), color in reversed(list(zip(panel["lines"], CURVES))):
        placed = [place(x, y) for x, y in line]
        draw.line(placed, color, 2 * scale, joint="curve")
        for x, y in placed:
            draw.ellipse((x - 3 * scale, y - 3 * scale, x + 3 * scale, y + 3 * scale), color)
        draw.text((legend, y0 + 2 * scale), name, color, small, anchor="ra")
        legend -= draw.textlength(name, small) + 16 * scale
