"""Results in one archive, to send them: the same results always give the same bytes."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

from experiments.reporting.stored import Stored


def place(out: Path) -> Path:
    """The archive's path, beside the folder of results.

    Raises:
        ValueError: nothing lies beside it.
    """
    folder = out if out.name not in ("", "..") else out.resolve()
    if not folder.name:
        raise ValueError(f"--out is {out}; expected a folder with a name, to pack it")
    return folder.with_name(f"{folder.name}.tar.gz")


def packed(stored: Stored, made: dict[Path, bytes]) -> bytes:
    """An archive of the folder ``results``: the stored files and what was made of them.

    It holds nothing else: no cached measurements, links, owners or times.

    Args:
        stored: the results.
        made: contents of pages and figures by their paths, inside of ``stored.folder``.
    """
    every = [results for machine in stored.machines for results in machine.results.values()]
    files = dict(made)
    for results in [*every, *stored.profiles]:
        files |= {results.folder / name: content for name, content in results.contents.items()}
    content = io.BytesIO()
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=content, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in sorted(files):
            entry = tarfile.TarInfo(str(Path("results", path.relative_to(stored.folder))))
            entry.size, entry.mode = len(files[path]), 0o644
            archive.addfile(entry, io.BytesIO(files[path]))
    return content.getvalue()
