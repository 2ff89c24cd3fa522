"""What the process may still take: on written trees, in a group and under limits of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernels.gaps import Gaps
from kernels.host import limits

ROOT = Path(__file__).parents[2]
MB, GB = 2**20, 2**30
UNLIMITED_V1 = "9223372036854771712\n"
LIMITS = """Limit                     Soft Limit           Hard Limit           Units
Max data size             {data:<20} unlimited            bytes
Max stack size            8388608              unlimited            bytes
Max address space         {addresses:<20} unlimited            bytes
"""


@pytest.fixture
def tree(tmp_path):
    """A function that writes files below a root folder of its own, which it returns.

    The system has 8 GB of memory available and 1 GB of swap, and the process no limits.
    """

    def write(files=None, *, data="unlimited", addresses="unlimited"):
        system = f"MemTotal: {12 * GB // 1024} kB\nMemAvailable: {8 * GB // 1024} kB\n"
        written = {
            "proc/meminfo": system + f"Active(anon): 7 kB\nSwapFree: {GB // 1024} kB\n",
            "proc/self/limits": LIMITS.format(data=data, addresses=addresses),
            "proc/self/status": f"Name:\tpython\nVmSize:\t{GB // 1024} kB\nVmData:\t 1024 kB\n",
            "proc/sys/vm/overcommit_memory": "0\n",
        }
        for name, text in (written | (files or {})).items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def v2(path, groups, *, mounted="/", point="/sys/fs/cgroup"):
    """The files of version 2: groups by folder, each (limit, usage, inactive_file)."""
    files = {
        "proc/self/cgroup": f"0::{path}\n",
        "proc/self/mountinfo": "22 27 0:21 / /proc rw,relatime - proc proc rw\n"
        f"30 23 0:26 {mounted} {point} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
    }
    for folder, (limit, usage, inactive) in groups.items():
        base = f"sys/fs/cgroup/{folder}"
        files |= {
            f"{base}/memory.max": f"{limit}\n",
            f"{base}/memory.current": f"{usage}\n",
            f"{base}/memory.stat": f"anon 5\nfile 77\ninactive_file {inactive}\nslab 3\n",
        }
    return files


def v1(path, groups, *, mounted="/"):
    """The same of version 1, where ``inactive_file`` is the group's own and the total counts."""
    files = {
        "proc/self/cgroup": f"5:cpu,cpuacct:/elsewhere\n4:memory:{path}\n1:name=systemd:/\n0::/\n",
        "proc/self/mountinfo": "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
        f"35 31 0:32 {mounted} /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n",
    }
    for folder, (limit, usage, inactive) in groups.items():
        base = f"sys/fs/cgroup/memory/{folder}"
        files |= {
            f"{base}/memory.limit_in_bytes": f"{limit}\n",
            f"{base}/memory.usage_in_bytes": f"{usage}\n",
            f"{base}/memory.stat": f"cache 9\ninactive_file 1\ntotal_inactive_file {inactive}\n",
        }
    return files


class TestSystem:
    def test_memory_and_swap(self, tree):
        assert limits.free_pages(tree()) == 9 * GB
        assert limits.most_pages(tree()) is None

    def test_nothing_tells(self, tmp_path):
        assert limits.free_pages(tmp_path) is None
        assert limits.free_addresses(tmp_path) is None
        assert limits.most_pages(tmp_path) is None

    def test_no_swap(self, tree):
        assert limits.free_pages(tree({"proc/meminfo": "MemAvailable:  2048 kB\n"})) == 2 * MB

    def test_here(self):
        if not sys.platform.startswith("linux"):
            pytest.skip("no Linux, so no /proc")
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        swap = limits._table(Path("/proc/meminfo"))["SwapTotal"]
        assert 0 < limits.free_pages() <= pages + swap


@pytest.mark.parametrize("version", [v1, v2])
class TestGroups:
    def free(self, tree, files):
        root = tree(files)
        return limits.free_pages(root), limits.most_pages(root)

    def test_limit_less_usage_and_what_files_hold(self, tree, version):
        files = version("/a", {"a": (GB, 700 * MB, 100 * MB)})
        assert self.free(tree, files) == (424 * MB, GB)

    def test_every_level_of_nested_groups(self, tree, version):
        groups = {"a": (3 * GB, GB, 0), "a/b": (2 * GB, 1900 * MB, 0), "a/b/c": (4 * GB, MB, 0)}
        assert self.free(tree, version("/a/b/c", groups)) == (148 * MB, 2 * GB)
        groups["a"] = (GB, 950 * MB, 0)
        assert limits.most_pages(tree(version("/a/b/c", groups))) == GB

    def test_the_outermost_and_the_innermost(self, tree, version):
        groups = {"a": (GB, 900 * MB, 0), "a/b": (2 * GB, 5, 0)}
        assert self.free(tree, version("/a/b", groups)) == (124 * MB, GB)

    def test_groups_of_others_do_not_matter(self, tree, version):
        groups = {"a": (2 * GB, 0, 0), "b": (MB, MB, 0), "a/inner": (MB, MB, 0)}
        assert self.free(tree, version("/a", groups)) == (2 * GB, 2 * GB)

    def test_no_limit(self, tree, version):
        limit = UNLIMITED_V1.strip() if version is v1 else "max"
        files = version("/a/b", {"a": (limit, 5 * GB, 0), "a/b": (limit, 5 * GB, 0)})
        assert self.free(tree, files) == (9 * GB, None)

    def test_no_limit_in_a_limited_group(self, tree, version):
        limit = UNLIMITED_V1.strip() if version is v1 else "max"
        files = version("/a/b", {"a": (GB, 5 * MB, 0), "a/b": (limit, 5 * MB, 0)})
        assert self.free(tree, files) == (1019 * MB, GB)

    def test_a_full_group(self, tree, version):
        assert self.free(tree, version("/a", {"a": (GB, GB + MB, 0)})) == (0, GB)

    def test_files_hold_more_than_is_counted(self, tree, version):
        assert self.free(tree, version("/a", {"a": (GB, MB, 2 * MB)})) == (GB, GB)

    def test_a_container_that_sees_its_own_group_as_the_root(self, tree, version):
        files = version("/docker/1f", {"": (GB, MB, 0)}, mounted="/docker/1f")
        assert self.free(tree, files) == (1023 * MB, GB)

    def test_a_group_in_such_a_container(self, tree, version):
        groups = {"": (2 * GB, MB, 0), "inner/most": (GB, 24 * MB, 0)}
        files = version("/docker/1f/inner/most", groups, mounted="/docker/1f")
        assert self.free(tree, files) == (1000 * MB, GB)

    @pytest.mark.parametrize("path", ["/../elsewhere", "/other/1f"])
    def test_a_group_outside_of_what_is_mounted(self, tree, version, path):
        mounted = "/" if path.startswith("/..") else "/docker/1f"
        files = version(path, {"": (GB, MB, 0), "../elsewhere": (5, 5, 0)}, mounted=mounted)
        assert self.free(tree, files) == (1023 * MB, GB)

    @pytest.mark.parametrize("missing", ["usage", "stat", "both"])
    def test_missing_files(self, tree, version, missing):
        files = version("/a", {"a": (GB, 24 * MB, 4 * MB)})
        gone = {"usage": ("usage_in_bytes", "current"), "stat": ("stat",)}
        names = gone.get(missing) or gone["usage"] + gone["stat"]
        files = {name: text for name, text in files.items() if not name.endswith(names)}
        expected = {"usage": GB, "stat": 1000 * MB, "both": GB}[missing]
        assert self.free(tree, files) == (expected, GB)

    @pytest.mark.parametrize("text", ["", "\n", "-1\n", "unlimited", "12 34", "1e9", "\x00\xff"])
    def test_odd_limits(self, tree, version, text):
        files = version("/a", {"a": (text, 24 * MB, 0)})
        assert self.free(tree, files) == (9 * GB, None)

    @pytest.mark.parametrize("name", ["proc/self/cgroup", "proc/self/mountinfo"])
    @pytest.mark.parametrize("text", ["", "4\n\n::\n", "odd", "1 2 3 - cgroup2\n- - -\n"])
    def test_odd_lists(self, tree, version, name, text):
        files = version("/a", {"a": (GB, 0, 0)}) | {name: text}
        assert self.free(tree, files) == (9 * GB, None)


class TestGroupsOfVersion2:
    def test_a_limit_that_slows_down(self, tree):
        files = v2("/a", {"a": ("max", 100 * MB, 0)}) | {"sys/fs/cgroup/a/memory.high": f"{GB}\n"}
        assert limits.free_pages(tree(files)) == 924 * MB

    def test_a_mount_with_a_space(self, tree):
        files = v2("/", {"": (GB, 0, 0)}, point=r"/sys/fs/c\040group")
        files = {name.replace("fs/cgroup", "fs/c group"): text for name, text in files.items()}
        assert limits.free_pages(tree(files)) == GB


class TestAddresses:
    def test_no_limit(self, tree):
        assert limits.free_addresses(tree()) is None

    def test_of_the_process(self, tree):
        assert limits.free_addresses(tree(addresses=3 * GB)) == 2 * GB
        assert limits.free_addresses(tree(data=GB)) == 1023 * MB
        assert limits.free_addresses(tree(addresses=3 * GB, data=4 * GB)) == 2 * GB
        assert limits.free_addresses(tree(addresses=MB)) == 0

    def test_of_a_system_that_keeps_its_promises(self, tree):
        promises = {"proc/meminfo": "CommitLimit: 2048 kB\nCommitted_AS: 1024 kB\n"}
        assert limits.free_addresses(tree(promises)) is None
        promises["proc/sys/vm/overcommit_memory"] = "2\n"
        assert limits.free_addresses(tree(promises)) == MB


def test_gaps_count_what_is_free():
    gaps = Gaps(100 * 4096)
    first, second = gaps.take(4096), gaps.take(2 * 4096)
    assert gaps.free_bytes() == 97 * 4096
    gaps.give_back(*first)
    assert (gaps.free_bytes(), gaps.reusable_bytes()) == (98 * 4096, 4096)
    gaps.give_back(*second)
    assert (gaps.free_bytes(), gaps.reusable_bytes()) == (100 * 4096, 3 * 4096)


def test_gaps_shrink_to_the_last_place():
    gaps = Gaps(10 * 4096)
    first, second, third = (gaps.take(4096) for _ in range(3))
    gaps.give_back(*first)
    gaps.give_back(*third)
    assert gaps.shrink() == third
    assert (gaps.used, gaps.reusable_bytes()) == (2 * 4096, 4096)
    assert gaps.shrink() == (2 * 4096, 2 * 4096)
    gaps.give_back(*second)
    assert gaps.shrink() == (0, 2 * 4096)
    assert (gaps.take(10 * 4096), gaps.used) == ((0, 10 * 4096), 10 * 4096)
    assert gaps.shrink() == (10 * 4096, 10 * 4096)


def _child(program, *arguments, before=None):
    """What a process prints that runs ``program`` on this tree, after ``before``."""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        **{"env": os.environ | {"PYTHONPATH": str(ROOT)}, "timeout": 120},
        **{"preexec_fn": before, "capture_output": True, "text": True},
    )
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


UNDER_A_LIMIT = """
import resource, sys
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
import numpy as np
from kernels.masking import cpu as masking
from kernels.memory import cpu
free = cpu.free_bytes()
own = np.empty(limit // 4, np.uint8)
less = free - cpu.free_bytes()
error = np.ones((1, 64, 64, 64), np.float32)
passed = masking.apply(error, np.ones((1, 64, 64), bool))
assert (passed == 1).all()
assert np.shares_memory(passed, cpu._store.range)
print(free, less, cpu._store.range.nbytes)
"""
LIMITED_LATER = """
import resource
import numpy as np
from kernels.memory import cpu
size = cpu._store.range.nbytes
resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
free, array = cpu.free_bytes(), cpu.empty(2**27, np.uint8)
assert np.shares_memory(array, cpu._store.range)
print(size, free)
"""


@pytest.mark.cpu
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of Linux")
class TestUnderALimitOfAddresses:
    @pytest.mark.parametrize("share", [0.15, 0.9, 1.0])
    def test_the_reserved_range_leaves_room(self, share):
        """As ``ulimit -v`` sets it, for shares of the memory that the system has."""
        limit = int(share * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        free, less, reserved = _child(UNDER_A_LIMIT, limit)
        assert 0 < reserved < limit / 2
        assert 0 < free < limit
        if share < 0.5:  # addresses are scarcer than memory
            assert free > reserved
            assert less >= limit // 4

    def test_a_limit_below_what_is_reserved(self):
        """What is reserved can still be used, and is counted."""
        reserved, free = _child(LIMITED_LATER)
        assert reserved > GB
        assert 2**27 < free <= reserved


IN_A_GROUP = """
from kernels.host import limits
from kernels.memory import cpu
print(cpu.free_bytes(), limits.most_pages(), cpu._store.range.nbytes)
"""


@pytest.mark.cpu
def test_in_a_real_group():
    """A group of its own within that of this process, if the machine lets us make one."""
    groups = list(limits._groups(limits.ROOT))
    parents = [folder for folder in groups if (folder / "memory.limit_in_bytes").exists()]
    if not parents:
        parents = [
            f for f in groups if "memory" in limits._read(f / "cgroup.subtree_control").split()
        ]
    if not parents:
        pytest.skip("no group here has subgroups with limits of memory")
    group = parents[-1] / f"test-of-limits-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no group can be made here: {error}")
    try:
        files = [group / name for name in ("memory.max", "memory.limit_in_bytes")]
        next(file for file in files if file.exists()).write_text(str(512 * MB))

        def enter():
            (group / "cgroup.procs").write_text(str(os.getpid()))

        free, most, reserved = _child(IN_A_GROUP, before=enter)
    finally:
        group.rmdir()
    assert most == 512 * MB
    assert 256 * MB < free <= 512 * MB
    assert reserved <= 512 * MB
