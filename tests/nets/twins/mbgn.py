"""Twin of `reidc.MBGN` (spec/mbgn.md): four GSRPA modules, Branches g and l, the structure vector.

The literal version builds the relation matrix R and unfolds the involution, as the page's formulas
read. `tuned=True` computes the same without either (the page's "Memory of R", an involution that
walks over its taps): the fair opponent for speed.
"""
import torch
from torch import nn
from torch.nn import functional as F

from . import aabs, losses
from .resnet import ResNet

TAPS, GROUP = 49, 16


class ConvBNReLU(nn.Module):
    def __init__(self, cin, cout, relu=True):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(cin, cout, 1, bias=False), nn.BatchNorm2d(cout)
        self.relu = relu

    def after_conv(self, y):
        y = self.bn(y)
        return torch.relu_(y) if self.relu else y

    def forward(self, x):
        return self.after_conv(self.conv(x))


class InvolutionTaps(torch.autograd.Function):
    """out[n,g,c,y,x] = sum_t k[n,g,t,y,x] * x[n,g,c,y+ky-3,x+kx-3], tap by tap, not unfolded."""

    @staticmethod
    def forward(ctx, x, k):
        ctx.save_for_backward(x, k)
        h, w = x.shape[-2:]
        padded = F.pad(x, (3, 3, 3, 3))
        out = torch.zeros_like(x)
        for t in range(TAPS):
            ky, kx = divmod(t, 7)
            out.addcmul_(padded[..., ky:ky + h, kx:kx + w], k[:, :, t, None])
        return out

    @staticmethod
    def backward(ctx, d):
        x, k = ctx.saved_tensors
        h, w = x.shape[-2:]
        padded = F.pad(x, (3, 3, 3, 3))
        dpadded, dk = torch.zeros_like(padded), torch.empty_like(k)
        for t in range(TAPS):
            ky, kx = divmod(t, 7)
            torch.sum(padded[..., ky:ky + h, kx:kx + w] * d, 2, out=dk[:, :, t])
            dpadded[..., ky:ky + h, kx:kx + w].addcmul_(d, k[:, :, t, None])
        return dpadded[..., 3:-3, 3:-3], dk


class Involution(nn.Module):
    def __init__(self, c, tuned):
        super().__init__()
        self.groups, self.tuned = c // GROUP, tuned
        self.reduce, self.bn = nn.Conv2d(c, c // 4, 1, bias=False), nn.BatchNorm2d(c // 4)
        self.span = nn.Conv2d(c // 4, TAPS * self.groups, 1)

    def forward(self, x):
        n, c, h, w = x.shape
        k = self.span(torch.relu_(self.bn(self.reduce(x)))).contiguous()
        if self.tuned:
            x = x.contiguous().view(n, self.groups, GROUP, h, w)
            out = InvolutionTaps.apply(x, k.view(n, self.groups, TAPS, h, w))
            return out.view(n, c, h, w)
        k = k.view(n, self.groups, 1, TAPS, h, w)
        x = F.unfold(x, 7, padding=3).view(n, self.groups, GROUP, TAPS, h, w)
        return (k * x).sum(3).view(n, c, h, w)


class GSRPA(nn.Module):
    def __init__(self, c, h, w, tuned):
        super().__init__()
        p, self.tuned = h * w, tuned
        q = p // 8
        self.inv1, self.bn1 = Involution(c, tuned), nn.BatchNorm2d(c)
        self.inv2, self.bn2 = Involution(c, tuned), nn.BatchNorm2d(c)
        self.theta, self.phi = ConvBNReLU(c, c // 8), ConvBNReLU(c, c // 8)
        self.map1, self.map2 = ConvBNReLU(p, q), ConvBNReLU(p, q)
        self.embed = ConvBNReLU(c, c // 8)
        self.att = ConvBNReLU(1 + 2 * q, 1, relu=False)

    def relation(self, a, b, h, w):
        """a, b: N x C/8 x P -> Relation_1 and Relation_2, N x q x h x w."""
        n = len(a)
        if self.tuned:
            w1 = self.map1.conv.weight.flatten(1)
            w2 = self.map2.conv.weight.flatten(1)
            y1 = (w1 @ a.transpose(1, 2)) @ b
            y2 = (w2 @ b.transpose(1, 2)) @ a
            return (self.map1.after_conv(y1.view(n, -1, h, w)),
                    self.map2.after_conv(y2.view(n, -1, h, w)))
        r = torch.bmm(a.transpose(1, 2), b)  # N x P x P
        x1 = r.view(n, h * w, h, w)
        x2 = r.transpose(1, 2).reshape(n, h * w, h, w)
        return self.map1(x1), self.map2(x2)

    def forward(self, f):
        n, c, h, w = f.shape
        v = self.bn2(self.inv2(self.bn1(self.inv1(f))))
        m1, m2 = self.relation(self.theta(v).flatten(2), self.phi(v).flatten(2), h, w)
        e = self.embed(f).mean(1, keepdim=True)
        self.mask = torch.sigmoid(self.att(torch.cat([e, m1, m2], 1)))
        return self.mask * f


class CBAMS(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(2, 1, 7, padding=3, bias=False), nn.BatchNorm2d(1)

    def forward(self, f):
        top = f.max(1, keepdim=True).values
        self.mask = torch.sigmoid(self.bn(self.conv(
            torch.cat([top, f.mean(1, keepdim=True)], 1))))
        return self.mask * f


class Head(nn.Module):
    def __init__(self, c, num_classes):
        super().__init__()
        self.reduce, self.bn = nn.Linear(c, 256, bias=False), nn.BatchNorm1d(256)
        self.classifier = nn.Linear(256, num_classes)

    def forward(self, z):
        return torch.relu(self.bn(self.reduce(z)))


class Structure(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(45, 256), nn.Linear(256, 256)
        self.fc3, self.classifier = nn.Linear(256, 256), nn.Linear(256, num_classes)

    def forward(self, u):
        """u: N x 10 x C -> (similarity N x 45, f_s N x 256)."""
        u = u / u.norm(dim=2, keepdim=True).clamp(min=1e-12)
        a, b = torch.triu_indices(10, 10, 1)
        similarity = (u @ u.transpose(1, 2))[:, a, b]
        y = torch.relu(self.fc1(similarity))
        return similarity, self.fc3(torch.relu(self.fc2(y)))


def runs(strategy, planes, height):
    """The row runs (first, end) of the parts of one image."""
    if strategy == "MGN":
        two, three = [0, (height + 1) // 2, height], [0, (2 * height + 3) // 6,
                                                      (4 * height + 3) // 6, height]
        return list(zip(two, two[1:])) + list(zip(three, three[1:]))
    e = [0, *planes, height]
    single = [(e[i], e[i + 1]) for i in range(5)]
    pairs = [(e[i], e[i + 2]) for i in range(4)]
    triples = [(e[i], e[i + 3]) for i in range(3)]
    return {"F": single, "M": pairs, "M+F": single[:1] + pairs + single[4:],
            "M+C": pairs + triples}[strategy]


class MBGN(nn.Module):
    untrained = ()

    def __init__(self, num_classes, height=384, width=128, *, backbone="resnet50",
                 attention="gsrpa", num_attention=4, branch_g=True, branch_l=True,
                 segmentation="aabs", strategy="M+F", structure=True, part_pool="max",
                 dropout=0.5, width_multiplier=1.0, tuned=False):
        super().__init__()
        self.size, self.branch_g, self.branch_l = (height, width), branch_g, branch_l
        self.segmentation, self.strategy, self.part_pool = segmentation, strategy, part_pool
        self.dropout = dropout
        self.backbone = ResNet(backbone, 1, width_multiplier)
        self.stages = []
        for s in range(1, 5):
            if attention is None or s <= 4 - num_attention:
                continue
            shrink = (4, 8, 16, 16)[s - 1]
            c, h, w = self.backbone.channels[s - 1], height // shrink, width // shrink
            self.add_module(f"att{s}", CBAMS() if attention == "cbam" else GSRPA(c, h, w, tuned))
            self.stages.append(s)
        self.page_zero = tuple(f"att{s}.bn2.bias" for s in self.stages if attention == "gsrpa")
        c = self.backbone.channels[3]
        parts = {"F": 5, "M": 4, "M+F": 6, "M+C": 7, "MGN": 5}[strategy]
        self.keys = ["g"] * branch_g
        if branch_l:
            self.keys += ["l"] + [f"p{i + 1}" for i in range(parts)]
        for k in self.keys:
            self.add_module(f"head_{k}", Head(c, num_classes))
        self.structure = Structure(num_classes) if branch_l and structure else None

    def attend(self, stage, y):
        return getattr(self, f"att{stage}")(y) if stage in self.stages else y

    def cut(self, f, planes):
        """Planes N x 4 as a NumPy array, detached from the graph."""
        n, h = len(f), f.shape[2]
        if planes is not None:
            return planes
        if self.segmentation == "aabs":
            return torch.from_numpy(aabs.aabs(f.detach().float().cpu().numpy()))
        row = aabs.uniform(h) if self.segmentation == "uniform" else aabs.start(h)
        return torch.tensor([row] * n, dtype=torch.int64)

    def pooled(self, f, first, end):
        """One image's rows first..end-1: C x H x W -> C."""
        rows = f[:, first:end].flatten(1)
        return rows.max(1).values if self.part_pool == "max" else rows.mean(1)

    def forward(self, x, planes=None):
        if tuple(x.shape[2:]) != self.size:
            raise ValueError(f"images: {tuple(x.shape[2:])}, the network takes {self.size}")
        f = self.backbone(x, self.attend)
        n, c, h, w = f.shape
        out, z = {}, {}
        if self.branch_g:
            z["g"] = f.mean((2, 3))
        if self.branch_l:
            z["l"] = f.flatten(2).max(2).values
            planes = self.cut(f, planes)
            cuts = [runs(self.strategy, row, h) for row in planes.tolist()]
            for i in range(len(cuts[0])):
                z[f"p{i + 1}"] = torch.stack([self.pooled(f[j], *cuts[j][i]) for j in range(n)])
            out["planes"] = planes
        feats = {k: getattr(self, f"head_{k}")(z[k]) for k in self.keys}
        heads = {k: getattr(self, f"head_{k}").classifier for k in self.keys}
        if self.structure is not None:
            u = []
            for j, row in enumerate(planes.tolist()):
                edges = [0, *row, h]
                for i in range(5):
                    part = f[j, :, edges[i]:edges[i + 1]]
                    u += [part[..., :w // 2].mean((1, 2)), part[..., w // 2:].mean((1, 2))]
            out["similarity"], feats["s"] = self.structure(torch.stack(u).view(n, 10, c))
            heads["s"] = self.structure.classifier
        if not self.training:
            return {"embedding": torch.cat(list(feats.values()), 1)}
        for k, y in feats.items():
            out[f"f_{k}"] = y
            out[f"logits_{k}"] = heads[k](F.dropout(y, self.dropout, True))
        for k in ("g", "l"):
            if k in z:
                out[f"z_{k}"] = z[k]
        return out

    def loss(self, out, labels):
        logits = [v for k, v in out.items() if k.startswith("logits_")]
        ids = sum(losses.cross_entropy(v, labels) for v in logits) / len(logits)
        z = [out[k] for k in ("z_g", "z_l") if k in out]
        tri = sum(losses.triplet(v, labels, 1.2) for v in z) / len(z)
        return {"total": ids + 2 * tri, "id": ids, "triplet": tri}
