"""Import layers: a module imports only from its own layer or a lower one.

Imports are read from the sources; those inside functions and under TYPE_CHECKING count too. Not
followed are the ``__init__`` of the packages around what is imported, which Python runs first, and
what ``importlib`` imports by name (``kernels/backends.py``, ``experiments/__main__.py``).
"""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = (
    {"kernels.checks", "kernels.foreign", "kernels.window", "kernels.code_cache", "kernels.gaps"},
    {"kernels.host", "kernels.device"},
    {"kernels.memory"},
    {"kernels.activation", "kernels.cuda_sums"},
    {"kernels"},
    {
        *("net.borders", "net.extras", "net.files", "net.maps", "net.options", "net.passes"),
        "net.tables",
    },
    {"net.file_format", "net.base_layer", "net.layers", "net.ledger", "net.free_memory"},
    {"net.nodes", "net.usage", "net.description", "net.initialization"},
    {"net.graph"},
    {"net.images", "net.windows", "net.chosen", "net.zoo", "net.steps", "net.branch_steps"},
    {"net.conversion", "net.pictures"},
    {"net.program", "net.summary", "net.needed_cells"},
    {"net.listed_steps", "net.memory_plan"},
    {"net.planning"},
    {"net.needed_pass", "net.scanning"},
    {"net.patches_pass"},
    {"net.needed_choice"},
    {"net.dense"},
    {"net.calibration", "net.fragments", "net.exchange", "net.large"},
    {"net.learning"},
    {"net"},
    {"net.commands"},
    {"net.__main__"},
    {"experiments.inputs"},
    {"experiments.measuring", "experiments.storing"},
    {"experiments.reporting"},
    {"experiments.profiling"},
    {"experiments.modelling", "experiments.checking"},
    {"experiments"},
    {"experiments.__main__"},
    {"tests"},
)
"""Packages and modules of each layer, from the lowest up; a module belongs to the longest name that
its own begins with. ``net`` alone is its ``__init__``."""
INDEPENDENT = (
    *("kernels.host", "kernels.device"),
    *("net.conversion", "net.pictures"),
    *("net.calibration", "net.fragments", "net.exchange", "net.large"),
    *("experiments.measuring", "experiments.storing"),
    *("experiments.modelling", "experiments.checking", "experiments"),
)
"""Packages and modules of one layer that must not import from each other."""
CUDA_PACKAGES = ("numba.cuda", "cuda")
LLVM = "llvmlite.ir"
"""What emits instructions."""
MOST_LINES = 400


def _paths() -> dict[str, Path]:
    """The file of every module, by its name."""
    paths = {}
    for package in ("kernels", "net", "experiments", "tests"):
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return paths


def _imported(path: Path, modules) -> set[str]:
    """What a file imports: ``from a import b`` is ``a.b`` where that is one of the modules."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} has a relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                imported.add(name if name in modules else node.module)
    return imported


PATHS = _paths()
IMPORTS = {name: _imported(path, {*PATHS, LLVM}) for name, path in PATHS.items()}


def _within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _place(name: str) -> tuple[int, str]:
    """The number of a module's layer, and the name in it that the module belongs to."""
    layers = [(n, one) for n, layer in enumerate(LAYERS) for one in layer if _within(name, one)]
    return max(layers, key=lambda place: len(place[1]))


def test_the_imports_are_seen():
    assert "experiments.profile" in IMPORTS["experiments.__main__"]
    assert "kernels.host.simd" in IMPORTS["kernels.convolution.cpu"]
    assert "numba.cuda" in IMPORTS["kernels.device.api"]


def _module(name: str) -> str:
    return name


def _package(name: str) -> str:
    """The package in ``kernels``, ``net`` or ``experiments`` that a module belongs to, or the
    module right in one of these."""
    top, *rest = name.split(".")
    return top if top == "tests" else ".".join([top, *rest[:1]])


@pytest.mark.parametrize("part", [_module, _package])
def test_no_imports_form_a_circle(part):
    graph = {part(name): set() for name in PATHS}
    for name, names in IMPORTS.items():
        graph[part(name)] |= {part(other) for other in names & PATHS.keys()} - {part(name)}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(f"imports form a circle: {' <- '.join(circle.args[1])}")


@pytest.mark.parametrize("name", PATHS)
def test_imports_lead_down(name):
    layer, package = _place(name)
    for other in IMPORTS[name] & PATHS.keys():
        its_layer, its_package = _place(other)
        assert its_layer <= layer, f"{other} is in a higher layer"
        if its_layer == layer and package in INDEPENDENT and other != name:
            assert its_package == package != "experiments", f"{other} is beside {name}"


@pytest.mark.parametrize("package", CUDA_PACKAGES)
def test_only_the_device_folder_imports_the_cuda_packages(package):
    importing = {name for name in PATHS if any(_within(n, package) for n in IMPORTS[name])}
    assert {name for name in importing if not _within(name, "tests")} <= {
        name for name in PATHS if _within(name, "kernels.device")
    }


def test_few_modules_emit_instructions():
    """Those that CONTRIBUTING.md names."""
    emitting = {name for name in PATHS if any(_within(n, LLVM) for n in IMPORTS[name])}
    of_host = {f"kernels.host.{name}" for name in ("simd", "vectors", "products")}
    assert emitting == of_host | {"kernels.device.loads"}


def test_no_file_is_too_long_for_one_subject():
    lines = {name: len(path.read_text().splitlines()) for name, path in PATHS.items()}
    assert not {name: n for name, n in lines.items() if n > MOST_LINES}
