"""Tiles that were measured on a device, by ``python -m experiments tune``: a file for each device.

It is looked for in the user's cache folder, then among the files shipped in ``tiles`` beside this
one. A file is valid for the kernels that it was measured with: the digest of their sources is part
of its name.
"""

import hashlib
import json
import os
import re
import warnings
from collections import defaultdict
from functools import cache
from math import log2
from pathlib import Path

from kernels.convolution.cuda_tile import Tile
from kernels.device.api import device_name
from kernels.device.launching import is_recording

SHIPPED = Path(__file__).parent / "tiles"
# A measurement serves matrices with as many rows and half to twice as many columns
FARTHEST = 1.0


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
    for place in (folder, SHIPPED):
        path = place / file_name(device)
        if path.is_file():
            try:
                return fastest_tiles(json.loads(path.read_bytes())["measurements"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                warnings.warn(
                    f"{path} cannot be read ({error!r}); the cost model chooses tiles instead",
                    stacklevel=2,
                )
    return {}


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
    paths = sorted([*(here.parent / "device").glob("*.py"), *here.glob("cuda*.py")])
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:12]
