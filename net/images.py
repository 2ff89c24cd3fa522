"""Images as a net takes them: checks, borders, and which patch belongs to which pixel.

The patch of pixel y covers rows y - (p-1)//2 ... y - (p-1)//2 + p - 1, columns alike. With the
border ``valid`` only pixels whose whole patch lies in the image are labelled; ``zero`` and
``reflect`` pad the image by the patch's margins first, so that every pixel is. Either way output
pixel (y, x) belongs to the patch whose top left corner is (y, x) of the bordered image.
"""

from __future__ import annotations

import numpy as np

from kernels import checks, foreign
from kernels.checks import Pair
from net.borders import patch_margins
from net.graph import Net

__all__ = ["channel_axis", "channels_first", "net_input", "output_size"]

DEVICE_BACKENDS = ("cuda", "simulator")
AXES = "channels x rows x columns"


def output_size(net: Net, size: Pair, border: str, name: str = "image") -> Pair:
    """Rows and columns of labelled pixels for an image of ``size``; ``name`` is the image's name in
    messages.

    Raises:
        ValueError: the image is smaller than the patch and the border is ``valid``.

    >>> from net import zoo
    >>> output_size(zoo.build("lenet28", backend="reference"), (30, 40), "valid")
    (3, 13)
    """
    if border != "valid":
        return tuple(size)
    if any(n < p for n, p in zip(size, net.patch)):
        raise ValueError(
            f"{name} is {size[0]} x {size[1]}; with border 'valid' expected at least the patch, "
            f"{net.patch[0]} x {net.patch[1]} (or border 'zero' or 'reflect')"
        )
    return tuple(n - p + 1 for n, p in zip(size, net.patch))


def places(net: Net, rows, columns, size: Pair, border: str) -> list[np.ndarray]:
    """Where cells of an image with its borders lie in the image of ``size``: rows and columns,
    int32, -1 in a border of zeros.

    Args:
        rows, columns: int32, from the first row and column of the border.
    """
    if border == "valid":
        return [rows, columns]
    inside = []
    for axis, before, length in zip((rows, columns), patch_margins(net.patch), size):
        place = axis - np.int32(before)
        if border == "zero":
            place[(place < 0) | (place >= length)] = -1
        elif length == 1:
            place[:] = 0
        else:
            place = np.abs(place) % np.int32(2 * length - 2)
            place = np.minimum(place, np.int32(2 * length - 2) - place)
        inside.append(place)
    return inside


def checked(
    name: str, array, dtype: str, shape: tuple[int | None, ...], axes: str = ""
) -> np.ndarray:
    """``array`` in native byte order and C-contiguous; ``axes`` are named in messages.

    Raises:
        TypeError, ValueError: not an array of that shape and dtype.
    """
    array = foreign.host_array(name, array)
    _check_on_host(name, array, dtype, shape, axes)
    return _contiguous(array)


def checked_image(net: Net, name: str, image, *, finite: bool = False) -> np.ndarray:
    """An image for ``net`` in native byte order and C-contiguous.

    Args:
        finite: refuse NaN and infinities, as one would spoil all that is learned.

    Raises:
        TypeError, ValueError: not a NumPy array of the net's dtype, C x H x W, or not finite.
    """
    image = checked(name, image, net.dtype, (net.channels, None, None), AXES)
    if finite:
        check_finite(net, name, image)
    return image


def is_finite(image: np.ndarray) -> bool:
    """Whether a host image holds neither NaN nor infinities; makes no array."""
    return bool(np.isfinite((image.min(), image.max())).all())


def check_finite(net: Net, name: str, image) -> None:
    """Refuse an image that ``admitted_image`` gave, if it holds NaN or infinities.

    Raises:
        ValueError: it does.
    """
    host = image if isinstance(image, np.ndarray) else net.backend.memory.to_host(image)
    if not is_finite(host):
        raise ValueError(f"{name} holds NaN or infinities; expected finite values")


def admitted_array(net: Net, name: str, array, dtype: str, shape: tuple[int | None, ...], axes=""):
    """``array``, checked, as ``placed`` takes it; nothing is copied.

    Another library's array in the host's memory becomes a NumPy array (``kernels.foreign``).

    Raises:
        TypeError, ValueError: not an array of that shape and dtype, or on a device where the net
            does not run.
    """
    array = foreign.host_array(name, array)
    if not checks.lies_on_device(name, array):
        _check_on_host(name, array, dtype, shape, axes)
        return array
    if net.backend.name not in DEVICE_BACKENDS:
        raise TypeError(
            f"{name} is a device array; expected a NumPy array, as the net runs on "
            f"backend {net.backend.name!r}"
        )
    array = net.backend.memory.to_device(array)
    checks.array(name, array, shape, (dtype,), axes=axes)
    return array


def admitted_image(net: Net, image, name: str = "image"):
    """An image C x H x W, as ``admitted_array``."""
    return admitted_array(net, name, image, net.dtype, (net.channels, None, None), AXES)


def placed(net: Net, array):
    """An array that ``admitted_array`` gave, with a leading axis of 1 on the net's backend: a copy,
    or a device array's memory."""
    if isinstance(array, np.ndarray):
        array = net.backend.memory.to_device(_contiguous(array))
    return array.reshape(1, *array.shape)


def copied_bytes(*arrays) -> int:
    """What ``placed`` takes on the host to put arrays that ``admitted_array`` gave into C order."""
    host = [array for array in arrays if isinstance(array, np.ndarray)]
    return sum(a.nbytes for a in host if not (a.flags.c_contiguous and a.dtype.isnative))


def _check_on_host(name, array, dtype, shape, axes):
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} is {checks.kind_of(array)}; expected a NumPy array")
    checks.array(name, array, shape, (dtype,), axes=axes, any_layout=True)


def _contiguous(array):
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def bordered(net: Net, image, border: str):
    """An image 1 x C x H x W on the backend with its borders: 1 x C x H' x W'.

    Raises:
        ValueError: it is too small.
    """
    output_size(net, image.shape[2:], border)
    if border == "valid":
        return image
    return net.backend.padding.pad(image, patch_margins(net.patch), border)


def entered(net: Net, image, border: str):
    """A checked image C x H x W on the backend, with its borders: 1 x C x H' x W'.

    Args:
        image: a NumPy array, or any library's device array where the net runs on a device.

    Raises:
        TypeError, ValueError: the image does not suit the net, or is too small.
    """
    return bordered(net, placed(net, admitted_image(net, image)), border)


def returned(net: Net, array) -> np.ndarray:
    """A result on the host, in the net's dtype (the backend ``reference`` computes in float64)."""
    return net.backend.memory.to_host(array).astype(net.dtype, copy=False)


def all_returned(net: Net, arrays: dict) -> dict[str, np.ndarray]:
    """The same for results by name; a device is waited for once."""
    hosts = net.backend.memory.all_to_host(arrays.values())
    return {name: host.astype(net.dtype, copy=False) for name, host in zip(arrays, hosts)}


def stays(image) -> bool:
    """Whether the results for ``image`` stay on the device, as it came from there."""
    return checks.lies_on_device("image", image)


def in_kind(net: Net, result, image):
    """A result on the backend where its image lies; on the host, an array of its library."""
    return result if stays(image) else foreign.given_back(returned(net, result), image)


def all_in_kind(net: Net, results: dict, image) -> dict:
    """The same for results by name; a device is waited for once."""
    if stays(image):
        return results
    hosts = all_returned(net, results)
    return {name: foreign.given_back(host, image) for name, host in hosts.items()}


def bordered_backward(net: Net, gradient, border: str):
    """The gradient of the image, 1 x C x H x W on the backend, from that of the bordered image."""
    if border == "valid":
        return gradient
    return net.backend.padding.pad_backward(gradient, patch_margins(net.patch), border)


def channel_axis(
    name: str, shape: tuple[int, ...], axes: str | None = None, channels: int | None = None
) -> int | None:
    """The axis of an image's ``shape`` that holds the channels, 0 or 2; None where it has two axes.

    Args:
        name: the image's name in messages.
        shape: H x W, C x H x W or H x W x C.
        axes, channels: as ``channels_first``.

    Raises:
        TypeError, ValueError: no image of ``channels`` channels, or either axis may hold them.

    >>> channel_axis("image", (20, 30, 3))
    2
    """
    if axes is not None:
        checks.choice("axes", axes, ("first", "last"))
    if channels is not None:
        channels = checks.count("channels", channels)
    said = " x ".join(map(str, shape))
    wanted = f"{channels or 'any number of'} channel{'s' * (channels != 1)}"
    if len(shape) not in (2, 3) or 0 in shape:
        raise ValueError(f"{name} has shape {said or '()'}; expected rows and columns of {wanted}")
    first, rows, last = shape if len(shape) == 3 else (1, *shape)
    if len(shape) == 2:
        axes = "first"
    if axes is None and channels is None:
        fitting = first < min(rows, last), last < min(first, rows)
    else:
        fitting = (
            axes != "last" and channels in (None, first),
            axes != "first" and channels in (None, last),
        )
    if all(fitting) or (not any(fitting) and axes is channels is None):
        raise ValueError(
            f"{name} has shape {said}, whose first or last axis may hold the channels; expected "
            "axes to say which: 'first' or 'last'"
        )
    if not any(fitting):
        where = "first or last" if axes is None else axes
        raise ValueError(f"{name} has shape {said}; expected {wanted} on the {where} axis")
    return None if len(shape) == 2 else 0 if fitting[0] else 2


def channels_first(name: str, array, axes: str | None = None, channels: int | None = None):
    """An image that was read, as C x H x W: a view.

    Args:
        name: the image's name in messages.
        array: H x W, C x H x W or H x W x C.
        axes: which axis holds the channels, ``"first"`` or ``"last"``; None looks for it: the one
            of ``channels``, or, where that is None, the one that is smaller than both others.
        channels: number of channels that there must be.

    Raises:
        TypeError, ValueError: no image of ``channels`` channels, or either axis may hold them.

    >>> channels_first("image", np.zeros((20, 30, 3))).shape
    (3, 20, 30)
    """
    checks.unmasked(name, array)
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} is {checks.kind_of(array)}; expected a NumPy array")
    axis = channel_axis(name, array.shape, axes, channels)
    return array[None] if axis is None else np.moveaxis(array, axis, 0)


def net_input(net: Net, image, axes: str | None = None, name: str = "image") -> np.ndarray:
    """An image as it was read, as ``net`` takes it: C x H x W of the net's dtype, normalised as
    ``net.usage`` says.

    Args:
        image: H x W, C x H x W or H x W x C, of real numbers.
        axes: which axis holds the channels, as ``channels_first``.
        name: the image's name in messages.

    Raises:
        TypeError, ValueError: no image of the net's channels, or one where either the first or the
            last axis may hold them.

    >>> from net import zoo
    >>> from net.usage import Normalization, Usage
    >>> net = zoo.build("lenet28", backend="reference")
    >>> net.usage = Usage(normalization=Normalization((128,), (64,)))
    >>> net_input(net, np.array([[0, 128, 192]], np.uint8))
    array([[[-2.,  0.,  1.]]], dtype=float32)
    """
    image = channels_first(name, image, axes, net.channels)
    if image.dtype.kind not in "biuf":
        raise TypeError(f"{name} has dtype {image.dtype}; expected real numbers")
    if net.usage is not None and net.usage.normalization is not None:
        return net.usage.normalization.normalized(image, net.dtype)
    return np.ascontiguousarray(image, net.dtype)
