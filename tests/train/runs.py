"""Short runs for the tests of the trainer: recipe, network, all that a run depends on, Ctrl-C."""
import json
import os
import signal

import pytest

import reidc

RECIPE = {
    "epochs": 2, "identities": 4, "images": 2, "seed": 3, "per_step": True,
    "optimizer": {"lr": 1e-3, "weight_decay": 1e-4},
    "schedule": {"kind": "cosine", "warmup": {"epochs": 1, "factor": 0.1}},
    "augment": {"pad": 4, "erasing": "sb"}, "sampler": "once",
}


def network(seed=5, threads=None):
    return reidc.MBGN(12, 96, 32, backbone="resnet18", width_multiplier=0.25, seed=seed,
                      threads=threads)


def bits(t):
    """Everything that the rest of a run depends on."""
    state = t.optimizer.state_dict()
    moments = {f"m/{name}": a.tobytes() for name, a in state.pop("state").items()}
    average = t.ema.state_dict() if t.ema else {"state": {}}
    moments.update({f"ema/{name}": a.tobytes() for name, a in average.pop("state").items()})
    return {"average": average, **moments,
            **{k: v.tobytes() for k, v in t.model.state_dict().items()},
            "plain": json.dumps(state), "step": t.model.step, "loader": t.loader.state_dict(),
            "iteration": t.iteration}


def losses(t):
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")}
            for row in t.history]


def stop_at(t, when, raising, resume=False):
    """Deliver SIGINT in the step of this number: inside the call, or before or after it."""
    own, count = type(t.model), [0]

    class Model(own):
        def train_step(self, *arguments, **options):
            count[0] += 1
            if count[0] == when and raising == "before":
                os.kill(os.getpid(), signal.SIGINT)
            parts = own.train_step(self, *arguments, **options)
            if count[0] == when and raising == "after":
                os.kill(os.getpid(), signal.SIGINT)
            return parts

    t.model.__class__ = Model
    with pytest.raises(KeyboardInterrupt):
        t.fit(resume=resume)
