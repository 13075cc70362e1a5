"""What the pictures look like, in numbers (page, 10.4 to 10.7)."""
import numpy as np
import pytest

from reidc.synthetic import Synthetic

LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def grid(people, cameras=6, images=1):
    return np.array([(p, k, c) for p in people for k in range(cameras) for c in range(images)])


def test_pixels():
    x = Synthetic("small").render(grid(range(1, 41)), threads=2).astype(np.float32)
    assert 110 <= x.mean() <= 145
    assert 38 <= x.reshape(len(x), -1).std(axis=1).mean() <= 50
    assert (x >= 254).mean() < 0.03
    assert 2.5 <= np.abs(np.diff(x @ LUMA, axis=2)).mean() <= 4
    ratio = [x[k::6, ..., 0].mean() / x[k::6, ..., 2].mean() for k in range(6)]
    assert max(ratio) - min(ratio) >= 0.2


def test_people_fill_their_boxes():
    data = Synthetic("small", level=0.0)  # no cut boxes, no obstacles, no passers-by
    rows = grid(range(1, 101))
    shown = data.visible(rows, threads=2)
    assert abs(shown.mean() - 0.264) <= 0.02
    assert shown.min() >= 0.19 and shown.max() <= 0.35
    masks = data.masks(rows, threads=2)
    assert masks.dtype == np.float32 and masks.min() >= 0 and masks.max() <= 1
    assert np.allclose(masks.mean(axis=(1, 2)), shown, atol=1e-5)
    feet = [np.nonzero((m > 0.5).any(axis=1))[0].max() for m in masks]
    assert min(feet) >= 235


def test_nearly_every_image_shows_its_person():
    data = Synthetic("small")
    shown = data.visible(data.train.rows[::5], threads=2)
    assert (shown >= 0.06).mean() >= 0.95


def test_masks_lie_on_the_person():
    """Where the mask is 1, images of one scene with another garment colour differ: the person
    is what the mask says. Two sets that differ only in `twins` draw other people into the same
    scene."""
    a, b = Synthetic("small", level=0.0, twins=0.0), Synthetic("small", level=0.0, twins=1.0)
    changed_inside, changed_outside = [], []
    for row in grid(range(4, 16), cameras=1):
        mask = np.maximum(a.masks(row[None])[0], b.masks(row[None])[0])
        if a.attributes(row[0])["upper"] == b.attributes(row[0])["upper"]:
            continue
        change = np.abs(a.render(row[None])[0].astype(int) - b.render(row[None])[0]).max(axis=-1)
        changed_inside.append((change[mask > 0.9] > 24).mean())
        far = mask < 1e-6
        far[:, :-24] &= mask[:, 24:] < 1e-6  # JPEG blocks and shadows reach a little further
        far[:, 24:] &= mask[:, :-24] < 1e-6
        far[:-24] &= mask[24:] < 1e-6
        far[24:] &= mask[:-24] < 1e-6
        changed_outside.append((change[far] > 24).mean())
    assert len(changed_inside) >= 4
    assert np.mean(changed_inside) > 0.3 and np.mean(changed_outside) < 0.002


# ---- the same cloth from both sides -------------------------------------------------------

def views(data, pid, angle, count=7):
    """Rows in camera 0 that see the person from `angle`, within 0.12 rad."""
    rows = np.array([(pid, 0, c) for c in range(1500)])
    off = (data.yaws(rows) - angle + np.pi) % (2 * np.pi) - np.pi
    return rows[np.abs(off) < 0.12][:count]


def chest(data, rows):
    """Median over views (gait and light differ) of the middle of the trunk: rows x columns."""
    return np.median(data.render(rows)[:, 58:112, 56:72].astype(float), axis=0)


def people_with(data, **wanted):
    for pid in range(1, 3000):
        person = data.attributes(pid)
        contrast = np.abs(np.subtract(person["upper_rgb"], person["logo_rgb"])).sum()
        if person["logo"] != "none" and contrast < 0.5:
            continue  # a grey print on grey: the page inverts the colour, which changes little
        if (person["upper"] in ("tee", "long sleeve") and person["hair"] == "short"
                and person["bag"] in ("none", "hand")
                and all(person[k] == v for k, v in wanted.items())):
            yield pid


def test_front_and_back_of_prints_and_stripes():
    data = Synthetic("small", level=0.0)
    one_sided, plain = [], []
    for pid, _ in zip(people_with(data, pattern="print", logo_on_back=False), range(4)):
        front, back = chest(data, views(data, pid, 0)), chest(data, views(data, pid, np.pi))
        logo = slice(12, 30)  # v = 0.115 below the neck lies near row 76
        one_sided.append(np.abs(front[logo] - back[logo]).mean())
    for pid, _ in zip(people_with(data, pattern="plain", logo="none"), range(4)):
        front, back = chest(data, views(data, pid, 0)), chest(data, views(data, pid, np.pi))
        plain.append(np.abs(front - back).mean())
    wanted = {"pattern": "horizontal stripes", "logo": "none"}
    people = list(zip(*zip(people_with(data, **wanted), range(4))))[0]
    front = [stripe_rows(data, views(data, pid, 0, 4)) for pid in people]
    back = [stripe_rows(data, views(data, pid, np.pi, 4)) for pid in people]
    likeness = np.array([[best_match(a, b) for b in back] for a in front])
    assert len(one_sided) == len(plain) == len(people) == 4
    assert min(one_sided) > 3 * max(plain), (one_sided, plain)
    assert likeness.diagonal().min() > 0.85, likeness
    assert likeness[~np.eye(4, dtype=bool)].mean() < likeness.diagonal().min() - 0.1, likeness


def stripe_rows(data, rows):
    """The trunk's brightness along its middle, shoulders to waist, for each row of `rows`."""
    return (data.render(rows)[:, 56:122, 58:70].astype(float) @ LUMA).mean(axis=2)


def best_match(front, back):
    """The best correlation over pairs (arms and shadows may hide a chest) and over shifts (gait
    moves the whole body up and down by some rows)."""
    return max(np.corrcoef(a[10:-10], b[10 + k:len(b) - 10 + k])[0, 1]
               for a in front for b in back for k in range(-10, 11))


# ---- difficulty ---------------------------------------------------------------------------

def codes(images):
    bins = (images >> 5).astype(np.uint16)
    return bins[..., 0] << 6 | bins[..., 1] << 3 | bins[..., 2]


def histogram_map(code, rows):
    """mAP of 8 x 8 x 8 RGB histograms, square root, L2; index 0 asks, all others answer but
    for those of the same person and camera."""
    counts = np.stack([np.bincount(c.ravel(), minlength=512) for c in code]).astype(float)
    root = np.sqrt(counts / counts.sum(axis=1, keepdims=True))
    queries = np.nonzero(rows[:, 2] == 0)[0]
    distance = -root[queries] @ root.T
    precisions = []
    for i, q in enumerate(queries):
        same = rows[:, 0] == rows[q, 0]
        keep = ~(same & (rows[:, 1] == rows[q, 1]))
        order = np.argsort(distance[i][keep], kind="stable")
        hits = np.nonzero(same[keep][order])[0]
        precisions.append(((np.arange(len(hits)) + 1) / (hits + 1)).mean())
    return float(np.mean(precisions))


@pytest.mark.parametrize("level", [0.7, 0.0])
def test_colour_histograms_fail_where_they_should(level):
    data = Synthetic("small", level=level)
    rows = grid(np.unique(data.query.pids), images=2)
    code = codes(data.render(rows, threads=2))
    full, centre = histogram_map(code, rows), histogram_map(code[:, :, 32:96], rows)
    if level:
        assert full <= 0.03
        assert 0.02 <= centre <= 0.06
    else:
        assert centre >= 0.25
