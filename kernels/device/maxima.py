"""The rule of maxima, the same in all poolings."""

from kernels.device.api import device


@device
def wins(value, best):
    """Whether a later value replaces the best so far: of equals the first stays, and the first NaN
    beats everything."""
    return not (value <= best) and best == best
