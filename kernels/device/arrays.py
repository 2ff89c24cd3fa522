"""Calls of the CUDA operators, and the arrays that they accept: of any library, without a copy.

They come through the CUDA array interface (version 3 and older). The device waits for the work that
is pending on an array's stream.
"""

import contextlib
import functools
import inspect
from typing import NamedTuple

import numpy as np

from kernels import checks
from kernels.device.api import SIMULATING, cuda
from kernels.device.launching import is_planning, is_recording
from kernels.device.limits import check_shape
from kernels.device.multiprocessors import multiprocessors
from kernels.device.plans import Plan
from kernels.device.pool import current
from kernels.device.streams import settled, stream, wait_for

if SIMULATING:
    from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray as DeviceArray
else:
    from numba.cuda.cudadrv.devicearray import DeviceNDArray as DeviceArray


# Plans that are kept of an operator
MOST_PLANS = 256
_PLAIN = {int, str, bool, type(None)}


class _Like(NamedTuple):
    """All that a plan depends on of an array."""

    shape: tuple
    strides: tuple | None
    dtype: np.dtype


def operator(function):
    """Declare a public function of an operator, which allocates and launches.

    It runs once per combination of shapes and options, on placeholders for the arrays (see
    ``kernels.device.plans``); its plan is kept. Its device arrays may be of any library.

    Raises:
        TypeError: an array in the host's memory; or as ``view``.
        ValueError: as ``view``.
    """
    names, plans = list(inspect.signature(function).parameters), {}

    @functools.wraps(function)
    def planned(*arguments, **options):
        if is_planning():  # an operator that is part of another
            return function(*arguments, **options)
        if is_recording():
            return called(None, arguments, options)
        with settled() as here:
            return called(here, arguments, options)

    def called(here, arguments, options):
        arrays: list = []
        named = [*zip(names, arguments), *options.items()]
        like = [_like(name, value, here, arrays) for name, value in named]
        # What is only recorded has no stream, and is for a device all the same
        key = here or multiprocessors(), len(arguments), *options, *like
        plan = _found(plans, key)
        if plan is None:
            plan = Plan(here)
            replaced = [_with_placeholders(n, v, k, plan) for (n, v), k in zip(named, like)]
            positional = len(replaced) - len(options)
            given = *replaced[:positional], *arguments[positional:]  # too many are the function's
            plan.make(function, given, dict(zip(options, replaced[positional:])))
            _keep(plans, key, plan)
        return plan.run(arrays)

    return planned


def _found(plans, key):
    try:
        return plans.get(key)
    except TypeError:  # an argument that cannot be hashed
        return None


def _keep(plans, key, plan):
    with contextlib.suppress(TypeError, StopIteration, KeyError):
        plans[key] = plan
        if len(plans) > MOST_PLANS:
            del plans[next(iter(plans))]


def _like(name, value, here, arrays):
    """What a plan depends on of an argument, whose arrays are appended to ``arrays``."""
    kind = type(value)
    if kind in _PLAIN:
        return kind, value
    if kind is float:
        return kind, value.hex()  # 0.0 is not -0.0
    if kind is tuple or kind is list:
        if _PLAIN.issuperset(map(type, value)):
            return kind, *map(type, value), *value
        return kind, *(_like(f"{name}[{i}]", v, here, arrays) for i, v in enumerate(value))
    if kind is DeviceArray:
        array = _ready(name, value, here)
    elif checks.lies_on_device(name, value):
        array = view(name, value)
    elif here is None and hasattr(value, "shape"):
        array = value
    elif isinstance(value, np.ndarray):
        raise TypeError(
            f"{name} is a NumPy array; expected an array in the device's memory, where "
            "memory.to_device copies it"
        )
    else:
        return kind, value
    arrays.append(array)
    return _Like(array.shape, array.strides, array.dtype)


def _with_placeholders(name, value, like, plan):
    """An argument with placeholders for its arrays."""
    if type(like) is _Like:
        check_shape(name, like.shape)
        return plan.given(like.shape, like.dtype, like.strides)
    if type(value) in (tuple, list) and not _PLAIN.issuperset(map(type, value)):
        each = enumerate(zip(value, like[1:]))
        return type(value)(_with_placeholders(f"{name}[{i}]", v, k, plan) for i, (v, k) in each)
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
    return _ready(name, array, stream())


def _ready(name, array, here):
    """An array of Numba, on the current device, whose pending work the stream ``here`` awaits."""
    if is_on_another_device(array):
        raise ValueError(f"{name} lies on another device; expected the current one's memory")
    if getattr(array, "stream", here) is not here:
        wait_for(array.stream)
        if pool := current():
            pool.use(array, here)
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
