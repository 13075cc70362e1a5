"""Multiply-accumulates of a twin's evaluation, by hooks, in the pages' convention: convolutions,
linear layers, involution taps, and the matrix products that a module tells by `products`."""
import torch
from torch import nn
from twins.mbgn import GSRPA, Involution


def by_kind(net, x):
    """{kind: count}, with `embedding`, its length. `factored`: what takes the place of `maps` and
    `relation` where the relation matrix is never built (the MBGN page, section 2)."""
    found = dict.fromkeys(("layers", "taps", "relation", "maps", "factored", "products"), 0)
    hooks = []

    def layer(m, inputs, out):
        found["layers"] += m.weight.numel() * (out.numel() // out.shape[1] if out.dim() != 3 else
                                               out.numel())

    def involution(m, inputs, out):
        found["taps"] += 49 * out.numel()

    def gsrpa(m, inputs, out):
        p, c8 = out.shape[2] * out.shape[3], m.theta.conv.out_channels
        q = m.map1.conv.out_channels
        found["relation"] += p * p * c8
        found["maps"] += 2 * q * p * p
        found["factored"] += 4 * q * p * c8

    def products(m, inputs, out):
        found["products"] += m.products(inputs[0])

    kinds = {nn.Conv2d: layer, nn.Conv1d: layer, nn.Linear: layer, Involution: involution,
             GSRPA: gsrpa}
    for m in net.modules():
        hook = kinds.get(type(m), products if hasattr(m, "products") else None)
        if hook:
            hooks.append(m.register_forward_hook(hook))
    with torch.no_grad():
        planes = torch.tensor([[1, 2, 3, 4]] * len(x), device="cpu")  # only MBGN heeds them
        found["embedding"] = net.eval()(x, planes)["embedding"].shape[1]
    for hook in hooks:
        hook.remove()
    return found


def macs(net, x):
    """(done literally, factored, length of the embedding)."""
    k = by_kind(net, x)
    literal = k["layers"] + k["taps"] + k["relation"] + k["products"]
    return literal, literal - k["relation"] - k["maps"] + k["factored"], k["embedding"]
