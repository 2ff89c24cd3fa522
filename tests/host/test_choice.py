"""Which loop the host's convolutions choose where rows are short; scores do not depend on it."""

import numpy as np
import pytest

from kernels.convolution import cpu
from kernels.convolution.cpu_choice import in_rows
from kernels.host import simd
from kernels.window import Window

pytestmark = pytest.mark.cpu


def chosen(batch, depth, filters, size, kernel, dilation=1, inside=(1, 1)):
    window = Window.of(kernel, 1, dilation)
    return in_rows(batch, depth, filters, size, window, inside, simd.lanes(4))


@pytest.mark.parametrize(("depth", "filters"), [(2, 200), (3, 64), (200, 2), (1, 20), (10, 500)])
@pytest.mark.parametrize("size", [(8, 9), (60, 60)])
def test_maps_that_are_read_in_place_are_taken_in_rows(depth, filters, size):
    assert chosen(1, depth, filters, size, 1)


def test_taps_outside_cost_pixels_nothing():
    """Rows save no more than rows of taps; pixels save columns of taps, too."""
    layer = 1, 200, 64, (80, 80), 5, 12
    assert chosen(*layer, (0.2, 1))
    assert not chosen(*layer, (0.2, 0.2))
    assert not chosen(*layer, (1, 0.2))


def test_rows_shorter_than_a_vector_are_no_rows():
    lanes = simd.lanes(4)
    assert not chosen(1, 48, 48, (1, lanes - 1), 1)
    assert not chosen(1, 48, 48, (40, lanes - 1), 3, 2)
    assert not chosen(1, 2, 48, (1, lanes - 1), 1)


def test_rows_of_images_with_a_stride_are_no_rows():
    assert not in_rows(1, 3, 48, (300, 300), Window.of(3, 2), (1, 1), simd.lanes(4))


@pytest.mark.parametrize("dilation", [1, (3, 2)])
def test_scores_are_the_same_bits_from_either(dilation, monkeypatch):
    rng = np.random.default_rng(20141216)
    x = rng.standard_normal((2, 7, 23, 37), np.float32)
    weights = rng.standard_normal((21, 7, 3, 2), np.float32)
    outputs = []
    for choice in (True, False):
        monkeypatch.setattr(cpu, "in_rows", lambda *_, choice=choice: choice)
        outputs.append(cpu.forward(x, weights, dilation=dilation))
    np.testing.assert_array_equal(*(scores.view(np.int32) for scores in outputs))
