"""Memory that this process may still take: what the system, its control groups and its own limits
leave (Linux).

Pages are taken when an array is written to. Addresses are taken when it is allocated, and so is
what the system has promised where it promises no more than it has (``vm.overcommit_memory`` 2).

Files are read below the folder ``root``. One that is missing or holds no number sets no limit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

ROOT = Path("/")
# Both versions of control groups; a folder has the files of one
GROUP_LIMITS = ("memory.max", "memory.high", "memory.limit_in_bytes")
GROUP_USAGES = ("memory.current", "memory.usage_in_bytes")
# Version 1 says 2**63 less a page
NO_LIMIT = 2**62
# The page cache, which the kernel reclaims before it refuses memory; with subgroups, where told
RECLAIMABLE = ("total_inactive_file", "inactive_file")
# Each limit of the process, and what of it is taken
PROCESS_LIMITS = {"Max address space": "VmSize", "Max data size": "VmData"}


def free_pages(root: Path = ROOT) -> int | None:
    """Bytes that may still be written to: the least that the system and the groups leave; None
    where nothing tells."""
    memory = _table(root / "proc/meminfo")
    system = memory.get("MemAvailable")
    free = [] if system is None else [system + memory.get("SwapFree", 0)]
    for limit, folder in _group_limits(root):
        statistics = _table(folder / "memory.stat")
        dropped = next((statistics[name] for name in RECLAIMABLE if name in statistics), 0)
        used = max((_number(folder / name) or 0) for name in GROUP_USAGES)
        free.append(max(0, limit - max(0, used - dropped)))
    return min(free, default=None)


def free_addresses(root: Path = ROOT) -> int | None:
    """Bytes that may still be allocated: the least that the limits of the process (RLIMIT_AS,
    RLIMIT_DATA) and the system's promises leave; None where nothing sets a limit."""
    limits, free = _read(root / "proc/self/limits"), []
    for limit, taken in PROCESS_LIMITS.items():
        match = re.search(rf"^{limit} +(\d+) ", limits, re.MULTILINE)  # the soft one
        if match:
            free.append(int(match[1]) - _table(root / "proc/self/status").get(taken, 0))
    if _number(root / "proc/sys/vm/overcommit_memory") == 2:
        memory = _table(root / "proc/meminfo")
        free.append(memory.get("CommitLimit", NO_LIMIT) - memory.get("Committed_AS", 0))
    return max(0, min(free)) if free else None


def most_pages(root: Path = ROOT) -> int | None:
    """Bytes that the groups let this process have at most; None where they set no limit."""
    return min((limit for limit, _ in _group_limits(root)), default=None)


def taken_pages(root: Path = ROOT) -> int:
    """Bytes of memory that this process has; 0 where nothing tells."""
    return _table(root / "proc/self/status").get("VmRSS", 0)


def _group_limits(root: Path) -> list[tuple[int, Path]]:
    """The limits that hold for this process, each with the folder of its group."""
    numbers = [(_number(file), file.parent) for file in _limit_files(root)]
    return [(n, folder) for n, folder in numbers if n is not None and n < NO_LIMIT]


@cache
def _limit_files(root: Path) -> list[Path]:
    """The limit files of the groups that this process is in when first asked for."""
    files = (folder / name for folder in _groups(root) for name in GROUP_LIMITS)
    return [file for file in files if file.exists()]


def _groups(root: Path) -> Iterator[Path]:
    """The folders of the groups that the process is in, of both versions, from the outermost one.

    A container may see its own group, or one above it, where the hierarchy is mounted.
    """
    paths = {}
    memberships = _read(root / "proc/self/cgroup")
    for controllers, path in re.findall(r"^\d+:([^:]*):(.*)$", memberships, re.MULTILINE):
        if not controllers:
            paths["cgroup2"] = path
        elif "memory" in controllers.split(","):
            paths["cgroup"] = path
    for line in _read(root / "proc/self/mountinfo").splitlines():
        place, _, what = line.partition(" - ")
        place, what = place.split(), what.split()
        if len(place) < 5 or len(what) < 3 or what[0] not in paths:
            continue
        if what[0] == "cgroup" and "memory" not in what[2].split(","):
            continue
        mounted, point = map(_unescaped, place[3:5])
        group = PurePosixPath(paths[what[0]])
        inside = group.relative_to(mounted).parts if group.is_relative_to(mounted) else ()
        folder = root / point.lstrip("/")
        yield folder
        for part in () if ".." in inside else inside:
            folder /= part
            yield folder


def _number(path: Path) -> int | None:
    text = _read(path).strip()
    return int(text) if text.isdecimal() else None


def _table(path: Path) -> dict[str, int]:
    """The numbers of a file of lines such as ``inactive_file 12`` or ``VmSize:  12 kB``, in
    bytes."""
    lines = re.findall(r"^(\w+):?\s+(\d+)( kB)?$", _read(path), re.MULTILINE)
    return {name: int(number) * (1024 if unit else 1) for name, number, unit in lines}


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _unescaped(path: str) -> str:
    """``path`` of mountinfo, in which spaces and the like stand as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)
