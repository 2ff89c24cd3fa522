"""From one thread per output to the tile: the forward convolution in five small kernels.

``docs/kernels.md`` climbs this ladder and quotes it. All rungs convolve one image, float32, with
stride 1, and give what the reference gives; each is compiled for what it adds to the one before.
"""

import re
from pathlib import Path

import numpy as np
import pytest

from kernels import get_backend
from kernels.convolution import forward_shape
from kernels.convolution.cuda_sizes import ConvolutionSizes
from kernels.convolution.cuda_tile import in_turn
from kernels.device import api
from kernels.device.api import cuda, device, kernel, u32
from kernels.device.indices import divmod_u32, unravel
from kernels.device.launching import launch, recorded
from kernels.device.limits import ceil_division, flat
from tests.conftest import CUDA, SIMULATOR

MISSING = api.why_uncompilable()
PAGE = Path(__file__).parents[2] / "docs" / "kernels.md"

f32 = np.float32


@kernel(256)
def one_thread_an_output(x, weights, y, dilation):
    at = cuda.grid(1)
    if at < y.size:
        ox = at % y.shape[2]
        oy = at // y.shape[2] % y.shape[1]
        k = at // y.shape[2] // y.shape[1]
        total = f32(0)
        for c in range(weights.shape[1]):
            for i in range(weights.shape[2]):
                for j in range(weights.shape[3]):
                    total += weights[k, c, i, j] * x[c, oy + i * dilation, ox + j * dilation]
        y[k, oy, ox] = total


@kernel(256)
def unsigned_indices(x, weights, y, g):
    at = u32(cuda.grid(1))
    if at < y.size:
        k, oy, ox = unravel(at, g.output)
        window = u32(oy * u32(g.pixel[0]) + ox)
        tap, total = u32(k * u32(g.taps)), f32(0)
        end = u32(tap + u32(g.taps))
        while tap < end:  # a channel, a row of the window, a cell of the row
            i = u32(0)
            while i < u32(g.kernel[0]):
                j, cell = u32(0), u32(window + i * u32(g.tap[0]))
                while j < u32(g.kernel[1]):
                    total += weights[tap] * x[cell]
                    tap, j, cell = u32(tap + u32(1)), u32(j + u32(1)), u32(cell + u32(g.tap[1]))
                i = u32(i + u32(1))
            window = u32(window + u32(g.plane))
        y[at] = total


@device
def window_of(p, g):
    """Where the window of the pixel p begins in a channel, clamped to the last pixel."""
    oy, ox = divmod_u32(min(p, u32(u32(g.pixels) - u32(1))), g.output[1])
    return u32(oy * u32(g.pixel[0]) + ox)


@device
def input_at(x, window, t, offsets):
    """What the tap t of a window reads, clamped to the last tap."""
    return x[u32(window + offsets[min(t, u32(offsets.size - 1))])]


@device
def weight_at(weights, k, t, g):
    """The weight of the filter k at the tap t; beyond the last of either, 0."""
    exists = k < u32(g.filters) and t < u32(g.taps)
    return weights[u32(k * u32(g.taps) + t)] if exists else f32(0)


@device
def write(y, k, p, total, g):
    if k < u32(g.filters) and p < u32(g.pixels):
        y[u32(k * u32(g.pixels) + p)] = total


@kernel(256)
def shared_tile(x, weights, offsets, y, g):
    weight_tile = cuda.shared.array(8 * 8, f32)  # taps x filters
    pixel_tile = cuda.shared.array(8 * 32, f32)  # taps x pixels
    row, column = divmod_u32(cuda.threadIdx.x, 32)
    k, p = u32(u32(cuda.blockIdx.y) * u32(8) + row), u32(u32(cuda.blockIdx.x) * u32(32) + column)
    window, total = window_of(p, g), f32(0)
    t = u32(0)
    while t < u32(g.taps):
        pixel_tile[u32(row * u32(32) + column)] = input_at(x, window, u32(t + row), offsets)
        if column < u32(8):
            weight_tile[u32(column * u32(8) + row)] = weight_at(weights, k, u32(t + column), g)
        cuda.syncthreads()
        for s in range(8):
            total += weight_tile[u32(u32(s * 8) + row)] * pixel_tile[u32(u32(s * 32) + column)]
        cuda.syncthreads()
        t = u32(t + u32(8))
    write(y, k, p, total, g)


@device
def fetch(x, weights, offsets, windows, k, t, g, values):
    """Take a thread's share of 8 taps from t on: of 128 pixels 4, of 32 filters 1."""
    row, column = divmod_u32(cuda.threadIdx.x, 32)
    for n in range(4):
        values[n] = input_at(x, windows[n], u32(t + row), offsets)
    values[4] = weight_at(weights, u32(k + column), u32(t + row), g)


@device
def store(values, weight_tile, pixel_tile, buffer):
    row, column = divmod_u32(cuda.threadIdx.x, 32)
    for n in range(4):
        pixel_tile[u32(buffer * u32(1024) + row * u32(128) + column) + u32(n * 32)] = values[n]
    weight_tile[u32(buffer * u32(256) + row * u32(32) + column)] = values[4]


def multiply_step(s):
    @device
    def multiply(weight_tile, pixel_tile, buffer, sums):
        """Add the tap s of 8 to a thread's 4 x 4 sums: 8 values read for 16 multiply-adds."""
        a = cuda.local.array(4, f32)
        b = cuda.local.array(4, f32)
        row, column = divmod_u32(cuda.threadIdx.x, 32)
        first, second = u32(buffer * u32(256) + row * u32(4)), u32(buffer * u32(1024) + column)
        for m in range(4):
            a[m] = weight_tile[first + u32(s * 32 + m)]
            b[m] = pixel_tile[second + u32(s * 128 + m * 32)]
        for m in range(4):
            for n in range(4):
                sums[m * 4 + n] += a[m] * b[n]

    return multiply


multiply = in_turn([multiply_step(s) for s in range(8)])


@device
def begin(windows, sums, g):
    """The first filter of the block, and the first pixel of the thread."""
    p = u32(u32(cuda.blockIdx.x) * u32(128) + u32(cuda.threadIdx.x) % u32(32))
    for n in range(4):
        windows[n] = window_of(u32(p + u32(n * 32)), g)
    for m in range(16):
        sums[m] = f32(0)
    return u32(u32(cuda.blockIdx.y) * u32(32)), p


@device
def write_tile(y, k, p, sums, g):
    k = u32(k + u32(cuda.threadIdx.x) // u32(32) * u32(4))
    for m in range(4):
        for n in range(4):
            write(y, u32(k + u32(m)), u32(p + u32(n * 32)), sums[m * 4 + n], g)


@kernel(256)
def register_tile(x, weights, offsets, y, g):
    weight_tile = cuda.shared.array(8 * 32, f32)
    pixel_tile = cuda.shared.array(8 * 128, f32)
    sums = cuda.local.array(16, f32)
    windows = cuda.local.array(4, u32)
    values = cuda.local.array(5, f32)
    k, p = begin(windows, sums, g)
    t, buffer = u32(0), u32(0)
    while t < u32(g.taps):
        fetch(x, weights, offsets, windows, k, t, g, values)
        store(values, weight_tile, pixel_tile, buffer)
        cuda.syncthreads()
        multiply(weight_tile, pixel_tile, buffer, sums)
        cuda.syncthreads()
        t = u32(t + u32(8))
    write_tile(y, k, p, sums, g)


@kernel(256)
def double_buffered(x, weights, offsets, y, g):
    weight_tile = cuda.shared.array(2 * 8 * 32, f32)
    pixel_tile = cuda.shared.array(2 * 8 * 128, f32)
    sums = cuda.local.array(16, f32)
    windows = cuda.local.array(4, u32)
    values = cuda.local.array(5, f32)
    k, p = begin(windows, sums, g)
    t, buffer = u32(8), u32(0)
    fetch(x, weights, offsets, windows, k, u32(0), g, values)
    store(values, weight_tile, pixel_tile, buffer)
    cuda.syncthreads()
    while t < u32(g.taps):
        fetch(x, weights, offsets, windows, k, t, g, values)
        multiply(weight_tile, pixel_tile, buffer, sums)
        buffer = u32(buffer ^ u32(1))
        store(values, weight_tile, pixel_tile, buffer)
        cuda.syncthreads()
        t = u32(t + u32(8))
    multiply(weight_tile, pixel_tile, buffer, sums)
    write_tile(y, k, p, sums, g)


# Filters and pixels of a block; the threads of the first two rungs have nothing in common
TILES = {shared_tile: (8, 32), register_tile: (32, 128), double_buffered: (32, 128)}
LADDER = (one_thread_an_output, unsigned_indices, *TILES)


def name_of(rung):
    return getattr(rung.py_func, "__name__", None) or rung.py_func.function.__name__


def convolve(rung, x, weights, y, dilation: int, to_device):
    """Launch a rung: C x H x W to K x Ho x Wo."""
    if rung is one_thread_an_output:
        return launch(rung, ceil_division(y.size, 256), 256, x, weights, y, dilation)
    sizes = ConvolutionSizes.of(
        forward_shape(x.reshape((1, *x.shape)), weights, None, 1, dilation, None)
    )
    arrays = [flat("x", x), flat("weights", weights)]
    if rung is unsigned_indices:
        return launch(rung, ceil_division(y.size, 256), 256, *arrays, flat("y", y), sizes)
    c, i, j = np.indices(weights.shape[1:], dtype="uint32")
    offsets = to_device((c * sizes.plane + i * sizes.tap[0] + j * sizes.tap[1]).reshape(-1))
    filters, pixels = TILES[rung]
    blocks = ceil_division(sizes.pixels, pixels), ceil_division(sizes.filters, filters)
    return launch(rung, blocks, 256, *arrays, offsets, flat("y", y), sizes)


@pytest.mark.parametrize("rung", LADDER, ids=name_of)
@pytest.mark.parametrize("name", [SIMULATOR, CUDA])
def test_every_rung_convolves(name, rung, rng):
    memory = get_backend(name).memory
    x = rng.standard_normal((3, 13, 12), f32)
    weights = rng.standard_normal((37, 3, 2, 3), f32)
    y = memory.empty((37, 11, 8), f32)
    arrays = memory.to_device(x), memory.to_device(weights), y
    convolve(rung, *arrays, 2, memory.to_device)
    expected = get_backend("reference").convolution.forward(x[None], weights, dilation=2)
    np.testing.assert_allclose(memory.to_host(y), expected[0], rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def compiled():
    """{rung: its machine code}."""
    from kernels.device import machine_code

    x, weights, y = (np.empty(s, f32) for s in ((48, 80, 100), (48, 48, 3, 3), (48, 64, 84)))
    with recorded() as launches:
        for rung in LADDER:
            convolve(rung, x, weights, y, 8, np.asarray)
    return {
        made.kernel: machine_code.read(made.kernel, made.arguments, (9, 0)) for made in launches
    }


def for_a_multiply_add(code, *kinds):
    """Instructions of the main loop, all or of some kinds, for each of its multiply-adds."""
    loop = code.main_loop
    return sum(loop[k] for k in kinds or loop) / loop["multiply-add"]


@pytest.mark.compile
@pytest.mark.skipif(bool(MISSING), reason=MISSING or "")
class TestCompiled:
    def test_unsigned_indices_take_fewer_instructions(self, compiled):
        signed, unsigned = compiled[one_thread_an_output], compiled[unsigned_indices]
        assert for_a_multiply_add(unsigned) < for_a_multiply_add(signed)

    def test_a_shared_tile_reads_less_from_global_memory(self, compiled):
        one, shared = compiled[unsigned_indices], compiled[shared_tile]
        assert for_a_multiply_add(shared, "LDG 32") < for_a_multiply_add(one, "LDG 32")

    def test_a_register_tile_reads_less_from_shared_memory(self, compiled):
        kinds = "LDS 32", "LDS 64", "LDS 128"
        shared, registers = compiled[shared_tile], compiled[register_tile]
        assert for_a_multiply_add(registers, *kinds) < for_a_multiply_add(shared, *kinds)
        assert registers.multiply_add_share > shared.multiply_add_share

    def test_two_buffers_take_one_barrier_for_a_slice(self, compiled):
        one, two = compiled[register_tile], compiled[double_buffered]
        assert (one.main_loop["barrier"], two.main_loop["barrier"]) == (2, 1)
        assert two.shared_bytes > one.shared_bytes

    @pytest.mark.parametrize("rung", LADDER, ids=name_of)
    def test_sums_stay_in_registers(self, compiled, rung):
        assert compiled[rung].local_bytes == 0


def test_the_page_quotes_these_kernels():
    source = Path(__file__).read_text()
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    quotes = [quote for block in blocks for quote in block.split("\n\n\n")]
    assert all(f"def {name_of(rung)}(" in "".join(quotes) for rung in LADDER)
    for quote in quotes:
        assert quote.strip() in source, quote
