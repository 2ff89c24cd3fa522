"""Which loop the host's convolutions choose; scores do not depend on it."""

import numba
import numpy as np
import pytest

from kernels.convolution import cpu, cpu_rows_of_errors, reference
from kernels.convolution.cpu_choice import in_rows, in_rows_of_errors
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


def over_errors(batch, filters, channels, output, kernel, dilation=1, stride=1):
    window = Window.of(kernel, stride, dilation)
    size = [(n - 1) * s + f for n, s, f in zip(output, window.stride, window.footprint)]
    shapes = (batch, channels, *size), (batch, filters, *output)
    return in_rows_of_errors(*shapes, window, simd.lanes(4))


def test_input_gradients_run_over_rows_of_errors_that_fill_vectors():
    lanes = simd.lanes(4)
    assert over_errors(1, 1024, 192, (64, 64), 10, 8)
    assert over_errors(1, 32, 50, (256, 256), 7, 16)
    assert over_errors(2, 200, 48, (3, lanes), (3, 5), (16, 20))
    assert not over_errors(1, 32, 50, (256, lanes - 1), 7, 16)
    assert not over_errors(1, 200, 200, (256, 256), 1)
    assert not over_errors(1, 48, 48, (256, 256), 3, 1, 2)
    assert not over_errors(1, 64, 3, (256, 256), 4)


def test_few_errors_behind_each_other_are_scattered_pixels():
    """Of a row that is little longer than a vector, half of two are wasted."""
    assert not over_errors(64, 48, 48, (17, 17), 4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("batch", "filters", "channels", "output", "kernel", "dilation"),
    [
        (2, 7, 11, (1, 100), (3, 2), (4, 1)),
        (1, 33, 21, (5, 97), (4, 3), (1, 40)),
        (3, 2, 17, (9, 130), (1, 5), (7, 3)),
        (1, 70, 13, (40, 99), (5, 1), (16, 1)),
        (1, 3, 50, (3, 113), (2, 2), (1, 90)),
    ],
)
def test_rows_of_errors_give_the_reference(
    batch, filters, channels, output, kernel, dilation, dtype, monkeypatch
):
    """On any number of threads the same bits; a NaN reaches the cells that read its error."""
    rng, window = np.random.default_rng(20141216), Window(kernel, (1, 1), dilation)
    size = tuple(n + f - 1 for n, f in zip(output, window.footprint))
    error = rng.standard_normal((batch, filters, *output)).astype(dtype)
    weights = rng.standard_normal((filters, channels, *kernel)).astype(dtype)
    ran = []
    correlate = cpu_rows_of_errors.correlate
    monkeypatch.setattr(
        cpu_rows_of_errors, "correlate", lambda *given: (ran.append(1), correlate(*given))
    )
    gradients = []
    for place in (None, (0, filters - 1, output[0] // 2, output[1] - 1)):
        if place:
            error[place] = np.nan
        given = error, weights, size
        found = cpu.gradient_input(*given, dilation=dilation)
        expected = reference.gradient_input(
            *(a.astype(float) for a in given[:2]), size, dilation=dilation
        )
        scale = np.nanmax(np.abs(expected))
        bound = 1e-5 if dtype == "float32" else 1e-12
        np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=bound)
        gradients.append(found)
    assert np.isnan(gradients[1]).sum() == channels * window.cells
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        alone = cpu.gradient_input(error, weights, size, dilation=dilation)
    finally:
        numba.set_num_threads(threads)
    np.testing.assert_array_equal(gradients[1], alone)
    first = cpu.gradient_input(error[:1], weights, size, dilation=dilation)
    np.testing.assert_array_equal(gradients[1][:1], first)
    assert len(ran) == 4
