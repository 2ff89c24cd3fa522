"""Element counts around 2^32: refused or exact, never wrapped. Shapes alone, without memory.

What kernels compute from the numbers that they are given stays below 2^32 where these do: positions
lie inside of maps, or less than ``MOST_ROWS`` beside them.
"""

from math import prod

import numpy as np
import pytest

from kernels.activation import cuda as activation
from kernels.adam import cuda as adam
from kernels.average_pooling import cuda as average_pooling
from kernels.batch_normalization import cuda as batch_normalization
from kernels.checks import MAX_INDEX
from kernels.convolution import cuda as convolution
from kernels.cross_entropy import cuda as cross_entropy
from kernels.device import launching
from kernels.device.launching import recorded
from kernels.device.limits import MAX_ELEMENTS, MAX_GRID, MOST_ROWS
from kernels.dropout import cuda as dropout
from kernels.masking import cuda as masking
from kernels.max_pooling import cuda as max_pooling
from kernels.memory import cuda as memory
from kernels.merging import cuda as merging
from kernels.padding import cuda as padding
from kernels.patches import cuda as patches
from kernels.sgd import cuda as sgd
from kernels.softmax import cuda as softmax

# One more element than fits, along each axis, and along none of them
TOO_LARGE = [
    *(tuple(MAX_ELEMENTS + 1 if axis == a else 1 for a in range(4)) for axis in range(4)),
    (2**8, 2**8, 2**8, 2**8),
    (1, 1, 2**16, 2**16),
]
# As many as fit, or nearly
FITTING = [
    *(tuple(MAX_ELEMENTS if axis == a else 1 for a in range(4)) for axis in range(4)),
    (2**8 - 1, 2**8, 2**8, 2**8),
    (1, 1, 2**16 - 1, 2**16),
]


# These have a block for each channel, or for some pixels along the grid's shorter axes
LARGE_GRIDS = (
    "batch norm backward",
    "convolution",
    "convolution by bias",
    "convolution by input",
    "convolution by weights",
)
ROWS = f"expected at most {MOST_ROWS} rows and columns, because kernels index with 32 bits"
GRIDS = f"blocks; expected at most {MAX_GRID}"


class Shape:
    """An array without its memory."""

    def __init__(self, shape, dtype="float32", stream=None):
        self.shape, self.dtype, self.size = tuple(shape), np.dtype(dtype), prod(shape)
        self.strides = tuple(
            self.dtype.itemsize * prod(self.shape[axis + 1 :]) for axis in range(len(self.shape))
        )

    def reshape(self, *shape):
        assert prod(shape) == self.size
        return Shape(shape, self.dtype)


@pytest.fixture(autouse=True)
def launches(monkeypatch):
    """The launches of a test, none of which starts; allocations are shapes."""
    monkeypatch.setattr(launching, "allocate", Shape)
    with recorded() as launches:
        yield launches


def calls(shape):
    """A call of every operator on maps of ``shape``, by name."""
    n, c, h, w = shape
    x, vector = Shape(shape), Shape((c,))
    place, labels, mask = Shape((n,), "int32"), Shape((n, h, w), "int32"), Shape((n, h, w), "bool")
    one, margins = Shape((1,)), (0, 0, 0, 0)
    window = (min(h, 3), min(w, 2))
    output = h - window[0] + 1, w - window[1] + 1
    y, weights = Shape((n, c, *output)), Shape((1, c, *window))
    optimizer = {"rate": 0.1, "decay": 0.0}
    moments = {"beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8, "count": 1}
    error = Shape((n, 1, *output))
    return {
        "zeros": lambda: memory.zeros(shape, "float32"),
        "activation": lambda: activation.forward(x, "relu"),
        "activation backward": lambda: activation.backward(x, x, "relu"),
        "adam": lambda: adam.step(x, x, x, x, **optimizer, **moments),
        "sgd": lambda: sgd.step(x, x, x, **optimizer, momentum=0.9),
        "batch norm": lambda: batch_normalization.forward(x, *[vector] * 4, 1e-5),
        "batch norm backward": lambda: batch_normalization.backward(x, x, *[vector] * 3, 1e-5),
        "total weight": lambda: cross_entropy.total_weight(labels, mask, vector),
        "cross-entropy": lambda: cross_entropy.forward(x, labels, mask, vector, one),
        "cross-entropy backward": lambda: cross_entropy.backward(x, labels, mask, vector, one),
        "dropout": lambda: dropout.apply(
            x, place, place, spacing=(1, 1), rate=0.5, key=(2**40, 2**33, 3)
        ),
        "masking": lambda: masking.apply(x, mask),
        "add": lambda: merging.add([x, x]),
        "concatenate": lambda: merging.concatenate([x]),
        "concatenate backward": lambda: merging.concatenate_backward(x, [c]),
        "max pooling": lambda: max_pooling.forward(x, window),
        "strided max pooling": lambda: max_pooling.forward(x, window, stride=2),
        "max pooling backward": lambda: max_pooling.backward(
            y, Shape(y.shape, "uint8"), (h, w), window
        ),
        "average pooling": lambda: average_pooling.forward(x, window),
        "average pooling backward": lambda: average_pooling.backward(y, (h, w), window),
        "pad": lambda: padding.pad(x, margins, "zero"),
        "reflect": lambda: padding.pad(x, margins, "reflect"),
        "reflect backward": lambda: padding.pad_backward(x, margins, "reflect"),
        "crop": lambda: padding.crop(x, margins),
        "patches": lambda: patches.extract(Shape((1, c, h, w)), place, place, (h, w)),
        "patches backward": lambda: patches.extract_backward(x, place, place, (h, w)),
        "softmax": lambda: softmax.forward(x),
        "softmax backward": lambda: softmax.backward(x, x),
        "convolution": lambda: convolution.forward(x, weights),
        "convolution by input": lambda: convolution.gradient_input(error, weights, (h, w)),
        "convolution by weights": lambda: convolution.gradient_weights(x, error, window),
        "convolution by bias": lambda: convolution.gradient_bias(x),
    }


OPERATORS = list(calls((1, 1, 1, 1)))


@pytest.mark.parametrize("shape", TOO_LARGE, ids=str)
@pytest.mark.parametrize("name", OPERATORS)
def test_more_elements_than_fit_are_refused_before_any_work(launches, name, shape):
    if name == "total weight":  # its arrays have no channels
        shape = (shape[0] * shape[1], 1, *shape[2:])
    with pytest.raises(
        ValueError, match=r" has \d+ elements; expected at most 4294901760| rows and columns"
    ):
        calls(shape)[name]()
    assert not launches


@pytest.mark.parametrize("shape", FITTING, ids=str)
@pytest.mark.parametrize("name", OPERATORS)
def test_as_many_as_fit_are_counted_right(launches, name, shape):
    """Refused for another size that kernels use, or every size fits into 32 bits."""
    refusal = refused(calls(shape)[name])
    if refusal:
        assert max(shape[2:]) > MOST_ROWS or name in LARGE_GRIDS
        assert refusal.endswith(
            "because kernels index with 32 bits" if "rows" in refusal else GRIDS
        )
        return
    assert launches
    for _, _, _, arguments, _ in launches:
        for value in numbers(arguments):
            assert 0 <= value < 2**32


def refused(call):
    """The message of the refusal, if there is one."""
    try:
        call()
    except ValueError as error:
        return str(error)


def numbers(value):
    """The ints in a nesting of tuples, and the sizes of arrays."""
    if isinstance(value, tuple):
        return [number for v in value for number in numbers(v)]
    if isinstance(value, Shape):
        return [value.size]
    return [int(value)] if isinstance(value, (int, np.uint32)) else []


HALF = Shape((1, 1, 2**15, 2**16 + 2**15))
RESULTS = {
    "pad": lambda: padding.pad(HALF, (0, 0, 2**15, 0), "zero"),
    "crop backward": lambda: padding.crop_backward(HALF, (2**15, 0, 0, 0)),
    "concatenate": lambda: merging.concatenate([HALF, HALF]),
    "patches": lambda: patches.extract(
        Shape((1, 1, 2**10, 2**10)), *[Shape((2**13,), "int32")] * 2, (2**10, 2**10)
    ),
    "convolution": lambda: convolution.forward(HALF, Shape((2, 1, 1, 1))),
    "convolution by input": lambda: convolution.gradient_input(
        HALF, Shape((1, 2, 1, 1)), HALF.shape[2:]
    ),
    "max pooling backward": lambda: max_pooling.backward(
        Shape((2, 1, 2**14, 2**13)),
        Shape((2, 1, 2**14, 2**13), "uint8"),
        *[(2**16, 2**15), 2],
        stride=4,
    ),
}


@pytest.mark.parametrize("name", RESULTS)
def test_results_larger_than_fit_are_refused(name):
    with pytest.raises(ValueError, match=r"^result has \d+ elements; expected at most"):
        RESULTS[name]()


def test_a_grid_larger_than_devices_have_is_refused(launches):
    with pytest.raises(ValueError, match=r"^the work takes \(1, 65536\) blocks; expected at most"):
        launching.launch(None, (1, 65536), 32)
    assert not launches


def test_more_threads_than_fit_are_refused(launches):
    with pytest.raises(ValueError, match=r"^the work has 4294967296 elements; expected at most"):
        launching.launch_over(None, 2**32)
    with pytest.raises(OverflowError):
        launching.launch_over(None, 1, (2**32,))
    assert not launches


def test_strides_and_dilations_that_move_nothing_do_not_count(launches):
    """Such numbers may be as large as any that is taken: kernels never see them."""
    max_pooling.forward(Shape((1, 1, 5, 6)), (1, 6), stride=MAX_INDEX, dilation=(MAX_INDEX, 1))
    [(_, _, _, arguments, _)] = launches
    sizes = arguments[-1]
    assert (sizes.output, sizes.stride, sizes.dilation) == ((1, 1),) * 3
