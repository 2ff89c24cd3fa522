"""Bits of a word: compiled where Numba compiles, plain Python elsewhere."""

from numba import types
from numba.extending import intrinsic, overload

SIZE = 64


def trailing_zeros(word) -> int:
    """How many bits below the lowest one of a uint64 are 0; 64 of 0."""
    word = int(word) | 1 << SIZE
    return (word & -word).bit_length() - 1


def ones(word) -> int:
    """How many bits of a uint64 are 1."""
    return int(word).bit_count()


@intrinsic
def _trailing_zeros_of(typing_context, word):
    def generate(context, builder, signature, arguments):
        return builder.cttz(*arguments, context.get_constant(types.boolean, False))

    return types.uint64(types.uint64), generate


@intrinsic
def _ones_of(typing_context, word):
    def generate(context, builder, signature, arguments):
        return builder.ctpop(*arguments)

    return types.uint64(types.uint64), generate


@overload(trailing_zeros)
def _trailing_zeros(word):
    return lambda word: types.intp(_trailing_zeros_of(word))


@overload(ones)
def _ones(word):
    return lambda word: types.intp(_ones_of(word))
