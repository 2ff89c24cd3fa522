"""exp, expm1 and tanh for the host's loops: ``math``'s in float64; in float32, polynomials of fused
multiply-adds, which the compiler turns into vector instructions.
"""

import math

import numpy as np
from numba import types
from numba.extending import intrinsic, overload

from kernels.host.compilation import OPTIONS, inner

# ln(2) as a number of few bits, whose small multiples are exact, and the rest
LN2_HIGH = 0.693359375
LN2_LOW = LN2_HIGH - math.log(2)


def exp(x):
    """exp(x) of a number up to 0; in float32 to 1 unit in the last place."""
    return math.exp(x)


def expm1(x):
    """exp(x) - 1 of a number up to 0, which does not cancel near 0; in float32 to 3 units in the
    last place."""
    return math.expm1(x)


def tanh(x):
    """tanh(x); in float32 to 3 units in the last place."""
    return math.tanh(x)


@overload(exp, jit_options=OPTIONS)
def _exp_of_its_dtype(x):
    return _exp32 if x == types.float32 else exp


@overload(expm1, jit_options=OPTIONS)
def _expm1_of_its_dtype(x):
    return _expm132 if x == types.float32 else expm1


@overload(tanh, jit_options=OPTIONS)
def _tanh_of_its_dtype(x):
    return _tanh32 if x == types.float32 else tanh


@intrinsic
def _fma(typing_context, a, b, c):
    """a * b + c, rounded once, of three numbers of one dtype."""

    def generate(context, builder, signature, arguments):
        return builder.fma(*arguments)

    return a(a, a, a), generate


@intrinsic
def _power_of_two(typing_context, exponent):
    """2^exponent as float32, for an int32 exponent from -126 to 127."""

    def generate(context, builder, signature, arguments):
        bias, shift = (context.get_constant(types.int32, number) for number in (127, 23))
        bits = builder.shl(builder.add(arguments[0], bias), shift)
        return builder.bitcast(bits, context.get_value_type(types.float32))

    return types.float32(types.int32), generate


@inner
def _reduced(x):
    """(n, r) with x = n * ln(2) + r and |r| <= ln(2) / 2, of a float32 number."""
    f = np.float32
    n = np.floor(_fma(x, f(1 / math.log(2)), f(0.5)))
    return np.int32(n), _fma(n, f(LN2_LOW), _fma(n, f(-LN2_HIGH), x))


@inner
def _series(r):
    """exp(r) - 1 for |r| <= ln(2) / 2: its Taylor series up to r^7."""
    f = np.float32
    s = _fma(r, f(1 / 5040), f(1 / 720))
    s = _fma(r, s, f(1 / 120))
    s = _fma(r, s, f(1 / 24))
    s = _fma(r, s, f(1 / 6))
    s = _fma(r, s, f(1 / 2))
    return _fma(r * r, s, r)


def _exp32(x):
    # 2^n in two factors, so that the smallest powers are exact, too
    f = np.float32
    n, r = _reduced(f(-104) if x < f(-104) else x)
    half = np.int32(n >> 1)
    power = (f(1) + _series(r)) * _power_of_two(half)
    return power * _power_of_two(np.int32(n - half))


def _expm132(x):
    f = np.float32
    n, r = _reduced(f(-40) if x < f(-40) else x)
    scale = _power_of_two(n)
    return _fma(_series(r), scale, scale - f(1))


def _tanh32(x):
    # tanh |x| = -e / (2 + e) with e = exp(-2|x|) - 1
    e = expm1(-abs(x + x))
    return math.copysign(e / (np.float32(2) + e), x)
