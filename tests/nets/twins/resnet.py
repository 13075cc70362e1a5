"""ResNet twins: torchvision's layers and names, the last stage's stride and the width are free.

`ResNet(depth or 'resnet50_ibn_a', last_stride, width_multiplier)`; forward gives the four stages'
outputs through `after`, a function (stage, tensor) -> tensor that MBGN hangs its modules on. The
stride of a bottleneck sits in its 3x3 convolution. IBN-a: in stages 1 to 3 the first norm of a
block is an instance norm on the first half of the channels (`bn1.IN`) beside a batch norm on the
others (`bn1.BN`), with the names of the IBN-Net authors.
"""
import torch
from torch import nn

LAYERS = {
    "resnet18": ("basic", (2, 2, 2, 2)),
    "resnet34": ("basic", (3, 4, 6, 3)),
    "resnet50": ("bottleneck", (3, 4, 6, 3)),
    "resnet101": ("bottleneck", (3, 4, 23, 3)),
    "resnet152": ("bottleneck", (3, 8, 36, 3)),
    "resnet50_ibn_a": ("bottleneck", (3, 4, 6, 3)),
}


def scaled(channels, multiplier):
    """8 * max(1, round(c * w / 8)), half to even (spec/api.md, Networks)."""
    return 8 * max(1, round(channels * multiplier / 8))


def conv(cin, cout, kernel, stride=1):
    return nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=False)


class IBN(nn.Module):
    """Instance norm on the first half of the channels, batch norm on the rest."""

    def __init__(self, channels):
        super().__init__()
        self.half = channels // 2
        self.IN = nn.InstanceNorm2d(self.half, affine=True)
        self.BN = nn.BatchNorm2d(channels - self.half)

    def forward(self, x):
        a, b = x[:, :self.half], x[:, self.half:]
        return torch.cat([self.IN(a.contiguous()), self.BN(b.contiguous())], 1)


def down(cin, cout, stride):
    return nn.Sequential(conv(cin, cout, 1, stride), nn.BatchNorm2d(cout))


class Basic(nn.Module):
    expansion = 1

    def __init__(self, cin, width, stride, ibn):
        super().__init__()
        self.conv1, self.bn1 = conv(cin, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3), nn.BatchNorm2d(width)
        self.downsample = down(cin, width, stride) if stride != 1 or cin != width else None

    def forward(self, x):
        y = torch.relu_(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return torch.relu_(y.add_(x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, cin, width, stride, ibn):
        super().__init__()
        cout = 4 * width
        self.conv1 = conv(cin, width, 1)
        self.bn1 = IBN(width) if ibn else nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, cout, 1), nn.BatchNorm2d(cout)
        self.downsample = down(cin, cout, stride) if stride != 1 or cin != cout else None

    def forward(self, x):
        y = torch.relu_(self.bn1(self.conv1(x)))
        y = torch.relu_(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return torch.relu_(y.add_(x if self.downsample is None else self.downsample(x)))


class NonLocal(nn.Module):
    """fast-reid's: dot product over all pairs of positions, divided by their number; one channel
    inside."""

    def __init__(self, channels):
        super().__init__()
        self.g = nn.Conv2d(channels, 1, 1)
        self.W = nn.Sequential(nn.Conv2d(1, channels, 1), nn.BatchNorm2d(channels))
        self.theta, self.phi = nn.Conv2d(channels, 1, 1), nn.Conv2d(channels, 1, 1)
        nn.init.zeros_(self.W[1].weight)

    def forward(self, x):
        theta, phi, g = (f(x).flatten(2) for f in (self.theta, self.phi, self.g))
        pairs = torch.einsum("nci,ncj->nij", theta, phi) / theta.shape[2]
        y = torch.einsum("nij,ncj->nci", pairs, g)
        return x + self.W(y.reshape(len(x), 1, *x.shape[2:]))


class ResNet(nn.Module):
    """`channels`: the output channels of the four stages. non_local: {stage: number of non-local
    blocks behind its last blocks}, `NL_2.0` and so on."""

    def __init__(self, name="resnet50", last_stride=1, width_multiplier=1.0, non_local=()):
        super().__init__()
        kind, counts = LAYERS[name]
        block = Basic if kind == "basic" else Bottleneck
        stem = scaled(64, width_multiplier)
        self.conv1, self.bn1 = conv(3, stem, 7, 2), nn.BatchNorm2d(stem)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        cin, self.channels = stem, []
        for stage, count in enumerate(counts, 1):
            width = scaled(64 * 2 ** (stage - 1), width_multiplier)
            stride = (1, 2, 2, last_stride)[stage - 1]
            ibn = name.endswith("_ibn_a") and stage < 4
            blocks = []
            for i in range(count):
                blocks.append(block(cin, width, stride if i == 0 else 1, ibn))
                cin = width * block.expansion
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
            self.channels.append(cin)
        for stage, count in dict(non_local).items():
            blocks = [NonLocal(self.channels[stage - 1]) for _ in range(count)]
            setattr(self, f"NL_{stage}", nn.ModuleList(blocks))

    def stage(self, stage, x):
        blocks, others = getattr(self, f"layer{stage}"), getattr(self, f"NL_{stage}", ())
        for i, block in enumerate(blocks):
            x = block(x)
            if i >= len(blocks) - len(others):
                x = others[i - len(blocks) + len(others)](x)
        return x

    def forward(self, x, after=lambda stage, y: y):
        x = self.maxpool(torch.relu_(self.bn1(self.conv1(x))))
        self.maps = {}
        for stage in range(1, 5):
            x = self.stage(stage, x)
            if not self.training:
                self.maps[f"layer{stage}"] = x  # for explain.py
            x = after(stage, x)
        return x
