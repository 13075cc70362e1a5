"""reidc.schedules against the formulas and the numbers on the pages."""
from math import cos, pi

import pytest

import reidc
from reidc import schedules as s


def rates(schedule, *epochs):
    return [schedule(e) for e in epochs]


def close(got, want):
    assert got == pytest.approx(want, rel=1e-12, abs=0)


def test_multistep_counts_milestones_up_to_and_with_e():
    close(rates(s.multistep(1.0, (70, 40)), 0, 39, 40, 69, 70, 119), [1, 1, .1, .1, .01, .01])
    close(rates(s.multistep(2e-4, (320, 370)), 319, 320, 370), [2e-4, 2e-5, 2e-6])


def test_warmup_factors():
    flat = s.constant(2.0)
    close(rates(s.warmup(flat, 10, 0.01), 0, 1, 5, 10, 11), [.02, .218, 1.01, 2, 2])
    close(rates(s.warmup(flat, 10, 0.1, "constant"), 0, 9, 10), [.2, .2, 2])
    close(rates(s.warmup(flat, 10, 0.01, "exponential"), 0, 5, 9.5, 10),
          [.02, .2, 2 * .01 ** .05, 2])
    # multiplied onto the schedule, which runs on underneath
    close(rates(s.warmup(s.multistep(1.0, (2,)), 4, 0.0), 1, 2, 3, 4), [.25, .05, .075, .1])


def test_warmup_counted_in_iterations():
    factor = s.warmup_factor(2000, 0.1)
    close([factor(t) for t in (0, 1000, 1999, 2000, 9999)],
          [.1, .55, .1 / 2000 + 1999 / 2000, 1, 1])


def test_exponential_with_hold_is_the_mbgn_pages():
    rate = s.exponential(2e-4, 0.98, hold=40)
    close(rates(rate, 0, 39, 40, 41, 159),
          [2e-4, 2e-4, 2e-4 * .98, 2e-4 * .98 ** 2, 2e-4 * .98 ** 120])


def test_cosine():
    rate = s.cosine(3.5e-4, 120, 7e-7, delay=30)
    close(rates(rate, 0, 29, 30, 75, 120), [3.5e-4] * 3 + [(3.5e-4 + 7e-7) / 2, 7e-7])
    close(s.cosine(1.0, 10)(3), (1 + cos(.3 * pi)) / 2)
    # warm-up multiplies
    close(s.warmup(rate, 10, 0.1)(5), 3.5e-4 * .55)


def test_warmup_from_an_absolute_rate():
    rate = s.warmup_from(s.multistep(0.01, (5, 60), 0.5), 10, 3e-4, 0.01)
    close(rates(rate, 0, 5, 10, 60), [3e-4, .00515, .005, .0025])


def test_strong_baseline_runs_its_first_epoch_with_e_1():
    rate = s.strong_baseline()
    assert f"{rate(0):.3e}" == "3.815e-05"
    close(rates(rate, 8, 9, 38, 39, 68, 69), [3.5e-4 * (.001 + .9), 3.5e-4, 3.5e-4, 3.5e-5,
                                              3.5e-5, 3.5e-6])


def test_hamr():
    paper = s.hamr()  # epochs counted from 1 on the page: e = 0 here is its first
    close(rates(paper, 0, 9, 10, 59, 60, 89, 90, 119, 120, 149),
          [3e-5, 3e-4, .01, .01, .005, .005, .0025, .0025, .00125, .00125])
    script = s.hamr(form="linear")
    close(rates(script, 0, 5, 10, 59, 60, 90, 120), [3e-4, .00515, .01, .01, .005, .0025, .00125])


@pytest.mark.parametrize("words, call", [
    ("base", lambda: s.constant(-1)),
    ("base", lambda: s.multistep(float("nan"), ())),
    ("milestones", lambda: s.multistep(1, (-3,))),
    ("epochs", lambda: s.cosine(1, 30, delay=30)),
    ("epochs", lambda: s.warmup(s.constant(1), 0, 0.1)),
    ("factor", lambda: s.warmup(s.constant(1), 5, 0, "exponential")),
    ("kind", lambda: s.warmup(s.constant(1), 5, 0.1, "sine")),
    ("form", lambda: s.hamr(form="both")),
    ("epoch", lambda: s.multistep(1, (5,))(-1)),
    ("epoch", lambda: s.constant(1)(float("nan"))),
    ("epoch", lambda: s.strong_baseline()(-0.5)),
])
def test_wrong_settings(words, call):
    with pytest.raises(ValueError, match=f"^{words}: ") as caught:
        call()
    assert isinstance(caught.value, reidc.Error)


@pytest.mark.parametrize("words, call", [
    ("base", lambda: s.constant("much")), ("milestones", lambda: s.multistep(1, 5)),
    ("milestones", lambda: s.multistep(1, (None,))), ("epoch", lambda: s.constant(1)(None)),
])
def test_settings_of_a_wrong_kind(words, call):
    with pytest.raises(TypeError, match=f"^{words}: expected ") as caught:
        call()
    assert isinstance(caught.value, reidc.Error)
