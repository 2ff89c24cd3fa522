"""Operators over lists of cells against the reference, and the reference against whole maps."""

import math

import numpy as np
import pytest

from kernels import get_backend
from kernels.convolution.cuda_tile import Tile
from kernels.listed_cells import DEVICE, HOST
from kernels.listed_max_pooling.cpu_workspace import shares_rows
from kernels.max_pooling.cpu_workspace import MOST_PARTS
from kernels.window import Window
from tests import lists
from tests.comparison import (
    DTYPES,
    FORWARD,
    GRADIENT,
    REFERENCE,
    assert_matches_reference,
    call,
    relative_difference,
)
from tests.conftest import CUDA, SIMULATOR
from tests.finite_differences import assert_gradient
from tests.refusals import assert_refused, refusals

# (M, C, K, P, (kh, kw))
SMALL = [(1, 1, 1, 1, (1, 1)), (9, 3, 2, 4, (2, 3)), (7, 2, 5, 6, (1, 2)), (12, 1, 3, 5, (3, 1))]
SMALL += [(40, 3, 70, 2, (2, 2))]  # few outputs beside cells
REAL = [
    *((700, 17, 25, 130, (2, 3)), (700, 48, 50, 300, (3, 2)), (300, 1, 20, 65, (5, 5))),
    *((150, 20, 48, 120, (2, 3)), (500, 64, 33, 257, (1, 1)), (300, 3, 7, 8, (6, 6))),
    (90, 5, 100, 1, (3, 3)),
]


def tables(rng, case):
    """Where windows' rows begin: no two outputs read a cell by the same tap."""
    cells, _, _, outputs, (height, width) = case
    begins = cells - width + 1
    rows = [rng.permutation(begins)[:outputs] for _ in range(height)]
    return np.stack(rows, axis=1).astype(np.int32)


def maps(rng, dtype, *shapes):
    return [rng.standard_normal((*shape, 1, 1)).astype(dtype) for shape in shapes]


class _Cases:
    """Small cases on every backend, large ones where they take no time."""

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("case", SMALL, ids=str)
    def test_small(self, backend, rng, case, dtype):
        self.check(backend, rng, case, dtype)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("case", REAL, ids=str)
    def test_real(self, fast_backend, rng, case, dtype):
        self.check(fast_backend, rng, case, dtype)


class TestConvolution(_Cases):
    def check(self, backend, rng, case, dtype):
        cells, channels, filters, outputs, kernel = case
        x, error = maps(rng, dtype, (cells, channels), (outputs, filters))
        scale = (channels * kernel[0] * kernel[1]) ** -0.5
        weights = (scale * rng.standard_normal((filters, channels, *kernel))).astype(dtype)
        bias, rows = rng.standard_normal(filters).astype(dtype), tables(rng, case)
        name, forward, gradient = "listed_convolution", FORWARD[dtype], GRADIENT[dtype]
        for b, activation in ((None, None), (bias, "relu"), (bias, "tanh")):
            arguments = (f"{name}.forward", x, rows, weights, b)
            assert_matches_reference(backend, *arguments, activation=activation, tolerance=forward)
        arguments = (f"{name}.gradient_weights", x, rows, error, kernel)
        assert_matches_reference(backend, *arguments, tolerance=gradient)
        arguments = (f"{name}.gradient_input", error, rows, weights, cells)
        assert_matches_reference(backend, *arguments, tolerance=gradient)


MAP_TILES = [Tile(20, 4, (1, 32), (1, 2)), Tile(8, 8, (4, 8), (2, 2), depth=16)]
WEIGHT_TILES = [Tile(20, 4, (2, 16), (1, 1), depth=32), Tile(8, 8, (4, 8), (2, 1), depth=32)]


@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize("name", [SIMULATOR, CUDA])
def test_tiles_of_a_device(name, rng, number):
    """Too much to fetch for looking up ahead, and not; one warp, and some."""
    backend, case = get_backend(name), (170, 3, 9, 150, (2, 3))
    x, error = maps(rng, "float32", (170, 3), (150, 9))
    weights, rows = rng.standard_normal((9, 3, 2, 3)).astype("float32"), tables(rng, case)
    for function, arguments, tiles in (
        ("forward", (x, rows, weights), MAP_TILES),
        ("gradient_input", (error, rows, weights, 170), MAP_TILES),
        ("gradient_weights", (x, rows, error, (2, 3)), WEIGHT_TILES),
    ):
        expected = getattr(REFERENCE.listed_convolution, function)(*arguments)
        options = {"tile": tiles[number]}
        result = call(backend, f"listed_convolution.{function}", *arguments, **options)
        assert relative_difference(result, expected) <= GRADIENT["float32"]


@pytest.mark.parametrize("name", [SIMULATOR, CUDA])
def test_shares_of_some_channels_at_a_time(name, rng, monkeypatch):
    """Where those of all would take too much memory: the same bits."""
    error, weights = maps(rng, "float32", (3, 70))[0], rng.standard_normal((70, 5, 2, 2))
    rows = tables(rng, (60, 5, 70, 3, (2, 2)))
    arguments = error, rows, weights.astype(np.float32)
    at_once = call(get_backend(name), "listed_convolution.gradient_input", *arguments, 60)
    monkeypatch.setattr("kernels.convolution.PARTIAL_BYTES", 2 * 4 * 3 * 4)
    in_turn = call(get_backend(name), "listed_convolution.gradient_input", *arguments, 61)
    np.testing.assert_array_equal(in_turn[:60], at_once)


LARGE_WINDOWS = [(300, 20, 8, 280, (5, 5)), (96, 70, 3, 60, (9, 8)), (96, 17, 3, 60, (10, 4))]
LARGE_WINDOWS += [(80, 17, 3, 60, (17, 16))]  # more cells than a byte numbers


class TestMaxPooling(_Cases):
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("case", LARGE_WINDOWS, ids=str)
    def test_rows_that_windows_share(self, fast_backend, rng, case, dtype):
        """On the host their maxima are taken once, but of windows with more than nine rows, and
        but for a pass forward alone."""
        cells, channels, _, outputs, kernel = case
        shape = outputs, cells, channels, np.dtype(dtype).itemsize
        assert shares_rows(Window(kernel), *shape, True) == (kernel[0] <= MOST_PARTS)
        assert not shares_rows(Window(kernel), *shape, False)
        self.check(fast_backend, rng, case, dtype)

    def check(self, backend, rng, case, dtype):
        cells, channels, _, outputs, kernel = case
        x = rng.integers(-3, 3, (cells, channels, 1, 1)).astype(dtype)
        x[rng.random(x.shape) < 0.05] = np.nan
        rows, name = tables(rng, case), "listed_max_pooling"
        for argmax in (True, False):
            options = {"argmax": argmax}
            assert_matches_reference(backend, f"{name}.forward", x, rows, kernel, **options)
            options |= {"activation": "tanh", "tolerance": FORWARD[dtype]}
            assert_matches_reference(backend, f"{name}.forward", x, rows, kernel, **options)
        _, argmax = REFERENCE.listed_max_pooling.forward(x, rows, kernel)
        (error,) = maps(rng, dtype, (outputs, channels))
        arguments = (f"{name}.backward", error, argmax, rows, kernel, cells)
        assert_matches_reference(backend, *arguments, tolerance=GRADIENT[dtype])


def test_errors_are_added_in_the_order_of_the_cells(rng):
    """Of large windows on the host, however they are listed."""
    ops, case = get_backend("cpu"), (300, 20, 1, 280, (5, 5))
    rows, (error,) = tables(rng, case), maps(rng, "float32", (280, 20))
    argmax, order = rng.integers(0, 25, error.shape).astype(np.uint8), np.argsort(rows[:, 0])
    backward = ops.listed_max_pooling.backward
    as_listed = backward(error, argmax, rows, (5, 5), 300)
    in_order = backward(error[order], argmax[order], rows[order], (5, 5), 300)
    assert as_listed.tobytes() == in_order.tobytes()


class TestAveragePooling(_Cases):
    def check(self, backend, rng, case, dtype):
        cells, channels, _, outputs, kernel = case
        x, error = maps(rng, dtype, (cells, channels), (outputs, channels))
        rows, name = tables(rng, case), "listed_average_pooling"
        arguments = (f"{name}.forward", x, rows, kernel)
        for columns in (None, math.prod(kernel)):
            options = {"columns": columns, "tolerance": GRADIENT[dtype]}
            assert_matches_reference(backend, *arguments, **options)
        arguments = (f"{name}.backward", error, rows, kernel, cells)
        assert_matches_reference(backend, *arguments, tolerance=GRADIENT[dtype])


class TestCells(_Cases):
    def check(self, backend, rng, case, dtype):
        cells, channels, _, outputs, _ = case
        x, error = maps(rng, dtype, (cells, channels), (outputs, channels))
        some = rng.permutation(cells)[:outputs].astype(np.int32)
        some = np.resize(some, outputs)[: min(cells, outputs)]
        assert_matches_reference(backend, "listed_cells.select", x, some)
        arguments = ("listed_cells.select_backward", error[: len(some)].copy(), some, cells)
        assert_matches_reference(backend, *arguments)
        size = (5, -(-outputs // 5) + 2)
        image = rng.standard_normal((1, channels, *size)).astype(dtype)
        places = rng.permutation(size[0] * size[1])[:outputs]
        rows, columns = (axis.astype(np.int32) for axis in np.unravel_index(places, size))
        arguments = ("listed_cells.gather_backward", error, rows, columns, size)
        assert_matches_reference(backend, *arguments)
        rows[0], columns[-1] = -1, -1
        assert_matches_reference(backend, "listed_cells.gather", image, rows, columns)


def whole(rng, dtype, kernel, dilation):
    """(map, its cells as a list, rows of all windows): the list in raster order of residues."""
    size, channels = (9, 11), 3
    x = rng.standard_normal((1, channels, *size)).astype(dtype)
    order = [
        (y, x)
        for first in np.ndindex(*dilation)
        for y in range(first[0], size[0], dilation[0])
        for x in range(first[1], size[1], dilation[1])
    ]
    number = {place: n for n, place in enumerate(order)}
    ys, xs = np.array(order).T
    listed = np.ascontiguousarray(x[0][:, ys, xs].T)[:, :, None, None]
    height, width = (n - (k - 1) * d for n, k, d in zip(size, kernel, dilation))
    rows = [
        [number[y + i * dilation[0], x] for i in range(kernel[0])]
        for y, x in np.ndindex(height, width)
    ]
    return x, listed, np.array(rows, np.int32)


def over_map(listed, like):
    """A list in raster order as a map of the shape of ``like``."""
    return listed[:, :, 0, 0].T.reshape(like.shape)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("kernel", "dilation"), [((2, 3), (1, 1)), ((3, 2), (2, 3)), ((1, 4), (1, 2))]
)
class TestWholeMap:
    """A list of all cells gives what the whole map gives."""

    def test_convolution(self, any_backend, rng, dtype, kernel, dilation):
        x, listed, rows = whole(rng, dtype, kernel, dilation)
        weights = rng.standard_normal((4, 3, *kernel)).astype(dtype)
        bias = rng.standard_normal(4).astype(dtype)
        options = {"activation": "tanh"}
        arguments = (x, weights, bias)
        on_map = call(any_backend, "convolution.forward", *arguments, dilation=dilation, **options)
        arguments = (listed, rows, weights, bias)
        on_list = call(any_backend, "listed_convolution.forward", *arguments, **options)
        if any_backend.name != "reference":
            np.testing.assert_array_equal(over_map(on_list, on_map), on_map)
        assert relative_difference(over_map(on_list, on_map), on_map) <= FORWARD[dtype]

    def test_max_pooling(self, any_backend, rng, dtype, kernel, dilation):
        x, listed, rows = whole(rng, dtype, kernel, dilation)
        on_map = call(any_backend, "max_pooling.forward", x, kernel, dilation=dilation)
        on_list = call(any_backend, "listed_max_pooling.forward", listed, rows, kernel)
        for of_list, of_map in zip(on_list, on_map, strict=True):
            np.testing.assert_array_equal(over_map(of_list, of_map), of_map)

    def test_average_pooling(self, any_backend, rng, dtype, kernel, dilation):
        x, listed, rows = whole(rng, dtype, kernel, dilation)
        on_map = call(any_backend, "average_pooling.forward", x, kernel, dilation=dilation)
        on_list = call(any_backend, "listed_average_pooling.forward", listed, rows, kernel)
        if any_backend.name != "reference":
            np.testing.assert_array_equal(over_map(on_list, on_map), on_map)
        assert relative_difference(over_map(on_list, on_map), on_map) <= FORWARD[dtype]

    def test_average_pooling_of_cells_apart(self, any_backend, rng, dtype, kernel, dilation):
        """Each cell of a window is a row of the table: the same bits, as rows are added up as such
        on a device."""
        _, listed, rows = whole(rng, dtype, kernel, dilation)
        begins = rows[:, :, None] + np.arange(kernel[1], dtype=np.int32)
        apart, over = begins.reshape(len(rows), -1), (math.prod(kernel), 1)
        operator = "listed_average_pooling.forward"
        together = call(any_backend, operator, listed, rows, kernel)
        alone = call(any_backend, operator, listed, apart, over, columns=kernel[1])
        assert alone.tobytes() == together.tobytes()


def test_gradients_are_the_derivatives(rng):
    case = (9, 3, 2, 4, (2, 3))
    rows, ops = tables(rng, case), REFERENCE.listed_convolution
    x, error = maps(rng, "float64", (9, 3), (4, 2))
    weights = rng.standard_normal((2, 3, 2, 3))
    by_x = ops.gradient_input(error, rows, weights, 9)
    of_x = (lambda v: ops.forward(v, rows, weights)), by_x, x
    assert_gradient(*of_x, error, exhaustive=True)
    by_weights = ops.gradient_weights(x, rows, error, (2, 3))
    of_weights = (lambda v: ops.forward(x, rows, v)), by_weights, weights
    assert_gradient(*of_weights, error, exhaustive=True)


ROWS = np.array([[0, 1], [1, 2], [2, 3], [3, 0]], np.int32)
WEIGHTS, FOUR = np.zeros((3, 2, 2, 3)), np.arange(4, dtype=np.int32)


def calls(layout, rows):
    """Arguments of every operator by its name; ``rows`` as a table."""
    x, pooled = np.zeros(layout.shape(6, 2)), np.zeros(layout.shape(4, 2))
    table, window = {"rows": rows}, {"rows": rows, "kernel": (2, 3)}
    error, won = np.zeros(layout.shape(4, 3)), np.zeros(pooled.shape, np.uint8)
    return {
        "listed_convolution.forward": {"x": x, **table, "weights": WEIGHTS},
        "listed_convolution.gradient_weights": {"x": x, **table, "error": error, "kernel": (2, 3)},
        "listed_convolution.gradient_input": {
            **{"error": error, **table},
            **{"weights": WEIGHTS, "cells": 6},
        },
        "listed_max_pooling.forward": {"x": x, **window},
        "listed_max_pooling.backward": {"error": pooled, "argmax": won, **window, "cells": 6},
        "listed_average_pooling.forward": {"x": x, **window},
        "listed_average_pooling.backward": {"error": pooled, **window, "cells": 6},
        "listed_cells.table": {"rows": ROWS, "cells": 6},
        "listed_cells.select": {"x": x, "cells": FOUR},
        "listed_cells.select_backward": {"error": pooled, "cells": FOUR, "count": 6},
        "listed_cells.gather": {"image": np.zeros((1, 2, 5, 4)), "rows": FOUR, "columns": FOUR},
        "listed_cells.gather_backward": {
            **{"error": pooled, "rows": FOUR, "columns": FOUR},
            "size": (5, 4),
        },
    }


HOST_CALLS, CALLS = calls(HOST, ROWS), calls(DEVICE, lists.table(ROWS, 6))
WITH_TABLE = [name for name, arguments in CALLS.items() if "kernel" in arguments]
WITH_TABLE += ["listed_convolution.forward", "listed_convolution.gradient_input"]
WIDE = [
    (name, {"rows": ROWS.astype(np.int64)}, TypeError, "rows has dtype int64; expected int32")
    for name in WITH_TABLE
]
REFUSALS = WIDE + [
    (name, {"rows": ROWS[:, :1].copy()}, ValueError, "rows has shape 4 x 1; expected ")
    for name in WITH_TABLE
]
LISTED_OTHERWISE = "expected a table of windows over 6 cells, which has more columns than these"
REFUSED_ON_DEVICE = [
    (name, {"rows": ROWS[:2].repeat(3, 1)}, ValueError, f"rows has shape 2 x 6; {LISTED_OTHERWISE}")
    for name in WITH_TABLE
]
REFUSED_ON_DEVICE += [
    (name, {"rows": np.zeros((3, 10), np.int32)}, ValueError, "rows has shape 3 x 10; expected 2 ")
    for name in WITH_TABLE
]
ON_HOST = [
    (name, {"rows": ROWS + np.int32(4)}, ValueError, "rows reaches from 4 to 7; expected 0 to 3")
    for name in WITH_TABLE
]
ON_HOST += [
    (name, {"rows": ROWS - np.int32(1)}, ValueError, "rows reaches from -1 to 2; expected 0 to 3")
    for name in WITH_TABLE
]
ON_HOST += [
    (
        "listed_cells.select",
        {"cells": FOUR + np.int32(3)},
        ValueError,
        "cells reaches from 3 to 6; expected 0 to 5",
    ),
    (
        "listed_cells.gather",
        {"columns": FOUR + np.int32(1)},
        ValueError,
        "columns reaches from 1 to 4; expected -1 to 3",
    ),
    (
        "listed_cells.gather_backward",
        {"rows": FOUR - np.int32(1)},
        ValueError,
        "rows reaches from -1 to 2; expected 0 to 4",
    ),
]


@pytest.mark.parametrize("name", ["reference", pytest.param("cpu", marks=pytest.mark.cpu)])
@pytest.mark.parametrize("refusal", refusals(HOST_CALLS, REFUSALS + ON_HOST))
def test_refusal_on_the_host(name, refusal):
    assert_refused(get_backend(name), refusal)


@pytest.mark.parametrize("name", [SIMULATOR, CUDA])
@pytest.mark.parametrize("refusal", refusals(CALLS, REFUSED_ON_DEVICE))
def test_refusal_on_a_device(name, refusal):
    assert_refused(get_backend(name), refusal)


@pytest.mark.parametrize("name", [SIMULATOR, CUDA])
def test_a_table_names_the_reader_of_each_cell(name, rng):
    backend, rows = get_backend(name), tables(rng, (700, 1, 1, 130, (3, 2)))
    made = call(backend, "listed_cells.table", rows, 700)
    np.testing.assert_array_equal(made, lists.table(rows, 700))
