"""Files changed at random, and a process of little memory and time that reads them."""

import faulthandler
import resource
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

MEMORY = 300 * 2**20
SECONDS = 20

NASTY = [
    *(None, True, False, 0, 1, -1, 2, 3, 7, 64, 2**31, 2**53, 2**63, 2**64 - 1, -(2**63)),
    *(0.0, -0.0, 0.5, 1.0, -1.5, 1e-300, 1e300, "", "nan", "inf", "-inf", "image", "conv1", "ReLU"),
    *(
        "float32",
        "float64",
        "dense",
        "__class__",
        "os",
        "\0",
        "\ud800",
        "x" * 1000,
        "net/first.bias",
    ),
    *([], {}, [[]], [0], [2, 2], [-1, 1], [2**62, 2**62], ["image"], {"kind": "ReLU"}, {"a": 1}),
    *({"kind": "SGD", "rate": 0.1}, {"kind": "Cosine", "rate": 1, "steps": 2}, [0] * 50),
]


def flipped(rng, content, _):
    """Some bits flipped, more often in the header than their share."""
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8, 100))):
        end = rng.choice((8, 60, 2000, len(content)))
        content[rng.randrange(min(end, len(content)))] ^= 1 << rng.randrange(8)
    return bytes(content)


def cut(rng, content, _):
    """Truncated, or something appended."""
    if rng.random() < 0.7:
        return content[: rng.randrange(len(content))]
    return content + rng.randbytes(rng.choice((1, 8, 1000)))


def spliced(rng, content, other):
    """A piece of this or of another file, put in, or in the place of another piece."""
    source = rng.choice((content, other))
    begin = rng.randrange(len(source))
    piece = source[begin : begin + rng.choice((1, 4, 8, 100, 1000))]
    at = rng.randrange(len(content))
    return content[:at] + piece + content[at + rng.choice((0, len(piece))) :]


def change(rng, tree, choices):
    """Replace, remove, rename or double one value somewhere in ``tree``."""
    places = list(_places(tree))
    if not places:
        return
    node, key = rng.choice(places)
    kind = rng.randrange(8)
    if kind < 3:
        node[key] = deepcopy(rng.choice(choices))
    elif kind == 3:
        del node[key]
    elif isinstance(node[key], int | float) and kind > 4:
        node[key] = rng.choice((node[key] + 1, node[key] / 2, node[key] * 3))
    elif kind == 4 and isinstance(node, dict):
        other, other_key = rng.choice(places)
        node[key], other[other_key] = other[other_key], node[key]
    elif isinstance(node, dict):
        node[rng.choice((f"{key}x", "kind", "more/x", "\x00"))] = deepcopy(node[key])
    else:
        node.insert(key, deepcopy(node[key]))


def _places(tree):
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from _places(tree[key])


def values(tree):
    """All values in ``tree``, at any depth."""
    return [node[key] for node, key in _places(tree)]


def limit_memory():
    """Allow this process ``MEMORY`` above what it has taken so far."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))


@contextmanager
def limited_time():
    """End the process after ``SECONDS``, and say on stderr where it was."""
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
