"""The weight gradient of the last few output channels, which has pixels in the lanes."""

import numpy as np
import pytest

from kernels import get_backend
from kernels.convolution import gradient_weights_shape
from kernels.convolution.cpu_last_channels import (
    CHANNELS_OF_A_VECTOR,
    VECTORS_OF_A_ROW,
    last_channels,
)
from kernels.host.vectors import BYTES
from tests.comparison import DTYPES
from tests.operators.convolutions import ConvolutionCase

pytestmark = pytest.mark.cpu

CPU = get_backend("cpu")


def lanes_of(dtype):
    return BYTES // np.dtype(dtype).itemsize


def long_rows(filters, beyond, dtype, **moves):
    """Maps of the shortest rows that are long, and ``beyond`` pixels."""
    width, dilation = VECTORS_OF_A_ROW * lanes_of(dtype) + beyond, (1, 5)
    return ConvolutionCase((2, 3, 9, width + 5), filters, (3, 2), dilation=dilation, **moves)


def count(case, dtype):
    """How many channels have pixels in the lanes."""
    operands = case.operands(np.random.default_rng(0), "float32")
    arrays = operands["x"], operands["error"], case.kernel, *case.options.values()
    return last_channels(gradient_weights_shape(*arrays), np.dtype(dtype).itemsize)


@pytest.mark.parametrize("dtype", DTYPES)
class TestLongRows:
    """One or two channels at a time, after whole vectors of others or alone."""

    @pytest.mark.parametrize("beyond", [0, 1, 3])
    @pytest.mark.parametrize("last", [1, 2, 3, 4])
    @pytest.mark.parametrize("vectors", [0, 1, 3])
    def test_against_the_reference(self, rng, vectors, last, beyond, dtype):
        lanes = lanes_of(dtype)
        case = long_rows(vectors * lanes + last, beyond, dtype, stride=(2, 1))
        assert count(case, dtype) == (last if last * CHANNELS_OF_A_VECTOR <= lanes else 0)
        case.assert_matches_reference(CPU, "gradient_weights", **case.operands(rng, dtype))

    @pytest.mark.parametrize("place", [(0, 0), (2, -1), (-1, -2), (-1, -1)])
    @pytest.mark.parametrize("value", [np.inf, np.nan])
    @pytest.mark.parametrize("array", ["x", "error"])
    def test_infinity_and_nan_reach_what_reads_them(self, rng, array, value, place, dtype):
        """The lanes that a row's last vector shares with the one before count once."""
        case = long_rows(lanes_of(dtype) + 1, 3, dtype)
        operands = case.operands(rng, dtype)
        operands["error"][:, :, :, -6:-4] = 0
        operands[array][-1, -1][place] = value
        case.assert_matches_reference(CPU, "gradient_weights", **operands)

    def test_each_pixel_counts_once(self, rng, dtype):
        for beyond in range(lanes_of(dtype)):
            case = long_rows(1, beyond, dtype)
            operands = {name: np.ones_like(a) for name, a in case.operands(rng, dtype).items()}
            arguments = case.call("gradient_weights", **operands)[1:]
            gradient = CPU.convolution.gradient_weights(*arguments, **case.options)
            assert (gradient == operands["error"].size).all()


def test_short_rows_strides_and_many_channels_have_channels_in_the_lanes():
    lanes = lanes_of("float32")
    width = VECTORS_OF_A_ROW * lanes
    few = lanes // CHANNELS_OF_A_VECTOR
    assert count(long_rows(lanes + few, 0, "float32"), "float32") == few
    assert count(long_rows(lanes + few + 1, 0, "float32"), "float32") == 0
    assert count(long_rows(lanes, 0, "float32"), "float32") == 0
    assert count(long_rows(1, -1, "float32"), "float32") == 0
    assert (
        count(ConvolutionCase((1, 1, 9, 2 * width + 9), 1, (1, 1), stride=(1, 2)), "float32") == 0
    )
