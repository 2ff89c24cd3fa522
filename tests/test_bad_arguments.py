"""Every public callable, found by introspection, with bad values for each of its arguments.

Whatever a callable does not take, it refuses with an error that names the argument. A value that it
does take stands in ``tests.arguments`` or ``tests.operator_arguments``, with the reason.
"""

import importlib
import inspect
import pkgutil
import re

import numpy as np
import pytest

import kernels
import net
from kernels import get_backend
from kernels.backends import OPERATORS
from net.layers import Layer
from tests import arguments, not_called, operator_arguments

BAD = {
    "None": None,
    "True": True,
    "-1": -1,
    "0": 0,
    "1.5": 1.5,
    "nan": float("nan"),
    "inf": float("inf"),
    "1e39": 1e39,
    "2**70": 2**70,
    "text": "x",
    "empty text": "",
    "bytes": b"x",
    "[]": [],
    "[1]": [1],
    "(1, 2, 3)": (1, 2, 3),
    "{}": {},
    "object": object(),
    "class": int,
    "lambda": lambda *_: None,
    "complex": 1j,
    "masked array": np.ma.array(np.zeros((1, 3, 3), np.float32), mask=True),
    "array of objects": np.array([None, 1], object),
    "array of texts": np.array(["x", "y"]),
    "empty array": np.zeros((0, 2)),
    "array of rank 5": np.zeros((1, 1, 1, 1, 1), np.float32),
}


def modules(*packages):
    """Names of all modules of packages, found on disk."""
    for package in packages:
        yield package.__name__
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            yield info.name


def apart(module):
    """The module, or the package that it is in, which ``not_called.APART`` names; else None."""
    parts = module.split(".")
    names = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
    return next((name for name in names if name in not_called.APART), None)


def implements(module):
    """Whether it is part of a backend: its operators are tested, the rest is theirs alone."""
    _, folder, *rest = [*module.split("."), ""]
    return folder in OPERATORS and rest != [""]


def public():
    """All public functions and classes of the other modules, and the classes' methods, by name."""
    return dict(_public())


def _public():
    for module in modules(net, kernels):
        if apart(module) is None and not implements(module):
            yield from _public_of(importlib.import_module(module))


def _public_of(module):
    for name, member in vars(module).items():
        of_module = getattr(member, "__module__", None) == module.__name__
        if name.startswith("_") or not callable(member) or not of_module:
            continue
        yield f"{module.__name__}.{name}", member
        if isinstance(member, type) and not issubclass(member, Layer):
            for method, function in vars(member).items():
                if not method.startswith("_") and inspect.isroutine(function):
                    yield f"{module.__name__}.{name}.{method}", getattr(member, method)


def operators():
    """Names of all operators."""
    reference = get_backend("reference")
    for operator in OPERATORS:
        for name, function in _public_of(getattr(reference, operator)):
            assert inspect.isfunction(function)
            yield name.removeprefix("kernels.").replace(".reference", "")


def test_every_public_callable_is_looked_at():
    assert public().keys() == arguments.CALLS.keys() | not_called.NOT_CALLED.keys()
    assert not arguments.CALLS.keys() & not_called.NOT_CALLED.keys()
    offered = {getattr(net, name) for name in net.__all__}
    errors_and_records = {net.BadCheckpoint, net.Gradients}
    assert offered - errors_and_records <= set(public().values())


def test_every_module_is_looked_at():
    names = set(modules(net, kernels))
    assert not_called.APART.keys() <= names
    implementations = {name.split(".")[1] for name in names if name.endswith(".reference")}
    assert implementations == set(OPERATORS)


def test_every_operator_is_looked_at():
    assert (
        set(operators())
        == operator_arguments.OPERATORS.keys() | operator_arguments.NOT_OPERATORS.keys()
    )


def _marked(name):
    marks = [pytest.mark.torch] if name in arguments.exchange.OF_TORCH else []
    return pytest.param(name, marks=marks)


@pytest.mark.parametrize("name", [*map(_marked, arguments.CALLS)])
def test_refused_by_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    entry = arguments.CALLS[name]
    function, given = entry.fresh()
    function(**given)
    signature = inspect.signature(public()[name]).parameters.values()
    assert given.keys() == {
        p.name for p in signature if p.name != "self" and p.kind != p.VAR_KEYWORD
    }
    _check(entry)


@pytest.mark.parametrize("name", operator_arguments.OPERATORS)
@pytest.mark.parametrize("where", ["reference", pytest.param("cpu", marks=pytest.mark.cpu)])
def test_operators_refuse_by_name(name, where):
    entry = operator_arguments.of_operator(name, where)
    function, given = entry.fresh()
    function(**given)
    assert given.keys() == set(inspect.signature(function).parameters)
    _check(entry)


def _check(entry):
    """Call it with each bad value in the place of each argument."""
    faults = []
    for argument, valid in entry.fresh().arguments.items():
        taken = entry.takes.get(argument, {})
        for title, bad in {**BAD, **_spoiled(valid)}.items():
            function, given = entry.fresh()
            given[argument] = bad
            names = {argument, entry.called.get(argument, argument)}
            outcome = _outcome(function, given, names)
            if outcome != ("taken" if title in taken else None):
                faults.append(f"{argument} = {title}: {outcome or 'refused'}")
    assert not faults, "\n" + "\n".join(faults)


def _outcome(function, given, names):
    """None where the call is refused by one of ``names``, or for the file that it names."""
    try:
        with np.errstate(over="ignore"):
            function(**given)
    except (TypeError, ValueError) as error:
        if names & set(re.findall(r"\w+", str(error))):
            return None
        return f"{type(error).__name__}: {error}"
    except OSError as error:
        paths = [path for path in given.values() if isinstance(path, str)]
        return None if error.filename in paths else f"{type(error).__name__}: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "taken"


def _spoiled(valid):
    """An array that is right, made unreadable."""
    if not isinstance(valid, np.ndarray):
        return {}
    return {
        "itself, masked": np.ma.array(valid, mask=True),
        "itself, as objects": valid.astype(object),
        "itself, with an axis more": valid[None],
        "itself, in float16": valid.astype(np.float16),
    }
