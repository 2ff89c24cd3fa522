"""Arguments of what exchanges nets with other frameworks: ``net.exchange``."""

from net import from_torch, to_torch
from tests.arguments.entries import A_FLAG, NONE, PATCH, Call, Entry, call_of, small_net


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
CALLS = OF_TORCH
