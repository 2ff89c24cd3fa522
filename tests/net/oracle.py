"""A patch net evaluated from its description alone: one patch, no windows of kernels, no steps.

It is the oracle of where each layer reads, so it has every layer that reads more than one cell once
more. What an activation makes of a number is taken from ``kernels.activation.reference``, which
``tests/operators/test_activation.py`` holds to values written out by hand.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from kernels.activation import reference
from kernels.checks import pair
from net import layers


def scores(net, image, pixels, border="valid"):
    """n x K scores of the patches of ``pixels``, in float64."""
    state = {name: array.astype(np.float64) for name, array in net.state().items()}
    return np.stack([_evaluate(net, state, patch) for patch in patches(net, image, pixels, border)])


def patches(net, image, pixels, border):
    """The patches of ``pixels``: that of y covers the rows from y - (p - 1) // 2 on."""
    ph, pw = net.patch
    if border != "valid":
        mode = {"zero": "constant", "reflect": "reflect"}[border]
        top, left = (ph - 1) // 2, (pw - 1) // 2
        margins = ((0, 0), (top, ph - 1 - top), (left, pw - 1 - left))
        image = np.pad(image, margins, mode=mode)
    return [image[:, y : y + ph, x : x + pw].astype(np.float64) for y, x in pixels]


def _evaluate(net, state, patch):
    maps = {"image": patch}
    for node in net.nodes.values():
        names = [name for name in state if _owner(name) == node.name]
        arrays = {name.rpartition(".")[2]: state[name] for name in names}
        maps[node.name] = _output(node.layer, arrays, *(maps[name] for name in node.inputs))
    assert maps[node.name].shape[1:] == (1, 1)
    return maps[node.name].ravel()


def _owner(name):
    return name.rpartition(".")[0]


def _output(layer, arrays, x, *more):
    match layer:
        case layers.Convolution():
            windows = _windows(x, layer.kernel, layer.stride, layer.dilation)
            return np.tensordot(arrays["weights"], windows, ((1, 2, 3), (0, 3, 4))) + _bias(arrays)
        case layers.FullyConnected():
            return (arrays["weights"] * x).sum(axis=(1, 2, 3))[:, None, None] + _bias(arrays)
        case layers.MaxPool():
            return _windows(x, layer.kernel, layer.stride, layer.dilation).max(axis=(3, 4))
        case layers.AveragePool():
            return _windows(x, layer.kernel, layer.stride, layer.dilation).mean(axis=(3, 4))
        case layers.AdaptiveMaxPool():
            return _bins(x, layer.bins).max(axis=(2, 4))
        case layers.AdaptiveAveragePool():
            return _bins(x, layer.bins).mean(axis=(2, 4))
        case layers.ActivationLayer():
            return reference.forward(np.ascontiguousarray(x[None]), layer.activation)[0]
        case layers.BatchNorm():
            mean, variance, gamma, beta = (
                arrays[part][:, None, None] for part in ("mean", "variance", "gamma", "beta")
            )
            return (x - mean) / np.sqrt(variance + layer.epsilon) * gamma + beta
        case layers.Softmax():
            return np.exp(x) / np.exp(x).sum(axis=0)
        case layers.Crop():
            top, left, bottom, right = layer.margins
            return x[:, top : x.shape[1] - bottom, left : x.shape[2] - right]
        case layers.Add():
            return sum(more, x)
        case layers.Concatenate():
            return np.concatenate([x, *more])
    raise TypeError(f"layer {layer} has no formula in tests/net/oracle.py")


def _windows(x, kernel, stride, dilation):
    """C x Ho x Wo x kh x kw: the cells that each output reads."""
    kernel, dilation = pair("kernel", kernel), pair("dilation", dilation)
    stride = kernel if stride is None else pair("stride", stride)
    (kh, kw), (sy, sx), (dy, dx) = kernel, stride, dilation
    spans = sliding_window_view(x, ((kh - 1) * dy + 1, (kw - 1) * dx + 1), axis=(1, 2))
    return spans[:, ::sy, ::sx, ::dy, ::dx]


def _bins(x, bins):
    """C x rows of bins x cells x columns of bins x cells."""
    rows, columns = pair("bins", bins)
    return x.reshape(len(x), rows, x.shape[1] // rows, columns, x.shape[2] // columns)


def _bias(arrays):
    return arrays["bias"][:, None, None] if "bias" in arrays else 0
