"""Passes over the patches of pixels that hardly share a cell, in place of lists."""

from itertools import product

import numba
import numpy as np
import pytest

from net import Dense, Net, Scan, patches_pass
from net.chosen import Chosen
from net.layers import Convolution, Crop, Dropout, FullyConnected, MaxPool, ReLU
from net.learning.optimizers import SGD
from net.learning.training import Trainer
from net.needed_cells import Need
from net.needed_pass import NeededPass
from net.patches_pass import PatchesPass
from net.zoo import ZOO, build
from tests.comparison import DTYPES, GRADIENT, relative_difference
from tests.net import forms

SIZE = (150, 161)
FAR = np.array([[0, 0], [149, 160], [70, 80], [0, 160]])  # three of them at corners
HOST = pytest.mark.parametrize("backend", [pytest.param("cpu", marks=pytest.mark.cpu), "reference"])


def small_net(backend="cpu", dtype="float64", **options):
    layers = [Convolution(4, 3), ReLU(), MaxPool(2), Convolution(3, 3), FullyConnected(2)]
    return Net(layers, channels=2, patch=12, dtype=dtype, backend=backend, seed=1, **options)


def taken(net, pixels, size=SIZE, border="zero"):
    return Dense(net, border).needed.over(Chosen(size, listed=pixels))


@HOST
def test_far_pixels_take_their_patches(backend):
    net = small_net(backend)
    assert isinstance(taken(net, FAR), PatchesPass)
    near = FAR[:1] + np.stack(np.divmod(np.arange(25), 5), axis=1)
    assert type(taken(net, near)) is NeededPass
    many = np.argwhere(np.indices(SIZE).sum(axis=0) % 13 == 0)[:: len(FAR)]
    assert type(taken(net, many)) is NeededPass


@HOST
def test_patches_may_overlap_a_little(backend):
    """By a tenth of what they need, seen in pairs or counted."""
    net = small_net(backend)
    for apart, kind in ((12, PatchesPass), (10, PatchesPass), (3, NeededPass)):
        pair = np.array([[5, 5], [5, 5 + apart]])
        assert type(taken(net, pair)) is kind
        many = np.concatenate([np.add(pair, (0, 40 * n)) for n in range(40)])  # beyond pairs
        assert type(taken(net, many, (20, 1700))) is kind


@pytest.mark.cpu
def test_nets_whose_cells_know_their_places_take_lists():
    dropping = Net([Convolution(2, 3), Dropout(0.5), FullyConnected(2)], channels=1, patch=5)
    net = dropping.to(backend="cpu")
    assert not PatchesPass.suits(net)
    assert type(taken(net, FAR)) is NeededPass


UNREAD = {
    "at the end": [MaxPool(2), Convolution(3, 2), FullyConnected(2)],
    "between taps": [Convolution(3, 1), Convolution(2, 2, dilation=4)],
    "between windows": [Convolution(3, 1), Convolution(2, 1, stride=2), FullyConnected(2)],
    "cropped": [Convolution(3, 1), Crop((0, 2, 1, 1)), FullyConnected(2)],
}


@pytest.mark.cpu
@pytest.mark.parametrize("case", UNREAD)
def test_patches_with_cells_that_are_not_read_take_lists(case):
    """A layer in front of these would multiply their values by an error of 0, which NaN survive."""
    net = Net(UNREAD[case], channels=1, patch=5, dtype="float64", backend="cpu")
    assert not PatchesPass.suits(net)
    assert type(taken(net, FAR)) is NeededPass
    dense, image = Dense(net, "zero"), np.random.default_rng(0).standard_normal((1, *SIZE))
    far = np.array([[20, 30], [90, 100]])
    needed = Need(net, far).cells().cells["image"]
    spoiled = np.full_like(image, np.nan)
    at = 0, needed.rows - 2, needed.columns - 2
    spoiled[at] = image[at]
    error = np.ones((2, len(far)))
    gradients, same = (
        dense.gradients(one, error, pixels=far).parameters for one in (image, spoiled)
    )
    for name, gradient in gradients.items():
        assert np.array_equal(same[name], gradient)


@HOST
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("border", ["valid", "zero", "reflect"])
@pytest.mark.parametrize("pixels", [FAR, FAR[2:3], FAR[[2, 0, 2]]], ids=["far", "one", "twice"])
def test_against_scanning(backend, rng, border, pixels, dtype):
    net, limit = small_net(backend, dtype), GRADIENT[dtype]
    dense, scan = Dense(net, border), Scan(net, border)
    size = SIZE if border != "valid" else tuple(n + 11 for n in SIZE)
    image = rng.standard_normal((2, *size)).astype(dtype)
    error = rng.standard_normal((2, len(pixels))).astype(dtype)
    assert isinstance(taken(net, pixels, border=border), PatchesPass)
    scores, scanned = dense.forward(image, pixels=pixels), scan.forward(image, pixels)
    whole = np.ascontiguousarray(dense.forward(image)[:, *pixels.T])
    assert relative_difference(scores.T, scanned) <= limit
    if backend == "cpu":
        assert scores.T.tobytes() == scanned.tobytes()
        assert scores.tobytes() == whole.tobytes()
    ours = dense.gradients(image, error, pixels=pixels, image_gradient=True)
    theirs = scan.gradients(image, error.T.copy(), pixels, image_gradient=True)
    for name, gradient in theirs.parameters.items():
        assert relative_difference(ours.parameters[name], gradient) <= limit
    assert relative_difference(ours.image, theirs.image) <= limit


@pytest.mark.cpu
@pytest.mark.parametrize("name", [name for name in ZOO if name != "greentea102"])
def test_a_pixel_of_the_zoo(name, rng):
    net = build(name, backend="cpu")
    image = rng.standard_normal((net.channels, 40, 50)).astype(net.dtype)
    pixel, error = np.array([[3, 44]]), rng.standard_normal((net.output.channels, 1))
    error = error.astype(net.dtype)
    dense, scan = Dense(net, "reflect"), Scan(net, "reflect")
    assert dense.forward(image, pixels=pixel).T.tobytes() == scan.forward(image, pixel).tobytes()
    ours = dense.gradients(image, error, pixels=pixel).parameters
    for key, gradient in scan.gradients(image, error.T.copy(), pixel).parameters.items():
        assert relative_difference(ours[key], gradient) <= 1e-5


@pytest.mark.cpu
def test_nothing_else_of_the_image_is_read(rng):
    net, pixels = small_net(dtype="float32"), FAR[1:3]
    image = rng.integers(0, 256, (2, *SIZE), np.uint8)
    dense = Dense(net, "reflect")
    expected = dense.forward(image.astype(np.float32), pixels=pixels)

    class Recorder:
        shape, dtype, ndim, read = image.shape, image.dtype, 3, 0

        def __getitem__(self, window):
            Recorder.read += image[window].size
            return image[window]

    inside = pixels[1:]
    assert dense.forward(image, pixels=pixels).tobytes() == expected.tobytes()
    dense.forward(Recorder(), pixels=inside)
    assert Recorder.read == 2 * 12 * 12
    bad = image.astype(np.float32)
    bad[:, :40] = np.nan
    error = np.ones((2, 2), np.float32)
    assert dense.forward(bad, pixels=pixels).tobytes() == expected.tobytes()
    clean = dense.gradients(image.astype(np.float32), error, pixels=pixels).parameters
    of_bad = dense.gradients(bad, error, pixels=pixels).parameters
    assert all(of_bad[name].tobytes() == gradient.tobytes() for name, gradient in clean.items())


@pytest.mark.cpu
def test_a_step_learns_what_lists_learn(rng, monkeypatch):
    image, labels = rng.standard_normal((2, *SIZE)), rng.integers(0, 2, SIZE)
    mask = np.zeros(SIZE, bool)
    mask[*FAR.T] = True
    losses, gradients = zip(
        Trainer(small_net(), SGD(0.1)).gradients(image, labels, mask),
        _over_lists(monkeypatch, image, labels, mask),
    )
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    for name, gradient in gradients[1].items():
        assert relative_difference(gradients[0][name], gradient) <= 1e-12


def _over_lists(monkeypatch, image, labels, mask):
    with monkeypatch.context() as alone:
        forms.over_lists_alone(alone)
        return Trainer(small_net(), SGD(0.1)).gradients(image, labels, mask)


@pytest.mark.cpu
def test_the_summary_tells():
    dense = Dense(small_net(), "zero")
    told = dense.summary(SIZE, pixels=FAR)
    assert "\nthis pass runs patch by patch\npatch by patch it takes " in told
    told = dense.summary(SIZE, pixels=FAR[0] + [[0, 0], [0, 1]])
    assert "\nthis pass runs over lists of needed cells\nover lists it takes " in told


@pytest.mark.cpu
@pytest.mark.parametrize("name", [*ZOO])
def test_a_patch_bounds_what_some_take(name):
    net = build(name, backend="cpu")
    of_a_patch = patches_pass._bytes_of_a_patch(net)
    for count, keep, learning in product((1, 2, 9, 40), (False, True), (False, True)):
        some = PatchesPass(net, "zero", 1000 * np.arange(count)[:, None] + [[0, 0]])
        planned = some.planned_bytes(keep=keep, learning=learning)
        assert planned <= count * of_a_patch


@pytest.mark.cpu
def test_memory_is_planned(monkeypatch):
    from tests.net.test_needed_memory import Taken

    net, size = build("plain133", backend="cpu"), (400, 400)
    pixels = np.array([[0, 0], [0, 300], [300, 0], [300, 300]])
    image = np.ones((3, 532, 532), np.float32)
    error = np.ones((net.output.channels, len(pixels)), np.float32)
    dense = Dense(net)
    dense.gradients(image, error, pixels=pixels)
    some = dense.needed.over(Chosen(size, listed=pixels))
    assert isinstance(some, PatchesPass)
    with monkeypatch.context() as alone:
        alone.setattr(numba, "get_num_threads", lambda: 0)
        planned = some.planned_bytes(keep=True)
    measured = Taken(monkeypatch).by(lambda: dense.gradients(image, error, pixels=pixels))
    assert measured <= 1.05 * planned
