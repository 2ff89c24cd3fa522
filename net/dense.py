"""The dense form of a net: every pixel of an image in one pass, forward and backward."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernels import geometry
from kernels.geometry import Pair
from net import images
from net.graph import Net
from net.layers import Softmax
from net.program import Program


@dataclass(frozen=True)
class Gradients:
    """Gradients on the host: by parameter name, and by the image (C x H x W) where asked for."""

    parameters: dict[str, np.ndarray]
    image: np.ndarray | None


class Dense:
    """Runs ``net`` on whole images of any size: there is no divisibility rule.

    Args:
        net: its parameters are shared, not copied.
        border: ``"valid"``, ``"zero"`` or ``"reflect"`` (see ``net.images``).

    Raises:
        ValueError: an unknown border.
    """

    def __init__(self, net: Net, border: str = "valid"):
        self.net = net
        self.border = geometry.choice("border", border, images.BORDERS)
        self.program = Program(net, "dense")

    def output_size(self, size: Pair) -> Pair:
        """Rows and columns of the scores of an image of ``size``.

        Raises:
            ValueError: the image is smaller than the patch and the border is ``valid``.
        """
        return images.output_size(self.net, size, self.border)

    def enter(self, image: np.ndarray):
        """The image C x H x W on the backend, checked, with its borders, as ``program`` takes it.

        Rows and columns that no patch reads (where R < p) are cut off at the bottom and right.

        Raises:
            TypeError, ValueError: the image does not suit the net, or is too small.
        """
        x = images.entered(self.net, image, self.border)
        return self.net.backend.padding.crop(x, self._unread) if any(self._unread) else x

    def forward(self, image: np.ndarray) -> np.ndarray:
        """Scores K x Ho x Wo of an image C x H x W, both of the net's dtype.

        Raises:
            TypeError, ValueError: the image does not suit the net, or is too small.
        """
        return self.net.backend.memory.to_host(self.program.forward(self.enter(image)))[0]

    def predict(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(class map, probabilities) of a whole image in one pass.

        Args:
            image: C x H x W, the net's dtype.

        Returns:
            Ho x Wo int64, the most probable class of each pixel (the first of equals), and
            K x Ho x Wo, the softmax of the scores; a net that ends in Softmax gives its output.

        Raises:
            TypeError, ValueError: the image does not suit the net, or is too small.
        """
        output = self.program.forward(self.enter(image))
        if not isinstance(self.net.layers[-1], Softmax):
            output = self.net.backend.softmax.forward(output)
        probabilities = self.net.backend.memory.to_host(output)[0]
        return probabilities.argmax(axis=0), probabilities

    def gradients(
        self,
        image: np.ndarray,
        error: np.ndarray,
        mask: np.ndarray | None = None,
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

        Raises:
            TypeError, ValueError: naming the argument, what it was and what was expected.
        """
        net, memory = self.net, self.net.backend.memory
        image = images.checked("image", image, net.dtype, (net.channels, None, None))
        size = self.output_size(image.shape[1:])
        error = images.checked("error", error, net.dtype, (net.output.channels, *size))
        error = memory.to_device(error[None])
        if mask is not None:
            mask = images.checked("mask", mask, "bool", size)
            if not mask.any():
                raise ValueError("mask chooses no pixel; expected at least one")
            error = net.backend.masking.apply(error, memory.to_device(mask[None]))
        _, tape = self.program.forward(self.enter(image), keep=True)
        gradients, by_image = self.program.backward(tape, error, image=image_gradient)
        if image_gradient:
            if any(self._unread):
                by_image = net.backend.padding.crop_backward(by_image, self._unread)
            by_image = images.left(net, by_image, self.border)
        return Gradients({n: memory.to_host(g) for n, g in gradients.items()}, by_image)

    @property
    def _unread(self):
        return (0, 0, *(p - r for p, r in zip(self.net.patch, self.net.receptive_field)))
