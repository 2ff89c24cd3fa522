"""The door of the CUDA operators: whose arrays they take, and what they make sure of first.

Any library's device arrays will do, through the CUDA array interface (version 3 and older): they
are read where they lie. Work that their own stream still has to do is waited for on the device.
"""

import functools
import inspect

import numpy as np

from kernels import cuda_api, geometry


def operator(function):
    """Declare a function of an operator: what it is called with are arrays of Numba, all checked.

    Raises:
        TypeError, ValueError: as ``view``, naming the argument; or an array of the host.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def at_the_door(*arguments, **options):
        bound = signature.bind(*arguments, **options)
        for name, value in bound.arguments.items():
            bound.arguments[name] = _entered(name, value)
        return function(*bound.args, **bound.kwargs)

    return at_the_door


def _entered(name, value):
    if isinstance(value, (tuple, list)):
        return type(value)(_entered(f"{name}[{i}]", v) for i, v in enumerate(value))
    if geometry.lies_on_device(name, value):
        return view(name, value)
    if cuda_api.is_recording() and hasattr(value, "shape"):
        cuda_api.check_shape(name, value.shape)
    elif isinstance(value, np.ndarray):
        raise TypeError(
            f"{name} is a NumPy array; expected an array in the device's memory, where "
            "memory.to_device copies it"
        )
    return value


def view(name: str, array):
    """``array`` of any library, on the current device, as an array of Numba; no copy.

    Raises:
        TypeError: its library does not give it away.
        ValueError: it lies on another device, or is too large for 32-bit indices.
    """
    if not getattr(array, "__cuda_ndarray__", False):
        array = cuda_api.wrapped(array)
    cuda_api.check_shape(name, array.shape)
    if cuda_api.is_on_another_device(array):
        raise ValueError(f"{name} lies on another device; expected the current one's memory")
    cuda_api.wait_for(array.stream)
    return array
