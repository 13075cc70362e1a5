"""Writes torch_checkpoint.pth, read by tests/io/test_torchfile.py. Run once, with PyTorch 2.

A checkpoint as torchreid saves it: the state dict under "state_dict", beside it an epoch, a NumPy
scalar and an optimiser's state.
"""
import sys
from collections import OrderedDict

import numpy
import torch


def tensors():
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    return OrderedDict([
        ("module.conv1.weight", base / 8),
        ("module.transposed", base.t()),           # strides (1, 6)
        ("module.row", base[2]),                   # offset 12 into the shared storage
        ("module.every_second", base[:, ::2]),
        ("module.expanded", torch.tensor([3.0]).expand(2, 5)),  # stride 0
        ("module.scalar", torch.tensor(2.5)),
        ("module.empty", torch.zeros(0, 3)),
        ("module.half", torch.tensor([1.5, -65504.0, 6e-8]).half()),
        ("module.brain", torch.tensor([1.5, -3e38]).bfloat16()),
        ("module.double", torch.tensor([1 / 3], dtype=torch.float64)),
        ("module.bn1.num_batches_tracked", torch.tensor(7)),
        ("module.bytes", torch.tensor([0, 255], dtype=torch.uint8)),
        ("module.flags", torch.tensor([True, False])),
        ("module.parameter", torch.nn.Parameter(torch.ones(2))),
    ])


if __name__ == "__main__":
    linear = torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam(linear.parameters())
    linear(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    torch.save({"state_dict": tensors(), "epoch": 60, "rank1": numpy.float64(0.9),
                "optimizer": optimizer.state_dict()}, sys.argv[1])
