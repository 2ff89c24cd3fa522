"""What the activations are in PyTorch and ONNX agrees with what the kernels know of them."""

from kernels.activation import ACTIVATIONS
from net.exchange.activations import COUNTERPARTS


def test_every_entry_is_an_activation():
    assert not COUNTERPARTS.keys() - ACTIVATIONS.keys()


def test_an_activation_with_a_parameter_has_a_formula_below_0():
    """And no other one: ONNX's float64 and PyTorch's arguments agree with the registry."""
    for name, counterpart in COUNTERPARTS.items():
        of_pytorch = {*counterpart.arguments} - {"input", "inplace"}
        has_parameter = ACTIVATIONS[name] is not None
        assert (len(of_pytorch), counterpart.below is not None) == (has_parameter,) * 2, name
