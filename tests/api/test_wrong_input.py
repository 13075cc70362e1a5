"""Wrong input: one clear error of the right kind, and nothing changed by any of it."""
import numpy as np
import pytest

import reidc

from .tools import LABELS, baseline, batch, floats, mbgn, same, unchanged

X, F = batch(), floats()
NAN = F.copy()
NAN[2, 1, 30, 4] = np.nan
INF = F.copy()
INF[7, 2, 63, 31] = -np.inf


@pytest.fixture(scope="module")
def m():
    return baseline()


@pytest.fixture(scope="module")
def p():
    return mbgn()


IMAGES = [  # images, exception, words of the message
    ("none", None, TypeError, "images.*got NoneType"),
    ("text", "photo.jpg", TypeError, "images.*got str"),
    ("float64", F.astype(np.float64), TypeError, "images.*uint8 or float32.*float64"),
    ("float16", F.astype(np.float16), TypeError, "images.*float16"),
    ("int64", X.astype(np.int64), TypeError, "images.*int64"),
    ("bool", X > 3, TypeError, "images.*bool"),
    ("complex", F.astype(np.complex64), TypeError, "images.*complex64"),
    ("objects", np.array([None, 1], object), TypeError, "images.*object"),
    ("texts", np.array(["a"]), TypeError, "images"),
    ("lists", X[:1].tolist(), TypeError, "images.*int64"),
    ("one image", X[0], ValueError, "4 dimensions.*images.None."),
    ("one float image", F[0], ValueError, "4 dimensions.*images.None."),
    ("rank 2", X[0, :, :, 0], ValueError, "4 dimensions"),
    ("rank 5", X[None], ValueError, "4 dimensions"),
    ("rank 0", np.array(3, np.uint8), ValueError, "4 dimensions"),
    ("channels first", X.transpose(0, 3, 1, 2), ValueError, r"N×H×W×3\?"),
    ("RGBA", np.zeros((2, 64, 32, 4), np.uint8), ValueError, "N×H×W×3.*2×64×32×4"),
    ("grey", np.zeros((2, 64, 32, 1), np.uint8), ValueError, "N×H×W×3"),
    ("no rows", np.zeros((2, 0, 32, 3), np.uint8), ValueError, "pixels"),
    ("no columns", np.zeros((2, 64, 0, 3), np.uint8), ValueError, "pixels"),
    ("float size", floats(2, 32, 32), ValueError, "N×3×64×32.*2×3×32×32"),
    ("float channels last", F.transpose(0, 2, 3, 1), ValueError, r"N×3×H×W\?"),
    ("float transposed", F.transpose(0, 1, 3, 2), ValueError, "N×3×64×32"),
    ("NaN", NAN, ValueError, r"NaN.*\[2, 1, 30, 4\]"),
    ("infinite", INF, ValueError, r"infinity at \[7, 2, 63, 31\]"),
]


@pytest.mark.parametrize("images, kind, words", [c[1:] for c in IMAGES], ids=[c[0] for c in IMAGES])
def test_images(m, images, kind, words):
    o = reidc.Adam(m, 1e-3)
    n = len(images) if isinstance(images, np.ndarray) and images.ndim else 1
    for call in (lambda: m.embed(images), lambda: m.embed(images, flip=True),
                 lambda: m.forward(images), lambda: m.forward(images, training=True),
                 lambda: m.loss(images, LABELS[:n]), lambda: m.train_step(images, LABELS[:n], o)):
        with unchanged(m, o), pytest.raises(kind, match=words) as caught:
            call()
        assert isinstance(caught.value, reidc.Error)


def test_ragged_list(m):
    with unchanged(m), pytest.raises(ValueError, match="images.* got a list whose parts differ"):
        m.embed([X[0], X[0, :30]])


def test_no_images_at_all(m):
    with pytest.raises(ValueError, match="images: expected N×H×W×3, got an empty list"):
        m.embed([])
    with pytest.raises(ValueError, match="images: expected one or more, got an empty batch"):
        m.quantize(np.zeros((0, 64, 32, 3), np.uint8))
    with pytest.raises(ValueError, match="query: expected float32, got an empty list"):
        reidc.compute_distance_matrix([], F[0, 0])
    with pytest.raises(TypeError, match="images: expected an array or a list, got int"):
        reidc.Augment(height=8, width=8)(3)


def test_distances_of_other_floats():
    rows = np.zeros((2, 4))
    with pytest.raises(TypeError, match=r"query: expected float32, got float64 \(numpy.as"):
        reidc.compute_distance_matrix(rows, rows)
    with pytest.raises(TypeError, match=r"query: expected float32, got int64$"):
        reidc.compute_distance_matrix(rows.astype(np.int64), rows)


def test_empty_batch_in_training(m):
    o = reidc.Adam(m, 1e-3)
    for images in (X[:0], F[:0]):
        for call in (lambda x: m.forward(x, training=True), lambda x: m.loss(x, []),
                     lambda x: m.train_step(x, [], o)):
            with unchanged(m, o), pytest.raises(ValueError, match="empty batch"):
                call(images)


LABEL_CASES = [
    ("floats", LABELS.astype(float), TypeError, "labels.*integer.*float64"),
    ("bools", LABELS > 0, TypeError, "labels.*bool"),
    ("texts", list("abcdefgh"), TypeError, "labels"),
    ("none", None, TypeError, "labels: expected an array of integers, got NoneType"),
    ("mixed", [0, 0.5] * 4, TypeError, "labels"),
    ("rank 2", LABELS[:, None], ValueError, "labels.*1 dimension"),
    ("rank 0", np.array(1), ValueError, "labels.*1 dimension"),
    ("too few", LABELS[:6], ValueError, "labels.*8.*6"),
    ("too many", np.r_[LABELS, 0], ValueError, "labels.*8.*9"),
    ("negative", np.r_[LABELS[:7], -1], ValueError, "labels.*-1"),
    ("too large", np.r_[LABELS[:7], 5], ValueError, r"labels.*0\.\.4.*5"),
    ("huge", np.array([0, 1] * 3 + [0, 2**64 - 1], np.uint64), ValueError, "labels"),
    ("one identity", np.ones(8, int), ValueError, "labels.*identit"),
]


@pytest.mark.parametrize("labels, kind, words", [c[1:] for c in LABEL_CASES],
                         ids=[c[0] for c in LABEL_CASES])
def test_labels(m, labels, kind, words):
    o = reidc.SGD(m, 0.1, momentum=0.9)
    for call in (lambda: m.loss(X, labels), lambda: m.train_step(X, labels, o)):
        with unchanged(m, o), pytest.raises(kind, match=words):
            call()


def test_labels_of_any_integer_type(m):
    for labels in (LABELS.tolist(), LABELS.astype(np.uint8), LABELS.astype(">i4"),
                   np.repeat(LABELS, 2)[::2]):
        c = m.copy()
        assert c.loss(X, labels) == m.copy().loss(X, LABELS)


PLANES = [
    ("floats", np.ones((8, 4)), TypeError, "planes.*integer"),
    ("rank", np.array([1, 2, 3, 4]), ValueError, "planes.*2 dimensions"),
    ("columns", np.ones((8, 3), int), ValueError, "planes.*8×4.*8×3"),
    ("rows", np.tile([1, 2, 3, 4], (7, 1)), ValueError, "planes.*8×4.*7×4"),
    ("zero", np.tile([0, 2, 3, 4], (8, 1)), ValueError, "planes.*0 < l0"),
    ("equal", np.tile([1, 3, 3, 4], (8, 1)), ValueError, "planes"),
    ("falling", np.tile([4, 3, 2, 1], (8, 1)), ValueError, "planes"),
    ("too low", np.tile([1, 2, 3, 6], (8, 1)), ValueError, "planes"),
    ("last row", np.array([[1, 2, 3, 4]] * 7 + [[1, 2, 3, 9]]), ValueError, "planes"),
]


@pytest.mark.parametrize("planes, kind, words", [c[1:] for c in PLANES], ids=[c[0] for c in PLANES])
def test_planes(p, planes, kind, words):
    x = batch(8, 96)
    for call in (lambda: p.forward(x, planes=planes), lambda: p.loss(x, LABELS, planes=planes),
                 lambda: p.forward(x, planes=planes, training=True)):
        with unchanged(p), pytest.raises(kind, match=words):
            call()


def test_planes_where_there_are_none(m):
    with unchanged(m), pytest.raises(ValueError, match="planes"):
        m.forward(X, planes=np.tile([1, 2, 3, 4], (8, 1)))


def test_backward(m):
    m = m.copy()
    ones = np.ones((8, m.dimension), np.float32)
    with unchanged(m), pytest.raises(ValueError, match="forward.training=True."):
        m.backward({"feat": ones})
    m.forward(X)
    with unchanged(m), pytest.raises(ValueError, match="forward.training=True."):
        m.backward({"feat": ones})
    m.forward(X, training=True)
    bad = [({"feat": ones.astype(np.float64)}, TypeError, "feat.*float32.*float64"),
           ({"feat": None}, TypeError, "feat"), ([ones], TypeError, "dict"),
           ({"feat": ones[:7]}, ValueError, "feat"), ({"feat": ones[0]}, ValueError, "dimension"),
           ({"feta": ones}, ValueError, "feta"), ({3: ones}, ValueError, "names"),
           ({"feat": ones, "embedding": ones}, ValueError, "embedding")]
    for gradients, kind, words in bad:
        with unchanged(m), pytest.raises(kind, match=words):
            m.backward(gradients)
    m.backward({"feat": ones})  # still possible after all that
    assert m.gradients()["backbone.conv1.weight"].any()
    with unchanged(m), pytest.raises(ValueError, match="forward"):
        m.backward({"feat": ones})


def test_planes_output_has_no_gradient(p):
    p = p.copy()
    out = p.forward(batch(8, 96), training=True)
    with unchanged(p), pytest.raises(ValueError, match="planes.*no gradient"):
        p.backward({"planes": out["planes"]})


def test_one_image_in_training(m):
    with unchanged(m), pytest.raises(ValueError, match="2 images"):
        m.forward(X[:1], training=True)


STATES = [
    (lambda s: s.pop("bnneck.bias"), ValueError, "1 missing .'bnneck.bias'"),
    (lambda s: s.update(extra=np.zeros(3, np.float32)), ValueError, "1 unexpected .'extra'"),
    (lambda s: s.update({"classifier.weight": np.zeros((6, 64), np.float32)}), ValueError,
     r"classifier.weight.*5x64.*\(6, 64\)"),
    (lambda s: s.update({"bnneck.bias": np.zeros(64, np.int32)}), TypeError, "bnneck.bias.*int32"),
    (lambda s: s.update({"bnneck.bias": None}), TypeError, "bnneck.bias"),
    (lambda s: s.update({"bnneck.bias": np.zeros((64, 1))}), ValueError, "bnneck.bias"),
    (lambda s: s.update({"bnneck.bias": np.float32(1)}), ValueError, "bnneck.bias"),
    (lambda s: s.update({5: np.zeros(3)}), TypeError, "names"),
]


@pytest.mark.parametrize("spoil, kind, words", STATES)
def test_state_dict_is_all_or_nothing(m, spoil, kind, words):
    state = {k: v + 1 for k, v in m.state_dict().items()}
    spoil(state)
    with unchanged(m), pytest.raises(kind, match=words):
        m.load_state_dict(state)


def test_state_dict_of_something_else(m):
    for state in (None, [1, 2], "weights", 3):
        with unchanged(m), pytest.raises(TypeError, match="mapping"):
            m.load_state_dict(state)
    other = baseline(width_multiplier=0.25, backbone="resnet34").state_dict()
    with unchanged(m), pytest.raises(ValueError, match="conv1.weight.*8x3x7x7.*16, 3, 7, 7"):
        m.load_state_dict(other)
    with unchanged(m), pytest.raises(ValueError, match="another network"):
        m.load_state_dict({f"model.{k}": v for k, v in m.state_dict().items()})


CONSTRUCTORS = [
    (dict(nonsense=1), TypeError, "nonsense"),
    (dict(label_smoth=0.1), TypeError, "label_smoth"),
    (dict(num_classes=0), ValueError, "num_classes"),
    (dict(num_classes=-3), ValueError, "num_classes"),
    (dict(num_classes="ten"), TypeError, "num_classes"),
    (dict(num_classes=None), TypeError, "num_classes"),
    (dict(num_classes=10**9), MemoryError, "memory"),
    (dict(num_classes=10**30), ValueError, "num_classes"),
    (dict(height=250), ValueError, "height"),
    (dict(height=0), ValueError, "height"),
    (dict(width=-16), ValueError, "width"),
    (dict(height=10**12), ValueError, "height"),
    (dict(height="tall"), TypeError, "height"),
    (dict(backbone="resnet51"), ValueError, "backbone"),
    (dict(backbone=50), TypeError, "backbone"),
    (dict(width_multiplier=float("nan")), ValueError, "width_multiplier"),
    (dict(last_stride=3), ValueError, "last_stride"),
    (dict(last_stride=2, height=80), ValueError, "multiples of 32.*80"),
    (dict(width=40), ValueError, "multiples of 16.*40"),
    (dict(label_smooth=1.5), ValueError, "label_smooth"),
    (dict(label_smooth=float("nan")), ValueError, "label_smooth"),
    (dict(margin=-1), ValueError, "margin"),
    (dict(triplet="yes"), ValueError, "triplet"),
    (dict(device="cuda:999"), reidc.DeviceError, "CUDA|cuda"),
    (dict(device="cuda:-1"), ValueError, "device"),
    (dict(device=0), TypeError, "device"),
    (dict(device="tpu"), ValueError, "device"),
    (dict(precision="float16"), ValueError, "precision"),
    (dict(precision=32), ValueError, "precision.*got 32"),
    (dict(memory=1.0), ValueError, "memory: expected 'normal' or 'low', got 1.0"),
    (dict(threads=0), ValueError, "threads"),
    (dict(threads=-1), ValueError, "threads"),
    (dict(threads="all"), TypeError, "threads.*got 'all'"),
    (dict(seed="x"), TypeError, "seed.*got 'x'"),
    (dict(seed=1.0), TypeError, "seed: expected an integer, got 1.0"),
    (dict(seed=-1), ValueError, "seed: expected 0 to .*got -1"),
    (dict(seed=object()), TypeError, "seed"),
    (dict(pretrained="/no/such/file.safetensors"), FileNotFoundError, "no"),
]


@pytest.mark.parametrize("options, kind, words", CONSTRUCTORS)
def test_constructors(options, kind, words):
    options = {"num_classes": 5, "height": 64, "width": 32, "backbone": "resnet18", **options}
    before = reidc._core._memory_live()
    with pytest.raises(kind, match=words):
        reidc.Baseline(**options)
    assert reidc._core._memory_live() == before


@pytest.mark.parametrize("options, words", [
    (dict(height=64), "height"), (dict(height=90), "height"), (dict(width=48), "width"),
    (dict(attention="rga"), "attention.*gsrpa"), (dict(num_attention=5), "num_attention"),
    (dict(branch_g=False, branch_l=False), "branch"), (dict(segmentation="equal"), "segmentation"),
    (dict(strategy="G"), "strategy"), (dict(strategy="MGN"), "strategy"),
    (dict(part_pool="sum"), "part_pool"), (dict(dropout=1), "dropout"),
    (dict(strategy="MGN", segmentation="uniform"), "MGN.*structure"),
    (dict(strategy="MGN", structure=False), "MGN.*segmentation"),
    (dict(strategy="MGN", branch_l=False), "MGN"), (dict(num_attention=-1), "num_attention"),
    (dict(width_multiplier=0.1), "multiple of 16.*8"),
    (dict(branch_g=None), "branch_g"), (dict(structure="no"), "structure"),
])
def test_mbgn_switches(options, words):
    with pytest.raises(ValueError, match=words):
        reidc.MBGN(**{"num_classes": 5, "height": 96, "width": 32, "backbone": "resnet18",
                      **options})


def test_lists_of_any_kind():
    small = dict(backbone="resnet18", width_multiplier=0.125)
    for stages in ((1, 3), [1, 3], range(1, 4, 2), np.array([3, 1]), (np.int8(1), np.int64(3))):
        m = reidc.HAMR(5, 96, 32, stages=stages, local="none", reduction=8,
                       **small)
        assert {k.split(".")[0] for k in m.state_dict() if k.startswith("sam")} == {"sam1", "sam3"}
    for stages, kind in ((np.array([[1, 3]]), TypeError), ({1, 3}, TypeError), (True, TypeError),
                         (np.array([0.5]), ValueError), (range(9), ValueError)):
        with pytest.raises(kind, match="stages") as caught:
            reidc.HAMR(5, 96, 32, stages=stages, **small)
        assert isinstance(caught.value, reidc.Error)


def test_arguments_of_other_calls(m):
    cases = [
        (lambda: m.embed(X, batch_size=0), ValueError, "batch_size"),
        (lambda: m.embed(X, batch_size=-4), ValueError, "batch_size"),
        (lambda: m.embed(X, batch_size=2.0), TypeError, "batch_size"),
        (lambda: m.embed(X, batch_size=10**30), ValueError, "batch_size"),
        (lambda: m.embed(X, True), TypeError, "positional"),
        (lambda: m.embed(), TypeError, "images"),
        (lambda: m.embed(X, flips=True), TypeError, "flips"),
        (lambda: m.forward(X, train=True), TypeError, "train"),
        (lambda: m.train_step(X, LABELS, None), TypeError, "optimizer"),
        (lambda: m.train_step(X, LABELS, reidc.SGD(baseline(), 0.1)), ValueError, "another"),
        (lambda: m.memory_plan(0), ValueError, "batch: expected 1 or more, got 0"),
        (lambda: m.memory_plan("8"), TypeError, "batch: expected an integer, got str"),
        (lambda: m.memory_plan(True), TypeError, "batch: expected an integer, got bool"),
        (lambda: m.memory_plan(1 << 40), ValueError, "batch: expected 1 to 1048576, got 10995"),
        (lambda: m.memory_plan(8, optimizer=1), TypeError, "optimizer: expected text or None"),
        (lambda: m.plan(-1), ValueError, "batch"),
        (lambda: m.plan(10**30), ValueError, "batch.*fewer than"),
        (lambda: m.grad_cam(X, layer=4), TypeError, "layer: expected text or None, got int"),
        (lambda: m.grad_cam(X, layer="a\0b"), ValueError, "layer: expected text, got a zero byte"),
        (lambda: m.grad_cam(X, method=None), TypeError, "method: expected text, got NoneType"),
        (lambda: reidc.Adam(m, -1), ValueError, "lr: expected a finite number >= 0, got -1"),
        (lambda: reidc.Adam(m, 1, betas=(0, 1)), ValueError, r"in \[0, 1\), got 0 and 1"),
        (lambda: reidc.Adam(m, 1, clip_norm=0), ValueError, "clip_norm.* above 0.*got 0"),
        (lambda: reidc.SGD(m, 1, dampening=np.nan), ValueError, "dampening.*number, got nan"),
        (lambda: reidc.SGD(m, 1, nesterov=True), ValueError, "momentum > 0 .*got 0 and 0"),
        (lambda: m.to("cuda:1x"), ValueError, "device"),
        (lambda: m.to("cuda:999"), reidc.DeviceError, "CUDA|cuda"),
        (lambda: setattr(m, "step", -1), ValueError, "step"),
        (lambda: setattr(m, "step", 1.5), TypeError, "step"),
        (lambda: setattr(m, "height", 3), AttributeError, "height"),
        (lambda: m.__init__(5, 64, 32), ValueError, "second time"),
        (lambda: reidc.build_model("resnet", 5), ValueError, "baseline, mbgn"),
        (lambda: reidc.build_model(None, 5), TypeError, "name"),
    ]
    for call, kind, words in cases:
        with unchanged(m), pytest.raises(kind, match=words):
            call()


def test_without_init():
    m = reidc.Baseline.__new__(reidc.Baseline)
    for call in (lambda: m.embed(X), lambda: m.state_dict(), lambda: m.parameters(),
                 lambda: m.copy(), lambda: m.height, lambda: m.config, lambda: m.graph(),
                 lambda: reidc.Adam(m, 1e-3), lambda: m.zero_grad(), lambda: m.plan()):
        with pytest.raises(ValueError, match="__init__"):
            call()
    o = reidc.Adam.__new__(reidc.Adam)
    for call in (o.step, o.zero_grad, o.state_dict, lambda: o.lr, lambda: o.network):
        with pytest.raises(ValueError, match="__init__"):
            call()


def test_failed_calls_leave_no_trace(m):
    """The same step before and after a failed one gives the same bits."""
    a, b = m.copy(), m.copy()
    oa, ob = reidc.Adam(a, 1e-3), reidc.Adam(b, 1e-3)
    for seed in range(2):
        x = batch(seed=seed)
        a.train_step(x, LABELS, oa)
        with pytest.raises(ValueError):
            b.train_step(x, LABELS + 3, ob)
        with pytest.raises(ValueError):
            b.train_step(NAN, LABELS, ob)
        b.train_step(x, LABELS, ob)
    assert same(a.state_dict(), b.state_dict())
