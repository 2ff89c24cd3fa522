"""Nets from PyTorch and to it: the same scores, the same net again, and what is refused."""

import io

import pytest

from net import Dense, NotConvertible, Scan, from_torch, to_torch
from net.exchange.activations import COUNTERPARTS
from tests.comparison import relative_difference
from tests.exchange.cases import CASES, TOLERANCES, patches_of, with_activation
from tests.net.nets import random_image, randomized, reduced

pytestmark = [pytest.mark.torch, pytest.mark.cpu]


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def reloaded(torch, module):
    """What another process would load."""
    file = io.BytesIO()
    torch.save(module, file)
    assert b"net.exchange" not in file.getvalue()
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", CASES)
class TestToTorch:
    def test_the_dense_form_is_dense(self, torch, name, dtype):
        net = CASES[name].build("cpu", dtype)
        module = reloaded(torch, to_torch(net, dense=True))
        for more in ((0, 0), (3, 4)):
            image = random_image(net, tuple(p + m for p, m in zip(net.patch, more)))
            scores = module(torch.from_numpy(image)[None])[0].detach().numpy()
            expected = Dense(net).forward(image)
            assert scores.shape == expected.shape
            assert relative_difference(scores, expected) <= TOLERANCES[dtype]

    def test_the_patch_form_is_scanning(self, torch, name, dtype):
        net = CASES[name].build("cpu", dtype)
        image = random_image(net, tuple(p + 1 for p in net.patch))
        scores = to_torch(net)(torch.from_numpy(patches_of(net, image))).detach().numpy()
        assert relative_difference(scores, Scan(net).forward(image)) <= TOLERANCES[dtype]

    def test_comes_back_as_the_same_net(self, name, dtype):
        net = CASES[name].build("cpu", dtype)
        given = {"channels": net.channels, "backend": "cpu", "report": False}
        back = from_torch(to_torch(net), net.patch, **given)
        for one, other in zip(net.nodes.values(), back.nodes.values(), strict=True):
            assert type(one.layer) is type(other.layer)
            assert (one.window, one.output) == (other.window, other.output)
            assert other.name in (one.name, f"{one.name}_1")  # a graph has no node named "sum"
        state, again = net.state(), back.state()
        assert state.keys() == again.keys()
        if state:  # else nothing tells the dtype
            assert back.dtype == dtype
        assert all((state[name] == again[name]).all() for name in state)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", COUNTERPARTS)
class TestActivations:
    def test_modules_both_ways(self, torch, name, dtype):
        net = with_activation(name, dtype)
        module = to_torch(net)
        assert type(module[1]) is getattr(torch.nn, COUNTERPARTS[name].module)
        image = random_image(net, (6, 5))
        scores = module(torch.from_numpy(patches_of(net, image))).detach().numpy()
        assert relative_difference(scores, Scan(net).forward(image)) <= TOLERANCES[dtype]
        back = from_torch(module, 4, backend="cpu", report=False)
        assert back.layers[1].activation == net.layers[1].activation

    @pytest.mark.parametrize("in_place", ["", "_"])
    def test_functions_and_their_defaults(self, torch, name, dtype, in_place):
        """``from_torch`` compares the scores."""
        function = COUNTERPARTS[name].function + in_place
        call = getattr(torch.nn.functional, function, None) or getattr(torch, function)

        class Calling(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = torch.nn.Conv2d(1, 2, 1, dtype=getattr(torch, dtype))

            def forward(self, image):
                return call(self.conv(image))

        net = from_torch(Calling(), 1, backend="cpu", report=False)
        assert (net.dtype, net.layers[1].kind) == (dtype, name)

    def test_without_a_counterpart_refused(self, name, dtype, monkeypatch):
        net = with_activation(name, dtype)
        monkeypatch.delitem(COUNTERPARTS, name)
        kind = type(net.layers[1]).__name__
        with pytest.raises(TypeError, match=rf"^layer '{name}1' is a {kind}, which PyTorch has"):
            to_torch(net)


def test_a_net_of_the_zoo_as_a_chain(torch):
    net = randomized(reduced("lenet28", backend="cpu"))
    module = to_torch(net)
    assert type(module) is torch.nn.Sequential
    assert not module.training
    back = from_torch(module, 28, backend="cpu", report=False)
    image = random_image(net, (30, 29))
    assert Dense(back).forward(image).tobytes() == Dense(net).forward(image).tobytes()


def test_pytorchs_random_numbers_are_left_alone(torch):
    net = reduced("lenet28", backend="cpu")
    before = torch.get_rng_state()
    from_torch(to_torch(net), 28, backend="cpu", report=False)
    assert (torch.get_rng_state() == before).all()


@pytest.fixture
def branching(torch):
    """A module of functions, methods, slices and branches, for patches of 2 x 10 x 11."""
    nn, functional = torch.nn, torch.nn.functional

    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(True))
            self.skip = nn.Conv2d(2, 4, 1, bias=False)
            self.weight = nn.Parameter(torch.randn(3, 8, 2, 1))
            self.head = nn.ModuleList([nn.Linear(3 * 2 * 4, 5), nn.BatchNorm1d(5)])
            self.dropout = nn.Dropout(0.3)

        def forward(self, image):
            skip = self.skip(image)[..., 1:-1, 2 : image.shape[3]]
            y = self.first(image) + functional.elu(skip, alpha=0.7)
            y = torch.cat([y.tanh(), torch.sigmoid(y)], dim=1)
            y = functional.conv2d(y, self.weight, None, stride=(2, 1), dilation=(1, 2))
            y = functional.leaky_relu(functional.max_pool2d(y, (1, 3), stride=2), 0.2)
            y = functional.dropout(y[:, :, :2, :], 0.2, self.training)
            y = self.head[0](self.dropout(y).view(image.size(0), -1))
            return functional.softmax(self.head[1](y.relu()), dim=-1)

    torch.manual_seed(3)
    module = Branching()
    module(torch.randn(5, 2, 10, 11))  # statistics
    return module.eval()


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_functions_methods_and_branches(torch, branching, dtype, capsys):
    module = branching.to(getattr(torch, dtype))
    net = from_torch(module, (10, 11), backend="cpu")
    assert f"at most {TOLERANCES[dtype]:.0e}" in capsys.readouterr().out
    assert (net.dtype, net.channels) == (dtype, 2)
    assert {"first_0", "dropout", "head_1", "softmax"} <= net.nodes.keys()
    image = random_image(net, (12, 14))
    with torch.no_grad():
        expected = module(torch.from_numpy(patches_of(net, image))).numpy()
    scores = Dense(net).forward(image).reshape(5, -1).T
    assert relative_difference(scores, expected) <= TOLERANCES[dtype]


def test_the_module_is_left_as_it_is(torch):
    nn = torch.nn
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2).eval(), nn.Dropout(0.5))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    net = from_torch(module, 3, backend="cpu", report=False)
    net.parameters["0.bias"][:] = 7
    assert module.training
    assert not module[1].training
    assert all((tensor == before[name]).all() for name, tensor in module.state_dict().items())


class TestGlobalPooling:
    @pytest.mark.parametrize("keepdim", [False, True])
    @pytest.mark.parametrize("method", ["mean", "amax"])
    def test_methods(self, torch, method, keepdim):
        class Pooling(torch.nn.Module):
            def forward(self, image):
                return getattr(image, method)((-1, 2), keepdim)

        net = from_torch(Pooling(), (4, 5), channels=3, backend="cpu", report=False)
        assert net.nodes[method].window.kernel == (4, 5)

    def test_a_window_as_large_as_the_map(self, torch):
        class Pooling(torch.nn.Module):
            def forward(self, image):
                return torch.nn.functional.avg_pool2d(image, image.size()[2:]).squeeze()

        net = from_torch(Pooling(), (4, 5), channels=3, backend="cpu", report=False)
        assert net.nodes["avg_pool2d"].window.kernel == (4, 5)

    def test_one_cell_taken_by_its_index(self, torch):
        class Cell(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = torch.nn.Conv2d(1, 2, 3)

            def forward(self, image):
                return self.conv(image)[:, :, 0, 0]

        net = from_torch(Cell(), 3, backend="cpu", report=False)
        assert list(net.nodes) == ["conv"]


def refusals(nn, functional, torch):
    """Modules for patches of 1 x 8 x 8, and what the message begins with or holds."""

    def calling(function):
        class Calling(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = nn.Conv2d(1, 2, 3)
                self.linear = nn.Linear(2, 2)

            def forward(self, image):
                return function(self, self.conv(image))

        return nn.Sequential(nn.Identity(), Calling().eval())

    def behind(*layers):
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(*layers)).eval()

    shared = nn.Conv2d(2, 2, 2)
    return {
        "0: Conv2d: padding 1 inside": nn.Sequential(nn.Conv2d(1, 2, 3, padding=1)),
        "1.0: Conv2d: padding 2 inside": behind(nn.Conv2d(2, 2, 3, padding="same")),
        "1.0: Conv2d: its 2 groups have no layer": behind(nn.Conv2d(2, 2, 2, groups=2)),
        "1.1: ConvTranspose2d: it makes more cells": behind(nn.ReLU(), nn.ConvTranspose2d(2, 2, 2)),
        "1.0: MaxPool2d: ceil_mode=True": behind(nn.MaxPool2d(4, ceil_mode=True)),
        "1.0: MaxPool2d: return_indices": behind(nn.MaxPool2d(2, return_indices=True)),
        "1.0: AvgPool2d: divisor_override=3": behind(nn.AvgPool2d(2, divisor_override=3)),
        "1.0: AdaptiveAvgPool2d: .* unequal bins": behind(nn.AdaptiveAvgPool2d(4)),
        "1.0: BatchNorm2d is in training mode": behind(nn.BatchNorm2d(2)).train(),
        "1.0: BatchNorm2d: it takes its statistics over the batch": behind(
            nn.BatchNorm2d(2, track_running_stats=False)
        ),
        "1.0: InstanceNorm2d: it takes its statistics over each": behind(nn.InstanceNorm2d(2)),
        "1.0: GELU: it is not supported; expected Conv2d": behind(nn.GELU()),
        "1.0: LeakyReLU: .*slope is -1": behind(nn.LeakyReLU(-1)),
        "1.0: LogSoftmax: a Softmax gives": behind(nn.LogSoftmax(1)),
        "1.0: Softmax: dim=2": behind(nn.Softmax(2)),
        "1.0: Dropout2d: it drops whole channels": behind(nn.Dropout2d()),
        "1.1: Linear: it reads 9 numbers; a patch of 8x8": behind(nn.Flatten(), nn.Linear(9, 2)),
        "1.0: Linear: it reads the last axis": behind(nn.Linear(6, 2)),
        "1.0: Conv2d: its weights are those of 1_0 too": behind(shared, shared),
        "1.0: Conv2d: it reads 3 channels; expected 2": behind(nn.Conv2d(3, 2, 1)),
        "layer '1_0': a map of 6 x 6 vectors is left": behind(nn.ReLU()),
        "1: interpolate: it makes more cells": calling(
            lambda self, y: functional.interpolate(y, scale_factor=2)
        ),
        "1: dropout: training=True": calling(lambda self, y: functional.dropout(y)),
        "1: getitem: it takes some patches or channels": calling(lambda self, y: y[:, :1]),
        "1: getitem: .*every so many cells": calling(lambda self, y: y[..., ::2, ::2]),
        "1: getitem: it takes single cells": calling(lambda self, y: y[:, :, 0]),
        "1: add: it reads a number": calling(lambda self, y: y + 1),
        "1: add: it adds 2 times": calling(lambda self, y: torch.add(y, y, alpha=2)),
        "1: mul: it is not supported": calling(lambda self, y: y * y),
        "1: cat: dim=2": calling(lambda self, y: torch.cat([y, y], 2)),
        "1: mean: it is taken over": calling(lambda self, y: y.mean()),
        "1: flatten: it makes 3 x 2 x 36": calling(lambda self, y: y.flatten(2)),
        "1: relu_ changes in place what add reads": calling(lambda self, y: y.relu_() + y),
        "module: it does not return": calling(lambda self, y: (y, y)),
        "module: torch.fx cannot trace it": calling(lambda self, y: y if y.sum() > 0 else -y),
    }


def test_refusals(torch):
    """By the module's path, with the reason and the way out."""
    for message, module in refusals(torch.nn, torch.nn.functional, torch).items():
        with pytest.raises(NotConvertible, match=rf"^{message}") as refusal:
            from_torch(module, 8, backend="cpu", report=False)
        assert "expected" in str(refusal.value)


def test_what_cannot_be_taken_over(torch):
    nn = torch.nn

    def refused(module, error, message):
        with pytest.raises(error, match=message):
            from_torch(module, 4, backend="cpu", report=False)

    def chain():
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 2))

    refused(chain().to("meta"), TypeError, r"module: 0.weight has no numbers \(device meta\)")
    refused(chain().half(), TypeError, r"module: 0.weight is torch.float16; .* module.float\(\)")
    module = chain()
    module[0].double()
    refused(module, TypeError, "0.weight is torch.float64 and 1.weight is torch.float32; expected")
    module = chain()
    module[0].register_forward_hook(lambda *given: given[2] + 1)
    refused(module, NotConvertible, "expected at most 1e-05. .* a hook")
    refused(nn.Sequential(nn.MaxPool2d(4)), ValueError, "^channels is None; expected a number")
