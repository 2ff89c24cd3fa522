"""What the CUDA operators take: other libraries' arrays, none of the host, on a chosen stream."""

import importlib
from unittest.mock import Mock

import numpy as np
import pytest

from kernels import backends, get_backend
from kernels.device import arrays, launching, pool, streams
from kernels.device.arrays import view
from kernels.memory import cuda as memory
from kernels.softmax import cuda as softmax
from tests.comparison import each, operator
from tests.conftest import CUDA, SIMULATOR
from tests.foreign import Foreign

PLACE = np.zeros(2, np.int32)
VECTOR = np.zeros((2, 3))
CALLS = {
    "dropout.apply": {
        "x": np.zeros((2, 3, 4, 5)),
        **{"rows": PLACE, "columns": PLACE, "spacing": (1, 2), "rate": 0.5, "key": (1, 2, 3)},
    },
    "sgd.step": {
        **dict.fromkeys(("parameter", "gradient", "velocity"), VECTOR),
        **{"rate": 0.1, "momentum": 0.9, "decay": 0.0},
    },
    "adam.step": {
        **dict.fromkeys(("parameter", "gradient", "mean", "square"), VECTOR),
        **{"rate": 0.1, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8, "decay": 0.0, "count": 1},
    },
}
for folder in set(backends.OPERATORS) - {"adam", "dropout", "memory", "sgd"}:
    name = "listed_operators" if folder.startswith("listed_") else folder
    CALLS |= importlib.import_module(f"tests.operators.test_{name}").CALLS


@pytest.fixture(params=[SIMULATOR, CUDA])
def device(request):
    """Each backend whose arrays lie on a device."""
    return get_backend(request.param)


def test_every_operator_is_called():
    folders = {name.split(".")[0] for name in CALLS}
    assert folders == set(backends.OPERATORS) - {"memory"}


@pytest.mark.parametrize("function", sorted(CALLS))
class TestEveryOperator:
    def test_works_on_foreign_arrays_where_they_lie(self, device, rng, function):
        """Also what it changes in place is the foreign array itself."""

        def filled(array):
            if function.startswith("listed_") and array.dtype == np.int32:
                return array.copy()  # places that differ, as these operators need them
            return rng.integers(0, 2, array.shape).astype(array.dtype)

        def results(put):
            arguments = dict(zip(CALLS[function], each(put, values)))
            result = operator(device, function)(**arguments)
            there = [a.memory if isinstance(a, Foreign) else a for a in flattened(arguments)]
            return [to_bytes(a) for a in (*flattened(result), *there) if hasattr(a, "shape")]

        def to_bytes(array):
            return device.memory.to_host(array).tobytes()

        values = each(filled, [*CALLS[function].values()])
        assert results(lambda a: Foreign(device.memory, a)) == results(device.memory.to_device)

    def test_refuses_arrays_of_the_host(self, device, function):
        first = next(name for name, value in CALLS[function].items() if flattened_arrays(value))
        message = f"^{first}(\\[0\\])? is a NumPy array; expected an array in the device's memory"
        with pytest.raises(TypeError, match=message):
            operator(device, function)(**CALLS[function])


def flattened(value):
    """The values in a nesting of dicts, lists and tuples."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [inner for v in value for inner in flattened(v)]
    return [value]


def flattened_arrays(value):
    return [v for v in flattened(value) if isinstance(v, np.ndarray)]


class TestView:
    def test_is_no_copy(self, device, rng):
        foreign = Foreign(device.memory, rng.standard_normal((2, 3)))
        there = view("x", foreign)
        assert there.shape == (2, 3)
        there.copy_to_device(np.full((2, 3), 7.0))
        np.testing.assert_array_equal(device.memory.to_host(foreign.memory), np.full(6, 7.0))

    def test_keeps_the_owner(self, device):
        """Whoever holds the view holds the memory."""
        foreign = Foreign(device.memory, np.zeros(3))
        there = device.memory.to_device(foreign)
        del foreign
        np.testing.assert_array_equal(device.memory.to_host(there), np.zeros(3))

    def test_another_device_is_refused(self, device, monkeypatch):
        foreign = Foreign(device.memory, np.zeros((1, 1, 2, 2)))
        monkeypatch.setattr(arrays, "is_on_another_device", lambda array: True)
        with pytest.raises(ValueError, match=r"^x lies on another device; expected the current"):
            device.softmax.forward(foreign)

    def test_a_library_that_refuses(self, device):
        class Recorded:
            @property
            def __cuda_array_interface__(self):
                raise RuntimeError("use detach()")

        with pytest.raises(TypeError, match=r"^x cannot be read: use detach\(\)$"):
            device.softmax.forward(Recorded())

    @pytest.mark.gpu
    def test_results_tell_where_they_lie(self):
        x = memory.to_device(np.zeros((1, 2, 3, 4), np.float32))
        interface = get_backend("cuda").softmax.forward(x).__cuda_array_interface__
        assert interface["shape"] == (1, 2, 3, 4)
        assert interface["typestr"] == "<f4"
        assert interface["version"] == 3
        assert interface["data"][0] > 0


class Stream:
    """A stream of Numba, as far as the project needs one."""

    def __init__(self, handle):
        self.handle, self.waits = handle, 0

    def synchronize(self):
        self.waits += 1

    def __int__(self):
        return self.handle


@pytest.fixture
def numba(monkeypatch):
    """What stands for ``numba.cuda``: it notes what is asked of it."""
    numba = Mock(gpus=[0], external_stream=Stream, legacy_default_stream=lambda: Stream(1))
    for module in (arrays, launching, memory, pool, streams):
        monkeypatch.setattr(module, "cuda", numba)
    return numba


class TestStreams:
    def launched_on(self):
        """The stream that a kernel is launched on here."""
        kernel = Mock()
        configurations = []
        kernel.__getitem__ = lambda self, key: configurations.append(key) or Mock()
        launching.launch(kernel, 1, 32)
        [(_, _, stream)] = configurations
        return int(stream)

    def test_kernels_go_to_the_chosen_stream(self, numba):
        assert self.launched_on() == 1
        with memory.on_stream(70):
            assert self.launched_on() == 70
            with memory.on_stream(0):
                assert self.launched_on() == 1
            assert self.launched_on() == 70
        assert self.launched_on() == 1

    @pytest.mark.parametrize("handle", [0, 70])
    def test_each_context_has_one_object_for_a_stream(self, numba, handle):
        """Numba's cache of launch configurations, and ours, find nothing by another object."""

        def chosen():
            with memory.on_stream(handle):
                return streams.stream()

        here, other = Mock(), Mock()
        numba.current_context.return_value = here
        first = chosen()
        assert chosen() is first
        numba.current_context.return_value = other
        assert chosen() is not first
        numba.current_context.return_value = here
        assert chosen() is first
        assert (chosen() is streams.stream()) == (handle == 0)

    def test_numba_configures_a_repeated_launch_once(self, monkeypatch):
        """Its own streams and configurations, as they are made without a device."""
        driver = pytest.importorskip("numba.cuda.cudadrv.driver")
        context = Mock()
        monkeypatch.setattr(streams.cuda, "current_context", lambda: context)
        for name in ("external_stream", "legacy_default_stream"):
            monkeypatch.setattr(streams.cuda, name, lambda handle=1: driver.Stream(handle))
        kernel = softmax._forward_kernel(np.float32)
        before = kernel.configure.cache_info()
        for _ in range(5):
            kernel[(7, 1, 1), 32, streams.stream()]
        after = kernel.configure.cache_info()
        assert (after.misses - before.misses, after.hits - before.hits) == (1, 4)

    def test_an_error_ends_the_choice(self, numba):
        with pytest.raises(KeyError), memory.on_stream(70):
            raise KeyError
        assert self.launched_on() == 1

    def test_results_belong_to_the_chosen_stream(self, numba):
        allocate = launching.allocate.__wrapped__
        with memory.on_stream(70):
            allocate((2, 3), "float32")
        assert int(numba.device_array.call_args.kwargs["stream"]) == 70

    def test_copies_go_to_the_chosen_stream_and_end_before_the_call_does(self, numba):
        there = Mock(__cuda_ndarray__=True, shape=(1,), stream=0)
        with memory.on_stream(70):
            chosen = streams.stream()
            memory.to_device(np.zeros(3))
            assert chosen.waits == 1
            memory.to_host(there)
            assert chosen.waits == 2
        copied = numba.device_array.return_value.reshape.return_value.copy_to_device
        assert copied.call_args.kwargs["stream"] is chosen
        assert there.copy_to_host.call_args.kwargs["stream"] is chosen

    @pytest.mark.parametrize("producer", [2, 90])
    def test_another_streams_work_is_waited_for_on_the_device(self, numba, producer):
        array = Mock(__cuda_ndarray__=True, shape=(1,), stream=Stream(producer))
        with memory.on_stream(70):
            view("x", array)
        event = numba.event.return_value
        assert int(event.record.call_args.args[0]) == producer
        assert int(event.wait.call_args.args[0]) == 70
        assert not event.synchronize.called

    @pytest.mark.parametrize("producer", [0, Stream(70)])
    def test_ones_own_stream_is_not_waited_for(self, numba, producer):
        with memory.on_stream(70):
            view("x", Mock(__cuda_ndarray__=True, shape=(1,), stream=producer))
        assert not numba.event.called

    def test_real_work_on_a_stream(self, device, rng):
        x = rng.standard_normal((1, 3, 4, 5), np.float32)
        expected = device.memory.to_host(device.softmax.forward(device.memory.to_device(x)))
        with device.memory.on_stream(0):
            y = device.softmax.forward(Foreign(device.memory, x, stream=1))
            np.testing.assert_array_equal(device.memory.to_host(y), expected)

    @pytest.mark.parametrize("handle", [-1, 1.0, None, True, "stream"])
    def test_bad_handle(self, handle):
        message = f"^handle is {handle!r}; expected a stream's address, an int of at least 0$"
        with pytest.raises(ValueError, match=message), memory.on_stream(handle):
            pass


def test_which_device_a_pointer_belongs_to(monkeypatch):
    driver = pytest.importorskip("numba.cuda.cudadrv.driver")
    numba = Mock(gpus=[0, 1], get_current_device=lambda: Mock(id=0))
    monkeypatch.setattr(arrays, "cuda", numba)
    monkeypatch.setattr(driver, "device_pointer", lambda array: array.device)
    monkeypatch.setattr(driver, "driver", Mock(cuPointerGetAttribute=lambda _, pointer: pointer))
    here, there, nowhere = (Mock(device=d, size=s) for d, s in ((0, 1), (1, 1), (None, 0)))
    assert arrays.is_on_another_device(there)
    assert not arrays.is_on_another_device(here)
    assert not arrays.is_on_another_device(nowhere)
    numba.gpus.pop()
    assert not arrays.is_on_another_device(there)
