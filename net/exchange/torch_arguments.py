"""Arguments of PyTorch's operations, as ``net.layers`` takes them."""

from __future__ import annotations

from math import prod

from kernels.checks import Margins
from net.maps import NotConvertible


def one(pair):
    """One int where both of a pair are equal."""
    pair = tuple(pair) if isinstance(pair, tuple | list) else (pair, pair)
    return pair[0] if len(set(pair)) == 1 else pair


def stride_of(stride, kernel):
    """A pooling's; None where it is the kernel."""
    stride = kernel if stride is None or stride == [] else one(stride)
    return None if stride == kernel else stride


def padding_of(padding, kernel=(), dilation=1):
    """In cells; ``"same"`` is as many as leave the map's size."""
    if padding == "valid":
        return 0
    if padding == "same":
        dilations = dilation if isinstance(dilation, tuple | list) else (dilation, dilation)
        padding = tuple((k - 1) * d for k, d in zip(kernel, dilations))
    return one(padding)


def bins_of(output_size, size):
    """As ``net.layers`` takes them; None is as many as there are cells."""
    bins = output_size if isinstance(output_size, tuple | list) else (output_size, output_size)
    return one(tuple(n if b is None else b for b, n in zip(bins, size)))


def refuse_indices(return_indices):
    if return_indices:
        raise NotConvertible("return_indices=True; expected False: the maxima alone are read")


def is_mean(weight) -> bool:
    """Whether a grouped convolution is the mean of a window, channel by channel, and learns
    nothing: what ``to_torch`` makes of an AveragePool with spaced cells."""
    whole = weight.shape[1] == 1 and not weight.requires_grad
    return whole and bool((weight == weight.new_tensor(1 / prod(weight.shape[2:]))).all())


def takes_the_vector(index) -> bool:
    """Whether an index of a tensor N x K x 1 x 1 gives N x K."""
    whole = isinstance(index, tuple) and all(one in (..., slice(None)) for one in index[:-2])
    return whole and len(index) > 2 and index[-2:] in ((0, 0), (-1, -1))


def margins_of(index, shape: tuple[int, int, int, int]) -> Margins:
    """What an index of a tensor N x C x h x w cuts off: (top, left, bottom, right).

    Raises:
        NotConvertible: it does anything else.
    """
    index = list(index) if isinstance(index, tuple) else [index]
    if ... in index:
        place = index.index(...)
        index[place : place + 1] = [slice(None)] * (len(shape) + 1 - len(index))
    index += [slice(None)] * (len(shape) - len(index))
    if len(index) != len(shape) or not all(isinstance(one, slice) for one in index):
        raise NotConvertible("it takes single cells; expected slices of rows and columns")
    spans = [one.indices(extent) for one, extent in zip(index, shape)]
    whole = [(0, extent, 1) for extent in shape]
    if spans[:2] != whole[:2] or any(step != 1 for _, _, step in spans):
        raise NotConvertible(
            "it takes some patches or channels, or every so many cells; expected slices of rows "
            "and columns with a step of 1"
        )
    (top, bottom, _), (left, right, _) = spans[2:]
    return top, left, shape[2] - bottom, shape[3] - right
