"""Sizes, footprints and argument checks, against literal numbers and by counting."""

import math
import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kernels import checks
from kernels.checks import FLOAT_DTYPES
from kernels.convolution import (
    ConvolutionShape,
    forward_shape,
    gradient_input_shape,
    gradient_weights_shape,
)
from kernels.max_pooling import argmax_dtype
from kernels.merging import concatenated_shape
from kernels.padding import cropped_shape, padded_shape, unpadded_shape
from kernels.patches import image_shape, patches_shape
from kernels.window import PoolingShape, Window

small = st.integers(1, 6)
pairs = st.tuples(small, small)
windows = st.builds(Window, pairs, pairs, pairs)


def refuses(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


class TestWindow:
    @pytest.mark.parametrize(
        ("kernel", "stride", "dilation", "size", "footprint", "output"),
        [
            (1, 1, 1, (1, 1), (1, 1), (1, 1)),
            (4, 1, 1, (95, 95), (4, 4), (92, 92)),
            (2, 2, 1, (92, 92), (2, 2), (46, 46)),
            (2, 2, 1, (7, 9), (2, 2), (3, 4)),
            ((3, 2), 1, (4, 5), (20, 30), (9, 6), (12, 25)),
            ((2, 3), (2, 3), (3, 2), (9, 11), (4, 5), (3, 3)),
            (2, (3, 5), 1, (5, 6), (2, 2), (2, 1)),
            ((5, 1), 7, 9, (37, 8), (37, 1), (1, 2)),
        ],
    )
    def test_literal_sizes(self, kernel, stride, dilation, size, footprint, output):
        window = Window.of(kernel, stride, dilation)
        assert window.footprint == footprint
        assert window.output_size(size) == output

    @given(small, small, small, st.integers(1, 40))
    def test_one_axis_by_counting(self, kernel, stride, dilation, size):
        """As many outputs as starts, stride apart, whose last cell is inside."""
        last = max(i * dilation for i in range(kernel))
        outputs = sum(start + last < size for start in range(0, size, stride))
        assume(outputs)
        rows = Window((kernel, 1), (stride, 1), (dilation, 1))
        columns = Window((1, kernel), (1, stride), (1, dilation))
        assert rows.output_size((size, 50)) == (outputs, 50)
        assert columns.output_size((50, size)) == (50, outputs)

    @given(windows)
    def test_the_footprint_is_the_smallest_input(self, window):
        h, w = window.footprint
        assert window.output_size((h, w)) == (1, 1)
        for size in ((h - 1, w), (h, w - 1)):
            with pytest.raises(ValueError, match=f"input size is {size[0]} x {size[1]}; expected"):
                window.output_size(size)

    def test_refusal_names_everything(self):
        message = (
            "input size is 6 x 7; expected at least the footprint 7 x 3 of kernel (2, 3) "
            "with dilation (6, 1)"
        )
        with refuses(ValueError, message):
            Window.of((2, 3), dilation=(6, 1)).output_size((6, 7))

    def test_cells(self):
        assert Window.of((3, 5), 2, 4).cells == 15

    @pytest.mark.parametrize("name", ["kernel", "stride", "dilation"])
    def test_bad_pairs_are_named(self, name):
        expected = "expected an int or a pair (y, x) of ints of at least 1"
        with refuses(ValueError, f"{name} is (1, 0); {expected}"):
            Window.of(**({"kernel": 1} | {name: (1, 0)}))


class TestPair:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [(3, (3, 3)), ((1, 2), (1, 2)), ([4, 5], (4, 5)), ((np.int8(4), 5), (4, 5))],
    )
    def test_accepted(self, value, expected):
        assert checks.pair("size", value) == expected

    @pytest.mark.parametrize(
        "value",
        [0, -1, 1.0, True, "11", None, {}, (), (1,), (1, 2, 3), (1, 0), (1, 2.0), (1, True)],
    )
    def test_refused(self, value):
        expected = "expected an int or a pair (y, x) of ints of at least 1"
        with refuses(ValueError, f"size is {value!r}; {expected}"):
            checks.pair("size", value)

    def test_largest(self):
        expected = "expected an int or a pair (y, x) of ints from 1 to 2147483647"
        with refuses(ValueError, f"size is (1, 2147483648); {expected}"):
            checks.pair("size", (1, 2**31))

    def test_minimum(self):
        assert checks.pair("offset", 0, minimum=0) == (0, 0)
        with refuses(
            ValueError,
            "offset is (2, 1); expected an int or a pair (y, x) of ints of at least 2",
        ):
            checks.pair("offset", (2, 1), minimum=2)


class TestCount:
    def test_accepted(self):
        assert checks.count("batch", 1) == 1

    @pytest.mark.parametrize("value", [0, -1, 1.0, True, "1", None, (1,)])
    def test_refused(self, value):
        with refuses(ValueError, f"batch is {value!r}; expected an int of at least 1"):
            checks.count("batch", value)

    def test_limits(self):
        assert checks.count("seed", np.int64(0), 0) == 0
        with refuses(ValueError, "batch is 2147483648; expected an int of at most 2147483647"):
            checks.count("batch", 2**31)


class TestNumber:
    @pytest.mark.parametrize("value", [0, 1, 0.5, 3e38, np.float32(0.5), np.int8(3)])
    def test_accepted(self, value):
        number = checks.number("rate", value)
        assert type(number) is float
        assert number == value

    @pytest.mark.parametrize(
        "value", [-1, -1e-300, 1e39, math.nan, math.inf, None, "3", True, 1j, [1], np.zeros(1)]
    )
    def test_refused(self, value):
        expected = "expected a number of at least 0 and finite in float32"
        with refuses(ValueError, f"rate is {value!r}; {expected}"):
            checks.number("rate", value)

    def test_limits(self):
        for value in (0, 1e-40):
            message = f"rate is {value!r}; expected a number above 0 and finite in float32"
            with refuses(ValueError, message):
                checks.number("rate", value, positive=True)
        with refuses(ValueError, "rate is 1; expected a number of at least 0 and less than 1"):
            checks.number("rate", 1, below=1)


class TestMargins:
    def test_accepted(self):
        assert checks.margins("crop", [0, 1, 2, 3]) == (0, 1, 2, 3)

    @pytest.mark.parametrize(
        "value", [1, (1, 2), (1, 2, 3, 4, 5), (0, 0, 0, -1), (0, 0, 0, 1.0), (True, 0, 0, 0), None]
    )
    def test_refused(self, value):
        expected = "expected (top, left, bottom, right), four ints of at least 0"
        with refuses(ValueError, f"crop is {value!r}; {expected}"):
            checks.margins("crop", value)


class TestChoice:
    def test_accepted(self):
        assert checks.choice("mode", "zero", ("zero", "reflect")) == "zero"

    @pytest.mark.parametrize("value", ["Zero", "", None, 0])
    def test_refused(self, value):
        with refuses(ValueError, f"mode is {value!r}; expected one of 'zero', 'reflect'"):
            checks.choice("mode", value, ("zero", "reflect"))


class TestArrays:
    @pytest.mark.parametrize(
        ("array", "shape", "dtypes"),
        [
            (np.zeros((2, 3)), (None, 3), ("float64",)),
            (np.zeros((2, 1, 3), np.float32)[:, :, :], (2, 1, 3), FLOAT_DTYPES),
            (np.zeros((1, 4)).T.copy(), (4, 1), FLOAT_DTYPES),
            (np.zeros((5, 4))[:1].T, (4, 1), FLOAT_DTYPES),
            (np.zeros((3, 4, 5))[1:], (2, None, None), FLOAT_DTYPES),
            (np.zeros(7, bool), (7,), ("bool",)),
        ],
        ids=["any", "one", "column", "column of a larger array", "slice", "mask"],
    )
    def test_accepted(self, array, shape, dtypes):
        checks.array("x", array, shape, dtypes)

    @pytest.mark.parametrize(
        ("array", "error", "message"),
        [
            (None, TypeError, "x is a NoneType; expected an array"),
            (np.float64(1), ValueError, "x has shape (); expected 2 axes, any x 3"),
            (np.zeros(3), ValueError, "x has shape 3; expected 2 axes, any x 3"),
            (np.ndarray, TypeError, "x is the class ndarray; expected an array"),
            (
                np.ma.zeros((2, 3)),
                TypeError,
                "x is a masked array; expected a plain one, as its mask would be lost: pass "
                "x.filled(...) with a value that is right there",
            ),
            (np.zeros((2, 4)), ValueError, "x has shape 2 x 4; expected any x 3, no axis empty"),
            (np.zeros((0, 3)), ValueError, "x has shape 0 x 3; expected any x 3, no axis empty"),
            (
                np.zeros((2, 3), complex),
                TypeError,
                "x has dtype complex128; expected float32 or float64 in native byte order",
            ),
            (
                np.zeros((2, 3), ">f4"),
                TypeError,
                "x has dtype >f4; expected float32 or float64 in native byte order",
            ),
            (np.zeros((3, 2)).T, ValueError, "x is not C-contiguous; pass a contiguous copy"),
            (np.zeros((2, 6))[:, ::2], ValueError, "x is not C-contiguous; pass a contiguous copy"),
            (np.zeros((4, 3))[::2], ValueError, "x is not C-contiguous; pass a contiguous copy"),
            (np.zeros((2, 3))[::-1], ValueError, "x is not C-contiguous; pass a contiguous copy"),
        ],
    )
    def test_refused(self, array, error, message):
        with refuses(error, message):
            checks.array("x", array, (None, 3))

    @pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
    def test_indices(self, dtype):
        checks.indices("rows", np.array([[0, 4]], dtype), 5)
        with refuses(ValueError, "rows reach from 0 to 5; expected ints from 0 to 4"):
            checks.indices("rows", np.array([5, 0], dtype), 5)
        if dtype != "uint8":
            with refuses(ValueError, "rows reach from -1 to 2; expected ints from 0 to 4"):
                checks.indices("rows", np.array([-1, 2], dtype), 5)

    def test_same_dtype(self):
        single, double = np.zeros(1, np.float32), np.zeros(1)
        checks.same_dtype(a=single, b=None, c=single)
        with refuses(TypeError, "c has dtype float64; expected float32, the dtype of a"):
            checks.same_dtype(a=single, b=None, c=double)


class TestConvolutionShape:
    def test_literal(self):
        x, weights = np.zeros((2, 3, 9, 11)), np.zeros((5, 3, 2, 4))
        shape = forward_shape(x, weights, None, (1, 2), (3, 2), None)
        window = Window((2, 4), (1, 2), (3, 2))
        assert shape == ConvolutionShape(2, 3, (9, 11), 5, window, (6, 3))
        assert shape.x == x.shape
        assert shape.weights == weights.shape
        assert shape.y == (2, 5, 6, 3)
        assert shape.taps == 24
        assert shape.multiply_adds == 2 * 5 * 6 * 3 * 24
        assert not shape.covers_map
        error = np.zeros(shape.y)
        assert gradient_input_shape(error, weights, (9, 11), (1, 2), (3, 2)) == shape
        assert gradient_weights_shape(x, error, (2, 4), (1, 2), (3, 2)) == shape

    @pytest.mark.parametrize(
        ("size", "kernel", "dilation", "covers"),
        [
            ((4, 3), (4, 3), (1, 1), True),
            ((1, 1), (1, 1), (2, 2), True),
            ((4, 3), (3, 3), (1, 1), False),
            ((4, 4), (4, 3), (1, 1), False),
            ((7, 3), (4, 3), (2, 1), False),
            ((4, 5), (4, 3), (1, 2), False),
        ],
    )
    def test_covers_map(self, size, kernel, dilation, covers):
        x, weights = np.zeros((3, 5, *size)), np.zeros((7, 5, *kernel))
        shape = forward_shape(x, weights, None, 2, dilation, None)
        assert shape.covers_map is covers

    def test_flattened(self):
        x, weights = np.zeros((3, 5, 4, 2)), np.zeros((7, 5, 4, 2))
        shape = forward_shape(x, weights, None, 1, 1, None)
        flat = shape.flattened()
        assert flat.x == (3, 40, 1, 1)
        assert flat.weights == (7, 40, 1, 1)
        assert flat.y == shape.y == (3, 7, 1, 1)
        assert flat.multiply_adds == shape.multiply_adds == 3 * 7 * 40
        assert flat.covers_map


class TestPoolingShape:
    def test_literal(self):
        shape = PoolingShape.of_input(np.zeros((2, 3, 9, 11)), (2, 3), (2, 1), (1, 4))
        window = Window((2, 3), (2, 1), (1, 4))
        assert shape == PoolingShape(2, 3, (9, 11), window, (4, 3))
        assert shape.x == (2, 3, 9, 11)
        assert shape.y == (2, 3, 4, 3)
        error = np.zeros(shape.y)
        assert PoolingShape.of_error(error, (9, 11), (2, 3), (2, 1), (1, 4)) == shape

    @pytest.mark.parametrize(
        ("kernel", "dtype"), [(1, "uint8"), (16, "uint8"), ((257, 1), "int32"), (17, "int32")]
    )
    def test_argmax_dtype(self, kernel, dtype):
        window = Window.of(kernel)
        assert argmax_dtype(window) == dtype
        assert window.cells - 1 <= np.iinfo(dtype).max


class TestOtherShapes:
    X = np.zeros((2, 3, 4, 5))

    def test_padding_and_cropping(self):
        assert padded_shape(self.X, (1, 2, 3, 4), "zero") == (2, 3, 8, 11)
        assert unpadded_shape(self.X, (1, 2, 2, 1), "reflect") == (2, 3, 1, 2)
        assert cropped_shape(self.X, (0, 4, 3, 0)) == (2, 3, 1, 1)

    def test_merging(self):
        assert concatenated_shape((self.X, self.X[:, :1].copy(), self.X)) == (2, 7, 4, 5)

    def test_patches(self):
        pixels = np.zeros(6, np.int32)
        image = np.zeros((1, 3, 9, 8))
        assert patches_shape(image, pixels, pixels, (4, 3)) == (6, 3, 4, 3)
        error = np.zeros((6, 3, 4, 3))
        assert image_shape(error, pixels, pixels, (9, 8)) == image.shape
