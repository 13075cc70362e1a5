"""Bytes to a network on device="cuda", on the stand-in: resized, augmented and normalised by the
card, with the CPU's numbers; from page-locked memory beside what runs, or from where they lie."""
import numpy as np
import pytest
import reidc
from device_arrays import CARD, OnCard, baseline
from device_arrays import card as card  # the fixture
from reidc.augment import DeferredBatch

pytestmark = pytest.mark.cuda_host
LABELS = np.array([0, 0, 1, 1])
IMAGENET = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)


def pictures(n=4, h=40, w=20, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, h, w, 3), np.uint8)


def normalised(images, **options):
    """What the CPU makes of them."""
    return reidc.Augment(height=32, width=16, mirror=0.0, pad=0, erasing=None, **options)(images)


@pytest.mark.parametrize("size", [(40, 20), (32, 16), (20, 50), (33, 16)])
def test_bytes_are_resized_by_the_card(size):
    """The same bits as from the input that the CPU would have made."""
    m, x = baseline("cuda"), pictures(7, *size)
    for batch in (None, 3):
        for flip in (False, True):
            assert np.array_equal(m.embed(x, flip=flip, batch_size=batch),
                                  m.embed(normalised(x), flip=flip, batch_size=batch))
    a, b = (m.forward(v, training=True) for v in (x[:4], normalised(x[:4])))
    assert all(np.array_equal(a[k], b[k]) for k in a)


def test_what_goes_up_are_bytes():
    m, x = baseline("cuda"), pictures(4, 64, 32)
    m.embed(x)
    start = len(CARD.log())
    m.embed(x)
    up = [int(line.split()[2]) for line in CARD.log()[start:]
          if line.startswith("cudaMemcpyAsync up")]
    assert x.size <= max(up) < x.size + 16384  # and the weights of two axes, a table of floats


@pytest.mark.parametrize("preset", ["sb", "mbgn", "fsac", "none"])
@pytest.mark.parametrize("mixed", [False, True])
def test_training_on_augmented_pictures(preset, mixed):
    """Steps from bytes that the card augments and from what the CPU augments: the same bits, for
    the same seed, over several steps (the third one is replayed)."""
    a = reidc.Augment.preset(preset, height=32, width=16)
    there, here = baseline("cuda"), baseline("cuda")
    optimizers = [reidc.Adam(m, 1e-3) for m in (there, here)]
    for step in range(3):
        x = pictures(seed=step)
        x = [x[0], pictures(1, 25, 31)[0], x[2], x[3]] if mixed else x
        batch = DeferredBatch(x, a, seed=5, epoch=2, first=4 * step)
        assert batch.shape == (4, 3, 32, 16) and len(batch) == 4
        parts = [m.train_step(v, LABELS, o) for m, v, o in
                 zip((there, here), (batch, np.asarray(batch)), optimizers)]
        assert parts[0] == parts[1]
    one, other = there.state_dict(), here.state_dict()
    assert all(np.array_equal(one[k], other[k]) for k in one)


def test_embeddings_of_augmented_pictures():
    m, a = baseline("cuda"), reidc.Augment(height=32, width=16, scale_crop=0.5)
    batch = DeferredBatch(list(pictures(7)), a, seed=2, first=3)
    for flip in (False, True):
        assert np.array_equal(m.embed(batch, flip=flip, batch_size=3),
                              m.embed(np.asarray(batch), flip=flip, batch_size=3))


def test_a_step_does_not_wait_for_the_one_before():
    """Pictures go up while the step before runs, and the step is still three recorded runs."""
    m, a = baseline("cuda"), reidc.Augment(height=32, width=16)
    optimizer = reidc.Adam(m, 1e-3)
    for step in range(4):
        start = len(CARD.log())
        m.train_step(DeferredBatch(pictures(), a, first=4 * step), LABELS, optimizer)
    log = [line.split()[0] for line in CARD.log()[start:]]
    launches = [i for i, kind in enumerate(log) if kind == "cudaGraphLaunch"]
    assert len(launches) == 3 and log.count("kernel") == 3  # draws, pictures, the update
    assert "cudaStreamSynchronize" not in log and "cudaMalloc" not in log
    waits = [i for i, kind in enumerate(log) if kind == "cudaEventSynchronize"]
    assert not [i for i in waits if launches[0] < i < launches[1]] and waits[-1] > launches[-1]


def test_loaders_leave_it_to_the_card():
    data = reidc.datasets.Synthetic(identities=6, cameras=2, seed=1)
    for changes in ({}, dict(jitter="dpr")):
        a = reidc.Augment(height=32, width=16, **changes)
        loaders = [reidc.Loader(data.train, 2, 2, a, seed=3, defer=d) for d in (True, False)]
        for (x, labels), (y, others) in zip(*loaders):
            assert isinstance(x, DeferredBatch) == (not changes)
            assert np.array_equal(labels, others) and np.array_equal(np.asarray(x), y)


def test_trainers_of_both(tmp_path):
    """One epoch on the card and on the CPU, from the same seed; the rate is so small that what
    rounding does to one step is not multiplied by the next."""
    data = reidc.datasets.Synthetic(identities=6, cameras=2, seed=1)
    recipe = {**reidc.recipes.get("baseline-small"), "epochs": 1, "identities": 2, "images": 2,
              "evaluate_every": 0}
    recipe["optimizer"] = {**recipe["optimizer"], "lr": 1e-6}
    recipe["schedule"] = {"kind": "constant"}
    losses = []
    for device in ("cpu", "cuda"):
        m = reidc.Baseline(data.train.num_classes, 32, 16, seed=3, device=device,
                           backbone="resnet18", width_multiplier=0.125)
        trainer = reidc.Trainer(m, data, recipe, tmp_path / device, log=lambda line: None)
        assert trainer.loader.defer == (device == "cuda")
        losses.append(trainer.fit()[0]["total"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.parametrize("kind", ["dlpack", "interface"])
@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 3, 1, 2)])
def test_bytes_and_labels_that_lie_on_the_card(kind, axes):
    m, x = baseline("cuda"), pictures(5)
    there = OnCard(x, axes, kind=kind)
    for flip in (False, True):
        assert np.array_equal(m.embed(there, batch_size=2, flip=flip),
                              m.embed(x, batch_size=2, flip=flip))
    labels = np.array([0, 0, 1, 1, 1])
    held = [OnCard(labels.astype(t), kind=kind) for t in (np.int64, np.int32)]
    want = m.copy()
    want = want.train_step(x, labels, reidc.SGD(want, 0.1))
    for y in (labels, *held):
        one = m.copy()
        start = len(CARD.log())
        assert one.train_step(there, y, reidc.SGD(one, 0.1)) == want
        down = [line for line in CARD.log()[start:] if line.startswith("cudaMemcpyAsync down")]
        assert max(int(line.split()[2]) for line in down) <= labels.nbytes  # no pictures
    for array in (there, *held):
        array.free()


def test_what_does_not_fit():
    cpu, gpu = baseline(), baseline("cuda")
    x, optimizer = pictures(), reidc.SGD(gpu, 0.1)
    before = gpu.state_dict()
    a = reidc.Augment(height=32, width=16)
    batch = DeferredBatch(x, a)
    cpu.train_step(batch, LABELS, reidc.SGD(cpu, 0.1))  # as an array
    held = {"labels": OnCard(LABELS), "far": OnCard(LABELS + 9), "float": OnCard(LABELS * 1.0),
            "elsewhere": OnCard(LABELS, card=1), "short": OnCard(LABELS[:3]),
            "nchw": OnCard(np.ascontiguousarray(x.transpose(0, 3, 1, 2))),
            "backward": OnCard(x.astype(np.int8))}
    for call, kind, words in (
            (lambda: gpu.train_step(DeferredBatch(x, a.replace(width=24)), LABELS, optimizer),
             ValueError, "augmented to 32×24, expected 32×16"),
            (lambda: gpu.train_step(DeferredBatch(x, a.replace(jitter="dpr")), LABELS, optimizer),
             ValueError, "colour jitter"),
            (lambda: gpu.train_step(DeferredBatch(x[:0], a), LABELS, optimizer), ValueError,
             "empty"),
            (lambda: gpu.train_step(DeferredBatch(x.astype(np.float32), a), LABELS, optimizer),
             TypeError, "uint8"),
            (lambda: gpu.train_step(batch, held["far"], optimizer), ValueError, "label"),
            (lambda: gpu.train_step(batch, held["float"], optimizer), TypeError, "int64 or int32"),
            (lambda: gpu.train_step(batch, held["elsewhere"], optimizer), ValueError,
             "labels: they are on cuda:1, the network is on cuda:0"),
            (lambda: cpu.train_step(x, held["labels"], reidc.SGD(cpu, 0.1)), ValueError,
             "labels: they are on a card, the network is on the CPU"),
            (lambda: gpu.train_step(batch, held["short"], optimizer), ValueError, "expected 4"),
            (lambda: gpu.embed(held["nchw"]), ValueError, "uint8 N×H×W×3.*permute"),
            (lambda: gpu.embed(held["backward"]), TypeError, "uint8 or float32")):
        with pytest.raises(kind, match=words):
            call()
    assert all(np.array_equal(before[k], v) for k, v in gpu.state_dict().items())
    for array in held.values():
        array.free()


@pytest.mark.parametrize("n", range(1, 9))
def test_memory_that_runs_out(n):
    a = reidc.Augment(height=32, width=16)
    for function in ("cudaMalloc", "cudaMallocHost"):
        m = baseline("cuda")
        optimizer = reidc.Adam(m, 1e-3)
        CARD.fail(function, n, 2)
        for i, size in enumerate((40, 80)):  # the second one wants more room
            try:
                m.train_step(DeferredBatch(pictures(4, size, 20), a, first=i), LABELS, optimizer)
            except MemoryError:
                pass
        CARD.fail(function, 0, 0)
        m.train_step(DeferredBatch(pictures(), a), LABELS, optimizer)
