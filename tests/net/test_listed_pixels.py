"""Pixels that are listed by row and column, of images that are read where these pixels look."""

import re

import numpy as np
import pytest

from net import Dense, Scan, images, windows
from net.images import net_input
from net.learning.augmentation import Augmentation
from net.learning.examples import ListedLabels
from net.learning.fitting import fit
from net.learning.optimizers import SGD, Adam
from net.learning.training import Trainer
from net.needed_cells import Need
from net.nodes import IMAGE
from net.usage import Normalization, Usage
from net.zoo import build
from tests.comparison import relative_difference
from tests.net.forms import over_lists_alone
from tests.net.learning import examples, small_net
from tests.net.test_needed_cells import CPU, CUDA, SIMULATOR, net_of

BORDERS = ["valid", "zero", "reflect"]
CASES = ["pools", "dropout", "normalised", "spacings that differ"]


class Recorded:
    """An image of bytes that are made where they are read: C x H x W, and what was read."""

    def __init__(self, shape, dtype="uint8"):
        self.shape, self.dtype, self.read = shape, np.dtype(dtype), []

    def __getitem__(self, place):
        axes = [np.arange(*s.indices(n)) for s, n in zip(place, self.shape)]
        self.read.append(tuple((a[0], a[-1] + 1) for a in axes[1:]) if all(map(len, axes)) else ())
        c, y, x = np.ix_(*axes)
        return ((7 * c + 31 * y + 17 * x + y * x // 5) % 251).astype(self.dtype)

    def everything(self):
        return self[:, :, :]


def listed(size, seed=0, more=5):
    """The corners and some other pixels of a map, in random order."""
    rng = np.random.default_rng(seed)
    corners = [[y, x] for y in (0, size[0] - 1) for x in (0, size[1] - 1)]
    others = np.stack([rng.integers(0, n, more) for n in size], axis=1)
    return rng.permutation(np.unique(np.concatenate([corners, others]), axis=0))


@pytest.fixture(autouse=True)
def always_over_lists(monkeypatch):
    over_lists_alone(monkeypatch)


def as_map(pixels, size, values):
    """(map of values K x P, mask) of listed pixels."""
    fill = np.nan if values.dtype.kind == "f" else -1
    maps, mask = np.full((len(values), *size), fill, values.dtype), np.zeros(size, bool)
    maps[:, *pixels.T], mask[*pixels.T] = values, True
    return maps, mask


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("backend", ["reference", CPU])
def test_bits_are_those_of_the_mask(case, border, backend, monkeypatch):
    """Of an image of bytes, in windows far smaller than it, as of its floats."""
    monkeypatch.setattr(windows, "BLOCK_BITS", 2)
    net = net_of(case, backend=backend)
    source = Recorded((net.channels, 23, 19))
    image = source.everything().astype(net.dtype)
    dense = Dense(net, border)
    size = dense.output_size(image.shape[1:])
    for pixels in (listed(size), np.array([[size[0] // 2, 0]])):
        error = np.random.default_rng(1).standard_normal((3, len(pixels)))
        maps, mask = as_map(pixels, size, error)
        scores = dense.forward(source, pixels=pixels)
        assert scores.tobytes() == dense.forward(image, mask)[:, *pixels.T].tobytes()
        classes, probabilities = dense.predict(source, pixels=pixels)
        of_mask = dense.predict(image, mask=mask)
        assert classes.tobytes() == of_mask[0][*pixels.T].tobytes()
        assert probabilities.tobytes() == of_mask[1][:, *pixels.T].tobytes()
        some = dense.gradients(source, error, pixels=pixels, image_gradient=True)
        expected = dense.gradients(image, maps, mask, image_gradient=True)
        assert some.image.tobytes() == expected.image.tobytes()
        for name, gradient in expected.parameters.items():
            assert some.parameters[name].tobytes() == gradient.tobytes()
        all_ = dense.gradients(source, error, pixels=pixels, everywhere=True).parameters
        expected = dense.gradients(image, maps, mask, everywhere=True).parameters
        assert all(all_[name].tobytes() == expected[name].tobytes() for name in expected)


@pytest.mark.simulator
def test_on_the_simulator():
    net = net_of("convolutions", backend=SIMULATOR.values[0])
    source, pixels = Recorded((2, 9, 8)), np.array([[3, 0], [0, 1], [3, 0]])
    error = np.random.default_rng(1).standard_normal((3, 3))
    dense = Dense(net)
    scan = Scan(net.to(backend="reference"))
    image = source.everything().astype(net.dtype)
    np.testing.assert_allclose(
        dense.forward(source, pixels=pixels).T, scan.forward(image, pixels), rtol=0, atol=1e-12
    )
    gradients = dense.gradients(source, error, pixels=pixels).parameters
    expected = scan.gradients(image, np.ascontiguousarray(error.T), pixels).parameters
    for name in expected:
        assert relative_difference(gradients[name], expected[name]) <= 1e-12


@pytest.mark.parametrize("backend", [SIMULATOR, CUDA])
@pytest.mark.parametrize("case", ["dropout", "normalised", "two readers"])
def test_a_step_on_a_device(case, backend):
    """On a pixel that is listed twice with different labels. NaN that no patch reads is not read
    from lists either."""
    pixels, labels = np.array([[1, 1], [2, 3], [1, 1]]), np.array([0, 2, 1])
    results = {}
    for name in ("reference", backend):
        net = net_of(case, backend=name)
        weights = [1, 2, 0.5]
        trainer = Trainer(net, SGD(0.1), border="valid", class_weights=weights, seed=3)
        size = np.add(net.patch, (2, 3))
        image = np.random.default_rng(0).random((net.channels, *size))
        image[:, 0] = np.nan
        results[name] = trainer.gradients(image, labels, pixels=pixels)
    (loss, expected), (same, gradients) = results.values()
    assert abs(same - loss) <= 1e-12
    for name in expected:
        assert relative_difference(gradients[name], expected[name]) <= 1e-12


@pytest.mark.parametrize("backend", ["reference", CPU])
@pytest.mark.parametrize("border", BORDERS)
def test_a_pixel_that_is_listed_twice_counts_twice(border, backend):
    net = net_of("pools", backend=backend)
    source = Recorded((2, 14, 17))
    image = source.everything().astype(net.dtype)
    pixels = np.array([[1, 3], [0, 0], [1, 3], [2, 4], [1, 3]])
    error = np.random.default_rng(1).standard_normal((3, 5))
    dense, scan = Dense(net, border), Scan(net, border)
    expected = scan.gradients(image, np.ascontiguousarray(error.T), pixels).parameters
    for everywhere in (False, True):
        gradients = dense.gradients(source, error, pixels=pixels, everywhere=everywhere).parameters
        for name in expected:
            assert relative_difference(gradients[name], expected[name]) <= 1e-12
    scores = dense.forward(source, pixels=pixels)
    np.testing.assert_allclose(scores.T, scan.forward(image, pixels), rtol=0, atol=1e-12)
    assert scores[:, 0].tobytes() == scores[:, 2].tobytes()


def test_windows_hold_what_the_pixels_look_at_and_little_else():
    """Every needed cell once at least; nothing beyond the patches of a window's pixels."""
    net = build("lenet28", backend="reference")
    source = Recorded((1, 10**6, 10**6))
    rng = np.random.default_rng(3)
    pixels = np.concatenate([rng.integers(0, 10**6, (12, 2)), [[0, 0], [10**6 - 1, 7]]])
    scores = Dense(net, "reflect").forward(source, pixels=pixels)
    cells = Need(net, pixels).cells().cells[IMAGE]
    rows, columns = images.places(net, cells.rows, cells.columns, source.shape[1:], "reflect")
    seen = np.zeros(len(rows), bool)
    for (top, bottom), (left, right) in source.read:
        seen |= (top <= rows) & (rows < bottom) & (left <= columns) & (columns < right)
    assert seen.all()
    area = sum((bottom - top) * (right - left) for (top, bottom), (left, right) in source.read)
    assert area <= len(pixels) * 28 * 28
    for pixel, score in zip(pixels, scores.T):
        top, left = (min(max(0, n - 40), 10**6 - 80) for n in pixel.tolist())
        around = source[:, top : top + 80, left : left + 80].astype(np.float32)
        expected = Scan(net, "reflect").forward(around, pixel[None] - (top, left))[0]
        assert score.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", ["uint8", "bool", ">i2", "uint64", "float16", "float64"])
def test_numbers_of_any_dtype(dtype):
    net = net_of("pools", dtype="float32")
    image = Recorded((2, 12, 15), "uint8").everything().astype(dtype)
    dense, pixels = Dense(net, "zero"), [[0, 1], [11, 14]]
    expected = dense.forward(image.astype(np.float32), pixels=pixels)
    for given in (image, np.asfortranarray(image), Recorded((2, 12, 15), dtype)):
        if isinstance(given, Recorded) and dtype == "bool":
            continue
        assert dense.forward(given, pixels=pixels).tobytes() == expected.tobytes()


def test_ints_are_normalised_and_floats_are_not():
    net = net_of("pools", dtype="float32")
    net.usage = Usage(normalization=Normalization((100, 7), (50, 3)))
    dense, pixels = Dense(net, "zero"), [[0, 1], [11, 14]]
    for given in (Recorded((2, 12, 15)), Recorded((2, 12, 15)).everything()):
        whole = given if isinstance(given, np.ndarray) else given.everything()
        normalised = net_input(net, whole)
        expected = dense.forward(normalised, pixels=pixels)
        assert dense.forward(given, pixels=pixels).tobytes() == expected.tobytes()
        assert dense.forward(normalised.astype("float64"), pixels=pixels).tobytes() == (
            expected.tobytes()
        )


class TestTrainer:
    @pytest.mark.parametrize("border", BORDERS)
    @pytest.mark.parametrize("case", ["dropout", "normalised"])
    @pytest.mark.parametrize("backend", ["reference", CPU])
    def test_learns_as_from_a_mask(self, case, border, backend):
        net = net_of(case, backend=backend)
        source = Recorded((net.channels, 25, 22))
        image = source.everything().astype(net.dtype)
        size = Dense(net, border).output_size((25, 22))
        pixels, rng = listed(size), np.random.default_rng(4)
        labels = rng.integers(-1, 3, len(pixels))
        label_map, mask = as_map(pixels, size, labels[None])
        options = {"class_weights": [1, 0, 0.3], "seed": 5, "border": border}
        trainer = Trainer(net, SGD(0.1), **options)
        loss, gradients = trainer.gradients(source, labels, pixels=pixels)
        expected_loss, expected = trainer.gradients(image, label_map[0], mask)
        assert loss == expected_loss
        for name in expected:
            assert gradients[name].tobytes() == expected[name].tobytes()
        for form in ("dense", "patch"):
            other = Trainer(net, SGD(0.1), form=form, **options)
            loss, other_gradients = other.gradients(source, labels, pixels=pixels)
            assert abs(loss - expected_loss) <= 1e-12
            for name in expected:
                assert relative_difference(other_gradients[name], expected[name]) <= 1e-12

    @pytest.mark.parametrize("backend", ["reference", CPU])
    def test_labels_of_one_pixel_that_differ_count_each(self, backend):
        """A list learns the mean of what its parts learn, each weighted by its labels."""
        net = net_of("normalised", backend=backend)
        source = Recorded((2, 13, 12))
        trainer = Trainer(net, SGD(0.1), class_weights=[1, 2, 4])
        pixels = np.array([[3, 4], [0, 11], [3, 4]])
        parts = [([2, 0], pixels[:2]), ([1], pixels[2:])]
        loss, gradients = trainer.gradients(source, np.array([2, 0, 1]), pixels=pixels)
        results = [trainer.gradients(source, np.array(k), pixels=p) for k, p in parts]
        (a, of_a), (b, of_b) = results
        assert abs(loss - (5 * a + 2 * b) / 7) <= 1e-12
        for name, gradient in gradients.items():
            mean = (5 * of_a[name] + 2 * of_b[name]) / 7
            assert relative_difference(gradient, mean) <= 1e-12

    def test_nan_is_refused_where_pixels_look_and_never_read_elsewhere(self):
        net = net_of("pools")
        image = np.full((2, 30, 31), np.nan)
        image[:, :12, :14] = Recorded((2, 12, 14)).everything()
        trainer = Trainer(net, SGD(0.1), border="zero")
        loss, _ = trainer.gradients(image, np.array([1]), pixels=[[2, 3]])
        assert np.isfinite(loss)
        with pytest.raises(ValueError, match="image holds NaN"):
            trainer.gradients(image, np.array([1]), pixels=[[12, 3]])


PIXELS = [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mask": np.ones((9, 12), bool)}, "mask and pixels are both given"),
        ({"pixels": [[0, 12]]}, "pixels reach from (0, 12) to (0, 12)"),
        ({"image": "x"}, "image is a str"),
        ({"image": np.zeros((2, 9, 12), complex)}, "image has dtype complex128"),
        ({"image": np.zeros((2, 0, 12), "u1")}, "image has shape (2, 0, 12)"),
        ({"image": np.zeros((9, 12), "u1")}, "image has shape (9, 12); expected 2 x any x any"),
        ({"error": np.zeros((2, 3))}, "error has shape 2 x 3; expected 3 x 2"),
    ],
)
def test_refused(arguments, message):
    dense = Dense(net_of("pools"), "zero")
    given = {"image": np.zeros((2, 9, 12), "u1"), "error": np.zeros((3, 2)), "pixels": PIXELS}
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        dense.gradients(**(given | arguments))


@pytest.mark.parametrize("border", ["valid", "zero", "reflect"])
@pytest.mark.parametrize("side", [windows.MOST_ROWS, windows.MOST_ROWS + 1])
def test_places_do_not_overflow_in_images_of_many_rows(side, border):
    """At the last rows of an image that no memory holds."""
    net, pixels = build("lenet28", backend="reference"), np.array([[side - 28, 3], [side - 29, 0]])
    image = np.broadcast_to(np.uint8(7), (1, side, 40))
    if side > windows.MOST_ROWS:
        message = f"image has shape (1, {side}, 40); expected at most {2**30} rows and columns"
        with pytest.raises(ValueError, match=re.escape(message)):
            Dense(net, border).forward(image, pixels=pixels)
    else:
        lowest = Dense(net, border).forward(image[:, -60:], pixels=pixels - (side - 60, 0))
        assert np.array_equal(Dense(net, border).forward(image, pixels=pixels), lowest)


def test_a_form_that_has_one_label_for_a_pixel_refuses_two():
    trainer = Trainer(net_of("pools"), SGD(0.1), form="patch")
    with pytest.raises(ValueError, match="pixels lists one several times"):
        trainer.step(Recorded((2, 9, 12)), np.array([0, 1]), pixels=[[1, 1], [1, 1]])


def sparse(label_map, seed=0):
    """The labelled pixels of a map, in random order, as a list."""
    rng = np.random.default_rng(seed)
    pixels = rng.permutation(np.argwhere(label_map >= 0))
    return ListedLabels(pixels, label_map[*pixels.T])


@pytest.mark.cpu
class TestFit:
    """Trained on lists of labels, a net learns what it learns from maps of them."""

    def run(self, data, **options):
        trainer = Trainer(small_net(), Adam(0.01), seed=3)
        options = {"pixels": 10**6, "validation": data, "progress": False} | options
        fit(trainer, data, epochs=2, **options)
        return trainer

    def test_all_pixels_of_each_image(self):
        images, maps = examples(3)
        bytes_ = [(40 * image).astype(np.int8) for image in images]
        maps = [np.where(np.random.default_rng(1).random(m.shape) < 0.1, m, -1) for m in maps]
        whole = self.run(([image.astype(np.float32) for image in bytes_], maps))
        lists = self.run((bytes_, [sparse(m) for m in maps]))
        assert lists.history == whole.history
        state = whole.net.state()
        assert all(array.tobytes() == state[n].tobytes() for n, array in lists.net.state().items())

    def test_some_pixels_maps_beside_lists_and_masks(self):
        images, maps = examples(2)
        data = images, [maps[0], sparse(maps[1])]
        assert len(self.run(data, pixels=7).history) == 2
        masks = [maps[0] == 1, data[1][1].labels == 1]
        assert len(self.run(data, pixels=masks).history) == 2

    def test_an_image_is_read_where_labels_are(self):
        source = Recorded((1, 10**6, 10**6))
        pixels = np.array([[0, 0], [5, 10**6 - 1], [10**5, 40]])
        data = [source], [ListedLabels(pixels, np.arange(3))]
        self.run(data)
        assert sum((b - t) * (r - left) for (t, b), (left, r) in source.read) <= 6 * 3 * 17**2

    @pytest.mark.parametrize(
        ("labels", "options", "message"),
        [
            ({"labels": np.array([0, 1])}, {}, "examples labels 0 has shape (2,); expected (3,)"),
            ({"labels": np.array([0, 1, 3])}, {}, "examples labels 0 reach from 0 to 3"),
            ({"labels": -np.ones(3, int)}, {}, "examples labels 0 hold no labelled pixel"),
            ({"pixels": [[0, 0], [1, 1], [24, 0]]}, {}, "examples pixels 0 reach from (0, 0)"),
            ({}, {"augmentation": Augmentation()}, "augmentation turns whole images"),
            ({}, {"picture": "curves.png"}, "picture is 'curves.png'; expected None"),
        ],
    )
    def test_refused(self, labels, options, message, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        given = {"pixels": [[0, 0], [1, 1], [2, 2]], "labels": np.arange(3)} | labels
        with pytest.raises((TypeError, ValueError), match=re.escape(message)):
            self.run((examples(1)[0], [ListedLabels(**given)]), **options)
