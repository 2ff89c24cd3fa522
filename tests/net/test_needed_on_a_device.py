"""Passes over needed cells on a device: they learn what patches teach, and read nothing else."""

import numpy as np
import pytest

from net import Dense, images
from net.learning.optimizers import SGD
from net.learning.training import Trainer
from net.needed_cells import Need
from net.nodes import IMAGE
from tests.comparison import relative_difference
from tests.conftest import CUDA, SIMULATOR
from tests.foreign import Foreign
from tests.net.forms import over_lists_alone
from tests.net.nets import random_image
from tests.net.test_needed_cells import net_of

CHOSEN = np.array([[4, 3], [0, 1], [1, 2], [1, 1]])

pytestmark = pytest.mark.parametrize("backend", [SIMULATOR, CUDA])


@pytest.fixture(autouse=True)
def always_over_lists(monkeypatch):
    over_lists_alone(monkeypatch)


def mask_of(size):
    mask = np.zeros(size, bool)
    mask[*CHOSEN.T] = True
    return mask


@pytest.mark.parametrize("given", ["mask", "pixels"])
@pytest.mark.parametrize("case", ["dropout", "normalised", "two readers", "softmax inside"])
def test_two_steps_learn_what_the_reference_learns_from_patches(case, given, backend):
    labels = np.random.default_rng(5).integers(0, 3, (5, 4))
    chosen = {"mask": mask_of((5, 4))} if given == "mask" else {"pixels": CHOSEN}
    results = []
    for name, form in (("reference", "patch"), (backend, "needed")):
        net = net_of(case, backend=name)
        trainer = Trainer(net, SGD(0.1), form=form, class_weights=[1, 2, 0.5], seed=3)
        image = random_image(net, (5, 4))
        of_form = labels if given == "mask" else labels[*CHOSEN.T]
        losses = [trainer.step(image, of_form, **chosen) for _ in range(2)]
        results.append(net.state() | {"losses": np.array(losses)})
    expected, learned = results
    for name, array in expected.items():
        assert relative_difference(learned[name], array) <= 1e-12


def bits(net, image, border, place):
    """Scores and gradients at ``CHOSEN`` of a host image, or of its copy on the device."""
    dense, memory = Dense(net, border), net.backend.memory
    size = dense.output_size(image.shape[1:])
    error, mask = np.random.default_rng(1).standard_normal((3, *size)), mask_of(size)
    if place == "device":
        image, error = Foreign(memory, image), Foreign(memory, error)
    gradients = dense.gradients(image, error, mask, image_gradient=True)
    arrays = [dense.forward(image, mask), gradients.image, *gradients.parameters.values()]
    if place == "device":
        arrays = [memory.to_host(array) for array in arrays]
    arrays[0] = arrays[0][:, mask]
    assert all(np.isfinite(array).all() for array in arrays)
    return [array.tobytes() for array in arrays]


@pytest.mark.parametrize("place", ["host", "device"])
@pytest.mark.parametrize("border", ["valid", "zero", "reflect"])
@pytest.mark.parametrize("case", ["pools", "normalised", "two readers"])
def test_nan_that_no_patch_reads_changes_no_bit(case, border, place, backend):
    net = net_of(case, backend=backend)
    size = np.add(net.patch, (4, 3))
    image = random_image(net, size)
    cells = Need(net, CHOSEN).cells().cells[IMAGE]
    rows, columns = images.places(net, cells.rows, cells.columns, tuple(size), border)
    unread = np.ones(size, bool)
    inside = (rows >= 0) & (columns >= 0)
    unread[rows[inside], columns[inside]] = False
    assert unread.any()
    spoiled = np.where(unread, np.nan, image)
    assert bits(net, spoiled, border, place) == bits(net, image, border, place)
