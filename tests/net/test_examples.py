"""The examples in the docstrings of ``net``: every public one has some, and they are right."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import net
from tests import api, arguments

MODULES = [
    net,
    *(importlib.import_module(m.name) for m in pkgutil.walk_packages(net.__path__, "net.")),
]
DOCS = Path(__file__).parents[2] / "docs"
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
FINDER = doctest.DocTestFinder(exclude_empty=True)
EXAMPLES = {test.name: test for module in MODULES for test in FINDER.find(module) if test.examples}

INNER = (
    *("planning.forward_bytes", "planning.gradients_bytes", "planning.step_bytes"),
    *("planning.predict_bytes", "planning.scan_bytes", "planning.needed_bytes"),
    *("needed_cells.Need", "needed_pass.NeededPass", "needed_choice.NeededPasses"),
    *("patches_pass.PatchesPass", "planning.patches_bytes"),
    *("chosen.Chosen", "chosen.checked_pixels", "summary.needed_table"),
    *("learning.targets.checked_labels", "learning.records.TrainingWarning"),
)
"""What readers of the code begin with."""


def public():
    """Names of what the API reference shows, of what is called with bad values, and ``INNER``."""
    called = {name for name in arguments.CALLS if name.startswith("net.")}
    return sorted({*api.offered(), *called, *(f"net.{name}" for name in INNER)})


@pytest.mark.parametrize("name", ["net", "net.layers", *public()])
def test_has_an_example(name):
    assert name in EXAMPLES


def _marked(name):
    return pytest.param(name, marks=[pytest.mark.torch] if "torch" in name else [])


@pytest.mark.cpu
@pytest.mark.parametrize("name", [*map(_marked, EXAMPLES)])
def test_is_right(name):
    results = doctest.DocTestRunner(optionflags=OPTIONS).run(EXAMPLES[name])
    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.cpu
@pytest.mark.parametrize("page", ["needed-cells.md"])
def test_a_page_is_right(page):
    results = doctest.testfile(str(DOCS / page), module_relative=False, optionflags=OPTIONS)
    assert results.attempted > 0
    assert results.failed == 0
