"""Which arrays the CUDA operators accept: device arrays of any library, without a copy.

They come through the CUDA array interface (version 3 and older). The device waits for the work that
is pending on an array's stream.
"""

import functools
import inspect

import numpy as np

from kernels import checks
from kernels.device.api import SIMULATING, cuda
from kernels.device.launching import is_recording
from kernels.device.limits import check_shape
from kernels.device.streams import wait_for

if SIMULATING:
    from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray as DeviceArray
else:
    from numba.cuda.cudadrv.devicearray import DeviceNDArray as DeviceArray


def operator(function):
    """Declare a public function of an operator: its device arrays arrive as arrays of Numba.

    Raises:
        TypeError: an array in the host's memory; or as ``view``.
        ValueError: as ``view``.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def with_views(*arguments, **options):
        bound = signature.bind(*arguments, **options)
        for name, value in bound.arguments.items():
            bound.arguments[name] = _viewed(name, value)
        return function(*bound.args, **bound.kwargs)

    return with_views


def _viewed(name, value):
    if isinstance(value, (tuple, list)):
        return type(value)(_viewed(f"{name}[{i}]", v) for i, v in enumerate(value))
    if checks.lies_on_device(name, value):
        return view(name, value)
    if is_recording() and hasattr(value, "shape"):
        check_shape(name, value.shape)
    elif isinstance(value, np.ndarray):
        raise TypeError(
            f"{name} is a NumPy array; expected an array in the device's memory, where "
            "memory.to_device copies it"
        )
    return value


def view(name: str, array):
    """``array`` of any library, on the current device, as an array of Numba; no copy.

    Raises:
        TypeError: its library does not export it.
        ValueError: it lies on another device, or is too large for 32-bit indices.
    """
    if not getattr(array, "__cuda_ndarray__", False):
        array = wrapped(array)
    check_shape(name, array.shape)
    if is_on_another_device(array):
        raise ValueError(f"{name} lies on another device; expected the current one's memory")
    wait_for(array.stream)
    return array


def wrapped(array):
    """The memory of ``array``, anything with ``__cuda_array_interface__``, as an array of Numba."""
    if not SIMULATING:
        return cuda.as_cuda_array(array, sync=False)
    # The simulator's device memory is the host's, and both interfaces have the same format
    interface = array.__cuda_array_interface__
    on_host = type("OnHost", (), {"__array_interface__": interface, "owner": array})()
    return DeviceArray(np.asarray(on_host))


def is_on_another_device(array) -> bool:
    """Whether an array of Numba lies on another device than the current one."""
    if SIMULATING or len(cuda.gpus) == 1 or array.size == 0:
        return False
    from numba.cuda.cudadrv import driver

    ordinal = driver.binding.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    pointer = driver.device_pointer(array)
    return driver.driver.cuPointerGetAttribute(ordinal, pointer) != cuda.get_current_device().id
