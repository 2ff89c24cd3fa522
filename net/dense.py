"""The dense form of a net: every pixel of an image in one pass, forward and backward."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from kernels import checks
from kernels.checks import Pair
from net import images, planning, summary
from net.graph import Net
from net.layers import Softmax
from net.program import Program

MOST_PLANS = 64


@dataclass(frozen=True)
class Gradients:
    """Gradients by parameter name, and by the image (C x H x W) where asked for.

    >>> import numpy as np
    >>> Gradients({"fc1.bias": np.zeros(3)}, None).parameters["fc1.bias"]
    array([0., 0., 0.])
    """

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

    >>> import numpy as np
    >>> from net import zoo
    >>> dense = Dense(zoo.build("lenet28", backend="cpu"), border="reflect")
    >>> dense.forward(np.zeros((1, 5, 7), np.float32)).shape
    (10, 5, 7)
    """

    def __init__(self, net: Net, border: str = "valid"):
        self.net = net
        self.border = checks.choice("border", border, images.BORDERS)
        self.program = Program(net, "dense")
        self._plans: dict[tuple, int] = {}
        self._unread = (0, 0, *(p - r for p, r in zip(net.patch, net.receptive_field)))

    def output_size(self, size: Pair) -> Pair:
        """Rows and columns of the scores of an image of ``size``.

        Raises:
            ValueError: the image is smaller than the patch and the border is ``valid``.

        >>> from net import zoo
        >>> Dense(zoo.build("lenet28", backend="cpu")).output_size((30, 40))
        (3, 13)
        """
        return images.output_size(self.net, size, self.border)

    def summary(self, labelled: int | Pair = 256) -> str:
        """A table of the layers, with multiply-adds for ``labelled`` pixels (see ``net.summary``),
        and the memory that a pass takes on the host beside what the caller holds.

        Raises:
            ValueError: ``labelled`` is not one or two positive ints.

        >>> from net import zoo
        >>> print(Dense(zoo.build("lenet28", backend="cpu")).summary(256))
        patch 28x28, 256 x 256 labelled pixels: scanning takes 5.3 times the multiply-adds ...
        layer  reads  window ...
        conv1  image  5x5 / 1x1 ...
        """
        labelled = checks.pair("labelled", labelled)
        form = self.program, self.border
        forward = planning.forward_bytes(*form, labelled) / 1e6
        both = planning.gradients_bytes(*form, labelled) / 1e6
        memory = f"{forward:,.1f} MB forward, {both:,.1f} MB forward and backward"
        return f"{summary.table(self.net, labelled)}\nthe dense form takes {memory}"

    def enter(self, image):
        """The image C x H x W on the backend, checked, with its borders, as ``program`` takes it.

        Rows and columns that no patch reads (where R < p) are cut off at the bottom and right.

        Raises:
            TypeError, ValueError: the image does not suit the net, or is too small.

        >>> import numpy as np
        >>> from net import zoo
        >>> dense = Dense(zoo.build("lenet28", backend="cpu"), "zero")
        >>> dense.enter(np.ones((1, 5, 7), np.float32)).shape
        (1, 1, 32, 34)
        """
        return self._framed(self._received(image))

    # Maps go from call to call without a name, so that no frame holds one that is done with

    def forward(self, image):
        """Scores K x Ho x Wo of an image C x H x W, both of the net's dtype.

        Raises:
            TypeError, ValueError: the image does not suit the net, or is too small.
            MemoryError: the pass would take more memory than is free; the message says how much,
                and what would fit.

        >>> from net import zoo
        >>> dense = Dense(zoo.build("lenet28", backend="cpu"))
        >>> dense.forward(np.zeros((1, 30, 31), np.float32)).shape
        (10, 3, 4)
        """
        scores = self.program.forward(self._framed(self._admitted(image)))[0]
        return scores if _stays(image) else self.net.backend.memory.to_host(scores)

    def _admitted(self, image):
        x = self._received(image)
        self._check_memory(self.output_size(x.shape[2:]), planning.forward_bytes)
        return x

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

        >>> from net import zoo
        >>> dense = Dense(zoo.build("lenet28", backend="cpu"), "reflect")
        >>> classes, probabilities = dense.predict(np.ones((1, 6, 9), np.float32), tile=5)
        >>> classes.shape, probabilities.shape
        ((6, 9), (10, 6, 9))
        """
        x = self._received(image)
        height, width = self.output_size(x.shape[2:])
        rows, columns = (height, width) if tile is None else (checks.count("tile", tile),) * 2
        self._check_memory((height, width), planning.predict_bytes, tile=(rows, columns))
        x = images.bordered(self.net, x, self.border)
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
        output = self.program.forward(self._cropped(x, margins))
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
            TypeError, ValueError: an argument does not suit the net or the image.
            MemoryError: as ``forward``.

        >>> from net import zoo
        >>> dense = Dense(zoo.build("lenet28", backend="cpu"), "reflect")
        >>> image, error = np.ones((1, 6, 9), np.float32), np.ones((10, 6, 9), np.float32)
        >>> mask = np.zeros((6, 9), bool)
        >>> mask[2, 3] = True  # learn from one pixel
        >>> dense.gradients(image, error, mask).parameters["fc2.bias"]
        array([1., 1., 1., 1., 1., 1., 1., 1., 1., 1.], dtype=float32)
        """
        net, memory = self.net, self.net.backend.memory
        given = {"image": self._received(image)}
        labelled = self.output_size(given["image"].shape[2:])
        shape = (net.output.channels, *labelled)
        given["error"] = images.received(net, "error", error, net.dtype, shape)
        if mask is not None:
            given["mask"] = images.received(net, "mask", mask, "bool", labelled)
            if isinstance(mask, np.ndarray) and not mask.any():
                raise ValueError("mask chooses no pixel; expected at least one")
        options = {"masked": mask is not None, "image": image_gradient}
        self._check_memory(labelled, planning.gradients_bytes, **options)
        tape = self.program.forward(self._framed(given.pop("image")), keep=True)[1]
        gradients, by_image = self.program.backward(
            tape, self._masked(**given), image=image_gradient
        )
        del tape
        if image_gradient:
            if any(self._unread):
                by_image = net.backend.padding.crop_backward(by_image, self._unread)
            by_image = images.bordered_backward(net, by_image, self.border)[0]
        if not _stays(image):
            gradients = {name: memory.to_host(g) for name, g in gradients.items()}
            by_image = memory.to_host(by_image) if image_gradient else None
        return Gradients(gradients, by_image)

    def _masked(self, error, mask=None):
        return error if mask is None else self.net.backend.masking.apply(error, mask)

    def _received(self, image):
        """The checked image on the backend, 1 x C x H x W."""
        shape = (self.net.channels, None, None)
        return images.received(self.net, "image", image, self.net.dtype, shape)

    def _framed(self, x):
        """An image with its borders, without what no patch reads."""
        return self._cropped(images.bordered(self.net, x, self.border), self._unread)

    def _cropped(self, x, margins):
        return self.net.backend.padding.crop(x, margins) if any(margins) else x

    def _check_memory(self, labelled, peak_bytes, **options):
        """Refuse a pass over ``labelled`` pixels that takes more than is free.

        Args:
            peak_bytes: what tells, of ``net.planning``, with its ``options``.
        """
        free = self.net.backend.memory.free_bytes()
        if free is None:
            return
        needed = self._planned(peak_bytes, labelled, **options)
        if needed <= free:
            return
        form, learning = (self.program, self.border), peak_bytes is planning.gradients_bytes
        side = planning.fitting_side(lambda size: peak_bytes(*form, size, **options), free)
        tile = planning.fitting_side(lambda n: planning.predict_bytes(*form, labelled, n), free)
        raise MemoryError(
            f"labelling {labelled[0]} x {labelled[1]} pixels{' and learning' * learning} takes "
            f"{needed / 1e9:.3g} GB, {free / 1e9:.3g} GB are free; {side} x {side} pixels would "
            f"fit{'' if learning else f', or predict(image, tile={tile})'}"
        )

    def _planned(self, peak_bytes, labelled, **options) -> int:
        """What ``peak_bytes`` tells of this form, remembered for the last passes."""
        key = (peak_bytes, labelled, numba.get_num_threads(), *sorted(options.items()))
        if key not in self._plans:
            if len(self._plans) >= MOST_PLANS:
                self._plans.clear()
            self._plans[key] = peak_bytes(self.program, self.border, labelled, **options)
        return self._plans[key]


def _stays(image) -> bool:
    """Whether the results for ``image`` stay on the device, as it came from there."""
    return checks.lies_on_device("image", image)
