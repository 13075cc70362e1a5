"""`reidc demo`: a small MBGN learns to tell drawn people apart; a table and pictures show it.

The data is `Synthetic("small")` at its default level: 240 people to learn from, 120 others in the
test, with distractors and junk in the gallery.
"""
import os
import sys
import time

from reidc.cli import Stopped
from reidc.progress import counter, duration

# The network and its recipe; `reidc.recipes` says why the recipe is as it is.
FULL = {"identities": "small", "recipe": "mbgn-small", "settings": {},
        "size": "120 people who were not in the training"}
QUICK = {"identities": (64, 32), "recipe": "mbgn-small",
         "settings": {"epochs": 8, "evaluate_every": 4},
         "size": "32 people who were not in the training"}
GOAL, COLOUR = 0.5, 0.06  # mAP that training must reach; what colours alone may
QUERIES = (0.95, 0.75, 0.6, 0.4, 0.25, 0.05)  # shares of the queries that did worse
RANKS = 10


def _say(line=""):
    print(line, file=sys.stderr, flush=True)


def run(arguments):
    """The whole demo; exit status 1 where the network did not learn."""
    import reidc
    from reidc import pictures, recipes
    from reidc._files import make_folder
    from reidc.trainer import Trainer

    began, form = time.monotonic(), QUICK if arguments.quick else FULL
    recipe = recipes.get(form["recipe"])
    for key, value in form["settings"].items():
        recipe.set(key, value)
    recipe.set("seed", arguments.seed)
    if arguments.epochs:
        recipe.set("epochs", arguments.epochs)
    run_dir = os.path.join(arguments.out, "run")
    make_folder(run_dir)

    data = reidc.datasets.Synthetic(form["identities"])
    m = reidc.MBGN(data.train.num_classes, seed=arguments.seed, threads=arguments.threads,
                   **recipe["options"])
    _say(f"{data}\n{m}, {m.threads} threads, {reidc.config()['cpu']}")
    _data_sheet(data, os.path.join(arguments.out, "data.png"))

    before, colours = _test(m, data, "untrained"), _colours(data)
    trainer = Trainer(m, data, recipe, run_dir, log=_say)
    _say(f"training for {recipe['epochs']} epochs of about {len(trainer.loader)} steps")
    start = time.monotonic()
    try:
        trainer.fit(resume=arguments.resume)
    except KeyboardInterrupt:
        again = " ".join(["reidc demo", *(["--quick"] if arguments.quick else []), "--resume",
                          *([f"--out {arguments.out}"] if arguments.out != "demo" else [])])
        raise Stopped(f"stopped; go on with  {again}") from None
    trained = time.monotonic() - start
    after = _test(m, data, "trained", distmat=True)
    after.save(os.path.join(arguments.out, "eval.json"))
    m.save(os.path.join(arguments.out, "mbgn-small.safetensors"))

    pictures.save(_ranked(data, after, form), os.path.join(arguments.out, "ranking.png"))
    _curve(trainer.history, before, os.path.join(arguments.out, "curve.png"))
    print(_table([("untrained", before), ("trained", after),
                  ("colours only (RGB histogram)", colours)]))
    print(f"tested on {form['size']}: {after.queries} queries, {before.gallery} in the gallery\n"
          f"trained in {duration(trained)}, all in {duration(time.monotonic() - began)}\n"
          f"pictures: {', '.join(os.path.join(arguments.out, n) for n in PICTURES)}")
    return _verdict(before, after, colours, arguments)


PICTURES = ("data.png", "ranking.png", "curve.png")


def _verdict(before, after, colours, arguments):
    if arguments.epochs:
        return 0
    if arguments.quick:
        goal = 1.5 * before.mAP
    else:
        goal = GOAL
        if not colours.mAP <= COLOUR:
            _say(f"reidc: failed: colours alone reach mAP {colours.mAP:.4f}, more than {COLOUR}")
            return 1
    if not after.mAP >= goal:
        _say(f"reidc: failed: the trained network reaches mAP {after.mAP:.4f}, expected {goal:.4f}")
        return 1
    return 0


def _test(m, data, word, **options):
    from reidc.evaluation import evaluate

    with counter(f"test, {word}") as progress:
        return evaluate(m, data, progress=progress, **options)


def _colours(data):
    """What the centre half's colours alone find."""
    import numpy

    from reidc.evaluation import color_histogram, evaluate_embeddings

    def histograms(split, rows):
        return numpy.concatenate([color_histogram(split.batch(rows[i:i + 256]), centre=True)
                                  for i in range(0, len(rows), 256)])

    query, gallery = data.query, data.gallery
    kept = numpy.flatnonzero(gallery.pids != -1)
    return evaluate_embeddings(histograms(query, numpy.arange(len(query))),
                               histograms(gallery, kept), query.pids, gallery.pids[kept],
                               query.camids, gallery.camids[kept])


def _table(rows):
    lines = [("", "mAP", "rank-1", "rank-5", "rank-10")]
    lines += [(name, *(f"{100 * v:.1f} %" for v in
                       (e.mAP, e.rank(1), e.rank(5), e.rank(10)))) for name, e in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(5)]
    return "\n".join("  ".join(cell.ljust(w) if i == 0 else cell.rjust(w)
                               for i, (cell, w) in enumerate(zip(line, widths)))
                     for line in lines)


# ---- pictures --------------------------------------------------------------------------------


def _data_sheet(data, path):
    """Six people across cameras; a distractor row and a junk row."""
    from reidc import pictures
    from reidc._shown import people, pictures_of

    columns, rows = 10, []
    train = data.train
    for pid in people(train.pids, 6):
        places = pictures_of(train.pids, pid, columns, train.camids)
        about = data.attributes(pid)
        bag = {"none": "no bag", "shoulder": "shoulder bag"}.get(about["bag"], about["bag"])
        label = (f"person {pid}", *(str(word).replace("_", " ") for word in (
            about["upper"], about["lower"], about["pattern"], bag)))
        rows.append((label, list(train.batch(places)),
                     [f"camera {train.camids[i] + 1}" for i in places]))
    gallery = data.gallery
    for pid, label in ((0, ("distractors", "belong to", "no query")),
                       (-1, ("junk", "bad boxes,", "left out"))):
        places = pictures_of(gallery.pids, pid, columns, gallery.camids)
        rows.append((label, list(gallery.batch(places)),
                     [f"camera {gallery.camids[i] + 1}" for i in places]))
    pictures.save(pictures.sheet(
        rows, "The data: people drawn by the package",
        (f"{len(train)} pictures to learn from; {len(data.query)} queries and {len(gallery)} "
         f"gallery pictures of other people; {data.cameras} cameras",)), path)


def _ranked(data, result, form, shares=QUERIES, ranks=RANKS, **look):
    """Queries that went well, fairly and badly, with what the network found."""
    from reidc import pictures
    from reidc._shown import nearest, spread

    query, gallery = data.query, data.gallery
    rows = []
    for q in spread(result.ap, result.hits, shares):
        pid, camera = int(query.pids[q]), int(query.camids[q])
        found, right = nearest(result.distmat[q], pid, camera, gallery.pids, gallery.camids, ranks)
        rows.append({
            "query": query.batch([q])[0],
            "label": (f"person {pid}", f"camera {camera + 1}", f"AP {result.ap[q]:.2f}",
                      f"{int(result.hits[q])} to find"),
            "gallery": list(gallery.batch(found)),
            "right": right,
            "captions": [f"{i + 1} · cam {gallery.camids[g] + 1}" for i, g in enumerate(found)],
        })
    known = int((gallery.pids != -1).sum())
    return pictures.ranking(rows, f"Found by the trained network among {known} pictures of "
                            f"{form['size'].split(' who')[0]} never seen before", **look)


def _curve(history, before, path):
    from reidc import pictures

    losses = {name: [(row["epoch"], row[name]) for row in history] for name in ("id", "triplet")}
    tested = [(0, before.mAP)] + [(r["epoch"], r["mAP"]) for r in history if "mAP" in r]
    ranks = [(0, before.rank(1))] + [(r["epoch"], r["rank1"]) for r in history if "mAP" in r]
    pictures.save(pictures.chart([
        {"title": "Training losses", "x": "epoch",
         "lines": [("identity", losses["id"]), ("triplet", losses["triplet"])]},
        {"title": "Test on unseen people", "x": "epoch", "top": 1.0,
         "lines": [("mAP", tested), ("rank-1", ranks)]},
    ], "Training of the small MBGN"), path)
