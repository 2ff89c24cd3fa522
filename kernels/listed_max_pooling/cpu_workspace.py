"""How the host takes maxima over listed cells, and what that takes of memory.

Nothing here is compiled, so that a pass can be planned where nothing can be.
"""

from kernels.host.vectors import BYTES
from kernels.max_pooling.cpu_workspace import MOST_PARTS
from kernels.window import Window

LARGE = 16
"""Cells of a window from which on a map is too large to be read once for each of them."""
ROWS = 64
"""Rows of cells whose maxima a thread takes at once."""


def shares_rows(window: Window, outputs: int, cells: int, channels: int, itemsize: int) -> bool:
    """Whether maxima over rows of cells are taken first: of large windows which, together, have at
    least as many rows as there are cells for one to begin at."""
    rows = outputs * window.kernel[0]
    fits = window.kernel[0] <= MOST_PARTS and channels * itemsize >= BYTES
    return fits and window.cells > LARGE and rows >= cells > 0


def thread_numbers(window: Window, channels: int) -> int:
    """Numbers that a thread works in, which takes the maxima over ``ROWS`` rows."""
    return (ROWS + window.kernel[1] - 1) * channels + BYTES


def workspace(
    window: Window, outputs: int, cells: int, channels: int, itemsize: int, argmax: bool
) -> tuple[tuple[int, ...], int, int]:
    """(bytes of each array that a forward pass works in, of a thread, parts of the work): the order
    of the windows, and the maxima over rows with the numbers of their cells."""
    order = 8 * outputs
    if not shares_rows(window, outputs, cells, channels, itemsize):
        return (order,), 0, 1
    kinds, starts = 1 + argmax, cells - window.kernel[1] + 1
    maxima = [starts * channels * itemsize] * kinds
    of_a_thread = kinds * thread_numbers(window, channels) * itemsize
    return (order, *maxima), of_a_thread, -(-starts // ROWS)
