"""Who imports what, read from the sources: imports inside functions count too."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
CUDA_PACKAGES = ("numba.cuda", "cuda")


def imports(path):
    """The names of all modules that a file imports; ``from a import b`` may be ``a.b``."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def is_within(name, package):
    return name == package or name.startswith(f"{package}.")


def test_only_the_device_folder_imports_the_cuda_packages():
    files = {
        path
        for package in ("kernels", "net", "experiments")
        for path in (ROOT / package).rglob("*.py")
        if any(is_within(name, cuda) for name in imports(path) for cuda in CUDA_PACKAGES)
    }
    assert {path.parent.relative_to(ROOT).as_posix() for path in files} == {"kernels/device"}
