"""A factor of a matrix product, rows x steps or steps x rows, and how its slices are staged.

A thread fetches vectors of up to 4 rows of one step, strided by the number of vectors per step, and
stores each contiguously, so that later a warp writes neighbours. Neighbouring threads fetch
whichever index is contiguous: 8 steps and more, or rows. The remainder of the steps is the first
slice: no other slice has to check where the factor ends.
"""

from dataclasses import dataclass
from functools import cache
from math import gcd

from kernels.convolution.cuda_tile import Tile, in_buffer, pitch, vector_length
from kernels.device.api import cuda, device, u32
from kernels.device.indices import divmod_u32
from kernels.device.loads import computed_once, load_from, load_if, place_of


@dataclass(frozen=True)
class Factor:
    """How a block's threads share out the slices of a factor.

    Vector (m, n) of a thread lies m * ``vectors_at_once`` vectors and n * ``steps_at_once`` steps
    after its first.

    Attributes:
        tile: the product's tile.
        extent: its height for the first factor, its width for the second one.
        along_steps: whether steps are contiguous in memory; else rows are.
    """

    tile: Tile
    extent: int
    along_steps: bool

    @property
    def together(self) -> int:
        """Rows per vector."""
        return vector_length(self.extent)

    @property
    def vectors(self) -> int:
        """Vectors per step."""
        return self.extent // self.together

    @property
    def vectors_at_once(self) -> int:
        """Neighbouring vectors of a step that threads fetch at a time."""
        steps = min(8, self.tile.depth) if self.along_steps else 1
        return gcd(self.vectors, self.tile.threads // steps)

    @property
    def steps_at_once(self) -> int:
        """Neighbouring steps that threads fetch at a time."""
        return self.tile.threads // self.vectors_at_once

    @property
    def vectors_per_thread(self) -> int:
        """Vectors of each step that a thread has."""
        return self.vectors // self.vectors_at_once

    @property
    def steps_per_thread(self) -> int:
        """Steps of a slice that a thread has."""
        return self.tile.depth // self.steps_at_once

    @property
    def fetched(self) -> int:
        """Values that a thread fetches for a slice."""
        return self.extent * self.tile.depth // self.tile.threads

    @property
    def pitch(self) -> int:
        """Distance of steps in shared memory; storing neighbouring steps uses different banks."""
        return pitch(self.extent) if self.along_steps else self.extent

    @property
    def buffer(self) -> int:
        """Elements of a slice in shared memory."""
        return self.tile.depth * self.pitch


@cache
def _origin(factor: Factor):
    """Device function: a thread's first step and first vector."""
    along_steps = factor.along_steps
    steps_at_once, vectors_at_once = u32(factor.steps_at_once), u32(factor.vectors_at_once)

    @device
    def origin():
        if along_steps:
            vector, step = divmod_u32(cuda.threadIdx.x, steps_at_once)
        else:
            step, vector = divmod_u32(cuda.threadIdx.x, vectors_at_once)
        return step, vector

    return origin


@cache
def locator(factor: Factor):
    """Device function (first_row, row_count, first_step, step_count, indices, present).

    It notes the indices of a thread's elements of the first slice, of each row where steps are
    contiguous, else of each step; and which of its rows exist.
    """
    origin, along_steps = _origin(factor), factor.along_steps
    together, vectors = factor.together, factor.vectors
    vectors_at_once, steps_at_once = factor.vectors_at_once, factor.steps_at_once
    vectors_per_thread, steps_per_thread = factor.vectors_per_thread, factor.steps_per_thread

    @device
    def locate(first_row, row_count, first_step, step_count, indices, present):
        step, row = origin()
        step, row = u32(step + first_step), u32(row + first_row)
        for m in range(vectors_per_thread):
            for b in range(together):
                r = u32(row + u32(m * vectors_at_once + b * vectors))
                present[together * m + b] = computed_once(u32(1) if r < row_count else u32(0))
                if along_steps:  # clamped to the last row
                    r = u32(min(r, u32(row_count - u32(1))))
                    indices[together * m + b] = u32(r * step_count + step)
        if not along_steps:
            for n in range(steps_per_thread):
                indices[n] = u32(u32(step + u32(n * steps_at_once)) * row_count + row)

    return locate


@cache
def first_fetcher(factor: Factor):
    """Device function (array, indices, values): fetches the first slice.

    Beyond its last step, any element will do.
    """
    along_steps, together, vectors = factor.along_steps, factor.together, factor.vectors
    vectors_at_once, steps_at_once = factor.vectors_at_once, factor.steps_at_once
    vectors_per_thread, steps_per_thread = factor.vectors_per_thread, factor.steps_per_thread

    @device
    def fetch(array, indices, values):
        for m in range(vectors_per_thread):
            for n in range(steps_per_thread):
                for b in range(together):
                    if along_steps:
                        at = u32(indices[together * m + b] + u32(n * steps_at_once))
                    else:
                        at = u32(indices[n] + u32(m * vectors_at_once + b * vectors))
                    e = together * (m * steps_per_thread + n) + b
                    values[e] = array[u32(min(at, u32(array.size - 1)))]

    return fetch


@cache
def fetcher(factor: Factor):
    """Device function (array, indices, present, row_count, step, values): fetches another slice.

    It begins ``step`` steps after the first one.
    """
    together, vectors = factor.together, factor.vectors
    vectors_at_once, steps_at_once = factor.vectors_at_once, factor.steps_at_once
    vectors_per_thread, steps_per_thread = factor.vectors_per_thread, factor.steps_per_thread

    @device
    def fetch_along_steps(array, indices, present, row_count, step, values):
        for m in range(vectors_per_thread):
            for b in range(together):
                place = place_of(array, u32(indices[together * m + b] + step))
                for n in range(steps_per_thread):
                    away = u32(n * steps_at_once)
                    values[together * (m * steps_per_thread + n) + b] = load_from(
                        array, place, away
                    )

    @device
    def fetch_along_rows(array, indices, present, row_count, step, values):
        for n in range(steps_per_thread):
            place = place_of(array, u32(indices[n] + step * row_count))
            for m in range(vectors_per_thread):
                for b in range(together):
                    e = together * (m * steps_per_thread + n) + b
                    away = u32(m * vectors_at_once + b * vectors)
                    exists = present[together * m + b]
                    values[e] = load_if(exists, array, place, away, values[e])

    return fetch_along_steps if factor.along_steps else fetch_along_rows


@cache
def storer(factor: Factor):
    """Device function (values, buffer, shared): stores a slice in one of two buffers."""
    origin, within, step_pitch = _origin(factor), in_buffer(factor.buffer), u32(factor.pitch)
    together = factor.together
    vectors_at_once, steps_at_once = factor.vectors_at_once, factor.steps_at_once
    vectors_per_thread, steps_per_thread = factor.vectors_per_thread, factor.steps_per_thread

    @device
    def store(values, buffer, shared):
        step, vector = origin()
        at = within(u32(step * step_pitch + u32(together) * vector), buffer)
        for m in range(vectors_per_thread):
            for n in range(steps_per_thread):
                to = at + u32(n * steps_at_once) * step_pitch + u32(m * vectors_at_once * together)
                for b in range(together):
                    shared[to + u32(b)] = values[together * (m * steps_per_thread + n) + b]

    return store
