"""Twin of `reidc.Baseline` (spec/common.md 10): backbone, mean, BNNeck, linear classifier; and
fast-reid's "stronger baseline" as its configuration describes it: GeM, class-level circle loss,
non-local blocks behind the last two blocks of layer2 and the last three of layer3."""
import torch
from torch import nn

from . import losses
from .mfa import GeM
from .resnet import ResNet

NON_LOCAL = {"resnet50": {2: 2, 3: 3}, "resnet50_ibn_a": {2: 2, 3: 3}, "resnet101": {2: 2, 3: 9}}


class Baseline(nn.Module):
    #: parameters that the page never trains, and those whose gradient is rounding noise
    untrained = ("bnneck.bias",)
    page_zero = ()

    def __init__(self, num_classes, height=256, width=128, *, backbone="resnet50", last_stride=1,
                 label_smooth=0.1, margin=0.3, triplet=True, center=False, w_center=0.0005,
                 width_multiplier=1.0, pool="avg", head="linear", non_local=False,
                 triplet_on="feat", spread="all"):
        super().__init__()
        self.size = (height, width)
        self.label_smooth, self.margin, self.spread = label_smooth, margin, spread
        self.use_triplet, self.w_center, self.triplet_on = triplet, w_center, triplet_on
        self.center_weight = w_center  # what one set of centres counts in the total
        self.circle = head == "circle"
        counts = NON_LOCAL[backbone] if non_local else {}
        self.backbone = ResNet(backbone, last_stride, width_multiplier, counts)
        self.page_zero = tuple(f"backbone.NL_{stage}.{i}.W.0.bias"
                               for stage, count in counts.items() for i in range(count))
        c = self.backbone.channels[3]
        if pool == "gem":
            self.gem = GeM()
        self.bnneck = nn.BatchNorm1d(c)
        self.bnneck.bias.requires_grad_(False)
        self.classifier = nn.Linear(c, num_classes, bias=False)
        if self.circle:
            nn.init.normal_(self.classifier.weight, std=0.01)
        self.center = nn.Parameter(torch.randn(num_classes, c)) if center else None

    def forward(self, x, planes=None):
        f = self.backbone(x)
        feat = self.gem(f) if hasattr(self, "gem") else f.mean((2, 3))
        neck = self.bnneck(feat)
        if not self.training:
            return {"embedding": neck}
        out = {"feat": feat}
        if self.triplet_on == "bnneck":
            out["bnneck"] = neck
        if not self.circle:
            return {**out, "logit": self.classifier(neck)}
        cosines = nn.functional.normalize(neck) @ nn.functional.normalize(self.classifier.weight).T
        return {**out, "logit": 64 * cosines}

    def loss(self, out, labels):
        logits = out["logit"]
        if self.circle:
            logits = losses.circle_logits(logits / 64, labels)
        parts = {"id": losses.cross_entropy(logits, labels, self.label_smooth, self.spread)}
        total = parts["id"]
        if self.use_triplet:
            parts["triplet"] = losses.triplet(out[self.triplet_on], labels, self.margin)
            total = total + parts["triplet"]
        if self.center is not None:
            parts["center"] = losses.center(out["feat"], labels, self.center)
            total = total + self.w_center * parts["center"]
        return {"total": total, **parts}
