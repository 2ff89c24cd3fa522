"""Gradient by listed input cells: two ways, of which the counts of cells choose one.

    dx[c, m] = sum over k and all (p, i, j) with rows[i, p] + j = m of w[k, c, i, j] * e[k, p]

The table also tells, for each cell, which window's row i begins there, so that both gather. Where
most cells are read by most taps, this is the product of ``convolution.cuda_gradient_input``, whose
pixels look up their errors once for each tap: nothing else changes in its loop. It multiplies M * T
times for each channel and filter (T taps), P * T times by an error that is not 0. Where outputs are
few beside the cells, all products w * e are summed over the filters first, as a matrix product of
(c, i, j) x k and k x p that wastes nothing, and each cell then adds up its own, tap by tap. No
atomics, and one order of the sums.

Multiply-adds: M*C*K*kh*kw, or P*C*K*kh*kw. Workspace: a copy of the weights; the products of some
channels at a time, at most ``PARTIAL_BYTES``, unless one channel takes more.
"""

from functools import cache

from kernels.convolution import ConvolutionShape, cuda_forward
from kernels.convolution.cuda_gradient_input import Neighbours, Part, gatherer, pack
from kernels.convolution.cuda_tile import Tile
from kernels.device.api import cuda, device, kernel, u32
from kernels.device.indices import divmod_u32
from kernels.device.launching import launch, launch_over
from kernels.device.limits import ELEMENTWISE_THREADS, flat
from kernels.listed_convolution import ListedShape
from kernels.memory import cuda as memory
from kernels.window import Window

# Multiply-adds that take as long as writing and rereading a product: 8 bytes of float32 at the peak
# and bandwidth of an A100 are 40, of an H100 80 (``experiments/profiling/devices.py``)
PRODUCT_MOVED = 64


@cache
def _of_lists(tile: Tile):
    """The neighbours of listed cells, whose positions are (their numbers)."""
    lanes, chunks = u32(tile.warp_threads), tile.chunks

    @device
    def open_cells(first_pixel, positions, places, g):
        for m in range(chunks):
            positions[0][m] = u32(first_pixel + u32(m) * lanes)

    @device
    def move(tap, j, table, positions, places, present, g):
        cells, outputs, count = positions[0], u32(g.output[1]), u32(g.size[1])
        i, j = divmod_u32(tap, g.taps[1])
        readers = u32(u32(i * u32(outputs + count)) + outputs - j)
        for m in range(chunks):
            present[m], places[m] = u32(0), u32(0)
            if cells[m] >= j and cells[m] < count:
                reader = table[u32(readers + cells[m])]
                if reader >= 0:
                    present[m], places[m] = u32(1), u32(reader)
        return j

    return Neighbours(open_cells, move)


@cache
def _gradient_kernel(tile: Tile, dtype):
    gather = gatherer(tile, dtype, _of_lists(tile))

    @kernel(tile.threads, tile.blocks, tile=tile)
    def listed_convolution_gradient_input(
        error,  # K*P
        rows,  # kh*(P + M)
        packed,  # steps x channels and more; steps are taps x filters
        pitch,  # of the steps in packed
        gradient,  # C*M
        g,  # Part
    ):
        gather(error, rows, packed, pitch, gradient, g)

    return listed_convolution_gradient_input


@cache
def _sum_kernel(dtype):
    @kernel(ELEMENTWISE_THREADS)
    def sum_products(
        products,  # channels*kh*kw*P
        rows,  # kh*(P + M)
        gradient,  # C*M
        first,  # channel
        count,  # of cells, channels*M
        outputs,  # P
        cells,  # M
        size,  # (kh, kw)
    ):
        at = u32(cuda.grid(1))
        if at < u32(count):
            c, m = divmod_u32(at, cells)
            outputs, width = u32(outputs), u32(size[1])
            columns, total = u32(outputs + u32(cells)), dtype(0)
            of_channel = u32(c * u32(u32(size[0]) * width) * outputs)
            for i in range(size[0]):
                readers, j = u32(i * columns + outputs + m), u32(0)
                while j < width:
                    if j <= m:
                        reader = rows[u32(readers - j)]
                        if reader >= 0:
                            total += products[u32(of_channel + u32(reader))]
                    of_channel, j = u32(of_channel + outputs), u32(j + u32(1))
            gradient[u32(u32(first) * u32(cells) + at)] = total

    return sum_products


def is_gathered(shape: ListedShape) -> bool:
    """Whether each cell multiplies the errors of all of its taps: then zeros, too, which costs less
    than moving products where there are few cells for each output, or few filters."""
    return shape.cells * shape.filters <= shape.outputs * (shape.filters + PRODUCT_MOVED)


def gather(error, rows, weights, shape: ListedShape, tile: Tile):
    """dx for checked arguments, if ``is_gathered``."""
    gradient, one = memory.empty(shape.x, error.dtype), (1, 1)
    part = Part(
        batch=1,
        channels=shape.channels,
        filters=shape.filters,
        first_pixel=(0, 0),
        pixel_step=one,
        size=(1, shape.cells),
        image_size=(1, shape.cells),
        first_tap=(0, 0),
        tap_step=one,
        taps=shape.kernel,
        kernel=shape.kernel,
        shift=(0, 0),
        step=one,
        output=(1, shape.outputs),
    )
    packed, pitch = pack(weights, part, tile)
    arrays = flat("error", error), flat("rows", rows), packed, pitch, flat("gradient", gradient)
    launch(_gradient_kernel(tile, error.dtype.type), part.blocks(tile), tile.threads, *arrays, part)
    return gradient


def add_products(error, rows, weights, shape: ListedShape, at_once: int, tile: Tile):
    """dx for checked arguments, from the products of ``at_once`` channels at a time."""
    gradient = memory.empty(shape.x, error.dtype)
    taps, outputs = shape.kernel[0] * shape.kernel[1], shape.outputs
    products = memory.empty((at_once * taps * outputs,), error.dtype)
    for first in range(0, shape.channels, at_once):
        channels = min(at_once, shape.channels - first)
        size, rows_of_weights = (1, outputs), channels * taps
        of_product = ConvolutionShape(1, shape.filters, size, rows_of_weights, Window((1, 1)), size)
        places = first * taps, 1, shape.taps
        cuda_forward.convolve(error, weights, places, None, products, of_product, None, tile)
        count = channels * shape.cells
        arrays = products, flat("rows", rows), flat("gradient", gradient)
        sizes = first, count, outputs, shape.cells, shape.kernel
        launch_over(_sum_kernel(error.dtype.type), count, *arrays, *sizes)
    return gradient
