"""What is refused, and advised, where memory is too short."""

import numpy as np
import pytest

from kernels.memory import cpu as memory
from net import Dense, Net, Scan
from net.free_memory import fitting_side
from net.layers import Convolution
from net.planning import forward_bytes, predict_bytes, scan_bytes
from net.zoo import build


@pytest.mark.cpu
def test_too_little_memory(monkeypatch):
    dense, image = Dense(build("lenet28", backend="cpu")), np.zeros((1, 127, 127), np.float32)
    free = 3 * 10**6
    monkeypatch.setattr(memory, "free_bytes", lambda: free)
    form = dense.program, "valid"
    side = fitting_side(lambda size: forward_bytes(*form, size), free)
    tile = fitting_side(lambda size: predict_bytes(*form, (100, 100), size), free)
    text = rf"labelling 100 x 100 pixels takes .* GB, 0.003 GB are free; {side} x {side} pixels"
    with pytest.raises(MemoryError, match=text + rf" would fit, or predict\(image, tile={tile}\)"):
        dense.forward(image)
    with pytest.raises(MemoryError, match=r"pixels would fit, or predict"):
        dense.predict(image)
    with pytest.raises(MemoryError, match="pixels and learning takes"):
        dense.gradients(image, np.zeros((10, 100, 100), np.float32))
    assert 0 < tile <= side < 100
    dense.predict(image, tile=tile)


@pytest.mark.cpu
@pytest.mark.parametrize("count", [0, 1])
def test_the_maps_that_a_mask_gives_must_fit_and_a_list_gives_none(monkeypatch, count):
    dense = Dense(Net([Convolution(64, 1)], channels=1, patch=1, backend="cpu"))
    image, mask = np.zeros((1, 300, 400), np.float32), np.zeros((300, 400), bool)
    mask.flat[:count] = True
    monkeypatch.setattr(memory, "free_bytes", lambda: 64 * 300 * 400 * 4 - 1)
    for call in (dense.forward, dense.predict):
        with pytest.raises(MemoryError, match=r"^a result of 64 x 300 x 400 takes .*pixels, in"):
            call(image, mask=mask)
    assert dense.forward(image, pixels=[[0, 0]]).shape == (64, 1)


@pytest.mark.cpu
def test_no_memory_at_all(monkeypatch):
    """Nothing is advised that cannot be: no tile of 0, no 0 x 0 pixels."""
    monkeypatch.setattr(memory, "free_bytes", lambda: 0)
    net = Net([Convolution(2, 3)], channels=1, patch=3, backend="cpu")
    image = np.zeros((1, 1500, 1500), np.float32)
    for call in (Dense(net).forward, Dense(net).predict, Scan(net).forward):
        with pytest.raises(MemoryError, match=r"GB are free; not even one pixel would fit$"):
            call(image)


@pytest.mark.cpu
def test_what_a_scan_is_advised(monkeypatch):
    scan, pixels = Scan(build("lenet28", backend="cpu"), batch=1024), np.zeros((2000, 2), int)
    form, image = (scan.program, "valid", (3, 3)), np.zeros((1, 30, 30), np.float32)
    for free, advice in (
        (scan_bytes(*form, 2000, 1024) - 1, "expected fewer pixels"),
        (scan_bytes(*form, 1, 1), "expected a batch smaller than 1024"),
    ):
        monkeypatch.setattr(memory, "free_bytes", lambda free=free: free)
        with pytest.raises(MemoryError, match=rf"^scanning 2000 pixels of 3 x 3 takes .*{advice}$"):
            scan.forward(image, pixels)


@pytest.mark.cpu
def test_free_memory_is_asked_for_once_and_by_large_passes_alone(monkeypatch):
    asked = []
    monkeypatch.setattr(memory, "free_bytes", lambda: asked.append(1) or 10**12)
    dense = Dense(Net([Convolution(2, 3)], channels=1, patch=3, backend="cpu"))
    for side, times in ((100, 0), (1500, 1)):
        image = np.zeros((1, side, side), np.float32)
        error = np.zeros((2, side - 2, side - 2), np.float32)
        for call in (dense.forward, dense.predict, lambda i, e=error: dense.gradients(i, e)):
            asked.clear()
            call(image)
            assert len(asked) == times


@pytest.mark.cpu
def test_maps_that_kernels_cannot_index(monkeypatch):
    """They are refused before the pass, and what is advised has none of them."""
    net = Net([Convolution(8, 3), Convolution(2, 1)], channels=1, patch=3, backend="cpu")
    monkeypatch.setattr(memory, "MOST_ELEMENTS", 8 * 500 * 500)
    image = np.zeros((1, 502, 503), np.float32)
    Dense(net).check_memory((500, 500))
    message = r"labelling 500 x 501 pixels takes a map of more than 2000000 numbers, .* 500 x 500 "
    with pytest.raises(MemoryError, match=message):
        Dense(net).forward(image)
    pixels = np.indices((500, 501)).reshape(2, -1).T
    with pytest.raises(MemoryError, match=r"than 2000000 numbers, .*expected a batch smaller"):
        Scan(net, batch=len(pixels)).forward(image)
    Scan(net, batch=400 * 500).check_memory((500, 501), len(pixels))
