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
        "calibrate": lambda image: calibrate(net, [image, IMAGE], border),
    }


def called(call, message):
    """The message, in which ``call`` calls the image what its caller does."""
    return message.replace("image", "images[0]", 1) if call == "calibrate" else message


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
            (
                np.ma.array(IMAGE, mask=IMAGE == 0),
                TypeError,
                "image is a masked array; expected a plain one, as its mask would be lost",
            ),
            (IMAGE.astype(">u2"), TypeError, "image has dtype >u2; expected float32"),
            (IMAGE[0, 0, 0], TypeError, "image is a float32; expected a NumPy array"),
            (IMAGE[0, 0, 0, ...], ValueError, "image has shape (); expected 3 axes, 2 x any x any"),
            (
                IMAGE[:1],
                ValueError,
                "image has shape 1 x 9 x 11; expected 2 x any x any, channels x rows x columns",
            ),
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
        with refuses(error, called(call, message)):
            calls(border)[call](image)

    @pytest.mark.parametrize("size", [(5, 11), (9, 4), (1, 1)])
    def test_smaller_than_the_patch(self, call, size):
        message = (
            f"image is {size[0]} x {size[1]}; with border 'valid' expected at least the patch, "
            "6 x 5 (or border 'zero' or 'reflect')"
        )
        with refuses(ValueError, called(call, message)):
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
    for expected, result in zip(results(*arrays), results(*moved), strict=True):
        assert result.tobytes() == expected.tobytes()
        assert result.any()


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
            (np.ma.array(ERROR, mask=ERROR == 0), TypeError, "error is a masked array; expected a"),
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
            (np.ma.array(MASK, mask=MASK), TypeError, "mask is a masked array; expected a plain"),
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

    def test_masked_pixels(self):
        masked = np.ma.array(PIXELS, mask=PIXELS == 3)
        with refuses(TypeError, "pixels is a masked array; expected a plain one"):
            Scan(small_net()).forward(IMAGE, masked)

    @pytest.mark.parametrize(
        ("pixels", "low", "high"), [([[0, 0], [4, 0]], (0, 0), (4, 0)), ([[-1, 2]], *[(-1, 2)] * 2)]
    )
    def test_patches_outside_of_the_image(self, pixels, low, high):
        message = f"pixels reach from {low} to {high}; expected pixels of a 4 x 7 map"
        with refuses(ValueError, message):
            Scan(small_net()).patches(IMAGE[None], pixels)

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
        with refuses(ValueError, "images[1] has shape 1 x 9 x 11; expected 2 x any x any"):
            calibrate(net, [IMAGE, IMAGE[:1]])
        assert all(np.array_equal(array, before[name]) for name, array in net.state().items())

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_one_pixel_that_is_not_finite(self, value):
        net, image = small_net(), IMAGE.copy()
        image[1, 8, 3] = value
        before = net.state()
        message = "images[1] holds NaN or infinities; expected finite values"
        with refuses(ValueError, message):
            calibrate(net, [IMAGE, image])
        assert all(np.array_equal(array, before[name]) for name, array in net.state().items())

    def test_images_that_are_no_list(self):
        with refuses(TypeError, "images is a generator; expected a list of arrays"):
            calibrate(small_net(), (image for image in [IMAGE]))


class TestAbsurdSizes:
    """Arrays that say they are huge, and take no memory, are refused before they are copied."""

    IMAGE = np.broadcast_to(np.float32(0), (2, 2**36, 2**22))

    @pytest.mark.cpu
    @pytest.mark.parametrize("border", ["valid", "reflect"])
    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda net, border, image: Dense(net, border).forward(image), "labelling 687194767"),
            (lambda net, border, image: Dense(net, border).predict(image), "labelling 687194767"),
            (lambda net, border, image: Scan(net, border).forward(image), "scanning 28823"),
            (lambda net, border, image: calibrate(net, [image], border), "calibrating with 1 imag"),
        ],
        ids=["forward", "predict", "scan", "calibrate"],
    )
    def test_image(self, call, border, message):
        with pytest.raises(MemoryError, match=f"^{message}.* GB are free; "):
            call(small_net("cpu"), border, self.IMAGE)

    @pytest.mark.parametrize("image", [IMAGE[0], IMAGE[None], np.broadcast_to(0, IMAGE.shape)])
    def test_rank_and_dtype_come_first(self, image):
        with pytest.raises((TypeError, ValueError), match=r"^image has (shape|dtype) "):
            Dense(small_net()).forward(image)


class TestReplacedParameters:
    @pytest.mark.parametrize("run", [Dense, Scan])
    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("conv1.bias", np.zeros(3), "parameters['conv1.bias'] has shape 3; expected 4"),
            (
                "conv1.weights",
                np.zeros((4, 2, 3, 2)),
                "parameters['conv1.weights'] has shape 4 x 2 x 3 x 2; expected 4 x 2 x 3 x 3",
            ),
            ("norm1.mean", np.zeros(1), "statistics['norm1.mean'] has shape 1; expected 4"),
            ("fc1.bias", [0, 0, 0], "parameters['fc1.bias'] is a list; expected an array"),
            ("fc1.bias", None, "parameters['fc1.bias'] is a NoneType; expected an array"),
        ],
    )
    def test_by_what_does_not_fit(self, run, name, value, message):
        net = small_net()
        form = run(net)
        arrays = net.statistics if name in net.statistics else net.parameters
        arrays[name] = value
        with refuses((TypeError, ValueError), message):
            form.forward(IMAGE)

    def test_one_that_is_gone(self):
        net = small_net()
        del net.parameters["fc1.bias"]
        message = "parameters['fc1.bias'] is missing; expected an array of shape (3,)"
        with refuses(ValueError, message):
            Dense(net).forward(IMAGE)

    @pytest.mark.parametrize("kind", ["parameters", "statistics"])
    def test_one_that_the_net_does_not_have(self, kind):
        """It would not be read, as where a name is mistyped."""
        net = small_net()
        arrays = getattr(net, kind)
        name = next(reversed(arrays))
        arrays["conv1.bais"] = arrays[name]
        for _ in range(2):
            with refuses(ValueError, f"{kind}['conv1.bais'] is too many; expected "):
                Dense(net).forward(IMAGE)
            arrays.pop(name, None)


@pytest.mark.parametrize("form", [Dense, Scan])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_of_the_reference_have_the_dtype_of_the_net(form, dtype):
    """Its operators compute in float64, whatever they are given."""
    net = small_net("reference", dtype)
    run, image = form(net, "zero"), random_image(net, (4, 3))
    scores = run.forward(image)
    gradients = run.gradients(image, np.ones(scores.shape, dtype), image_gradient=True)
    arrays = [scores, gradients.image, *gradients.parameters.values(), *net.state().values()]
    assert {array.dtype.name for array in arrays} == {dtype}


def test_probabilities_of_the_reference_have_the_dtype_of_the_net():
    net = small_net("reference")
    assert Dense(net, "zero").predict(random_image(net, (4, 3)))[1].dtype == np.float32
