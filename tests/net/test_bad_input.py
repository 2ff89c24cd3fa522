"""Images, masks, error maps and pixels that do not suit the net: named, said what was expected."""

import re

import numpy as np
import pytest

from net import Dense, Net, Scan, calibrate
from net.layers import BatchNorm, Convolution, FullyConnected, MaxPool
from tests.net.nets import random_image, randomized

PATCH = (6, 5)
SIZE = (9, 11)
SCORES = (3, 4, 7)


def small_net(backend="reference", dtype="float32"):
    layers = [Convolution(4, 3), BatchNorm(), MaxPool(2, 1), FullyConnected(3)]
    return randomized(Net(layers, channels=2, patch=PATCH, dtype=dtype, backend=backend))


def refuses(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}")


IMAGE = np.zeros((2, *SIZE), np.float32)
ERROR = np.zeros(SCORES, np.float32)
MASK = np.ones(SCORES[1:], bool)
PIXELS = np.array([[0, 0], [3, 6]])
VECTORS = np.zeros((2, 3), np.float32)


def calls(border="valid"):
    """Each way of entering an image."""
    net = small_net()
    dense, scan = Dense(net, border), Scan(net, border)
    return {
        "Dense.forward": dense.forward,
        "Dense.gradients": lambda image: dense.gradients(image, ERROR),
        "Scan.forward": scan.forward,
        "Scan.gradients": lambda image: scan.gradients(image, VECTORS, PIXELS),
        "calibrate": lambda image: calibrate(net, [IMAGE, image], border),
    }


@pytest.mark.parametrize("call", calls())
class TestImage:
    @pytest.mark.parametrize(
        ("image", "error", "message"),
        [
            (IMAGE.tolist(), TypeError, "image is a list; expected a NumPy array"),
            (
                IMAGE.astype(np.uint8),
                TypeError,
                "image has dtype uint8; expected float32",
            ),
            (IMAGE.astype(float), TypeError, "image has dtype float64; expected float32"),
            (IMAGE[0], ValueError, "image has shape 9 x 11; expected 3 axes, 2 x any x any"),
            (IMAGE[None], ValueError, "image has shape 1 x 2 x 9 x 11; expected 3 axes, 2 x any"),
            (IMAGE[0, 0, 0], TypeError, "image is a float32; expected a NumPy array"),
            (IMAGE[0, 0, 0, ...], ValueError, "image has shape (); expected 3 axes, 2 x any x any"),
            (IMAGE[:1], ValueError, "image has shape 1 x 9 x 11; expected 2 x any x any"),
            (
                IMAGE[:, :0],
                ValueError,
                "image has shape 2 x 0 x 11; expected 2 x any x any",
            ),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    @pytest.mark.parametrize("border", ["valid", "zero", "reflect"])
    def test_is_refused(self, call, border, image, error, message):
        with refuses(error, message):
            calls(border)[call](image)

    @pytest.mark.parametrize("size", [(5, 11), (9, 4), (1, 1)])
    def test_smaller_than_the_patch(self, call, size):
        message = (
            f"image is {size[0]} x {size[1]}; with border 'valid' expected at least the patch, "
            "6 x 5 (or border 'zero' or 'reflect')"
        )
        with refuses(ValueError, message):
            calls()[call](np.zeros((2, *size), np.float32))


LAYOUTS = {
    "Fortran order": np.asfortranarray,
    "every second column": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
    "backwards": lambda array: array[..., ::-1].copy()[..., ::-1],
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_layout_does_not_matter(fast_backend, layout):
    """What is right but lies elsewhere in memory gives the same bits."""

    def results(image, error, mask, pixels, vectors):
        dense, scan = Dense(net, "zero"), Scan(net, "zero")
        yield dense.forward(image)
        yield scan.forward(image, pixels)
        for gradients in (
            dense.gradients(image, error, mask, image_gradient=True),
            scan.gradients(image, vectors, pixels, image_gradient=True),
        ):
            yield gradients.image
            yield from gradients.parameters.values()

    net = small_net(fast_backend.name)
    rng = np.random.default_rng(0)
    error = rng.standard_normal((3, 4, 3), np.float32)
    pixels = np.array([[0, 0], [1, 2], [3, 1]])
    arrays = (
        *(random_image(net, (4, 3)), error, rng.random((4, 3)) < 0.5),
        *(pixels, rng.standard_normal((3, 3), np.float32)),
    )
    moved = [LAYOUTS[layout](array) for array in arrays]
    assert (moved[0].strides, moved[0].dtype) != (arrays[0].strides, arrays[0].dtype)
    for expected, found in zip(results(*arrays), results(*moved), strict=True):
        assert found.tobytes() == expected.tobytes()
        assert found.any()


class TestDense:
    @pytest.mark.parametrize("border", ["same", "constant", None])
    def test_border(self, border):
        message = f"border is {border!r}; expected one of 'valid', 'zero', 'reflect'"
        for form in (Dense, Scan):
            with refuses(ValueError, message):
                form(small_net(), border)

    @pytest.mark.parametrize(
        ("error", "kind", "message"),
        [
            (ERROR.tolist(), TypeError, "error is a list; expected a NumPy array"),
            (ERROR.astype(float), TypeError, "error has dtype float64; expected float32"),
            (ERROR[:2], ValueError, "error has shape 2 x 4 x 7; expected 3 x 4 x 7"),
            (
                ERROR[:, :3],
                ValueError,
                "error has shape 3 x 3 x 7; expected 3 x 4 x 7",
            ),
            (ERROR[None], ValueError, "error has shape 1 x 3 x 4 x 7; expected 3 axes, 3 x 4 x 7"),
        ],
    )
    def test_error_map(self, error, kind, message):
        with refuses(kind, message):
            Dense(small_net()).gradients(IMAGE, error)

    @pytest.mark.parametrize(
        ("mask", "kind", "message"),
        [
            (MASK.tolist(), TypeError, "mask is a list; expected a NumPy array"),
            (
                MASK.astype(int),
                TypeError,
                "mask has dtype int64; expected bool",
            ),
            (
                MASK.astype("f"),
                TypeError,
                "mask has dtype float32; expected bool",
            ),
            (MASK[:, 1:], ValueError, "mask has shape 4 x 6; expected 4 x 7"),
            (
                np.ones(SIZE, bool),
                ValueError,
                "mask has shape 9 x 11; expected 4 x 7",
            ),
            (MASK[None], ValueError, "mask has shape 1 x 4 x 7; expected 2 axes, 4 x 7"),
            (~MASK, ValueError, "mask chooses no pixel; expected at least one"),
        ],
    )
    def test_mask(self, mask, kind, message):
        with refuses(kind, message):
            Dense(small_net()).gradients(IMAGE, ERROR, mask)


class TestScan:
    @pytest.mark.parametrize("batch", [0, -1, 2.0, "all", True])
    def test_batch(self, batch):
        with refuses(ValueError, f"batch is {batch!r}; expected an int of at least 1"):
            Scan(small_net(), batch=batch)

    @pytest.mark.parametrize(
        ("pixels", "message"),
        [
            (np.zeros((0, 2), int), "pixels chooses no pixel; expected at least one"),
            ([], "pixels has shape (0,) and dtype float64; expected n x 2 ints (y, x)"),
            ([0, 0], "pixels has shape (2,) and dtype int64; expected n x 2 ints (y, x)"),
            ([[0, 0, 0]], "pixels has shape (1, 3) and dtype int64; expected n x 2 ints (y, x)"),
            ([[0.0, 1.0]], "pixels has shape (1, 2) and dtype float64; expected n x 2 ints (y, x)"),
            (MASK, "pixels has shape (4, 7) and dtype bool; expected n x 2 ints (y, x)"),
            (
                [[0, 1], [4, 0]],
                "pixels reach from (0, 0) to (4, 1); expected pixels of a 4 x 7 map",
            ),
            (
                [[0, 7], [3, 6]],
                "pixels reach from (0, 6) to (3, 7); expected pixels of a 4 x 7 map",
            ),
            (
                [[1, -1], [3, 6]],
                "pixels reach from (1, -1) to (3, 6); expected pixels of a 4 x 7 map",
            ),
        ],
    )
    def test_pixels(self, pixels, message):
        scan = Scan(small_net())
        with refuses(ValueError, message):
            scan.forward(IMAGE, pixels)
        with refuses(ValueError, message):
            scan.gradients(IMAGE, VECTORS, pixels)

    @pytest.mark.parametrize(
        ("error", "kind", "message"),
        [
            (VECTORS.tolist(), TypeError, "error is a list; expected a NumPy array"),
            (
                VECTORS.astype(float),
                TypeError,
                "error has dtype float64; expected float32",
            ),
            (VECTORS[:1], ValueError, "error has shape 1 x 3; expected 2 x 3"),
            (VECTORS[:, :2], ValueError, "error has shape 2 x 2; expected 2 x 3"),
            (ERROR, ValueError, "error has shape 3 x 4 x 7; expected 2 axes, 2 x 3"),
        ],
    )
    def test_error_vectors(self, error, kind, message):
        with refuses(kind, message):
            Scan(small_net()).gradients(IMAGE, error, PIXELS)

    def test_error_vectors_of_all_pixels(self):
        with refuses(ValueError, "error has shape 2 x 3; expected 28 x 3"):
            Scan(small_net()).gradients(IMAGE, VECTORS)


class TestCalibrate:
    def test_no_images(self):
        with refuses(ValueError, "images is empty; expected at least one image"):
            calibrate(small_net(), [])

    def test_border(self):
        message = "border is 'full'; expected one of 'valid', 'zero', 'reflect'"
        with refuses(ValueError, message):
            calibrate(small_net(), [IMAGE], "full")

    def test_a_bad_image_changes_nothing(self):
        net = small_net()
        before = net.state()
        with refuses(ValueError, "image has shape 1 x 9 x 11; expected 2 x any x any"):
            calibrate(net, [IMAGE, IMAGE[:1]])
        assert all(np.array_equal(array, before[name]) for name, array in net.state().items())
