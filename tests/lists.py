"""Lists of cells as the tests write them, M x C x 1 x 1 with tables P x kh, and as a backend takes
them (``kernels.listed_cells``)."""

import inspect

import numpy as np

from tests.foreign import ON_DEVICE

LISTS = ("x", "error", "argmax")
NO_LISTS = ("listed_convolution.gradient_weights", "listed_cells.gather_backward")
"""Operators on lists whose result is none."""


def in_layout(backend, name, arguments):
    """The arguments, on the backend, of the operator ``name``; only those of lists change."""
    folder, function = name.split(".")
    if backend.name not in ON_DEVICE or not folder.startswith("listed_"):
        return arguments
    parameters = inspect.signature(getattr(getattr(backend, folder), function)).parameters
    given = dict(zip(parameters, arguments))
    cells = given["x"].shape[0] if "x" in given else given.get("cells")
    turned = [_turned(backend, name, key, value, cells) for key, value in given.items()]
    return type(arguments)(turned)


def _turned(backend, name, key, value, cells):
    if key in LISTS and hasattr(value, "shape"):
        return by_channel(backend, value)
    if key == "rows" and not name.startswith("listed_cells"):
        return backend.listed_cells.table(value, cells)
    return value


def by_channel(backend, array):
    """A list M x C x 1 x 1 on a device as 1 x C x 1 x M."""
    host = backend.memory.to_host(array)
    return backend.memory.to_device(host.transpose(3, 1, 2, 0).copy())


def by_cell(backend, name, result):
    """What an operator on lists returned, on the host, with lists as M x C x 1 x 1."""
    listed = name.startswith("listed_") and name not in NO_LISTS
    if backend.name not in ON_DEVICE or not listed or name == "listed_cells.table":
        return result
    if isinstance(result, tuple):
        return tuple(by_cell(backend, name, each) for each in result)
    return None if result is None else result.transpose(3, 1, 2, 0).copy()


def table(rows, cells):
    """The table of ``rows``, P x kh, over so many cells as a device has it."""
    readers = np.full((rows.shape[1], cells), -1, np.int32)
    for i, begins in enumerate(rows.T):
        readers[i, begins] = np.arange(len(rows))
    return np.concatenate([rows.T, readers], axis=1)
