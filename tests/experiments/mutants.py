"""Damaged and crafted result files, and a process that reads thousands of them in little memory.

``python -m tests.experiments.mutants KIND FOLDER NUMBER`` reads mutants of the files of one of
``KINDS``. It has 300 MB above what the process has taken to start, and some seconds for each. It
fails unless each gives an error that names the file, or what the mutant holds.
"""

import contextlib
import csv
import hashlib
import io
import json
import math
import random
import sys
import warnings
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from experiments import equality, growth
from experiments.profiling import tables
from experiments.reporting import stored
from experiments.reporting.stored import naming, shown_rows
from experiments.storing.cache import MeasurementCache
from experiments.storing.results import ARRAYS, LARGEST, RECORD, TABLE, BadResults
from experiments.storing.tables import MOST_CELLS
from kernels.convolution import cuda_tiles_measured as tiles
from kernels.convolution.cuda_tiles import MAP_TILES
from tests.experiments import stored_results
from tests.mutation import NASTY, change, cut, flipped, limit_memory, limited_time, spliced, values

MOST_SHOWN = 1000
"""Rows of which a table is made, too."""
PROFILE = Path(__file__).parents[2] / "results" / "profile" / "lenet28"


def other_json(rng, content, _):
    """Values of a JSON text changed."""
    tree = json.loads(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        change(rng, tree, NASTY + values(tree))
    return json.dumps(tree).encode()


def other_entry(rng, content, other):
    """A cached measurement changed, its digest often right again."""
    content = other_json(rng, content, other)
    tree = json.loads(content)
    if not isinstance(tree, dict) or rng.random() < 0.3:
        return content
    parts = [tree.get(name) for name in ("key", "provenance", "value")]
    tree["sha256"] = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return json.dumps(tree).encode()


def other_cells(rng, content, _):
    """Cells, lines and columns of a CSV changed."""
    rows = list(csv.reader(io.StringIO(content.decode())))
    for _ in range(rng.choice((1, 1, 2, 5))):
        row = rng.choice(rows)
        if not row:
            continue
        place = rng.randrange(len(row))
        match rng.randrange(6):
            case 0:
                row[place] = str(rng.choice(NASTY)).encode(errors="replace").decode()
            case 1:
                row[place] = rng.choice(("", "1", "-1", "1e5", "True", "9" * 400, "1_0", " 1", "٣"))
            case 2:
                row[place] = rng.choice(rng.choice(rows) or [""])
            case 3:
                rows.insert(rng.randrange(len(rows)), list(row))
            case 4:
                del rows[rng.randrange(len(rows))]
                rows = rows or [["net"]]
            case 5:
                places = list(range(max(map(len, rows))))
                rng.shuffle(places)
                rows = [[row[i] for i in places if i < len(row)] for row in rows]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def other_members(rng, content, other):
    """One array of an archive damaged, and its checksum right again."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(list(members))
    members[name] = rng.choice((flipped, cut, spliced))(rng, members[name], other)
    changed = io.BytesIO()
    with zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, value in members.items():
            archive.writestr(key, value)
    return changed.getvalue()


class Stored:
    """A file of an experiment's results."""

    def __init__(self, folder, name, experiment, change):
        self.folder, self.name, self.experiment, self.change = folder, name, experiment, change
        self.path = folder / name
        self.record = json.loads((folder / RECORD).read_text())

    def write(self, content):
        """Write a mutant; the record describes it, so that it is looked into."""
        self.path.write_bytes(content)
        if self.name != RECORD:
            self.record["sha256"][self.name] = hashlib.sha256(content).hexdigest()
            (self.folder / RECORD).write_text(json.dumps(self.record))

    def read(self):
        """What is read, or None if it is refused; a table is made of it, too."""
        refused = None
        try:
            if self.experiment is tables:
                found = stored.load_profile(self.folder, {"profile": tables})
            else:
                found = stored.load(self.folder, self.experiment)
        except BadResults as error:
            refused = str(error)
        if refused:
            assert str(self.path) in refused
            return None
        if len(found.rows) < MOST_SHOWN:
            self._show(found)
        return found

    def _show(self, found):
        with contextlib.suppress(BadResults), naming(self.folder):
            self.experiment.table(shown_rows(found))

    def check(self, found, content):
        """Compare what was read with what the mutant holds, as other code reads it."""
        if self.name == RECORD:
            assert same(found.record, json.loads(content))
        elif self.name == TABLE:
            head, *lines = csv.reader(io.StringIO(content.decode(), newline=""))
            assert len(found.rows) == len(lines)
            for row, line in zip(found.rows, lines):
                held = dict(zip(head, line))
                assert all(is_text_of(held.get(name, ""), value) for name, value in row.items())
        else:
            held = np.load(io.BytesIO(content))
            assert found.arrays.keys() == {*held}
            for name, array in found.arrays.items():
                np.testing.assert_array_equal(array, held[name], strict=True)


def is_text_of(text, value):
    """Whether a cell stands for a value."""
    if isinstance(value, float):
        return float(text) == value or (math.isnan(value) and text.lower() == "nan")
    if isinstance(value, int) and not isinstance(value, bool):
        return int(text) == value
    return text == ("" if value is None else str(value))


def same(found, expected):
    """Whether two JSON trees are the same, NaN being NaN."""
    return json.dumps(found, sort_keys=True) == json.dumps(expected, sort_keys=True)


class Cached:
    """A cached measurement; what is refused is measured anew."""

    change = staticmethod(other_entry)
    old = [{"net": "n4", "seconds": 0.5, "note": None, "extrapolated": True}] * 5

    def __init__(self, folder):
        self.folder = folder
        self._store().measured({"net": "n4"}, lambda: self.old)
        (self.path,) = folder.iterdir()
        self.content = self.path.read_bytes()

    def _store(self):
        provenance = {"utc": "2014-12-15T00:00:00+00:00", "commit": "abc", "dirty": False}
        return MeasurementCache(self.folder, {"code": 1, "seed": 0}, provenance)

    def write(self, content):
        self.path.write_bytes(content)

    def read(self):
        store, said = self._store(), io.StringIO()
        with contextlib.redirect_stderr(said):
            value = store.measured({"net": "n4"}, lambda: "new")
        if store.reused:
            assert not said.getvalue()
            return value
        assert value == "new"
        assert str(self.path) in said.getvalue()
        assert self.path.read_bytes() == self._anew()
        return None

    def _anew(self):
        entry = json.loads(self.path.read_bytes())
        assert entry["value"] == "new"
        return json.dumps(entry).encode()

    def check(self, found, content):
        assert same(found, json.loads(content)["value"])


class Tiles:
    """Measured tiles of a device; what is refused is named in a warning."""

    change = staticmethod(other_json)
    device = "Stand-in 9000"

    def __init__(self, folder):
        self.folder, self.path = folder, folder / tiles.file_name(self.device)
        tiles.SHIPPED = folder / "none"
        measurements = [
            {"table": "map", "rows": 20, "columns": columns, "call": call}
            | {"tile": asdict(tile), "seconds": seconds}
            for columns in (1000, 4000)
            for call in ("forward", "gradient")
            for seconds, tile in enumerate(list(MAP_TILES)[:4], 1)
        ]
        self.path.write_text(json.dumps({"gpu": self.device, "measurements": measurements}))

    def write(self, content):
        self.path.write_bytes(content)
        tiles._read.cache_clear()

    def read(self):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found = tiles._read(self.device, self.folder)
        if said:
            assert not found
            assert str(self.path) in str(said[0].message)
            return None
        return found

    def check(self, found, content):
        measurements = json.loads(content)["measurements"]
        assert found.keys() == {(m["table"], m["rows"], m["columns"]) for m in measurements}
        for key, tile in found.items():
            of_key = [m for m in measurements if (m["table"], m["rows"], m["columns"]) == key]
            fields = json.loads(json.dumps(asdict(tile)))
            assert fields in [m["tile"] for m in of_key]
            hash(tile)


def results_of(experiment, rows, name, change, arrays=None):
    """A kind of file of the results of an experiment."""

    def kind(folder):
        own = stored_results.store(folder, rows, experiment.__name__.split(".")[-1], arrays=arrays)
        return Stored(own, name, experiment, change)

    return kind


def profile_of(name, change):
    """A kind of file of the profiler's results: rows of every source."""

    def kind(folder):
        rows = stored.load_profile(PROFILE, {"profile": tables}).rows
        chosen = [row for s in ("static", "traced", "model") for row in rows if row["source"] == s]
        chosen = chosen[:: len(chosen) // 20]
        return Stored(
            stored_results.store_profile(folder, chosen, experiment="profile"), name, tables, change
        )

    return kind


IMAGES = {"labels": np.arange(12).reshape(3, 4), "image": np.eye(5), "mask": np.eye(2) > 0}
KINDS = {
    "record": results_of(equality, stored_results.equality(), RECORD, other_json),
    "table": results_of(growth, stored_results.growth(), TABLE, other_cells),
    "arrays": results_of(equality, stored_results.equality(), ARRAYS, other_members, IMAGES),
    "cached measurement": Cached,
    "profile record": profile_of(RECORD, other_json),
    "profile table": profile_of(TABLE, other_cells),
    "tiles": Tiles,
}


def large(kind, content):
    """The largest contents of a kind, that unfold into as many Python objects as they can."""
    most = 2**23 if kind in ("cached measurement", "tiles") else LARGEST[RECORD]
    if kind.endswith("table"):
        head, line, *_ = content.splitlines(keepends=True)
        rows = MOST_CELLS // len(tables.COLUMNS if kind == "profile table" else growth.COLUMNS)
        most = min(rows, (LARGEST[TABLE] - len(head)) // len(line))
        yield head + line * most
        yield head + line * (most + 1)
        yield head + b"\n" * (LARGEST[TABLE] - len(head))
        yield b"a," * (LARGEST[TABLE] // 2)
        yield b'"' + b"\n" * (LARGEST[TABLE] - 1)
    elif kind == "arrays":
        yield other_size(2**24)
        yield other_size(2**30)
    else:
        for begin, middle, end in (
            ("[[],", "[],", "[]]"),
            ("[{},", "{},", "{}]"),
            ("[", '{"a":0},', "{}]"),
            ("[", "0.1,", "1]"),
            ('"', '\\"', '"'),
            ('{"measurements":[', "[],", "[]]}"),
        ):
            yield (begin + middle * ((most - 99) // len(middle)) + end).encode()
        yield b" " * (most + 1)


def other_size(size):
    """An archive whose array unpacks to so many bytes of zeros."""
    header = np.lib.format.header_data_from_array_1_0(np.empty(0, "u1")) | {"shape": (size,)}
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.npy", "w", force_zip64=True) as member,
    ):
        np.lib.format.write_array_header_1_0(member, header)
        for _ in range(size >> 20):
            member.write(bytes(2**20))
    return packed.getvalue()


def main(kind, folder, number):
    """Read ``number`` mutants, or the ``large`` files; print how many were refused and read."""
    counts = {"refused": 0, "read": 0}
    file = KINDS[kind](Path(folder))
    content = file.path.read_bytes()
    other = json.dumps(NASTY).encode()
    contents = list(large(kind, content)) if number == "large" else None
    limit_memory()
    for i in range(len(contents) if contents else int(number)):
        if contents:
            changed = contents[i]
        else:
            rng = random.Random(i)
            way = rng.choice((flipped, cut, spliced, file.change, file.change, file.change))
            changed = way(rng, content, other)
        file.write(changed)
        with limited_time():
            found = file.read()
        if found is None:
            counts["refused"] += 1
        else:
            file.check(found, changed)
            counts["read"] += 1
    print(json.dumps(counts))


if __name__ == "__main__":
    main(*sys.argv[1:])
