"""The dense form of a net: every pixel of an image in one pass, forward and backward."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernels import checks
from kernels.checks import Pair
from net import images, planning
from net.graph import Net
from net.layers import Softmax
from net.program import Program


@dataclass(frozen=True)
class Gradients:
    """Gradients by parameter name, and by the image (C x H x W) where asked for."""

    parameters: dict[str, object]
    image: object | None


class Dense:
    """Runs ``net`` on whole images of any size: there is no divisibility rule.

    Images are NumPy arrays, copied to where the net runs, and so are the results. A net on the
    backend ``cuda`` also takes device arrays of any library, through ``__cuda_array_interface__``
    and without a copy, and then gives device arrays (see docs/interoperability.md).

    Args:
        net: its parameters are shared, not copied.
        border: ``"valid"``, ``"zero"`` or ``"reflect"`` (see ``net.images``).

    Raises:
        ValueError: an unknown border.
    """

    def __init__(self, net: Net, border: str = "valid"):
        self.net = net
        self.border = checks.choice("border", border, images.BORDERS)
        self.program = Program(net, "dense")

    def output_size(self, size: Pair) -> Pair:
        """Rows and columns of the scores of an image of ``size``.

        Raises:
            ValueError: the image is smaller than the patch and the border is ``valid``.
        """
        return images.output_size(self.net, size, self.border)

    def enter(self, image):
        """The image C x H x W on the backend, checked, with its borders, as ``program`` takes it.

        Rows and columns that no patch reads (where R < p) are cut off at the bottom and right.

        Raises:
            TypeError, ValueError: the image does not suit the net, or is too small.
        """
        return self._cut(images.entered(self.net, image, self.border))

    def forward(self, image):
        """Scores K x Ho x Wo of an image C x H x W, both of the net's dtype.

        Raises:
            TypeError, ValueError: the image does not suit the net, or is too small.
            MemoryError: the pass would take more memory than is free; the message says how much,
                and what would fit.
        """
        x = self.enter(image)
        self._check_memory(x, backward=False)
        scores = self.program.forward(x)[0]
        return scores if _stays(image) else self.net.backend.memory.to_host(scores)

    def predict(self, image, tile: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(class map, probabilities) of a whole image, on the host in any case.

        Args:
            image: C x H x W, the net's dtype.
            tile: label so many rows and columns at a time, for images whose maps would not fit in
                memory; the result is the same bits. None is all in one pass.

        Returns:
            Ho x Wo int64, the most probable class of each pixel (the first of equals), and
            K x Ho x Wo, the softmax of the scores; a net that ends in Softmax gives its output.

        Raises:
            TypeError, ValueError: the image does not suit the net, or is too small; a tile that is
                not a positive int.
            MemoryError: as ``forward``.
        """
        x = images.entered(self.net, image, self.border)
        height, width = (n - p + 1 for n, p in zip(x.shape[2:], self.net.patch))
        rows, columns = (height, width) if tile is None else (checks.count("tile", tile),) * 2
        probabilities = np.empty((self.net.output.channels, height, width), self.net.dtype)
        for top in range(0, height, rows):
            for left in range(0, width, columns):
                bottom, right = max(0, height - top - rows), max(0, width - left - columns)
                part = self._probabilities(x, (top, left, bottom, right))
                probabilities[:, top : top + rows, left : left + columns] = part
        return probabilities.argmax(axis=0), probabilities

    def _probabilities(self, x, margins):
        """On the host, of the scores left between ``margins``, from the bordered image ``x``."""
        margins = tuple(m + u for m, u in zip(margins, self._unread))
        part = self.net.backend.padding.crop(x, margins) if any(margins) else x
        self._check_memory(part, backward=False)
        output = self.program.forward(part)
        if not isinstance(self.net.layers[-1], Softmax):
            output = self.net.backend.softmax.forward(output)
        return self.net.backend.memory.to_host(output)[0]

    def gradients(
        self,
        image,
        error,
        mask=None,
        *,
        image_gradient: bool = False,
    ) -> Gradients:
        """Gradients of sum(error * scores) over the chosen pixels, in one pass.

        Args:
            image: C x H x W, the net's dtype.
            error: the error map of the scores, K x Ho x Wo, same dtype.
            mask: Ho x Wo, bool: the pixels of interest (section 3 of the paper); None is all. What
                the error map holds elsewhere does not matter. The time does not depend on it.
            image_gradient: also the gradient by the image.

        Returns:
            gradients that lie where the image does.

        Raises:
            TypeError, ValueError: naming the argument, what it was and what was expected.
            MemoryError: as ``forward``.
        """
        net, memory = self.net, self.net.backend.memory
        x = images.received(net, "image", image, net.dtype, (net.channels, None, None))
        size = self.output_size(x.shape[2:])
        error = images.received(net, "error", error, net.dtype, (net.output.channels, *size))
        if mask is not None:
            chosen = images.received(net, "mask", mask, "bool", size)
            if isinstance(mask, np.ndarray) and not mask.any():
                raise ValueError("mask chooses no pixel; expected at least one")
            error = net.backend.masking.apply(error, chosen)
        x = self._cut(images.bordered(net, x, self.border))
        self._check_memory(x, backward=True)
        _, tape = self.program.forward(x, keep=True)
        gradients, by_image = self.program.backward(tape, error, image=image_gradient)
        if image_gradient:
            if any(self._unread):
                by_image = net.backend.padding.crop_backward(by_image, self._unread)
            by_image = images.left(net, by_image, self.border)[0]
        if not _stays(image):
            gradients = {name: memory.to_host(g) for name, g in gradients.items()}
            by_image = memory.to_host(by_image) if image_gradient else None
        return Gradients(gradients, by_image)

    def _check_memory(self, x, *, backward):
        """Refuse a pass over the entered image ``x`` that would not fit."""
        free = self.net.backend.memory.free_bytes()
        if free is None:
            return
        labelled = tuple(n - r + 1 for n, r in zip(x.shape[2:], self.net.receptive_field))
        needed = planning.peak_bytes(self.net, labelled, backward=backward)
        if needed <= free:
            return
        side = planning.fitting_side(self.net, free, backward=backward)
        instead = "" if backward else f", or predict(image, tile={side})"
        raise MemoryError(
            f"labelling {labelled[0]} x {labelled[1]} pixels{' and learning' * backward} takes "
            f"{needed / 1e9:.3g} GB, {free / 1e9:.3g} GB are free; {side} x {side} pixels would "
            f"fit{instead}"
        )

    def _cut(self, x):
        return self.net.backend.padding.crop(x, self._unread) if any(self._unread) else x

    @property
    def _unread(self):
        return (0, 0, *(p - r for p, r in zip(self.net.patch, self.net.receptive_field)))


def _stays(image) -> bool:
    """Whether the results for ``image`` stay on the device, as it came from there."""
    return checks.lies_on_device("image", image)
