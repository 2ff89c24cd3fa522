"""The host's scores and gradients are bit for bit what they were."""

import pytest

from kernels.host.simd import VECTOR_BYTES
from tests.net import stored_bits

pytestmark = pytest.mark.cpu


@pytest.mark.parametrize("case", stored_bits.CASES, ids=" ".join)
def test_bits(case):
    stored = stored_bits.stored()[" ".join(case)]
    computed = stored_bits.hashes(*case)
    assert computed.pop("scores") == stored["scores"]
    gradients = stored["gradients"].get(str(VECTOR_BYTES))
    if gradients is None:
        pytest.skip(f"no gradients are stored for vectors of {VECTOR_BYTES} bytes")
    assert computed == gradients


def test_every_net_is_stored():
    assert set(stored_bits.stored()) == {" ".join(case) for case in stored_bits.CASES}
