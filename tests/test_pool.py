"""The pool of a device's memory, on a device that does nothing."""

import gc
import weakref
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from kernels import get_backend
from kernels.activation import cuda as activation
from kernels.backends import Backend
from kernels.memory import cuda as memory
from net import Dense, zoo

MB = 2**20


@pytest.fixture(autouse=True)
def counts(device):
    """All tests here need the device."""
    return device


def array(megabytes):
    return memory.empty((int(megabytes * MB),), "uint8")


def place(array):
    return array.__cuda_array_interface__["data"][0]


class TestPlaces:
    def test_arrays_share_segments_and_overlap_nowhere(self, device):
        arrays = [memory.empty((n, 3), "float64") for n in (1, 7, 1000, 5000, 10**5, 10**6, 3)]
        ends = sorted((place(a), place(a) + a.nbytes) for a in arrays)
        assert all(end <= begin for (_, end), (begin, _) in pairwise(ends))
        assert all(begin % 256 == 0 for begin, _ in ends)
        assert device["allocations"] == 2  # small and large

    def test_what_is_freed_is_taken_again_first_fit(self, device):
        arrays = [array(4) for _ in range(3)]
        before = [place(a) for a in arrays]
        del arrays[0], arrays[0]
        assert place(array(5)) == before[0]
        first, second = array(3), array(4)
        assert (place(first), place(second)) == (before[0], before[0] + 3 * MB)
        assert device["allocations"] == 1
        assert device["freed"] == device["waits"] == 0

    @pytest.mark.parametrize(
        "view",
        [
            lambda a: a[MB:],
            lambda a: a.reshape(2, MB),
            lambda a: a.view("float32"),
            lambda a: memory.to_device(SimpleNamespace(**_interface(a))),  # another library's
        ],
    )
    def test_a_view_keeps_the_place(self, view):
        one = array(2)
        seen, before = view(one), place(one)
        del one
        gc.collect()
        assert place(array(2)) != before
        del seen
        gc.collect()
        assert place(array(2)) == before

    def test_long_lived_small_arrays_do_not_split_the_segments_of_large_ones(self, device):
        first, _small, second = array(20), array(0.01), array(20)
        before = place(first)
        del first, second
        assert place(array(40)) == before
        assert device["allocations"] == 2

    def test_empty_arrays_take_none(self, device):
        assert memory.empty((0, 3), "float32").size == 0
        assert device["allocations"] == 0

    def test_copies_lie_in_the_pool(self, device):
        for _ in range(5):
            copy = memory.to_device(np.zeros((2, 3, MB), np.float32)[:, ::2])
            assert copy.shape == (2, 2, MB)
            memory.to_host(copy)
            del copy
        assert device["allocations"] == 1


def _interface(array):
    return {"__cuda_array_interface__": array.__cuda_array_interface__, "owner": array}


class TestRelease:
    def test_segments_without_arrays_go_to_the_driver(self, device):
        kept, freed = array(100), array(200)
        del freed
        memory.release()
        assert device["freed"] == 200 * MB
        assert device["waits"] == 1
        del kept
        memory.release()
        assert device["freed"] == device["allocated"] == 300 * MB

    def test_nothing_is_released_otherwise(self, device):
        for megabytes in (100, 200, 300):
            array(megabytes)
        assert device["freed"] == 0

    def test_all_is_released_before_memory_runs_out(self, device, monkeypatch):
        """And then no more is asked for than needed."""
        monkeypatch.setattr("kernels.device.stand_in.MEMORY", 300 * MB)
        kept = array(10)
        array(200)
        assert device["allocated"] == 264 * MB
        array(230)
        assert device["freed"] == 200 * MB
        assert device["waits"] == 1
        kept_too = array(60)  # where the 230 were
        assert device["allocated"] == (264 + 230) * MB
        del kept, kept_too
        memory.release()
        array(290)
        assert device["allocated"] == (264 + 230 + 290) * MB

    def test_a_pool_goes_with_its_context(self):
        """Nothing that was of one device is found on the next."""
        from kernels.device.pool import current
        from kernels.device.stand_in import stand_in

        outer = current()
        array(1)
        with stand_in() as other:
            array(1)
            assert other["allocations"] == 1
            inner = weakref.ref(current())
            assert inner() is not outer
        gc.collect()
        assert current() is outer

    def test_every_backend_can_be_asked(self):
        for name in ("reference", "cpu"):
            assert get_backend(name).memory.release() is None


class TestStreams:
    """What is freed on one stream is overwritten on another one only after a wait."""

    def test_the_same_stream_does_not_wait(self, device):
        with memory.on_stream(70):
            before = place(array(4))
            assert place(array(4)) == before
        assert device["waits"] == 0

    def test_a_segment_serves_one_stream(self, device):
        mine = array(4)
        with memory.on_stream(70):
            theirs = array(4)
        assert device["allocations"] == 2
        assert abs(place(mine) - place(theirs)) >= 64 * MB
        assert device["waits"] == 0

    def test_another_stream_takes_a_free_segment_after_a_wait(self, device):
        before = place(array(4))
        with memory.on_stream(70):
            taken = array(4)
            assert place(taken) == before
            assert (device["allocations"], device["waits"]) == (1, 1)
            array(4)
            assert (device["allocations"], device["waits"]) == (1, 1)
        array(4)  # their array is alive
        assert (device["allocations"], device["waits"]) == (2, 1)

    @pytest.mark.parametrize(
        "seen",
        [
            lambda x: x,
            lambda x: x.reshape(1, 4, 1, MB),
            lambda x: SimpleNamespace(**_interface(x)),  # as another library hands it on
        ],
    )
    def test_what_another_stream_used_is_held_until_a_wait(self, device, seen):
        x = memory.empty((1, 1, 4, MB), "float32")
        before = place(x)
        with memory.on_stream(70):
            activation.forward(seen(x), "relu")
        del x
        gc.collect()
        device.clear()
        other = array(48)  # all the rest of the segment
        assert place(other) == before + 16 * MB
        assert device["waits"] == 0
        for _ in range(2):
            assert place(array(16)) == before
            assert (device["allocations"], device["waits"]) == (0, 1)

    def test_what_its_own_stream_used_is_not_held(self, device):
        x = memory.empty((1, 1, 4, MB), "float32")
        before = place(x)
        activation.forward(x.reshape(1, 4, 1, MB), "relu")
        del x
        gc.collect()
        assert place(array(64)) == before
        assert device["waits"] == 0


class TestTooLittle:
    """A pass is refused before it starts, as on the host; the driver's refusal is translated."""

    @pytest.fixture(autouse=True)
    def small_device(self, monkeypatch):
        monkeypatch.setattr("kernels.device.stand_in.MEMORY", 300 * MB)

    def test_what_is_free_is_the_drivers_and_the_pools(self):
        assert memory.free_bytes() == 300 * MB
        kept, freed = array(10), array(100)
        assert memory.free_bytes() == 300 * MB - place_bytes(kept) - 100 * MB
        del freed
        assert memory.free_bytes() == 290 * MB
        with memory.on_stream(70):  # a segment that holds an array serves its own stream only
            assert memory.free_bytes() == 300 * MB - 64 * MB
        del kept
        assert memory.free_bytes() == 300 * MB

    def test_what_numba_has_not_returned_yet_is_free(self, device):
        from numba import cuda

        cuda.device_array(50 * MB, "uint8")
        assert device["freed"] == 0
        assert memory.free_bytes() == 300 * MB

    def test_an_array_that_does_not_fit(self, device):
        kept = array(100)
        text = r"^an array takes 0\.22 GB of the device's memory, 0\.21 GB are free$"
        with pytest.raises(MemoryError, match=text):
            memory.empty((220_000_000,), "uint8")
        assert device["allocations"] == 1
        assert kept.size == 100 * MB
        assert array(190).size == 190 * MB

    def test_other_faults_of_the_driver_are_not_taken_for_that(self, monkeypatch):
        from numba.cuda.cudadrv import driver

        def fail(nbytes):
            raise driver.CudaAPIError(driver.binding.CUresult.CUDA_ERROR_ILLEGAL_ADDRESS, "lost")

        monkeypatch.setitem(vars(driver.driver), "cuMemAlloc", fail)
        with pytest.raises(driver.CudaAPIError, match="lost"):
            array(1)

    @pytest.mark.parametrize("where", ["launch", "compile"])
    def test_a_kernel_takes_memory_that_the_pool_gives_back(self, where, device, monkeypatch):
        """For its code when it is loaded, for its threads' stacks when it is launched; whatever the
        operator, so once in the place where all launches pass."""
        x = memory.empty((1, 2, 1024, 1024), "float32")
        expected = activation.forward(x, "relu").shape
        unused = array(100)
        del unused
        refuse(monkeypatch, where, times=1)
        assert activation.forward(x, "tanh").shape == expected
        assert device["freed"] >= 100 * MB

    @pytest.mark.parametrize("where", ["launch", "compile"])
    def test_a_kernel_that_does_not_fit(self, where, monkeypatch):
        x = memory.empty((1, 2, 1024, 1024), "float32")
        refuse(monkeypatch, where, times=2)
        text = r"^the code of a kernel, or .* than the 0\.\d+ GB that are free$"
        with pytest.raises(MemoryError, match=text):
            activation.forward(x, "sigmoid")
        assert activation.forward(x, "sigmoid").shape == x.shape

    def test_a_pass_that_does_not_fit_never_starts(self, device):
        net = zoo.build("lenet28", backend="cpu")
        net.backend = Backend("cuda")
        device.clear()
        with pytest.raises(MemoryError, match=r"labelling 1500 x 1500 pixels .* GB are free; "):
            Dense(net).forward(np.zeros((1, 1527, 1527), np.float32))
        assert device["launches"] == device["allocations"] == 0


def refuse(monkeypatch, where, times):
    """The driver has too little memory for the next ``times`` kernels that it is to launch or that
    are compiled, and so loaded."""
    from numba.cuda import dispatcher
    from numba.cuda.cudadrv import driver

    owner = dispatcher if where == "launch" else dispatcher.CUDADispatcher
    do, calls = vars(owner)[where], []

    def refusing(*arguments):
        calls.append(arguments)
        if len(calls) <= times:
            raise driver.CudaAPIError(driver.binding.CUresult.CUDA_ERROR_OUT_OF_MEMORY, "full")
        return do(*arguments)

    monkeypatch.setattr(owner, where, refusing)


def place_bytes(array):
    """Of the place of a large array: whole pages."""
    return -(-array.nbytes // 4096) * 4096
