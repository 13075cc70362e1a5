"""Twin of `reidc.Baseline` (spec/common.md 10): backbone, mean, BNNeck, linear classifier."""
import torch
from torch import nn

from . import losses
from .resnet import ResNet


class Baseline(nn.Module):
    #: parameters that the page never trains, and those whose gradient is rounding noise
    untrained = ("bnneck.bias",)
    page_zero = ()

    def __init__(self, num_classes, height=256, width=128, *, backbone="resnet50", last_stride=1,
                 label_smooth=0.1, margin=0.3, triplet=True, center=False, w_center=0.0005,
                 width_multiplier=1.0):
        super().__init__()
        self.size = (height, width)
        self.label_smooth, self.margin = label_smooth, margin
        self.use_triplet, self.w_center = triplet, w_center
        self.center_weight = w_center  # what one set of centres counts in the total
        self.backbone = ResNet(backbone, last_stride, width_multiplier)
        c = self.backbone.channels[3]
        self.bnneck = nn.BatchNorm1d(c)
        self.bnneck.bias.requires_grad_(False)
        self.classifier = nn.Linear(c, num_classes, bias=False)
        self.center = nn.Parameter(torch.randn(num_classes, c)) if center else None

    def forward(self, x, planes=None):
        feat = self.backbone(x).mean((2, 3))
        neck = self.bnneck(feat)
        if not self.training:
            return {"embedding": neck}
        return {"feat": feat, "logit": self.classifier(neck)}

    def loss(self, out, labels):
        parts = {"id": losses.cross_entropy(out["logit"], labels, self.label_smooth)}
        total = parts["id"]
        if self.use_triplet:
            parts["triplet"] = losses.triplet(out["feat"], labels, self.margin)
            total = total + parts["triplet"]
        if self.center is not None:
            parts["center"] = losses.center(out["feat"], labels, self.center)
            total = total + self.w_center * parts["center"]
        return {"total": total, **parts}
