"""Sizes, footprints and argument checks: the one place where every backend learns a shape.

Pure Python. Arrays are only asked for ``dtype``, ``shape`` and ``strides``, so host and device
arrays are checked alike, before any work. Notation (Li, Zhao & Wang 2014, section 3): a window of
``kernel`` k, ``stride`` s and ``dilation`` d reads, for output o, the inputs o*s + i*d, 0 <= i < k.
Every pair is (y, x); every map is NCHW.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

Pair = tuple[int, int]
Margins = tuple[int, int, int, int]

ACTIVATIONS = ("relu", "tanh", "sigmoid")
PADDING_MODES = ("zero", "reflect")
FLOAT_DTYPES = ("float32", "float64")


def pair(name: str, value: int | Pair, minimum: int = 1) -> Pair:
    """``value`` as (y, x); one int stands for both.

    Raises:
        ValueError: ``value`` is not one or two ints of at least ``minimum``.
    """
    values = (value, value) if isinstance(value, int) else value
    ok = isinstance(values, (tuple, list)) and len(values) == 2
    if not ok or not all(type(v) is int and v >= minimum for v in values):
        raise ValueError(
            f"{name} is {value!r}; expected an int or a pair (y, x) of ints of at least {minimum}"
        )
    return tuple(values)


def count(name: str, value: int) -> int:
    """``value`` if it is an int of at least 1.

    Raises:
        ValueError: it is not.
    """
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} is {value!r}; expected an int of at least 1")
    return value


def margins(name: str, value: Margins) -> Margins:
    """``value`` as (top, left, bottom, right) in cells.

    Raises:
        ValueError: ``value`` is not four ints of at least 0.
    """
    ok = isinstance(value, (tuple, list)) and len(value) == 4
    if not ok or not all(type(v) is int and v >= 0 for v in value):
        raise ValueError(
            f"{name} is {value!r}; expected (top, left, bottom, right), four ints of at least 0"
        )
    return tuple(value)


def choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    """``value`` if it is one of ``choices``.

    Raises:
        ValueError: it is not.
    """
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(map(repr, choices))}")
    return value


def check_array(
    name: str, array, shape: tuple[int | None, ...], dtypes: tuple[str, ...] = FLOAT_DTYPES
) -> None:
    """Refuse an array that a kernel could not read.

    Args:
        name: what the caller calls the array.
        array: a host or device array.
        shape: the expected extent of each axis; None means any extent of at least 1.
        dtypes: the accepted dtypes, native byte order.

    Raises:
        TypeError: not an array, or another dtype or byte order.
        ValueError: another rank or extent, an empty axis, or not C-contiguous.
    """
    if not all(hasattr(array, a) for a in ("dtype", "shape", "strides")):
        raise TypeError(f"{name} is a {type(array).__name__}; expected an array")
    if len(array.shape) != len(shape):
        raise ValueError(
            f"{name} has shape {_by(array.shape) or '()'}; expected {len(shape)} axes, {_by(shape)}"
        )
    if _name_of(array.dtype) not in dtypes:
        raise TypeError(
            f"{name} has dtype {array.dtype}; expected {' or '.join(dtypes)} in native byte order"
        )
    for have, want in zip(array.shape, shape):
        if have < 1 or want not in (None, have):
            raise ValueError(
                f"{name} has shape {_by(array.shape)}; expected {_by(shape)}, no axis empty"
            )
    step = array.dtype.itemsize
    for extent, stride in zip(reversed(array.shape), reversed(array.strides)):
        if extent > 1 and stride != step:
            raise ValueError(f"{name} is not C-contiguous; pass a contiguous copy")
        step *= extent


def _by(shape) -> str:
    return " x ".join("any" if extent is None else str(extent) for extent in shape)


_name_of = cache(str)
"""Of a dtype: such as ``float32``, or ``>f4`` where the byte order is not the machine's."""


def lies_on_device(name: str, array) -> bool:
    """Whether ``array`` is a device array, of whatever library (CUDA array interface).

    Raises:
        TypeError: its library refuses to say, such as PyTorch where a gradient is recorded.
    """
    try:
        return hasattr(array, "__cuda_array_interface__") or hasattr(array, "__cuda_ndarray__")
    except RuntimeError as error:
        raise TypeError(f"{name} cannot be read: {error}") from None


def same_dtype(**arrays) -> None:
    """Refuse arrays of unlike dtype; None is skipped.

    Raises:
        TypeError: naming the first array and the one that differs from it.
    """
    given = [(name, a) for name, a in arrays.items() if a is not None]
    first, reference = given[0]
    for name, array in given[1:]:
        if array.dtype != reference.dtype:
            raise TypeError(
                f"{name} has dtype {array.dtype}; expected {reference.dtype}, the dtype of {first}"
            )


@dataclass(frozen=True)
class Window:
    """Geometry of a convolution or pooling window; every field is a pair (y, x)."""

    kernel: Pair
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)

    @classmethod
    def of(cls, kernel: int | Pair, stride: int | Pair = 1, dilation: int | Pair = 1) -> Window:
        """A window from ints or pairs.

        Raises:
            ValueError: an argument is not one or two positive ints.
        """
        return cls(pair("kernel", kernel), pair("stride", stride), pair("dilation", dilation))

    @property
    def cells(self) -> int:
        """Number of cells read for one output."""
        return self.kernel[0] * self.kernel[1]

    @property
    def footprint(self) -> Pair:
        """Rows and columns spanned, (k - 1) * d + 1."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation))

    def output_size(self, size: Pair) -> Pair:
        """Rows and columns of the output for an input of ``size``, the remainder dropped.

        Raises:
            ValueError: the footprint is larger than the input.
        """
        if any(f > n for f, n in zip(self.footprint, size)):
            raise ValueError(
                f"input size is {size[0]} x {size[1]}; expected at least the footprint "
                f"{self.footprint[0]} x {self.footprint[1]} of kernel {self.kernel} "
                f"with dilation {self.dilation}"
            )
        return tuple((n - f) // s + 1 for n, f, s in zip(size, self.footprint, self.stride))

    def effective(self, output: Pair) -> Window:
        """The same cells for outputs of that size, without strides and dilations that move none."""
        return Window(
            self.kernel,
            tuple(s if n > 1 else 1 for n, s in zip(output, self.stride)),
            tuple(d if k > 1 else 1 for k, d in zip(self.kernel, self.dilation)),
        )


@dataclass(frozen=True)
class ConvolutionShape:
    """Everything that a convolution kernel needs to know about its arrays."""

    batch: int
    channels: int
    size: Pair
    filters: int
    window: Window
    output: Pair

    @property
    def x(self) -> tuple[int, int, int, int]:
        """Shape of the input, N x C x H x W."""
        return (self.batch, self.channels, *self.size)

    @property
    def weights(self) -> tuple[int, int, int, int]:
        """Shape of the weights, K x C x kh x kw."""
        return (self.filters, self.channels, *self.window.kernel)

    @property
    def y(self) -> tuple[int, int, int, int]:
        """Shape of the output and of its error map, N x K x Ho x Wo."""
        return (self.batch, self.filters, *self.output)

    @property
    def taps(self) -> int:
        """Products summed for one output, C * kh * kw."""
        return self.channels * self.window.cells

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of the forward pass."""
        return self.batch * self.filters * self.output[0] * self.output[1] * self.taps

    @property
    def covers_map(self) -> bool:
        """Whether one undilated window covers the whole map: a fully connected layer."""
        return self.output == (1, 1) and self.window.footprint == self.size == self.window.kernel

    def flattened(self) -> ConvolutionShape:
        """The same sums as a 1 x 1 convolution over C*kh*kw channels; needs ``covers_map``."""
        return ConvolutionShape(self.batch, self.taps, (1, 1), self.filters, Window((1, 1)), (1, 1))


def convolution_forward(x, weights, bias, stride, dilation, activation) -> ConvolutionShape:
    """Check the arguments of a convolution's forward pass.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    check_array("x", x, (None,) * 4)
    check_array("weights", weights, (None, x.shape[1], None, None))
    if bias is not None:
        check_array("bias", bias, (weights.shape[0],))
    same_dtype(x=x, weights=weights, bias=bias)
    if activation is not None:
        choice("activation", activation, ACTIVATIONS)
    return _convolution(x.shape, weights.shape, stride, dilation)


def convolution_gradient_input(error, weights, size, stride, dilation) -> ConvolutionShape:
    """Check the arguments of a convolution's gradient by its input of ``size`` (H, W).

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    check_array("error", error, (None,) * 4)
    check_array("weights", weights, (error.shape[1], None, None, None))
    same_dtype(error=error, weights=weights)
    x = (error.shape[0], weights.shape[1], *pair("size", size))
    shape = _convolution(x, weights.shape, stride, dilation)
    check_array("error", error, shape.y)
    return shape


def convolution_gradient_weights(x, error, kernel, stride, dilation) -> ConvolutionShape:
    """Check the arguments of a convolution's gradient by its weights of ``kernel`` (kh, kw).

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    check_array("x", x, (None,) * 4)
    check_array("error", error, (x.shape[0], None, None, None))
    same_dtype(x=x, error=error)
    weights = (error.shape[1], x.shape[1], *pair("kernel", kernel))
    shape = _convolution(x.shape, weights, stride, dilation)
    check_array("error", error, shape.y)
    return shape


def _convolution(x, weights, stride, dilation) -> ConvolutionShape:
    window = Window.of(tuple(weights[2:]), stride, dilation)
    return _convolved(tuple(x), tuple(weights), window)


@lru_cache(1024)
def _convolved(x, weights, window):
    size = x[2:]
    output = window.output_size(size)
    return ConvolutionShape(x[0], x[1], size, weights[0], window.effective(output), output)


@dataclass(frozen=True)
class PoolingShape:
    """Everything that a pooling kernel needs to know about its arrays."""

    batch: int
    channels: int
    size: Pair
    window: Window
    output: Pair

    @property
    def x(self) -> tuple[int, int, int, int]:
        """Shape of the input, N x C x H x W."""
        return (self.batch, self.channels, *self.size)

    @property
    def y(self) -> tuple[int, int, int, int]:
        """Shape of the output, of its argmax and of its error map, N x C x Ho x Wo."""
        return (self.batch, self.channels, *self.output)


def pooling_forward(x, kernel, stride, dilation) -> PoolingShape:
    """Check the arguments of a pooling's forward pass.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    check_array("x", x, (None,) * 4)
    return _pooling(x.shape, kernel, stride, dilation)


def pooling_backward(error, size, kernel, stride, dilation, argmax=None) -> PoolingShape:
    """Check the arguments of a pooling's gradient by its input of ``size`` (H, W).

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    check_array("error", error, (None,) * 4)
    x = (*error.shape[:2], *pair("size", size))
    shape = _pooling(x, kernel, stride, dilation)
    check_array("error", error, shape.y)
    if argmax is not None:
        check_array("argmax", argmax, shape.y, (argmax_dtype(shape.window),))
    return shape


def argmax_dtype(window: Window) -> str:
    """dtype of an argmax: one byte while the window has at most 256 cells, else int32."""
    return "uint8" if window.cells <= 256 else "int32"


def _pooling(x, kernel, stride, dilation) -> PoolingShape:
    window = Window.of(kernel, stride, dilation)
    size = tuple(x[2:])
    output = window.output_size(size)
    return PoolingShape(x[0], x[1], size, window.effective(output), output)


def activation_forward(x, activation, out=None) -> None:
    """Check the arguments of an activation.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    choice("activation", activation, ACTIVATIONS)
    same_map(x=x, **({} if out is None else {"out": out}))


def activation_backward(error, y, activation, out=None) -> None:
    """Check the arguments of an activation's gradient.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    choice("activation", activation, ACTIVATIONS)
    same_map(error=error, y=y, **({} if out is None else {"out": out}))


def normalization_forward(x, mean, variance, gamma, beta, activation) -> None:
    """Check the arguments of batch normalisation.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    per_channel(x, mean=mean, variance=variance, gamma=gamma, beta=beta)
    if activation is not None:
        choice("activation", activation, ACTIVATIONS)


def normalization_backward(error, x, mean, variance, gamma, activation, y, out) -> None:
    """Check the arguments of batch normalisation's gradients.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    maps = {"error": error, "x": x, "y": y, "out": out}
    if activation is None:
        del maps["y"]
    else:
        choice("activation", activation, ACTIVATIONS)
    if out is None:
        del maps["out"]
    same_map(**maps)
    per_channel(x, mean=mean, variance=variance, gamma=gamma)


def normalization_fold(weights, bias, mean, variance, gamma, beta) -> None:
    """Check the arguments that fold a batch normalisation into the convolution in front.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    check_array("weights", weights, (None,) * 4)
    vectors = {"mean": mean, "variance": variance, "gamma": gamma, "beta": beta}
    for name, vector in (vectors if bias is None else {"bias": bias} | vectors).items():
        check_array(name, vector, weights.shape[:1])
        same_dtype(weights=weights, **{name: vector})


def same_map(**maps) -> None:
    """Refuse N x C x H x W maps of unlike shape or dtype.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    if not maps:
        raise TypeError("maps is empty; expected at least one array")
    first = next(iter(maps.values()))
    shape = (None,) * 4
    for name, array in maps.items():
        check_array(name, array, shape)
        shape = first.shape
    same_dtype(**maps)


def per_channel(x, **vectors) -> None:
    """Check a map and its per-channel vectors (length C, same dtype).

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    check_array("x", x, (None,) * 4)
    for name, vector in vectors.items():
        check_array(name, vector, (x.shape[1],))
    same_dtype(x=x, **vectors)


def padded(x, by: Margins, mode: str) -> tuple[int, int, int, int]:
    """Shape of ``x`` padded by (top, left, bottom, right); checks the arguments.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    check_array("x", x, (None,) * 4)
    choice("mode", mode, PADDING_MODES)
    top, left, bottom, right = margins("margins", by)
    n, c, h, w = x.shape
    return (n, c, h + top + bottom, w + left + right)


def unpadded(error, by: Margins, mode: str) -> tuple[int, int, int, int]:
    """Shape of the map whose padded error map is ``error``; checks the arguments.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    choice("mode", mode, PADDING_MODES)
    return _without_margins("error", error, by)


def cropped(x, by: Margins) -> tuple[int, int, int, int]:
    """Shape of ``x`` without its (top, left, bottom, right) margins; checks the arguments.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    return _without_margins("x", x, by)


def _without_margins(name, array, by):
    check_array(name, array, (None,) * 4)
    top, left, bottom, right = margins("margins", by)
    n, c, h, w = array.shape
    if top + bottom >= h or left + right >= w:
        raise ValueError(
            f"margins is {tuple(by)}; expected to leave at least one row and column of {h} x {w}"
        )
    return (n, c, h - top - bottom, w - left - right)


def concatenated(maps) -> tuple[int, int, int, int]:
    """Shape of ``maps`` joined along their channels; checks the arguments.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    if not isinstance(maps, (tuple, list)) or len(maps) < 1:
        raise TypeError(f"maps is {maps!r}; expected a sequence of at least one array")
    check_array("maps[0]", maps[0], (None,) * 4)
    n, _, h, w = maps[0].shape
    for i, x in enumerate(maps):
        check_array(f"maps[{i}]", x, (n, None, h, w))
    same_dtype(**{f"maps[{i}]": x for i, x in enumerate(maps)})
    return (n, sum(x.shape[1] for x in maps), h, w)


def split(error, channels) -> None:
    """Check the arguments of a concatenation's gradient.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    check_array("error", error, (None,) * 4)
    ok = all(type(count) is int and count >= 1 for count in channels)
    if not ok or sum(channels) != error.shape[1]:
        raise ValueError(
            f"channels is {tuple(channels)}; expected positive ints that add up to {error.shape[1]}"
        )


def masked(error, mask) -> None:
    """Check an error map N x K x H x W and its mask N x H x W (bool).

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    check_array("error", error, (None,) * 4)
    n, _, h, w = error.shape
    check_array("mask", mask, (n, h, w), ("bool",))


def patches(image, rows, columns, size) -> tuple[int, int, int, int]:
    """Shape of the patches of ``size`` whose top left pixels are (rows, columns).

    Whether every patch lies inside the image is the caller's to know: rows and columns may lie on
    a device.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    check_array("image", image, (1, None, None, None))
    check_array("rows", rows, (None,), ("int32",))
    check_array("columns", columns, (rows.shape[0],), ("int32",))
    ph, pw = pair("size", size)
    if ph > image.shape[2] or pw > image.shape[3]:
        raise ValueError(
            f"size is {ph} x {pw}; expected at most the image's {image.shape[2]} x {image.shape[3]}"
        )
    return (rows.shape[0], image.shape[1], ph, pw)


def patches_backward(error, rows, columns, image_size) -> tuple[int, int, int, int]:
    """Shape 1 x C x H x W of the image gradient from patch gradients n x C x p x p.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    check_array("error", error, (None,) * 4)
    check_array("rows", rows, (error.shape[0],), ("int32",))
    check_array("columns", columns, (error.shape[0],), ("int32",))
    h, w = pair("image_size", image_size)
    if error.shape[2] > h or error.shape[3] > w:
        raise ValueError(
            f"image_size is {h} x {w}; expected at least the patch's "
            f"{error.shape[2]} x {error.shape[3]}"
        )
    return (1, error.shape[1], h, w)


def alike(**arrays) -> None:
    """Refuse arrays of unlike shape or dtype, of any rank.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    shape = next(iter(arrays.values())).shape
    for name, array in arrays.items():
        check_array(name, array, shape)
    same_dtype(**arrays)


def labelled(labels, mask, class_weights) -> None:
    """Check labels N x H x W (int32), their mask (bool) and the weights of K classes.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    check_array("labels", labels, (None,) * 3, ("int32",))
    check_array("mask", mask, labels.shape, ("bool",))
    check_array("class_weights", class_weights, (None,))


def cross_entropy(scores, labels, mask, class_weights, total) -> None:
    """Check the arguments of a cross-entropy of scores N x K x H x W.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    check_array("scores", scores, (None,) * 4)
    n, k, h, w = scores.shape
    check_array("labels", labels, (n, h, w), ("int32",))
    check_array("mask", mask, (n, h, w), ("bool",))
    check_array("class_weights", class_weights, (k,))
    check_array("total", total, (1,))
    same_dtype(scores=scores, class_weights=class_weights, total=total)


def dropout(x, rows, columns, spacing, rate, key) -> None:
    """Check the arguments of a dropout of maps N x C x H x W.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    check_array("x", x, (None,) * 4)
    check_array("rows", rows, (x.shape[0],), ("int32",))
    check_array("columns", columns, (x.shape[0],), ("int32",))
    pair("spacing", spacing)
    if not 0 <= rate < 1:
        raise ValueError(f"rate is {rate!r}; expected a number of at least 0 and less than 1")
    if len(key) != 3 or not all(type(word) is int and word >= 0 for word in key):
        raise ValueError(f"key is {key!r}; expected (seed, step, layer), ints of at least 0")
