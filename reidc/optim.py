"""Optimisers with PyTorch's equations, and averages of the weights. The work is in C."""
from contextlib import contextmanager

from reidc import _core


def _pair(betas):
    try:
        first, second = betas
    except (TypeError, ValueError):
        raise _core.ArgumentTypeError(f"betas: expected two numbers, got {betas!r}") from None
    return {"beta1": first, "beta2": second}


class Adam(_core.Optimizer):
    """Adam (Kingma and Ba 2015); `weight_decay` is the L2 term added to the gradient.

    m: the network that is trained. lr: the rate, settable at any time. betas in [0, 1), eps >= 0.
    groups: {name pattern: {"lr_factor": number, "weight_decay": number}}, patterns as in fnmatch
    ("backbone.*"); the first that matches a parameter's name counts; what is left out is the
    optimiser's own. Parameters that a network never trains stay as they are, as do those that
    `network.freeze` names (their steps are counted from when they are trained, as PyTorch does);
    centres of a centre loss (names beginning with `center`) follow their own plain SGD of rate 0.5.
    clip_norm: None, or gradients are multiplied with min(1, clip_norm / (norm + 1e-6)) before each
    step, as PyTorch's clip_grad_norm_ does; norm, which `gradient_norm` tells afterwards, is the
    Euclidean one of all gradients that the step uses, without those of the centres.
    ValueError: numbers out of range, a pattern that matches nothing.
    """

    def __init__(self, m, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, *, groups=None,
                 clip_norm=None):
        super().__init__(m, "adam", lr, eps=eps, weight_decay=weight_decay, groups=groups,
                         clip_norm=clip_norm, **_pair(betas))


class AdamW(_core.Optimizer):
    """Adam with decoupled decay (Loshchilov and Hutter 2019): w <- w (1 - lr weight_decay) first.

    Arguments as Adam's.
    """

    def __init__(self, m, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, *, groups=None,
                 clip_norm=None):
        super().__init__(m, "adamw", lr, eps=eps, weight_decay=weight_decay, groups=groups,
                         clip_norm=clip_norm, **_pair(betas))


class SGD(_core.Optimizer):
    """Gradient descent with momentum as PyTorch has it: the first step's momentum is the gradient.

    momentum >= 0; nesterov needs momentum and no dampening. Other arguments as Adam's.
    """

    def __init__(self, m, lr, momentum=0, nesterov=False, weight_decay=0, *, dampening=0,
                 groups=None, clip_norm=None):
        super().__init__(m, "sgd", lr, momentum=momentum, nesterov=nesterov,
                         weight_decay=weight_decay, dampening=dampening, groups=groups,
                         clip_norm=clip_norm)


class EMA(_core.EMA):
    """An exponential moving average of a network's weights and running statistics.

    network: what is averaged; its weights of now are the start. decay in [0, 1), settable: each
    `update()` does average <- average + (1 - decay) (weights - average). Update it in the step,
    `m.train_step(images, labels, optimizer, ema=ema)`, or by hand after `optimizer.step()`; then

        with ema.applied():
            result = reidc.evaluate(m, dataset)

    tests the average (`apply()` and `restore()` do the same in two calls). It takes as much memory
    as the weights. `state_dict()`, `load_state_dict()` keep it. TypeError, ValueError: arguments.
    """

    def __init__(self, network, decay):
        super().__init__(network, decay)

    @contextmanager
    def applied(self):
        """A `with` block in which the network holds the average."""
        self.apply()
        try:
            yield self.network
        finally:
            self.restore()
