"""Networks on device="cuda" without a card: the back end's run time as it is, its kernels as they
run on the host, a stand-in for CUDA, cuDNN and cuBLASLt (standin/), beside the CPU's results."""
import ctypes

import numpy as np
import pytest
import reidc
from device_arrays import CARD, DLTensor, OnCard, baseline
from device_arrays import card as card  # the fixture
from device_checks import (
    LABELS, SYSTEMS, agree, agree_in_bfloat16, images, near, near_states, three,
)

pytestmark = pytest.mark.cuda_host
NO_MEMORY, LAUNCH_FAILED = 2, 719


# ---- the same numbers as the CPU


def test_embeddings_and_forward():
    cpu, gpu = baseline(), baseline("cuda")
    assert gpu.device == "cuda:0"
    x = images(7)
    for batch in (None, 2, 3):  # several chunks, the last one short
        for flip in (False, True):
            near(gpu.embed(x, batch_size=batch, flip=flip),
                 cpu.embed(x, batch_size=batch, flip=flip))
    u8 = np.random.default_rng(1).integers(0, 256, (3, 50, 20, 3), dtype=np.uint8)
    near(gpu.embed(u8), cpu.embed(u8))
    near(gpu.forward(x)["embedding"], cpu.forward(x)["embedding"])


def test_backward_from_outputs():
    cpu, gpu = baseline(), baseline("cuda")
    x, rng = images(), np.random.default_rng(5)
    for _ in range(3):  # step by step, recorded, replayed
        a, b = cpu.forward(x, training=True), gpu.forward(x, training=True)
        near_states(a, b)
        gradients = {k: rng.standard_normal(v.shape).astype(np.float32) for k, v in a.items()}
        near(gpu.backward(gradients, input_gradient=True),
             cpu.backward(gradients, input_gradient=True), 1e-3)
    near_states(gpu.gradients(), cpu.gradients(), 1e-3)
    near_states(gpu.state_dict(), cpu.state_dict())


@pytest.mark.parametrize("system", [
    pytest.param(s, marks=[] if s == "HAMR" else pytest.mark.slow) for s in SYSTEMS])
def test_systems_in_bfloat16(system):
    CARD.reset()
    agree_in_bfloat16(system)
    log = CARD.log()
    assert any(line.startswith("cudnnBackendExecute") for line in log)


QUICK = ("Baseline", "HAMR")  # the others take 7 to 15 s each


@pytest.mark.parametrize("system", [
    pytest.param(s, marks=[] if s in QUICK else pytest.mark.slow) for s in SYSTEMS])
def test_systems(system):
    agree(system)


@pytest.mark.parametrize("make", [
    lambda m: reidc.Adam(m, 1e-3, weight_decay=1e-3),
    lambda m: reidc.AdamW(m, 1e-3, weight_decay=1e-2, clip_norm=0.5),
    lambda m: reidc.SGD(m, 1e-2, momentum=0.9, nesterov=True),
    lambda m: reidc.SGD(m, 1e-2),
])
def test_optimisers(make):
    """One update from equal gradients, with an average beside it; then back to the CPU with all."""
    cpu, gpu = baseline(), baseline("cuda")
    a, b = make(cpu), make(gpu)
    ema = [reidc.EMA(m, 0.9) for m in (cpu, gpu)]
    x = images()
    for _ in range(2):
        cpu.train_step(x, LABELS, a, ema=ema[0])
        gpu.train_step(x, LABELS, b, ema=ema[1])
    near_states(gpu.state_dict(), cpu.state_dict(), 2e-2)
    near_states(ema[1].state_dict()["state"], ema[0].state_dict()["state"], 2e-2)
    for name, value in a.state_dict()["state"].items():
        near(b.state_dict()["state"][name], value, 5e-2)
    before = gpu.state_dict(), b.state_dict()["state"]
    gpu.to("cpu")
    for old, new in zip(before, (gpu.state_dict(), b.state_dict()["state"])):
        assert all(np.array_equal(old[k], new[k]) for k in old)
    gpu.train_step(x, LABELS, b)  # and goes on there
    gpu.to("cuda")
    gpu.train_step(x, LABELS, b)
    ema[1].apply()
    near_states(gpu.state_dict(), ema[1].state_dict()["state"], 0)
    ema[1].restore()


def test_every_update_has_its_own_rate():
    """Updates may still wait to run when the next ones are told."""
    cpu, gpu = baseline(), baseline("cuda")
    x, optimizers = images(), [reidc.SGD(m, 0) for m in (cpu, gpu)]
    for rate in (2e-4, 2e-4, 0, 0, 4e-4):  # told one step too early they would add up to more
        for m, optimizer in zip((cpu, gpu), optimizers):
            optimizer.lr = rate
            m.train_step(x, LABELS, optimizer)
    start = baseline().state_dict()["backbone.conv1.weight"]
    moved = cpu.state_dict()["backbone.conv1.weight"] - start
    near(gpu.state_dict()["backbone.conv1.weight"] - start, moved, 1e-2)


def test_weights_are_seen_on_both_sides():
    cpu, gpu = baseline(), baseline("cuda")
    x = images()
    near(gpu.embed(x), cpu.embed(x))
    for m in (cpu, gpu):
        m.parameters()["backbone.conv1.weight"][...] *= 1.5  # through a view that is gone again
    near(gpu.embed(x), cpu.embed(x))
    views = gpu.parameters()
    before = views["backbone.layer1.0.conv1.weight"].copy()
    gpu.train_step(x, LABELS, reidc.SGD(gpu, 0.1))
    assert not np.array_equal(before, views["backbone.layer1.0.conv1.weight"])
    views["backbone.layer1.0.conv1.weight"][...] = before
    assert np.array_equal(gpu.state_dict()["backbone.layer1.0.conv1.weight"], before)
    cpu.load_state_dict(gpu.state_dict())
    near(gpu.embed(x), cpu.embed(x))
    copy = gpu.copy()
    assert copy.device == "cuda:0" and np.array_equal(copy.embed(x), gpu.embed(x))


def test_explanations():
    cpu, gpu = baseline(seed=4), baseline("cuda", seed=4)
    x = images()
    for target in (None, 2, "norm"):
        assert np.abs(gpu.grad_cam(x, target) - cpu.grad_cam(x, target)).max() < 1e-2
    layer, a = "backbone.layer2.0.bn2", cpu.forward(x)["embedding"]
    for got, want in zip(gpu.explain(x, layer, "embedding", np.ones_like(a)),
                         cpu.explain(x, layer, "embedding", np.ones_like(a))):
        near(got, want, 1e-3)
    for system in ("HAMR", "MBGN", "FSAC"):
        _, cpu, gpu = three(system)
        x = images(2, 96, 32)
        got, want = gpu.attention(x), cpu.attention(x)
        assert list(got) == list(want) and want
        for name in want:
            near(got[name], want[name], 1e-3)


def test_same_bits_every_time():
    x = images()
    runs = []
    for _ in range(2):
        m = baseline("cuda")
        optimizer = reidc.Adam(m, 1e-3)
        for _ in range(3):
            parts = m.train_step(x, LABELS, optimizer)
        runs.append((parts, m.state_dict()))
    assert runs[0][0] == runs[1][0]
    assert all(np.array_equal(runs[0][1][k], runs[1][1][k]) for k in runs[0][1])


# ---- the order of calls


def steps_log(m, optimizer, n):
    """The calls of the n-th step."""
    x = images()
    for _ in range(n):
        start = len(CARD.log())
        m.train_step(x, LABELS, optimizer)
    return CARD.log()[start:]


def test_a_step_is_replayed_and_waits_for_its_losses_alone():
    m = baseline("cuda")
    log = steps_log(m, reidc.Adam(m, 1e-3), 4)
    kinds = [line.split()[0] for line in log]
    assert kinds.count("cudaGraphLaunch") == 3  # forward, backward, statistics
    assert "cudaStreamBeginCapture" not in kinds and "cudnnBackendExecute" not in kinds
    assert kinds.count("kernel") == 1  # the update of all weights
    assert "cudaStreamSynchronize" not in kinds and "cudaMalloc" not in kinds
    waits = [i for i, kind in enumerate(kinds) if kind == "cudaEventSynchronize"]
    launches = [i for i, kind in enumerate(kinds) if kind == "cudaGraphLaunch"]
    # For the last images' copy and the last but one update, before; for the losses, at the end.
    assert [i for i in waits if launches[0] < i < launches[1]] == []
    assert waits[-1] > launches[-1]
    downs = [i for i, line in enumerate(log) if line.startswith("cudaMemcpyAsync down")]
    assert downs and all(launches[0] < i < launches[1] for i in downs)
    assert all(line.split()[2] == "4" for line in log if line.startswith("cudaMemcpyAsync down"))


def test_fused_convolutions_of_evaluation():
    m = baseline("cuda")
    m.embed(images())
    log = CARD.log()
    convolutions = [line for line in log if line.startswith("cudnnBackendExecute")]
    assert convolutions and all(line.endswith("fused") for line in convolutions)
    assert not any("TF32" in line for line in log)
    engines = {line for line in log if line.startswith("cudnnBackendFinalize plan")}
    assert "cudnnBackendFinalize plan of engine 0" not in engines  # TF32
    assert "cudnnBackendFinalize plan of engine 1" not in engines  # not deterministic
    assert "cudnnBackendFinalize plan of engine 3" in engines


def test_what_was_chosen_is_kept():
    m = baseline("cuda")
    m.embed(images(4))
    before = len(CARD.log())
    m.memory_plan(4, training=False)
    m.forward(images(4))
    assert not any("plan of engine" in line for line in CARD.log()[before:])


def test_timed_choice(monkeypatch):
    monkeypatch.setenv("REIDC_CUDA_TUNE", "1")
    cpu, gpu = baseline(), baseline("cuda")
    x = images()
    near(gpu.embed(x), cpu.embed(x))
    assert any(line.startswith("cudaEventElapsedTime") for line in CARD.log())


def test_tf32_on_request(monkeypatch):
    monkeypatch.setenv("REIDC_CUDA_TF32", "1")
    baseline("cuda").embed(images())
    assert any(line == "cublasLtMatmulDescCreate TF32" for line in CARD.log())
    assert "cudnnBackendFinalize plan of engine 0" in CARD.log()


# ---- what can be wrong


@pytest.mark.parametrize("machine, device, words", [
    (dict(driver=0), "cuda", "no NVIDIA driver"),
    (dict(driver=12040), "cuda", "driver is for CUDA 12.4.*needs 13"),
    (dict(cards=0), "cuda", "no card"),
    (dict(cards=1), "cuda:1", "there is one card"),
    (dict(cards=2), "cuda:2", "fewer cards.*cuda:1"),
    (dict(major=7, minor=5), "cuda", "too old.*7.5.*8.0"),
])
def test_no_such_card(machine, device, words):
    CARD.machine(**machine)
    m = baseline()
    before = m.state_dict()
    for call in (lambda: m.to(device), lambda: baseline(device), lambda: reidc.cuda_info(device)):
        with pytest.raises(reidc.DeviceError, match=words):
            call()
    assert m.device == "cpu" and all(np.array_equal(before[k], v)
                                     for k, v in m.state_dict().items())
    m.embed(images())


def test_what_there_is():
    info = reidc.cuda_info()
    assert info["index"] == 0 and info["name"] == "stand-in" and "cuDNN" in info["versions"]
    assert 0 < info["free_bytes"] <= info["total_bytes"]


@pytest.mark.parametrize("precision", ["float64", "int8"])
def test_other_precisions(precision):
    m = baseline(precision=precision)
    with pytest.raises(NotImplementedError, match=f"'{precision}' runs on the CPU"):
        m.to("cuda")
    assert m.device == "cpu"
    with pytest.raises(NotImplementedError, match=precision):
        baseline("cuda", precision=precision)


def test_no_bytes_on_a_card():
    m = baseline("cuda")
    before = m.embed(images())
    with pytest.raises(NotImplementedError, match="on the CPU"):
        m.quantize(images(8))
    assert np.array_equal(m.embed(images()), before)


def test_out_of_memory():
    """A batch that does not fit: the plan's figure is named, and the network goes on."""
    m = baseline("cuda")
    optimizer = reidc.Adam(m, 1e-3)
    x = images()
    m.train_step(x, LABELS, optimizer)
    before = m.state_dict()
    CARD.machine(memory=CARD.alive()["bytes"] + (1 << 20))
    big = images(400)
    for call in (lambda: m.embed(big, batch_size=400), lambda: m.forward(big, training=True),
                 lambda: m.train_step(big, np.arange(400) % 5, optimizer)):
        with pytest.raises(MemoryError, match=r"cuda:0.*batch of 400 needs \d+\.\d+ GiB.*free"):
            call()
    with pytest.raises(MemoryError):
        CARD.machine(memory=CARD.alive()["bytes"])
        baseline("cuda")
    CARD.machine()
    assert all(np.array_equal(before[k], v) for k, v in m.state_dict().items())
    m.train_step(x, LABELS, optimizer)


@pytest.mark.parametrize("make, training, words", [
    # 148 x 148 positions are keys and queries of a softmax over positions.
    (lambda: reidc.MFA(5, 1184, 1184, backbone="resnet18", width_multiplier=0.125, device="cuda"),
     False, r"attention: 21904 keys, and on a card at most 21504"),
    (lambda: reidc.MFA(5, 832, 832, backbone="resnet18", width_multiplier=0.125, device="cuda"),
     True, r"attention: 10816 keys, and on a card at most 10752 in training"),
])
def test_more_than_kernels_have_room_for(make, training, words):
    """Said while the plan is made: nothing has run, and the network goes on with what fits."""
    m = make()
    before, start = m.state_dict(), len(CARD.log())
    with pytest.raises(ValueError, match=words):
        m.memory_plan(2, training=training)
    assert not any(line.split()[0] in ("kernel", "cudnnBackendExecute", "cudaMalloc")
                   for line in CARD.log()[start:])
    assert all(np.array_equal(before[k], v) for k, v in m.state_dict().items())


@pytest.mark.parametrize("height, batch, words", [
    (32, 70_000, "70000 at once, and on a card at most 65535"),
    (256, 65_535, "65535 at once make a value of .* elements, and on a card at most 2147483647")])
def test_more_than_an_index_can_count(height, batch, words):
    m = reidc.Baseline(5, height, height // 2, backbone="resnet18", width_multiplier=0.125,
                       device="cuda")
    for training in (False, True):
        with pytest.raises(ValueError, match=words):
            m.memory_plan(batch, training=training)


@pytest.mark.parametrize("n", range(1, 12))
def test_the_nth_allocation_fails(n):
    """Wherever memory runs out, it is said, nothing is lost and nothing is left behind."""
    for function in ("cudaMalloc", "cudaMallocHost"):
        CARD.fail(function, n, NO_MEMORY)
        try:
            m = baseline("cuda")
            optimizer = reidc.Adam(m, 1e-3)
            m.train_step(images(), LABELS, optimizer)
            m.embed(images())
        except MemoryError:
            pass
        CARD.fail(function, 0, 0)
        m = baseline("cuda")
        m.train_step(images(), LABELS, reidc.Adam(m, 1e-3))
        del m


@pytest.mark.parametrize("function, code", [
    ("cudaStreamCreateWithFlags", LAUNCH_FAILED), ("cudaEventCreateWithFlags", LAUNCH_FAILED),
    ("cudnnCreate", 1001), ("cublasLtCreate", 1), ("cudaGetDeviceProperties", LAUNCH_FAILED),
    ("cudaMemcpyAsync", LAUNCH_FAILED), ("cudnnBackendExecute", 5000), ("cublasLtMatmul", 14),
    ("cudaStreamBeginCapture", LAUNCH_FAILED), ("cudaStreamEndCapture", LAUNCH_FAILED),
    ("cudaGraphInstantiate", LAUNCH_FAILED), ("cudaGraphLaunch", LAUNCH_FAILED),
    ("cudaEventSynchronize", LAUNCH_FAILED), ("cudaStreamSynchronize", LAUNCH_FAILED),
])
def test_failures_come_out(function, code):
    CARD.fail(function, 2 if function.startswith("cudaEvent") else 1, code)
    with pytest.raises(reidc.DeviceError, match="CUDA|cuDNN|cuBLAS"):
        m = baseline("cuda")
        optimizer = reidc.Adam(m, 1e-3)
        for _ in range(4):
            m.train_step(images(), LABELS, optimizer)
            m.embed(images())
    CARD.fail(function, 0, 0)
    baseline("cuda").embed(images())


def test_two_networks_and_threads():
    """Each has a stream of its own; calls on one wait for each other."""
    from concurrent.futures import ThreadPoolExecutor

    CARD.lazy(False)
    cpu, gpu = baseline(), baseline("cuda")
    x = images()
    want = cpu.embed(x)
    with ThreadPoolExecutor(2) as pool:
        for got in pool.map(lambda _: gpu.embed(x), range(4)):
            near(got, want)


# ---- others' arrays


@pytest.mark.parametrize("kind", ["dlpack", "interface"])
@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 2, 3, 1)])
def test_images_that_lie_on_the_card(kind, axes):
    m = baseline("cuda")
    x = images(5)
    there = OnCard(x, axes, kind=kind)
    for flip in (False, True):
        assert np.array_equal(m.embed(there, batch_size=2, flip=flip),
                              m.embed(x, batch_size=2, flip=flip))
    one, other = m.copy(), m.copy()
    labels = np.array([0, 0, 1, 1, 1])
    assert one.train_step(there, labels, reidc.SGD(one, 0.1)) == other.train_step(
        x, labels, reidc.SGD(other, 0.1))
    assert set(there.asked) <= {1}
    there.free()


def test_embeddings_that_stay_on_the_card():
    m = baseline("cuda")
    x = images(5)
    for flip, normalize in ((False, True), (True, False)):
        want = m.embed(x, flip=flip, normalize=normalize)
        got = m.embed(x, flip=flip, normalize=normalize, device_output=True)
        assert isinstance(got, reidc.DeviceArray) and got.shape == want.shape
        assert got.__dlpack_device__() == (2, 0)
        face = got.__cuda_array_interface__
        assert face["typestr"] == "<f4" and face["shape"] == want.shape
        values = np.empty_like(want)
        ctypes.memmove(values.ctypes.data, face["data"][0], values.nbytes)
        near(values, want, 1e-6)
        capsule = got.__dlpack__(stream=None)
        get = ctypes.pythonapi.PyCapsule_GetPointer
        get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        tensor = DLTensor.from_address(get(capsule, b"dltensor"))
        assert (tensor.ndim, tensor.code, tensor.bits) == (2, 2, 32)
        assert tensor.data == face["data"][0] and tuple(tensor.shape[:2]) == want.shape
        m.to("cpu")  # whoever holds the array or the capsule is not touched by that
        del got
        ctypes.memmove(values.ctypes.data, tensor.data, values.nbytes)
        near(values, want, 1e-6)
        del capsule
        m.to("cuda")


def test_arrays_that_do_not_fit():
    cpu, gpu = baseline(), baseline("cuda")
    there, elsewhere, wide = OnCard(images()), OnCard(images(), card=1), OnCard(images(4, 32, 32))
    double = OnCard(images().astype(np.float64))
    for call, kind, words in (
            (lambda: cpu.embed(there), ValueError, "on a card.*on the CPU"),
            (lambda: gpu.embed(elsewhere), ValueError, "cuda:1.*cuda:0"),
            (lambda: gpu.embed(wide), ValueError, "expected float32 N×3×32×16"),
            (lambda: gpu.embed(double), TypeError, "float32"),
            (lambda: cpu.embed(images(), device_output=True), ValueError, "on the CPU"),
            (lambda: gpu.train_step(there, LABELS + 9, reidc.SGD(gpu, 1)), ValueError, "label")):
        with pytest.raises(kind, match=words):
            call()
    for array in (there, elsewhere, wide, double):
        array.free()
