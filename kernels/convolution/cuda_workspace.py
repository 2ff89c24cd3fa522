"""What the gradient by the weights works in on a device.

Nothing here is compiled, so that a pass can be planned where nothing can be.
"""

from kernels.convolution import most_partial_sums


def partial_bytes(weights: int, pixels: int) -> int:
    """The most bytes of partial sums, of a gradient of ``weights`` bytes over ``pixels`` pixels."""
    return min(pixels, most_partial_sums(weights)) * weights
