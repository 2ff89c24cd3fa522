"""Arithmetic of indices: unsigned, 32 bits (see ``kernels.device.limits``)."""

from kernels.device.api import device, u32


@device
def divmod_u32(a, b):
    """(a // b, a % b), with one division.

    For a ``b`` known only at run time, by which ``//`` and ``%`` would each divide. By a constant
    neither divides, so that kernels use the operators there.
    """
    quotient = u32(u32(a) // u32(b))
    return quotient, u32(u32(a) - quotient * u32(b))


@device
def unravel(at, size):
    """(plane, y, x) of an element of maps of ``size`` (H, W) that lie one after the other."""
    row, x = divmod_u32(at, size[1])
    plane, y = divmod_u32(row, size[0])
    return plane, y, x
