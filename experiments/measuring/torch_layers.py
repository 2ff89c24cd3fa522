"""A patch net or its dense form in PyTorch's own layers, with the same weights, to compare with.

PyTorch comes with the extra ``bench``; only the experiments that compare with it need it.
"""

from __future__ import annotations

import importlib.util

import numba
import numpy as np

from kernels.activation import activation_of
from net import Net
from net.conversion import steps_of
from net.exchange.activations import counterpart_of
from net.steps import ActivationStep, BatchNormStep, ConvolutionStep, MaxPoolStep

MEMORY_FORMATS = ("contiguous", "channels_last")


def why_unavailable(backend: str) -> str | None:
    """Why PyTorch cannot run where ``backend`` runs, as a sentence; None if it can."""
    if importlib.util.find_spec("torch") is None:
        return 'PyTorch is not installed; pip install -e ".[bench]" brings it'
    if backend == "cuda":
        import torch

        if not torch.cuda.is_available():
            return "the installed PyTorch finds no CUDA device"
    return None


class TorchNet:
    """``net`` as calls of PyTorch's convolution, pooling, normalisation and activations.

    Runs on the GPU where the net's backend is ``cuda``, else on as many threads as Numba. TF32 is
    switched off: float32 means float32. Activations work in place.

    Args:
        net: a chain of convolutions, full connections, max pools, activations and batch
            normalisations; its parameters are copied.
        form: ``"dense"`` (stride 1, dilated) or ``"patch"`` (strided).
        memory_format: ``"contiguous"`` or ``"channels_last"``, of weights and maps.
        compiled: run through ``torch.compile``.

    Raises:
        TypeError: PyTorch has no exact counterpart of a layer, or the net branches.
    """

    def __init__(
        self,
        net: Net,
        form: str = "dense",
        memory_format: str = "contiguous",
        compiled: bool = False,
    ):
        import torch

        self.torch = torch
        torch.set_num_threads(numba.get_num_threads())
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        self.device = "cuda" if net.backend.name == "cuda" else "cpu"
        names = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
        self.memory_format = names[memory_format]
        self.arrays = {name: self._entered(array) for name, array in net.state().items()}
        self.learned = {name: self.arrays[name].requires_grad_() for name in net.parameters}
        self.calls = [call for step in steps_of(net, form) for call in self._calls(step)]
        self.run = self._run
        if compiled:
            # After more recompilations than this, calls would silently run eagerly
            torch._dynamo.config.recompile_limit = 256
            self.run = torch.compile(self._run)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Scores N x K x Ho x Wo of N x C x H x W (patches, or an image with its borders)."""
        with self.torch.inference_mode():
            return self.run(self._entered(x)).cpu().numpy()

    def gradients(self, x: np.ndarray, error: np.ndarray) -> dict[str, np.ndarray]:
        """Gradients of sum(error * scores) by parameter name."""
        scores = self.run(self._entered(x))
        gradients = self.torch.autograd.grad(scores, self.learned.values(), self._entered(error))
        return {name: gradient.cpu().numpy() for name, gradient in zip(self.learned, gradients)}

    def _run(self, x):
        for call in self.calls:
            x = call(x)
        return x

    def _entered(self, array):
        tensor = self.torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
        return tensor.contiguous(memory_format=self.memory_format) if array.ndim == 4 else tensor

    def _calls(self, step):
        """The calls that compute ``step``, in order."""
        if len(step.inputs) > 1:
            raise TypeError(f"layer {step.output!r} merges branches; expected a chain of layers")
        functional, arrays, name = self.torch.nn.functional, self.arrays, step.node.name
        match step:
            case ConvolutionStep():
                moves = {"stride": step.window.stride, "dilation": step.window.dilation}
                weights, bias = arrays[f"{name}.weights"], arrays.get(f"{name}.bias")
                yield lambda x: functional.conv2d(x, weights, bias, **moves)
            case MaxPoolStep():
                moves = {"stride": step.window.stride, "dilation": step.window.dilation}
                yield lambda x: functional.max_pool2d(x, step.window.kernel, **moves)
            case ActivationStep():
                pass
            case BatchNormStep():
                parts = [arrays[f"{name}.{p}"] for p in ("mean", "variance", "gamma", "beta")]
                yield lambda x: functional.batch_norm(x, *parts, eps=step.epsilon)
            case _:
                raise TypeError(f"PyTorch has no exact counterpart of layer {step.output!r}")
        if step.activation:
            yield self._activation(step.activation)

    def _activation(self, activation):
        parameter, there = activation_of(activation).parameter, counterpart_of(activation)
        if there is None:
            raise TypeError(f"PyTorch has no exact counterpart of {activation!r}")
        name, torch = f"{there.function}_", self.torch
        in_place = getattr(torch.nn.functional, name, None) or getattr(torch, name)
        return in_place if parameter is None else lambda x: in_place(x, parameter)
