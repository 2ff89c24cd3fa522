"""Vectors of neighbouring numbers, for loops that the compiler does not turn into vector code.

Where a loop selects numbers by comparison, and their places along with them, LLVM may make scalar
code with branches of it. Written with these intrinsics it is vector code on every CPU: LLVM splits
a vector that is longer than a register. Indices count elements and are not checked.
"""

import llvmlite.ir as ir
from numba import types
from numba.extending import intrinsic, models, register_model

BYTES = 64
"""Size of a vector: a register of AVX-512, and a line of the cache."""


class Vector(types.Type):
    """Numba type of ``lanes`` neighbouring numbers of ``dtype``; as many as ``BYTES`` hold, if None
    is given."""

    def __init__(self, dtype, lanes=None):
        self.dtype = dtype
        self.lanes = lanes or 8 * BYTES // dtype.bitwidth
        super().__init__(f"Vector({dtype}, {self.lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector):
        element = manager.lookup(vector.dtype).get_value_type()
        super().__init__(manager, vector, ir.VectorType(element, vector.lanes))


@intrinsic
def lanes_of(typing_context, array):
    """Numbers like those of ``array`` in one vector."""

    def generate(context, builder, signature, arguments):
        return context.get_constant(types.intp, Vector(array.dtype).lanes)

    return types.intp(array), generate


@intrinsic
def largest(typing_context, source, numbers, places, firsts, index):
    """By lanes, the largest of the vectors at ``source[place + index]``, and its number.

    The first of equal ones wins, and the first NaN wins over everything.

    Args:
        source: an array.
        numbers: the number of each element of the source, an array of ints at most as wide as its
            elements; None stands for zeros.
        places: a tuple of ints.
        firsts: a tuple of ints, the number added at each place; 0 at the first.
        index: an int.

    Returns:
        (values, numbers), two vectors.
    """
    value = Vector(source.dtype)
    number = Vector(types.Integer.from_bitwidth(source.dtype.bitwidth))

    def generate(context, builder, signature, arguments):
        values, counts, where, begins, at = arguments
        best = None
        for p in range(places.count):
            place = builder.add(builder.extract_value(where, p), at)
            count = _spread(context, builder, number, builder.extract_value(begins, p))
            if numbers != types.none:
                narrow = Vector(numbers.dtype, number.lanes)
                there = _load(context, builder, narrow, numbers, counts, place)
                if narrow.dtype.bitwidth < number.dtype.bitwidth:
                    there = builder.zext(there, context.get_value_type(number))
                count = builder.add(there, count) if p else there
            candidate = _load(context, builder, value, source, values, place), count
            best = _larger(builder, best, candidate) if p else candidate
        return context.make_tuple(builder, signature.return_type, best)

    return types.Tuple((value, number))(source, numbers, places, firsts, index), generate


@intrinsic(prefer_literal=True)
def first(typing_context, source, index, alone):
    """(values, numbers) to begin comparisons with (``larger``): the vector at ``source[index]``, or
    only the number there if ``alone``, and zeros."""
    value = Vector(source.dtype, 1 if alone.literal_value else None)
    number = Vector(types.Integer.from_bitwidth(source.dtype.bitwidth), value.lanes)

    def generate(context, builder, signature, arguments):
        vector = _load(context, builder, value, source, *arguments[:2])
        zeros = ir.Constant(context.get_value_type(number), None)
        return context.make_tuple(builder, signature.return_type, (vector, zeros))

    return types.Tuple((value, number))(source, index, alone), generate


@intrinsic
def larger(typing_context, best, source, index, number):
    """By lanes, the larger of the ``best`` so far, (values, numbers), and the vector at
    ``source[index]`` with the int ``number``; of equal ones and of NaN, the first."""

    def generate(context, builder, signature, arguments):
        before, values, place, count = arguments
        value, numbers = best
        earlier = [builder.extract_value(before, n) for n in range(2)]
        vector = _load(context, builder, value, source, values, place)
        later = vector, _spread(context, builder, numbers, count)
        return context.make_tuple(builder, best, _larger(builder, earlier, later))

    return best(best, source, index, number), generate


@intrinsic
def store(typing_context, array, index, vector):
    """``array[index:][:lanes] = vector``, ints narrowed to those of the array."""

    def generate(context, builder, signature, arguments):
        target, place, value = arguments
        kind = ir.VectorType(context.get_value_type(array.dtype), vector.lanes)
        if array.dtype.bitwidth < vector.dtype.bitwidth:
            value = builder.trunc(value, kind)
        pointer = _pointer(context, builder, kind, array, target, place)
        builder.store(value, pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


@intrinsic
def add_where(typing_context, target, to, source, at, numbers, number, skipped):
    """``target[to:][:lanes] += source[at:][:lanes]``, where ``numbers[at:][:lanes]`` are the int
    ``number``; the first ``skipped`` lanes stay as they are."""
    value = Vector(source.dtype)
    counted = Vector(numbers.dtype, value.lanes)
    lane = Vector(types.Integer.from_bitwidth(source.dtype.bitwidth))

    def generate(context, builder, signature, arguments):
        targets, place, values, begin, counts, count, before = arguments
        lanes = ir.Constant(context.get_value_type(lane), [*range(value.lanes)])
        counts = _load(context, builder, counted, numbers, counts, begin)
        same = builder.icmp_signed("==", counts, _spread(context, builder, counted, count))
        beyond = builder.icmp_signed(">=", lanes, _spread(context, builder, lane, before))
        old = _load(context, builder, value, target, targets, place)
        new = builder.fadd(old, _load(context, builder, value, source, values, begin))
        new = builder.select(builder.and_(same, beyond), new, old)
        pointer = _pointer(context, builder, new.type, target, targets, place)
        builder.store(new, pointer, align=value.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(
        target, types.intp, source, types.intp, numbers, types.intp, types.intp
    ), generate


def _larger(builder, earlier, later):
    greater = builder.fcmp_unordered(">", later[0], earlier[0])
    wins = builder.and_(greater, builder.fcmp_ordered("ord", earlier[0], earlier[0]))
    return [builder.select(wins, b, a) for a, b in zip(earlier, later)]


def _spread(context, builder, vector, number):
    kind = context.get_value_type(vector)
    if number.type != kind.element:
        number = builder.trunc(number, kind.element)
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    picks = ir.Constant(ir.VectorType(ir.IntType(32), vector.lanes), [0] * vector.lanes)
    return builder.shuffle_vector(first, undefined, picks)


def _load(context, builder, vector, array_type, array, index):
    pointer = _pointer(context, builder, context.get_value_type(vector), array_type, array, index)
    return builder.load(pointer, align=vector.dtype.bitwidth // 8)


def _pointer(context, builder, kind, array_type, array, index):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), kind.as_pointer())
