"""SIMD building blocks of the host's convolutions: a tile of accumulators held in registers.

A tile is ``vectors`` x ``columns`` vectors of ``lanes`` numbers. The three convolutions are loops
around one step, an outer product that loads ``vectors`` vectors and spreads one number of each
column over the lanes:

    tile[v, p] = fma(first[v], second[p], tile[v, p])

    forward, input gradient    lanes over output channels: first = weights, second = pixels, or
                               lanes over pixels: first = pixels, second = weights
    weight gradient            first = errors of the output channels, second = inputs of the taps

With channels in the lanes, the pixels of the columns may lie anywhere: at any stride, in several
rows or images. With pixels in the lanes they must be neighbours, and results need no transposing.
Either way each output is one chain of fused multiply-adds in one order, so the bits are the same.

The shape of a tile depends on the CPU that Numba compiles for: 3 x 8 vectors of 512 bits fill the
32 registers of AVX-512, 3 x 8 of 128 bits those of Arm, 3 x 4 of 256 bits the 16 of AVX2 (2 x 6
and 4 x 3, where channels in the lanes make as many vectors); others get the same of 128 bits. With
32 registers, there are tiles of 5 x 5 as well. NUMBA_CPU_NAME and NUMBA_CPU_FEATURES make Numba
compile for another CPU.

Numba has no vector types; the intrinsics below emit LLVM's. ``array`` arguments are flat and
C-contiguous, indices count elements and are not checked.
"""

import platform
from itertools import accumulate
from typing import NamedTuple

import llvmlite.binding
import llvmlite.ir as ir
import numba
import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model


def _vector_bytes() -> int:
    forced = numba.config.CPU_FEATURES
    if forced is None:
        features = {name for name, has in llvmlite.binding.get_host_cpu_features().items() if has}
    else:
        features = {name[1:] for name in forced.split(",") if name.startswith("+")}
    return 64 if "avx512f" in features else 32 if "avx2" in features else 16


VECTOR_BYTES = _vector_bytes()
REGISTERS = 32 if VECTOR_BYTES == 64 or platform.machine() in ("aarch64", "arm64") else 16
SHAPES = ((3, 8), (5, 5)) if REGISTERS == 32 else ((3, 4),)
"""(vectors at most, columns) of the tiles that fill the registers."""
MAX_VECTORS, COLUMNS = SHAPES[0]
CHANNEL_COLUMNS = (COLUMNS,) * MAX_VECTORS if REGISTERS == 32 else (4, 6, 4, 3)
"""Columns of tiles of 1, 2, 3 ... vectors of channels, where the numbers that are spread lie far
apart. With 16 registers, 2 x 4 are too few sums to hide how long a multiply-add takes; and 4 x 3 in
place of twice 2 x 6 spread half as many numbers, of which some CPUs load but one a cycle where they
lie whole lines of the cache apart."""
CHANNEL_VECTORS = len(CHANNEL_COLUMNS)

_I32, _I64 = ir.IntType(32), ir.IntType(64)


def lanes(itemsize: int) -> int:
    """Numbers of ``itemsize`` bytes in one vector."""
    return VECTOR_BYTES // itemsize


def vector_groups(vectors, most=MAX_VECTORS):
    """(first vector, vectors) of as few tiles as hold ``vectors``, ``most`` at most in each."""
    groups = max(1, -(-vectors // most))
    few, larger = divmod(vectors, groups)
    sizes = [few + 1] * larger + [few] * (groups - larger)
    return [*zip(accumulate([0, *sizes[:-1]]), sizes)]


class Runs(NamedTuple):
    """Runs of numbers in a flat array: number p begins at ``array[at + p * pitch]``.

    Unpack arrays from such groups before a loop: each attribute access costs a reference count.
    """

    array: np.ndarray
    at: int
    pitch: int


class TileType(types.Type):
    """Numba type of ``vectors`` x ``columns`` LLVM vectors of ``dtype``."""

    def __init__(self, dtype, vectors, columns):
        self.dtype = dtype
        self.vectors = vectors
        self.columns = columns
        self.lanes = lanes(dtype.bitwidth // 8)
        element = ir.FloatType() if dtype == types.float32 else ir.DoubleType()
        self.vector = ir.VectorType(element, self.lanes)
        super().__init__(f"Tile({dtype}, {vectors} x {self.columns} x {self.lanes})")

    def cells(self):
        """(v, p, position) of every vector."""
        for v in range(self.vectors):
            for p in range(self.columns):
                yield v, p, v * self.columns + p


@register_model(TileType)
class _TileModel(models.PrimitiveModel):
    def __init__(self, manager, tile):
        backend_type = ir.ArrayType(tile.vector, tile.vectors * tile.columns)
        super().__init__(manager, tile, backend_type)


@intrinsic(prefer_literal=True)
def tile_of_vectors(typing_context, array, index, vectors, columns):
    """A tile whose every column is the neighbouring vectors at ``array[index]``."""
    tile = TileType(array.dtype, vectors.literal_value, columns.literal_value)

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, array, *arguments[:2])
        starts = _load_vectors(builder, tile, pointer, _I64(tile.lanes))
        result = ir.Constant(context.get_value_type(tile), ir.Undefined)
        for v, _, position in tile.cells():
            result = builder.insert_value(result, starts[v], position)
        return result

    return tile(array, types.intp, vectors, columns), generate


@intrinsic(prefer_literal=True)
def tile_of_numbers(typing_context, array, index, vectors, columns):
    """A tile whose column p holds ``array[index + p]`` in every lane."""
    tile = TileType(array.dtype, vectors.literal_value, columns.literal_value)

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, array, *arguments[:2])
        result = ir.Constant(context.get_value_type(tile), ir.Undefined)
        for _, p, position in tile.cells():
            number = builder.load(builder.gep(pointer, [_I64(p)]))
            result = builder.insert_value(result, _spread(builder, tile, number), position)
        return result

    return tile(array, types.intp, vectors, columns), generate


@intrinsic(prefer_literal=True)
def tile_of_columns(typing_context, array, index, pitch, vectors, columns):
    """A tile whose column p is the neighbouring vectors at ``array[index + p * pitch]``."""
    tile = TileType(array.dtype, vectors.literal_value, columns.literal_value)

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, array, *arguments[:2])
        result = ir.Constant(context.get_value_type(tile), ir.Undefined)
        for p in range(tile.columns):
            column = builder.gep(pointer, [builder.mul(_I64(p), arguments[2])])
            for v, vector in enumerate(_load_vectors(builder, tile, column, _I64(tile.lanes))):
                result = builder.insert_value(result, vector, v * tile.columns + p)
        return result

    return tile(array, types.intp, types.intp, vectors, columns), generate


@intrinsic(prefer_literal=True)
def tile_of_zeros(typing_context, array, vectors, columns):
    """A tile of zeros, for numbers like those of ``array``."""
    tile = TileType(array.dtype, vectors.literal_value, columns.literal_value)

    def generate(context, builder, signature, arguments):
        return ir.Constant(context.get_value_type(tile), None)

    return tile(array, vectors, columns), generate


@intrinsic
def multiply_add(typing_context, tile, first, index, pitch, second, start, offsets):
    """``tile[v, p] += first[index + v*pitch :][:lanes] * second[start + offsets[p]]``, fused.

    ``offsets`` is an int64 array, or (array, index) where they begin, or None for neighbours (0, 1,
    2 ...). An atomic load makes sure that they are read in each step: held in registers, they would
    displace the tile.
    """

    def generate(context, builder, signature, arguments):
        result, a, a_index, a_pitch, b, b_start, b_offsets = arguments
        fused = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(tile.vector, [tile.vector] * 3),
            f"llvm.fma.v{tile.lanes}f{tile.dtype.bitwidth}",
        )
        pointer = _pointer(context, builder, first, a, a_index)
        origin = _pointer(context, builder, second, b, b_start)
        offset_of = _offsets(context, builder, offsets, b_offsets)

        def vector(v):
            return _load_vector(builder, tile, pointer, a_pitch, v)

        def spread(p):
            number = builder.load(builder.gep(origin, [offset_of(p)]))
            return _spread(builder, tile, number)

        def step(total, v, p, vector, spread):
            position = v * tile.columns + p
            number = builder.extract_value(total, position)
            number = builder.call(fused, [vector, spread, number])
            return builder.insert_value(total, number, position)

        # The fewer of both are held in registers, each of the others is loaded just before its use
        if tile.vectors <= tile.columns:
            vectors = [vector(v) for v in range(tile.vectors)]
            for p in range(tile.columns):
                loaded = spread(p)
                for v in range(tile.vectors):
                    result = step(result, v, p, vectors[v], loaded)
        else:
            spreads = [spread(p) for p in range(tile.columns)]
            for v in range(tile.vectors):
                loaded = vector(v)
                for p in range(tile.columns):
                    result = step(result, v, p, loaded, spreads[p])
        return result

    arguments = (tile, first, types.intp, types.intp, second, types.intp, offsets)
    return tile(*arguments), generate


def _offsets(context, builder, kind, value):
    """A function that gives the offset of column p."""
    if kind == types.none:
        return _I64
    first = _I64(0)
    if isinstance(kind, types.BaseTuple):
        value, first = (builder.extract_value(value, n) for n in range(2))
        kind = kind[0]
    begin = _pointer(context, builder, kind, value, first)
    return lambda p: builder.load_atomic(builder.gep(begin, [_I64(p)]), "monotonic", 8)


@intrinsic
def store_vectors(typing_context, tile, array, index, pitch, count):
    """``array[index + p * pitch + v * lanes :][:lanes] = tile[v, p]`` for p < count."""
    return types.void(tile, array, *[types.intp] * 3), _store_vectors_with(tile, array, _write)


@intrinsic
def add_vectors(typing_context, tile, array, index, pitch, count):
    """As ``store_vectors``, but adds to what ``array`` holds."""
    return types.void(tile, array, *[types.intp] * 3), _store_vectors_with(tile, array, _accumulate)


@intrinsic
def add_columns(typing_context, tile, array, offsets, count, vectors):
    """``array[offsets[p] + v * lanes :][:lanes] += tile[v, p]`` for p < count, one after the other,
    and v < vectors; ``offsets`` as in ``multiply_add``."""

    def generate(context, builder, signature, arguments):
        value, target, places, count, some = arguments
        offset_of = _offsets(context, builder, offsets, places)
        for p in range(tile.columns):
            with builder.if_then(builder.icmp_signed("<", _I64(p), count), likely=True):
                for v in range(tile.vectors):
                    with builder.if_then(builder.icmp_signed("<", _I64(v), some), likely=True):
                        place = builder.add(offset_of(p), _I64(v * tile.lanes))
                        place = _pointer(context, builder, array, target, place)
                        vector = builder.extract_value(value, v * tile.columns + p)
                        _accumulate(builder, vector, place)
        return context.get_dummy_value()

    return types.void(tile, array, offsets, types.intp, types.intp), generate


def _store_vectors_with(tile, array, write):
    def generate(context, builder, signature, arguments):
        value, target, index, pitch, count = arguments
        first = _pointer(context, builder, array, target, index)
        for p in range(tile.columns):
            with builder.if_then(builder.icmp_signed("<", _I64(p), count), likely=True):
                column = builder.gep(first, [builder.mul(_I64(p), pitch)])
                for v in range(tile.vectors):
                    vector = builder.extract_value(value, v * tile.columns + p)
                    write(builder, vector, builder.gep(column, [_I64(v * tile.lanes)]))
        return context.get_dummy_value()

    return generate


@intrinsic
def store_transposed(typing_context, tile, array, index, plane, channels):
    """``array[index + k * plane + p] = tile[k, p]`` for k < channels: a row of each lane."""

    def generate(context, builder, signature, arguments):
        value, target, index, plane, channels = arguments
        first = _pointer(context, builder, array, target, index)
        count = min(tile.columns & -tile.columns, tile.lanes)  # a power of two
        for v in range(tile.vectors):
            for p in range(0, tile.columns, count):
                positions = range(v * tile.columns + p, v * tile.columns + p + count)
                vectors = [builder.extract_value(value, position) for position in positions]
                for lane, row in enumerate(_transposed(builder, tile, vectors)):
                    k = _I64(v * tile.lanes + lane)
                    with builder.if_then(builder.icmp_signed("<", k, channels), likely=True):
                        place = builder.add(builder.mul(k, plane), _I64(p))
                        _write(builder, row, builder.gep(first, [place]))
        return context.get_dummy_value()

    return types.void(tile, array, *[types.intp] * 3), generate


@intrinsic
def fetch_add(typing_context, array, index):
    """``array[index]`` before it grows by 1, in one atomic step: the next number of a queue."""

    def generate(context, builder, signature, arguments):
        place = _pointer(context, builder, array, *arguments)
        return builder.atomic_rmw("add", place, _I64(1), "monotonic")

    return types.int64(array, types.intp), generate


@intrinsic
def copy(typing_context, target, to, source, at, count):
    """``target[to : to + count] = source[at : at + count]``, two arrays of one dtype."""

    def generate(context, builder, signature, arguments):
        target_value, to_value, source_value, at_value, count_value = arguments
        into = _pointer(context, builder, target, target_value, to_value)
        out_of = _pointer(context, builder, source, source_value, at_value)
        itemsize = target.dtype.bitwidth // 8
        cgutils.raw_memcpy(builder, into, out_of, count_value, itemsize)
        return context.get_dummy_value()

    return types.void(target, types.intp, source, types.intp, types.intp), generate


def _write(builder, value, pointer):
    element = pointer.type.pointee
    place = builder.bitcast(pointer, value.type.as_pointer())
    builder.store(value, place, align=_itemsize(element))


def _accumulate(builder, value, pointer):
    place = builder.bitcast(pointer, value.type.as_pointer())
    before = builder.load(place, align=_itemsize(pointer.type.pointee))
    _write(builder, builder.fadd(before, value), pointer)


def _transposed(builder, tile, vectors):
    """A row of numbers for each lane, from as many ``vectors`` as a row has numbers.

    Each round interleaves vector p with vector p + half, which moves one bit of the vector's number
    to the end of the lane's. After all rounds the matrix is transposed.
    """
    count, middle = len(vectors), tile.lanes // 2
    half = count // 2
    low = [i for lane in range(middle) for i in (lane, tile.lanes + lane)]
    high = [i + middle for i in low]
    for _ in range(count.bit_length() - 1):
        vectors = [
            _shuffle(builder, vectors[p], vectors[p + half], picks)
            for p in range(half)
            for picks in (low, high)
        ]
    return [
        _shuffle(builder, vector, vector, range(row * count, (row + 1) * count))
        for vector in vectors
        for row in range(tile.lanes // count)
    ]


def _shuffle(builder, a, b, picks):
    picks = list(picks)
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(picks)), picks))


def _spread(builder, tile, number):
    undefined = ir.Constant(tile.vector, ir.Undefined)
    first = builder.insert_element(undefined, number, _I32(0))
    return _shuffle(builder, first, undefined, [0] * tile.lanes)


def _load_vectors(builder, tile, pointer, pitch):
    """The tile's ``vectors`` vectors at pointer[v * pitch]."""
    return [_load_vector(builder, tile, pointer, pitch, v) for v in range(tile.vectors)]


def _load_vector(builder, tile, pointer, pitch, v):
    place = builder.gep(pointer, [builder.mul(_I64(v), pitch)])
    place = builder.bitcast(place, tile.vector.as_pointer())
    return builder.load(place, align=_itemsize(tile.vector.element))


def _pointer(context, builder, array_type, array, index):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index])


def _itemsize(element):
    return 4 if isinstance(element, ir.FloatType) else 8
