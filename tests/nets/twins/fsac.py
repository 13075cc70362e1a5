"""Twin of `reidc.FSAC` (spec/fsac.md): ResNet-50-IBN-a with attention, ECA and three fused maps.

The attention builds every head's T x T logits, as the page's formula reads: the position tables are
indexed for each pair of query and key.
"""
import math

import torch
from torch import nn
from torch.nn import functional as F

from . import losses
from .resnet import ResNet

HEADS = 4


class Attention(nn.Module):
    def __init__(self, w, height, width, stride):
        super().__init__()
        self.d, self.stride = w // HEADS, stride
        self.rel_h = nn.Parameter(torch.randn(2 * height - 1, self.d) / math.sqrt(self.d))
        self.rel_w = nn.Parameter(torch.randn(2 * width - 1, self.d) / math.sqrt(self.d))
        self.q, self.k, self.v = (nn.Conv2d(w, w, 1, bias=False) for _ in range(3))

    def products(self, x):
        """q·k and A·v, and q against H + W rows of the tables."""
        n, c, h, w = x.shape
        return n * c * h * w * (2 * h * w + h + w)

    def forward(self, x):
        n, c, h, w = x.shape
        q, k, v = (layer(x).view(n, HEADS, self.d, h * w).transpose(2, 3)
                   for layer in (self.q, self.k, self.v))
        q = q / math.sqrt(self.d)
        t = torch.arange(h * w, device=x.device)
        row, column = t // w, t % w
        rel = (self.rel_h[row[None] - row[:, None] + h - 1]
               + self.rel_w[column[None] - column[:, None] + w - 1])  # query, key, d
        logits = q @ k.transpose(2, 3) + torch.einsum("nhid,ijd->nhij", q, rel)
        self.mask = logits.softmax(3)
        o = (self.mask @ v).transpose(2, 3).reshape(n, c, h, w)
        return F.avg_pool2d(o, 2, 2) if self.stride == 2 else o


class ECA(nn.Module):
    def __init__(self, c):
        super().__init__()
        t = int((math.log2(c) + 1) / 2)
        k = t if t % 2 else t + 1
        self.conv = nn.Conv1d(1, 1, k, padding=(k - 1) // 2, bias=False)

    def forward(self, x):
        self.mask = torch.sigmoid(self.conv(x.mean((2, 3))[:, None]))[:, 0]
        return x * self.mask[:, :, None, None]


class FSAC(nn.Module):
    untrained = ()

    def __init__(self, num_classes, height=256, width=128, *, backbone="resnet50_ibn_a", mhsa=True,
                 eca=True, fusion=True, width_multiplier=1.0):
        super().__init__()
        self.fusion = fusion
        self.backbone = ResNet(backbone, 2, width_multiplier)
        zero = []
        for stage, shrink in ((3, 8), (4, 16)) if mhsa else ():
            h, w = height // shrink, width // shrink
            for j, block in enumerate(getattr(self.backbone, f"layer{stage}")):
                stride = 2 if j == 0 else 1
                block.conv2 = Attention(block.conv2.in_channels, h, w, stride)
                name = f"backbone.layer{stage}.{j}.conv2"
                zero += [f"{name}.rel_h"] * (h == 1) + [f"{name}.rel_w"] * (w == 1)
                h, w = h // stride, w // stride
        self.page_zero = tuple(zero)
        channels = [self.backbone.conv1.out_channels, *self.backbone.channels]
        self.eca = eca
        for i, c in enumerate(channels if eca else [], 1):
            self.add_module(f"eca{i}", ECA(c))
        self.classifier = nn.Linear(sum(channels[2:]) if fusion else channels[4], num_classes)

    def forward(self, images, planes=None):
        b, maps = self.backbone, []
        attend = [getattr(self, f"eca{i}") if self.eca else nn.Identity() for i in range(1, 6)]
        x = b.maxpool(attend[0](torch.relu(b.bn1(b.conv1(images)))))
        for stage in range(1, 5):
            x = attend[stage](getattr(b, f"layer{stage}")(x))
            maps.append(x)
        if self.fusion:
            x = torch.cat([F.max_pool2d(maps[1], 4, 4), F.max_pool2d(maps[2], 2, 2), x], 1)
        f = x.mean((2, 3))
        return {"f": f, "y": self.classifier(f)} if self.training else {"embedding": f}

    def loss(self, out, labels):
        parts = {"id": losses.cross_entropy(out["y"], labels),
                 "triplet": losses.triplet(out["f"], labels, 0.3)}
        return {"total": parts["id"] + parts["triplet"], **parts}
