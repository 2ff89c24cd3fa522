"""A patch net: its layers linked, checked and measured, and its parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from functools import wraps
from itertools import chain
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np

from kernels import checks, foreign, get_backend
from kernels.checks import Pair, pair
from net import description, file_format, free_memory, initialization
from net.base_layer import Layer
from net.nodes import linked
from net.tables import aligned, by
from net.usage import Usage

LARGEST_SEED = 2**64 - 1


def once_a_net(function: Callable) -> Callable:
    """``@once_a_net``: a function of a net's layers alone, which is called once for each net."""
    known = WeakKeyDictionary()

    @wraps(function)
    def of_net(net):
        if net not in known:
            known[net] = function(net)
        return known[net]

    return of_net


class Net:
    """A net that looks at a patch and gives one vector, and everything needed to run it.

    Args:
        layers: the description, in order; the last layer's output is the net's.
        channels: channels of the image.
        patch: size p of the patch, an int or a pair (y, x).
        dtype: ``"float32"`` or ``"float64"``.
        seed: seed of the initialisation.
        initializer: ``"he"`` or ``"glorot"``.
        backend: ``"auto"``, ``"cuda"``, ``"simulator"``, ``"cpu"``, ``"reference"``.

    Attributes:
        nodes: the layers in their places, by name, in order.
        parameters: arrays on the backend that learning changes, by ``"layer.weights"``, ``.bias``,
            ``.gamma`` and ``.beta``. Every way of running the net reads these very arrays.
        statistics: ``"layer.mean"`` and ``".variance"`` of the batch normalisations.

    Raises:
        NotConvertible: the net has no exact dense form (the layer is named).
        ValueError, TypeError: an argument is wrong.
        BackendUnavailable: the backend cannot run here.

    >>> from net.layers import Convolution, FullyConnected, MaxPool, ReLU
    >>> layers = [Convolution(4, 3), ReLU(), MaxPool(2), FullyConnected(3)]
    >>> net = Net(layers, channels=1, patch=8, backend="cpu")
    >>> print(net)
    patch 1 x 8x8, float32, backend cpu
    layer  reads  window / stride  map      d    R
    conv1  image  3x3 / 1x1        4 x 6x6  1x1  3x3
    relu1  conv1                   4 x 6x6  1x1  3x3
    max1   relu1  2x2 / 2x2        4 x 3x3  1x1  4x4
    fc1    max1   3x3 / 1x1        3 x 1x1  2x2  8x8
    """

    def __init__(
        self,
        layers: list[Layer],
        *,
        channels: int,
        patch: int | Pair,
        dtype: str = "float32",
        seed: int = 0,
        initializer: str = "he",
        backend: str = "auto",
    ):
        self.dtype = dtype = checks.float_dtype("dtype", dtype)
        checks.choice("initializer", initializer, tuple(initialization.INITIALIZERS))
        checks.count("seed", seed, 0, LARGEST_SEED)
        self.channels = checks.count("channels", channels)
        self.patch = pair("patch", patch)
        self.nodes = linked(layers, self.channels, self.patch)
        self.layers = tuple(layers)
        self.output = next(reversed(self.nodes.values())).output
        self.backend = get_backend(backend)
        needed = initialization.peak_bytes(self.nodes.values(), dtype)
        free_memory.check(
            self.backend, "a net of these layers", needed, lambda _: "expected smaller ones"
        )
        on_device = self.backend.memory.to_device
        host = initialization.parameters(self.nodes.values(), dtype, seed, initializer)
        self.parameters = {name: on_device(array) for name, array in host.items()}
        self.statistics = {}
        for node in self.nodes.values():
            for name, shape in node.statistics.items():
                neutral = np.full(shape, name.endswith(".variance"), dtype)
                self.statistics[name] = on_device(neutral)
        self._shapes = {name: tuple(array.shape) for name, array in self._arrays().items()}
        self._usage: Usage | None = None

    @property
    def usage(self) -> Usage | None:
        """How the net is used: normalisation, classes, labels, border; None where nobody said.

        Files keep it. Running the net does not look at it: ``net.images.net_input`` normalises.

        Raises:
            TypeError, ValueError: set to no usage of a net of these channels and classes.

        >>> from net.layers import Convolution
        >>> net = Net([Convolution(2, 3)], channels=1, patch=3, backend="cpu")
        >>> net.usage = Usage(class_names=("cell", "rest"))
        >>> net.usage.class_names
        ('cell', 'rest')
        """
        return self._usage

    @usage.setter
    def usage(self, usage: Usage | None) -> None:
        if usage is not None:
            checks.instance("usage", usage, Usage)
            usage.check(self.channels, self.output.channels)
        self._usage = usage

    @property
    def receptive_field(self) -> Pair:
        """R (y, x): the part of the patch that is read, at the top left; at most the patch. Cells
        that are cropped, or lie between taps, count as read.

        >>> from net.layers import Convolution, MaxPool
        >>> layers = [MaxPool(2), Convolution(3, 2)]  # the patch's last row and column are dropped
        >>> Net(layers, channels=1, patch=5, backend="cpu").receptive_field
        (4, 4)
        """
        return self.output.extent

    @property
    def gives_probabilities(self) -> bool:
        """Whether its output is probabilities, not scores: whether a Softmax ends it.

        >>> from net.layers import Convolution, Softmax
        >>> net = Net([Convolution(2, 3), Softmax()], channels=1, patch=3, backend="cpu")
        >>> net.gives_probabilities
        True
        """
        return self.layers[-1].gives_probabilities

    def __str__(self) -> str:
        """A table of the layers and their geometry.

        ``d`` is the accumulated stride in front of a layer, ``R`` the receptive field behind it.
        """
        rows = [node.geometry for node in self.nodes.values()]
        headings = ("layer", "reads", "window / stride", "map", "d", "R")
        size = f"patch {self.channels} x {by(self.patch)}"
        return f"{size}, {self.dtype}, backend {self.backend.name}\n{aligned(headings, rows)}"

    def arrays(self) -> dict:
        """Parameters and statistics on the backend by name, as a pass reads them.

        Raises:
            TypeError, ValueError: one was replaced by what does not fit, or there is none of that
                name in the net.

        >>> from net.layers import Convolution
        >>> net = Net([Convolution(2, 3)], channels=1, patch=3, backend="cpu")
        >>> net.parameters["conv1.bias"] = np.zeros(3, np.float32)
        >>> net.arrays()
        Traceback (most recent call last):
            ...
        ValueError: parameters['conv1.bias'] has shape 3; expected 2, no axis empty
        """
        arrays = self._arrays()
        if {name: getattr(a, "shape", None) for name, a in arrays.items()} != self._shapes:
            for kind in ("parameters", "statistics"):
                shapes = [getattr(node, kind).items() for node in self.nodes.values()]
                self._check_arrays(kind, dict(chain.from_iterable(shapes)))
        return arrays

    def _arrays(self):
        return self.parameters | self.statistics

    def _check_arrays(self, kind, shapes):
        """Refuse parameters or statistics that are not those of ``shapes``."""
        arrays = getattr(self, kind)
        for name in arrays.keys() - shapes.keys():
            raise ValueError(f"{kind}[{name!r}] is too many; expected {', '.join(shapes)}")
        for name, shape in shapes.items():
            place = f"{kind}[{name!r}]"
            if name not in arrays:
                raise ValueError(f"{place} is missing; expected an array of shape {shape}")
            array = arrays[name]
            if checks.lies_on_device(place, array):
                array = self.backend.memory.to_device(array)
            checks.array(place, array, shape)

    def state(self) -> dict[str, np.ndarray]:
        """Parameters and statistics as host arrays (copies), by name.

        >>> from net.layers import Convolution
        >>> net = Net([Convolution(2, 3)], channels=1, patch=3, backend="cpu")
        >>> {name: array.shape for name, array in net.state().items()}
        {'conv1.weights': (2, 1, 3, 3), 'conv1.bias': (2,)}
        """
        to_host = self.backend.memory.to_host
        arrays = self._arrays().items()
        return {name: np.array(to_host(array), self.dtype) for name, array in arrays}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Take over parameters and statistics, converted to the net's dtype.

        Raises:
            TypeError, ValueError: a name is missing or unknown, a shape differs, or an array holds
                anything but finite real numbers, or a negative variance; nothing is changed then.

        >>> from net.layers import Convolution
        >>> net = Net([Convolution(2, 3)], channels=1, patch=3, backend="cpu")
        >>> net.load_state(net.state() | {"conv1.bias": np.array([0.5, -0.5])})
        >>> net.parameters["conv1.bias"]
        array([ 0.5, -0.5], dtype=float32)
        """
        present = self._arrays()
        if not isinstance(state, Mapping):
            raise TypeError(f"state is {checks.kind_of(state)}; expected a dict of arrays by name")
        if present.keys() != state.keys():
            raise ValueError(
                f"state has {sorted(state.keys() - present.keys(), key=str)} too many and lacks "
                f"{sorted(present.keys() - state.keys())}; expected the names of this net's state"
            )
        values = {
            name: _converted(name, state[name], tuple(array.shape), self.dtype)
            for name, array in present.items()
        }
        moved = {name: self.backend.memory.to_device(value) for name, value in values.items()}
        for arrays in (self.parameters, self.statistics):
            for name in arrays:
                arrays[name] = moved[name]

    def save(self, path: str | Path) -> None:
        """Write the net to a file that ``net.load`` reads (docs/file-format.md).

        Raises:
            ValueError: a file cannot hold it, or is not to (NaN, as of a run that diverged); the
                layer and the field, or the array, are named.
            OSError: the file cannot be written; the old one is as it was.

        >>> import tempfile
        >>> from net import load
        >>> from net.layers import FullyConnected
        >>> net = Net([FullyConnected(2)], channels=1, patch=3, backend="cpu")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     net.save(Path(folder, "net.safetensors"))
        ...     load(Path(folder, "net.safetensors"), backend="cpu").layers
        (FullyConnected(name=None, inputs=None, features=2, bias=True),)
        """
        file_format.write(path, *description.of_net(self))

    def without_softmax(self) -> Net:
        """The net that gives the scores, where a Softmax ends this one; otherwise this one.

        Both have the very same parameters and statistics.

        >>> from net.layers import Convolution, Softmax
        >>> net = Net([Convolution(2, 3), Softmax()], channels=1, patch=3, backend="cpu")
        >>> scores = net.without_softmax()
        >>> len(scores.layers), scores.parameters is net.parameters
        (1, True)
        """
        if not self.gives_probabilities or len(self.layers) == 1:
            return self
        scores = copy(self)
        scores.layers = self.layers[:-1]
        scores.nodes = {node.name: node for node in list(self.nodes.values())[:-1]}
        scores.output = list(scores.nodes.values())[-1].output
        return scores

    def to(self, *, dtype: str | None = None, backend: str | None = None) -> Net:
        """The same net with a copy of its state in another dtype or on another backend.

        >>> from net.layers import Convolution
        >>> net = Net([Convolution(2, 3)], channels=1, patch=3, backend="cpu")
        >>> net.to(dtype="float64", backend="reference").dtype
        'float64'
        """
        other = Net(
            self.layers,
            channels=self.channels,
            patch=self.patch,
            dtype=self.dtype if dtype is None else dtype,
            backend=self.backend.name if backend is None else backend,
        )
        other.load_state(self.state())
        other.usage = self.usage
        return other


def net_of(document: dict, arrays: dict[str, np.ndarray], backend: str) -> Net:
    """The net that ``net.description.of_net`` describes.

    Args:
        document: has the ``net``, and how it is used.
        arrays: the net's arrays, whose names begin with ``net/``; others are passed over.
        backend: name of its backend.

    Raises:
        TypeError, ValueError: the document describes none, or the arrays are not its own.
    """
    net = Net(**description.net_options(document.get("net")), backend=backend)
    net.usage = description.usage_of(document, net.patch, net.channels, net.output)
    of_net = {name: array for name, array in arrays.items() if name.startswith("net/")}
    net.load_state({name.removeprefix("net/"): array for name, array in of_net.items()})
    return net


def _converted(name, array, shape, dtype) -> np.ndarray:
    """An array of a state in the dtype of its net."""
    where = f"state[{name!r}]"
    array = foreign.host_array(where, array)
    checks.unmasked(where, array)
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{where} is {checks.kind_of(array)}; expected a NumPy array")
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{where} has dtype {array.dtype}; expected real numbers")
    if array.shape != shape:
        raise ValueError(f"{where} has shape {array.shape}; expected {shape}")
    with np.errstate(over="ignore"):
        value = np.array(array, dtype, order="C")
    description.check_values(where, name, value)
    return value
