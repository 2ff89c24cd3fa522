"""Which backend is chosen, and that all of them have the same functions."""

import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import kernels
from kernels import BackendUnavailable, backends, get_backend
from kernels.device import api

# What one operator offers to another, and no backend has to have
HELPERS = {
    "kernels.convolution.cuda.choose_tile",
    "kernels.convolution.cuda.product_of",
}
IMPLEMENTATIONS = ("reference", "cpu", "cuda")
ROOT = Path(kernels.__file__).parents[1]


class TestChoice:
    @pytest.mark.parametrize("name", ["cpu", "reference"])
    def test_always_available(self, name):
        backend = get_backend(name)
        assert backend.name == name
        assert repr(backend) == f"Backend({name!r})"
        for operator in backends.OPERATORS:
            assert getattr(backend, operator).__name__ == f"kernels.{operator}.{name}"

    def test_auto_is_the_cpu_where_there_is_no_device(self, monkeypatch):
        monkeypatch.setattr(api, "why_unavailable", lambda: "no CUDA device")
        assert get_backend().name == "cpu"
        assert get_backend("auto") is get_backend("cpu")

    def test_auto_is_cuda_where_there_is_a_device(self, monkeypatch):
        monkeypatch.setattr(api, "why_unavailable", lambda: None)
        backend = get_backend("auto")
        assert backend.name == "cuda"
        assert backend.convolution.__name__ == "kernels.convolution.cuda"

    def test_cuda_is_refused_with_the_reason(self, monkeypatch):
        monkeypatch.setattr(api, "why_unavailable", lambda: "the driver is too old")
        message = "^backend 'cuda' cannot run here: the driver is too old$"
        with pytest.raises(BackendUnavailable, match=message):
            get_backend("cuda")

    def test_cuda_is_available_exactly_when_nothing_keeps_it_from_running(self):
        reason = api.why_unavailable()
        try:
            outcome = get_backend("cuda").name
        except BackendUnavailable as error:
            outcome = str(error)
        assert outcome == (f"backend 'cuda' cannot run here: {reason}" if reason else "cuda")
        assert reason is None or len(reason) > 10

    def test_the_simulator_is_refused_in_a_normal_process(self):
        message = (
            "^backend 'simulator' cannot run here: "
            "NUMBA_ENABLE_CUDASIM=1 must be set before Python starts$"
        )
        with pytest.raises(BackendUnavailable, match=message):
            get_backend("simulator")

    @pytest.mark.simulator
    def test_a_simulating_process_runs_the_cuda_kernels_as_the_simulator_only(self):
        backend = get_backend("simulator")
        assert backend.name == "simulator"
        assert backend.convolution.__name__ == "kernels.convolution.cuda"
        assert get_backend("auto").name == "cpu"
        with pytest.raises(BackendUnavailable, match="only the backend 'simulator' runs CUDA"):
            get_backend("cuda")

    def test_the_cpu_is_refused_where_nothing_is_compiled(self):
        program = "import net, kernels; kernels.get_backend('reference'); kernels.get_backend()"
        done = subprocess.run(
            [sys.executable, "-c", program],
            **{"env": os.environ | {"NUMBA_DISABLE_JIT": "1"}, "cwd": ROOT},
            **{"capture_output": True, "text": True},
        )
        assert done.stderr.splitlines()[-1] == (
            "kernels.backends.BackendUnavailable: backend 'cpu' cannot run here: "
            "NUMBA_DISABLE_JIT is set, so nothing can be compiled; expected it to be unset"
        )

    @pytest.mark.parametrize("name", ["gpu", "CPU", "", None])
    def test_unknown_names_are_refused(self, name):
        message = f"^backend is {name!r}; expected one of 'auto', 'cuda', 'simulator', 'cpu', "
        with pytest.raises(ValueError, match=message):
            get_backend(name)


class TestOperators:
    def test_the_list_has_every_folder(self):
        folders = {path.parent.name for path in Path(kernels.__file__).parent.glob("*/__init__.py")}
        assert tuple(sorted(folders - {"device", "host"})) == backends.OPERATORS

    @pytest.mark.parametrize("operator", backends.OPERATORS)
    def test_every_backend_has_the_same_functions(self, operator):
        reference, cpu, cuda = (functions(operator, name) for name in IMPLEMENTATIONS)
        assert reference
        assert cpu == reference
        if operator.endswith("convolution"):
            cuda = {name: without(parameters, "tile") for name, parameters in cuda.items()}
        assert cuda == reference

    @pytest.mark.parametrize("name", IMPLEMENTATIONS)
    @pytest.mark.parametrize("operator", backends.OPERATORS)
    def test_every_function_is_documented(self, operator, name):
        module = importlib.import_module(f"kernels.{operator}.{name}")
        assert module.__doc__
        assert all(getattr(module, function).__doc__ for function in functions(operator, name))


def functions(operator, implementation):
    """The module's public functions: {name: its parameters}."""
    module = importlib.import_module(f"kernels.{operator}.{implementation}")
    return {
        name: list(inspect.signature(function).parameters.values())
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        and not name.startswith("_")
        and f"{module.__name__}.{name}" not in HELPERS
    }


def without(parameters, name):
    return [p for p in parameters if p.name != name]
