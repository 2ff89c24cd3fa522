"""One step of learning: by the masked dense pass and by scanning it is the same."""

import numpy as np
import pytest

from kernels.memory import cpu as memory
from net import Net, free_memory
from net.layers import Convolution, Dropout, FullyConnected, MaxPool, ReLU, Softmax, Tanh
from net.learning.optimizers import SGD, Adam, Cosine, Stepwise
from net.learning.training import Trainer
from net.zoo import ZOO
from tests.comparison import relative_difference
from tests.net.learning import LAYERS, examples, random_labels, small_net
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
            copied = net.to()
            weights = np.linspace(1, 2, classes)
            trainer = Trainer(
                copied, optimizer, class_weights=weights, seed=9, form=form, border="zero", batch=4
            )
            losses = [trainer.step(image, labels, mask) for _ in range(steps)]
            results[form] = np.array(losses), copied.state()
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


@pytest.mark.parametrize("form", ["dense", "patch"])
def test_a_softmax_at_the_end_changes_nothing(form):
    """Loss, gradients and steps are those of the net without it, to the bit."""
    image, labels = (part[0] for part in examples(1))
    options = {"seed": 4, "form": form, "class_weights": [1, 2, 3]}
    plain = Trainer(small_net(), SGD(0.1), **options)
    net = Net([*LAYERS, Softmax()], channels=1, patch=17, backend="cpu")
    trainer = Trainer(net, SGD(0.1), **options)
    mask = np.arange(labels.size).reshape(labels.shape) % 7 == 0
    loss, gradients = trainer.gradients(image, labels, mask)
    expected_loss, expected = plain.gradients(image, labels, mask)
    assert loss == expected_loss
    assert {n: g.tobytes() for n, g in gradients.items()} == {
        n: g.tobytes() for n, g in expected.items()
    }
    assert [trainer.step(image, labels, mask) for _ in range(2)] == [
        plain.step(image, labels, mask) for _ in range(2)
    ]
    state, others = net.state(), plain.net.state()
    assert {n: a.tobytes() for n, a in state.items()} == {n: a.tobytes() for n, a in others.items()}


class TestFailedStep:
    """It changes nothing: parameters, slots and steps stay as they were."""

    @pytest.fixture(params=["dense", "patch"])
    def trainer(self, request):
        trainer = Trainer(small_net(), Adam(0.1), form=request.param)
        trainer.step(*self.arguments())
        return trainer

    def arguments(self, **change):
        (image, *_), (labels, *_) = examples(1)
        mask = np.arange(labels.size).reshape(labels.shape) % 9 == 0
        return ({"image": image, "labels": labels, "mask": mask} | change).values()

    def bits(self, trainer):
        arrays = trainer.net.state() | {n: a for n, a in trainer.slots.items() if a is not None}
        return trainer.steps, {name: array.tobytes() for name, array in arrays.items()}

    def check(self, trainer, error, message, **change):
        before = self.bits(trainer)
        with pytest.raises(error, match=message):
            trainer.step(*self.arguments(**change))
        assert self.bits(trainer) == before

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_an_image_that_is_not_finite(self, trainer, value):
        image = np.array(examples(1)[0][0])
        image[0, 3, 5] = value
        self.check(trainer, ValueError, "image holds NaN or infinities", image=image)

    def test_labels_that_are_masked(self, trainer):
        labels = np.ma.masked_equal(examples(1)[1][0], 2)
        self.check(trainer, TypeError, "labels is a masked array", labels=labels)

    def test_a_mask_that_is_masked(self, trainer):
        mask = np.ma.masked_equal(np.ones((24, 21), bool), False)
        self.check(trainer, TypeError, "mask is a masked array", mask=mask)

    def test_more_memory_than_is_free(self, trainer, monkeypatch):
        monkeypatch.setattr(free_memory, "SMALLEST", 0)
        monkeypatch.setattr(memory, "free_bytes", lambda: 20_000)
        self.check(trainer, MemoryError, "and learning takes .* GB are free")

    def test_memory_that_runs_out_on_the_way_back(self, trainer, monkeypatch):
        def no_room(*_, **__):
            raise MemoryError("no room")

        convolution = trainer.net.backend.convolution
        monkeypatch.setattr(convolution, "gradient_input", no_room)
        self.check(trainer, MemoryError, "no room")

    @pytest.mark.parametrize("slot", [None, np.zeros(2, np.float32), np.zeros(6)])
    @pytest.mark.parametrize("place", ["first", "last"])
    def test_a_slot_that_does_not_fit(self, trainer, slot, place):
        _, gradients = trainer.gradients(*self.arguments())
        name = f"square.{list(gradients)[0 if place == 'first' else -1]}"
        trainer.slots[name] = slot
        self.check(trainer, (TypeError, ValueError), rf"slots\['{name}'\] (is|has)")


class TestBadTrainer:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"seed": -1}, "seed is -1"),
            ({"form": "both"}, "form is 'both'; expected one of 'needed', 'dense', 'patch'"),
            ({"class_weights": [1, 2]}, r"class_weights is \[1, 2\]; expected 3 finite numbers"),
            ({"class_weights": [1, 2, np.nan]}, "class_weights is"),
            ({"class_weights": [1, 2, -1]}, "class_weights is .* each 0 or from 1e-30 to 1e.30"),
            ({"class_weights": [1, 2, 1e39]}, "class_weights is"),
            ({"class_weights": [1, 2, 1e-46]}, "class_weights is"),
            ({"class_weights": [1, 2, 10**400]}, "class_weights is"),
            ({"class_weights": [0, 0, 0]}, "class_weights is .* and one above 0"),
            ({"class_weights": "123"}, "class_weights is '123'"),
            ({"class_weights": [1, 2, 1j]}, "class_weights is"),
            ({"class_weights": [1, [2], 3]}, "class_weights is"),
        ],
    )
    def test_arguments(self, options, message):
        with pytest.raises(ValueError, match=message):
            Trainer(small_net(), SGD(0.1), **options)

    @pytest.mark.parametrize(
        ("net", "optimizer", "message"),
        [
            (None, SGD(0.1), "net is a NoneType; expected a Net"),
            (Net, SGD(0.1), "net is the class Net; expected a Net"),
            (
                small_net("reference"),
                SGD,
                "optimizer is the class SGD; expected one of net.learning",
            ),
            (small_net("reference"), "adam", "optimizer is a str"),
        ],
    )
    def test_other_things(self, net, optimizer, message):
        with pytest.raises(TypeError, match=message):
            Trainer(net, optimizer)

    def test_masked_class_weights(self):
        weights = np.ma.masked_equal([1, 2, 3], 2)
        with pytest.raises(TypeError, match="class_weights is a masked array"):
            Trainer(small_net("reference"), SGD(0.1), class_weights=weights)

    @pytest.mark.parametrize("layer", [MaxPool(3), Softmax()])
    def test_a_net_that_cannot_learn(self, layer):
        net = Net([layer], channels=2, patch=3 if layer == MaxPool(3) else 1, backend="reference")
        with pytest.raises(ValueError, match="net has no parameters"):
            Trainer(net, SGD(0.1))

    def test_a_mask_of_a_class_of_weight_0(self):
        image, labels = (part[0] for part in examples(1))
        trainer = Trainer(small_net(), SGD(0.1), class_weights=[0, 1, 1])
        with pytest.raises(
            ValueError, match="mask chooses no labelled pixel of a class with a wei"
        ):
            trainer.step(image, labels, labels == 0)

    def test_a_mask_without_labelled_pixels(self):
        image, labels = examples(1)[0][0], np.full((24, 21), -1)
        with pytest.raises(ValueError, match="mask chooses no labelled pixel"):
            Trainer(small_net(), SGD(0.1)).step(image, labels, labels < 0)
