"""Nets in and out: from PyTorch and to it, and to ONNX. Their packages are extras."""
