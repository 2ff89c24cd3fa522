"""Learning from chosen pixels of images (Li, Zhao & Wang 2014, section 3).

Everything random in a run is a function of (seed, step) and of an image's place in the step: the
order of the images, the pixels, the cells that dropout drops. So a run is resumed from its
parameters and its number of steps.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kernels import checks
from net import images, planning, windows
from net.chosen import Chosen, image_and_pixels
from net.dense import Dense
from net.graph import LARGEST_SEED, Net
from net.learning.optimizers import Optimizer
from net.learning.targets import Share, Targets, checked_labels, checked_weights
from net.needed_pass import NeededPass
from net.passes import Learning
from net.program import Program, Tape, added
from net.scanning import Scan

FORMS = ("needed", "dense", "patch")
"""How scores are computed: the cells that the pixels need, or all where that takes less; all; or
patch by patch."""


class Trainer:
    """A net in training: takes steps, each on one image and its chosen pixels.

    What is learned are the scores: a Softmax that ends the net is left out, as the loss has its
    own.

    Args:
        net: its parameters are changed in place.
        optimizer: ``SGD`` or ``Adam`` of ``net.learning.optimizers``.
        border: ``"valid"``, ``"zero"`` or ``"reflect"``.
        class_weights: a weight for each class, 0 or in ``WEIGHTS``; None is 1 for each. Pixels of a
            class of weight 0 count for nothing.
        seed: seed of the run, an int of at least 0.
        form: one of ``FORMS``; the result is the same to rounding.
        batch: patches that run together in the form ``"patch"``.

    Attributes:
        steps: number of steps taken.
        slots: the optimiser's arrays on the backend, by ``"slot.parameter"``.
        losses: losses of the steps of the epoch in progress.
        history: one dict for each finished epoch.
        dense, scan: the forms that give the scores.

    >>> from net.layers import Convolution, FullyConnected, ReLU
    >>> from net.learning.optimizers import SGD
    >>> layers = [Convolution(4, 3), ReLU(), FullyConnected(2)]
    >>> trainer = Trainer(Net(layers, channels=1, patch=5, backend="cpu"), SGD(0.1))
    >>> image = np.random.default_rng(0).random((1, 9, 8), np.float32)
    >>> labels, mask = (image[0] > 0.5).astype(int), np.ones((9, 8), bool)
    >>> losses = [trainer.step(image, labels, mask) for _ in range(20)]
    >>> losses[-1] < losses[0]
    True
    """

    def __init__(
        self,
        net: Net,
        optimizer: Optimizer,
        *,
        border: str = "reflect",
        class_weights=None,
        seed: int = 0,
        form: str = "needed",
        batch: int = 64,
    ):
        checks.instance("net", net, Net)
        if not net.parameters:
            raise ValueError("net has no parameters; expected a layer that learns")
        if not isinstance(optimizer, Optimizer):
            kind = checks.kind_of(optimizer)
            raise TypeError(f"optimizer is {kind}; expected one of net.learning.optimizers")
        self.net, self.optimizer = net, optimizer
        self.seed = checks.count("seed", seed, 0, LARGEST_SEED)
        self.form = checks.choice("form", form, FORMS)
        self.class_weights = checked_weights(class_weights, net.output.channels)
        self.steps = 0
        self.losses: list[float] = []
        self.history: list[dict] = []
        scores = net.without_softmax()
        self.dense, self.scan = Dense(scores, border), Scan(scores, border, batch)
        zeros = net.backend.memory.zeros
        self.slots = {
            f"{slot}.{name}": zeros(parameter.shape, net.dtype)
            for slot in optimizer.slots
            for name, parameter in net.parameters.items()
        }

    def step(self, image, labels: np.ndarray, mask=None, *, pixels=None) -> float:
        """One step on the chosen pixels of one image.

        Args:
            image: C x H x W, the net's dtype. With ``pixels`` it may hold any real numbers, and be
                anything with shape, dtype and slicing, such as a memory map: it is read by windows,
                where the pixels look.
            labels: ints in the shape of the net's output map, ``UNLABELLED`` (-1) where unknown;
                with ``pixels`` those of these, P.
            mask: bool, in the shape of the output map: the pixels to learn from; None is all. Those
                that are unlabelled, or of a class of weight 0, never count.
            pixels: P x 2, ints: rows and columns in the output map of the pixels to learn from, in
                place of a mask. One that is listed several times counts as often. Time and memory
                follow the pixels, however large the image is (not in the form ``"dense"``).

        Returns:
            the loss before the step.

        Raises:
            TypeError, ValueError: an argument does not suit the net, or the image holds NaN or
                infinities (with ``pixels``, in what the pass reads).
            MemoryError: the step would take more memory than is free.

        Where one of these is raised, nothing is changed: the update comes last, and all of its
        arrays are checked before it changes one.

        >>> from net import zoo
        >>> from net.learning.optimizers import SGD
        >>> trainer = Trainer(zoo.build("lenet28", classes=2, backend="cpu"), SGD(0.1))
        >>> image, mask = np.zeros((1, 6, 6), np.float32), np.eye(6, dtype=bool)
        >>> round(trainer.step(image, np.ones((6, 6), int), mask), 4)  # -log(1/2)
        0.6931
        """
        loss, gradients = self.gradients(image, labels, mask, pixels=pixels)
        self.update(gradients)
        return loss

    def update(self, gradients: dict) -> None:
        """Take a step along gradients on the backend, by parameter name.

        >>> from net import zoo
        >>> from net.learning.optimizers import SGD
        >>> trainer = Trainer(zoo.build("lenet28", classes=2, backend="cpu"), SGD(0.1))
        >>> parameters = trainer.net.parameters.items()
        >>> trainer.update({name: np.zeros_like(array) for name, array in parameters})
        >>> trainer.steps
        1
        """
        self._check_slots()
        self.optimizer.update(self.net, self.slots, gradients, self.steps)
        self.steps += 1

    def gradients(
        self, image, labels, mask=None, *, pixels=None, share: Share | None = None
    ) -> tuple[float, dict]:
        """(loss, gradients on the backend) of the next step; errors and other arguments as
        ``step``.

        Args:
            share: share of a step on several images, to whose loss and gradients these are added;
                None is a step on this one.

        >>> from net import zoo
        >>> from net.learning.optimizers import SGD
        >>> trainer = Trainer(zoo.build("lenet28", classes=2, backend="cpu"), SGD(0.1))
        >>> image, mask = np.zeros((1, 6, 6), np.float32), np.eye(6, dtype=bool)
        >>> loss, gradients = trainer.gradients(image, np.ones((6, 6), int), mask)
        >>> gradients["fc2.bias"]
        array([ 0.5, -0.5], dtype=float32)
        """
        if share is None:
            share = Share(self.steps)
        checks.instance("share", share, Share)
        image, size, chosen = image_and_pixels(self.net, self.dense.border, image, mask, pixels)
        of_labels = size if pixels is None else (chosen.count,)
        labels = checked_labels("labels", labels, self.net.output.channels, of_labels)
        counting = self.counting(labels)
        if pixels is None:
            chosen = Chosen(size, counting if chosen is None else chosen.mask & counting)
        else:
            chosen, labels = Chosen(size, listed=chosen.pixels[counting]), labels[counting]
        if chosen.count == 0:
            name = "mask" if pixels is None else "pixels"
            raise ValueError(f"{name} chooses no labelled pixel of a class with a weight above 0")
        some = self._needed(chosen) if self.form == "needed" else None
        if some is not None:
            some.check_memory(image, keep=True, learning=True)
            of_pixels = labels if chosen.mask is None else labels[chosen.mask]
            return self._over_cells(some, image, of_pixels, chosen, share)
        image = windows.whole(self.net, image)
        self.check_memory(image, chosen.count)
        images.check_finite(self.net, "image", image)
        if chosen.mask is None:
            labels = chosen.label_map(labels)
        targets = self._targets(labels[None], chosen.as_mask()[None], share.total_weight)
        if self.form == "patch":
            return self._by_patches(image, labels, chosen.pixels, targets, share)
        places = self._learning(share, np.zeros((1, 2), int))
        program = self.dense.program
        scores, tape = program.forward(self.dense.framed(image), keep=True, learning=places)
        return self._learned(program, scores, tape, targets)

    def _needed(self, chosen) -> NeededPass | None:
        """The pass over what pixels need; None where the dense pass takes less. That one counts
        each pixel once."""
        some = self.dense.needed.over(chosen)
        if some is None and chosen.repeats:
            return NeededPass(self.dense.net, self.dense.border, chosen.pixels)
        return some

    def counting(self, labels: np.ndarray) -> np.ndarray:
        """Where checked labels are of a class with a weight above 0: bool, of their shape.

        >>> from net import zoo
        >>> from net.learning.optimizers import SGD
        >>> net = zoo.build("lenet28", classes=3, backend="cpu")
        >>> Trainer(net, SGD(0.1), class_weights=[0, 1, 2]).counting(np.array([[-1, 0, 1, 2]]))
        array([[False, False,  True,  True]])
        """
        of_label = np.append(self.class_weights > 0, False)  # UNLABELLED takes the last
        return of_label[labels]

    def check_memory(self, image: np.ndarray, pixels: int) -> None:
        """Refuse a step on ``pixels`` pixels of an admitted image if it takes more memory than
        is free.

        Raises:
            MemoryError: it does; the message says how much, and what would fit.

        >>> from net import zoo
        >>> from net.learning.optimizers import SGD
        >>> trainer = Trainer(zoo.build("lenet28", backend="cpu"), SGD(0.1))
        >>> trainer.check_memory(np.broadcast_to(np.float32(0), (1, 2**20, 2**20)), pixels=9)
        Traceback (most recent call last):
            ...
        MemoryError: labelling 1048576 x 1048576 pixels and learning takes ... GB, ...
        """
        size, copied = self.dense.output_size(image.shape[1:]), images.copied_bytes(image)
        if self.form == "patch":
            self.scan.check_memory(size, pixels, learning=True)
        else:
            self.dense.check_memory(size, planning.step_bytes, copied=copied)

    def loss(self, scores: np.ndarray, labels: np.ndarray, mask: np.ndarray) -> float:
        """The loss of host scores K x H x W, or K x P, at the chosen pixels that count.

        Raises:
            TypeError, ValueError: arrays that do not suit the net or each other, or no pixel that
                counts.

        >>> from net import zoo
        >>> from net.learning.optimizers import SGD
        >>> trainer = Trainer(zoo.build("lenet28", classes=2, backend="cpu"), SGD(0.1))
        >>> scores, labels = np.zeros((2, 3, 3), np.float32), np.ones((3, 3), int)
        >>> round(trainer.loss(scores, labels, labels > 0), 4)
        0.6931
        """
        classes = self.net.output.channels
        listed = getattr(scores, "ndim", 3) == 2
        shape = (classes, None) if listed else (classes, None, None)
        scores = images.checked("scores", scores, self.net.dtype, shape)
        labels = checked_labels("labels", labels, classes, scores.shape[1:])
        mask = images.checked("mask", mask, "bool", labels.shape) & self.counting(labels)
        if not mask.any():
            raise ValueError("mask chooses no labelled pixel of a class with a weight above 0")
        if listed:
            scores, labels, mask = (array[..., None] for array in (scores, labels, mask))
        return self._targets(labels[None], mask[None]).loss(
            self.net.backend.memory.to_device(scores[None])
        )

    def _targets(self, labels, mask, total_weight=None) -> Targets:
        weights = self.class_weights.astype(self.net.dtype)
        return Targets.of(self.net.backend, labels, mask, weights, total_weight)

    def _check_slots(self):
        """Refuse slots that do not fit the parameters, before any of either is changed."""
        for slot in self.optimizer.slots:
            for name, parameter in self.net.parameters.items():
                array = self.slots.get(f"{slot}.{name}")
                dtype = str(parameter.dtype)
                checks.array(f"slots['{slot}.{name}']", array, parameter.shape, (dtype,))

    def _learning(self, share, pixels) -> Learning:
        """For maps whose first cells lie at ``pixels`` (y, x) of the image."""
        to_device = self.net.backend.memory.to_device
        rows, columns = (to_device(np.ascontiguousarray(axis, np.int32)) for axis in pixels.T)
        return Learning(self.seed, share.draw, rows, columns)

    def _learned(self, program: Program, scores, tape: Tape, targets) -> tuple[float, dict]:
        """(loss, gradients) behind a forward pass."""
        loss = targets.loss(scores)
        gradients, _ = program.backward(tape, targets.error(scores))
        return loss, gradients

    def _over_cells(self, some: NeededPass, image, labels, chosen, share):
        """As ``gradients``: over the cells that the chosen pixels need."""
        ops, repeats = self.net.backend, some.repeats
        # In the order of the scores; where pixels repeat, the scores are brought into theirs
        order = slice(None) if repeats else np.argsort(some.places, kind="stable")
        labels = ops.listed_cells.LAYOUT.of_numbers(labels[order][:, None])[:, 0]
        targets = self._targets(labels, np.ones(labels.shape, bool), share.total_weight)
        if chosen.mask is not None:
            images.check_finite(self.net, "image", image)
        x = some.enter(image)
        if chosen.mask is None:
            images.check_finite(self.net, "image", x)
        places = self._learning(share, np.zeros((1, 2), int))
        scores, tape = some.program.forward(x, keep=True, learning=places)
        if not repeats:
            return self._learned(some.program, scores, tape, targets)
        listed = ops.listed_cells.select(scores, ops.memory.to_device(some.places))
        error = images.returned(self.net, targets.error(listed))
        error = some.errors(ops.listed_cells.LAYOUT.numbers(error).T)
        return targets.loss(listed), some.program.backward(tape, error)[0]

    def _by_patches(self, image, labels, pixels, targets, share):
        """As ``gradients``: passes over batches of the patches of ``pixels``, added up."""
        scan, to_device = self.scan, self.net.backend.memory.to_device
        x = images.bordered(self.net, images.placed(self.net, image), scan.border)
        loss, gradients = 0.0, {}
        for batch in scan.batches(pixels):
            some = pixels[batch]
            of_batch = labels[some[:, 0], some[:, 1]][:, None, None]
            part = replace(
                targets,
                labels=to_device(of_batch),
                mask=to_device(np.ones(of_batch.shape, bool)),
            )
            scores, tape = scan.program.forward(
                scan.patches(x, some), keep=True, learning=self._learning(share, some)
            )
            more, of_part = self._learned(scan.program, scores, tape, part)
            loss, gradients = loss + more, added(self.net.backend, gradients, of_part)
        return loss, gradients
