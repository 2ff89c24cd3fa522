"""Max-pooling fragments: every pixel of an image, without sparse kernels.

The method of Giusti et al., ICIP 2013, and Masci et al., ICIP 2013: a layer with stride s is
applied at each of its s x s offsets as the patch net applies it, which leaves s x s small maps, the
fragments; the next layers treat them as a batch; at the end they are interleaved. Same parameters
and operators as ``Dense``, same results: the maps are those of the dense form, sorted by phase.
"""

from __future__ import annotations

import math

import numpy as np

from kernels import checks
from kernels.checks import Pair
from net import borders, images
from net.dense import Gradients
from net.graph import Net
from net.nodes import IMAGE
from net.program import Program


class Fragments:
    """Runs ``net`` on whole images of any size, which are padded to a multiple of its strides.

    Args:
        net: a chain of layers; its parameters are shared, not copied.
        border: ``"valid"``, ``"zero"`` or ``"reflect"`` (see ``net.images``).

    Raises:
        TypeError, ValueError: no net, an unknown border, or a net that branches.

    >>> from net import zoo
    >>> fragments = Fragments(zoo.build("lenet28", backend="reference"))
    >>> fragments.forward(np.ones((1, 29, 30), np.float32)).shape
    (10, 2, 3)
    """

    def __init__(self, net: Net, border: str = "valid"):
        checks.instance("net", net, Net)
        self.net = net
        self.border = checks.choice("border", border, borders.BORDERS)
        self.program = Program(net, "patch")
        self.steps, previous = self.program.steps, IMAGE
        for step in self.steps:
            if step.inputs != (previous,):
                raise ValueError(
                    f"layer {step.node.name!r} reads {', '.join(step.inputs)}; expected a chain of "
                    f"layers, where it reads {previous!r} alone"
                )
            previous = step.output
        self._spacing = tuple(
            math.prod(_stride(step)[axis] for step in self.steps) for axis in (0, 1)
        )

    def forward(self, image: np.ndarray) -> np.ndarray:
        """Scores K x Ho x Wo of an image C x H x W, both of the net's dtype.

        Raises:
            TypeError, ValueError: the image does not suit the net, or is too small.

        >>> from net import zoo
        >>> fragments = Fragments(zoo.build("lenet28", backend="reference"), "zero")
        >>> fragments.forward(np.ones((1, 3, 2), np.float32)).shape
        (10, 3, 2)
        """
        x, size = self._entered(image)
        run = self.program.run()
        for step in self.program.forward_steps:
            x, _ = self._split(step, x)
            x, _ = step.forward(run, x)
        return self._interleaved(images.returned(self.net, x), size)

    def gradients(self, image: np.ndarray, error: np.ndarray) -> Gradients:
        """Gradients of sum(error * scores) by all parameters, in one pass.

        Args:
            image: C x H x W, the net's dtype.
            error: the error map of the scores, K x Ho x Wo, same dtype; 0 where no pixel counts.

        >>> from net import zoo
        >>> fragments = Fragments(zoo.build("lenet28", backend="reference"), "zero")
        >>> image, error = np.ones((1, 3, 2), np.float32), np.ones((10, 3, 2), np.float32)
        >>> fragments.gradients(image, error).parameters["fc2.bias"][0]
        np.float32(6.0)
        """
        x, size = self._entered(image)
        error = images.checked("error", error, self.net.dtype, (self.net.output.channels, *size))
        memory, run, tape = self.net.backend.memory, self.program.run(backward=True), []
        for step in self.steps:
            x, corners = self._split(step, x)
            y, argmax = step.forward(run, x)
            tape.append((step, corners, step.saved([x], y, argmax)))
            x = y
        error, gradients = memory.to_device(self._scattered(error, x.shape)), {}
        for index in reversed(range(len(tape))):
            step, corners, saved = tape.pop()
            error = step.differentiate(run, saved, error)
            (error,), by_parameter = step.backward(run, saved, error, [index > 0])
            gradients |= by_parameter
            if index > 0:
                error = self._joined(error, corners)
        return Gradients(images.all_returned(self.net, gradients), None)

    def _entered(self, image):
        """The image with its borders, padded so that all fragments have one size; output size."""
        x = images.entered(self.net, image, self.border)
        size = tuple(n - p + 1 for n, p in zip(x.shape[2:], self.net.patch))
        more = [-n % d for n, d in zip(size, self._spacing)]
        padded = self.net.backend.padding.pad(x, (0, 0, *more), "zero") if any(more) else x
        return padded, size

    def _split(self, step, x):
        """(s*s*N fragments of N maps, the margins that each offset leaves out), offsets outermost.

        Every offset is given as many rows and columns as the last one has.
        """
        sy, sx = _stride(step)
        if (sy, sx) == (1, 1):
            return x, None
        corners = [(i, j, sy - 1 - i, sx - 1 - j) for i in range(sy) for j in range(sx)]
        crops = [self.net.backend.padding.crop(x, margins) for margins in corners]
        return self._stacked(crops), corners

    def _joined(self, error, corners):
        """The error of the N maps from that of their fragments: each offset's, at its place."""
        if corners is None:
            return error
        ops, total = self.net.backend, None
        for margins, part in zip(corners, self._unstacked(error, len(corners))):
            spread = ops.padding.crop_backward(part, margins)
            total = spread if total is None else ops.merging.add([total, spread])
        return total

    def _stacked(self, maps):
        """Maps N x C x H x W as one batch: planes follow one another either way."""
        n, c, h, w = maps[0].shape
        planes = [x.reshape(1, n * c, h, w) for x in maps]
        return self.net.backend.merging.concatenate(planes).reshape(len(maps) * n, c, h, w)

    def _unstacked(self, batch, parts):
        n, c, h, w = batch.shape
        planes = batch.reshape(1, n * c, h, w)
        channels = [n // parts * c] * parts
        split = self.net.backend.merging.concatenate_backward(planes, channels)
        return [x.reshape(n // parts, c, h, w) for x in split]

    def _axes(self):
        """(factors of the batch axis, outermost first; order of the axes when interleaved).

        The batch runs through the offsets of the last strided layer first; the pixel's row is
        row * d + ... + offset of the second * s of the first + offset of the first.
        """
        strides = [_stride(step) for step in self.steps if _stride(step) != (1, 1)]
        factors = [s for pair in reversed(strides) for s in pair]
        number = len(factors)
        rows, columns = range(0, number, 2), range(1, number, 2)
        return factors, (number, number + 1, *rows, number + 2, *columns)

    def _interleaved(self, fragments, size: Pair):
        """K x Ho x Wo from the fragments D*D x K x h x w."""
        factors, order = self._axes()
        channels, height, width = fragments.shape[1:]
        (dy, dx), maps = self._spacing, fragments.reshape(*factors, *fragments.shape[1:])
        whole = maps.transpose(order).reshape(channels, height * dy, width * dx)
        return np.ascontiguousarray(whole[:, : size[0], : size[1]])

    def _scattered(self, error, shape):
        """The inverse of ``_interleaved``: D*D x K x h x w, 0 for pixels that are not labelled."""
        factors, order = self._axes()
        _, channels, height, width = shape
        (dy, dx), (rows, columns) = self._spacing, error.shape[1:]
        whole = np.zeros((channels, height * dy, width * dx), error.dtype)
        whole[:, :rows, :columns] = error
        ys, xs = factors[0::2], factors[1::2]
        maps = whole.reshape(channels, height, *ys, width, *xs)
        return np.ascontiguousarray(maps.transpose(np.argsort(order)).reshape(shape))


def _stride(step) -> Pair:
    window = getattr(step, "window", None)
    return window.stride if window is not None else (1, 1)
