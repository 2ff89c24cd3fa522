"""The floors of the house: who may import whom, read from the sources.

Imports inside functions and under TYPE_CHECKING count too.
"""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = (
    {"kernels.checks", "kernels.foreign", "kernels.window", "kernels.code_cache"},
    {"kernels.host", "kernels.device", "kernels.memory"},
    {"kernels.activation"},
    {"kernels"},
    {"net"},
    {"experiments.inputs"},
    {"experiments.measuring", "experiments.storing"},
    {"experiments.reporting"},
    {"experiments.profiling"},
    {"experiments.modelling", "experiments.checking"},
    {"experiments"},
    {"experiments.__main__"},
    {"tests"},
)
"""From the lowest up; a module stands on the floor of the longest name that its own begins with."""
APART = (
    *("experiments.measuring", "experiments.storing"),
    *("experiments.modelling", "experiments.checking", "experiments"),
)
"""Rooms of one floor that must not import from each other."""
CUDA_PACKAGES = ("numba.cuda", "cuda")
LLVM = "llvmlite.ir"
"""What emits instructions."""
MOST_LINES = 400


def _paths() -> dict[str, Path]:
    """The file of every module, by its name."""
    found = {}
    for package in ("kernels", "net", "experiments", "tests"):
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _imported(path: Path, modules) -> set[str]:
    """What a file imports: ``from a import b`` is ``a.b`` where that is one of the modules."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} has a relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in modules else node.module)
    return found


PATHS = _paths()
IMPORTS = {name: _imported(path, {*PATHS, LLVM}) for name, path in PATHS.items()}


def _within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _place(name: str) -> tuple[int, str]:
    """The floor of a module, and its room there."""
    rooms = [(n, room) for n, rooms in enumerate(FLOORS) for room in rooms if _within(name, room)]
    return max(rooms, key=lambda place: len(place[1]))


def test_the_imports_are_seen():
    assert "experiments.profile" in IMPORTS["experiments.__main__"]
    assert "kernels.host.simd" in IMPORTS["kernels.convolution.cpu"]
    assert "numba.cuda" in IMPORTS["kernels.device.api"]


def test_no_imports_form_a_circle():
    graph = {name: names & PATHS.keys() for name, names in IMPORTS.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(f"imports form a circle: {' <- '.join(circle.args[1])}")


@pytest.mark.parametrize("name", PATHS)
def test_imports_lead_down(name):
    floor, room = _place(name)
    for other in IMPORTS[name] & PATHS.keys():
        its_floor, its_room = _place(other)
        assert its_floor <= floor, f"{other} stands on a higher floor"
        if its_floor == floor and room in APART and other != name:
            assert its_room == room != "experiments", f"{other} stands beside {name}"


@pytest.mark.parametrize("package", CUDA_PACKAGES)
def test_only_the_device_folder_imports_the_cuda_packages(package):
    importing = {name for name in PATHS if any(_within(n, package) for n in IMPORTS[name])}
    assert {name for name in importing if not _within(name, "tests")} <= {
        name for name in PATHS if _within(name, "kernels.device")
    }


def test_few_modules_emit_instructions():
    """Those that CONTRIBUTING.md names."""
    emitting = {name for name in PATHS if any(_within(n, LLVM) for n in IMPORTS[name])}
    assert emitting == {"kernels.host.simd", "kernels.host.vectors", "kernels.device.loads"}


def test_no_file_is_too_long_for_one_subject():
    lines = {name: len(path.read_text().splitlines()) for name, path in PATHS.items()}
    assert not {name: n for name, n in lines.items() if n > MOST_LINES}
