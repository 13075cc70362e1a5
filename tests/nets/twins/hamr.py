"""Twin of `reidc.HAMR` (spec/hamr.md): aligned stages, SAM, fusion, CAM, overlapping parts.

Written as the page's tables read: every part pools its rows of the fused map itself.
`drop_at`: the row and column that the batch drop block takes (the page draws them).
"""
import torch
from torch import nn
from torch.nn import functional as F

from . import losses
from .resnet import ResNet


class SAM(nn.Module):
    def __init__(self, kernel):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x):
        pooled = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True).values], 1)
        self.mask = torch.sigmoid(self.conv(pooled))
        return self.mask * x


class CAM(nn.Module):
    def __init__(self, c, reduction, mlp):
        super().__init__()
        self.fc1 = nn.Linear(c, c // reduction, bias=False)
        self.fc2 = nn.Linear(c // reduction, c, bias=False)
        self.mlp = mlp

    def forward(self, x):
        a, m = x.mean((2, 3)), x.flatten(2).max(2).values
        if self.mlp == "sum":
            z = self.fc2(torch.relu(self.fc1(a + m)))
        else:
            z = self.fc2(torch.relu(self.fc1(a))) + self.fc2(torch.relu(self.fc1(m)))
        self.mask = torch.sigmoid(z)
        return self.mask[:, :, None, None] * x


class Head(nn.Module):
    def __init__(self, c, num_classes, mpfe, act, reduce_dim, feat_dim):
        super().__init__()
        self.mpfe, self.act = mpfe, act
        if mpfe:
            self.reduce = nn.Conv2d(2 * c, reduce_dim, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(reduce_dim)
        self.fc = nn.Linear(reduce_dim if mpfe else c, feat_dim, bias=False)
        self.bn2 = nn.BatchNorm1d(feat_dim)
        self.classifier = nn.Linear(feat_dim, num_classes, bias=False)

    def forward(self, part):
        """part: N x C x r x W -> f, b."""
        d = part.mean((2, 3))
        if self.mpfe:
            d = torch.cat([part.flatten(2).max(2).values, d], 1)
            d = self.bn1(self.reduce(d[:, :, None, None])).flatten(1)
            d = torch.relu(d) if self.act == "relu" else F.leaky_relu(d, 0.1)
        f = self.fc(d)
        return f, self.bn2(f)


class HAMR(nn.Module):
    untrained = page_zero = ()

    def __init__(self, num_classes, height=384, width=128, *, backbone="resnet50",
                 width_multiplier=1.0, parts=6, stages=(1, 2, 3, 4), order="SFC", local="mgo",
                 mpfe=True, cam_mlp="sum", act="relu", triplet_on="fc", reduction=16,
                 sam_kernel=7, reduce_dim=256, feat_dim=512, last_stride=1, dropblock=None,
                 label_smooth=0.1, margin=1.0, triplet=True):
        super().__init__()
        self.stages, self.order, self.parts = sorted(stages), order, parts
        self.triplet_on, self.use_triplet = triplet_on, triplet
        self.label_smooth, self.margin = label_smooth, margin
        self.dropblock, self.drop_at = dropblock, (0, 0)
        step = 32 if last_stride == 2 and 4 in stages else 16
        self.map = height // step, width // step
        self.backbone = ResNet(backbone, last_stride, width_multiplier)
        channels = {s: self.backbone.channels[s - 1] for s in self.stages}
        for s in range(max(stages) + 1, 5):
            delattr(self.backbone, f"layer{s}")
        fused = order.index("F")
        for letter, make in (("S", lambda c: SAM(sam_kernel)),
                             ("C", lambda c: CAM(c, reduction, cam_mlp))):
            kind = {"S": "sam", "C": "cam"}[letter]
            if letter in order[:fused]:
                for s in self.stages:
                    self.add_module(f"{kind}{s}", make(channels[s]))
            elif letter in order:
                self.add_module(kind, make(sum(channels.values())))
        self.levels = {"mgo": range(1, parts + 1), "pcb": [parts], "none": [1]}[local]
        for level in self.levels:
            for i in range(1, level + 1):
                self.add_module(f"head{level}_{i}", Head(
                    sum(channels.values()), num_classes, mpfe, act, reduce_dim, feat_dim))

    def rows(self, level, i):
        if level == 1:  # whatever the number of stripes
            return 0, self.map[0]
        h = self.map[0] // self.parts
        return (i - 1) * h, (i - 1 + self.parts + 1 - level) * h

    def features(self, images):
        x = self.backbone
        y = x.maxpool(torch.relu(x.bn1(x.conv1(images))))
        maps = []
        for s in range(1, self.stages[-1] + 1):
            y = getattr(x, f"layer{s}")(y)
            if s in self.stages:
                window = y.shape[2] // self.map[0], y.shape[3] // self.map[1]
                maps.append(F.max_pool2d(y, window, window))
        noted = {f"aligned{s}": m for s, m in zip(self.stages, maps)}
        names = [str(s) for s in self.stages]
        for letter in self.order:
            if letter == "F":
                maps, names = [torch.cat(maps, 1)], [""]
            else:
                kind = {"S": "sam", "C": "cam"}[letter]
                maps = [getattr(self, kind + n)(m) for n, m in zip(names, maps)]
        f = maps[0]
        if self.dropblock and self.training:
            h, w = f.shape[2:]
            rh, rw = round(self.dropblock[0] * h), round(self.dropblock[1] * w)
            keep = torch.ones_like(f[:1, :1])
            r, c = self.drop_at
            keep[:, :, r:r + rh, c:c + rw] = 0
            f = f * keep
        self.maps = {} if x.training else {**noted, "fused": f}  # for explain.py
        return f

    def forward(self, images, planes=None):
        f = self.features(images)
        logits, triplets, embedding = {}, {}, []
        for level in self.levels:
            both = []
            for i in range(1, level + 1):
                first, end = self.rows(level, i)
                head = getattr(self, f"head{level}_{i}")
                both.append(head(f[:, :, first:end]))
                logits[f"logits{level}_{i}"] = head.classifier(both[-1][1])
            embedding += [b for _, b in both]
            chosen = [pair[self.triplet_on == "bn"] for pair in both]
            triplets[f"triplet{level}"] = torch.cat(chosen, 1)
        return logits | triplets if self.training else {"embedding": torch.cat(embedding, 1)}

    def loss(self, out, labels):
        ids = [losses.cross_entropy(v, labels, self.label_smooth) for k, v in out.items()
               if k.startswith("logits")]
        parts = {"id": sum(ids) / len(ids)}
        total = parts["id"]
        if self.use_triplet:
            each = [losses.triplet(v, labels, self.margin) for k, v in out.items()
                    if k.startswith("triplet")]
            parts["triplet"] = sum(each) / len(each)
            total = total + parts["triplet"]
        return {"total": total, **parts}
