"""Every operator by its name, with arrays for it made from a shape."""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass, replace

import numpy as np

from experiments.profiling import lists
from kernels import checks
from kernels.activation import Activation
from kernels.checks import Pair
from kernels.convolution.cuda_tile import Tile
from kernels.max_pooling import argmax_dtype
from kernels.window import Window


@dataclass(frozen=True)
class OperatorCase:
    """An operator and the shapes that it works on.

    Attributes:
        operator: one of ``OPERATORS``.
        shape: N x C x H x W of its input, also of a backward pass; for patches, their number and
            C x H x W of the image.
        filters: the number K of a convolution's filters.
        kernel, stride, dilation: pairs (y, x), of a convolution or a pooling; the kernel is also
            the size of a patch.
        activation: None, or one as ``kernels.activation`` describes them.
        tile: the tile of a convolution; None leaves the choice to the operator.
        isolated: of an operator over lists, whether random pixels need the cells, and not strokes.
    """

    operator: str
    shape: tuple[int, int, int, int]
    filters: int | None = None
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    activation: str | Activation | None = None
    tile: Tile | None = None
    isolated: bool = False

    @classmethod
    def of_json(cls, values: dict) -> OperatorCase:
        """The case that ``to_json`` returned as ``values``."""
        tile, activation = values["tile"], values["activation"]
        if tile is not None:
            tile = Tile(**_tuples(tile))
        if isinstance(activation, dict):
            activation = Activation(**activation)
        return cls(**_tuples(values) | {"tile": tile, "activation": activation})

    def to_json(self) -> dict:
        """As JSON can hold it; see ``of_json``."""
        return asdict(self)

    @property
    def window(self) -> Window:
        """The window that moves over the input."""
        return Window(self.kernel, self.stride, self.dilation)

    @property
    def output(self) -> tuple[int, int, int, int]:
        """N x K x Ho x Wo of a convolution's output, N x C x Ho x Wo of a pooling's."""
        n, c, *size = self.shape
        return (n, self.filters or c, *self.window.output_size(tuple(size)))

    def to_arguments(self) -> str:
        """The options of ``experiments profile`` that stand for this case."""
        parts = [f"--operator {self.operator} --shape {' '.join(map(str, self.shape))}"]
        if self.filters:
            parts.append(f"--filters {self.filters}")
        for name in ("kernel", "stride", "dilation"):
            if getattr(self, name) != (1, 1):
                parts.append(f"--{name} {' '.join(map(str, getattr(self, name)))}")
        if isinstance(self.activation, Activation):
            parts.append(f"--activation {self.activation.name} {self.activation.parameter}")
        elif self.activation:
            parts.append(f"--activation {self.activation}")
        return " ".join(parts)

    def __str__(self) -> str:
        n, c, h, w = self.shape
        parts = [self.operator, f"{n} x {c} x {h} x {w}"]
        if self.filters:
            parts.append(f"to {self.filters}")
        if self.kernel != (1, 1):
            parts.append("kernel {} x {}".format(*self.kernel))
        parts += [
            f"{name} {value[0]} x {value[1]}"
            for name, value in (("stride", self.stride), ("d", self.dilation))
            if value != (1, 1)
        ]
        if self.tile:
            parts.append(f"tile {self.tile.height} x {self.tile.width} x {self.tile.depth}")
        if self.isolated:
            parts.append("isolated pixels")
        return " ".join(parts)


def _tuples(values):
    return {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}


def case_of(operator: str, given: dict) -> OperatorCase:
    """The case of a call of ``operator`` with the arguments ``given``, by name."""
    first = next(iter(given.values()))
    x = given.get("x", given.get("error", first[0] if isinstance(first, list) else first))
    chosen = {name: given.get(name) for name in ("activation", "tile")}
    case = OperatorCase(operator, tuple(x.shape), **chosen)
    moves = {k: checks.pair(k, given.get(k, 1)) for k in ("stride", "dilation")}
    match operator:
        case "convolution.forward" | "convolution.gradient_input":
            k, c, *kernel = given["weights"].shape
            size = given.get("size", x.shape[2:])
            case = replace(case, shape=(x.shape[0], c, *size), filters=k, kernel=tuple(kernel))
        case "convolution.gradient_weights":
            kernel = checks.pair("kernel", given["kernel"])
            case = replace(case, filters=given["error"].shape[1], kernel=kernel)
        case "max_pooling.forward" | "average_pooling.forward":
            case = replace(case, kernel=checks.pair("kernel", given["kernel"]))
        case "max_pooling.backward" | "average_pooling.backward":
            shape = (*x.shape[:2], *checks.pair("size", given["size"]))
            case = replace(case, shape=shape, kernel=checks.pair("kernel", given["kernel"]))
        case "cross_entropy.total_weight":
            n, h, w = x.shape
            return replace(case, shape=(n, given["class_weights"].size, h, w))
        case "patches.extract":
            shape = (given["rows"].size, *x.shape[1:])
            return replace(case, shape=shape, kernel=checks.pair("size", given["size"]))
        case "patches.extract_backward":
            shape = (*x.shape[:2], *checks.pair("image_size", given["image_size"]))
            return replace(case, shape=shape, kernel=tuple(x.shape[2:]))
        case _:
            return case
    return replace(case, **moves)


class Arrays:
    """Arrays for an operator's arguments on a backend.

    Args:
        seed: the seed of the values; None leaves the arrays uninitialised.
        to_device: copies each array to the backend.
    """

    def __init__(self, seed: int | None, to_device=np.ascontiguousarray):
        self._rng = None if seed is None else np.random.default_rng(seed)
        self._to_device = to_device

    def floats(self, *shape):
        """float32, normal."""
        return self.integers(shape, "float32", None)

    def integers(self, shape, dtype, below):
        """Integers from 0 to ``below`` - 1; standard normal values if it is None."""
        if self._rng is None:
            return self._to_device(np.empty(shape, dtype))
        if below is None:
            return self._to_device(self._rng.standard_normal(shape, "float32"))
        return self._to_device(self._rng.integers(0, below, shape).astype(dtype))


def prepare(ops, case: OperatorCase, arrays: Arrays):
    """The operator of ``case`` on ``ops`` as a partial function, all its arguments bound."""
    module, name = case.operator.split(".")
    function = getattr(getattr(ops, module), name)
    if case.tile:
        function = functools.partial(function, tile=case.tile)
    build = (OPERATORS | lists.OPERATORS)[case.operator]
    return build(functools.partial(functools.partial, function), case, arrays)


def _moves(case):
    return {"stride": case.stride, "dilation": case.dilation}


def _convolution_forward(call, case, new):
    weights = new.floats(case.filters, case.shape[1], *case.kernel)
    moves = _moves(case) | {"activation": case.activation}
    return call(new.floats(*case.shape), weights, new.floats(case.filters), **moves)


def _convolution_gradient_input(call, case, new):
    weights = new.floats(case.filters, case.shape[1], *case.kernel)
    return call(new.floats(*case.output), weights, case.shape[2:], **_moves(case))


def _convolution_gradient_weights(call, case, new):
    return call(new.floats(*case.shape), new.floats(*case.output), case.kernel, **_moves(case))


def _max_pooling_backward(call, case, new):
    dtype = argmax_dtype(case.window)
    argmax = new.integers(case.output, dtype, case.window.cells)
    return call(new.floats(*case.output), argmax, case.shape[2:], case.kernel, **_moves(case))


def _average_pooling_backward(call, case, new):
    return call(new.floats(*case.output), case.shape[2:], case.kernel, **_moves(case))


def _max_pooling_forward(call, case, new):
    moves = _moves(case) | {"activation": case.activation}
    return call(new.floats(*case.shape), case.kernel, **moves)


def _average_pooling_forward(call, case, new):
    return call(new.floats(*case.shape), case.kernel, **_moves(case))


def _activation(arguments):
    def perform(call, case, new):
        return call(*(new.floats(*case.shape) for _ in range(arguments)), case.activation or "relu")

    return perform


def _maps(count):
    def perform(call, case, new):
        return call(*(new.floats(*case.shape) for _ in range(count)))

    return perform


def _vectors(count, size, new):
    return [new.integers((size,), "float32", 2) for _ in range(count)]


def _batch_normalization_forward(call, case, new):
    vectors = _vectors(4, case.shape[1], new)
    return call(new.floats(*case.shape), *vectors, 1e-5, case.activation)


def _batch_normalization_backward(call, case, new):
    maps = [new.floats(*case.shape) for _ in range(3 if case.activation else 2)]
    vectors = _vectors(3, case.shape[1], new)
    return call(*maps[:2], *vectors, 1e-5, case.activation, *maps[2:])


def _batch_normalization_fold(call, case, new):
    weights = new.floats(*case.shape)
    return call(weights, *_vectors(5, case.shape[0], new), 1e-5)


def _cross_entropy(call, case, new):
    n, k, h, w = case.shape
    labels, mask = new.integers((n, h, w), "int32", k), new.integers((n, h, w), "bool", 2)
    total = new.integers((1,), "float32", 2)
    return call(new.floats(*case.shape), labels, mask, new.floats(k), total)


def _total_weight(call, case, new):
    n, k, h, w = case.shape
    mask = new.integers((n, h, w), "bool", 2)
    return call(new.integers((n, h, w), "int32", k), mask, new.floats(k))


def _masking(call, case, new):
    n, _, h, w = case.shape
    return call(new.floats(*case.shape), new.integers((n, h, w), "bool", 2))


def _dropout(call, case, new):
    rows, columns = (new.integers((case.shape[0],), "int32", 9) for _ in "yx")
    place = {"spacing": (1, 1), "rate": 0.5, "key": (1, 2, 3)}
    return call(new.floats(*case.shape), rows, columns, **place)


def _add(call, case, new):
    return call([new.floats(*case.shape) for _ in range(2)])


def _concatenate_backward(call, case, new):
    half = case.shape[1] // 2
    return call(new.floats(*case.shape), (case.shape[1] - half, half))


def _margins(*mode):
    def perform(call, case, new):
        return call(new.floats(*case.shape), (2, 3, 2, 3), *mode)

    return perform


def _corners(case, new):
    extents = zip(case.shape[2:], case.kernel)
    return [new.integers(case.shape[:1], "int32", size - k + 1) for size, k in extents]


def _extract(call, case, new):
    return call(new.floats(1, *case.shape[1:]), *_corners(case, new), case.kernel)


def _extract_backward(call, case, new):
    error = new.floats(*case.shape[:2], *case.kernel)
    return call(error, *_corners(case, new), case.shape[2:])


def _sgd(call, case, new):
    arrays = (new.floats(*case.shape) for _ in range(3))
    return call(*arrays, rate=0.1, momentum=0.9, decay=0.0)


def _adam(call, case, new):
    arrays = (new.floats(*case.shape) for _ in range(4))
    return call(*arrays, rate=0.1, beta1=0.9, beta2=0.99, epsilon=1e-8, decay=0.0, count=1)


OPERATORS = {
    "convolution.forward": _convolution_forward,
    "convolution.gradient_input": _convolution_gradient_input,
    "convolution.gradient_weights": _convolution_gradient_weights,
    "convolution.gradient_bias": _maps(1),
    "max_pooling.forward": _max_pooling_forward,
    "max_pooling.backward": _max_pooling_backward,
    "average_pooling.forward": _average_pooling_forward,
    "average_pooling.backward": _average_pooling_backward,
    "activation.forward": _activation(1),
    "activation.backward": _activation(2),
    "batch_normalization.forward": _batch_normalization_forward,
    "batch_normalization.backward": _batch_normalization_backward,
    "batch_normalization.fold": _batch_normalization_fold,
    "softmax.forward": _maps(1),
    "softmax.backward": _maps(2),
    "cross_entropy.total_weight": _total_weight,
    "cross_entropy.forward": _cross_entropy,
    "cross_entropy.backward": _cross_entropy,
    "masking.apply": _masking,
    "merging.add": _add,
    "merging.concatenate": _add,
    "merging.concatenate_backward": _concatenate_backward,
    "padding.pad": _margins("reflect"),
    "padding.pad_backward": _margins("reflect"),
    "padding.crop": _margins(),
    "padding.crop_backward": _margins(),
    "patches.extract": _extract,
    "patches.extract_backward": _extract_backward,
    "dropout.apply": _dropout,
    "sgd.step": _sgd,
    "adam.step": _adam,
}
