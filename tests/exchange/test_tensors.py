"""Tensors of PyTorch on the host, and other libraries' arrays there: taken, and given back."""

import numpy as np
import pytest

from kernels import get_backend
from kernels.foreign import given_back, host_array
from net import Dense, Net, Scan, calibrate
from net.layers import BatchNorm, Convolution, FullyConnected, MaxPool, ReLU
from net.learning.fitting import fit
from net.learning.optimizers import SGD
from net.learning.training import Trainer
from tests import operator_arguments
from tests.comparison import each
from tests.net.nets import random_image, randomized
from tests.operators.test_interoperability import flattened

SIZE = (7, 8)
LAYERS = [Convolution(3, 2), ReLU(), MaxPool(2), BatchNorm(), FullyConnected(2)]


class Interfaced:
    """An array of a library that has nothing but ``__array__``."""

    def __init__(self, array):
        self._array = array

    def __array__(self, dtype=None, copy=None):
        return np.array(self._array, dtype) if copy else self._array


@pytest.fixture
def net():
    # R = 6 < p = 7: the last rows and columns are cut off
    return randomized(Net(LAYERS, channels=2, patch=7, backend="cpu"))


@pytest.fixture
def arrays(net, rng):
    """(image, error, mask, labels), with border "zero"."""
    error = rng.standard_normal((2, *SIZE), np.float32)
    labels = rng.integers(-1, 2, SIZE)
    return random_image(net, SIZE), error, rng.random(SIZE) < 0.5, labels


@pytest.mark.cpu
def test_arrays_that_have_nothing_but_their_interface(net, arrays):
    image, error, mask, _ = arrays
    dense, given = Dense(net, "zero"), [Interfaced(array) for array in (image, error, mask)]
    scores = dense.forward(given[0])
    assert type(scores) is np.ndarray
    np.testing.assert_array_equal(scores, dense.forward(image))
    gradients, expected = dense.gradients(*given).parameters, dense.gradients(image, error, mask)
    for name, gradient in expected.parameters.items():
        np.testing.assert_array_equal(gradients[name], gradient)


@pytest.mark.torch
class TestTensors:
    @pytest.fixture
    def torch(self):
        return pytest.importorskip("torch")

    @pytest.fixture
    def tensors(self, torch, arrays):
        return [torch.from_numpy(array) for array in arrays]

    @pytest.mark.parametrize("masked", [False, True])
    def test_forward(self, torch, net, arrays, tensors, masked):
        dense = Dense(net, "zero")
        chosen, theirs = (arrays[2], tensors[2]) if masked else (None, None)
        scores = dense.forward(tensors[0], theirs)
        assert type(scores) is torch.Tensor
        assert scores.dtype is torch.float32
        np.testing.assert_array_equal(scores.numpy(), dense.forward(arrays[0], chosen))

    @pytest.mark.parametrize("number", [2, 3])
    def test_gradients(self, torch, net, arrays, tensors, number):
        dense = Dense(net, "zero")
        result = dense.gradients(*tensors[:number], image_gradient=True)
        expected = dense.gradients(*arrays[:number], image_gradient=True)
        assert result.parameters.keys() == expected.parameters.keys()
        for name, gradient in result.parameters.items():
            np.testing.assert_array_equal(gradient.numpy(), expected.parameters[name])
        np.testing.assert_array_equal(result.image.numpy(), expected.image)

    def test_views_and_other_layouts(self, net, arrays, tensors):
        dense, image = Dense(net, "zero"), arrays[0]
        expected = dense.forward(np.ascontiguousarray(image[:, ::-1].transpose(0, 2, 1)))
        turned = tensors[0].flip(1).transpose(1, 2)
        np.testing.assert_array_equal(dense.forward(turned).numpy(), expected)

    def test_patch_by_patch_and_classes(self, torch, net, arrays, tensors):
        scan, dense, pixels = Scan(net, "zero"), Dense(net, "zero"), np.array([[0, 0], [3, 4]])
        expected = scan.forward(arrays[0], pixels)
        np.testing.assert_array_equal(scan.forward(tensors[0], torch.from_numpy(pixels)), expected)
        for result, right in zip(dense.predict(tensors[0]), dense.predict(arrays[0])):
            np.testing.assert_array_equal(result, right)

    @pytest.mark.filterwarnings("ignore:labels are few")
    def test_learning(self, net, arrays, tensors):
        results = []
        for image, _, mask, labels in (arrays, tensors):
            trainer = Trainer(net.to(), SGD(0.1), border="zero")
            calibrate(trainer.net, [image], "zero")
            trainer.step(image, labels, mask)
            examples = [image], [labels]
            fit(trainer, examples, epochs=3, pixels=9, validation=examples, progress=False)
            results.append((trainer.history, trainer.net.state()))
        (history, state), (again, same) = results
        assert history == again
        assert all((state[name] == same[name]).all() for name in state)

    def test_a_state_of_tensors(self, torch, net):
        state = {name: torch.from_numpy(array) for name, array in net.state().items()}
        state["fc1.bias"] = torch.tensor([3.0, 4.0])
        net.load_state(state)
        np.testing.assert_array_equal(net.parameters["fc1.bias"], [3, 4])

    def test_a_tensor_enters_the_backend_where_it_lies(self, torch):
        tensor = torch.zeros(2, 3)
        get_backend("cpu").memory.to_device(tensor)[1, 2] = 5
        assert tensor[1, 2] == 5

    @pytest.mark.parametrize("place", ["cpu", "reference"])
    @pytest.mark.parametrize("name", operator_arguments.OPERATORS)
    def test_every_operator(self, torch, name, place):
        """Also what it changes in place is the tensor itself."""

        def results(put):
            function, arguments = operator_arguments.of_operator(name, place).fresh()
            arguments = dict(zip(arguments, each(put, [*arguments.values()])))
            result = flattened([function(**arguments), arguments])
            return [np.asarray(a).tobytes() for a in result if hasattr(a, "shape")]

        assert results(torch.from_numpy) == results(np.copy)

    def test_nothing_is_copied(self, torch):
        tensor = torch.zeros(2, 3)
        array = host_array("x", tensor)
        given_back(array, tensor)[0, 1] = 7
        assert tensor[0, 1] == array[0, 1] == 7

    def test_refusals(self, torch, net):
        shape, complex_numbers = (2, *SIZE), torch.zeros(2, *SIZE, dtype=torch.complex64)
        refused = {
            "requires? grad": torch.zeros(shape, requires_grad=True),
            "conjugate bit": complex_numbers.conj(),
            "resolve_neg": complex_numbers.conj().imag,
            "torch.bfloat16, which cannot be read": torch.zeros(shape).bfloat16(),
            "dtype float16; expected float32": torch.zeros(shape).half(),
            "sparse|layout": torch.zeros(shape).to_sparse(),
            "meta": torch.zeros(shape, device="meta"),
        }
        for message, tensor in refused.items():
            with pytest.raises(TypeError, match=rf"^image .*({message})"):
                Dense(net).forward(tensor)
        with pytest.raises(ValueError, match=r"^image has shape 1 x 7 x 8; expected 2 x any"):
            Dense(net).forward(torch.zeros(1, *SIZE))
        with pytest.raises(TypeError, match=r"^mask has dtype uint8; expected bool"):
            Dense(net).forward(torch.zeros(shape), torch.zeros(1, 2, dtype=torch.uint8))
