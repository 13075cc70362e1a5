"""`reidc cam`: where a network looks in pictures, as overlays (PNG) and as the maps (.npz).

The maps are Network.grad_cam's; here are files and colours only, mixed by Pillow.
"""
import os

from reidc._core import FileMissingError
from reidc.cli import UsageError

AT_ONCE = 16
ARCHIVE = "maps.npz"


def _target(text):
    """What --target says: None, a class, 'norm', or a picture's path in a tuple."""
    if text is None or text == "norm":
        return text
    kind, colon, path = text.partition(":")
    if kind == "similar" and path:
        if not os.path.isfile(path):
            raise FileMissingError(f"--target: no such file: {path}")
        return (path,)
    try:
        return int(text)
    except ValueError:
        raise UsageError("--target: expected a class (an integer), norm or similar:IMAGE, got "
                         f"{text!r}") from None


def _runs(pictures):
    """Pictures in order, as arrays of some of equal size: (first, array)."""
    import numpy

    first, held = 0, []
    for i in range(len(pictures)):
        picture = pictures.batch([i])[0]
        if held and (len(held) == AT_ONCE or picture.shape != held[0].shape):
            yield first, numpy.stack(held)
            first, held = i, []
        held.append(picture)
    yield first, numpy.stack(held)


def _names(paths):
    """A file name each: the picture's, numbered where it comes twice."""
    taken, names = set(), []
    for path in paths:
        stem = os.path.splitext(os.path.basename(path))[0]
        name, number = stem, 1
        while name in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name)
        names.append(f"{name}.png")
    return names


def run(arguments):
    """Maps first, then files: what does not fit is said before the folder is made."""
    import json

    import numpy

    from reidc.commands import Pictures, checkpoint_of, listed
    from reidc.networks import load
    from reidc.pictures import heat, save
    from reidc._files import make_folder, write_atomic
    from reidc.progress import counter

    target = _target(arguments.target)
    if arguments.method == "activation" and (target is not None or arguments.head):
        raise UsageError("--target, --head: not with --method activation, which looks at no score")
    output = os.path.abspath(arguments.output)
    if os.path.exists(output) and not os.path.isdir(output):
        raise UsageError(f"-o: expected a folder, got a file: {arguments.output}")
    if not os.path.isdir(os.path.dirname(output)):
        raise FileMissingError(f"-o: no such folder: {os.path.dirname(output)}")
    pictures = Pictures(listed(arguments.images))
    m = load(checkpoint_of(arguments.checkpoint), device=arguments.device,
             threads=arguments.threads)
    reference = target
    if isinstance(target, tuple):
        reference = m.embed(Pictures(list(target)).batch([0])[0][None])[0]
    maps, names = [], _names(pictures.paths)
    with counter("cam") as progress:
        for first, images in _runs(pictures):
            found = m.grad_cam(images, reference, arguments.layer, head=arguments.head,
                               method=arguments.method)
            make_folder(output)
            for name, image, one in zip(names[first:], images, found):
                save(heat(image, one), os.path.join(output, name))
            maps.append(found)
            progress(first + len(images), len(pictures))
    settings = {"target": arguments.target, "layer": arguments.layer, "head": arguments.head,
                "method": arguments.method, "system": m.system}
    maps = numpy.concatenate(maps)
    with write_atomic(os.path.join(output, ARCHIVE)) as file:
        numpy.savez(file, maps=maps, paths=numpy.array(pictures.paths),
                    settings=numpy.array(json.dumps(settings)))
    print(f"written: {arguments.output}: {len(names)} pictures, {ARCHIVE} "
          f"({'×'.join(map(str, maps.shape))})")
