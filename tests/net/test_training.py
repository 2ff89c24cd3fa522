"""One step of learning: by the masked dense pass and by scanning it is the same."""

import numpy as np
import pytest

from net import Net
from net.layers import Convolution, Dropout, FullyConnected, MaxPool, ReLU, Tanh
from net.optimizers import SGD, Adam, Cosine, Stepwise
from net.training import Trainer
from net.zoo import ZOO
from tests.comparison import relative_difference
from tests.net.learning import examples, random_labels, small_net
from tests.net.nets import random_image, randomized, reduced

OPTIMIZERS = [SGD(0.05, decay=0.01), Adam(0.01, decay=0.01)]


def with_dropout(net):
    """The same net with dropout after each activation."""
    layers = []
    for layer in net.layers:
        layers += [layer, Dropout(0.25)] if isinstance(layer, ReLU | Tanh) else [layer]
    options = {"channels": net.channels, "patch": net.patch, "dtype": net.dtype}
    return Net(layers, **options, backend=net.backend.name, initializer="glorot")


class TestBothForms:
    """One step by scanning the sampled patches, one by the masked dense pass."""

    def check(self, net, size, steps=1, optimizer=OPTIMIZERS[0], chosen=6, tolerance=1e-12):
        classes = net.output.channels
        image, labels = random_image(net, size), random_labels(size, classes)
        mask = np.zeros(size, bool)
        mask.flat[np.random.default_rng(6).permutation(mask.size)[:chosen]] = True
        labels[mask] %= classes
        results = {}
        for form in ("dense", "patch"):
            own = net.to()
            weights = np.linspace(1, 2, classes)
            trainer = Trainer(
                own, optimizer, class_weights=weights, seed=9, form=form, border="zero", batch=4
            )
            losses = [trainer.step(image, labels, mask) for _ in range(steps)]
            results[form] = np.array(losses), own.state()
        (losses, state), (expected_losses, expected) = results["dense"], results["patch"]
        assert relative_difference(losses, expected_losses) <= tolerance
        assert all((state[n] != array).any() for n, array in net.state().items() if _learned(n))
        for name, array in expected.items():
            assert relative_difference(state[name], array) <= tolerance, name

    @pytest.mark.parametrize("name", ZOO)
    def test_zoo_with_dropout(self, fast_backend, name):
        net = with_dropout(reduced(name, dtype="float64", backend=fast_backend.name, filters=4))
        self.check(randomized(net), (20, 17))

    @pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=["sgd", "adam"])
    def test_three_steps(self, fast_backend, optimizer):
        net = small_net(fast_backend.name, "float64")
        self.check(randomized(net), (19, 23), steps=3, optimizer=optimizer, chosen=30)

    @pytest.mark.simulator
    def test_on_the_simulator(self):
        layers = [Convolution(2, 2), ReLU(), MaxPool(2), Dropout(0.3), FullyConnected(3)]
        net = Net(layers, channels=1, patch=4, backend="simulator", dtype="float64")
        self.check(randomized(net), (3, 2), chosen=3)


def _learned(name):
    return not name.endswith((".mean", ".variance"))


@pytest.mark.simulator
def test_the_simulator_learns_as_the_cpu_does():
    """Two steps of a tiny net to the same loss."""
    layers = [Convolution(2, 2), ReLU(), MaxPool(2), Dropout(0.3), FullyConnected(3)]
    rng = np.random.default_rng(8)
    image, labels = rng.standard_normal((1, 6, 7)).astype("f4"), random_labels((3, 4), 3)
    losses = {}
    for backend in ("simulator", "cpu"):
        net = Net(layers, channels=1, patch=4, backend=backend)
        trainer = Trainer(net, Adam(0.01), seed=2, border="valid")
        losses[backend] = [trainer.step(image, labels, labels >= 0) for _ in range(2)]
    np.testing.assert_allclose(losses["simulator"], losses["cpu"], rtol=1e-6)


class TestTrainer:
    def test_learning_lowers_the_loss(self):
        image = random_image(small_net("reference"), (24, 21)).astype("f4")
        labels = (image[0] > 0).astype(int)
        trainer = Trainer(small_net(), Adam(0.01))
        losses = [trainer.step(image, labels, labels >= 0) for _ in range(60)]
        assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])

    def test_pixels_outside_of_the_mask_do_not_matter(self):
        image, labels = random_image(small_net("reference"), (24, 21)), random_labels((24, 21), 3)
        mask = labels == 1
        gradients = []
        for other in (labels, np.where(mask, labels, -1)):
            trainer = Trainer(small_net(), SGD(0.1))
            gradients.append(trainer.gradients(image.astype("f4"), other, mask))
        assert gradients[0][0] == gradients[1][0]
        for name, gradient in gradients[0][1].items():
            assert gradient.tobytes() == gradients[1][1][name].tobytes()

    def test_decay_acts_on_weights_only(self):
        net = small_net()
        before = net.state()
        nothing = {name: np.zeros_like(array) for name, array in net.parameters.items()}
        trainer = Trainer(net, SGD(0.5, decay=0.5))
        trainer.optimizer.update(net, trainer.slots, nothing, 0)
        for name, array in net.state().items():
            expected = before[name] * (0.75 if name.endswith(".weights") else 1)
            np.testing.assert_allclose(array, expected, rtol=1e-6)

    def test_schedules(self):
        assert [Cosine(2.0, 4)(step) for step in (0, 2, 4, 9)] == pytest.approx([2, 1, 0, 0])
        rates = [Stepwise(1.0, 10, 0.5)(step) for step in (0, 9, 10, 25)]
        assert rates == pytest.approx([1, 1, 0.5, 0.25])


class TestBadTrainer:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"seed": -1}, "seed is -1"),
            ({"form": "both"}, "form is 'both'; expected one of 'dense', 'patch'"),
            ({"class_weights": [1, 2]}, r"class_weights is \[1, 2\]; expected 3 finite numbers"),
            ({"class_weights": [1, 2, np.nan]}, "class_weights is"),
        ],
    )
    def test_arguments(self, options, message):
        with pytest.raises(ValueError, match=message):
            Trainer(small_net(), SGD(0.1), **options)

    def test_a_mask_without_labelled_pixels(self):
        image, labels = examples(1)[0][0], np.full((24, 21), -1)
        with pytest.raises(ValueError, match="mask chooses no labelled pixel"):
            Trainer(small_net(), SGD(0.1)).step(image, labels, labels < 0)
