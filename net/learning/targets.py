"""Targets of a training step: labels, class weights, and an image's part in the step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernels import Backend, checks, foreign
from kernels.cross_entropy import UNLABELLED

WEIGHTS = (1e-30, 1e30)
"""What a class weight may be beside 0: so that sums over all pixels stay finite in float32."""


@dataclass(frozen=True)
class Share:
    """One image's part in a step on several images.

    Attributes:
        draw: its number among all images that the run's steps take; dropout draws from it.
        total_weight: sum of the class weights of all chosen pixels of the step, by which the loss
            is divided; None is the sum over this image's pixels.

    >>> Share(draw=7, total_weight=120.0)
    Share(draw=7, total_weight=120.0)
    """

    draw: int
    total_weight: float | None = None

    def __post_init__(self):
        checks.count("draw", self.draw, 0)
        if self.total_weight is not None:
            checks.number("total_weight", self.total_weight, positive=True)


@dataclass(frozen=True)
class Targets:
    """What scores N x K x H x W are to become, on the backend (see ``kernels.cross_entropy``).

    Attributes:
        ops: the backend.
        labels: N x H x W, int32.
        mask: N x H x W, bool: the pixels that count, where they have a label.
        weights: K, one for each class.
        total_weight: sum of the weights of all pixels that contribute to this loss, an array of 1.
    """

    ops: Backend
    labels: object
    mask: object
    weights: object
    total_weight: object

    @classmethod
    def of(cls, ops: Backend, labels, mask, weights, total_weight: float | None = None) -> Targets:
        """Targets from checked host arrays N x H x W and the weights K; where ``total_weight`` is
        None, it is the sum over these arrays."""
        arrays = tuple(ops.memory.to_device(array) for array in (labels, mask, weights))
        if total_weight is None:
            return cls(ops, *arrays, ops.cross_entropy.total_weight(*arrays))
        return cls(ops, *arrays, ops.memory.to_device(np.array([total_weight], weights.dtype)))

    def loss(self, scores) -> float:
        """Their share of the loss."""
        loss = self.ops.cross_entropy.forward(scores, *self._arrays)
        return float(self.ops.memory.to_host(loss)[0])

    def error(self, scores):
        """The error map of the loss, N x K x H x W."""
        return self.ops.cross_entropy.backward(scores, *self._arrays)

    @property
    def _arrays(self):
        return self.labels, self.mask, self.weights, self.total_weight


def checked_labels(name: str, labels, classes: int, size) -> np.ndarray:
    """Labels as int32.

    Raises:
        TypeError, ValueError: not an array of ints of that size, or a value is neither a class nor
            ``UNLABELLED``.

    >>> import numpy as np
    >>> checked_labels("labels", np.array([[0, 2], [-1, 1]]), 3, (2, 2)).dtype
    dtype('int32')
    """
    labels = foreign.host_array(name, labels)
    checks.unmasked(name, labels)
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iu":
        kind = labels.dtype if isinstance(labels, np.ndarray) else checks.kind_of(labels)
        raise TypeError(f"{name} is {kind}; expected an array of ints (NaN has no label: use -1)")
    if labels.shape != tuple(size):
        raise ValueError(f"{name} has shape {labels.shape}; expected {tuple(size)}")
    low, high = int(labels.min()), int(labels.max())
    if low < UNLABELLED or high >= classes:
        from_1 = low >= 0 and high == classes
        hint = "; where 1 is the first class and 0 means unlabelled, subtract 1: astype(int) - 1"
        raise ValueError(
            f"{name} reach from {low} to {high}; expected classes 0 to {classes - 1}, or "
            f"{UNLABELLED} where unlabelled{hint * from_1}"
        )
    return np.ascontiguousarray(labels, np.int32)


def checked_weights(weights, classes) -> np.ndarray:
    """Class weights as float64; None is 1 for each."""
    if weights is None:
        return np.ones(classes)
    checks.unmasked("class_weights", weights)
    try:
        checked = np.array(weights, np.float64)
    except (TypeError, ValueError, OverflowError):
        checked = np.empty(0)
    least, most = WEIGHTS
    fits = (checked == 0) | ((least <= checked) & (checked <= most))
    if checked.shape != (classes,) or not fits.all() or not checked.any():
        raise ValueError(
            f"class_weights is {weights!r}; expected {classes} finite numbers, each 0 or from "
            f"{least:g} to {most:g}, and one above 0"
        )
    return checked
