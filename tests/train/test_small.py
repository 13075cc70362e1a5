"""The small recipes: from fresh weights a network learns to tell people apart whom it never saw."""
import inspect

import pytest

import reidc
from reidc.networks import SYSTEMS
from reidc.small import NARROW, SMALL

# mAP on unseen people that four epochs must reach; behind it what they did reach. Chance is 0.01,
# drawn people ranked by their colours reach 0.04, a fresh network 0.04 to 0.08.
BOUND = {"baseline": 0.3,
         "mbgn": 0.15,  # 0.227
         "hamr": 0.3,   # 0.562
         "mgaf": 0.15,  # 0.267
         "mfa": 0.3}    # 0.438
LEARNERS = tuple(BOUND)  # FSAC begins to learn after five


def test_the_switches_are_those_of_the_page():
    assert sorted(SMALL) == sorted(f"{system}-small" for system in SYSTEMS)
    for system in SYSTEMS:
        recipe = reidc.recipes.get(f"{system}-small")
        assert recipe["system"] == system
        defaults = inspect.signature(SYSTEMS[system]).parameters
        changed = {key for key, value in recipe["options"].items()
                   if value != defaults[key].default}
        assert changed - set(NARROW) == {"mbgn": {"num_attention", "dropout"},
                                         "fsac": {"zero_init_residual"}}.get(system, set())


@pytest.mark.slow
@pytest.mark.parametrize("system", LEARNERS)
def test_a_few_epochs_teach(system, tmp_path):
    recipe = reidc.recipes.get(f"{system}-small").set("epochs", 4).set("evaluate_every", 4)
    data = reidc.datasets.Synthetic("small", seed=1)
    m = reidc.build_model(system, data.num_classes, **recipe["options"])
    before = reidc.evaluate(m, data).mAP
    history = reidc.Trainer(m, data, recipe, tmp_path, log=lambda line: None).fit()
    loss = [row["total"] for row in history]
    assert before < 0.1, before
    assert loss == sorted(loss, reverse=True), loss
    assert history[-1]["mAP"] > BOUND[system], history[-1]
