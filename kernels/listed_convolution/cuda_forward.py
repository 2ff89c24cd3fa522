"""Forward convolution of listed cells: the implicit matrix product of ``kernels.convolution``, with
windows that begin where the list says.

    y[k, p] = f(b[k] + sum over t = (c, i, j) of w[k, t] * x[c, rows[i, p] + j])

The tiles, the main loop and the order of the sums are those of ``convolution.cuda_forward``, and so
are the bits. What differs is where a slice's pixels come from: for each of its steps, a warp looks
up where row i of its pixels' windows begins, 32 neighbours of the table at a time, one slice ahead.
That is one more load for each pixel, and no more instructions: in exchange the distance of a step
joins the address once and not for each pixel. A window of one cell has one origin, looked up once.

Multiply-adds: P*K*C*kh*kw. Workspace: a copy of the weights, and one of the table, its rows rounded
up to whole tiles, so that no look-up has to be clamped.
"""

from functools import cache

from kernels.convolution import cuda_forward
from kernels.convolution.cuda_forward import PixelSource
from kernels.convolution.cuda_sizes import ConvolutionSizes
from kernels.convolution.cuda_tile import Tile
from kernels.device.api import cuda, device, kernel, u32
from kernels.device.indices import divmod_u32, unravel
from kernels.device.launching import launch, launch_over
from kernels.device.limits import ELEMENTWISE_THREADS, ceil_division, flat
from kernels.device.loads import load_from, place_of
from kernels.listed_convolution import ListedShape
from kernels.memory import cuda as memory

# The most places of a thread that registers hold from one slice to the next; more are looked up as
# they are needed
MOST_ORIGINS = 16


@cache
def _table_kernel():
    @kernel(ELEMENTWISE_THREADS)
    def pack_rows(
        rows,  # kh*(P + M)
        origins,  # kh rows of whole tiles
        row_offsets,  # steps and more, clamped to the last tap
        columns,  # P + M
        pitch,  # of the rows in origins
        g,  # ConvolutionSizes
    ):
        at = u32(cuda.grid(1))
        if at < origins.size:
            i, p = divmod_u32(at, pitch)
            p = u32(min(p, u32(u32(g.pixels) - u32(1))))
            origins[at] = u32(rows[u32(i * u32(columns) + p)])
        if at < row_offsets.size:
            _, i, _ = unravel(min(at, u32(u32(g.taps) - u32(1))), g.kernel)
            row_offsets[at] = u32(i * u32(pitch))

    return pack_rows


@cache
def _list_source(tile: Tile):
    """Pixels of a list, whose tables are (offsets of the taps, their rows of origins, origins)."""
    warps, lanes = u32(tile.warp_count), u32(tile.warp_threads)
    chunks, steps = tile.chunks, tile.warp_steps
    ahead = tile.pixels_fetched <= MOST_ORIGINS

    @device
    def open_nothing(first_pixel, tables, origins, g):
        pass

    @device
    def origins_of(row, table, origins, first):
        of_row = place_of(table, row)
        for m in range(chunks):
            origins[first + m] = load_from(table, of_row, u32(u32(m) * lanes))

    @device
    def locate(step, source):
        (_, tables, _, origins, distances, _), (warp, _, _, _, first_pixel) = source
        offsets, row_offsets, table = tables
        first = u32(step + warp)
        of_offsets, of_rows = place_of(offsets, first), place_of(row_offsets, first)
        for q in range(steps):
            distances[q] = load_from(offsets, of_offsets, u32(u32(q) * warps))
            row = u32(load_from(row_offsets, of_rows, u32(u32(q) * warps)) + first_pixel)
            if ahead:
                origins_of(row, table, origins, q * chunks)
            else:
                origins[chunks + q] = row

    @device
    def fetch(source, pixels):
        (x, tables, _, origins, distances, _), _ = source
        for q in range(steps):
            of_step = place_of(x, distances[q])
            if not ahead:
                origins_of(origins[chunks + q], tables[2], origins, 0)
            for m in range(chunks):
                origin = origins[q * chunks + m] if ahead else origins[m]
                pixels[q * chunks + m] = load_from(x, of_step, origin)

    return PixelSource(chunks * steps if ahead else chunks + steps, open_nothing, locate, fetch)


@cache
def _pointwise_source(tile: Tile):
    """Pixels of a list whose windows have one cell: a step is a channel."""
    warps, lanes = u32(tile.warp_count), u32(tile.warp_threads)
    chunks, steps = tile.chunks, tile.warp_steps

    @device
    def open_cells(first_pixel, tables, origins, g):
        for m in range(chunks):
            origins[m] = tables[2][u32(first_pixel + u32(m) * lanes)]

    @device
    def locate(step, source):
        (_, _, _, _, distances, _), (warp, plane, _, _, _) = source
        for q in range(steps):
            distances[q] = u32(u32(u32(step + warp) + u32(q) * warps) * plane)

    return PixelSource(chunks, open_cells, locate, cuda_forward.map_fetcher(tile))


@cache
def _forward_kernel(tile: Tile, dtype, activation, pointwise):
    source = (_pointwise_source if pointwise else _list_source)(tile)
    convolve = cuda_forward.convolver(tile, dtype, activation, source)

    @kernel(tile.threads, tile.blocks, tile=tile)
    def listed_convolution_forward(
        x,  # C*M
        offsets,  # steps and more
        row_offsets,  # steps and more
        origins,  # kh rows of whole tiles
        packed,  # steps x filters and more
        bias,  # K
        y,  # K*P
        pitch,  # of the steps in packed
        biased,
        g,  # ConvolutionSizes
    ):
        convolve(x, (offsets, row_offsets, origins), packed, bias, y, pitch, biased, g)

    return listed_convolution_forward


def sizes_of(shape: ListedShape) -> ConvolutionSizes:
    """The sizes of a list's convolution: of a map of one row, whose windows begin anywhere."""
    return ConvolutionSizes(
        filters=shape.filters,
        taps=shape.taps,
        kernel=shape.kernel,
        output=(1, shape.outputs),
        output_plane=shape.outputs,
        pixels=shape.outputs,
        image=shape.channels * shape.cells,
        plane=shape.cells,
        pixel=(0, 1),
        tap=(0, 1),
    )


def forward(x, rows, weights, bias, shape: ListedShape, activation, tile: Tile):
    """y for checked arguments; see ``kernels.listed_convolution.cuda.forward``."""
    y, sizes = memory.empty(shape.y, x.dtype), sizes_of(shape)
    packed, offsets, pitch = cuda_forward.pack(weights, (0, shape.taps, 1), sizes, tile)
    row_pitch = ceil_division(shape.outputs, tile.width) * tile.width
    origins = memory.empty((shape.kernel[0] * row_pitch,), "uint32")
    row_offsets = memory.empty(offsets.shape, "uint32")
    table = flat("rows", rows), origins, row_offsets, rows.shape[1], row_pitch, sizes
    launch_over(_table_kernel(), max(origins.size, offsets.size), *table)
    pointwise = shape.kernel == (1, 1) and shape.channels >= tile.depth
    launch(
        _forward_kernel(tile, x.dtype.type, activation, pointwise),
        (ceil_division(shape.outputs, tile.width), ceil_division(shape.filters, tile.height)),
        tile.threads,
        flat("x", x),
        offsets,
        row_offsets,
        origins,
        packed,
        flat("weights", weights) if bias is None else bias,
        flat("y", y),
        pitch,
        bias is not None,
        sizes,
    )
    return y
