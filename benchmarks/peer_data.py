"""torchvision's side of bench_data.py, in an interpreter of its own and on one thread.

A request is a line of JSON on stdin, its answer one on stdout:
    {"folder": …, "height": …, "width": …} -> {"versions": …, "cases": [names]}
    {"case": name} -> {"seconds": of this process}

As documented: transforms v2 on uint8 tensors, conversion to float late. "batch" normalises the
stacked batch at once, which the documentation allows and which is faster; what is drawn at random
is drawn for each picture in every case.
"""
import glob
import json
import os
import sys
import time

import numpy as np
import PIL
import torch
import torchvision
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms import v2

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def build(folder, height, width):
    files = sorted(glob.glob(os.path.join(folder, "*.jpg")))
    pictures = [Image.open(name).convert("RGB") for name in files]
    tensors = [torch.from_numpy(np.array(p)).permute(2, 0, 1).contiguous() for p in pictures]
    place = [v2.Resize((height, width), antialias=True), v2.RandomHorizontalFlip(), v2.Pad(10),
             v2.RandomCrop((height, width))]
    norm = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD, inplace=True)]
    erase = v2.RandomErasing(0.5, (0.02, 0.4), (0.3, 1 / 0.3), value=MEAN, inplace=True)
    each = v2.Compose([*place, *norm, erase])
    from_pil = v2.Compose([*place, v2.ToImage(), *norm, erase])
    placed, normalised = v2.Compose(place), v2.Compose(norm)

    def batch(images):
        done = normalised(torch.stack([placed(image) for image in images]))
        for image in done:
            erase(image)
        return done

    def decoded():
        return [decode_jpeg(read_file(name), mode=ImageReadMode.RGB) for name in files]

    return {
        "augment: each": lambda: torch.stack([each(image) for image in tensors]),
        "augment: batch": lambda: batch(tensors),
        "augment: Pillow": lambda: torch.stack([from_pil(image) for image in pictures]),
        "first pass: decode_jpeg, batch": lambda: batch(decoded()),
        "first pass: Pillow": lambda: torch.stack([
            from_pil(Image.open(name).convert("RGB")) for name in files]),
    }


def main():
    torch.set_num_threads(1)
    cases = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "folder" in request:
            cases = build(**request)
            answer = {"cases": list(cases), "versions":
                      f"torchvision {torchvision.__version__}, PyTorch {torch.__version__}, "
                      f"Pillow {PIL.__version__}"}
        else:
            start = time.process_time()
            cases[request["case"]]()
            answer = {"seconds": time.process_time() - start}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
