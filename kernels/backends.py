"""Choosing where the operators run: ``auto``, ``cuda``, ``simulator``, ``cpu`` or ``reference``."""

from __future__ import annotations

import importlib
import os
from functools import cache

import numba

from kernels.checks import choice
from kernels.device import api

BACKENDS = ("auto", "cuda", "simulator", "cpu", "reference")

OPERATORS = (
    "activation",
    "adam",
    "average_pooling",
    "batch_normalization",
    "convolution",
    "cross_entropy",
    "dropout",
    "listed_average_pooling",
    "listed_cells",
    "listed_convolution",
    "listed_max_pooling",
    "masking",
    "max_pooling",
    "memory",
    "merging",
    "padding",
    "patches",
    "sgd",
    "softmax",
)


class BackendUnavailable(RuntimeError):
    """The backend asked for cannot run here; the message says what is missing."""


class Backend:
    """The operators bound to one place: ``backend.convolution.forward(...)`` and so on.

    Attributes:
        name: ``cuda``, ``simulator``, ``cpu`` or ``reference``.
    """

    def __init__(self, name: str):
        self.name = name
        implementation = "cuda" if name == "simulator" else name
        for operator in OPERATORS:
            setattr(self, operator, importlib.import_module(f"kernels.{operator}.{implementation}"))

    def __repr__(self) -> str:
        return f"Backend({self.name!r})"

    def __reduce__(self):
        return get_backend, (self.name,)


def get_backend(name: str = "auto") -> Backend:
    """The backend ``name``; ``auto`` is ``cuda`` where a device is found, else ``cpu``.

    Raises:
        ValueError: ``name`` is not one of ``BACKENDS``.
        BackendUnavailable: the backend cannot run here.
    """
    choice("backend", name, BACKENDS)
    if name == "auto":
        name = "cpu" if _why_no_cuda() else "cuda"
    why = {"cuda": _why_no_cuda, "simulator": _why_no_simulator, "cpu": _why_no_cpu}
    missing = why.get(name, lambda: None)()
    if missing:
        raise BackendUnavailable(f"backend {name!r} cannot run here: {missing}")
    return _load(name)


@cache
def _load(name: str) -> Backend:
    return Backend(name)


def _simulating() -> bool:
    return os.environ.get("NUMBA_ENABLE_CUDASIM", "0") == "1"


def _why_no_cpu() -> str | None:
    if numba.config.DISABLE_JIT:
        return "NUMBA_DISABLE_JIT is set, so nothing can be compiled; expected it to be unset"
    return None


def _why_no_simulator() -> str | None:
    if not _simulating():
        return "NUMBA_ENABLE_CUDASIM=1 must be set before Python starts"
    return None


def _why_no_cuda() -> str | None:
    if _simulating():
        return "NUMBA_ENABLE_CUDASIM=1 is set, so only the backend 'simulator' runs CUDA kernels"

    return api.why_unavailable()
