"""Patch-by-patch scanning: the patch net, run on batches of patches cut at chosen pixels."""

from __future__ import annotations

import numpy as np

from kernels import checks
from kernels.checks import Pair
from net import borders, free_memory, images, planning
from net.chosen import checked_pixels
from net.graph import Net
from net.passes import Gradients
from net.program import Program, added


class Scan:
    """Runs ``net`` on the patches of an image, as the dense form's opponent and oracle.

    Results are NumPy arrays, also where the image is a device array (see ``net.Dense``).

    Args:
        net: its parameters are shared, not copied.
        border: ``"valid"``, ``"zero"`` or ``"reflect"`` (see ``net.images``).
        batch: number of patches that run together.

    Raises:
        ValueError: an unknown border, or a batch that is not a positive int.

    >>> from net import zoo
    >>> scan = Scan(zoo.build("lenet28", backend="cpu"), batch=8)
    >>> scan.forward(np.ones((1, 30, 31), np.float32)).shape  # 3 x 4 patches
    (12, 10)
    """

    def __init__(self, net: Net, border: str = "valid", batch: int = 64):
        checks.instance("net", net, Net)
        self.net = net
        self.border = checks.choice("border", border, borders.BORDERS)
        self.batch = checks.count("batch", batch)
        self.program = Program(net, "patch")

    def forward(self, image: np.ndarray, pixels: np.ndarray | None = None) -> np.ndarray:
        """Scores of the patches of chosen pixels.

        Args:
            image: C x H x W, the net's dtype.
            pixels: n x 2 ints, (y, x) in the map of scores; None is all of them, row by row.

        Returns:
            n x K, the net's dtype.

        >>> from net import zoo
        >>> scan = Scan(zoo.build("lenet28", backend="cpu"), border="zero")
        >>> scan.forward(np.ones((1, 5, 7), np.float32), np.array([[0, 0], [4, 6]])).shape
        (2, 10)
        """
        x, pixels = self._entered(image, pixels)
        rows, columns = self._corners(pixels)
        parts = self.batches(pixels)
        # All batches are queued before a device is waited for, once
        outputs = [self.program.forward(self._cut(x, rows[p], columns[p])) for p in parts]
        scores = np.concatenate(self.net.backend.memory.all_to_host(outputs))[:, :, 0, 0]
        return scores.astype(self.net.dtype, copy=False)

    def gradients(
        self,
        image: np.ndarray,
        error: np.ndarray,
        pixels: np.ndarray | None = None,
        *,
        image_gradient: bool = False,
    ) -> Gradients:
        """Gradients of sum(error * scores), summed patch by patch.

        Args:
            image: C x H x W, the net's dtype.
            error: n x K, same dtype: an error vector for each chosen pixel.
            pixels: n x 2 ints, (y, x) in the map of scores; None is all of them, row by row.
            image_gradient: also the gradient by the image.

        >>> from net import zoo
        >>> scan = Scan(zoo.build("lenet28", backend="cpu"), border="zero")
        >>> error, pixels = np.ones((2, 10), np.float32), np.array([[0, 0], [4, 6]])
        >>> gradients = scan.gradients(np.ones((1, 5, 7), np.float32), error, pixels)
        >>> gradients.parameters["fc2.bias"].tolist() == [2.0] * 10
        True
        """
        image_gradient = checks.flag("image_gradient", image_gradient)
        x, pixels = self._entered(image, pixels, True, image_gradient)
        channels = self.net.output.channels
        error = images.checked("error", error, self.net.dtype, (len(pixels), channels))
        ops, total, by_image = self.net.backend, {}, None
        error = ops.memory.to_device(error[:, :, None, None])
        rows, columns = self._corners(pixels)
        for part in self.batches(pixels):
            corners = rows[part], columns[part]
            _, tape = self.program.forward(self._cut(x, *corners), keep=True)
            gradients, by_patch = self.program.backward(tape, error[part], image=image_gradient)
            total = added(ops, total, gradients)
            if image_gradient:
                spread = ops.patches.extract_backward(by_patch, *corners, x.shape[2:])
                by_image = spread if by_image is None else ops.merging.add([by_image, spread])
                del spread, by_patch
        if image_gradient:
            by_image = images.bordered_backward(self.net, by_image, self.border)
            by_image = images.returned(self.net, by_image)[0]
        return Gradients(images.all_returned(self.net, total), by_image)

    def check_memory(
        self, labelled: Pair, pixels: int, *, learning: bool = False, image: bool = False
    ) -> None:
        """Refuse a pass over ``pixels`` patches of an image that takes more memory than is free.

        Args:
            labelled: rows and columns of all pixels of the image.
            pixels: number of chosen pixels.
            learning: a pass forward and backward.
            image: also the gradient by the image.

        Raises:
            MemoryError: it does not fit; the message says how much it takes, and what would fit.

        >>> from net import zoo
        >>> Scan(zoo.build("lenet28", backend="cpu")).check_memory((2**20, 2**20), pixels=2**40)
        Traceback (most recent call last):
            ...
        MemoryError: scanning 1099511627776 pixels of 1048576 x 1048576 takes ... GB, ...
        """
        checks.flag("learning", learning)
        checks.flag("image", image)
        labelled = checks.pair("labelled", labelled, most=planning.MAX_COUNT)
        pixels = checks.count("pixels", pixels, most=planning.MAX_COUNT)
        self._check_memory(labelled, pixels, learning, image)

    def _check_memory(self, labelled, pixels, learning=False, image=False):
        def peak(pixels, batch):
            of_pass = self.program, self.border, labelled, pixels, batch
            options = {"learning": learning, "image": image}
            return planning.remembered(planning.scan_bytes, *of_pass, **options)

        def advice(free):
            if peak(1, 1) > free:
                return "not even one pixel would fit"
            if peak(self.batch, self.batch) > free:
                return f"expected a batch smaller than {self.batch}"
            return "expected fewer pixels"

        image_size = f"{labelled[0]} x {labelled[1]}"
        what = f"scanning {pixels} pixels of {image_size}{' and learning' * learning}"
        free_memory.check(self.net.backend, what, peak(pixels, self.batch), advice)

    def patches(self, x, pixels: np.ndarray):
        """n x C x p x p on the backend: the patches of ``pixels`` in the bordered image ``x``.

        >>> from net import zoo
        >>> x = np.ones((1, 1, 30, 31), np.float32)
        >>> Scan(zoo.build("lenet28", backend="cpu")).patches(x, np.array([[2, 3]])).shape
        (1, 1, 28, 28)
        """
        checks.array("x", x, (1, self.net.channels, None, None))
        pixels = checked_pixels(pixels, images.output_size(self.net, x.shape[2:], "valid"))
        return self._cut(x, *self._corners(pixels))

    def _cut(self, x, rows, columns):
        return self.net.backend.patches.extract(x, rows, columns, self.net.patch)

    def _corners(self, pixels):
        to_device = self.net.backend.memory.to_device
        return (to_device(np.ascontiguousarray(pixels[:, axis], np.int32)) for axis in (0, 1))

    def batches(self, pixels: np.ndarray) -> list[slice]:
        """The parts of ``pixels`` that run together.

        >>> from net import zoo
        >>> Scan(zoo.build("lenet28", backend="cpu"), batch=2).batches(np.zeros((3, 2), int))
        [slice(0, 2, None), slice(2, 4, None)]
        """
        checks.array("pixels", pixels, (None, 2), checks.INTS, any_layout=True)
        return [slice(i, i + self.batch) for i in range(0, len(pixels), self.batch)]

    def _entered(self, image, pixels, *passes):
        """The bordered image on the backend, and the checked pixels."""
        x = images.admitted_image(self.net, image)
        size = images.output_size(self.net, x.shape[1:], self.border)
        if pixels is None:
            self._check_memory(size, size[0] * size[1], *passes)
            pixels = np.indices(size).reshape(2, -1).T
        else:
            pixels = checked_pixels(pixels, size)
            self._check_memory(size, len(pixels), *passes)
        return images.bordered(self.net, images.placed(self.net, x), self.border), pixels
