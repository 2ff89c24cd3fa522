"""Passes over the cells that chosen pixels need: exactly these cells, and the same results."""

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from net import Dense, Net, free_memory, images, needed_cells, planning
from net.chosen import Chosen
from net.layers import (
    Add,
    AveragePool,
    BatchNorm,
    Concatenate,
    Convolution,
    Crop,
    Dropout,
    FullyConnected,
    MaxPool,
    ReLU,
    Softmax,
    Tanh,
)
from net.learning.optimizers import SGD
from net.learning.training import Trainer
from net.listed_steps import SelectStep
from net.needed_cells import Need
from net.needed_pass import NeededPass
from net.nodes import IMAGE
from net.zoo import build
from tests.comparison import relative_difference
from tests.net.forms import over_lists_alone
from tests.net.nets import random_image, randomized, reduced
from tests.net.test_planning import Taken

CPU = pytest.param("cpu", marks=pytest.mark.cpu)
SIMULATOR = pytest.param("simulator", marks=pytest.mark.simulator)
CUDA = pytest.param("cuda", marks=pytest.mark.gpu)

BRANCHES = [
    Convolution(3, 3, name="a"),
    *(ReLU(name="b"), MaxPool(2, name="c"), Convolution(2, (1, 3), name="d")),
    *(Crop((1, 2, 1, 0), inputs=("b",)), AveragePool(2, dilation=(1, 1), name="e")),
    Crop((0, 0, 0, 1), inputs=("d",), name="f"),
    Convolution(2, 2, inputs=("e",), name="g"),
    Crop((0, 1, 0, 0), inputs=("g",), name="h"),
]
NETS = {
    "convolutions": (2, (6, 7), [Convolution(3, (2, 3)), Tanh(), Convolution(2, (3, 2))]),
    "own dilation": (1, (11, 9), [Convolution(2, 3), Convolution(2, (3, 2), dilation=(2, 3))]),
    "strides": (1, (14, 13), [Convolution(2, 3, stride=2), MaxPool((2, 3)), Convolution(3, 2)]),
    "pools": (2, (9, 12), [MaxPool((2, 3)), AveragePool((2, 1)), Convolution(2, 2), ReLU()]),
    "dropout": (1, 8, [Convolution(3, 3), ReLU(), Dropout(0.4), MaxPool(2), Dropout(0.3)]),
    "normalised": (2, 8, [Convolution(3, 3), BatchNorm(), ReLU(), MaxPool(2), BatchNorm()]),
    "two readers": (
        *(1, 9),
        [
            Convolution(2, 2, name="a"),
            Convolution(2, (3, 2), name="b"),
            Tanh(inputs=("a",), name="t"),
            Convolution(2, (3, 2), dilation=1, name="c"),
            Add(inputs=("b", "c")),
        ],
    ),
    "spacings that differ": (
        *(1, 10),
        [
            Convolution(2, 2, name="a"),
            Convolution(2, 3, dilation=2, name="b"),
            Convolution(3, 3, inputs=("a",), name="c"),
            Crop((0, 0, 2, 2), name="d"),
            Concatenate(inputs=("b", "d")),
        ],
    ),
    "averages whose spacings differ": (
        *(3, 10),
        [
            AveragePool((2, 4), stride=1, dilation=(1, 2), name="a"),
            AveragePool((2, 4), stride=1, inputs=(IMAGE,), name="b"),
            Crop((0, 2, 0, 1), name="c"),
            Concatenate(inputs=("a", "c")),
        ],
    ),
    "one map twice": (1, 8, [Convolution(2, 3, name="a"), Add(inputs=("a", "a"))]),
    "skip around an activation": (
        *(1, 8),
        [
            Convolution(2, (3, 1), name="a"),
            ReLU(name="b"),
            Concatenate(inputs=("a", "b")),
            Convolution(3, (1, 2)),
        ],
    ),
    "crop of an input": (2, 7, [Crop((1, 0, 2, 1)), Convolution(2, 2), Crop((0, 2, 1, 0))]),
    "softmax inside": (2, 6, [Convolution(3, 2), Softmax(), Convolution(2, 3), Softmax()]),
    "pixel by pixel": (3, 1, [Convolution(4, 1), ReLU()]),
}


def net_of(case, **options):
    channels, patch, layers = NETS[case]
    layers = [*layers, FullyConnected(3)]
    options = {"dtype": "float64", "backend": "reference"} | options
    return randomized(Net(layers, channels=channels, patch=patch, **options))


def masks(size, seed=0):
    """Masks of a map of ``size``: one pixel, a corner, some, a stroke, far apart, all."""
    rng = np.random.default_rng(seed)
    one, corners, stroke = (np.zeros(size, bool) for _ in range(3))
    one[size[0] // 2, size[1] - 1] = True
    corners[0, 0] = corners[-1, -1] = True
    stroke[size[0] // 2, 1:-1] = True
    return {
        **{"one": one, "corners": corners, "some": rng.random(size) < 0.15},
        **{"a stroke": stroke, "all": np.ones(size, bool)},
    }


@pytest.fixture(autouse=True)
def always_over_lists(monkeypatch):
    over_lists_alone(monkeypatch)


def expected_cells(net, pixels):
    """By layer the set of needed cells, from the definition: window by window."""
    needed = {name: set() for name in (IMAGE, *net.nodes)}
    last = list(net.nodes)[-1]
    needed[last] = set(map(tuple, pixels.tolist()))
    for node in reversed(net.nodes.values()):
        for source, place in zip(node.inputs, node.sources):
            dy, dx = place.spacing
            moves = [(0, 0)]
            if isinstance(node.layer, Crop):
                top, left, _, _ = node.layer.margins
                moves = [(top * dy, left * dx)]
            elif node.window is not None:
                ey, ex = node.window.dilation
                moves = [(i * ey * dy, j * ex * dx) for i, j in np.ndindex(node.window.kernel)]
            needed[source] |= {(y + i, x + j) for y, x in needed[node.name] for i, j in moves}
    return needed


class TestCells:
    @pytest.mark.parametrize("kind", masks((1, 1)))
    @pytest.mark.parametrize("case", NETS)
    def test_are_exactly_those_that_are_read(self, case, kind):
        net, mask = net_of(case), masks((9, 8))[kind]
        need, expected = Need(net, np.argwhere(mask)), expected_cells(net, np.argwhere(mask))
        assert need.counts == {name: len(cells) for name, cells in expected.items()}
        for name, cells in need.cells().cells.items():
            listed = list(zip(cells.rows.tolist(), cells.columns.tolist()))
            assert len(set(listed)) == len(listed) == len(expected[name])
            assert set(listed) == expected[name]

    @pytest.mark.parametrize("name", ["lenet28", "n4", "strided67"])
    def test_of_one_pixel_are_those_of_its_patch(self, name):
        net = build(name, backend="reference")
        need = Need(net, np.array([[40, 3]]))
        sizes = {n.name: n.output.size for n in net.nodes.values()}
        assert {name: need.counts[name] for name in sizes} == {
            name: height * width for name, (height, width) in sizes.items()
        }

    def test_of_pixels_far_apart_are_planned_apart(self):
        """Nothing that is made is as large as the image."""
        net = build("lenet28", backend="reference")
        pixels = np.array([[3, 7], [10**8, 5], [10**8 + 1, 5], [40, 10**9], [41, 10**9]])
        need, alone = Need(net, pixels), [Need(net, pixels[i : i + 1]) for i in range(5)]
        assert need.counts["conv1"] < sum(each.counts["conv1"] for each in alone)
        pair = Need(net, pixels[1:3]).counts["conv1"] + Need(net, pixels[3:]).counts["conv1"]
        assert need.counts["conv1"] == pair + alone[0].counts["conv1"]
        chosen = need.cells().pixels
        listed = set(zip(chosen.rows.tolist(), chosen.columns.tolist()))
        assert listed == set(map(tuple, pixels.tolist()))

    @pytest.mark.parametrize("together", [1, needed_cells.TOGETHER])
    @pytest.mark.parametrize("case", ["strides", "two readers", "spacings that differ"])
    def test_across_the_blocks_of_a_map(self, case, together, monkeypatch):
        monkeypatch.setattr(needed_cells, "TOGETHER", together)
        net, size = net_of(case), np.array([150, 200])
        rng = np.random.default_rng(2)
        pixels = np.concatenate([rng.integers(60, 68, (9, 2)), rng.integers(0, size, (40, 2))])
        expected = expected_cells(net, pixels)
        for name, cells in Need(net, pixels).cells().cells.items():
            assert set(zip(cells.rows.tolist(), cells.columns.tolist())) == expected[name]

    def test_apart_or_at_once_give_the_same_scores(self, monkeypatch):
        net, pixels = net_of("strides"), np.random.default_rng(3).integers(0, 90, (12, 2))
        image, scores = random_image(net, (110, 120)), []
        for together in (1, needed_cells.TOGETHER):
            monkeypatch.setattr(needed_cells, "TOGETHER", together)
            scores.append(Dense(net).forward(image, pixels=pixels))
        np.testing.assert_array_equal(*scores)

    def test_of_a_long_stroke_take_what_lies_around_it(self):
        """A diagonal of patches of 28 x 28: each adds 28 + 27 cells to those before."""
        net, length = build("lenet28", backend="reference"), 30_000
        need = Need(net, np.stack([np.arange(length)] * 2, axis=1))
        assert need.counts["image"] == 28 * 28 + 55 * (length - 1)
        assert len(need._origins) == 1
        assert sum(array.nbytes for array in need._maps) < 400 * length

    def test_layers_with_the_same_cells_share_their_lists(self):
        net = build("lenet28", backend="reference")
        cells = Need(net, np.array([[0, 0], [9, 9]])).cells().cells
        assert cells["conv1"] is cells["relu1"] is not cells["max1"]
        program = NeededPass(net, "zero", np.array([[0, 0]])).program
        assert not any(isinstance(step, SelectStep) for step in program.steps)

    @pytest.mark.simulator
    def test_tables_on_a_device_are_counted(self, monkeypatch):
        some = NeededPass(net_of("pools", backend="simulator"), "zero", np.array([[0, 3], [9, 9]]))
        tables = [s.listed.rows for s in some.program.steps if hasattr(s, "listed")]
        on_host = [r.rows for of_layer in some.cells.readings.values() for r in of_layer]
        largest = max(rows.nbytes for rows in on_host if rows is not None)
        assert some.table_bytes == 4 * sum(table.size for table in tables) + largest
        monkeypatch.setattr(free_memory, "SMALLEST", 0)
        monkeypatch.setattr(some.net.backend.memory, "free_bytes", lambda: some.table_bytes - 1)
        again = NeededPass(some.net, "zero", some.pixels)
        with pytest.raises(MemoryError, match="the tables of 2 pixels"):
            _ = again.program


def _check_scores(backend, scores, expected):
    """The same bits where the operators on lists take their sums in the same order."""
    if backend == "reference":
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-12)
    else:
        assert scores.tobytes() == expected.tobytes()


def gradients(net, image, error, mask, border, **options):
    result = Dense(net, border).gradients(image, error, mask, image_gradient=True, **options)
    return {**result.parameters, "image": result.image}


@pytest.mark.parametrize("border", ["valid", "zero", "reflect"])
@pytest.mark.parametrize("case", NETS)
@pytest.mark.parametrize("backend", ["reference", CPU])
class TestPass:
    def test_gives_what_the_whole_maps_give(self, case, border, backend):
        net = net_of(case, backend=backend)
        image = random_image(net, (17, 16))
        dense = Dense(net, border)
        scores = dense.forward(image)
        error = np.random.default_rng(1).standard_normal(scores.shape)
        for mask in masks(scores.shape[1:]).values():
            of_mask = dense.forward(image, mask)
            _check_scores(backend, of_mask[:, mask], scores[:, mask])
            assert np.isnan(of_mask[:, ~mask]).all()
            spoiled = np.where(mask, error, np.nan)
            some = gradients(net, image, spoiled, mask, border)
            whole = gradients(net, image, spoiled, mask, border, everywhere=True)
            assert some.keys() == whole.keys()
            for name in whole:
                assert relative_difference(some[name], whole[name]) <= 1e-12

    def test_labels_where_asked(self, case, border, backend):
        net = net_of(case, backend=backend)
        image = random_image(net, (17, 16))
        dense = Dense(net, border)
        classes, probabilities = dense.predict(image)
        for mask in (*masks(classes.shape).values(), np.zeros(classes.shape, bool)):
            masked_classes, of_mask = dense.predict(image, mask=mask)
            np.testing.assert_array_equal(masked_classes, np.where(mask, classes, -1))
            _check_scores(backend, of_mask[:, mask], probabilities[:, mask])
            assert np.isnan(of_mask[:, ~mask]).all()

    def test_reads_nothing_else(self, case, border, backend):
        """NaN elsewhere in the image changes no bit."""
        net = net_of(case, backend=backend)
        image = random_image(net, (17, 16))
        dense = Dense(net, border)
        size = dense.output_size(image.shape[1:])
        error = np.random.default_rng(1).standard_normal((3, *size))
        for mask in masks(size).values():
            cells = Need(net, np.argwhere(mask)).cells().cells[IMAGE]
            rows, columns = images.places(net, cells.rows, cells.columns, (17, 16), border)
            read = np.zeros((17, 16), bool)
            inside = (rows >= 0) & (columns >= 0)
            read[rows[inside], columns[inside]] = True
            spoiled = np.where(read, image, np.nan)
            for name, gradient in gradients(net, spoiled, error, mask, border).items():
                same = gradients(net, image, error, mask, border)[name]
                assert gradient.tobytes() == same.tobytes()
            of_mask = dense.forward(spoiled, mask)
            assert of_mask[:, mask].tobytes() == dense.forward(image, mask)[:, mask].tobytes()


@pytest.mark.parametrize("backend", ["reference", CPU, SIMULATOR, CUDA])
@pytest.mark.parametrize("name", ["n4", "strided67"])
def test_nets_of_the_zoo(backend, name):
    net = randomized(reduced(name, dtype="float64", backend=backend))
    image = random_image(net, (7, 6))
    mask = np.zeros((7, 6), bool)
    mask[2, 1] = mask[2, 2] = mask[6, 5] = backend != "simulator"
    mask[3, 3] = True
    error = np.random.default_rng(1).standard_normal((net.output.channels, 7, 6))
    reference = net.to(backend="reference")
    some = gradients(net, image, error, mask, "reflect")
    whole = gradients(reference, image, error, mask, "reflect", everywhere=True)
    for key in whole:
        assert relative_difference(some[key], whole[key]) <= 1e-12


@pytest.mark.parametrize("case", ["dropout", "normalised", "two readers", "softmax inside"])
@pytest.mark.parametrize("backend", ["reference", CPU])
def test_every_form_of_training_learns_the_same(case, backend):
    net = net_of(case, backend=backend)
    image, rng = random_image(net, (12, 13)), np.random.default_rng(5)
    labels, mask = rng.integers(-1, 3, (12, 13)), rng.random((12, 13)) < 0.2
    results = {}
    for form in ("needed", "dense", "patch"):
        trainer = Trainer(net, SGD(0.1), form=form, class_weights=[1, 2, 0.5], seed=3)
        results[form] = trainer.gradients(image, labels, mask)
    loss, by_name = results["patch"]
    for form in ("needed", "dense"):
        assert abs(results[form][0] - loss) <= 1e-12
        for name, gradient in by_name.items():
            assert relative_difference(results[form][1][name], gradient) <= 1e-12


@pytest.mark.cpu
@pytest.mark.parametrize("case", ["strides", "two readers", "spacings that differ"])
def test_maps_of_several_blocks(case):
    """The same as the dense form, from pixels all over a map and from a stroke across it."""
    net = net_of(case, backend="cpu")
    image, size = random_image(net, (150, 200)), (150, 200)
    rng = np.random.default_rng(3)
    masks = rng.random((2, *size)) < 0.01
    masks[1] = np.abs(np.arange(size[0])[:, None] - np.arange(size[1])) == 31
    dense = Dense(net, "zero")
    scores, error = dense.forward(image), rng.standard_normal((3, *size))
    for mask in masks:
        assert dense.forward(image, mask)[:, mask].tobytes() == scores[:, mask].tobytes()
        some = gradients(net, image, error, mask, "zero")
        whole = gradients(net, image, error, mask, "zero", everywhere=True)
        for name in whole:
            assert relative_difference(some[name], whole[name]) <= 1e-12


@pytest.mark.cpu
def test_bits_do_not_depend_on_threads():
    net = build("n4", backend="cpu")
    image = random_image(net, (40, 41))
    mask = np.random.default_rng(0).random((40, 41)) < 0.02
    error = np.random.default_rng(1).standard_normal((net.output.channels, 40, 41))
    bits, most = set(), numba.config.NUMBA_NUM_THREADS
    if most == 1:
        pytest.skip("one thread alone")
    try:
        for threads in (1, most):
            numba.set_num_threads(threads)
            some = gradients(net, image, error.astype(np.float32), mask, "zero")
            bits.add(b"".join(some[name].tobytes() for name in some))
    finally:
        numba.set_num_threads(most)
    assert len(bits) == 1


@pytest.mark.cpu
@pytest.mark.parametrize("case", NETS)
def test_memory_is_planned(monkeypatch, case):
    net, size = net_of(case, dtype="float32", backend="cpu"), (200, 230)
    taken, mask = Taken(monkeypatch), np.random.default_rng(0).random(size) < 0.2
    image = random_image(net, size)
    error = np.ones((3, *size), np.float32)
    dense = Dense(net, "zero")
    some = dense.needed.over(Chosen(mask.shape, mask))
    sizes = len(some.cells.cells[IMAGE]), len(some.rows)
    monkeypatch.setattr(numba, "get_num_threads", lambda: 0)
    forward = planning.needed_bytes(some.program, *sizes)
    both = planning.needed_bytes(some.program, *sizes, keep=True)
    monkeypatch.undo()
    taken = Taken(monkeypatch)
    over_lists_alone(monkeypatch)
    calls = (
        (lambda: dense.forward(image, mask), forward),
        (
            lambda: dense.gradients(image, error, mask),
            both,
        ),
    )
    for call, planned in calls:
        call()
        measured = taken.by(call)
        assert abs(planned - measured) <= max(0.05 * measured, 10**6)


@given(st.integers(1, 12), st.integers(1, 12), st.floats(0.01, 1), st.integers(0, 10**6))
def test_random_masks(height, width, share, seed):
    net = net_of("spacings that differ")
    mask = np.random.default_rng(seed).random((height, width)) < share
    mask[seed % height, seed % width] = True
    expected = expected_cells(net, np.argwhere(mask))
    counts = Need(net, np.argwhere(mask)).counts
    assert counts == {name: len(cells) for name, cells in expected.items()}
