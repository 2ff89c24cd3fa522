"""Work too small to share stays on the thread that calls."""

import importlib
import pkgutil

import numba
import numpy as np
import pytest

import kernels
from kernels.activation import ACTIVATIONS, Activation
from kernels.activation import cpu as activation
from kernels.adam import cpu as adam
from kernels.average_pooling import cpu as average_pooling
from kernels.batch_normalization import cpu as batch_normalization
from kernels.convolution import cpu as convolution
from kernels.convolution import (
    cpu_gradient_weights,
    cpu_last_channels,
    cpu_rows,
    cpu_rows_of_errors,
    cpu_scattered,
    cpu_weights,
    gradient_weights_shape,
)
from kernels.cross_entropy import cpu as cross_entropy
from kernels.dropout import cpu as dropout
from kernels.host import cell_maps, classes, listing, threads
from kernels.listed_average_pooling import cpu as listed_average_pooling
from kernels.listed_cells import cpu as listed_cells
from kernels.listed_convolution import cpu as listed_convolution
from kernels.listed_max_pooling import cpu as listed_max_pooling
from kernels.listed_max_pooling import cpu_shared_rows
from kernels.masking import cpu as masking
from kernels.max_pooling import cpu as max_pooling
from kernels.max_pooling import cpu_dense, cpu_strided
from kernels.merging import cpu as merging
from kernels.padding import cpu as padding
from kernels.patches import cpu as patches
from kernels.sgd import cpu as sgd
from kernels.softmax import cpu as softmax
from kernels.window import Window

pytestmark = [
    pytest.mark.cpu,
    pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="Numba has one thread here"),
]


SMALLEST = threads.SMALLEST_SHARED_WORK_NS


@pytest.fixture(autouse=True)
def smallest(monkeypatch):
    """What other tests do without."""
    monkeypatch.setattr(threads, "SMALLEST_SHARED_WORK_NS", SMALLEST)


class Spy:
    """In a dispatcher's place: notes how many threads each call would get."""

    def __init__(self):
        self.seen = []

    def py_func(self):
        """Nothing."""

    def __call__(self, *arguments):
        self.seen.append(numba.get_num_threads())
        if not arguments:
            raise ZeroDivisionError


class TestParallel:
    def test_small_work_gets_one_thread_and_other_work_all(self):
        function, most = threads.Parallel(Spy()), numba.get_num_threads()
        for work in (0, SMALLEST - 1, SMALLEST):
            function(None, work=work)
        function(None)
        assert function.dispatcher.seen == [1, 1, most, most]

    def test_the_number_of_threads_is_as_before(self):
        function, most = threads.Parallel(Spy()), numba.get_num_threads()
        with pytest.raises(ZeroDivisionError):
            function(work=0)
        assert numba.get_num_threads() == most

    def test_it_is_still_the_function(self):
        assert masking._apply.__name__ == "_apply"
        assert masking._apply.__module__ == "kernels.masking.cpu"


def map_of(side):
    return np.ones((1, 2, side, side), np.float32)


ONES, PLACE, KERNEL = np.ones(2, np.float32), np.zeros(1, np.int32), np.ones((2, 2, 3, 3), "f4")
OF_KERNEL = KERNEL, Window((3, 3))
MARGINS = (1, 1, 1, 1)
ADAM = {"rate": 1, "beta1": 0.9, "beta2": 0.9, "epsilon": 1e-8, "decay": 0, "count": 1}
DROPOUT = {"spacing": (1, 1), "rate": 0.5, "key": (1, 2, 3)}


def size_of(x):
    return x.shape[2:]


def pixels_of(x):
    """Labels, their mask and the classes' weights."""
    return np.zeros(x[:, 0].shape, np.int32), np.ones(x[:, 0].shape, bool), ONES


def each_activation(x):
    for name, parameter in ACTIVATIONS.items():
        activation.forward(x, Activation(name, parameter and 1.0))


def weights_of_last_channels(x):
    error = x[:, :, 2:, 2:].copy()
    shape = gradient_weights_shape(x, error, (3, 3), 1, 1)
    sums = np.zeros((1, 24, 16), np.float32)
    cpu_last_channels.add_last_channels(sums, x.reshape(-1), error.reshape(-1), shape, 0)


def backward_of_max_pooling(x):
    height, width = size_of(x)
    max_pooling.backward(x, np.zeros(x.shape, np.uint8), (height + 1, width + 1), 2)


def listed(x, height=2):
    """A map's numbers as a list of cells of two channels, and a table of windows."""
    cells = x.reshape(-1, 2, 1, 1)
    return cells, np.zeros((len(cells), height), np.int32)


def look_up(x):
    pixels, origins = np.argwhere(np.ones(size_of(x), bool)), np.zeros((1, 2), np.int64)
    reads, spacings = np.array([[0, 1, 1, 1, 1, 1, 0, 0]]), np.ones((2, 2), np.int64)
    groups = np.array([0, len(pixels)])
    maps, counts = cell_maps.traced(pixels, groups, origins, reads, spacings[:, 1])
    lists = listing.listed(maps, counts, spacings, origins)
    readings = np.array([[0, 1, 1, 1, 1, 1, 0, 0, 1]])
    listing.tables(maps, lists, spacings, origins, readings)


def numbers(x):
    return np.arange(x.size // 2, dtype=np.int32)


def places(x):
    """Rows and columns of all pixels."""
    rows, columns = np.indices(size_of(x), np.int32)
    return rows.ravel(), columns.ravel()


def backward_of_listed_max_pooling(x):
    cells, rows = listed(x)
    listed_max_pooling.backward(cells, np.zeros(cells.shape, np.uint8), rows, 2, x.size)


def backward_of_small_windows_over_a_list(x):
    cells = np.resize(x, (x.size // 16 + 5, 16, 1, 1))
    rows, argmax = np.zeros((len(cells), 2), np.int32), np.zeros(cells.shape, np.uint8)
    listed_max_pooling.backward(cells, argmax, rows, 2, x.size)


def large_windows_over_a_list(x):
    cells = np.resize(x, (x.size // 16 + 5, 16, 1, 1))
    rows = np.zeros((len(cells), 5), np.int32)
    return listed_max_pooling.forward(cells, rows, 5)


CASES = [
    (activation, "_forward", each_activation),
    (activation, "_backward", lambda x: activation.backward(x, x, "tanh")),
    (adam, "_step", lambda x: adam.step(x, x, x, x, **ADAM)),
    (average_pooling, "_forward", lambda x: average_pooling.forward(x, 2)),
    (average_pooling, "_forward_strided", lambda x: average_pooling.forward(x, 3, stride=2)),
    (
        average_pooling,
        "_backward",
        lambda x: average_pooling.backward(x[:, :, 1:, 1:].copy(), size_of(x), 2),
    ),
    (
        average_pooling,
        "_backward_strided",
        lambda x: average_pooling.backward(x[:, :, ::2, ::2].copy(), size_of(x), 2, stride=2),
    ),
    (
        batch_normalization,
        "_forward",
        lambda x: batch_normalization.forward(x, *(ONES,) * 4, 1e-5),
    ),
    (
        batch_normalization,
        "_backward",
        lambda x: batch_normalization.backward(x, x, *(ONES,) * 3, 1e-5),
    ),
    (
        batch_normalization,
        "_forward_of_cells",
        lambda x: batch_normalization.forward(listed(x)[0], *(ONES,) * 4, 1e-5),
    ),
    (
        batch_normalization,
        "_backward_of_cells",
        lambda x: batch_normalization.backward(*listed(x)[:1] * 2, *(ONES,) * 3, 1e-5),
    ),
    (
        classes,
        "_most_probable",
        lambda x: classes.most_probable(x[0], np.arange(x.shape[1]), -1, 1e-5),
    ),
    (convolution, "_sum_channels", convolution.gradient_bias),
    (convolution, "_sum_maps", lambda x: convolution.gradient_bias(listed(x)[0])),
    (
        cpu_gradient_weights,
        "_add_up",
        lambda x: convolution.gradient_weights(x, x[:, :, :-2:2, :-2:2].copy(), (3, 3), stride=2),
    ),
    (cpu_last_channels, "_add_up", weights_of_last_channels),
    (cpu_rows, "_correlate", lambda x: convolution.forward(x, KERNEL)),
    (
        cpu_rows_of_errors,
        "_correlate",
        lambda x: cpu_rows_of_errors.correlate(
            x[:, :, 2:, 2:].copy(), x[:, :, 4:, 4:].copy(), *OF_KERNEL
        ),
    ),
    (cpu_scattered, "_correlate", lambda x: convolution.forward(x, KERNEL, stride=2)),
    (cpu_weights, "_pack", lambda x: cpu_weights.packed(x, 4)),
    (cpu_weights, "_pack_by_row", lambda x: cpu_weights.packed_by_row(x, 4)),
    (cpu_weights, "_pack_by_column", lambda x: cpu_weights.packed_by_column(x, 4, 2)),
    (cross_entropy, "_total_weight", lambda x: cross_entropy.total_weight(*pixels_of(x))),
    (
        cross_entropy,
        "_forward",
        lambda x: cross_entropy.forward(x, *pixels_of(x), ONES[:1]),
    ),
    (
        cross_entropy,
        "_backward",
        lambda x: cross_entropy.backward(x, *pixels_of(x), ONES[:1]),
    ),
    (dropout, "_apply", lambda x: dropout.apply(x, PLACE, PLACE, **DROPOUT)),
    (cpu_dense, "_forward_with_argmax", lambda x: max_pooling.forward(x, 2)),
    (cpu_dense, "_forward", lambda x: max_pooling.forward(x, 2, argmax=False)),
    (
        cpu_strided,
        "_forward",
        lambda x: max_pooling.forward(x, 3, stride=2, argmax=False),
    ),
    (cpu_strided, "_forward_with_argmax", lambda x: max_pooling.forward(x, 3, stride=2)),
    (max_pooling, "_backward", backward_of_max_pooling),
    (listing, "_look_up", look_up),
    (listed_average_pooling, "_forward", lambda x: listed_average_pooling.forward(*listed(x), 2)),
    (
        listed_average_pooling,
        "_backward",
        lambda x: listed_average_pooling.backward(*listed(x), 2, x.size),
    ),
    (listed_cells, "_select", lambda x: listed_cells.select(listed(x)[0], numbers(x))),
    (
        listed_cells,
        "_put",
        lambda x: listed_cells.select_backward(listed(x)[0], numbers(x), x.size),
    ),
    (listed_cells, "_gather", lambda x: listed_cells.gather(x, *places(x))),
    (
        listed_cells,
        "_put_places",
        lambda x: listed_cells.gather_backward(listed(x)[0], *places(x), size_of(x)),
    ),
    (listed_convolution, "_correlate", lambda x: listed_convolution.forward(*listed(x, 3), KERNEL)),
    (
        listed_convolution,
        "_add_up",
        lambda x: listed_convolution.gradient_weights(*listed(x), listed(x)[0], (2, 2)),
    ),
    (
        listed_convolution,
        "_scatter",
        lambda x: listed_convolution.gradient_input(*listed(x, 3), KERNEL, x.size),
    ),
    (listed_max_pooling, "_forward", lambda x: listed_max_pooling.forward(*listed(x), 2)),
    (listed_max_pooling, "_add_by_channels", backward_of_listed_max_pooling),
    (listed_max_pooling, "_add_by_cells", backward_of_small_windows_over_a_list),
    (cpu_shared_rows, "_join_rows", large_windows_over_a_list),
    (cpu_shared_rows, "_join_windows", large_windows_over_a_list),
    (padding, "_pad", lambda x: padding.pad(x, MARGINS, "zero")),
    (padding, "_crop", lambda x: padding.crop(x, MARGINS)),
    (padding, "_reflect_backward", lambda x: padding.pad_backward(x, MARGINS, "reflect")),
    (patches, "_extract", lambda x: patches.extract(x, PLACE, PLACE, size_of(x))),
    (
        patches,
        "_extract_backward",
        lambda x: patches.extract_backward(x, PLACE, PLACE, size_of(x)),
    ),
    (sgd, "_step", lambda x: sgd.step(x, x, x, rate=1, momentum=0, decay=0)),
    (masking, "_apply", lambda x: masking.apply(x, np.ones(x[:, 0].shape, bool))),
    (softmax, "_forward", softmax.forward),
    (softmax, "_backward", lambda x: softmax.backward(x, x)),
    (merging, "_copy", lambda x: merging.add([x, x])),
    (merging, "_accumulate", lambda x: merging.add([x, x])),
    (merging, "_copy_channels", lambda x: merging.concatenate([x, x])),
    (merging, "_copy_channels", lambda x: merging.concatenate_backward(x, [1, 1])),
]
"""Where a function is, its name, and what calls it with a map."""


@pytest.mark.parametrize(("module", "name", "call"), CASES)
def test_operators_share_by_the_size_of_their_maps(monkeypatch, module, name, call):
    spy = Spy()
    monkeypatch.setattr(getattr(module, name), "dispatcher", spy)
    call(map_of(10))
    assert set(spy.seen) == {1}
    spy.seen.clear()
    call(map_of(700))
    assert set(spy.seen) == {numba.get_num_threads()}


def test_sums_of_gradients_over_lists_share_by_the_size_of_the_weights(monkeypatch):
    spy = Spy()
    monkeypatch.setattr(listed_convolution._sum_groups, "dispatcher", spy)
    for channels, expected in ((2, 1), (512, numba.get_num_threads())):
        x, rows = np.ones((40, channels, 1, 1), np.float32), np.zeros((40, 5), np.int32)
        listed_convolution.gradient_weights(x, rows, x, (5, 1))
        assert spy.seen.pop() == expected


def test_sums_of_gradients_share_by_the_size_of_the_weights(monkeypatch):
    spy = Spy()
    for name in ("_add_up", "_sum_groups"):
        monkeypatch.setattr(getattr(cpu_gradient_weights, name), "dispatcher", spy)
    for channels, expected in ((2, 1), (128, numba.get_num_threads())):
        x = np.ones((1, channels, 10, 10), np.float32)
        convolution.gradient_weights(x, x[:, :, 4:, 4:].copy(), (5, 5))
        assert spy.seen.pop() == expected


def test_no_function_is_left_out():
    """All that share their work, found on disk."""
    found = set()
    for place in pkgutil.walk_packages(kernels.__path__, "kernels."):
        if place.name.startswith("kernels.device") or ".cuda" in place.name:
            continue
        for name, value in vars(importlib.import_module(place.name)).items():
            if isinstance(value, threads.Parallel) and value.__module__ == place.name:
                found.add((place.name, name))
    tested = {(module.__name__, name) for module, name, _ in CASES}
    of_weights = cpu_gradient_weights, listed_convolution
    assert found == tested | {(module.__name__, "_sum_groups") for module in of_weights}
