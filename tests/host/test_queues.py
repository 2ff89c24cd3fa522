"""The queues that the host's threads take their items of work from: one addition an item.

A counter that threads touched within an item would be a line of the cache that goes from core to
core all the time. No time is measured: counters are read, and the loops.
"""

import ast
import re
from pathlib import Path

import numba
import numpy as np
import pytest

import kernels
from kernels.convolution import (
    cpu,
    cpu_gradient_weights,
    cpu_last_channels,
    cpu_rows,
    cpu_rows_of_errors,
    cpu_rows_plan,
    cpu_scattered,
)
from kernels.convolution.cpu_taps import Taps
from kernels.convolution.cpu_workspace import partial_shape, tile_shape
from kernels.host import products, simd
from kernels.listed_convolution import cpu as listed_convolution
from kernels.listed_max_pooling import cpu as listed_max_pooling
from kernels.listed_max_pooling import cpu_shared_rows
from kernels.listed_max_pooling.cpu_workspace import ROWS, channel_groups, shares_rows
from kernels.max_pooling import cpu as max_pooling
from kernels.max_pooling import cpu_dense, cpu_strided
from kernels.max_pooling.cpu_workspace import workspace
from kernels.window import Window

ROOT = Path(kernels.__file__).parent
FLOAT32 = 4
LANES = simd.lanes(FLOAT32)
X, KERNEL = np.ones((2, 3, 31, 130), np.float32), (3, 2)


def vector_groups(channels, most):
    return len(simd.vector_groups(-(-channels // LANES), most))


def forward_in_rows(monkeypatch):
    y = cpu.forward(X, np.ones((7, 3, *KERNEL), np.float32))
    threads = numba.get_num_threads()
    *_, items = cpu_rows_plan.plan(y.shape, X.shape, KERNEL, (1, 1), (0, 0), FLOAT32, threads)
    return [(cpu_rows, len(items))]


def forward_of_scattered_pixels(monkeypatch):
    y = cpu.forward(X, np.ones((7, 3, *KERNEL), np.float32), stride=2)
    axes, threads = tuple(zip(y.shape[2:], KERNEL, (2, 2), (1, 1))), numba.get_num_threads()
    plan = cpu_scattered._plan(y.shape, X.shape, KERNEL, Taps.reading, axes, LANES, threads)
    return [(cpu_scattered, plan[1].ends[-1])]


def input_gradient_in_rows_of_errors(monkeypatch):
    window, x, error = Window((3, 3), (1, 1), (2, 3)), (2, 9, 25, 90), (2, 5, 21, 84)
    arrays = (np.ones(shape, np.float32) for shape in (x, error, (5, 9, 3, 3)))
    cpu_rows_of_errors.correlate(*arrays, window)
    *_, items = cpu_rows_of_errors.plan(x, error, window, FLOAT32, numba.get_num_threads())
    return [(cpu_rows_of_errors, len(items))]


def weight_gradient(monkeypatch):
    """Of a stride, and of two channels that are left over: they have pixels in the lanes."""
    counts, taps = [], X.shape[1] * KERNEL[0] * KERNEL[1]
    for stride, filters, in_lanes in ((2, 7, 7), (1, 18, 16)):
        height, width = ((n - k) // stride + 1 for n, k in zip(X.shape[2:], KERNEL))
        error = np.ones((2, filters, height, width), np.float32)
        cpu.gradient_weights(X, error, KERNEL, stride=stride)
        sums, *_ = partial_shape((filters, X.shape[1], *KERNEL), 2 * height * width, FLOAT32)
        groups = vector_groups(in_lanes, simd.CHANNEL_VECTORS)
        counts.append((cpu_gradient_weights, sums * groups))
    return [*counts, (cpu_last_channels, sums * -(-taps // products.COLUMNS))]


def cells(number, channels):
    return np.ones((number, channels, 1, 1), np.float32)


def forward_over_a_list(monkeypatch):
    """Block by block, and with several blocks in an item."""
    x, rows, weights = cells(700, 3), np.zeros((700, 2), np.int32), np.ones((70, 3, 2, 2), "f4")
    groups = vector_groups(70, simd.CHANNEL_VECTORS)
    blocks, counts = -(-700 // listed_convolution.OUTPUTS) * groups, []
    for least in (10**6, 3):
        monkeypatch.setattr(listed_convolution, "least_items", lambda threads, least=least: least)
        shape = listed_convolution.forward_shape(x, rows, weights, None, None)
        sizes, _ = listed_convolution._sizes(shape, FLOAT32)
        at_once = listed_convolution._at_once(sizes, groups, numba.get_num_threads())
        assert (at_once > 1) == (least == 3)
        listed_convolution.forward(x, rows, weights)
        counts.append((listed_convolution, -(-blocks // at_once)))
    return counts


def weight_gradient_over_a_list(monkeypatch):
    filters, channels, (height, width) = 70, 3, KERNEL
    rows = np.zeros((700, height), np.int32)
    listed_convolution.gradient_weights(cells(700, channels), rows, cells(700, filters), KERNEL)
    most, columns = tile_shape(width * channels)
    most = simd.CHANNEL_VECTORS if columns == simd.COLUMNS else most
    run = -(-width * channels // columns) * columns
    sums, *_ = partial_shape((filters, run, height, 1), 700, FLOAT32)
    return [(listed_convolution, sums * vector_groups(filters, most))]


def max_pooling_of_each_way(monkeypatch):
    """All cells at once and level by level, and with a stride; with an argmax and without."""
    counts = []
    for kernel, stride, module in ((2, 1, cpu_dense), (5, 1, cpu_dense), (3, 2, cpu_strided)):
        window = Window((kernel, kernel), (stride, stride))
        for argmax in (True, False):
            y, _ = max_pooling.forward(X, kernel, stride=stride, argmax=argmax)
            counts.append((module, workspace(window, X.shape[3], y.shape, FLOAT32, argmax)[1]))
    return counts


def max_pooling_over_a_list(monkeypatch):
    """Of large windows that share their rows: one group of channels after the other."""
    x, rows, window = cells(1000, 40), np.zeros((700, 5), np.int32), Window((5, 5))
    assert shares_rows(window, len(rows), *x.shape[:2], FLOAT32, argmax=True)
    listed_max_pooling.forward(x, rows, 5)
    count = -(-(len(x) - window.kernel[1] + 1) // ROWS)
    return [(cpu_shared_rows, count)] * len(channel_groups(x.shape[1], FLOAT32))


CASES = (
    *(forward_in_rows, forward_of_scattered_pixels, input_gradient_in_rows_of_errors),
    *(weight_gradient, forward_over_a_list, weight_gradient_over_a_list),
    *(max_pooling_of_each_way, max_pooling_over_a_list),
)
"""What runs operators, and tells (module of the loop, items that it takes) of each, in order."""
TAKING = (
    *(cpu_rows, cpu_scattered, cpu_rows_of_errors, cpu_gradient_weights, cpu_last_channels),
    *(listed_convolution, cpu_dense, cpu_strided, cpu_shared_rows),
)


@pytest.mark.cpu
@pytest.mark.parametrize("case", CASES)
def test_a_counter_is_touched_once_an_item(case, monkeypatch):
    """And once more by each thread, which then finds no item left."""
    taken, threads = [], numba.get_num_threads()

    def recording(module):
        def recorded():
            taken.append((module, np.zeros(1, np.int64)))
            return taken[-1][1]

        return recorded

    for module in TAKING:
        monkeypatch.setattr(module, "queue", recording(module))
    expected = [(module.__name__, int(count)) for module, count in case(monkeypatch)]
    assert [(module.__name__, int(queue[0]) - threads) for module, queue in taken] == expected
    assert all(count > 1 for _, count in expected)


def mentions(tree):
    """How often ``take`` is read, called or not."""
    return sum(isinstance(node, ast.Name) and node.id == "take" for node in ast.walk(tree))


def is_in_order(source):
    """Whether each loop that takes items does so at its end, and one is taken in front of it: no
    item within a statement of the loop, however deep, and none anywhere else."""
    tree = ast.parse(source)
    loops = [node for node in ast.walk(tree) if isinstance(node, ast.While) and mentions(node)]
    ends = [ast.unparse(loop.body[-1]) for loop in loops]
    once = all(mentions(loop) == 1 for loop in loops)
    at_the_end = all(re.fullmatch(r"item = take\(\w+\)", end) for end in ends)
    return bool(loops) and once and at_the_end and mentions(tree) == 2 * len(loops)


def test_an_item_is_taken_when_the_one_before_is_done():
    """One that a thread holds in reserve waits while others have none."""
    taking, counting = set(), set()
    for path in ROOT.rglob("*.py"):
        source, module = path.read_text(), ".".join(path.relative_to(ROOT.parent).parts)[:-3]
        if "fetch_add" in source:
            counting.add(module)
        if "import queue, take" in source:
            taking.add(module)
            assert is_in_order(source), module
        assert ("work_sharing" in source) == (module in taking), module
    assert counting == {"kernels.host.simd", "kernels.host.work_sharing"}
    assert taking == {module.__name__ for module in TAKING}


IN_ORDER = """
for _ in prange(threads):
    item = take(items)
    while item < count:
        for row in range(item):
            if row:
                fill(row)
        item = take(items)
"""


@pytest.mark.parametrize(
    ("line", "other"),
    [
        ("if row:", "if take(items):"),
        ("fill(row)", "item = take(items)"),
        ("fill(row)", "ahead = take(items)"),
        ("fill(row)", "fill(row, take)"),
        ("range(item)", "range(take(items))"),
        ("item < count", "take(items) < count"),
        ("for _ in", "take(items)\nfor _ in"),
        ("        item = take(items)\n", "        item = take(items)\n        fill(item)\n"),
        ("        item = take(items)\n", "        item = take(items) // 2\n"),
        ("        item = take(items)\n", "        item += 1\n"),
    ],
)
def test_an_item_that_is_taken_elsewhere_is_seen(line, other):
    assert is_in_order(IN_ORDER)
    assert line in IN_ORDER
    assert not is_in_order(IN_ORDER.replace(line, other))
