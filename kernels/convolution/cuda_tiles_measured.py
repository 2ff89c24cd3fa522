"""Tiles that were measured on a device, by ``python -m experiments tune``: a file for each device.

It is looked for in the user's cache folder, then among the files shipped in ``tiles`` beside this
one. A file is valid for the kernels that it was measured with: the digest of their sources is part
of its name. A file that is damaged is named in a warning and passed over.
"""

import hashlib
import json
import os
import re
import reprlib
import warnings
from collections import defaultdict
from dataclasses import fields
from functools import cache
from math import log2
from pathlib import Path

from kernels.convolution.cuda_tile import Tile
from kernels.device.api import device_name
from kernels.device.launching import is_recording

SHIPPED = Path(__file__).parent / "tiles"
# A measurement serves matrices with as many rows and a quarter to four times as many columns: half
# to twice the pixels along an image
FARTHEST = 2.0
# Bytes of a file, seconds of a convolution, and the threads of a block, which no field of a tile
# exceeds
LARGEST_FILE, LONGEST, MOST_THREADS = 8 * 2**20, 1e6, 1024
TABLES = ("map", "weights", "matrix")
_FIELDS = {"table", "rows", "columns", "call", "tile", "seconds"}


def user_folder() -> Path:
    """Where this user's measurements are stored."""
    cache_home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache_home) / "regularly-sparse"


def file_name(device: str) -> str:
    """The name of a device's file for the kernels as they are."""
    words = re.findall("[0-9A-Za-z]+", device)
    return f"tiles-{'-'.join(words)}-{_sources()}.json"


def measured_tile(table: str, rows: int, columns: int, itemsize: int) -> Tile | None:
    """The fastest tile as measured on the current device for a matrix like this one, if any was.

    Args:
        table, rows, columns, itemsize: as ``kernels.convolution.cuda.choose_tile`` takes them.
    """
    if is_recording() or itemsize != 4:
        return None
    return _nearest(device_name(), user_folder(), table, rows, columns)


@cache
def _nearest(device, folder, table, rows, columns):
    fastest = _read(device, folder)
    distances = {key: abs(log2(columns / key[2])) for key in fastest if key[:2] == (table, rows)}
    key = min(distances, key=distances.get, default=None)
    return fastest[key] if key and distances[key] <= FARTHEST else None


@cache
def _read(device, folder):
    """The fastest tile by (table, rows, columns) according to a device's file."""
    for path in _files(device, folder):
        try:
            return fastest_tiles(_measurements(path))
        except (OSError, ValueError, RecursionError, MemoryError) as error:
            warnings.warn(
                f"{path} cannot be read ({error}); the cost model chooses tiles instead",
                stacklevel=2,
            )
    return {}


def _files(device, folder):
    """The files of a device that there are; the first one that can be read counts."""
    places = (place / file_name(device) for place in (folder, SHIPPED))
    return [path for path in places if path.is_file()]


def files_digest() -> str | None:
    """A digest of the current device's measurements of tiles; None where the cost model chooses."""
    files = _files(device_name(), user_folder())
    if not files:
        return None
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:12]


def _measurements(path):
    """The measurements of a file, each checked."""
    with path.open("rb") as file:
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise ValueError(f"it has more than {LARGEST_FILE} bytes")
    record = json.loads(content)
    measurements = record.get("measurements") if type(record) is dict else None
    if type(measurements) is not list:
        raise ValueError("it holds no list of measurements")
    for number, measurement in enumerate(measurements):
        if not _is_measurement(measurement):
            raise ValueError(f"measurement {number} is {reprlib.repr(measurement)}")
    return measurements


def _is_measurement(m):
    if type(m) is not dict or m.keys() != _FIELDS or m["table"] not in TABLES:
        return False
    extents = all(type(m[name]) is int and 0 < m[name] < 2**31 for name in ("rows", "columns"))
    is_time = type(m["seconds"]) in (int, float) and 0 < m["seconds"] < LONGEST
    return extents and is_time and type(m["call"]) is str and _is_tile(m["tile"])


def _is_tile(tile):
    if type(tile) is not dict or tile.keys() != {field.name for field in fields(Tile)}:
        return False
    pairs = [tile["lanes"], tile["warps"]]
    if not all(type(pair) is list and len(pair) == 2 for pair in pairs):
        return False
    counts = [tile[name] for name in ("rows", "columns", "depth", "blocks")] + pairs[0] + pairs[1]
    return all(type(count) is int and 0 < count <= MOST_THREADS for count in counts)


def fastest_tiles(measurements: list[dict]) -> dict[tuple, Tile]:
    """The fastest tile by (table, rows, columns); times of calls with the same matrix add up.

    Args:
        measurements: dicts of ``table``, ``rows``, ``columns``, ``call`` (a name), ``tile`` (the
            fields of ``Tile``) and ``seconds``.
    """
    times = defaultdict(lambda: defaultdict(dict))
    for m in measurements:
        tile = Tile(**{k: tuple(v) if isinstance(v, list) else v for k, v in m["tile"].items()})
        times[m["table"], m["rows"], m["columns"]][tile][m["call"]] = m["seconds"]
    fastest = {}
    for key, by_tile in times.items():
        most = max(map(len, by_tile.values()))
        complete = {t: sum(s.values()) for t, s in by_tile.items() if len(s) == most}
        fastest[key] = min(complete, key=complete.get)
    return fastest


@cache
def _sources() -> str:
    here = Path(__file__).parent
    kernels = {*here.glob("cuda*.py"), *(here.parent / "device").glob("*.py")}
    paths = sorted(kernels - set(here.glob("cuda_tiles*.py")))  # these only choose
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:12]
