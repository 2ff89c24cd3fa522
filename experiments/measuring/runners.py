"""Every way to run a net, behind one interface: images in, scores or gradients out.

A runner is an object with ``forward(image)`` and ``gradients(image, error)``: image C x H x W, to
which no border is added, scores and error maps K x Ho x Wo, gradients by parameter name.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from experiments.measuring import torch_layers
from net import Dense, Net, Scan
from net.conversion import dense_window
from net.fragments import Fragments
from net.layers import ActivationLayer, AveragePool, BatchNorm, Convolution, MaxPool

DENSE, SCANNING, FRAGMENTS, ZERO_FILLED = "dense", "patch by patch", "fragments", "zero-filled"
NEEDED, EVERYWHERE = "needed cells", "masked"
TORCH = {f"PyTorch {name}": name for name in torch_layers.MEMORY_FORMATS}


def runner(name: str, net: Net):
    """The runner called ``name`` for ``net`` and images of any size (scanning: ``SampledScan``).

    Raises:
        ValueError: there is no such runner.
    """
    if name == DENSE:
        return _Form(Dense(net))
    if name == FRAGMENTS:
        return _Form(Fragments(net))
    if name == ZERO_FILLED:
        return _ZeroFilled(net)
    if name in TORCH:
        return _Torch(net, TORCH[name])
    known = ", ".join((DENSE, FRAGMENTS, ZERO_FILLED, *TORCH))
    raise ValueError(f"runner is {name!r}; expected one of {known}")


def why_unavailable(name: str, backend: str) -> str | None:
    """Why a runner cannot run here, as a sentence; None if it can."""
    return torch_layers.why_unavailable(backend) if name in TORCH else None


class SampledScan:
    """Scanning as a runner: only the scores and errors of chosen pixels count.

    Args:
        net: what to run.
        pixels: n x 2 ints.
        batch: patches in a batch.
    """

    def __init__(self, net: Net, pixels: np.ndarray, batch: int):
        self.scan, self.pixels = Scan(net, batch=batch), pixels

    def forward(self, image):
        """n x K."""
        return self.scan.forward(image, self.pixels)

    def gradients(self, image, error):
        """By parameter name, of the error map's values at the chosen pixels."""
        vectors = np.ascontiguousarray(error[:, self.pixels[:, 0], self.pixels[:, 1]].T)
        return self.scan.gradients(image, vectors, self.pixels).parameters


class Needed:
    """The dense form at chosen pixels, planned anew in every call: only these pixels' scores and
    errors count.

    Args:
        net: what to run.
        mask: of the pixels.
    """

    def __init__(self, net: Net, mask: np.ndarray):
        self.net, self.mask = net, mask

    def forward(self, image):
        """K x Ho x Wo, NaN elsewhere."""
        return Dense(self.net).forward(image, self.mask)

    def gradients(self, image, error):
        """By parameter name, of the error map's values at the chosen pixels."""
        return Dense(self.net).gradients(image, error, self.mask).parameters


class Everywhere(Needed):
    """The dense form with a masked error map, as the paper has it."""

    def forward(self, image):
        """K x Ho x Wo."""
        return Dense(self.net).forward(image)

    def gradients(self, image, error):
        """By parameter name, of the error map's values at the chosen pixels."""
        return Dense(self.net).gradients(image, error, self.mask, everywhere=True).parameters


OF_CHOSEN = {NEEDED: Needed, EVERYWHERE: Everywhere}
"""Runners made of a net and a mask, by name."""


class _Form:
    """One of the forms that ``net`` computes."""

    def __init__(self, form):
        self.form = form

    def forward(self, image):
        return self.form.forward(image)

    def gradients(self, image, error):
        return self.form.gradients(image, error).parameters


class _Torch:
    """PyTorch's own dilated layers."""

    def __init__(self, net, memory_format):
        self.net = torch_layers.TorchNet(net, "dense", memory_format)

    def forward(self, image):
        return self.net.forward(image[None])[0]

    def gradients(self, image, error):
        return self.net.gradients(image[None], error[None])


class _ZeroFilled(_Form):
    """The naive dense form: kernels as large as their footprint, zero between their entries.

    The gradient with respect to the zeros is computed and thrown away. Poolings have no weights to
    fill: they stay dilated.
    """

    def __init__(self, net):
        self.spacings = {name: node.sources[0].spacing for name, node in net.nodes.items()}
        layers = [_unstrided(node) for node in net.nodes.values()]
        options = {"dtype": net.dtype, "backend": net.backend.name}
        filled = Net(layers, channels=net.channels, patch=net.receptive_field, **options)
        state = filled.state()
        for parameter, values in net.state().items():
            owner, _, part = parameter.rpartition(".")
            if part == "weights":
                dy, dx = self.spacings[owner]
                state[parameter][...] = 0
                state[parameter][:, :, ::dy, ::dx] = values
            else:
                state[parameter] = values
        filled.load_state(state)
        super().__init__(Dense(filled))

    def gradients(self, image, error):
        gradients = super().gradients(image, error)
        for parameter in gradients:
            if parameter.endswith(".weights"):
                dy, dx = self.spacings[parameter.removesuffix(".weights")]
                gradients[parameter] = np.ascontiguousarray(gradients[parameter][:, :, ::dy, ::dx])
        return gradients


def _unstrided(node):
    """A layer of the dense form as one of a net without strides; its weights are filled later."""
    layer = replace(node.layer, name=node.name)
    if node.window is None:
        if not isinstance(layer, ActivationLayer | BatchNorm):
            raise TypeError(f"layer {node.name!r} has no zero-filled form here")
        return layer
    window = dense_window(node.window, node.sources[0].spacing)
    if node.layer.has_weights:
        return Convolution(node.output.channels, window.footprint, bias=layer.bias, name=node.name)
    kind = MaxPool if layer.kind == "max" else AveragePool
    return kind(window.kernel, 1, window.dilation, name=node.name)
