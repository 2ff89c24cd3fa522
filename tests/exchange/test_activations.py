"""Every activation says what it is in PyTorch and ONNX, or that it is not exchanged."""

from kernels.activation import ACTIVATIONS
from net.exchange.activations import COUNTERPARTS


def test_every_activation_has_an_entry():
    missing = ACTIVATIONS.keys() - COUNTERPARTS.keys()
    assert not missing, (
        f"{missing}: expected an entry in COUNTERPARTS of net/exchange/activations.py, "
        "or None there; see 'Adding an activation' in CONTRIBUTING.md"
    )


def test_every_entry_is_an_activation():
    assert not COUNTERPARTS.keys() - ACTIVATIONS.keys()


def test_an_activation_with_a_parameter_has_a_formula_below_0():
    """And no other one: ONNX's float64 and PyTorch's arguments agree with the registry."""
    for name, counterpart in COUNTERPARTS.items():
        if counterpart:
            of_pytorch = {*counterpart.arguments} - {"input", "inplace"}
            has_parameter = ACTIVATIONS[name] is not None
            assert (len(of_pytorch), counterpart.below is not None) == (has_parameter,) * 2, name
