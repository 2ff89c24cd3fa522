"""Arrays of another library: device memory, and nothing to know it by but the interface."""

import numpy as np

ON_DEVICE = ("cuda", "simulator")


class Foreign:
    """A copy of a host array in the device's memory, with the array's own strides.

    Attributes:
        reads: how often somebody asked for the interface.
    """

    def __init__(self, memory, array, stream=None):
        last = sum((n - 1) * s for n, s in zip(array.shape, array.strides)) // array.itemsize
        cells = np.lib.stride_tricks.as_strided(array, (last + 1,), (array.itemsize,))
        self.memory = memory.to_device(cells if array.size else array)
        self.array, self.stream, self.reads = array, stream, 0

    @property
    def pointer(self):
        """The address of the first element."""
        return interface(self.memory)["data"][0]

    @property
    def __cuda_array_interface__(self):
        self.reads += 1
        return {
            "shape": self.array.shape,
            "strides": self.array.strides,
            "typestr": self.array.dtype.str,
            "data": (self.pointer, False),
            "stream": self.stream,
            "version": 3,
        }


def interface(array):
    """Where a device array lies; the simulator's are the host's."""
    theirs = getattr(array, "__cuda_array_interface__", None)
    return theirs or array.__array_interface__
