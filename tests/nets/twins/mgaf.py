"""Twin of `reidc.MGAF` (spec/mgaf.md): three branches after layer2, a non-local block on each.

The block is written with the page's letters: x of C×T, S = θᵀφ, A = softmax of its rows, y = g·Aᵀ.
"""
import torch
from torch import nn

from . import losses
from .resnet import ResNet

LAYOUT = {"small": (2, 2, 0), "medium": (2, 1, 2), "large": (1, 1, 3)}


class NonLocal(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.theta, self.phi, self.g = (nn.Conv2d(c, c // 2, 1, bias=False) for _ in range(3))
        self.w, self.bn = nn.Conv2d(c // 2, c, 1, bias=False), nn.BatchNorm2d(c)

    def products(self, x):
        """Multiply-accumulates of the two matrix products."""
        return 2 * len(x) * (x.shape[2] * x.shape[3]) ** 2 * (x.shape[1] // 2)

    def forward(self, x):
        theta, phi, g = (layer(x).flatten(2) for layer in (self.theta, self.phi, self.g))
        self.mask = (theta.transpose(1, 2) @ phi).softmax(2)
        y = g @ self.mask.transpose(1, 2)
        return x + self.bn(self.w(y.unflatten(2, x.shape[2:])))


class Reduce(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(c, 256, 1, bias=False), nn.BatchNorm2d(256)

    def forward(self, p):
        return torch.relu(self.bn(self.conv(p[:, :, None, None]))).flatten(1)


def with_stride(stage, stride):
    """The stage, its first block at that stride."""
    block = stage[0]
    wide = block.conv2 if block.expansion == 4 else block.conv1
    wide.stride = block.downsample[0].stride = (stride, stride)
    return stage


class Branch(nn.Module):
    def __init__(self, num_classes, backbone, width_multiplier, name, attention):
        super().__init__()
        stride3, stride4, self.stripes = LAYOUT[name]
        own = ResNet(backbone, 1, width_multiplier)
        self.layer3 = with_stride(own.layer3, stride3)
        self.layer4 = with_stride(own.layer4, stride4)
        c = own.channels[3]
        if attention:
            self.attention = NonLocal(c)
        self.reduce = nn.ModuleList(Reduce(c) for _ in range(1 + self.stripes))
        self.classifier = nn.ModuleList(nn.Linear(256, num_classes)
                                        for _ in range(1 + self.stripes))

    def forward(self, x):
        m = self.layer4(self.layer3(x))
        if hasattr(self, "attention"):
            m = self.attention(m)
        self.map = None if self.training else m  # for explain.py
        pools = [m] + [m[:, :, i * m.shape[2] // self.stripes:(i + 1) * m.shape[2] // self.stripes]
                       for i in range(self.stripes)]
        return [reduce(p.flatten(2).max(2).values) for reduce, p in zip(self.reduce, pools)]


class MGAF(nn.Module):
    untrained = ()

    def __init__(self, num_classes, height=384, width=128, *, backbone="resnet50",
                 width_multiplier=1.0, small=True, medium=True, large=True, attention=True):
        super().__init__()
        self.backbone = ResNet(backbone, 1, width_multiplier)
        del self.backbone.layer3, self.backbone.layer4
        self.names = [k for k, on in zip(LAYOUT, (small, medium, large)) if on]
        for k in self.names:
            self.add_module(k, Branch(num_classes, backbone, width_multiplier, k, attention))
        blocks = len(getattr(self, self.names[0]).layer4)
        last = f"layer4.{blocks - 1}." + ("bn2" if backbone in ("resnet18", "resnet34") else "bn3")
        self.page_zero = tuple(f"{k}.{'attention.bn' if attention else last}.bias"
                               for k in self.names)

    def forward(self, images, planes=None):
        b = self.backbone
        x = b.layer2(b.layer1(b.maxpool(torch.relu(b.bn1(b.conv1(images))))))
        v = {k: getattr(self, k)(x) for k in self.names}
        if not self.training:
            return {"embedding": torch.cat([v[k][0] for k in self.names]
                                           + [p for k in self.names for p in v[k][1:]], 1)}
        out = {f"f_{k}": v[k][0] for k in self.names}
        for k in self.names:
            for i, (p, layer) in enumerate(zip(v[k], getattr(self, k).classifier)):
                out[f"y_{k}_{i}"] = layer(p)
        return out

    def loss(self, out, labels):
        ids = [losses.cross_entropy(y, labels) for k, y in out.items() if k.startswith("y_")]
        tri = [losses.triplet(f, labels, 1.2) for k, f in out.items() if k.startswith("f_")]
        parts = {"id": sum(ids) / len(ids), "triplet": sum(tri) / len(tri)}
        return {"total": parts["id"] + parts["triplet"], **parts}
