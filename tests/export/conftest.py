"""ONNX models beside the network; states and rows come from tests/nets, cases from tests/ops."""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
for folder in ("nets", "ops"):
    sys.path.insert(0, os.path.join(os.path.dirname(HERE), folder))
