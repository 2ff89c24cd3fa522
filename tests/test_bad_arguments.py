"""Every public callable, found by introspection, with bad values for each of its arguments.

Whatever a callable does not take, it refuses with an error that names the argument. A value that it
does take stands in ``tests.arguments`` or ``tests.operator_arguments``, with the reason.
"""

import inspect
import re

import numpy as np
import pytest

import kernels.activation
import kernels.backends
import net
from kernels import get_backend
from kernels.backends import OPERATORS
from net import (
    calibration,
    checkpoint,
    dense,
    fitting,
    graph,
    layers,
    nodes,
    optimizers,
    sampling,
    scanning,
    training,
    zoo,
)
from tests import arguments, operator_arguments

MODULES = [
    *(kernels.backends, kernels.activation, calibration, checkpoint, dense, fitting, graph),
    *(layers, nodes, optimizers, sampling, scanning, training, zoo),
]
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


def public():
    """All public functions and classes of the modules, and the classes' methods, by name."""
    return dict(_public())


def _public():
    for module in MODULES:
        place = module.__name__.split(".")[-1]
        for name, found in vars(module).items():
            of_module = getattr(found, "__module__", None) == module.__name__
            if name.startswith("_") or not callable(found) or not of_module:
                continue
            yield f"{place}.{name}", found
            if isinstance(found, type) and not issubclass(found, layers.Layer):
                for method, function in vars(found).items():
                    if not method.startswith("_") and inspect.isroutine(function):
                        yield f"{place}.{name}.{method}", function


def operators():
    """Names of all operators."""
    reference = get_backend("reference")
    for operator in OPERATORS:
        module = getattr(reference, operator)
        for name, found in vars(module).items():
            own = getattr(found, "__module__", None) == module.__name__
            if own and inspect.isfunction(found) and not name.startswith("_"):
                yield f"{operator}.{name}"


def test_every_public_callable_is_looked_at():
    assert public().keys() == arguments.CALLS.keys() | arguments.NOT_CALLED.keys()
    assert not arguments.CALLS.keys() & arguments.NOT_CALLED.keys()
    offered = {getattr(net, name) for name in net.__all__}
    assert offered - {net.BadCheckpoint} <= set(public().values())


def test_every_operator_is_looked_at():
    assert (
        set(operators())
        == operator_arguments.OPERATORS.keys() | operator_arguments.NOT_OPERATORS.keys()
    )


@pytest.mark.parametrize("name", arguments.CALLS)
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
    """None where the call is refused by one of ``names``."""
    try:
        with np.errstate(over="ignore"):
            function(**given)
    except (TypeError, ValueError) as error:
        if names & set(re.findall(r"\w+", str(error))):
            return None
        return f"{type(error).__name__}: {error}"
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
