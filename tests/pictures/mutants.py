"""Image files changed at random, read in a process of little memory.

``python -m tests.pictures.mutants FOLDER NUMBER NAME...`` reads mutants of each named one of
``files.KINDS`` or ``LOSSY``. It fails unless each is an image or raises BadImage or MemoryError.
"""

import json
import random
import sys
import warnings
from pathlib import Path

from net.pictures import BadImage, read
from tests.mutation import cut, flipped, limit_memory, limited_time, spliced
from tests.pictures.files import KINDS, LOSSY


def main(folder, number, *names):
    """Read the mutants; print for each file how many were refused and how many read."""
    warnings.simplefilter("ignore")
    for name in names:
        (KINDS | LOSSY)[name][0](Path(folder, name))
        read(Path(folder, name))  # decoders are loaded
    limit_memory()
    print(json.dumps({name: _read(Path(folder, name), int(number)) for name in names}))


def _read(path, number):
    counts = {"refused": 0, "read": 0}
    content = path.read_bytes()
    for i in range(number):
        rng = random.Random(i)
        path.write_bytes(rng.choice((flipped, cut, spliced))(rng, content, content))
        try:
            with limited_time():
                image = read(path)
        except (BadImage, MemoryError):
            counts["refused"] += 1
            continue
        assert image.ndim == 3, f"mutant {i} of {path}"
        assert image.dtype.kind in "biuf", f"mutant {i} of {path}"
        counts["read"] += 1
    return counts


if __name__ == "__main__":
    main(*sys.argv[1:])
