"""What the kernels of a convolution over maps know of its shape."""

from __future__ import annotations

from typing import NamedTuple

from kernels.checks import Pair
from kernels.convolution import ConvolutionShape
from kernels.device.api import device, u32
from kernels.device.indices import unravel


class ConvolutionSizes(NamedTuple):
    """Extents of a convolution, and distances between elements of its input."""

    filters: int
    taps: int  # C*kh*kw
    kernel: Pair
    output: Pair
    output_plane: int  # Ho*Wo
    pixels: int  # N*Ho*Wo
    image: int  # C*H*W
    plane: int  # H*W
    pixel: Pair  # sy*W, sx
    tap: Pair  # dy*W, dx

    @classmethod
    def of(cls, shape: ConvolutionShape) -> ConvolutionSizes:
        """The sizes of a convolution."""
        (h, w), (ho, wo) = shape.size, shape.output
        (sy, sx), (dy, dx) = shape.window.stride, shape.window.dilation
        return cls(
            filters=shape.filters,
            taps=shape.taps,
            kernel=shape.window.kernel,
            output=shape.output,
            output_plane=ho * wo,
            pixels=shape.batch * ho * wo,
            image=shape.channels * h * w,
            plane=h * w,
            pixel=(sy * w, sx),
            tap=(dy * w, dx),
        )


@device
def tap_offset(t, g):
    """From the input of the first tap of a window to that of the tap t = (c, i, j)."""
    channel, i, j = unravel(t, g.kernel)
    return u32(channel * u32(g.plane) + i * u32(g.tap[0]) + j * u32(g.tap[1]))
