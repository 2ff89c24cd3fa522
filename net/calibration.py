"""Setting the frozen statistics of batch normalisations from sample images."""

from __future__ import annotations

import numpy as np

from net.dense import Dense
from net.graph import IMAGE, Net
from net.steps import BatchNormStep


def calibrate(net: Net, images: list[np.ndarray], border: str = "valid") -> None:
    """Set each batch normalisation's mean and variance to those of its input over ``images``.

    Layer by layer, so that each sees inputs that the ones before it have normalised; over all
    pixels of all images, from the dense form.

    Args:
        net: changed in place; a net without batch normalisation stays as it is.
        images: arrays C x H x W of the net's dtype, of any sizes.
        border: ``"valid"``, ``"zero"`` or ``"reflect"``.

    Raises:
        ValueError: ``images`` is empty, or an image does not suit the net; nothing is changed.
        TypeError: likewise.

    >>> from net.layers import BatchNorm, Convolution
    >>> net = Net([BatchNorm(), Convolution(2, 3)], channels=1, patch=3, backend="cpu")
    >>> calibrate(net, [np.arange(25, dtype=np.float32).reshape(1, 5, 5)])
    >>> net.statistics["norm1.mean"], net.statistics["norm1.variance"]
    (array([12.], dtype=float32), array([52.], dtype=float32))
    """
    if len(images) == 0:
        raise ValueError("images is empty; expected at least one image")
    dense, memory = Dense(net, border), net.backend.memory
    runs = [{IMAGE: dense.enter(image)} for image in images]
    for step in dense.program.steps:
        if isinstance(step, BatchNormStep):
            maps = [memory.to_host(maps[step.inputs[0]]).astype(np.float64) for maps in runs]
            count = sum(x[:, 0].size for x in maps)
            mean = sum(x.sum(axis=(0, 2, 3)) for x in maps) / count
            squares = sum(np.square(x - mean[:, None, None]).sum(axis=(0, 2, 3)) for x in maps)
            name = step.node.name
            net.statistics[f"{name}.mean"] = memory.to_device(mean.astype(net.dtype))
            net.statistics[f"{name}.variance"] = memory.to_device(
                (squares / count).astype(net.dtype)
            )
        for maps in runs:
            dense.program.advance(dense.program.run(), step, maps)
