"""The published recipes as plain data: each paper's, and the field's two baselines', by data set.

A paper trains alike on every data set, so a recipe is written once. Where a number comes from:
the recipe section of the system's page (`spec/`), and what that leaves open, common.md 2 to 5; of
"sbs" fast-reid's configuration files. docs/training.md has them in a table, with what is left out.
Keys that are not here have the values of `reidc.recipe.DEFAULTS`.
"""
_ADAM = {"kind": "adam", "lr": 3.5e-4, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 5e-4}
_SGD = {"kind": "sgd", "lr": 0.01, "momentum": 0.9, "nesterov": True, "dampening": 0,
        "weight_decay": 5e-4}
_BATCH = {"identities": 16, "images": 4, "sampler": "pk"}
_MIRROR = {"mirror": 0.5, "pad": 0}
_CROP = {"mirror": 0.5, "pad": 10}
_LARGE, _MIDDLE = {"height": 384, "width": 128}, {"height": 256, "width": 128}
# reid-strong-baseline's, whose first epoch runs with e = 1: 3.815e-5
_STRONG = {"kind": "strong_baseline", "milestones": [40, 70], "gamma": 0.1, "epochs": 10,
           "factor": 0.01}

PAPERS = {
    # Mo et al.: the paper's Adam, whose second beta is 0.99, and half the usual batch; each
    # identity once an epoch.
    "mgaf": {
        "system": "mgaf", "options": _LARGE, "epochs": 400,
        "identities": 8, "images": 4, "sampler": "once",
        "optimizer": {**_ADAM, "lr": 2e-4, "betas": [0.9, 0.99]},
        "schedule": {"kind": "multistep", "milestones": [320, 370], "gamma": 0.1},
        "augment": {**_MIRROR, "erasing": "zero", "erase": 0.5},
    },
    # The paper's SGD and its equation (5); nesterov, augmentation and erasing from its script.
    # form 'linear' is the script's warm-up (the page's warmup='linear'), and
    # optimizer.momentum_reset 'epoch' what its new SGD in every epoch comes to.
    "hamr": {
        "system": "hamr", "options": _LARGE, "epochs": 150, **_BATCH,
        "optimizer": _SGD,
        "schedule": {"kind": "hamr", "milestones": [60, 90, 120], "gamma": 0.5, "epochs": 10,
                     "begin": 3e-4, "form": "paper"},
        "augment": {**_MIRROR, "erasing": "zero", "erase": 0.5},
    },
    # Tu, Guan, Kuang 2022, with the MGN code's settings where the paper is silent.
    "mbgn": {
        "system": "mbgn", "options": _LARGE, "epochs": 160, **_BATCH,
        "optimizer": {**_ADAM, "lr": 2e-4},
        "schedule": {"kind": "exponential", "gamma": 0.98, "hold": 40},
        "augment": {**_MIRROR, "erasing": "zero", "erase": 0.5},
    },
    # The paper's Adam and batch, the rest "bag of tricks". The centres' own SGD of rate 0.5 is in
    # every optimiser (common.md 1).
    "mfa": {
        "system": "mfa", "options": _MIDDLE, "epochs": 120, **_BATCH,
        "optimizer": _ADAM, "schedule": _STRONG,
        "augment": {**_CROP, "erasing": "sb", "erase": 0.5},
    },
    # The paper gives losses, data and input size only: a plain baseline's rest, without warm-up
    # and erasing.
    "fsac": {
        "system": "fsac", "options": _MIDDLE, "epochs": 120, **_BATCH,
        "optimizer": _ADAM,
        "schedule": {"kind": "multistep", "milestones": [40, 70], "gamma": 0.1},
        "augment": {**_CROP, "erasing": None},
    },
    # Luo et al. 2019, "bag of tricks" (common.md 10).
    "bot": {
        "system": "baseline", "options": _MIDDLE, "epochs": 120, **_BATCH,
        "optimizer": _ADAM, "schedule": _STRONG,
        "augment": {**_CROP, "erasing": "sb", "erase": 0.5},
    },
    # fast-reid's "stronger baseline" (He et al. 2020): its Base-SBS and Base-bagtricks files.
    "sbs": {
        "system": "baseline",
        "options": {**_LARGE, "pool": "gem", "head": "circle", "non_local": True,
                    "triplet_on": "bnneck", "spread": "others", "margin": None,
                    "label_smooth": 0.1},
        "epochs": 60, "identities": 4, "images": 16, "sampler": "pk",
        "optimizer": _ADAM,
        "schedule": {"kind": "cosine", "eta_min": 7e-7, "delay": 30,
                     "warmup": {"iterations": 2000, "factor": 0.1, "kind": "linear"}},
        "augment": {**_CROP, "erasing": "fast-reid", "erase": 0.5},
        "freeze": {"layers": ["backbone.*"], "iterations": 1000},
    },
}

# What was published with the recipe: (mAP, rank-1) in per cent, without re-ranking, single query;
# None: no figure. cuhk03: CUHK03-NP labelled (767/700), where a page tells the two apart. Of bot
# on market1501 and duke the paper's ResNet-50, of sbs fast-reid's model zoo (SBS, R50).
RESULTS = {
    "mgaf": {"market1501": (88.42, 95.82), "duke": (78.86, 88.83), "cuhk03": (76.70, 78.94),
             "cuhk03-detected": (76.30, 78.39)},
    "hamr": {"market1501": (87.7, 95.7), "duke": (80.2, 90.2), "cuhk03": (76.2, 80.3),
             "cuhk03-detected": (72.5, 77.5), "msmt17": (57.6, 79.6)},
    "mbgn": {"market1501": (92.3, 96.5), "duke": None, "cuhk03": (77.4, 80.2)},
    "mfa": {"market1501": (88.6, 95.8), "duke": (81.4, 90.1), "cuhk03": (79.5, 81.2),
            "msmt17": (64.7, 84.1)},
    "fsac": {"market1501": (82.4, 94.8), "duke": (65.9, 84.5), "cuhk03": None},
    "bot": {"market1501": (85.9, 94.5), "duke": (76.4, 86.4), "cuhk03": None, "msmt17": None},
    "sbs": {"market1501": (88.2, 95.4), "duke": (80.3, 90.3), "msmt17": (58.4, 81.8)},
}

PUBLISHED = {f"{paper}-{data}": PAPERS[paper] for paper, sets in RESULTS.items() for data in sets}


def result(name):
    """(mAP, rank-1) in per cent that was published for a recipe's name, or None."""
    paper, _, data = name.partition("-")
    return RESULTS.get(paper, {}).get(data)
