"""Image files changed at random, read in a process of little memory.

``python -m tests.pictures.mutants NAME FOLDER NUMBER`` reads mutants of one of ``files.KINDS``. It
fails unless each is an image or raises BadImage or MemoryError.
"""

import json
import random
import sys
import warnings
from pathlib import Path

import numpy as np

from net.pictures import BadImage, read
from tests.mutation import cut, flipped, limit_memory, limited_time, spliced
from tests.pictures.files import KINDS


def main(name, folder, number):
    """Read ``number`` mutants; print how many were refused and how many read."""
    warnings.simplefilter("ignore")
    counts = {"refused": 0, "read": 0}
    path = Path(folder, name)
    KINDS[name][0](path)
    content = path.read_bytes()
    read(path)
    limit_memory()
    for i in range(int(number)):
        rng = random.Random(i)
        path.write_bytes(rng.choice((flipped, cut, spliced))(rng, content, content))
        try:
            with limited_time():
                image = read(path)
        except (BadImage, MemoryError):
            counts["refused"] += 1
            continue
        assert image.ndim == 3, f"mutant {i}"
        assert np.isreal(image).all(), f"mutant {i}"
        counts["read"] += 1
    print(json.dumps(counts))


if __name__ == "__main__":
    main(*sys.argv[1:])
