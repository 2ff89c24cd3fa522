"""Tiles of sums over neighbouring numbers: products of two vectors, added up in the lanes.

A tile is ``ROWS`` x ``COLUMNS`` vectors of 64 bytes, which compilers split where registers are
shorter. So a sum has the same order, and the same bits, on every CPU:

    tile[r, c] = fma(first[r], second[c], tile[r, c])    and in the end the sum of its lanes

``array`` arguments are flat and C-contiguous, indices count elements and are not checked.
"""

import llvmlite.ir as ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from kernels.host.simd import REGISTERS, VECTOR_BYTES
from kernels.host.vectors import BYTES

ROWS, COLUMNS = 2, max(1, REGISTERS * VECTOR_BYTES * 3 // (8 * BYTES))
"""Of a tile: three quarters of the registers; the rest is for what they are multiplied by."""
_I32, _I64 = ir.IntType(32), ir.IntType(64)


class SumsType(types.Type):
    """Numba type of a tile of ``dtype``."""

    def __init__(self, dtype):
        self.dtype, self.lanes = dtype, 8 * BYTES // dtype.bitwidth
        element = ir.FloatType() if dtype == types.float32 else ir.DoubleType()
        self.vector = ir.VectorType(element, self.lanes)
        super().__init__(f"Sums({dtype})")


@register_model(SumsType)
class _SumsModel(models.PrimitiveModel):
    def __init__(self, manager, tile):
        super().__init__(manager, tile, ir.ArrayType(tile.vector, ROWS * COLUMNS))


@intrinsic
def zeros(typing_context, array):
    """A tile of zeros, for numbers like those of ``array``."""
    tile = SumsType(array.dtype)

    def generate(context, builder, signature, arguments):
        return ir.Constant(context.get_value_type(tile), None)

    return tile(array), generate


@intrinsic
def add_products(typing_context, tile, first, index, pitch, second, start, offsets, skipped):
    """Add the products of the vectors at ``first[index + r * pitch]`` and at
    ``second[start + offsets[c]]``, but for their first ``skipped`` lanes; None skips none."""

    def generate(context, builder, signature, arguments):
        sums, rows, at, apart, columns, begin, places, skip = arguments
        name = f"llvm.fma.v{tile.lanes}f{tile.dtype.bitwidth}"
        kind = ir.FunctionType(tile.vector, [tile.vector] * 3)
        fused = cgutils.get_or_insert_function(builder.module, kind, name)
        row_places = [builder.add(at, builder.mul(_I64(r), apart)) for r in range(ROWS)]
        a = [_load(context, builder, tile, first, rows, place) for place in row_places]
        offset_at = _pointer(context, builder, offsets, places, _I64(0))
        for c in range(COLUMNS):
            place = builder.add(begin, builder.load(builder.gep(offset_at, [_I64(c)])))
            b = _load(context, builder, tile, second, columns, place)
            for r in range(ROWS):
                number = r * COLUMNS + c
                before = builder.extract_value(sums, number)
                total = builder.call(fused, [a[r], b, before])
                if skipped != types.none:
                    total = builder.select(_lanes_from(builder, tile, skip), total, before)
                sums = builder.insert_value(sums, total, number)
        return sums

    given = first, types.intp, types.intp, second, types.intp, offsets, skipped
    return tile(tile, *given), generate


@intrinsic
def add_sums(typing_context, tile, array, index, pitch, rows, columns):
    """``array[index + c * pitch + r] += sum of the lanes of tile[r, c]`` for r < rows and
    c < columns: the upper half of the lanes is added to the lower one until one is left."""

    def generate(context, builder, signature, arguments):
        sums, target, at, apart, many, most = arguments
        for number in range(ROWS * COLUMNS):
            r, c = _I64(number // COLUMNS), _I64(number % COLUMNS)
            inside = builder.icmp_signed("<", r, many), builder.icmp_signed("<", c, most)
            with builder.if_then(builder.and_(*inside)):
                total, lanes = builder.extract_value(sums, number), tile.lanes
                while lanes > 1:
                    lanes //= 2
                    halves = range(lanes), range(lanes, 2 * lanes)
                    total = builder.fadd(*(_picked(builder, total, half) for half in halves))
                place = builder.add(builder.add(at, r), builder.mul(c, apart))
                place = _pointer(context, builder, array, target, place)
                total = builder.extract_element(total, _I32(0))
                builder.store(builder.fadd(builder.load(place), total), place)
        return context.get_dummy_value()

    return types.void(tile, array, *[types.intp] * 4), generate


def _lanes_from(builder, tile, first):
    """Which lanes have at least the number ``first``."""
    numbers = ir.Constant(ir.VectorType(_I32, tile.lanes), [*range(tile.lanes)])
    least = ir.Constant(numbers.type, ir.Undefined)
    least = builder.insert_element(least, builder.trunc(first, _I32), _I32(0))
    return builder.icmp_signed(">=", numbers, _picked(builder, least, [0] * tile.lanes))


def _picked(builder, vector, lanes):
    picks = ir.Constant(ir.VectorType(_I32, len(lanes)), [*lanes])
    return builder.shuffle_vector(vector, vector, picks)


def _load(context, builder, tile, kind, array, index):
    place = _pointer(context, builder, kind, array, index)
    place = builder.bitcast(place, tile.vector.as_pointer())
    return builder.load(place, align=tile.dtype.bitwidth // 8)


def _pointer(context, builder, kind, array, index):
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [index])
