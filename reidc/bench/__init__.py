"""`reidc bench`: this machine's tables of speed and memory, reidc beside every installed peer.

    command.py      options, and the tables as they come
    machine.py      versions, processor, malloc, peak; what makes the comparison fair
    contestants.py  reidc, PyTorch, ONNX Runtime, OpenVINO: the same case made ready by each
    worker.py       one of them in a process of its own
    timing.py       rounds in turns, medians, ratios
    tables.py       text and JSON
    memory.py       a training step's peak, each in a process of its own
    layers.py       our share of the peak, layer by layer

ONNX Runtime and OpenVINO run what `export_onnx` writes. PyTorch needs networks that are written in
it: the twins of the source tree (tests/nets), found beside the package or named by --twins.
Nothing here is imported by the rest of reidc.
"""
