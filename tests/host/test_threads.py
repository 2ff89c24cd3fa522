"""Work too small to share stays on the thread that calls."""

import numba
import numpy as np
import pytest

from kernels.host import threads
from kernels.masking import cpu as masking
from kernels.merging import cpu as merging
from kernels.softmax import cpu as softmax

pytestmark = [
    pytest.mark.cpu,
    pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="Numba has one thread here"),
]


SMALLEST = threads.SMALLEST_SHARED_WORK


@pytest.fixture(autouse=True)
def smallest(monkeypatch):
    """What other tests do without."""
    monkeypatch.setattr(threads, "SMALLEST_SHARED_WORK", SMALLEST)


class Spy:
    """In a dispatcher's place: notes how many threads each call would get."""

    def __init__(self):
        self.seen = []

    def py_func(self):
        """Nothing."""

    def __call__(self, *arguments):
        self.seen.append(numba.get_num_threads())
        if not arguments:
            raise ZeroDivisionError


class TestParallel:
    def test_small_work_gets_one_thread_and_other_work_all(self):
        function, most = threads.Parallel(Spy()), numba.get_num_threads()
        for work in (0, SMALLEST - 1, SMALLEST):
            function(None, work=work)
        function(None)
        assert function.dispatcher.seen == [1, 1, most, most]

    def test_the_number_of_threads_is_as_before(self):
        function, most = threads.Parallel(Spy()), numba.get_num_threads()
        with pytest.raises(ZeroDivisionError):
            function(work=0)
        assert numba.get_num_threads() == most

    def test_it_is_still_the_function(self):
        assert masking._apply.__name__ == "_apply"
        assert masking._apply.__module__ == "kernels.masking.cpu"


def map_of(side):
    return np.ones((1, 2, side, side), np.float32)


@pytest.mark.parametrize(
    ("module", "name", "call"),
    [
        (masking, "_apply", lambda x: masking.apply(x, np.ones(x[:, 0].shape, bool))),
        (softmax, "_forward", softmax.forward),
        (softmax, "_backward", lambda x: softmax.backward(x, x)),
        (merging, "_copy", lambda x: merging.add([x, x])),
        (merging, "_accumulate", lambda x: merging.add([x, x])),
        (merging, "_copy_channels", lambda x: merging.concatenate([x, x])),
        (merging, "_copy_channels", lambda x: merging.concatenate_backward(x, [1, 1])),
    ],
)
def test_operators_share_by_the_size_of_their_maps(monkeypatch, module, name, call):
    spy = Spy()
    monkeypatch.setattr(getattr(module, name), "dispatcher", spy)
    call(map_of(10))
    assert set(spy.seen) == {1}
    spy.seen.clear()
    call(map_of(700))
    assert set(spy.seen) == {numba.get_num_threads()}
