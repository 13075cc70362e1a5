"""What each CUDA kernel must cost at least on an H200, on paper: bytes against 4.3 TB/s, operations
against the general units' 67 TFLOP/s (float32, 132 processors x 128 lanes x 2 x 1.98 GHz) and the
matrix units' 790 TFLOP/s. Nothing here is measured. Prints the table of docs/cuda.md.

    python benchmarks/price_cuda.py
"""
BANDWIDTH, GENERAL, MATRIX = 4.3e12, 67e12, 790e12  # bytes/s, operations/s
N = 64  # images of a batch


def maps(h, w, c, n=N):
    return n * h * w * c


L1 = maps(64, 32, 256)      # Baseline, layer 1, 256 x 128
STEM = maps(128, 64, 64)    # behind the first convolution
B1 = maps(96, 32, 256)      # MBGN, layer 1, 384 x 128
K1 = maps(96, 32, 49 * 16)  # its involution's weights
R1 = maps(96, 32, 32)       # its relation's factors
Y1 = maps(96, 32, 384)      # its relation's result
L4 = maps(16, 8, 2048)      # layer 4 of all
PARAMETERS = 25.6e6
ROWS = 64 * 751

# kernel, layer, values read, values written (of the network's type), float32 values moved
# whatever the type, operations
TABLE = [
    ("activation, forward", "Baseline layer1", L1, L1, 0, L1),
    ("activation, backward", "", 2 * L1, L1, 0, L1),
    ("add + ReLU, forward", "", 2 * L1, L1, 0, 2 * L1),
    ("add + ReLU, backward, both", "", 2 * L1, 2 * L1, 0, L1),
    ("batch_norm + ReLU, training forward", "", 2 * L1, L1, 0, 10 * L1),
    ("batch_norm + ReLU, training backward", "", 4 * L1, L1, 0, 20 * L1),
    ("batch_norm + add + ReLU, training forward", "", 3 * L1, L1, 0, 11 * L1),
    ("batch_norm + add + ReLU, training backward", "", 6 * L1, 2 * L1, 0, 20 * L1),
    ("instance_norm, forward (first walk from memory)", "FSAC layer1, half", L1 / 2, L1 / 2, 0,
     4 * L1),
    ("instance_norm, backward", "", L1, L1 / 2, 0, 8 * L1),
    ("max_pool2d 3x3/2, forward", "stem", STEM, STEM / 4 * 1.25, 0, 9 * STEM / 4),
    ("max_pool2d 3x3/2, backward", "", STEM / 4 * 1.25, STEM, 0, 3 * STEM),
    ("scale_add, mul_map, mul_channel, concat", "MFA layer2", 2 * maps(32, 16, 512),
     maps(32, 16, 512), 0, 2 * maps(32, 16, 512)),
    ("region_pool, forward", "layer4", L4, 0, 0, L4),
    ("region_pool, backward", "layer4", 0, L4, 0, L4),
    ("gem, forward (first walk from memory)", "MFA layer4", L4, 0, 0, 40 * L4),
    ("gem, backward", "", L4, L4, 0, 60 * L4),
    ("dropout (mask drawn anew)", "a map of layer4", L4, L4, 0, 60 * L4),
    ("involution 7x7, forward", "MBGN layer1", B1 + K1, B1, 0, 2 * 49 * B1),
    ("involution 7x7, to x", "", B1 + K1, B1, 0, 2 * 49 * B1),
    ("involution 7x7, to the weights", "", 2 * B1, K1, 0, 2 * 49 * B1),
    ("relation_map, forward", "MBGN layer1", 2 * R1, Y1, N * 2 * 384 * 32,
     4 * N * 384 * 3072 * 32),
    ("relation_map, backward", "", 2 * Y1 + 3 * R1, 2 * R1, N * 3 * 384 * 32,
     8 * N * 384 * 3072 * 32),
    ("planes (AABS)", "MBGN layer4", maps(24, 8, 2048), 0, 2 * N * 24 * 2048,
     N * 300 * 2 * 2048),
    ("attention, channels, forward", "MFA layer4", 3 * L4, L4, 0, 4 * N * 2048 ** 2 * 128),
    ("attention, channels, backward", "", 8 * L4, 3 * L4, 0, 14 * N * 2048 ** 2 * 128),
    ("attention, positions, forward", "MFA layer2", maps(32, 16, 640), maps(32, 16, 512), 0,
     2 * N * 512 ** 2 * (64 + 512)),
    ("attention, positions, backward", "", 4 * maps(32, 16, 640), maps(32, 16, 640), 0,
     2 * N * 512 ** 2 * (4 * 64 + 3 * 512)),
    ("relative_attention, forward", "FSAC layer4", 3 * maps(16, 8, 512), maps(16, 8, 512),
     2 * N * 4 * 128 * 24, 4 * N * 4 * 128 ** 2 * 128),
    ("relative_attention, backward", "", 8 * maps(16, 8, 512), 3 * maps(16, 8, 512),
     6 * N * 4 * 128 * 24, 14 * N * 4 * 128 ** 2 * 128),
    ("cross_entropy, forward and backward", "751 classes", 4 * ROWS, ROWS, 0, 60 * ROWS),
    ("triplet, forward and backward (double)", "64 x 2048", 64 * 64 * 2048 / 16, 64 * 2048, 0,
     2 * 64 * 64 * 2048 * 3),
    ("Adam, all weights in one", "25.6 M", 0, 0, 7 * PARAMETERS, 12 * PARAMETERS),
    ("average of the weights", "25.6 M", 0, 0, 3 * PARAMETERS, 3 * PARAMETERS),
    ("bytes to input, augmented", "256 x 128 x 3", maps(256, 128, 3) / 4, maps(256, 128, 3), 0,
     maps(256, 128, 3) * 60),
    ("distances and ranks, Market-1501", "3368 x 19732 x 2048", 0, 0, 3368 * 2048 + 19732 * 2048,
     # a subtraction and a fused multiply-add a term: two issues, as much as four operations
     4 * 3368 * 19732 * 2048),
    ("nearest 100 of a row", "3368 x 19732", 0, 0, 3368 * 19732, 30 * 3368 * 19732),
    ("Grad-CAM of a map", "layer4", 2 * L4, 0, 0, 4 * L4),
]


def microseconds(read, written, fixed, operations, size):
    by_bytes = ((read + written) * size + 4 * fixed) / BANDWIDTH
    return by_bytes * 1e6, operations / GENERAL * 1e6


def main():
    print("| kernel | of, batch 64 | float32: MB | µs by bytes | GFLOP | µs by operations | "
          "at 790 TFLOP/s | bound by | bfloat16: µs |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    layer = ""
    for name, of, read, written, fixed, operations in TABLE:
        layer = of or layer
        by_bytes, by_ops = microseconds(read, written, fixed, operations, 4)
        half = max(microseconds(read, written, fixed, operations, 2))
        megabytes = ((read + written) * 4 + 4 * fixed) / 1e6
        bound = "memory" if by_bytes > by_ops else "arithmetic"
        print(f"| {name} | {layer} | {megabytes:.0f} | {by_bytes:.0f} | "
              f"{operations / 1e9:.1f} | {by_ops:.0f} | {operations / MATRIX * 1e6:.1f} | "
              f"{bound} | {half:.0f} |")


if __name__ == "__main__":
    main()
