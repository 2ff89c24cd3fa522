"""Learning from chosen pixels of images (Li, Zhao & Wang 2014, section 3).

Everything random in a run is a function of (seed, step): the order of the images, the pixels, the
cells that dropout drops. So a run is resumed from its parameters and its number of steps.
"""

from __future__ import annotations

import numpy as np

from kernels import checks
from kernels.cross_entropy import UNLABELLED
from net import images as doors
from net.dense import Dense
from net.graph import Net
from net.optimizers import Optimizer
from net.program import Program, added
from net.scanning import Scan
from net.steps import Learning

FORMS = ("dense", "patch")


class Trainer:
    """A net in training: takes steps, each on one image and its chosen pixels.

    Args:
        net: its parameters are changed in place.
        optimizer: ``SGD`` or ``Adam`` of ``net.optimizers``.
        border: ``"valid"``, ``"zero"`` or ``"reflect"``.
        class_weights: a weight for each class; None is 1 for each.
        seed: of the run, an int of at least 0.
        form: ``"dense"``, or ``"patch"`` to learn patch by patch, with the same result.
        batch: patches that run together in the form ``"patch"``.

    Attributes:
        steps: number of steps taken.
        slots: the optimiser's arrays on the backend, by ``"slot.parameter"``.
        losses: of the steps of the epoch in progress.
        history: one dict for each finished epoch.

    Raises:
        ValueError: an argument is wrong.
    """

    def __init__(
        self,
        net: Net,
        optimizer: Optimizer,
        *,
        border: str = "reflect",
        class_weights=None,
        seed: int = 0,
        form: str = "dense",
        batch: int = 64,
    ):
        if type(seed) is not int or seed < 0:
            raise ValueError(f"seed is {seed!r}; expected an int of at least 0")
        classes = net.output.channels
        weights = np.ones(classes) if class_weights is None else np.asarray(class_weights, float)
        if weights.shape != (classes,) or not (np.isfinite(weights) & (weights >= 0)).all():
            raise ValueError(
                f"class_weights is {class_weights!r}; expected {classes} finite numbers of at "
                "least 0"
            )
        self.net, self.optimizer, self.seed = net, optimizer, seed
        self.form = checks.choice("form", form, FORMS)
        self.class_weights = weights
        self.steps = 0
        self.losses: list[float] = []
        self.history: list[dict] = []
        self.dense, self.scan = Dense(net, border), Scan(net, border, batch)
        zeros = net.backend.memory.zeros
        self.slots = {
            f"{slot}.{name}": zeros(parameter.shape, net.dtype)
            for slot in optimizer.slots
            for name, parameter in net.parameters.items()
        }

    def step(self, image: np.ndarray, labels: np.ndarray, mask: np.ndarray) -> float:
        """One step on the chosen pixels of one image.

        Args:
            image: C x H x W, the net's dtype.
            labels: ints in the shape of the net's output map, ``UNLABELLED`` (-1) where unknown.
            mask: bool, same shape: the pixels to learn from; unlabelled ones never count.

        Returns:
            the loss before the step.

        Raises:
            TypeError, ValueError: naming the argument, what it was and what was expected; nothing
                is changed then.
        """
        loss, gradients = self.gradients(image, labels, mask)
        self.optimizer.update(self.net, self.slots, gradients, self.steps)
        self.steps += 1
        return loss

    def gradients(self, image, labels, mask) -> tuple[float, dict]:
        """(loss, gradients on the backend) of the next step; arguments and errors as ``step``."""
        image = doors.checked("image", image, self.net.dtype, (self.net.channels, None, None))
        size = self.dense.output_size(image.shape[1:])
        labels = checked_labels("labels", labels, self.net.output.channels, size)
        mask = doors.checked("mask", mask, "bool", size) & (labels != UNLABELLED)
        weights = self.class_weights.astype(self.net.dtype)
        if not weights[labels[mask]].any():
            raise ValueError("mask chooses no labelled pixel of a class with a weight above 0")
        ops = self.net.backend
        labels, mask = ops.memory.to_device(labels[None]), ops.memory.to_device(mask[None])
        weights = ops.memory.to_device(weights)
        share = ops.cross_entropy.total_weight(labels, mask, weights)
        if self.form == "dense":
            x = self.dense.enter(image)
            here = np.zeros((1, 2), np.int32)
            return self._pass(self.dense.program, x, here, labels, mask, weights, share)
        return self._by_patches(image, labels, mask, weights, share)

    def loss(self, scores: np.ndarray, labels: np.ndarray, mask: np.ndarray) -> float:
        """The loss of host scores K x H x W at the chosen labelled pixels."""
        ops = self.net.backend
        arrays = (
            labels.astype(np.int32)[None],
            mask[None],
            self.class_weights.astype(self.net.dtype),
        )
        labels, mask, weights = (ops.memory.to_device(array) for array in arrays)
        share = ops.cross_entropy.total_weight(labels, mask, weights)
        scores = ops.memory.to_device(scores[None])
        loss = ops.cross_entropy.forward(scores, labels, mask, weights, share)
        return float(ops.memory.to_host(loss)[0])

    def _pass(self, program: Program, x, places, labels, mask, weights, share):
        """(loss, gradients) of one forward and backward pass over N maps at ``places``."""
        ops = self.net.backend
        rows, columns = (
            ops.memory.to_device(np.ascontiguousarray(places[:, axis])) for axis in (0, 1)
        )
        learning = Learning(self.seed, self.steps, rows, columns)
        scores, tape = program.forward(x, keep=True, learning=learning)
        loss = ops.cross_entropy.forward(scores, labels, mask, weights, share)
        error = ops.cross_entropy.backward(scores, labels, mask, weights, share)
        gradients, _ = program.backward(tape, error)
        return float(ops.memory.to_host(loss)[0]), gradients

    def _by_patches(self, image, labels, mask, weights, share):
        memory = self.net.backend.memory
        labels, mask = memory.to_host(labels)[0], memory.to_host(mask)[0]
        pixels = np.argwhere(mask).astype(np.int32)
        x = doors.entered(self.net, image, self.scan.border)
        loss, gradients = 0.0, {}
        for part in self.scan.batches(pixels):
            places = pixels[part]
            own = labels[places[:, 0], places[:, 1]][:, None, None]
            chosen = memory.to_device(np.ones(own.shape, bool))
            patches = self.scan.patches(x, places)
            more, of_part = self._pass(
                self.scan.program, patches, places, memory.to_device(own), chosen, weights, share
            )
            loss, gradients = loss + more, added(self.net.backend, gradients, of_part)
        return loss, gradients


def checked_labels(name: str, labels, classes: int, size) -> np.ndarray:
    """Labels as int32.

    Raises:
        TypeError, ValueError: not an array of ints of that size, or a value is neither a class nor
            ``UNLABELLED``.
    """
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iu":
        kind = labels.dtype if isinstance(labels, np.ndarray) else type(labels).__name__
        raise TypeError(f"{name} is {kind}; expected an array of ints (NaN has no label: use -1)")
    if labels.shape != tuple(size):
        raise ValueError(f"{name} has shape {labels.shape}; expected {tuple(size)}")
    low, high = int(labels.min()), int(labels.max())
    if low < UNLABELLED or high >= classes:
        raise ValueError(
            f"{name} reach from {low} to {high}; expected classes 0 to {classes - 1}, or "
            f"{UNLABELLED} where unlabelled"
        )
    return np.ascontiguousarray(labels, np.int32)
