"""Nets from modules of PyTorch, traced by ``torch.fx``, with their weights."""

from __future__ import annotations

import copy
from contextlib import contextmanager

import numpy as np

from kernels import checks, get_backend
from kernels.checks import Pair
from net.exchange.torch_graph import Traced
from net.exchange.torch_layers import ModuleReader
from net.extras import framework
from net.graph import Net
from net.maps import NotConvertible
from net.program import Program

PATCHES = 8
TOLERANCES = {"float32": 1e-5, "float64": 1e-12}
"""By how much the scores may differ from PyTorch's, of the largest."""


def from_torch(
    module,
    patch: int | Pair,
    *,
    channels: int | None = None,
    backend: str = "auto",
    report: bool = True,
) -> Net:
    """The net that a module of PyTorch is, with a copy of its weights and in their dtype.

    The module looks at patches: N x C x p x p to N x K or N x K x 1 x 1. It is an
    ``nn.Sequential``, or any module that ``torch.fx`` traces to operations that docs/pytorch.md
    lists. Layers are called by the paths of the modules, with ``_`` for ``.``. The scores of random
    patches are compared with those of the module itself, in eval mode.

    Args:
        module: ``torch.nn.Module``, left as it is.
        patch: size p of the patch, an int or a pair (y, x).
        channels: number of channels of the image; None: as many as the first layer with weights
            reads.
        backend: name of the net's backend.
        report: print how far the scores are from PyTorch's.

    Raises:
        ImportError: PyTorch is not installed.
        NotConvertible: a part has no exact dense form, or is not supported; it is named by its
            path, with the reason and the way out. Or the scores are not PyTorch's: more than 1e-5
            (float64: 1e-12) of the largest apart.
        TypeError, ValueError: an argument is wrong, or the patch does not suit the module.

    >>> from torch import manual_seed, nn
    >>> _ = manual_seed(0)
    >>> layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)]
    >>> net = from_torch(nn.Sequential(*layers), patch=8, backend="cpu")
    from_torch: 4 layers; the scores of 8 patches are PyTorch's to ...
    >>> print(net)
    patch 1 x 8x8, float32, backend cpu
    layer  reads  window / stride  map      d    R
    0      image  3x3 / 1x1        4 x 6x6  1x1  3x3
    1      0                       4 x 6x6  1x1  3x3
    2      1      2x2 / 2x2        4 x 3x3  1x1  4x4
    4      2      3x3 / 1x1        3 x 1x1  2x2  8x8
    """
    torch = framework("torch")
    checks.instance("module", module, torch.nn.Module)
    patch = checks.pair("patch", patch)
    channels = None if channels is None else checks.count("channels", channels)
    get_backend(backend)
    report = checks.flag("report", report)
    dtype = _dtype(torch, module)
    if any(tensor.device.type != "cpu" for tensor in _tensors(module)):
        module = copy.deepcopy(module).to("cpu")
    _check_modes(module)
    traced = Traced(torch, module)
    channels = traced.channels() if channels is None else channels
    with _evaluating(module), torch.no_grad():
        reader = ModuleReader(traced, patch, channels, getattr(torch, dtype))
        net = Net(reader.layers, channels=channels, patch=patch, dtype=dtype, backend=backend)
        net.load_state(net.state() | reader.arrays)
        _compare(torch, net, module, report)
    return net


def _tensors(module):
    return [*module.parameters(), *module.buffers()]


def _dtype(torch, module) -> str:
    first_of = {}
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.is_meta:
            raise TypeError(f"module: {name} has no numbers (device meta); expected a loaded state")
        if tensor.is_floating_point() or tensor.is_complex():
            first_of.setdefault(tensor.dtype, name)
    known = {getattr(torch, name): name for name in TOLERANCES}
    for dtype, name in first_of.items():
        if dtype not in known:
            raise TypeError(
                f"module: {name} is {dtype}; expected torch.float32 or torch.float64, as "
                "module.float() makes it"
            )
    if len(first_of) > 1:
        parts = " and ".join(f"{name} is {dtype}" for dtype, name in first_of.items())
        raise TypeError(f"module: {parts}; expected one dtype, as module.float() makes it")
    return known[next(iter(first_of), torch.float32)]


def _check_modes(module):
    for path, part in module.named_modules():
        if part.training and type(part).__name__.startswith("BatchNorm"):
            raise NotConvertible(
                f"{path or 'module'}: {type(part).__name__} is in training mode, where it takes "
                "its statistics over the batch, so a patch's scores would depend on the other "
                "patches; expected module.eval()"
            )


@contextmanager
def _evaluating(module):
    """Within it, the module is in eval mode."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def _compare(torch, net, module, report):
    """Hold the net's scores to PyTorch's own, patch by patch."""
    rng = np.random.default_rng(0)
    patches = rng.standard_normal((PATCHES, net.channels, *net.patch)).astype(net.dtype)
    theirs = module(torch.from_numpy(patches.copy())).reshape(PATCHES, -1).numpy()
    memory = net.backend.memory
    ours = Program(net, "patch").forward(memory.to_device(patches))
    ours = memory.to_host(ours).reshape(PATCHES, -1)
    with np.errstate(invalid="ignore"):
        difference = np.abs(ours - theirs).max()
        difference = float(difference and difference / np.abs(theirs).max())
    tolerance = TOLERANCES[net.dtype]
    if not difference <= tolerance:
        raise NotConvertible(
            f"module: its scores of {PATCHES} random patches and the net's are {difference:.1e} of "
            f"the largest apart; expected at most {tolerance:.0e}. Something in it is not what "
            "torch.fx shows: a hook, or a tensor that is changed in place"
        )
    if report:
        print(
            f"from_torch: {len(net.layers)} layers; the scores of {PATCHES} patches are PyTorch's "
            f"to {difference:.1e} of the largest (at most {tolerance:.0e})"
        )
