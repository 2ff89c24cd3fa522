"""Arguments of what exchanges nets with other frameworks: ``net.exchange``."""

from net import from_torch, to_onnx, to_torch
from tests.arguments.entries import (
    A_FLAG,
    A_PATH,
    NONE,
    PATCH,
    Call,
    Entry,
    call_of,
    small_net,
)


def _from_torch():
    module = to_torch(small_net())
    given = {"channels": 1, "backend": "reference", "report": False}
    return Call(from_torch, {"module": module, "patch": PATCH, **given})


OF_TORCH = {
    "net.exchange.torch_reading.from_torch": Entry(
        _from_torch, {"channels": NONE, "report": A_FLAG}
    ),
    "net.exchange.torch_writing.to_torch": Entry(
        call_of(to_torch, net=small_net, dense=True), {"dense": A_FLAG}
    ),
}
"""Called where PyTorch is installed."""
CALLS = OF_TORCH | {
    "net.exchange.onnx_writing.to_onnx": Entry(
        call_of(to_onnx, net=small_net, path="net.onnx", dense=True),
        {"path": A_PATH, "dense": A_FLAG},
    ),
}
