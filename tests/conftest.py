"""Backends as fixtures, poisoned allocations, and a summary that names the tiers that did not run.

Every test belongs to one tier: the marker ``torch``, ``cpu``, ``simulator``, ``compile`` or ``gpu``
that it carries (the first of these), else pure Python. Numba's CUDA simulator is switched on before
Python starts, so its tests have a process of their own:
``NUMBA_ENABLE_CUDASIM=1 pytest -m simulator``.
"""

import functools
import importlib.util
import os
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings

from kernels import BackendUnavailable, get_backend
from kernels.device import launching
from kernels.host import threads
from kernels.memory import cpu as cpu_memory

pytest.register_assert_rewrite("tests.comparison", "tests.finite_differences")

# Examples are drawn from one seed and from the constants of the modules that are loaded. One that
# fails is reported as it was drawn: to shrink it can take minutes.
settings.register_profile(
    "project",
    phases=(Phase.explicit, Phase.generate),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("project")

LONGEST = (
    *("test_command_line.py", "test_tiles.py", "test_vector_widths.py", "test_planning.py"),
    *("test_vector_code.py", "test_processes.py", "test_tensors.py", "test_compilation.py"),
)
TIERS = ("pure Python", "torch", "cpu", "simulator", "compile", "gpu")
SIMULATING = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") == "1"

CPU = pytest.param("cpu", marks=pytest.mark.cpu)
SIMULATOR = pytest.param("simulator", marks=pytest.mark.simulator)
CUDA = pytest.param("cuda", marks=pytest.mark.gpu)

_deselected = pytest.StashKey[Counter]()


@pytest.fixture(params=[CPU, SIMULATOR, CUDA])
def backend(request):
    """Each backend that has kernels, for cases small enough for the simulator."""
    return get_backend(request.param)


@pytest.fixture(params=[CPU, CUDA])
def fast_backend(request):
    """Each backend that has kernels and can run cases of real size."""
    return get_backend(request.param)


@pytest.fixture(params=["reference", CPU, SIMULATOR, CUDA])
def any_backend(request):
    """Each backend and the reference."""
    return get_backend(request.param)


@pytest.fixture
def rng():
    """Random numbers, the same in every run."""
    return np.random.default_rng(20141215)


@pytest.fixture(autouse=True)
def poisoned_allocations(monkeypatch):
    """Fill what ``memory.empty`` allocates with NaN, -1 or 255: an unwritten output cannot pass."""
    for owner, name in ((cpu_memory, "empty"), (launching, "allocate")):
        monkeypatch.setattr(owner, name, _poisoned(getattr(owner, name)))


@pytest.fixture(autouse=True)
def shared_work(monkeypatch):
    """Share the work of small cases, too: it is what they test."""
    monkeypatch.setattr(threads, "SMALLEST_SHARED_WORK_NS", 0)


@pytest.fixture
def device(monkeypatch):
    """The counts of a device that does nothing, which cannot be written to: nothing is poisoned."""
    if SIMULATING:
        pytest.skip("the simulator has no device")
    from kernels.device.stand_in import stand_in

    monkeypatch.setattr(launching, "allocate", launching.allocate.__wrapped__)
    with stand_in() as counts:
        yield counts


def _poisoned(allocate):
    @functools.wraps(allocate)
    def empty(shape, dtype):
        array = allocate(shape, dtype)
        if launching.is_recording():  # nothing is computed, and only what is written takes memory
            return array
        dtype = np.dtype(dtype)
        poison = np.full(shape, np.nan if dtype.kind == "f" else np.array(-1).astype(dtype), dtype)
        if isinstance(array, np.ndarray):
            array[...] = poison
        elif array.size:
            array.copy_to_device(poison)
        return array

    return empty


def pytest_addoption(parser):
    """``--long``: also the tests that are long by nature."""
    parser.addoption("--long", action="store_true", help="run the tests marked long, too")


def pytest_runtest_setup(item):
    """Skip, with the reason, what this process or this machine cannot run."""
    if item.get_closest_marker("long") and not item.config.getoption("--long"):
        pytest.skip("long: make test-long")
    if SIMULATING and item.get_closest_marker("simulator") is None:
        pytest.skip("NUMBA_ENABLE_CUDASIM=1 is set: this process runs the simulator's tests only")
    if item.get_closest_marker("torch") and importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed: the extra torch")
    for marker, name in (("simulator", "simulator"), ("gpu", "cuda")):
        if item.get_closest_marker(marker):
            try:
                get_backend(name)
            except BackendUnavailable as error:
                pytest.skip(str(error))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Note every test's tier, where reports of another process show it too. Files that take minutes
    come first: processes that share the tests by file then end together."""
    for item in items:
        item.user_properties.append(("tier", _tier(item)))
    items.sort(key=lambda item: item.path.name not in LONGEST)


def pytest_deselected(items):
    """Count what ``-m`` and ``-k`` leave out."""
    for item in items:
        item.config.stash.setdefault(_deselected, Counter())[_tier(item)] += 1


def pytest_sessionfinish(session):
    """Tell the process that started this one, if one did (pytest-xdist), what was left out."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["deselected"] = dict(session.config.stash.get(_deselected, {}))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Take over what a process left out; all leave out the same."""
    node.config.stash[_deselected] = Counter(getattr(node, "workeroutput", {}).get("deselected"))


def pytest_terminal_summary(terminalreporter, config):
    """One line for each tier; a tier that did not run says so."""
    outcomes = {tier: Counter() for tier in TIERS}
    reasons = {tier: set() for tier in TIERS}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.getreports(outcome):
            tier = dict(getattr(report, "user_properties", ())).get("tier")
            if tier is None:
                continue
            outcomes[tier]["failed" if outcome == "error" else outcome] += 1
            if outcome == "skipped":
                reasons[tier].add(report.longrepr[2].removeprefix("Skipped: "))
    terminalreporter.section("tiers")
    for tier, counts in outcomes.items():
        counts["deselected"] = config.stash.get(_deselected, Counter())[tier]
        parts = [
            f"{counts[outcome]} {outcome}"
            for outcome in ("passed", "failed", "skipped", "deselected")
            if counts[outcome] or outcome == "passed"
        ]
        why = f" ({'; '.join(sorted(reasons[tier]))})" if reasons[tier] else ""
        silent = "" if counts["passed"] + counts["failed"] else "DID NOT RUN: "
        terminalreporter.write_line(f"tier {tier}: {silent}{', '.join(parts)}{why}")


def _tier(item):
    return next((t for t in TIERS[1:] if item.get_closest_marker(t)), TIERS[0])
