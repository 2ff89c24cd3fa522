"""Processes and threads: forks, pools, both of Numba's layers, and more threads than cores."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = ("omp", "workqueue")
SECONDS = 120

pytestmark = [
    pytest.mark.cpu,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork"),
]


def run(program, *arguments, **environment):
    """(what ``program`` prints, what it says on standard error); fails where it hangs or dies."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        **{"timeout": SECONDS, "capture_output": True, "text": True},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split(), done.stderr


POOLS = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
from tests.host import passes

method, first = sys.argv[1:]
dense = passes.dense()
if first == "after":
    expected = passes.bits(dense)
context = multiprocessing.get_context(method)

def told(submit):
    try:
        return submit()
    except RuntimeError as error:
        return str(error)

with context.Pool(1) as pool, ProcessPoolExecutor(1, context) as executor:
    found = [
        told(lambda: pool.map(passes.bits, [dense])[0]),
        told(lambda: pool.apply(passes.own_bits, (None,))),
        told(lambda: executor.submit(passes.bits, dense).result()),
        told(lambda: list(executor.map(passes.own_bits, [None]))[0]),
    ]
if first == "before":
    expected = passes.bits(dense)
for each in found:
    print("same" if each == expected else repr(each).replace(" ", "_"))
"""


class TestPools:
    """``multiprocessing.Pool`` and ``ProcessPoolExecutor``."""

    @pytest.mark.parametrize("method", ["spawn", "forkserver"])
    def test_new_processes_give_the_same_bits(self, method):
        lines, _ = run(POOLS, method, "after")
        assert lines == ["same"] * 4

    @pytest.mark.parametrize("layer", LAYERS)
    def test_forked_before_the_first_pass(self, layer):
        lines, _ = run(POOLS, "fork", "before", NUMBA_THREADING_LAYER=layer)
        assert lines == ["same"] * 4

    def test_forked_after_a_pass(self):
        lines, _ = run(POOLS, "fork", "after", NUMBA_THREADING_LAYER="omp")
        assert len(lines) == 4
        for error in lines:
            assert "forked_after_Numba's_OpenMP_threads_had_started" in error
            assert "'spawn'_or_'forkserver'" in error

    def test_forked_after_a_pass_where_threads_are_started_anew(self):
        lines, _ = run(POOLS, "fork", "after", NUMBA_THREADING_LAYER="workqueue")
        assert lines == ["same"] * 4


FORKS = """
import os, sys, threading
import numpy as np
from kernels.masking import cpu as masking
from kernels.memory import cpu as memory

error, mask = np.ones((1, 2, 600, 600), np.float32), np.ones((1, 600, 600), bool)
masking.apply(error, mask)
going = True

def work():
    while going:
        masking.apply(error, mask)

threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
statuses = set()
for _ in range(50):
    child = os.fork()
    if child == 0:
        try:
            array = memory.zeros(2**21, np.uint8)
            error = masking.apply(error, mask)
            os._exit(1)
        except RuntimeError:
            os._exit(2)
    statuses.add(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
going = False
for thread in threads:
    thread.join()
print(*statuses)
"""


@pytest.mark.parametrize(("layer", "status"), [("omp", "2"), ("workqueue", "1")])
def test_forked_while_threads_are_at_work(layer, status):
    lines, _ = run(FORKS, NUMBA_THREADING_LAYER=layer)
    assert lines == [status]


THREADS = """
import sys, threading
import numba, numpy as np
from kernels.masking import cpu as masking
from kernels.softmax import cpu as softmax

x = np.random.default_rng(0).standard_normal((1, 3, 97, 101), np.float32)
mask = x[:, 0] > 0
expected = softmax.forward(x).tobytes(), masking.apply(x, mask).tobytes()
different = []

def work():
    for _ in range(200):
        found = softmax.forward(x).tobytes(), masking.apply(x, mask).tobytes()
        if found != expected:
            different.append(found)

threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(numba.threading_layer(), len(different))
"""


@pytest.mark.parametrize("layer", LAYERS)
def test_calls_of_four_threads(layer):
    lines, _ = run(THREADS, NUMBA_THREADING_LAYER=layer)
    assert lines == [layer, "0"]


MANY = """
import numba, numpy as np
from kernels.masking import cpu as masking

error = np.ones((1, 2, 600, 600), np.float32)
assert (masking.apply(error, np.ones((1, 600, 600), bool)) == 1).all()
print(numba.get_num_threads())
"""


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("threads", ["5000", "1000000"])
def test_more_threads_than_cores(layer, threads):
    (used,), said = run(MANY, NUMBA_NUM_THREADS=threads, NUMBA_THREADING_LAYER=layer)
    assert int(used) == len(os.sched_getaffinity(0))
    assert f"NUMBA_NUM_THREADS is {threads}; {used} threads are used, one for each core" in said


WAITING = """
import os
import kernels.host.compilation

print(os.environ["OMP_WAIT_POLICY"], os.environ.get("GOMP_SPINCOUNT"))
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ["PASSIVE", "3000"]),
        ({"GOMP_SPINCOUNT": "7"}, ["PASSIVE", "7"]),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, ["ACTIVE", "None"]),
    ],
)
def test_threads_wait_as_the_user_says(given, expected, monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    assert run(WAITING, **given)[0] == expected
