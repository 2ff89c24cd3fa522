"""SIMD building blocks of the host's convolutions: a tile of accumulators held in registers.

A tile is ``vectors`` x ``pixels`` vectors of ``lanes`` numbers. Lane l of vector v belongs to
output channel v * lanes + l; the second index is the pixel. The three convolutions are loops around
one step,

    tile[v, p] = fma(weights[v], source[p], tile[v, p])

which loads ``vectors`` vectors of packed weights and spreads one number of each pixel over the
lanes. Lanes run over channels, so the pixels of a tile may lie anywhere: along a row with any
stride, or at one place of several patches. The patch net and its dense form cost the same, and
since each output is one chain of fused multiply-adds, they give the same bits.

The shape follows the CPU: 3 x 8 vectors of 512 bits fill the 32 registers of AVX-512, 3 x 4 of 256
bits the 16 of AVX2.

Numba has no vector types; the intrinsics below emit LLVM's. ``array`` arguments are flat and
C-contiguous, indices count elements and are not checked.
"""

import llvmlite.binding
import llvmlite.ir as ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

MAX_VECTORS = 3

_CPU = llvmlite.binding.get_host_cpu_features()
VECTOR_BYTES = 64 if _CPU.get("avx512f") else 32 if _CPU.get("avx2") else 16
_REGISTERS = 32 if VECTOR_BYTES == 64 else 16

_I32, _I64 = ir.IntType(32), ir.IntType(64)


def lanes(itemsize: int) -> int:
    """Numbers of ``itemsize`` bytes in one vector."""
    return VECTOR_BYTES // itemsize


def pixels(itemsize: int) -> int:
    """Pixels of one tile of numbers of ``itemsize`` bytes."""
    return min(lanes(itemsize), _REGISTERS // 4)


class Tile(types.Type):
    """Numba type of ``vectors`` x ``pixels`` LLVM vectors of ``dtype``."""

    def __init__(self, dtype, vectors):
        self.dtype = dtype
        self.vectors = vectors
        self.pixels = pixels(dtype.bitwidth // 8)
        self.lanes = lanes(dtype.bitwidth // 8)
        element = ir.FloatType() if dtype == types.float32 else ir.DoubleType()
        self.vector = ir.VectorType(element, self.lanes)
        super().__init__(f"Tile({dtype}, {vectors} x {self.pixels} x {self.lanes})")

    def cells(self):
        """(v, p, position) of every vector."""
        for v in range(self.vectors):
            for p in range(self.pixels):
                yield v, p, v * self.pixels + p


@register_model(Tile)
class _TileModel(models.PrimitiveModel):
    def __init__(self, manager, tile):
        backend_type = ir.ArrayType(tile.vector, tile.vectors * tile.pixels)
        super().__init__(manager, tile, backend_type)


@intrinsic(prefer_literal=True)
def tile_of(typing_context, array, index, pitch, vectors):
    """A tile whose every pixel is the vectors at ``array[index + v * pitch]``."""
    tile = Tile(array.dtype, vectors.literal_value)

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, array, *arguments[:2])
        result = ir.Constant(context.get_value_type(tile), ir.Undefined)
        starts = _load_vectors(builder, tile, pointer, arguments[2])
        for v, _, position in tile.cells():
            result = builder.insert_value(result, starts[v], position)
        return result

    return tile(array, types.intp, types.intp, vectors), generate


@intrinsic
def offsets_along(typing_context, dtype_of, pitch, count):
    """Offsets 0, pitch, 2 * pitch ... of a tile's pixels; beyond ``count`` the last is repeated."""
    size = pixels(dtype_of.dtype.bitwidth // 8)
    offsets = types.UniTuple(types.intp, size)

    def generate(context, builder, signature, arguments):
        _, step, number = arguments
        last = builder.sub(number, _I64(1))
        result = ir.Constant(context.get_value_type(offsets), ir.Undefined)
        for p in range(size):
            inside = builder.icmp_signed("<", _I64(p), last)
            multiple = builder.select(inside, _I64(p), last)
            result = builder.insert_value(result, builder.mul(multiple, step), p)
        return result

    return offsets(dtype_of, types.intp, types.intp), generate


@intrinsic
def offsets_from(typing_context, dtype_of, table, index):
    """Offsets of a tile's pixels, read from ``table[index:]`` (int64)."""
    size = pixels(dtype_of.dtype.bitwidth // 8)
    offsets = types.UniTuple(types.intp, size)

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, table, *arguments[1:])
        result = ir.Constant(context.get_value_type(offsets), ir.Undefined)
        for p in range(size):
            offset = builder.load(builder.gep(pointer, [_I64(p)]))
            result = builder.insert_value(result, offset, p)
        return result

    return offsets(dtype_of, table, types.intp), generate


@intrinsic
def multiply_add(typing_context, tile, weights, index, pitch, source, start, offsets):
    """``tile[v, p] += weights[index + v*pitch :][:lanes] * source[start + offsets[p]]``, fused."""

    def generate(context, builder, signature, arguments):
        result, w, w_index, w_pitch, x, x_start, x_offsets = arguments
        fma = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(tile.vector, [tile.vector] * 3),
            f"llvm.fma.v{tile.lanes}f{tile.dtype.bitwidth}",
        )
        pointer = _pointer(context, builder, weights, w, w_index)
        vectors = _load_vectors(builder, tile, pointer, w_pitch)
        first = _pointer(context, builder, source, x, x_start)
        for p in range(tile.pixels):
            number = builder.load(builder.gep(first, [builder.extract_value(x_offsets, p)]))
            spread = _spread(builder, tile, number)
            for v in range(tile.vectors):
                position = v * tile.pixels + p
                total = builder.extract_value(result, position)
                total = builder.call(fma, [vectors[v], spread, total])
                result = builder.insert_value(result, total, position)
        return result

    arguments = (tile, weights, types.intp, types.intp, source, types.intp, offsets)
    return tile(*arguments), generate


@intrinsic
def store(typing_context, tile, array, index, plane, pitch, channels, count):
    """``array[index + k * plane + p * pitch] = tile[k, p]`` for k < channels, p < count.

    ``channels`` may be smaller than the tile's; a full row of neighbouring pixels (pitch 1) is
    transposed in registers and written as vectors.
    """
    return types.void(tile, array, *[types.intp] * 5), _store_with(tile, array, _write)


@intrinsic
def add_to(typing_context, tile, array, index, plane, pitch, channels, count):
    """As ``store``, but adds to what ``array`` holds."""
    return types.void(tile, array, *[types.intp] * 5), _store_with(tile, array, _accumulate)


def _store_with(tile, array, write):
    def generate(context, builder, signature, arguments):
        value, target, index, plane, pitch, channels, count = arguments
        first = _pointer(context, builder, array, target, index)
        neighbours = builder.and_(
            builder.icmp_signed("==", pitch, _I64(1)),
            builder.icmp_signed("==", count, _I64(tile.pixels)),
        )
        with builder.if_else(neighbours) as (in_rows, scattered):
            with in_rows:
                for v in range(tile.vectors):
                    columns = [
                        builder.extract_value(value, v * tile.pixels + p)
                        for p in range(tile.pixels)
                    ]
                    for lane, row in enumerate(_transposed(builder, tile, columns)):
                        k = _I64(v * tile.lanes + lane)
                        with builder.if_then(builder.icmp_signed("<", k, channels), likely=True):
                            write(builder, row, builder.gep(first, [builder.mul(k, plane)]))
            with scattered:
                for v, p, position in tile.cells():
                    with builder.if_then(builder.icmp_signed("<", _I64(p), count)):
                        vector = builder.extract_value(value, position)
                        pixel = builder.gep(first, [builder.mul(_I64(p), pitch)])
                        for lane in range(tile.lanes):
                            k = _I64(v * tile.lanes + lane)
                            with builder.if_then(builder.icmp_signed("<", k, channels)):
                                number = builder.extract_element(vector, _I32(lane))
                                write(builder, number, builder.gep(pixel, [builder.mul(k, plane)]))
        return context.get_dummy_value()

    return generate


def _write(builder, value, pointer):
    element = pointer.type.pointee
    place = builder.bitcast(pointer, value.type.as_pointer())
    builder.store(value, place, align=_itemsize(element))


def _accumulate(builder, value, pointer):
    place = builder.bitcast(pointer, value.type.as_pointer())
    before = builder.load(place, align=_itemsize(pointer.type.pointee))
    _write(builder, builder.fadd(before, value), pointer)


def _transposed(builder, tile, columns):
    """``lanes`` vectors of ``pixels`` numbers from ``pixels`` vectors of ``lanes`` numbers.

    log2(pixels) rounds of interleaving vector p with vector p + pixels/2, halves kept in order,
    turn the matrix: each round moves one bit of the pixel number below the lane number.
    """
    half, middle = tile.pixels // 2, tile.lanes // 2
    low = [i for lane in range(middle) for i in (lane, tile.lanes + lane)]
    high = [i + middle for i in low]
    for _ in range(tile.pixels.bit_length() - 1):
        columns = [
            _shuffle(builder, columns[p], columns[p + half], picks)
            for p in range(half)
            for picks in (low, high)
        ]
    rows_each = tile.lanes // tile.pixels
    return [
        _shuffle(builder, column, column, range(row * tile.pixels, (row + 1) * tile.pixels))
        for column in columns
        for row in range(rows_each)
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
    loaded = []
    for v in range(tile.vectors):
        place = builder.gep(pointer, [builder.mul(_I64(v), pitch)])
        place = builder.bitcast(place, tile.vector.as_pointer())
        loaded.append(builder.load(place, align=_itemsize(tile.vector.element)))
    return loaded


def _pointer(context, builder, array_type, array, index):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index])


def _itemsize(element):
    return 4 if isinstance(element, ir.FloatType) else 8
