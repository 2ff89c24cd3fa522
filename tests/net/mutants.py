"""Damaged and crafted files, and a process that reads thousands of them in little memory.

``python -m tests.net.mutants KIND FOLDER NUMBER`` reads mutants of a ``run`` or of an old ``npz``,
or some ``large`` headers that unfold into as many Python objects as a header can. It has 300 MB
above what the process has taken to start, and some seconds for each. It fails unless each gives a
BadCheckpoint or what the mutant holds.
"""

import io
import json
import math
import random
import sys
import zipfile
from pathlib import Path

import numpy as np

from net.file_format import MAX_HEADER, USAGE, BadCheckpoint
from net.learning import checkpoint
from net.learning.old_runs import convert
from tests.mutation import NASTY, change, cut, flipped, limit_memory, limited_time, spliced, values
from tests.net import crafted
from tests.net.crafted import parts, small_run, whole

OLD_RUN = Path(__file__).parent / "version-1.npz"


def mutant(rng, content, other):
    """(content changed at random, whether a changed value may be as right as the old one)."""
    ways = [flipped, cut, spliced, of_other_json, of_other_json, of_other_json]
    way = rng.choice(ways)
    return way(rng, content, other), way is of_other_json


def of_other_json(rng, content, other):
    """Values, keys and entries of the JSON changed; lengths and checksums are right again."""
    if content[:4] == b"PK\x03\x04":
        return _other_archive(rng, content)
    header, document, data = parts(content)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        tree = rng.choice((header, document, document, document))
        change(rng, tree, NASTY + values(parts(other)[rng.randrange(2)]))
    if rng.random() < 0.1:
        data = rng.choice((b"", data[:-8], data + bytes(8), data * 2))
    try:
        text = whole(header, document, data)
    except UnicodeEncodeError:
        return whole(header, {}, data)
    if rng.random() < 0.1:
        length = rng.choice((0, 2**63, 2**64 - 1, len(text), rng.randrange(len(text))))
        text = length.to_bytes(8, "little") + text[8:]
    return text


def _other_archive(rng, content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(("header.npy", "header.npy", *members))
    begin = 10 + int.from_bytes(members[name][8:10], "little")
    if name == "header.npy":
        header = json.loads(members[name][begin:])
        for _ in range(rng.choice((1, 1, 2, 5))):
            change(rng, header, NASTY)
        text = json.dumps(header).encode()
        shape = f"({len(text)},)"
        npy = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
        members[name] = members[name][:8] + (118).to_bytes(2, "little") + npy.encode() + text
    else:
        npy = rng.choice((flipped, cut, spliced))(rng, members[name][:begin], members[name])
        members[name] = npy + members[name][begin:]
    changed = io.BytesIO()
    compression = rng.choice((zipfile.ZIP_STORED,) * 9 + (zipfile.ZIP_DEFLATED,))
    with zipfile.ZipFile(changed, "w", compression) as archive:
        for key, value in members.items():
            archive.writestr(key if rng.random() < 0.99 else key + "x", value)
    return changed.getvalue()


def same(found, expected):
    """Whether what was loaded is what the mutant holds; kinds gain fields that have defaults."""
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(
            key in found and same(found[key], value) for key, value in expected.items()
        )
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    numbers = isinstance(found, int | float) and isinstance(expected, int | float)
    return found == expected and (type(found) is type(expected) or numbers)


def held(content):
    """What a file holds: (net and run, bytes of the arrays by name), of today or of an old run."""
    if content[:4] != b"PK\x03\x04":
        header, document, data = parts(content)
        arrays = {n: data[slice(*entry["data_offsets"])] for n, entry in header.items()}
        return {key: document[key] for key in ("net", "run", *USAGE) if key in document}, arrays
    arrays = dict(np.load(io.BytesIO(content)))
    header = json.loads(arrays.pop("header").tobytes())
    run = header["trainer"] | {name: header[name] for name in ("steps", "history")}
    run["history"] = [
        {name: value if math.isfinite(value) else str(value) for name, value in row.items()}
        for row in run["history"]
    ]
    arrays["run/losses"] = np.array(header["losses"], float)
    return {"net": header["net"], "run": run}, {n: a.tobytes() for n, a in arrays.items()}


LARGE = {
    "lists": (b"[[],", b"[],", b"[]]"),
    "objects": (b"[{},", b"{},", b"{}]"),
    "keys": (b"[", b'{"a":0},', b"{}]"),
    "numbers": (b"[", b"0.1,", b"1]"),
    "escapes": (b"", b'\\"', b""),
}


def large(begin, middle, end):
    """A header of the largest size that is read."""
    size = MAX_HEADER - 100
    text = b'{"__metadata__":' + begin + middle * (size // len(middle)) + end + b"}"
    return len(text).to_bytes(8, "little") + text


def main(kind, folder, number):
    """Read ``number`` mutants; print how many were refused and how many loaded."""
    counts = {"refused": 0, "loaded": 0}
    original, other, path, again = (Path(folder, name) for name in ("run", "net", "mutant", "new"))
    if kind == "npz":
        original = OLD_RUN
    else:
        run = small_run()
        run.net.usage = crafted.USAGE
        checkpoint.save(original, run)
    small_run().net.save(other)
    content, foreign = original.read_bytes(), other.read_bytes()
    limit_memory()
    for i in range(int(number)):
        if kind == "large":
            changed, may_differ = large(*list(LARGE.values())[i]), True
        else:
            changed, may_differ = mutant(random.Random(i), content, foreign)
        path.write_bytes(changed)
        again.unlink(missing_ok=True)
        try:
            with limited_time():
                if kind == "npz":
                    convert(path, again)
                run = checkpoint.load(again if kind == "npz" else path, backend="reference")
        except BadCheckpoint:
            counts["refused"] += 1
            continue
        checkpoint.save(again, run)
        (document, arrays), (read, read_arrays) = (
            held(changed if may_differ else content),
            held(again.read_bytes()),
        )
        assert same(read, document), f"mutant {i}: {document} was loaded as {read}"
        assert {name: arrays.get(name) for name in read_arrays} == read_arrays, f"mutant {i}"
        counts["loaded"] += 1
    print(json.dumps(counts))


if __name__ == "__main__":
    main(*sys.argv[1:])
