"""The PTX of every kernel that the public functions launch, compiled without a device.

The simulator does not show what the compiler makes of a kernel: double precision that slips into
float32, comparisons that drop NaN, products and sums that are rounded apart, arrays that were meant
for registers and end up in memory.
"""

import dis
import re
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import pytest

from kernels.activation import activation_of
from kernels.activation import cuda as activation
from kernels.adam import cuda as adam
from kernels.average_pooling import cuda as average_pooling
from kernels.batch_normalization import cuda as batch_normalization
from kernels.checks import FLOAT_DTYPES
from kernels.code_cache import PACKAGE
from kernels.convolution import cuda as convolution
from kernels.cross_entropy import cuda as cross_entropy
from kernels.device import api, compiling, timing
from kernels.dropout import cuda as dropout
from kernels.listed_average_pooling import cuda as listed_average_pooling
from kernels.listed_cells import cuda as listed_cells
from kernels.listed_convolution import cuda as listed_convolution
from kernels.listed_max_pooling import cuda as listed_max_pooling
from kernels.masking import cuda as masking
from kernels.max_pooling import cuda as max_pooling
from kernels.memory import cuda as memory
from kernels.merging import cuda as merging
from kernels.padding import PADDING_MODES
from kernels.padding import cuda as padding
from kernels.patches import cuda as patches
from kernels.sgd import cuda as sgd
from kernels.softmax import cuda as softmax
from tests.activations import EACH
from tests.compile import recording

MISSING = api.why_uncompilable()
pytestmark = [pytest.mark.compile, pytest.mark.skipif(bool(MISSING), reason=MISSING or "")]

CAPABILITIES = [(8, 0)]  # for later ones, see test_tiles.py
MATRIX_PRODUCTS = {
    "convolution_forward",
    "convolution_gradient_input",
    "convolution_gradient_weights",
    "listed_convolution_forward",
    "listed_convolution_gradient_input",
    "listed_convolution_gradient_weights",
    "matrix_product",
}


def elementwise(dtype):
    """Call every operator but the convolution."""
    x, vector = np.empty((2, 3, 6, 7), dtype), np.empty(3, dtype)
    place = np.zeros(2, np.int32)
    memory.zeros(3, dtype)
    timing.keep_busy(0)
    for each in EACH:
        activation.backward(x, activation.forward(x, each), each)
    for each in (None, *EACH):
        y = batch_normalization.forward(x, vector, vector, vector, vector, 1e-5, each)
        batch_normalization.backward(x, x, vector, vector, vector, 1e-5, each, y)
    for bias in (None, vector):
        weights = np.empty((3, 2, 3, 3), dtype)
        batch_normalization.fold(weights, bias, vector, vector, vector, vector, 1e-5)
    masking.apply(x, np.zeros((2, 6, 7), bool))
    cells, rows = np.empty((1, 3, 1, 20), dtype), np.zeros((5, 2), np.int32)
    for size in ((2, 3), (17, 17)):
        table = np.zeros((size[0], 5 + 20), np.int32)
        for kept in (False, True):
            y, argmax = listed_max_pooling.forward(cells, table, size, argmax=kept)
        listed_max_pooling.backward(y, argmax, table, size, 20)
    table = listed_cells.table(rows, 20)
    y = listed_average_pooling.forward(cells, table, (2, 3))
    listed_average_pooling.backward(y, table, (2, 3), 20)
    listed_cells.select_backward(listed_cells.select(cells, place), place, 20)
    listed_cells.gather_backward(listed_cells.gather(x[:1], place, place), place, place, (6, 7))
    merging.add([x, x])
    merging.concatenate_backward(merging.concatenate([x, x]), (3, 3))
    for mode in PADDING_MODES:
        padding.pad(x, (1, 1, 1, 1), mode)
        padding.pad_backward(x, (1, 1, 1, 1), mode)
    padding.crop_backward(padding.crop(x, (1, 1, 1, 1)), (1, 1, 1, 1))
    cut = patches.extract(x[:1], place, place, (2, 2))
    patches.extract_backward(cut, place, place, (6, 7))
    softmax.backward(softmax.forward(x), x)
    # Strips and single outputs; one byte and four for a cell
    for size, stride in ((2, 1), (2, 2), (17, 1), (17, 2)):
        image = np.empty((1, 1, 17, 17), dtype)
        y, argmax = max_pooling.forward(image, size, stride=stride)
        max_pooling.backward(y, argmax, (17, 17), size, stride=stride)
        max_pooling.forward(image, size, stride=stride, activation="tanh", argmax=False)
    for kept in (True, False):
        max_pooling.forward(image, 8, argmax=kept)
    average_pooling.backward(average_pooling.forward(x, 2), (6, 7), 2)
    average_pooling.backward(average_pooling.forward(x, 2, stride=2), (6, 7), 2, stride=2)
    by_cell = np.zeros(20, np.int32)
    dropout.apply(cells, by_cell, by_cell, spacing=(1, 2), rate=0.5, key=(1, 2, 3))
    dropout.apply(x, place, place, spacing=(1, 2), rate=0.5, key=(1, 2, 3))
    chosen = np.empty((2, 6, 7), np.int32), np.zeros((2, 6, 7), bool), vector
    total = cross_entropy.total_weight(*chosen)
    cross_entropy.forward(x, *chosen, total)
    cross_entropy.backward(x, *chosen, total)
    sgd.step(x, x, x, rate=0.1, momentum=0.9, decay=0.0)
    adam.step(x, x, x, x, rate=0.1, beta1=0.9, beta2=0.99, epsilon=1e-8, decay=0.0, count=1)


def convolutions(dtype, activation=None):
    """Call every function of the convolution, on maps, on lists and as a fully connected layer."""
    for channels, kernel, cells in ((3, (2, 3), 9), (3, (2, 3), 99), (40, (1, 1), 7)):
        x, table = np.empty((1, channels, 1, cells), dtype), np.zeros((kernel[0], 5 + cells), "i4")
        weights, bias = np.empty((4, channels, *kernel), dtype), np.empty(4, dtype)
        y = listed_convolution.forward(x, table, weights, bias, activation=activation)
        listed_convolution.gradient_weights(x, table, y, kernel)
        listed_convolution.gradient_input(y, table, weights, cells)
    x, weights, bias = (np.empty(s, dtype) for s in ((2, 3, 9, 8), (5, 3, 2, 3), 5))
    y = convolution.forward(x, weights, bias, activation=activation)
    convolution.gradient_input(y, weights, (9, 8))
    # Enough pixels for partial sums
    x, y = np.empty((2, 3, 40, 40), dtype), np.empty((2, 5, 39, 38), dtype)
    convolution.gradient_weights(x, y, (2, 3))
    convolution.gradient_bias(y)
    x = np.empty((2, 3, 2, 3), dtype)
    y = convolution.forward(x, weights, bias, activation=activation)
    convolution.gradient_input(y, weights, (2, 3))
    convolution.gradient_weights(x, y, (2, 3))


@dataclass(frozen=True, eq=False)
class Launch:
    """A kernel and the arguments that it was launched with."""

    kernel: object
    arguments: tuple
    dtype: str
    variant: str

    @property
    def name(self):
        return self.kernel.py_func.__name__

    def __str__(self):
        return "-".join(filter(None, (self.name, self.dtype, self.variant)))


def launches():
    """Every kernel for each dtype, those of the convolution for each activation too."""
    distinct = {}

    def add(function, dtype, variant="", **options):
        for kernel, arguments in recording.launches(function, dtype, **options):
            types = tuple(getattr(a, "dtype", type(a)) for a in arguments)
            distinct.setdefault((kernel, types), Launch(kernel, arguments, dtype, variant))

    for each in EACH:
        add(convolutions, "float32", activation_of(each).name, activation=each)
    for dtype in FLOAT_DTYPES:
        add(convolutions, dtype)
        add(elementwise, dtype)
    return list(distinct.values())


LAUNCHES = [] if MISSING else launches()


@pytest.fixture(scope="session")
def compiled(request):
    """For each launch that the selected tests ask for, its PTX to come."""
    calls = [item.callspec for item in request.session.items if hasattr(item, "callspec")]
    wanted = dict.fromkeys(c.params["launch"] for c in calls if "launch" in c.params)
    pool = ProcessPoolExecutor(mp_context=get_context("fork"))
    yield {launch: pool.submit(compile_launch, LAUNCHES.index(launch)) for launch in wanted}
    pool.shutdown(cancel_futures=True)


def compile_launch(number):
    launch = LAUNCHES[number]
    return {c: compiling.ptx(launch.kernel, launch.arguments, c) for c in CAPABILITIES}


@pytest.fixture(params=CAPABILITIES, ids=lambda c: f"sm_{c[0]}{c[1]}")
def ptx(request, launch, compiled):
    """The PTX of a ``launch``."""
    return compiled[launch].result()[request.param]


def kernels(condition=lambda launch: True):
    return pytest.mark.parametrize("launch", list(filter(condition, LAUNCHES)), ids=str)


def activations_that(condition):
    """Names of the activations whose function has an instruction of Python that ``condition`` is
    true of."""
    codes = {activation_of(each).name: activation.function(each, np.float32) for each in EACH}
    return {
        n
        for n, f in codes.items()
        if any(map(condition, dis.get_instructions(getattr(f, "py_func", f))))
    }


# The exponentials of the CUDA library are compiled from code of its own
OF_THE_LIBRARY = activations_that(lambda i: i.argval in ("exp", "expm1", "tanh"))
MULTIPLYING = activations_that(lambda i: i.argrepr == "*")


def of_our_own(launch):
    return launch.variant not in OF_THE_LIBRARY


def multiplies_in_its_sums_only(launch):
    return of_our_own(launch) and launch.variant not in MULTIPLYING


def instructions(ptx, *names):
    """The lines with one of the instructions, such as ``max`` or ``fma``, on floats."""
    pattern = rf"^\s*(@!?%p\d+\s+)?({'|'.join(names)})(\.\w+)*\.f(32|64)\s"
    return [line for line in ptx.splitlines() if re.match(pattern, line)]


@kernels(lambda launch: launch.dtype == "float32")
def test_float32_stays_float32(launch, ptx):
    assert not re.findall(r".*(?:\.f64|%fd).*", ptx)


@kernels(of_our_own)
def test_no_comparison_drops_nan(launch, ptx):
    assert not instructions(ptx, "min", "max")


@kernels()
def test_nothing_but_registers_and_shared_memory(launch, ptx):
    """No local memory: neither arrays with an index that the compiler cannot tell, nor spills."""
    assert ".local" not in ptx


@kernels(lambda launch: launch.name == "convolution_gradient_weights")
def test_places_in_shared_memory_are_aligned(launch, ptx):
    """As the kernel says they are; by itself an array is aligned to its elements."""
    assert len(re.findall(r"\.shared \.align 16 ", ptx)) == ptx.count(".shared .align ") == 2


@kernels(lambda launch: launch.name in MATRIX_PRODUCTS and multiplies_in_its_sums_only(launch))
def test_products_and_sums_are_fused(launch, ptx):
    assert len(instructions(ptx, "fma")) >= 32
    assert not instructions(ptx, "mul")


@kernels()
def test_launch_bounds_reach_the_compiler(launch, ptx):
    threads, blocks = launch.kernel.targetoptions["launch_bounds"]
    assert f".maxntid {threads}" in ptx
    assert f".minnctapersm {blocks}" in ptx


def test_every_kernel_is_launched_here():
    declared = set()
    for path in PACKAGE.rglob("*.py"):
        declared |= set(re.findall(r"@kernel\(.*\n    def (\w+)\(", path.read_text()))
    assert {launch.name for launch in LAUNCHES} == declared
