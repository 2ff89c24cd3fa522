"""The examples in the docstrings of ``net``: every public one has some, and they are right."""

import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import net
from net import (
    chosen,
    conversion,
    fragments,
    images,
    large,
    layers,
    needed_cells,
    needed_pass,
    planning,
    summary,
    windows,
    zoo,
)
from net.learning import (
    augmentation,
    checkpoint,
    fitting,
    metrics,
    optimizers,
    records,
    runs,
    sampling,
    scales,
    sources,
    splitting,
)
from net.learning.targets import checked_labels
from net.learning.training import Trainer
from net.program import Program

MODULES = [
    net,
    *(importlib.import_module(m.name) for m in pkgutil.walk_packages(net.__path__, "net.")),
]
DOCS = Path(__file__).parents[2] / "docs"
LAYERS = [layer for layer in vars(layers).values() if hasattr(layer, "kind")]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
FINDER = doctest.DocTestFinder(exclude_empty=True)
EXAMPLES = {test.name: test for module in MODULES for test in FINDER.find(module) if test.examples}


def public():
    """Names of what the package offers, and of the methods that its classes offer."""
    objects = [getattr(net, name) for name in net.__all__]
    objects += [Trainer, fitting.fit, fitting.measure, zoo.build, checkpoint.save, checkpoint.load]
    objects += [optimizers.SGD, optimizers.Adam, optimizers.Cosine, optimizers.Stepwise]
    objects += [augmentation.Augmentation, records.TrainingWarning, metrics.Metrics]
    objects += [net.PixelClassifier, runs.train, scales.scales]
    objects += [sources.net_of, sources.usage_of]
    objects += [splitting.by_image, splitting.by_block]
    objects += [sampling.balanced_mask, fragments.Fragments]
    objects += [Program, conversion.steps_of, conversion.dense_window, *LAYERS]
    objects += [planning.forward_bytes, planning.gradients_bytes, planning.step_bytes]
    objects += [planning.predict_bytes, planning.scan_bytes, planning.needed_bytes]
    objects += [checked_labels, images.output_size, needed_cells.Need, needed_pass.NeededPass]
    objects += [large.label, large.lazy, large.plan, large.View]
    objects += [needed_pass.NeededPasses, chosen.Chosen, chosen.checked_pixels, windows.Windows]
    objects += [summary.needed_table]
    for offered in objects:
        yield f"{offered.__module__}.{offered.__qualname__}"
        if offered in (net.Net, net.Dense, net.Scan, Trainer):
            for name, method in vars(offered).items():
                if not name.startswith("_") and (
                    inspect.isfunction(method) or isinstance(method, property)
                ):
                    yield f"{offered.__module__}.{offered.__qualname__}.{name}"


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
