"""The three samplers: what every batch must be, how often images come, and determinism."""
from collections import Counter

import numpy as np
import pytest

from reidc import _core

PK, ONCE, BALANCED = 0, 1, 2


def split(classes=40, seed=0, low=1, high=13, cameras=4):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), rng.integers(low, high, classes))
    labels = rng.permutation(labels)
    return labels, rng.integers(0, cameras, len(labels))


def epoch(labels, camids=None, p=8, k=4, kind=PK, seed=0, number=0):
    return _core._sampler_epoch(labels, camids, int(labels.max()) + 1, p, k, kind, seed, number)


def groups(labels, order, k=4):
    """(identity, its indices) of every group, checking that a group has one identity."""
    assert len(order) % k == 0
    for part in order.reshape(-1, k):
        assert len(set(labels[part])) == 1
        yield labels[part[0]], part.tolist()


def test_pk_batches_have_distinct_identities_and_unused_images():
    labels, _ = split()
    sizes = Counter(labels.tolist())
    for number in range(5):
        order = epoch(labels, number=number)
        assert len(order) % 32 == 0
        for batch in order.reshape(-1, 32):
            assert len(set(labels[batch])) == 8
        seen = {}
        for label, part in groups(labels, order):
            seen.setdefault(label, []).append(part)
        for label, parts in seen.items():
            assert len(parts) <= max(1, sizes[label] // 4)
            flat = [i for part in parts for i in part]
            if sizes[label] >= 4:
                assert len(set(flat)) == len(flat)  # without replacement, no image twice
        left = sum(len(seen.get(c, [])) < max(1, m // 4) for c, m in sizes.items())
        assert left < 8  # it stops only when fewer than P have a group left


def test_pk_draws_identities_and_images_uniformly():
    labels = np.repeat(np.arange(12), 5)  # one group of 4 among 5 images each
    first, left_out = Counter(), Counter()
    for number in range(3000):
        order = epoch(labels, p=4, number=number)
        first.update([int(labels[order[0]])])
        for _, part in groups(labels, order):
            left_out.update(set(range(part[0] // 5 * 5, part[0] // 5 * 5 + 5)) - set(part))
    assert all(abs(first[c] / 3000 - 1 / 12) < 0.025 for c in range(12))
    share = np.array([left_out[i] for i in range(60)]) / sum(left_out.values())
    assert abs(share - 1 / 60).max() < 0.004


def test_pk_replaces_where_there_are_few_images():
    labels = np.array([0, 1, 1, 2, 2, 2, 3, 3, 3, 3])
    order = epoch(labels, p=4)
    parts = dict(groups(labels, order))
    assert len(parts) == 4 and parts[0] == [0] * 4 and sorted(parts[3]) == [6, 7, 8, 9]
    repeats = [len(set(dict(groups(labels, epoch(labels, p=4, number=e)))[2])) for e in range(300)]
    assert {1, 2, 3} == set(repeats)  # a uniform draw with replacement gives each now and then


def test_once_has_every_identity_once_and_keeps_a_last_batch_of_two():
    for classes, length in [(40, 40), (41, 40), (42, 42), (5, 5), (2, 2)]:
        labels, _ = split(classes)
        for number in range(3):
            order = epoch(labels, kind=ONCE, number=number)
            got = [label for label, _ in groups(labels, order)]
            assert len(got) == len(set(got)) == length
            for label, part in groups(labels, order):
                assert len(set(part)) == 4 or (labels == label).sum() < 4
    orders = {tuple(epoch(labels, kind=ONCE, number=e)) for e in range(20)}
    assert len(orders) > 5


def test_balanced_takes_other_cameras():
    labels, camids = split(60, high=15, cameras=3)
    camids[labels % 4 == 0] = 1  # some identities under one camera only
    kinds = Counter()
    for number in range(20):
        order = epoch(labels, camids, kind=BALANCED, number=number)
        got = [label for label, _ in groups(labels, order)]
        assert len(got) == len(set(got)) == 60 // 8 * 8
        for label, (first, *others) in groups(labels, order):
            mine = np.flatnonzero(labels == label)
            elsewhere = mine[camids[mine] != camids[first]]
            if len(elsewhere):
                kinds["other"] += 1
                assert set(others) <= set(elsewhere.tolist())
                assert len(elsewhere) < 4 or len(set(others)) == 3
            elif len(mine) > 1:
                kinds["same"] += 1
                assert first not in others
                assert len(mine) <= 4 or len(set(others)) == 3
            else:
                kinds["alone"] += 1
                assert others == [first] * 3
    assert set(kinds) == {"other", "same", "alone"}


@pytest.mark.parametrize("kind", [PK, ONCE, BALANCED])
def test_deterministic_in_seed_and_epoch(kind):
    labels, camids = split()
    one = epoch(labels, camids, kind=kind, seed=5, number=3)
    assert one.dtype == np.int64
    assert np.array_equal(one, epoch(labels, camids, kind=kind, seed=5, number=3))
    for other in (dict(seed=6, number=3), dict(seed=5, number=4)):
        changed = epoch(labels, camids, kind=kind, **other)
        assert len(changed) != len(one) or not np.array_equal(one, changed)


def test_pk_equals_a_plain_python_version():
    labels, _ = split(25, seed=3)

    def check(seed, number, p, k):
        drawn = 0

        def below(n):
            nonlocal drawn
            drawn += 1
            return ((_core._random(seed, 33, number, drawn - 1, 0, 0) >> 40) * n) >> 24

        def shuffle(items, count):
            for i in range(min(count, len(items))):
                j = i + below(len(items) - i)
                items[i], items[j] = items[j], items[i]

        queues = {}
        for c in range(25):
            mine = np.flatnonzero(labels == c).tolist()
            if len(mine) < k:
                mine = [mine[below(len(mine))] for _ in range(k)]
            shuffle(mine, len(mine))
            queues[c] = [mine[i:i + k] for i in range(0, len(mine) - k + 1, k)]
        alive, order = list(range(25)), []
        while len(alive) >= p:
            shuffle(alive, p)
            for c in alive[:p]:
                order += queues[c].pop(0)
            alive = [c for c in alive if queues[c]]
        assert order == epoch(labels, p=p, k=k, seed=seed, number=number).tolist()

    for seed in range(4):
        check(seed, 7 * seed, 6, 4)
        check(seed, seed, 25, 1)
        check(2 ** 64 - 1 - seed, seed, 3, 16)


def test_wrong_inputs_are_refused():
    labels, camids = split(10)
    for change, word in [(dict(p=11), "at most 10"), (dict(p=0), "identities"),
                         (dict(k=0), "images"),
                         (dict(p=1 << 40, k=1 << 40), "identities"),
                         (dict(kind=BALANCED), "cameras")]:
        with pytest.raises(ValueError, match=word):
            epoch(labels, **change)
    with pytest.raises(ValueError, match="labels"):
        _core._sampler_epoch(labels, None, 5, 2, 2, PK, 0, 0)
    with pytest.raises(ValueError, match="camids"):
        epoch(labels, camids[:-1])
    with pytest.raises(ValueError, match="training split"):
        _core._sampler_epoch(labels[:0], None, 5, 2, 2, PK, 0, 0)
    with pytest.raises(ValueError, match="at most 1"):
        epoch(np.zeros(9, np.int64), kind=ONCE)
    with pytest.raises(TypeError, match="labels"):
        epoch(labels.astype(np.float64))
    before, failures = _core._memory_live(), 0
    for n in range(1, 30):
        _core._memory_fail_after(n)
        try:
            epoch(labels)
        except MemoryError:
            failures += 1
        finally:
            _core._memory_fail_after(-1)
        assert _core._memory_live() == before
    assert 5 < failures < 29


def test_split_permutation():
    for n in (0, 1, 2, 100):
        order = _core._split_permutation(n, 4)
        assert sorted(order.tolist()) == list(range(n))
    first = Counter(int(_core._split_permutation(6, s)[0]) for s in range(3000))
    assert all(abs(first[i] / 3000 - 1 / 6) < 0.03 for i in range(6))
