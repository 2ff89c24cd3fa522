"""The dense form of a net: every pixel of an image in one pass, forward and backward."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kernels import checks, foreign
from kernels.checks import Pair
from kernels.cross_entropy import UNLABELLED
from net import borders, free_memory, images, planning, summary, windows
from net.chosen import chosen_of, image_and_pixels
from net.graph import Net
from net.needed_choice import NeededPasses
from net.passes import Gradients
from net.program import Program


class Dense:
    """Runs ``net`` on whole images of any size: there is no divisibility rule.

    Images are NumPy arrays or tensors of PyTorch on the host, copied to where the net runs, and so
    are the results. A net on the backend ``cuda`` also takes device arrays of any library, without
    a copy, and then gives device arrays (see docs/interoperability.md).

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
        checks.instance("net", net, Net)
        self.net = net
        self.border = checks.choice("border", border, borders.BORDERS)
        self.program = Program(net, "dense")
        self.needed = NeededPasses(self.program, self.border)
        self._unread = (0, 0, *(p - r for p, r in zip(net.patch, net.receptive_field)))

    def output_size(self, size: Pair) -> Pair:
        """Rows and columns of the scores of an image of ``size``.

        Raises:
            ValueError: the image is smaller than the patch and the border is ``valid``.

        >>> from net import zoo
        >>> Dense(zoo.build("lenet28", backend="cpu")).output_size((30, 40))
        (3, 13)
        """
        return images.output_size(self.net, checks.pair("size", size), self.border)

    def summary(self, labelled: int | Pair | None = None, mask=None, *, pixels=None) -> str:
        """A table of the layers, with multiply-adds for ``labelled`` pixels (see ``net.summary``),
        and the memory that a pass takes on the host beside what the caller holds. For chosen pixels
        a table of what they need, and which way a pass over them takes.

        Args:
            labelled: rows and columns; None is those of the mask, or 256.
            mask, pixels: as ``forward``.

        Raises:
            TypeError, ValueError: ``labelled`` is not one or two positive ints, or a mask or pixels
                do not suit it.

        >>> from net import zoo
        >>> dense = Dense(zoo.build("lenet28", backend="cpu"))
        >>> print(dense.summary(256))
        patch 28x28, 256 x 256 labelled pixels: scanning takes 5.3 times the multiply-adds ...
        layer  reads  window ...
        conv1  image  5x5 / 1x1 ...
        >>> print(dense.summary(256, pixels=[[7, 8]]))
        patch 28x28, 1 of 256 x 256 pixels need 0.00807% of the dense form's multiply-adds ...
        layer  needed cells  of dense  needed MAC  of dense
        conv1  576           0.74%     288,000     0.74%
        ...
        """
        labelled, chosen = chosen_of(labelled, mask, pixels)
        form = self.program, self.border, labelled
        of_form = (planning.forward_bytes(*form), planning.gradients_bytes(*form))
        dense = f"the dense form takes {summary.memory(*of_form)}"
        if chosen is None:
            return f"{summary.table(self.net, labelled)}\n{dense}"
        return f"{self.needed.summary(chosen)}\n{dense}"

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
        return self.framed(images.admitted_image(self.net, image))

    def framed(self, image):
        """As ``enter``, for an image that ``net.images.admitted_image`` gave.

        >>> from net import images, zoo
        >>> dense = Dense(zoo.build("lenet28", backend="cpu"), "zero")
        >>> dense.framed(images.admitted_image(dense.net, np.ones((1, 5, 7), np.float32))).shape
        (1, 1, 32, 34)
        """
        return self._framed(images.placed(self.net, image))

    # Maps are passed on without being bound to names, so that no frame keeps a dead one alive

    def forward(self, image, mask=None, *, pixels=None):
        """Scores K x Ho x Wo of an image C x H x W, both of the net's dtype.

        Args:
            image: C x H x W. With ``pixels`` it may hold any real numbers, and be anything with
                shape, dtype and slicing, such as a memory map: it is read by windows
                (``net.windows``), where the pixels look.
            mask: Ho x Wo, bool: the pixels to label, the others get NaN; None is all. It costs what
                these pixels need (``net.needed_cells``), and their scores have the same bits.
            pixels: P x 2, ints: rows and columns of the pixels to label, in place of a mask. Time
                and memory follow them, however large the image is.

        Returns:
            the scores; with ``pixels`` those of these, K x P in their order.

        Raises:
            TypeError, ValueError: the image does not suit the net, or is too small.
            MemoryError: the pass would take more memory than is free; the message says how much,
                and what would fit.

        >>> from net import zoo
        >>> dense = Dense(zoo.build("lenet28", backend="cpu"))
        >>> dense.forward(np.zeros((1, 30, 31), np.float32)).shape
        (10, 3, 4)
        >>> dense.forward(np.zeros((1, 300, 310), np.uint8), pixels=[[2, 3], [200, 70]]).shape
        (10, 2)
        """
        net = self.net
        x, labelled, chosen = image_and_pixels(net, self.border, image, mask, pixels)
        if chosen is not None:
            values = self._of_chosen(chosen, x, self.forward, lambda scores: scores)
            if images.stays(image):
                return self.net.backend.memory.to_device(values)
            return foreign.given_back(values, image)
        self._check_memory(labelled, planning.forward_bytes, images.copied_bytes(x))
        scores = self.program.forward(self._framed(images.placed(self.net, x)))
        return images.in_kind(self.net, scores[0], image)

    def _on_host(self, array):
        return array if isinstance(array, np.ndarray) else self.net.backend.memory.to_host(array)

    def _of_chosen(self, chosen, x, whole, finish) -> np.ndarray:
        """Values of some pixels of an admitted image, as ``Chosen.result`` gives them.

        Args:
            whole: gives the maps of all pixels of an image, where that takes less.
            finish: makes of scores on the backend what the maps hold.
        """
        chosen.check_result(self.net.output.channels, self.net.dtype)
        if chosen.count == 0:
            return chosen.result(np.empty((self.net.output.channels, 0), self.net.dtype))
        some = self.needed.over(chosen)
        if some is None:
            return chosen.of_map(self._on_host(whole(windows.whole(self.net, x))))
        some.check_memory(x)
        return chosen.result(some.listed_values(finish(some.program.forward(some.enter(x)))))

    def predict(
        self, image, tile: int | None = None, mask=None, *, pixels=None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(class map, probabilities) of a whole image, on the host in any case.

        Args:
            image: C x H x W, the net's dtype; with ``pixels`` as ``forward``.
            tile: rows and columns to label at a time, for images whose maps would not fit in
                memory; the result is the same bits. None is all in one pass.
            mask, pixels: as ``forward``; pixels outside of a mask get NaN and -1.

        Returns:
            Ho x Wo int64, the most probable class of each pixel (the first of equals), -1 where a
            probability is NaN (``kernels.cross_entropy.UNLABELLED``; a file that numbers classes
            from 1 holds class + 1, so 0 there); and K x Ho x Wo, the softmax of the scores; a net
            that ends in Softmax gives its output. With ``pixels`` P and K x P.

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
        net = self.net
        x, (height, width), chosen = image_and_pixels(net, self.border, image, mask, pixels)
        rows, columns = (height, width) if tile is None else (checks.count("tile", tile),) * 2
        if chosen is not None:
            every = lambda image: self.predict(image, tile)[1]  # noqa: E731
            probabilities = self._of_chosen(chosen, x, every, self._as_probabilities)
            return _classes(probabilities), probabilities
        passes = (height, width), planning.predict_bytes, images.copied_bytes(x)
        self._check_memory(*passes, tile=(rows, columns))
        x = images.bordered(net, images.placed(net, x), self.border)
        probabilities = np.empty((net.output.channels, height, width), net.dtype)
        classes = np.empty((height, width), np.int64)
        for top in range(0, height, rows):
            for left in range(0, width, columns):
                bottom, right = max(0, height - top - rows), max(0, width - left - columns)
                place = np.s_[top : top + rows, left : left + columns]
                part = classes[place], probabilities[:, *place]
                self._predict(*part, x, (top, left, bottom, right))
        return classes, probabilities

    def _predict(self, classes, probabilities, x, margins):
        """Fill in the pixels left between ``margins``, from the bordered image ``x``."""
        probabilities[...] = self.net.backend.memory.to_host(self._probabilities(x, margins))[0]
        _classes(probabilities, out=classes)

    def _probabilities(self, x, margins):
        margins = tuple(m + u for m, u in zip(margins, self._unread))
        return self._as_probabilities(self.program.forward(self._cropped(x, margins)))

    def _as_probabilities(self, output):
        if self.net.gives_probabilities:
            return output
        return self.net.backend.softmax.forward(output)

    def gradients(
        self,
        image,
        error,
        mask=None,
        *,
        pixels=None,
        image_gradient: bool = False,
        everywhere: bool = False,
    ) -> Gradients:
        """Gradients of sum(error * scores) over the chosen pixels, in one pass.

        Args:
            image: C x H x W, the net's dtype; with ``pixels`` as ``forward``.
            error: the error map of the scores, K x Ho x Wo, same dtype as the net; with ``pixels``
                those of these, K x P.
            mask: Ho x Wo, bool: the pixels of interest (section 3 of the paper); None is all. What
                the error map holds elsewhere does not matter.
            pixels: P x 2, ints: rows and columns of the pixels of interest, in place of a mask. One
                that is listed several times counts as often.
            image_gradient: also the gradient by the image.
            everywhere: compute every cell of every map, as the paper does: the time does not depend
                on the mask. So it is for a mask on a device. Otherwise the pass computes only what
                the mask needs, where that takes less; the result is the same to rounding. Of a host
                image with NaN or infinities it always does, so that only what a chosen patch reads
                counts.

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
        net = self.net
        image_gradient = checks.flag("image_gradient", image_gradient)
        everywhere = checks.flag("everywhere", everywhere)
        mask = foreign.host_array("mask", mask)
        on_host = pixels is not None or isinstance(mask, np.ndarray)  # a device is not waited for
        host_choice = (mask if on_host else None), pixels
        x, labelled, chosen = image_and_pixels(net, self.border, image, *host_choice)
        of_pixels = labelled if pixels is None else (chosen.count,)
        error = images.admitted_array(
            net, "error", error, net.dtype, (net.output.channels, *of_pixels)
        )
        if chosen is not None:
            if chosen.count == 0:
                raise ValueError("mask chooses no pixel; expected at least one")
            some = None if everywhere else self.needed.to_learn(chosen, x)
            if some is not None:
                values = error if pixels is None else self._on_host(error)
                return self._returned(*some.gradients(x, values, image_gradient), image)
            mask = chosen.as_mask()
        elif mask is not None:
            mask = images.admitted_array(net, "mask", mask, "bool", labelled)
        if pixels is not None:
            x, error = windows.whole(net, x), chosen.added_up(self._on_host(error))
        given = {"image": x, "error": error} | ({} if mask is None else {"mask": mask})
        options = {"masked": mask is not None, "image": image_gradient}
        copied = images.copied_bytes(*given.values())
        self._check_memory(labelled, planning.gradients_bytes, copied, **options)
        del x, error
        given = {name: images.placed(net, array) for name, array in given.items()}
        tape = self.program.forward(self._framed(given.pop("image")), keep=True)[1]
        gradients, by_image = self.program.backward(
            tape, self._masked(**given), image=image_gradient
        )
        del tape
        if image_gradient:
            if any(self._unread):
                by_image = net.backend.padding.crop_backward(by_image, self._unread)
            by_image = images.bordered_backward(net, by_image, self.border)[0]
        return self._returned(gradients, by_image, image)

    def _returned(self, gradients, by_image, image) -> Gradients:
        by_image = None if by_image is None else images.in_kind(self.net, by_image, image)
        gradients = images.all_in_kind(self.net, gradients, image)
        return Gradients(gradients, by_image)

    def _masked(self, error, mask=None):
        return error if mask is None else self.net.backend.masking.apply(error, mask)

    def _framed(self, x):
        """An image with its borders, without what no patch reads."""
        return self._cropped(images.bordered(self.net, x, self.border), self._unread)

    def _cropped(self, x, margins):
        return self.net.backend.padding.crop(x, margins) if any(margins) else x

    def check_memory(
        self,
        labelled: Pair,
        peak_bytes: Callable[..., int] = planning.forward_bytes,
        *,
        copied: int = 0,
    ) -> None:
        """Refuse a pass over ``labelled`` rows and columns of pixels that takes more memory than
        is free. Passes that take less than ``net.free_memory.SMALLEST`` are not looked at.

        Args:
            labelled: rows and columns of the output, as ``output_size`` gives them.
            peak_bytes: the function of ``net.planning.PASSES`` that plans the pass.
            copied: bytes of copies that the pass makes of what it is given.

        Raises:
            MemoryError: it does not fit; the message says how much it takes, and what would fit.

        >>> from net import zoo
        >>> Dense(zoo.build("lenet28", backend="cpu")).check_memory((2**20, 2**20))
        Traceback (most recent call last):
            ...
        MemoryError: labelling 1048576 x 1048576 pixels takes ... GB, ... GB are free; ...
        """
        labelled = checks.pair("labelled", labelled, most=planning.MAX_COUNT)
        copied = checks.count("copied", copied, 0, planning.MAX_COUNT)
        if not any(peak_bytes is one for one in planning.PASSES):
            raise ValueError(f"peak_bytes is {peak_bytes!r}; expected one of net.planning.PASSES")
        self._check_memory(labelled, peak_bytes, copied)

    def _check_memory(self, labelled, peak_bytes, copied=0, **options):
        """As ``check_memory``.

        Args:
            peak_bytes: the function of ``net.planning`` that plans the pass, with its ``options``.
            copied: bytes of copies that the pass makes of what it is given.
        """
        form, learning = (self.program, self.border), peak_bytes in planning.LEARNING
        needed = copied + planning.remembered(peak_bytes, *form, labelled, **options)
        what = f"labelling {labelled[0]} x {labelled[1]} pixels{' and learning' * learning}"

        def advice(free):
            side = free_memory.fitting_side(lambda size: peak_bytes(*form, size, **options), free)
            fits = [f"{side} x {side} pixels would fit"] if side else []
            if not learning:
                tile = free_memory.fitting_side(
                    lambda size: planning.predict_bytes(*form, labelled, size),
                    max(0, free - copied),
                )
                fits += [f"predict(image, tile={min(tile, max(labelled))})"] if tile else []
            return ", or ".join(fits) or "not even one pixel would fit"

        free_memory.check(self.net.backend, what, needed, advice)


def _classes(probabilities, out=None) -> np.ndarray:
    """The most probable class of each pixel; -1 where one NaN has made all of them NaN."""
    classes = probabilities.argmax(axis=0, out=out)
    classes[np.isnan(probabilities[0])] = UNLABELLED
    return classes
