"""The packages of other frameworks are imported where they are needed, and named where missing."""

import subprocess
import sys

import pytest

from net import Net, from_torch, to_onnx, to_torch
from net.layers import FullyConnected


def small_net():
    return Net([FullyConnected(2)], channels=1, patch=3, backend="reference")


@pytest.mark.parametrize(
    ("package", "call"),
    [
        ("torch", lambda path: to_torch(small_net())),
        ("torch", lambda path: from_torch("module", 3)),
        ("onnx", lambda path: to_onnx(small_net(), path)),
    ],
)
def test_a_missing_one_is_named(package, call, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"expected the extra '{package}': pip install"):
        call(tmp_path / "net.onnx")
    assert not [*tmp_path.iterdir()]


def test_importing_net_imports_none():
    code = "import net, sys; print(sorted({'torch', 'onnx', 'onnxruntime'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
