"""Bits of words, compiled and in plain Python."""

import numpy as np
import pytest

from kernels.host.bits import ones, trailing_zeros
from kernels.host.compilation import compiled

WORDS = {0: (64, 0), 1: (0, 1), 2**63: (63, 1), 0b101000: (3, 2), 2**64 - 1: (0, 64)}


@compiled
def counted(word):
    return trailing_zeros(word), ones(word)


@pytest.mark.parametrize("word", WORDS)
def test_are_counted_alike(word):
    assert (trailing_zeros(np.uint64(word)), ones(np.uint64(word))) == WORDS[word]
    assert counted(np.uint64(word)) == WORDS[word]
