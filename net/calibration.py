"""Setting the frozen statistics of batch normalisations from sample images."""

from __future__ import annotations

import numpy as np

from kernels import checks
from kernels.foreign import host_array
from net import free_memory, planning
from net.dense import Dense
from net.graph import Net
from net.images import admitted_image, check_finite, copied_bytes, output_size
from net.nodes import IMAGE


def calibrate(net: Net, images: list[np.ndarray], border: str = "valid") -> None:
    """Set each batch normalisation's mean and variance to those of its input over ``images``.

    Layer by layer, so that each sees inputs that the ones before it have normalised; over all
    pixels of all images, from the dense form.

    Args:
        net: changed in place; a net without batch normalisation stays as it is.
        images: arrays C x H x W of the net's dtype, of any sizes.
        border: ``"valid"``, ``"zero"`` or ``"reflect"``.

    Raises:
        TypeError, ValueError: ``images`` is empty, an image does not suit the net or holds NaN or
            infinities, or a statistic is beyond the net's dtype.
        MemoryError: the maps of all images would take more memory than is free.

    Where one of these is raised, nothing is changed.

    >>> from net.layers import BatchNorm, Convolution
    >>> net = Net([BatchNorm(), Convolution(2, 3)], channels=1, patch=3, backend="cpu")
    >>> calibrate(net, [np.arange(25, dtype=np.float32).reshape(1, 5, 5)])
    >>> net.statistics["norm1.mean"], net.statistics["norm1.variance"]
    (array([12.], dtype=float32), array([52.], dtype=float32))
    """
    dense, memory = Dense(net, border), net.backend.memory
    runs = [{IMAGE: x} for x in _entered(dense, images)]
    before = dict(net.statistics)
    try:
        for step in dense.program.steps:
            if step.normalizes:
                maps = [memory.to_host(maps[step.inputs[0]]) for maps in runs]
                for kind, values in zip(("mean", "variance"), _statistics(maps)):
                    name = f"{step.node.name}.{kind}"
                    net.statistics[name] = memory.to_device(_narrowed(name, values, net.dtype))
            for maps in runs:
                dense.program.advance(dense.program.run(), step, maps)
    except BaseException:
        net.statistics.update(before)
        raise


def _statistics(maps):
    """(mean, variance) of each channel, in float64."""
    count = sum(x[:, 0].size for x in maps)
    with np.errstate(invalid="ignore"):  # infinite maps have no variance
        mean = sum(_summed(x.astype(np.float64)) for x in maps) / count
        return mean, sum(_squared(x - mean[:, None, None]) for x in maps) / count


def _narrowed(name, values, dtype):
    with np.errstate(over="ignore"):
        values = values.astype(dtype)
    if not np.isfinite(values).all():
        raise ValueError(
            f"statistics[{name!r}] would hold NaN or infinities, as the maps of these images are "
            f"too large for {dtype}; expected images or weights of smaller values"
        )
    return values


def _summed(x):
    """By channel, of float64."""
    return x.sum(axis=(0, 2, 3))


def _squared(x):
    return _summed(np.square(x, out=x))


def _entered(dense, images):
    """The checked images on the backend, with their borders."""
    images = host_array("images", images)
    if not isinstance(images, list | tuple | np.ndarray):
        raise TypeError(f"images is {checks.kind_of(images)}; expected a list of arrays")
    if len(images) == 0:
        raise ValueError("images is empty; expected at least one image")
    net = dense.net
    arrays = [admitted_image(net, image, f"images[{i}]") for i, image in enumerate(images)]
    labelled = tuple(
        output_size(net, array.shape[1:], dense.border, f"images[{i}]")
        for i, array in enumerate(arrays)
    )
    needed = planning.calibration_bytes(dense.program, dense.border, labelled)
    needed += copied_bytes(*arrays)
    what = f"calibrating with {len(arrays)} images"
    free_memory.check(net.backend, what, needed, lambda _: "expected fewer or smaller images")
    for i, array in enumerate(arrays):
        check_finite(net, f"images[{i}]", array)
    return [dense.framed(array) for array in arrays]
