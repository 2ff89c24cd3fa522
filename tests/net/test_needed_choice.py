"""Which passes run over lists of needed cells, and which in the dense form."""

import numpy as np
import pytest

from net import Dense, Net, needed_pass
from net.chosen import Chosen
from net.layers import Convolution, Dropout, FullyConnected, ReLU
from net.learning.optimizers import SGD
from net.learning.training import Trainer
from net.needed_cells import Need
from net.needed_pass import NeededPass
from net.patches_pass import PatchesPass
from net.zoo import build
from tests.conftest import CPU, CUDA, SIMULATOR
from tests.foreign import Foreign


def small_net(backend):
    layers = [Convolution(4, 3), ReLU(), FullyConnected(2)]
    return Net(layers, channels=1, patch=5, backend=backend)


@pytest.fixture
def plans(monkeypatch):
    """One entry for each plan of lists that is made."""
    made = []
    monkeypatch.setattr(PatchesPass, "suits", lambda net: False)
    monkeypatch.setattr(needed_pass, "_of_apart", lambda net, pixels, plan: 0)  # planned once a net
    monkeypatch.setattr(needed_pass, "Need", lambda *given: made.append(given) or Need(*given))
    return made


def test_a_mask_that_needs_nearly_all_takes_the_dense_way():
    dense = Dense(build("n4", backend="reference"), "zero")
    mask = np.random.default_rng(0).random((64, 64)) < 0.5
    assert dense.needed.over(Chosen(mask.shape, mask)) is None
    mask[:, 3:] = False
    assert isinstance(dense.needed.over(Chosen(mask.shape, mask)), NeededPass)


@pytest.mark.cpu
@pytest.mark.parametrize(
    ("name", "size"),
    [("plain133", (3, 3)), ("plain133", (1, 1)), ("lenet28", (1, 1)), ("strided67", (2, 5))],
)
def test_a_mask_goes_the_way_of_its_pixels(name, size):
    """Also where it chooses all of a few: a net with strides needs some cells of each map, the
    dense form computes all of them."""
    dense = Dense(build(name, backend="cpu"))
    mask = np.ones(size, bool)
    by_mask, listed = (
        dense.needed.over(chosen)
        for chosen in (Chosen(size, mask), Chosen(size, listed=np.argwhere(mask)))
    )
    assert type(by_mask) is type(listed)
    assert by_mask is not None


def test_the_plan_of_a_mask_is_used_again():
    passes = Dense(build("lenet28", backend="reference"), "zero").needed
    mask = np.eye(99, dtype=bool)
    first = passes.over(Chosen(mask.shape, mask))
    assert passes.over(Chosen(mask.shape, mask.copy())) is first
    mask[0, 1] = True
    other = passes.over(Chosen(mask.shape, mask))
    assert other is not first
    assert len(other.rows) == len(first.rows) + 1
    wider = np.pad(mask, (0, 1))
    assert passes.over(Chosen(wider.shape, wider)) is not other


@pytest.mark.parametrize("kind", ["mask", "pixels"])
def test_one_plan_serves_scores_labels_and_gradients(kind, plans):
    dense, image = Dense(small_net("reference"), "zero"), np.ones((1, 30, 30), np.float32)
    pixels = np.array([[9, 2], [4, 7], [4, 8]])
    for number, some in enumerate((pixels, pixels[:2], pixels), start=1):
        mask, error = np.zeros((30, 30), bool), np.ones((2, 30, 30), np.float32)
        mask[*some.T] = True
        given = {"mask": mask} if kind == "mask" else {"pixels": some}
        dense.forward(image, **given)
        dense.predict(image, **given)
        dense.gradients(image, error if kind == "mask" else error[:, *some.T], **given)
        assert len(plans) == number


def test_an_image_of_another_size_takes_another_plan(plans):
    """As the choice of the way depends on it."""
    dense, pixels = Dense(small_net("reference"), "zero"), [[9, 2], [4, 7]]
    for number, size in enumerate([(30, 30), (30, 31), (10, 8)], start=1):
        for _ in range(2):
            dense.forward(np.ones((1, *size), np.float32), pixels=pixels)
        assert len(plans) == number


def test_steps_from_the_same_pixels_take_one_plan(plans):
    """Those that count: a mask is cut to what is labelled."""
    trainer, image = Trainer(small_net("reference"), SGD(0.1)), np.ones((1, 30, 30), np.float32)
    labels, mask = np.full((30, 30), -1), np.eye(30, dtype=bool)
    labels[3:9] = 1
    for _ in range(3):
        trainer.step(image, labels, mask)
    trainer.step(image, labels, mask & (labels == 1))
    assert len(plans) == 1
    labels[9] = 0
    trainer.step(image, labels, mask)
    assert len(plans) == 2


@pytest.mark.parametrize("backend", [SIMULATOR, CUDA])
def test_a_mask_on_a_device_is_looked_at_for_scores_and_steps_alone(backend, plans):
    """Gradients by it are those of the same mask on the host, in the dense form."""
    net, mask = small_net(backend), np.zeros((9, 8), bool)
    mask[4, 3] = True
    image, error = np.ones((1, 13, 12), np.float32), np.ones((2, 9, 8), np.float32)
    there, dense = Foreign(net.backend.memory, mask), Dense(net)
    whole = dense.gradients(image, error, mask, everywhere=True).parameters
    gradients = dense.gradients(image, error, there).parameters
    assert all(gradients[name].tobytes() == whole[name].tobytes() for name in whole)
    assert not plans
    scores = dense.forward(image, there)
    assert scores.tobytes() == dense.forward(image, mask).tobytes()
    assert len(plans) == 1
    trainer, labels = Trainer(net, SGD(0.1), border="valid"), np.zeros((9, 8), int)
    loss, _ = trainer.gradients(image, labels, there)
    assert loss == trainer.gradients(image, labels, mask)[0]
    assert len(plans) == 2


@pytest.mark.parametrize("backend", ["reference", CPU, SIMULATOR, CUDA])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_gradients_never_read_what_is_not_finite_and_not_needed(value, backend, plans):
    """Of a mask so large that finite images take the dense way; scores take it in any case. A
    plan is made once for lists, and one to choose the way, if that is not told at once."""
    dense, mask = Dense(small_net(backend)), np.ones((6, 7), bool)
    mask[0, 0] = False  # alone reads the image's corner
    image = np.random.default_rng(0).standard_normal((1, 10, 11)).astype(np.float32)
    error = np.random.default_rng(1).standard_normal((2, 6, 7)).astype(np.float32)
    assert dense.needed.over(Chosen(mask.shape, mask)) is None
    finite, scores = dense.gradients(image, error, mask).parameters, dense.forward(image, mask)
    image[0, 0, 0] = value
    assert dense.forward(image, mask).tobytes() == scores.tobytes()
    assert not all(
        np.isfinite(g).all()
        for g in dense.gradients(image, error, mask, everywhere=True).parameters.values()
    )
    made = []
    for _ in range(2):
        for name, gradient in dense.gradients(image, error, mask).parameters.items():
            np.testing.assert_allclose(gradient, finite[name], rtol=1e-5, atol=1e-5)
        made.append(len(plans))
    assert made[0] == made[1] <= 2


@pytest.mark.cpu
def test_a_mask_leaves_the_image_of_a_net_that_hands_it_through():
    net = Net([Dropout(0.5)], channels=1, patch=1, backend="cpu")
    image, mask = np.ones((1, 20, 20), np.float32), np.ones((20, 20), bool)
    mask[0, 0] = False
    assert np.isnan(Dense(net).forward(image, mask)[0, 0, 0])
    assert (image == 1).all()
