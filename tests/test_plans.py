"""Plans of operators: right for each call, kept, and launched as Numba itself would launch."""

import resource
import threading

import numpy as np
import pytest

from experiments.measuring.host import DIRECTIONS, passes
from experiments.profiling import calls
from kernels.activation import cuda as activation
from kernels.adam import cuda as adam
from kernels.batch_normalization import cuda as batch_normalization
from kernels.convolution import cuda as convolution
from kernels.device import launching
from kernels.max_pooling import cuda as max_pooling
from kernels.memory import cuda as memory
from kernels.merging import cuda as merging
from kernels.sgd import cuda as sgd


def rows(*shape):
    return np.zeros(shape, np.float32)


class TestRecorded:
    """What a plan depends on, with launches that are only recorded."""

    @pytest.fixture(autouse=True)
    def launches(self):
        with launching.recorded() as launches:
            yield launches

    def test_what_nothing_writes_takes_no_memory(self):
        """Recorded passes of large batches allocate more than many machines have."""
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        launching.allocate((2**30,), "uint8")
        assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 100

    def test_numbers_that_are_equal_are_not_taken_for_each_other(self):
        x, weights = rows(1, 2, 5, 6), rows(3, 2, 2, 2)
        convolution.forward(x, weights, stride=1)
        for wrong in (True, 1.0, (1, 1.0), [1, True]):
            with pytest.raises(ValueError, match="stride is"):
                convolution.forward(x, weights, stride=wrong)
        convolution.forward(x, weights, stride=[1, 1])

    def test_zeros_of_either_sign_are_not_taken_for_each_other(self, launches):
        for zero in (0.0, -0.0, 0.0):
            sgd.step(*[rows(3)] * 3, rate=0.1, momentum=0.5, decay=zero)
            assert np.signbit(launches[-1].arguments[-1]) == np.signbit(zero)

    def test_an_array_given_twice_is_not_taken_for_two(self, launches):
        """Nor two for one that is given twice."""
        one, other = rows(1, 2, 3, 4), rows(1, 2, 3, 4)
        for error, y in ((one, one), (one, other), (other, one)):
            launches.clear()
            activation.backward(error, y, "relu")
            merging.add([error, y])
            for launch in launches:
                addresses = [a.__array_interface__["data"][0] for a in launch.arguments[:2]]
                assert addresses == [a.__array_interface__["data"][0] for a in (error, y)]

    def test_what_is_wrong_is_refused_each_time(self):
        x, weights = rows(1, 2, 5, 6), rows(3, 2, 2, 2)
        for _ in range(2):
            with pytest.raises(TypeError, match="weights has dtype float64; expected float32"):
                convolution.forward(x, weights.astype(np.float64))
            with pytest.raises(ValueError, match="x is not C-contiguous"):
                convolution.forward(rows(1, 2, 6, 5).transpose(0, 1, 3, 2), weights)
            convolution.forward(x, weights)

    def test_arguments_of_the_wrong_number_or_name(self):
        with pytest.raises(TypeError, match="positional argument"):
            activation.forward(rows(1, 1, 1, 1), "relu", None, 5)
        with pytest.raises(TypeError, match="unexpected keyword argument 'stride'"):
            activation.forward(rows(1, 1, 1, 1), "relu", stride=1)
        with pytest.raises(TypeError, match="missing 1 required"):
            activation.forward(rows(1, 1, 1, 1))

    def test_results_are_new_or_the_callers_own(self):
        x = rows(1, 2, 4, 4)
        assert activation.forward(x, "relu", out=x) is x
        first, second = (max_pooling.forward(x, 2) for _ in range(2))
        assert type(first) is tuple
        assert first[0] is not second[0]
        assert [a.dtype for a in first] == [np.float32, np.uint8]

    def test_a_plan_is_made_by_one_thread(self, launches):
        """Launches of others, meanwhile, are not part of it."""
        x = rows(1, 2, 4, 4)

        def other():
            activation.forward(x, "relu")

        def planned(shape, dtype):
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
            return rows(*shape)

        taken = []
        with launching.handed_to(planned, taken.append):
            launching.device_empty((1,), "float32")
        assert not taken
        assert [launch.function.__name__ for launch in launches] == ["activation_forward"]


class TestOnADevice:
    def test_counts_of_a_pass(self, device):
        """n4 forward and backward: what is recorded is launched, and nothing is converted again."""
        run = passes("n4", 256)[DIRECTIONS[1]]
        run()
        assert device["prepared"] > 0
        assert device["compilations"] > 0
        device.clear()
        run()
        recorded = calls.of_net("n4", 256, "dense", batch=1, backward=True)
        assert device["launches"] == sum(len(call.launches) for call in recorded) == 59
        assert device["allocations"] == device["waits"] == 0
        assert device["prepared"] == device["compilations"] == 0

    def test_other_shapes_are_prepared_anew(self, device):
        for size in (5, 6, 5):
            before = device["prepared"]
            weights = memory.empty((3, 2, 2, 2), "float32")
            convolution.forward(memory.empty((1, 2, size, 5), "float32"), weights)
            assert (device["prepared"] > before) == (device["launches"] <= 4)

    def test_a_small_workspace_is_kept_and_never_shared(self, device, monkeypatch):
        """One call has it at a time; outputs are nobody else's."""
        x, weights = memory.empty((1, 2, 6, 5), "float32"), memory.empty((3, 2, 2, 2), "float32")
        allocated, inside = [], []
        allocate, do = launching.allocate, launching.do
        monkeypatch.setattr(
            launching, "allocate", lambda *a: allocated.append(allocate(*a)) or allocated[-1]
        )

        def first_lets_another_in(again):
            if not inside:
                inside.append(1)
                inside.append(convolution.forward(x, weights))
            do(again)

        y = convolution.forward(x, weights)
        assert len(allocated) == 3  # the output, packed weights and offsets
        z = convolution.forward(x, weights)
        assert len(allocated) == 4
        monkeypatch.setattr(launching, "do", first_lets_another_in)
        convolution.forward(x, weights)
        assert len(allocated) == 4 + 1 + 3
        places = {array.device_ctypes_pointer.value for array in (y, z, *allocated)}
        assert len(places) == len(allocated)

    def test_launches_go_to_the_chosen_stream(self, device, monkeypatch):
        from numba.cuda import dispatcher

        used = []
        monkeypatch.setattr(dispatcher, "launch", lambda stream, *rest: used.append(stream.handle))
        for handle in (0, 70, 0, 71, 70):
            with memory.on_stream(handle):
                activation.forward(memory.empty((1, 1, 2, 2), "float32"), "relu")
        assert list(map(int, used)) == [1, 70, 1, 71, 70]

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_arguments_are_those_of_numba(self, device, monkeypatch, dtype):
        """Arrays, pairs, tuples by name, flags, and numbers of every kind."""
        from numba.cuda import dispatcher

        prepared, of_numba = [], []

        def empty(*shape):
            return memory.empty(shape, dtype)

        x, channels = empty(2, 3, 7, 8), [empty(3) for _ in range(4)]

        def run():
            convolution.forward(x, empty(4, 3, 2, 3), empty(4), stride=(1, 2), dilation=(3, 1))
            convolution.gradient_input(empty(2, 4, 6, 6), empty(4, 3, 2, 3), (7, 8))
            max_pooling.forward(x, (2, 3), dilation=(2, 1))
            batch_normalization.forward(x, *channels, 1e-5)
            moments = {"rate": 0.1, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8}
            adam.step(x, x, x, x, **moments, decay=0.5, count=3)

        kept = []  # so that no address is used twice
        allocate = launching.allocate
        monkeypatch.setattr(launching, "allocate", lambda *a: kept.append(allocate(*a)) or kept[-1])
        launch = dispatcher._Kernel.launch

        def launched(kernel, arguments, *where):
            with monkeypatch.context() as patch:
                patch.setattr(dispatcher, "launch", lambda s, c, k, *words: prepared.append(words))
                launch(kernel, arguments, *where)
                patch.setattr(dispatcher, "launch", lambda s, c, k, *words: of_numba.append(words))
                del kernel._prepare_args
                launch(kernel, [argument.value for argument in arguments], *where)

        monkeypatch.setattr(dispatcher._Kernel, "launch", launched)
        run()
        assert len(prepared) == len(of_numba) == 7
        for ours, theirs in zip(prepared, of_numba):
            assert len(ours) == len(theirs)
            for word, value in zip(ours, theirs):
                of_driver = hasattr(value, "value")
                expected = bytes(value) if of_driver else int(value).to_bytes(8, "little")
                assert type(word) is int
                assert word.to_bytes(8, "little", signed=True)[: len(expected)] == expected
