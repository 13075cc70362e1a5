"""Twin of `reidc.MFA` (spec/mfa.md): CPAA after three layers, branches with GeM, guides, centres.

CPAA is written with the page's letters on C x M matrices.
"""
import math

import torch
from torch import nn

from . import losses
from .resnet import ResNet


class CPAA(nn.Module):
    def __init__(self, c, parts, scale):
        super().__init__()
        self.channel_part, self.point_part = parts != "point", parts != "channel"
        self.scale = scale
        if self.channel_part:
            self.beta = nn.Parameter(torch.zeros(1))
        if self.point_part:
            self.gamma = nn.Parameter(torch.zeros(1))
            self.query, self.key = nn.Conv2d(c, c // 8, 1), nn.Conv2d(c, c // 8, 1)
            self.value = nn.Conv2d(c, c, 1, groups=8)

    def products(self, a):
        n, c, m = len(a), a.shape[1], a.shape[2] * a.shape[3]
        return n * (self.channel_part * 2 * c * c * m + self.point_part * m * m * (c // 8 + c))

    def forward(self, a):
        size, c = a.shape[2:], a.shape[1]
        if self.channel_part:
            x = a.flatten(2)
            e = x @ x.transpose(1, 2)
            if self.scale:
                e = e / x.shape[2]
            self.channel = (e.amax(2, keepdim=True).detach() - e).softmax(2)
            a = (self.beta * (self.channel @ x) + x).unflatten(2, size)
        if not self.point_part:
            return a
        q, k, v = (layer(a).flatten(2) for layer in (self.query, self.key, self.value))
        g = q.transpose(1, 2) @ k
        if self.scale:
            g = g / math.sqrt(c // 8)
        self.point = g.softmax(2)
        return self.gamma * (v @ self.point.transpose(1, 2)).unflatten(2, size) + a


class GeM(nn.Module):
    def __init__(self):
        super().__init__()
        self.p = nn.Parameter(torch.full((1,), 3.0))

    def forward(self, x):
        t = x.clamp(min=1e-6).flatten(2)
        top = t.amax(2, keepdim=True).detach()
        return (top * ((t / top) ** self.p).mean(2, keepdim=True) ** (1 / self.p)).flatten(1)


class Branch(nn.Module):
    def __init__(self, c, pool):
        super().__init__()
        w = c // 16
        self.conv1, self.bn1 = nn.Conv2d(c, w, 1, bias=False), nn.BatchNorm2d(w)
        self.conv2, self.bn2 = nn.Conv2d(w, w, 3, padding=1, bias=False), nn.BatchNorm2d(w)
        self.conv3, self.bn3 = nn.Conv2d(w, c, 1, bias=False), nn.BatchNorm2d(c)
        if pool == "gem":
            self.gem = GeM()

    def forward(self, f):
        y = torch.relu(self.bn1(self.conv1(f)))
        y = torch.relu(self.bn2(self.conv2(y)))
        y = torch.relu(self.bn3(self.conv3(y)) + f)
        self.map = None if self.training else y  # for explain.py
        return self.gem(y) if hasattr(self, "gem") else y.mean((2, 3))


class MFA(nn.Module):
    def __init__(self, num_classes, height=256, width=128, *, backbone="resnet50",
                 width_multiplier=1.0, cpaa=(2, 3, 4), cpaa_parts="both", cpaa_scale=False,
                 local_branches=True, regions=4, gla=True, pool="gem", label_smooth=0.1,
                 triplet=True, center=True, w_center=0.0005, w_gla=1.0):
        super().__init__()
        if gla and not local_branches:
            raise ValueError("gla: needs local_branches")
        self.local_branches, self.use_gla = local_branches, gla
        self.label_smooth, self.use_triplet = label_smooth, triplet
        self.w_center, self.w_gla = w_center, w_gla
        self.backbone = ResNet(backbone, 1, width_multiplier)
        c = self.backbone.channels[3]
        self.n = regions if local_branches else 1
        self.center_weight = w_center / self.n  # what one set of centres counts in the total
        self.cpaa = nn.ModuleDict({str(s): CPAA(self.backbone.channels[s - 1], cpaa_parts,
                                                cpaa_scale) for s in sorted(cpaa)})
        if local_branches:
            self.branch = nn.ModuleList(Branch(c, pool) for _ in range(self.n))
        self.bnneck = nn.ModuleList(nn.BatchNorm1d(c) for _ in range(self.n))
        for neck in self.bnneck:
            neck.bias.requires_grad_(False)
        self.classifier = nn.ModuleList(nn.Linear(c, num_classes, bias=False)
                                        for _ in range(self.n))
        if center:
            self.center = nn.ParameterList(torch.randn(num_classes, c) for _ in range(self.n))
        self.untrained = tuple(f"bnneck.{i}.bias" for i in range(self.n))
        self.page_zero = ()
        if cpaa_parts != "channel":
            bottleneck = backbone not in ("resnet18", "resnet34")  # 1x1 before the next norm
            self.page_zero = tuple(f"cpaa.{s}.key.bias" for s in sorted(cpaa)) + tuple(
                f"cpaa.{s}.value.bias" for s in sorted(cpaa) if s < 4 and bottleneck)

    def after(self, stage, y):
        return self.cpaa[str(stage)](y) if str(stage) in self.cpaa else y

    def forward(self, images, planes=None):
        f = self.backbone(images, self.after)
        feats = [b(f) for b in self.branch] if self.local_branches else [f.mean((2, 3))]
        necks = [neck(feat) for neck, feat in zip(self.bnneck, feats)]
        if not self.training:
            y = torch.cat(necks, 1)
            return {"embedding": y / y.norm(dim=1, keepdim=True).clamp(min=1e-12)}
        out = {f"feat_{i}": v for i, v in enumerate(feats)}
        out |= {f"logit_{i}": self.classifier[i](v) for i, v in enumerate(necks)}
        if self.local_branches:
            h, n = f.shape[2], self.n
            out |= {f"region_{i}": f[:, :, i * h // n:math.ceil((i + 1) * h / n)].mean((2, 3))
                    for i in range(n)}
        return out

    def loss(self, out, labels):
        def mean(part):
            return sum(part(i) for i in range(self.n)) / self.n

        def gla(i):
            u, w = (v / v.norm(dim=1, keepdim=True).clamp(min=1e-12)
                    for v in (out[f"feat_{i}"], out[f"region_{i}"].detach()))
            return (1 - (u * w).sum(1)).mean()

        parts = {"id": mean(lambda i: losses.cross_entropy(out[f"logit_{i}"], labels,
                                                           self.label_smooth))}
        total = parts["id"]
        if self.use_triplet:
            parts["triplet"] = mean(lambda i: losses.triplet(out[f"feat_{i}"], labels, None))
            total = total + parts["triplet"]
        if hasattr(self, "center"):
            parts["center"] = mean(lambda i: losses.center(out[f"feat_{i}"], labels,
                                                           self.center[i]))
            total = total + self.w_center * parts["center"]
        if self.use_gla:
            parts["gla"] = mean(gla)
            total = total + self.w_gla * parts["gla"]
        return {"total": total, **parts}
