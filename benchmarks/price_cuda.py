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
L2 = maps(32, 16, 512)      # layer 2 of the 256 x 128 networks
F4 = N * 2048               # an embedding each
M = 2 * maps(64, 32, 1)     # two channels: mean and maximum
PAIRS = 3368 * 19732

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
    ("scale_add, mul_map, mul_channel, concat", "MFA layer2", 2 * L2, L2, 0, 2 * L2),
    ("the same, backward", "", 3 * L2, 2 * L2, 0, 4 * L2),
    ("slice, view, stop_gradient (where no memory is shared)", "", L2, L2, 0, 0),
    ("avg_pool2d 2x2/2, forward", "", L2, L2 / 4, 0, L2),
    ("avg_pool2d 2x2/2, backward", "", L2 / 4, L2, 0, L2),
    ("channel_pool, forward", "Baseline layer1", L1, M, 0, 2 * L1),
    ("channel_pool, backward", "", L1 + M, L1, 0, 2 * L1),
    ("half_means, forward", "HAMR layer4", maps(24, 8, 2048), 10 * F4, 0, 3 * maps(24, 8, 2048)),
    ("half_means, backward", "", 10 * F4, maps(24, 8, 2048), 0, 3 * maps(24, 8, 2048)),
    ("region_pool, forward", "layer4", L4, 0, 0, L4),
    ("region_pool, backward", "layer4", 0, L4, 0, L4),
    ("gem, forward (first walk from memory)", "MFA layer4", L4, 0, 0, 40 * L4),
    ("gem, backward", "", L4, L4, 0, 60 * L4),
    ("drop_block (3x3 seeds a value; scale and bytes kept)", "a map of layer4", 2.25 * L4, L4, 0,
     9 * 30 * L4),
    ("batch_drop_block", "", L4, L4, 0, 40 * L4),
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
    ("relative_attention_map", "FSAC layer4", 2 * maps(16, 8, 512), 0, N * 4 * 128 * (128 + 48),
     2 * N * 4 * 128 ** 2 * 128),
    ("channel_conv, forward and backward", "2048 channels", 3 * F4, 2 * F4, 0, 30 * F4),
    ("softmax, forward and backward", "751 classes", 3 * ROWS, 2 * ROWS, 0, 40 * ROWS),
    ("normalize, forward and backward", "64 x 2048", 3 * F4, 2 * F4, 0, 12 * F4),
    ("cross_entropy, forward and backward", "751 classes", 4 * ROWS, ROWS, 0, 60 * ROWS),
    ("triplet, forward and backward (double)", "64 x 2048", 64 * 64 * 2048 / 16, 64 * 2048, 0,
     2 * 64 * 64 * 2048 * 3),
    ("circle, forward and backward (double)", "", 64 * F4 / 16, F4, 0, 2 * 64 * F4 * 3),
    ("circle_logits, forward and backward", "751 classes", 3 * ROWS, 2 * ROWS, 0, 10 * ROWS),
    ("center, forward and backward (double)", "64 x 2048", 2 * F4, F4, 2 * 751 * 2048, 12 * F4),
    ("cosine_loss, forward and backward (double)", "", 4 * F4, 2 * F4, 0, 20 * F4),
    ("pair_cosine, forward and backward (double)", "64 x 6 x 2048", 12 * F4, 6 * F4, 0,
     3 * 2 * 36 * F4),
    ("mean_scalars, add_scalars", "a few losses", 0, 0, 16, 16),
    ("cast, float32 to bfloat16", "Baseline layer1", L1 / 2, 0, L1 / 2, L1),
    ("fill (a loss's own gradient)", "", 0, 0, 1, 1),
    ("bias, residual and ReLU behind a convolution", "", 2 * L1, L1, 0, 3 * L1),
    ("a bias's gradient: column sums", "", L1, 0, 0, L1),
    ("weights with batch norms folded in", "25.6 M", 0, PARAMETERS, PARAMETERS, 2 * PARAMETERS),
    ("norm of all gradients, for clipping", "", 0, 0, PARAMETERS, 2 * PARAMETERS),
    ("Adam, all weights in one", "25.6 M", 0, 0, 7 * PARAMETERS, 12 * PARAMETERS),
    ("average of the weights", "25.6 M", 0, 0, 3 * PARAMETERS, 3 * PARAMETERS),
    ("pictures of 128 x 64 to input: draws, resize, flip, crop, erase, normalise", "256 x 128 x 3",
     maps(128, 64, 3) / 4, 0, maps(256, 128, 3), maps(256, 128, 3) * 60),
    ("pictures of 384 x 192 to input, likewise", "", maps(384, 192, 3) / 4, 0, maps(256, 128, 3),
     maps(256, 128, 3) * 100),
    ("floats of others to input", "", 0, 0, 2 * maps(256, 128, 3), 0),
    ("rows of unit length; rows that are not finite", "19732 x 2048", 0, 0, 2 * 19732 * 2048,
     4 * 19732 * 2048),
    ("rank: distances of all pairs, matches counted", "3368 x 19732 x 2048", 0, 0,
     # tiles of 128 x 128 read their rows from the second-level cache; from memory each comes once a
     # wave of blocks; a subtraction and a fused multiply-add a term: two issues, as much as four
     # operations
     16 * (3368 + 19732) * 2048, 4 * 2048 * PAIRS),
    ("rank: the matches' own distances, sorted", "50,000 matches", 0, 0, 2 * 50_000 * 2048,
     4 * 50_000 * 2048),
    ("distances to memory", "256 x 19732 x 2048", 0, 0, (256 + 19732) * 2048 + 256 * 19732,
     4 * 2048 * 256 * 19732),
    ("nearest 100 of a row", "3368 x 19732", 0, 0, 6 * PAIRS, 30 * PAIRS),
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
