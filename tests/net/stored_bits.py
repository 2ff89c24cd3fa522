"""Hashes of what the nets of the zoo compute on the host: scores, and gradients by all passes.

    python -m tests.net.stored_bits    # stores them anew, after a change meant to alter bits

Parameters, images and errors are multiples of a power of two, so that they are the same wherever
they are made. Scores have the same bits on every width of vectors; gradients may be summed in
another order, so these are stored for each number of bytes that a vector has.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

from kernels.host.simd import VECTOR_BYTES
from net import Dense, Net, Scan, zoo
from net.needed_pass import NeededPass

FILE = Path(__file__).with_name("stored_bits.json")
LABELLED = (9, 12)
# float64 takes tanh from the system, so a net without it
CASES = [*((name, "float32") for name in zoo.ZOO), ("lenet28", "float64")]


def fractions(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    """Numbers between -1 and 1, spread evenly."""
    numbers = np.arange(seed, seed + np.prod(shape), dtype=np.uint64) * np.uint64(2654435761)
    return ((numbers >> np.uint64(12)) % 2**16 / 2**15 - 1).astype(dtype).reshape(shape)


def filled(name: str, dtype: str) -> Net:
    """A net of the zoo with parameters of its own."""
    net, state = zoo.build(name, dtype=dtype, backend="cpu"), {}
    for seed, (key, array) in enumerate(net.state().items()):
        values, taps = fractions(array.shape, dtype, seed), array[0].size
        if key.endswith((".variance", ".gamma")):
            values = 1 + abs(values) / 2
        state[key] = values * 2.0 ** -np.ceil(np.log2(taps) / 2)
    net.load_state(state)
    return net


def hashes(name: str, dtype: str) -> dict[str, str]:
    """The hash of a net's scores, and those of its gradients: by the paper's pass over every cell,
    by a pass over needed cells, and by scanning."""
    net = filled(name, dtype)
    size = tuple(n + p - 1 for n, p in zip(LABELLED, net.patch))
    image = fractions((net.channels, *size), dtype, 7)
    error = fractions((net.output.channels, *LABELLED), dtype, 8)
    mask = np.arange(np.prod(LABELLED)).reshape(LABELLED) % 5 == 0
    pixels, vectors, dense = np.argwhere(mask), error[:, mask], Dense(net)
    of_patches = np.ascontiguousarray(vectors.T)
    # Not by ``Dense.gradients``, which takes a pass over every cell where most are needed
    by_lists, _ = NeededPass(net, "valid", pixels).gradients(image, vectors)
    passes = {
        "every cell": dense.gradients(image, error, mask, everywhere=True).parameters,
        "needed cells": by_lists,
        "patch by patch": Scan(net, batch=8).gradients(image, of_patches, pixels).parameters,
    }
    digests = {"scores": _digest(dense.forward(image))}
    for name, gradients in passes.items():
        digests[name] = _digest(*(array for _, array in sorted(gradients.items())))
    return digests


def stored() -> dict:
    """The hashes in the file, by net and dtype; those of gradients by the bytes of a vector."""
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def _digest(*arrays):
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    table = stored()
    for case in CASES:
        computed, key = hashes(*case), " ".join(case)
        of_case = table.setdefault(key, {"gradients": {}})
        of_case["scores"] = computed.pop("scores")
        of_case["gradients"][str(VECTOR_BYTES)] = computed
    FILE.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
