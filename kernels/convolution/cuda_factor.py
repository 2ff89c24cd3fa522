"""A factor of a matrix product, rows x steps or steps x rows, and how its slices are staged.

A thread fetches vectors of up to 4 rows of a step, as far apart as the step has vectors, and stores
them side by side, so that later a warp writes neighbours. Neighbouring threads fetch whichever
index is contiguous: 8 steps and more, or rows. The remainder of the steps is the first
slice: no other slice has to check where the factor ends.
"""

from dataclasses import dataclass
from functools import cache
from math import gcd

from kernels.convolution.cuda_tile import Tile, in_buffer, pitch, side_by_side
from kernels.device.api import cuda, device, u32
from kernels.device.indices import divmod_u32
from kernels.device.loads import computed_once, load_from, load_if, place_of


@dataclass(frozen=True)
class Factor:
    """How a block's threads share out the slices of a factor.

    Vector (m, n) of a thread lies m * ``across`` vectors and n * ``down`` steps after its first.

    Attributes:
        tile: of the product.
        extent: its height for the first factor, its width for the second one.
        along_steps: whether steps are contiguous in memory; else rows are.
    """

    tile: Tile
    extent: int
    along_steps: bool

    @property
    def together(self) -> int:
        """Rows of a vector."""
        return side_by_side(self.extent)

    @property
    def vectors(self) -> int:
        """Vectors of a step."""
        return self.extent // self.together

    @property
    def across(self) -> int:
        """Neighbouring vectors of a step that threads fetch at a time."""
        steps = min(8, self.tile.depth) if self.along_steps else 1
        return gcd(self.vectors, self.tile.threads // steps)

    @property
    def down(self) -> int:
        """Neighbouring steps that threads fetch at a time."""
        return self.tile.threads // self.across

    @property
    def wide(self) -> int:
        """Vectors of a thread in a step."""
        return self.vectors // self.across

    @property
    def deep(self) -> int:
        """Steps of a thread."""
        return self.tile.depth // self.down

    @property
    def fetched(self) -> int:
        """Values that a thread fetches for a slice."""
        return self.extent * self.tile.depth // self.tile.threads

    @property
    def pitch(self) -> int:
        """Of the steps in shared memory: threads that store neighbouring steps use other banks."""
        return pitch(self.extent) if self.along_steps else self.extent

    @property
    def buffer(self) -> int:
        """Elements of a slice in shared memory."""
        return self.tile.depth * self.pitch


@cache
def _origin(factor: Factor):
    """Device function: a thread's first step and first vector."""
    along_steps, down, across = factor.along_steps, u32(factor.down), u32(factor.across)

    @device
    def origin():
        if along_steps:
            vector, step = divmod_u32(cuda.threadIdx.x, down)
        else:
            step, vector = divmod_u32(cuda.threadIdx.x, across)
        return step, vector

    return origin


@cache
def locator(factor: Factor):
    """Device function (first_row, row_count, first_step, step_count, indices, present).

    It notes the indices of a thread's elements of the first slice, of each row where steps are
    contiguous, else of each step; and which of its rows exist.
    """
    origin, along_steps = _origin(factor), factor.along_steps
    together, vectors, across, down = factor.together, factor.vectors, factor.across, factor.down
    wide, deep = factor.wide, factor.deep

    @device
    def locate(first_row, row_count, first_step, step_count, indices, present):
        step, row = origin()
        step, row = u32(step + first_step), u32(row + first_row)
        for m in range(wide):
            for b in range(together):
                r = u32(row + u32(m * across + b * vectors))
                present[together * m + b] = computed_once(u32(1) if r < row_count else u32(0))
                if along_steps:  # clamped to the last row
                    r = u32(min(r, u32(row_count - u32(1))))
                    indices[together * m + b] = u32(r * step_count + step)
        if not along_steps:
            for n in range(deep):
                indices[n] = u32(u32(step + u32(n * down)) * row_count + row)

    return locate


@cache
def first_fetcher(factor: Factor):
    """Device function (array, indices, values): fetches the first slice.

    Beyond its last step, any element will do.
    """
    along_steps, together, vectors = factor.along_steps, factor.together, factor.vectors
    across, down, wide, deep = factor.across, factor.down, factor.wide, factor.deep

    @device
    def fetch(array, indices, values):
        for m in range(wide):
            for n in range(deep):
                for b in range(together):
                    if along_steps:
                        at = u32(indices[together * m + b] + u32(n * down))
                    else:
                        at = u32(indices[n] + u32(m * across + b * vectors))
                    e = together * (m * deep + n) + b
                    values[e] = array[u32(min(at, u32(array.size - 1)))]

    return fetch


@cache
def fetcher(factor: Factor):
    """Device function (array, indices, present, row_count, step, values): fetches another slice.

    It begins ``step`` steps after the first one.
    """
    together, vectors, across, down = factor.together, factor.vectors, factor.across, factor.down
    wide, deep = factor.wide, factor.deep

    @device
    def fetch_along_steps(array, indices, present, row_count, step, values):
        for m in range(wide):
            for b in range(together):
                place = place_of(array, u32(indices[together * m + b] + step))
                for n in range(deep):
                    away = u32(n * down)
                    values[together * (m * deep + n) + b] = load_from(array, place, away)

    @device
    def fetch_along_rows(array, indices, present, row_count, step, values):
        for n in range(deep):
            place = place_of(array, u32(indices[n] + step * row_count))
            for m in range(wide):
                for b in range(together):
                    e, away = together * (m * deep + n) + b, u32(m * across + b * vectors)
                    exists = present[together * m + b]
                    values[e] = load_if(exists, array, place, away, values[e])

    return fetch_along_steps if factor.along_steps else fetch_along_rows


@cache
def storer(factor: Factor):
    """Device function (values, buffer, shared): stores a slice in one of two buffers."""
    origin, within, step_pitch = _origin(factor), in_buffer(factor.buffer), u32(factor.pitch)
    together, across, down = factor.together, factor.across, factor.down
    wide, deep = factor.wide, factor.deep

    @device
    def store(values, buffer, shared):
        step, vector = origin()
        at = within(u32(step * step_pitch + u32(together) * vector), buffer)
        for m in range(wide):
            for n in range(deep):
                to = at + u32(n * down) * step_pitch + u32(m * across * together)
                for b in range(together):
                    shared[to + u32(b)] = values[together * (m * deep + n) + b]

    return store
