"""Training by a recipe: epochs, metrics, checkpoints, and going on exactly where a run stopped.

No arithmetic on tensors here: the loader and `train_step` do it in C.
"""
import csv
import importlib.util
import io
import json
import os
import signal
import sys
import threading
import time
from contextlib import nullcontext

from reidc import _checks, recipes
from reidc._core import ArgumentError, ArgumentTypeError, FileError, FileMissingError
from reidc._files import make_folder, write_atomic
from reidc.augment import Augment
from reidc.evaluation import evaluate
from reidc.hold_out import hold_out
from reidc.loader import Loader
from reidc.optim import EMA, SGD, Adam, AdamW
from reidc.progress import Progress, counter, duration
from reidc.splits import unanswered

CHECKPOINT, BEST = "last.safetensors", "best.safetensors"


def make_optimizer(m, settings, clip_norm=None):
    """An optimiser from a recipe's `optimizer` section and its `clip_norm`."""
    settings = dict(settings)
    kind, _ = settings.pop("kind"), settings.pop("momentum_reset", None)
    makers = {"adam": Adam, "adamw": AdamW, "sgd": SGD}
    if kind == "sgd":
        for name in ("betas", "eps"):
            settings.pop(name, None)
    return makers[kind](m, settings.pop("lr"), clip_norm=clip_norm, **settings)


class Trainer:
    """Trains `m` on `dataset.train` as `recipe` says; everything is written below `run_dir`.

    recipe: a name (`reidc.recipes.names()`), or a dict like those. Files: `recipe.json`,
    `metrics.csv` and `metrics.jsonl` (a line an epoch), `last.safetensors` (the network, which
    `reidc.load` reads, with the optimiser and the place in the epoch), each whole or not at all.
    evaluate_every (recipe): test on query and gallery every so many epochs, 0: never here, nor
    where the data set has none, which is said.
    validation: identities to choose an epoch by, never those of the test: a share (0.1) or a number
    of the training identities, which the recipe's seed takes out of the training set
    (`reidc.datasets.hold_out` does it beforehand and says how many classes are left), True for
    the data set's own, or a data set with query and gallery; None: the recipe's. Every
    `evaluate_every` epochs it is tested, the first epoch of the highest mAP is kept in
    `best.safetensors`, and `test()` uses it.
    ema (recipe): tests and the network in the checkpoint are the average, `.ema`; `m` itself keeps
    the weights that training goes on from.

    `fit()` may be stopped with Ctrl-C: the running step is left before it has changed anything,
    the checkpoint is written, KeyboardInterrupt goes on. `fit(resume=True)` goes on from there to
    the very bits of a run that was never stopped. A test that fails (a damaged picture) ends it
    likewise. ValueError: the data set's identities are not the network's classes (it says how many
    there are), or no query has a match; FileNotFoundError: nothing to resume.
    """

    def __init__(self, m, dataset, recipe, run_dir, *, validation=None, log=None):
        if not hasattr(m, "train_step"):
            raise ArgumentTypeError(f"m: expected a network, got {type(m).__name__}")
        self.model, self.recipe = m, recipes.get(recipe)
        if not hasattr(dataset, "train"):
            raise ArgumentTypeError(f"dataset: expected one with .train, got "
                                    f"{type(dataset).__name__}")
        given = hasattr(validation, "query") and hasattr(validation, "gallery")
        if validation is not None and not given:
            self.recipe["validation"] = validation
        self.run_dir = _checks.path("run_dir", run_dir)
        self._log = log or (lambda line: print(line, file=sys.stderr, flush=True))
        r = self.recipe.check()
        self.dataset, self.validation, held, hint = dataset, validation, "", ""
        if given and not r["evaluate_every"]:
            raise ArgumentError("validation: needs evaluate_every of 1 or more, got 0")
        if not given and r["validation"]:
            self.dataset, self.validation = hold_out(dataset, r["validation"], r["seed"])
            if self.dataset is not dataset:
                left = self.dataset.train.num_classes
                held = f", as validation={r['validation']} holds the others out,"
                hint = (f"; build it with num_classes={left} (reidc.datasets.hold_out gives both "
                        "sets beforehand)")
        augment = Augment(height=m.height, width=m.width, **r["augment"])
        self.loader = Loader(self.dataset.train, r["identities"], r["images"], augment, r["seed"],
                             once=r["sampler"] == "once", balanced=r["sampler"] == "balanced",
                             defer=m.device != "cpu")
        if m.num_classes and self.loader.num_classes != m.num_classes:
            raise ArgumentError(f"num_classes: the training set has {self.loader.num_classes} "
                                f"identities{held or ','} the network {m.num_classes} "
                                f"classes{hint}")
        self._every = r["evaluate_every"] if self._can_test() else 0
        self.rate = r.rate()
        self.optimizer = make_optimizer(m, r["optimizer"], r["clip_norm"])
        self.ema = None if r["ema"] is None else EMA(m, r["ema"])
        if r["freeze"]:  # patterns that match nothing are refused now
            before = list(m.frozen)
            m.freeze(r["freeze"]["layers"])
            m.freeze(before)
        self.iteration = 0  # steps that this run has taken
        self.history = []  # a dict an epoch
        self._sums = _no_sums()
        self._tested = True  # False: the epoch before the loader's has not been written down
        self._stop, self._busy = False, None
        self._held = None  # whether layers are frozen by the recipe; None: not said yet

    def _can_test(self):
        """False where there is nothing to test on; ValueError where no test could give a number."""
        if not self.recipe["evaluate_every"]:
            return False
        dataset, name = (self.validation, "validation") if self.validation else (
            self.dataset, "dataset")
        query, gallery = getattr(dataset, "query", None), getattr(dataset, "gallery", None)
        sizes = [0 if split is None else len(split) for split in (query, gallery)]
        if not all(sizes) and not self.validation:
            self._log(f"note: nothing to test on, {sizes[0]} query and {sizes[1]} gallery pictures")
            return False
        if not all(sizes) or unanswered(query, gallery).all():
            raise ArgumentError(
                f"{name}: expected queries with a match in the gallery (where cameras are known, "
                f"under another one), got none in {sizes[0]} and {sizes[1]} pictures"
                + ("" if self.validation else "; evaluate_every=0 trains without tests"))
        return True

    def _averaged(self):
        """A `with` block in which the network holds what is tested and kept."""
        return self.ema.applied() if self.ema else nullcontext()

    # ---- checkpoints

    @property
    def checkpoint(self):
        """The path of the checkpoint."""
        return os.path.join(self.run_dir, CHECKPOINT)

    def save(self):
        """Write the checkpoint and the metrics."""
        optimizer = self.optimizer.state_dict()
        tensors = {f"optimizer/state/{name}": a for name, a in optimizer.pop("state").items()}
        header = {"recipe": dict(self.recipe), "loader": self.loader.state_dict(),
                  "optimizer": optimizer, "history": self.history, "sums": self._sums,
                  "tested": self._tested, "iteration": self.iteration}
        if self.ema:  # the network of the file is the average; what is trained stands beside it
            header["ema_updates"] = self.ema.updates
            tensors.update({f"trained/{name}": a for name, a in self.ema.weights().items()})
        with self._averaged():
            self.model.save(self.checkpoint, tensors=tensors,
                            header={"reidc.trainer": json.dumps(header)})
        self._write_metrics()

    def restore(self):
        """Read the checkpoint back into network, optimiser and loader."""
        from reidc.weights import read_weights

        if not os.path.exists(self.checkpoint):
            raise FileMissingError(f"resume: no checkpoint at {self.checkpoint}")
        tensors, header = read_weights(self.checkpoint)
        if "reidc.trainer" not in header:
            raise FileError(f"{self.checkpoint}: expected a trainer's checkpoint, got a network's")
        saved = json.loads(header["reidc.trainer"])
        before = recipes.get(saved["recipe"]).flat()
        now = recipes.get(json.loads(json.dumps(self.recipe))).flat()  # lists, not tuples
        for key in sorted(set(now) | set(before)):
            if key not in ("epochs", "evaluate_every") and now.get(key) != before.get(key):
                raise ArgumentError(f"resume: the run was started with {key} = {before.get(key)}, "
                                    f"got {now.get(key)}")
        own, theirs = self.model.config["settings"], json.loads(header["reidc.config"])["settings"]
        for key in sorted(set(own) | set(theirs)):  # the seed, too: dropout is drawn from it
            if key not in ("threads", "memory") and own.get(key) != theirs.get(key):
                raise ArgumentError(f"resume: the run's network has {key} = {theirs.get(key)}, got "
                                    f"{own.get(key)}")
        prefix = "optimizer/state/"
        optimizer = {**saved["optimizer"], "state": {
            name[len(prefix):]: a for name, a in tensors.items() if name.startswith(prefix)}}
        weights = {name: a for name, a in tensors.items() if "/" not in name}
        if self.ema:
            self.ema.load_state_dict({"decay": self.recipe["ema"], "state": weights,
                                      "updates": saved["ema_updates"]})
            weights = {name: tensors["trained/" + name] for name in weights}
        self.model.load_state_dict(weights)
        self.model.step = int(header.get("reidc.step", "0"))
        self.optimizer.load_state_dict(optimizer)
        self.loader.load_state_dict(saved["loader"])
        self.history, self._sums = saved["history"], saved["sums"]
        self._tested, self.iteration = saved["tested"], saved["iteration"]

    def _write_metrics(self):
        columns = []
        for row in self.history:
            columns += [c for c in row if c not in columns]
        table = io.StringIO()
        writer = csv.DictWriter(table, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.history)
        lines = "".join(json.dumps(row) + "\n" for row in self.history)
        for name, text in (("metrics.csv", table.getvalue()), ("metrics.jsonl", lines)):
            with write_atomic(os.path.join(self.run_dir, name)) as file:
                file.write(text.encode())

    # ---- running

    def _on_interrupt(self, signum, frame):
        if self._stop:  # again: the checkpoint of before stays whole, there will be no newer one
            self._log("stopping at once, without a newer checkpoint")
            raise KeyboardInterrupt
        self._log("stopping: leaving the running step, then writing the checkpoint …")
        self._stop = True
        # A step that has begun to change the network is let finish; it is about to.
        if self._busy == self.model.step:
            raise KeyboardInterrupt

    def _prepare(self, epoch, done, total):
        """Rate, frozen layers and momentum of the step at hand."""
        part = done / total
        self.optimizer.lr = self.rate(epoch + (part if self.recipe["per_step"] else 0),
                                      self.iteration)
        rule = self.recipe["freeze"]
        if rule:
            held = self.iteration < rule["iterations"] if rule.get("iterations") else \
                epoch + part < rule["epochs"]
            if held != self._held:
                self.model.freeze(rule["layers"] if held else [])
                self._held = held
        if not done and self.recipe["optimizer"]["momentum_reset"]:
            self.optimizer.reset()

    def _step(self, images, labels):
        """One step; False if Ctrl-C left it before anything had changed."""
        parts = None
        try:
            self._busy = self.model.step
            if not self._stop:
                parts = self.model.train_step(images, labels, self.optimizer,
                                              ema=self.ema)
        except KeyboardInterrupt:
            pass
        finally:
            self._busy = None
        if parts is None:
            return False
        for name, value in parts.items():
            self._sums["loss"][name] = self._sums["loss"].get(name, 0.0) + value
        self.iteration += 1
        self._sums["batches"] += 1
        self._sums["images"] += len(labels)
        self._sums["norm"] += self.optimizer.gradient_norm or 0.0
        return True

    def _epoch(self, epoch, epochs):
        """The rest of an epoch; False if it was stopped."""
        loader, total, sums = self.loader, len(self.loader), self._sums
        done = loader.batch
        bar = Progress(f"epoch {epoch + 1}/{epochs}", total, done)
        start = time.monotonic()
        try:
            for images, labels in loader:
                if self._stop:
                    break
                self._prepare(epoch, done, total)
                if not self._step(images, labels):
                    break
                done += 1
                if "total" in sums["loss"]:
                    mean = sums["loss"]["total"] / sums["batches"]
                    bar.step(done, len(labels), f"  loss {mean:.3f}")
        finally:
            bar.close()
            sums["seconds"] += time.monotonic() - start
        if done < total:
            loader.set_epoch(epoch, done)
            return False
        loader.set_epoch(epoch + 1)
        self._tested = False
        return True

    def _test(self):
        """mAP and the like, of the validation where there is one; None if Ctrl-C stopped it."""
        dataset, prefix = (self.validation, "val_") if self.validation else (self.dataset, "")

        def heed(done, total):
            show(done, total)
            if self._stop:
                raise KeyboardInterrupt

        try:
            self._busy = self.model.step  # Ctrl-C leaves the running call of the network
            with counter("validation" if prefix else "test") as show, self._averaged():
                result = evaluate(self.model, dataset, progress=heed)
        except KeyboardInterrupt:
            return None
        finally:
            self._busy = None
        return {f"{prefix}mAP": result.mAP, f"{prefix}rank1": result.rank(1),
                f"{prefix}mINP": result.mINP}

    @property
    def best(self):
        """The epoch that the validation chose, its dict of the history; None: none was tested."""
        tested = [row for row in self.history if "val_mAP" in row]
        return max(tested, key=lambda row: row["val_mAP"], default=None)

    @property
    def best_checkpoint(self):
        """The path of the network that the validation chose."""
        return os.path.join(self.run_dir, BEST)

    def test(self, **options):
        """`reidc.evaluate` of what the run has to show, on the data set's query and gallery: the
        epoch that the validation chose, else the averaged weights where the recipe has `ema`,
        else the network as it is. `provenance` says which."""
        best = self.best
        if best:
            from reidc.weights import read_weights

            m = self.model.copy()
            m.load_state_dict(read_weights(self.best_checkpoint)[0])
            result = evaluate(m, self.dataset, **options)
        else:
            with self._averaged():
                result = evaluate(self.model, self.dataset, **options)
        result.provenance["training"] = {
            "epoch": best["epoch"] if best else self.loader.epoch, "averaged": bool(self.ema),
            "chosen on": self.validation.name if best else None}
        return result

    def _finish_epoch(self, epoch, epochs):
        """Test where it is due, write the epoch down; False if it was stopped before that."""
        sums, lr = self._sums, self.optimizer.lr
        row = {"epoch": epoch + 1, "lr": lr,
               **{k: v / max(1, sums["batches"]) for k, v in sums["loss"].items()},
               **({"gradient_norm": sums["norm"] / max(1, sums["batches"])}
                  if self.recipe["clip_norm"] else {}),
               "images_per_second": round(sums["images"] / max(1e-9, sums["seconds"]), 1),
               "seconds": round(sums["seconds"], 2)}
        every, tested = self._every, ""
        if every and ((epoch + 1) % every == 0 or epoch + 1 == epochs):
            found = None if self._stop else self._test()
            if found is None:
                return False
            row.update(found)
            tested = "".join(f"  {name.replace('_', ' ')} {row[key]:.3f}" for key, name in (
                ("mAP", "mAP"), ("rank1", "rank-1"), ("val_mAP", "val_mAP"),
                ("val_rank1", "val_rank-1")) if key in found)
        self.history.append(row)
        if self.best is row:
            tested += ", the best"
            with self._averaged():
                self.model.save(self.best_checkpoint, header={"reidc.best": json.dumps(row)})
        self._sums, self._tested = _no_sums(), True
        losses = "  ".join(f"{k} {row[k]:.4f}" for k in sums["loss"])
        self._log(f"epoch {epoch + 1:3d}/{epochs}  lr {lr:.2e}  {losses}  "
                  f"{row['images_per_second']:.0f} images/s  {duration(row['seconds'])}{tested}")
        self._tensorboard(row)
        return True

    def _tensorboard(self, row):
        if importlib.util.find_spec("tensorboard") is None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        with SummaryWriter(os.path.join(self.run_dir, "tensorboard")) as writer:
            for name, value in row.items():
                writer.add_scalar(name, value, row["epoch"])

    def fit(self, epochs=None, resume=False):
        """Train until `epochs` (the recipe's) are done; the list of each epoch's metrics.

        KeyboardInterrupt after Ctrl-C, when the checkpoint is written; a second Ctrl-C does not
        wait for that."""
        epochs = self.recipe["epochs"] if epochs is None else _checks.count("epochs", epochs, 0)
        if resume:
            self.restore()
        make_folder(self.run_dir)
        with write_atomic(os.path.join(self.run_dir, "recipe.json")) as file:
            file.write(json.dumps(self.recipe, indent=1).encode() + b"\n")
        main = threading.current_thread() is threading.main_thread()
        self._stop, self._held, frozen = False, None, list(self.model.frozen)
        previous = signal.signal(signal.SIGINT, self._on_interrupt) if main else None
        try:
            while self.loader.epoch < epochs or not self._tested:
                if self._tested and not self._epoch(self.loader.epoch, epochs):
                    break
                written = len(self.history)
                try:
                    finished = self._finish_epoch(self.loader.epoch - 1, epochs)
                except Exception:  # the epoch is not lost: resuming begins with its test
                    if not self._tested:
                        del self.history[written:]
                    self.save()
                    raise
                if not finished or self._stop:
                    break
                self.save()
            if self._stop:
                self.save()
        finally:
            if main:
                signal.signal(signal.SIGINT, previous)
            if self._held is not None:
                self.model.freeze(frozen)
        if self._stop:
            raise KeyboardInterrupt
        return self.history


def _no_sums():
    return {"batches": 0, "images": 0, "seconds": 0.0, "norm": 0.0, "loss": {}}


def saved_place(path):
    """(recipe, epochs that are trained and tested) of a trainer's checkpoint."""
    from reidc.weights import read_weights

    saved = json.loads(read_weights(path)[1].get("reidc.trainer", "null"))
    if not saved:
        raise FileError(f"{path}: expected a trainer's checkpoint, got a network's")
    return saved["recipe"], saved["loader"]["epoch"] - (not saved["tested"])


def saved_recipe(path):
    """The recipe in a trainer's checkpoint. FileNotFoundError; OSError: no such checkpoint."""
    return saved_place(path)[0]
