"""The report as text: a row a case, images a second, the targets of the project beside them."""

# Times the fastest peer of the run (of the literal PyTorch twin, where a name stands before):
# {system: {(training, precision): target, or {batch: target}}}
TARGETS = {
    "Baseline": {(False, "fp32"): {1: 1.1, 32: 1.4}, (False, "bf16"): {1: 1.05, 32: 1.1},
                 (False, "int8"): {1: 1.1, 32: 1.1}, (True, "fp32"): 1.4, (True, "bf16"): 1.4},
    "MFA": {(False, "fp32"): 2.0, (False, "bf16"): 1.6, (True, "fp32"): 1.7},
    "FSAC": {(False, "fp32"): 1.6, (False, "bf16"): 1.5, (True, "fp32"): 1.6},
    "HAMR": {(False, "fp32"): 2.0, (False, "bf16"): 1.6, (True, "fp32"): 1.7},
    "MBGN": {(False, "fp32"): 4.0, (False, "bf16"): 6.0, (True, "fp32"): 6.0},
    "MGAF": {(False, "fp32"): 1.5, (False, "bf16"): 1.3, (True, "fp32"): 1.4},
}
MEMORY_TARGETS = {"MFA": 0.5, "FSAC": 0.5, "HAMR": 0.6, "MBGN": 0.4, "MGAF": 0.75}
LOW_MEMORY_TARGET = 0.5  # of every system, with memory="low"
COLUMNS = {"torch": ("torch", "torch literal", "torch tuned"), "onnxruntime": ("onnxruntime",),
           "openvino": ("openvino",)}
HEADS = {"torch": "PyTorch", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}


def target(case):
    """What is asked of this case, as words; '' where nothing is."""
    found = TARGETS.get(case["system"], {}).get((case["training"], case["precision"]), "")
    if isinstance(found, dict):
        found = found.get(case["batch"], "")
    if found == "" or case["system"] == "Baseline":
        return f"{found}" if found == "" else f"≥ {found:g}"
    return f"PyTorch ≥ {found:g}" + ("" if case["training"] else "; all ≥ 1.1")


def heads(peers):
    names = ["system", "case", "precision", "reidc", "peak", *(HEADS[p] for p in peers),
             "times", "fastest peer", "asked"]
    return "| " + " | ".join(names) + " |\n" + "|" + " --- |" * len(names)


def row(result, peers, sizes):
    """One line; img/s, and how many times as fast as each peer."""
    def number(value):
        return f"{value:.1f}" if value < 100 else f"{value:.0f}"

    speed, ratio = result["images_a_second"], result["ratio"]
    cells = [f"{result['system']} {sizes[0]}×{sizes[1]}",
             ("training step" if result["training"] else "inference") + f", {result['batch']}",
             result["precision"], number(speed["reidc"]),
             f"{100 * result['share_of_peak']:.0f} %" if "share_of_peak" in result else "–"]
    for peer in peers:
        there = [name for name in COLUMNS[peer] if name in speed]
        cells.append(", ".join(number(speed[name]) + name.removeprefix(peer) for name in there)
                     or "–")
    cells.append(", ".join(f"{ratio[name]:.2f}" for peer in peers for name in COLUMNS[peer]
                           if name in ratio) or "–")
    fastest = result["fastest_peer"]
    cells += [f"{ratio[fastest]:.2f} × {fastest}" if fastest else "–", target(result)]
    return "| " + " | ".join(cells) + " |"
