"""The rooms of experiments/: nothing imports from a higher floor, and no imports form a circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLOORS = {"inputs": 0, "measuring": 1, "storing": 1, "reporting": 2, "profiling": 3}
EXPERIMENT, COMMAND_LINE = 4, 5
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in (ROOT / "experiments").rglob("*.py")
    if path.name != "__init__.py"
}


def floor(module):
    _, *rooms, name = module.split(".")
    if rooms:
        return FLOORS[rooms[0]]
    return COMMAND_LINE if name == "__main__" else EXPERIMENT


def imported(path):
    """The modules of experiments/ that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} has a relative import"
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name for name in names if name in MODULES}
    return found


IMPORTS = {module: imported(path) for module, path in MODULES.items()}


def test_the_imports_are_seen():
    assert "experiments.profile" in IMPORTS["experiments.__main__"]
    assert "experiments.measuring.runners" in IMPORTS["experiments.measuring.peak"]


@pytest.mark.parametrize("module", MODULES)
def test_imports_come_from_the_same_floor_or_a_lower_one(module):
    higher = [name for name in IMPORTS[module] if floor(name) > floor(module)]
    assert not higher


def test_experiments_and_rooms_side_by_side_do_not_import_each_other():
    for module, names in IMPORTS.items():
        room = module.split(".")[1:-1]
        beside = [n for n in names if floor(n) == floor(module) and n.split(".")[1:-1] != room]
        beside += [n for n in names if floor(n) == floor(module) == EXPERIMENT]
        assert not beside, module


def test_no_imports_form_a_circle():
    TopologicalSorter(IMPORTS).prepare()
