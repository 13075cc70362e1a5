"""Grad-CAM and attention of a twin by autograd, from spec/common.md 8 and the systems' pages.

Every module's output is noted by a hook (a copy of it goes on, so that nothing in place can change
what was noted); the maps that are no module's output the twins keep themselves (`map`, `maps`,
`mask`). `Explainer.grad_cam` takes what `reidc.Network.grad_cam` takes, `layer` always by name.
"""
import re

import torch
from torch.nn import functional as F


def note(net, images, logits):
    """One evaluation forward -> (outputs, {layer: map}); logits: those of training, too."""
    seen, handles = {}, []

    def hook(name):
        def keep(module, inputs, output):
            if isinstance(output, torch.Tensor):
                seen[name] = output.clone()
                return seen[name].clone()
        return keep

    for name, module in net.named_modules():
        if name:
            handles.append(module.register_forward_hook(hook(name)))
    net.eval()
    net.training = logits  # of the outputs alone: the norms stay in evaluation
    out = net(images)
    for handle in handles:
        handle.remove()
    for name, module in net.named_modules():
        if getattr(module, "map", None) is not None and name:
            seen[name] = module.map
        if isinstance(getattr(module, "mask", None), torch.Tensor):
            seen[f"{name}.mask"] = module.mask
        for key, value in getattr(module, "maps", {}).items():
            seen[f"{name}.{key}" if name else key] = value
    return out, seen


def heads(out):
    return {k: v for k, v in out.items() if k.split("_")[0].startswith(("logit", "y"))}


def scaled(m, size):
    low, high = m.amin((1, 2), keepdim=True), m.amax((1, 2), keepdim=True)
    m = (m - low) / (high - low).clamp(min=1e-8)
    return F.interpolate(m[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def is_embedding(target):
    """Whether the score is one of the embedding: 'norm' or references."""
    return isinstance(target, str) or torch.is_tensor(target) and target.is_floating_point()


def score(out, target, head, layer):
    """y of every image, N."""
    if not is_embedding(target):
        z = heads(out)
        mean = sum(z.values()) / len(z)
        c = mean.argmax(1) if target is None else torch.as_tensor(target).expand(len(mean))
        own = "logit_" + layer[7:] if re.fullmatch(r"branch\.\d+", layer) else None  # MFA page
        y = z[head or own] if head or own else mean
        return y[torch.arange(len(y)), c]
    f = out["embedding"]
    if isinstance(target, str):
        return 0.5 * (f ** 2).sum(1)
    return F.cosine_similarity(f, target.expand_as(f).to(f.dtype), eps=1e-12)


class Explainer:
    """grad_cam of one network and batch; its two forwards are run once."""

    def __init__(self, net, images):
        self.size = images.shape[2:]
        self.noted = {logits: note(net, images, logits) for logits in (False, True)}

    def grad_cam(self, target, layer, head=None, method="gradcam"):
        layers = [layer] if isinstance(layer, str) else layer  # several: added up (the MFA page)
        out, seen = self.noted[not is_embedding(target)]
        total = 0
        for name in layers:
            a = seen[name]
            if method == "activation":
                total = total + (a ** 2).sum(1)
                continue
            y = score(out, target, head, name).sum()
            g, = torch.autograd.grad(y, a, retain_graph=True, allow_unused=True)
            g = torch.zeros_like(a) if g is None else g
            total = total + torch.relu((g.mean((2, 3), keepdim=True) * a).sum(1))
        if method == "activation":
            total = F.normalize(total.flatten(1), dim=1).view_as(total)
        return scaled(total, self.size).detach()


def attention(net, images):
    """As reidc.Network.attention, for the modules that there are."""
    with torch.no_grad():
        out, _ = note(net, images, logits=True)
    found = {}
    for name, module in net.named_modules():
        if isinstance(getattr(module, "mask", None), torch.Tensor):
            mask = module.mask
            found[name] = mask[:, 0] if mask.ndim == 4 and mask.shape[1] == 1 else mask
        for part in ("channel", "point"):
            if isinstance(getattr(module, part, None), torch.Tensor):
                found[f"{name}.{part}"] = getattr(module, part)
    if "planes" in out:
        found["planes"] = out["planes"]
    return found
