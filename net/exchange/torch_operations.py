"""The operations of PyTorch that a net can be read from: modules, functions and methods."""

from __future__ import annotations

import operator
from typing import NamedTuple

from net.exchange.activations import COUNTERPARTS


class Operation(NamedTuple):
    """What is called by one of several names.

    Attributes:
        kind: an activation, or else the method of ``net.exchange.torch_layers`` that reads it.
        arguments: names of its arguments, in the order of the function, the map first; a module has
            attributes of these names.
        modules: names of modules of ``torch.nn``.
        functions: names of functions of ``torch``, ``torch.nn.functional`` or ``operator``, and of
            methods of tensors; those that end in ``_`` work in place.
    """

    kind: str
    arguments: tuple[str, ...]
    modules: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()


_WINDOW = ("input", "kernel_size", "stride", "padding")
_WEIGHTS = ("input", "weight", "bias")
OPERATIONS = (
    Operation(
        "conv",
        (*_WEIGHTS, "stride", "padding", "dilation", "groups"),
        ("Conv2d",),
        ("conv2d",),
    ),
    Operation("linear", _WEIGHTS, ("Linear",), ("linear",)),
    Operation(
        "max_pool",
        (*_WINDOW, "dilation", "ceil_mode", "return_indices"),
        ("MaxPool2d",),
        ("max_pool2d",),
    ),
    Operation(
        "average_pool",
        (*_WINDOW, "ceil_mode", "count_include_pad", "divisor_override"),
        ("AvgPool2d",),
        ("avg_pool2d",),
    ),
    Operation(
        "adaptive_max_pool",
        ("input", "output_size", "return_indices"),
        ("AdaptiveMaxPool2d",),
        ("adaptive_max_pool2d",),
    ),
    Operation(
        "adaptive_average_pool",
        ("input", "output_size"),
        ("AdaptiveAvgPool2d",),
        ("adaptive_avg_pool2d",),
    ),
    Operation("global_mean", ("input", "dim", "keepdim"), (), ("mean",)),
    Operation("global_max", ("input", "dim", "keepdim"), (), ("amax",)),
    Operation(
        "batch_norm",
        (
            *("input", "running_mean", "running_var", "weight", "bias"),
            *("training", "momentum", "eps"),
        ),
        ("BatchNorm2d", "BatchNorm1d"),
        ("batch_norm",),
    ),
    *(
        Operation(name, one.arguments, (one.module,), (one.function, f"{one.function}_"))
        for name, one in COUNTERPARTS.items()
    ),
    Operation("softmax", ("input", "dim"), ("Softmax", "Softmax2d"), ("softmax",)),
    Operation("dropout", ("input", "p", "training", "inplace"), ("Dropout",), ("dropout",)),
    Operation("add", ("input", "other", "alpha"), (), ("add", "add_", "iadd")),
    Operation("cat", ("tensors", "dim"), (), ("cat", "concat", "concatenate")),
    Operation("crop", ("input", "index"), (), ("getitem",)),
    Operation("same", ("input",), ("Identity",), ("contiguous", "clone")),
    Operation(
        "reshape",
        ("input",),
        ("Flatten", "Unflatten"),
        ("flatten", "view", "reshape", "squeeze", "unsqueeze"),
    ),
)

SUPPORTED = (
    ", ".join(name for one in OPERATIONS for name in one.modules)
    + ", addition, concatenation and crops by slices"
)

_REFUSED = {
    (
        "it makes more cells than it reads, where the dense form labels every pixel without; "
        "expected a net that gives one vector for each patch"
    ): (
        *("ConvTranspose2d", "conv_transpose2d", "Upsample", "UpsamplingNearest2d"),
        *("UpsamplingBilinear2d", "interpolate", "upsample", "PixelShuffle", "pixel_shuffle"),
        *("MaxUnpool2d", "max_unpool2d", "Fold", "fold"),
    ),
    (
        "it takes its statistics over each patch at run time, and overlapping patches have "
        "different ones; expected BatchNorm2d, in eval mode"
    ): (
        *("InstanceNorm2d", "instance_norm", "GroupNorm", "group_norm"),
        *("LayerNorm", "layer_norm", "RMSNorm", "rms_norm"),
    ),
    (
        "it puts made-up values into the patch where the dense form sees pixels of the image; "
        "expected no padding inside the net (borders of the image are padded once, outside of it)"
    ): (
        *("ZeroPad2d", "ConstantPad2d", "ReflectionPad2d", "ReplicationPad2d", "CircularPad2d"),
        "pad",
    ),
    (
        "a Softmax gives the same classes; expected Softmax, or the scores themselves, with the "
        "logarithm outside of the net"
    ): ("LogSoftmax", "log_softmax"),
    (
        "it drops whole channels, or makes noise of them; expected Dropout, which drops cells, or "
        "Identity where nothing is to be learned"
    ): (
        *("Dropout1d", "Dropout2d", "dropout1d", "dropout2d", "AlphaDropout", "alpha_dropout"),
        *("FeatureAlphaDropout", "feature_alpha_dropout"),
    ),
    (
        "its cells read the whole patch, by weights that depend on it; expected convolutions and "
        "poolings"
    ): ("MultiheadAttention", "scaled_dot_product_attention", "TransformerEncoderLayer"),
}
REASONS = {name: reason for reason, names in _REFUSED.items() for name in names}
"""Why an operation is refused, and the way out, by name."""

OF_MODULE = {name: one for one in OPERATIONS for name in one.modules}
OF_FUNCTION = {name: one for one in OPERATIONS for name in one.functions}


def called_by(torch, node, module=None) -> tuple[str, Operation | None]:
    """The name of what a node of ``torch.fx`` calls, and its operation where there is one.

    Args:
        torch: the package.
        node: a ``call_module``, ``call_function`` or ``call_method``.
        module: the module that a ``call_module`` calls.
    """
    if node.op == "call_module":
        name = type(module).__name__
        known = type(module) is getattr(torch.nn, name, None)
        return name, OF_MODULE.get(name) if known else None
    if node.op == "call_method":
        return node.target, OF_FUNCTION.get(node.target)
    name = getattr(node.target, "__name__", str(node.target))
    spaces = (torch, torch.nn.functional, operator)
    known = any(getattr(space, name, None) is node.target for space in spaces)
    return name, OF_FUNCTION.get(name) if known else None


def is_in_place(node, name: str, options: dict) -> bool:
    """Whether it changes what it reads."""
    return bool(options.get("inplace")) or name.endswith("_") or node.target is operator.iadd


def tells_a_size(node) -> bool:
    """Whether it gives numbers, not a tensor: ``x.size(0)``, ``x.shape``."""
    if node.op == "call_method":
        return node.target in ("size", "dim")
    return node.op == "call_function" and node.target is getattr and node.args[1] == "shape"
