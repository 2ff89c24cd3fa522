"""The modules of the API reference, as the Makefile names them, and what they offer."""

import importlib
import inspect
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def modules():
    """Names of the modules whose docstrings ``make docs`` shows."""
    text = (ROOT / "Makefile").read_text().replace("\\\n", "")
    return re.search(r"^API := (.*)$", text, re.MULTILINE)[1].split()


def offered():
    """Names of the functions and classes of these modules, and of methods and properties with a
    docstring of their own: ``__all__`` where a module has it, else what is defined there."""
    for module in map(importlib.import_module, modules()):
        defined = [
            n for n, v in vars(module).items() if _module(v) == module.__name__ and n[0] != "_"
        ]
        for name in getattr(module, "__all__", defined):
            yield from _of(getattr(module, name))


def _module(value):
    return getattr(value, "__module__", None)


def _of(value):
    if inspect.isfunction(value) or inspect.isclass(value):
        yield _name(value)
    if inspect.isclass(value):
        for name, member in vars(value).items():
            function = getattr(member, "__func__", getattr(member, "fget", member))
            if inspect.isfunction(function) and name[0] != "_" and function.__doc__:
                yield _name(function)


def _name(value):
    return f"{value.__module__}.{value.__qualname__}"
