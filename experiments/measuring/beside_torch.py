"""The same work by this project and by PyTorch on the same machine, in interleaved rounds.

``dense``, ``scanning`` and ``threads`` give the rows of one comparison: of a net's dense form at
one size, of its patches, and of this project alone on fewer threads.
"""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial

import numba
import numpy as np
from tqdm import tqdm

from experiments.inputs.nets import affordable, prepared
from experiments.measuring import runners, torch_layers
from experiments.measuring.compare import Workload, batches
from experiments.measuring.exactness import NotEqual, relative_difference
from experiments.measuring.peak import peak_memory
from experiments.measuring.timing import FEWEST, QUICKLY, ROUNDS, interleaved, spread
from kernels.host.simd import VECTOR_BYTES
from net import Dense
from net.program import Program

SIZES, QUICK_SIZES = (256, 512), (16,)
LONGEST = 45.0
"""Seconds for all rounds of one comparison, if there are ``FEWEST`` of them; fewer rounds than
``ROUNDS`` are marked."""
PASSES = ("forward", "forward + backward")
FORMS = ("dense", "patch by patch")
THREADS = "dense, by threads"
OURS = "this project"
LIMIT = 1e-4
"""Largest relative difference of PyTorch's float32 scores."""
BUSY = "a thread for each core, and a busy process"


def sizes(name, options):
    """Labelled rows and columns at which a net runs."""
    if options.quick:
        return QUICK_SIZES
    return affordable(name, SIZES, options.backend)


def _opponents(net, form, options):
    """PyTorch's nets by name: in both formats, and the dense form compiled in the faster one."""
    ways_of = [(name, False) for name in torch_layers.MEMORY_FORMATS]
    if form == "dense" and not options.quick:
        ways_of.append(("channels_last", True))
    return {
        f"PyTorch {name}" + ", compiled" * compiled: torch_layers.TorchNet(
            net, form, name, compiled
        )
        for name, compiled in ways_of
    }


def dense(name, size, options):
    """Rows of a net's dense form at ``size`` x ``size`` labelled pixels. With AVX2, sizes beyond a
    net's smallest run forward alone, without their memory: PyTorch takes minutes a call there to go
    back through larger maps in NCHW.

    Raises:
        NotEqual: PyTorch gives other scores.
    """
    net = prepared(name, seed=options.seed, backend=options.backend)
    workload, form = Workload(net, size, options.seed), Dense(net)
    workload.check_equal()
    both = VECTOR_BYTES == 64 or size == sizes(name, options)[0]
    jobs = {(OURS, "forward"): lambda: form.forward(workload.image)}
    if both:
        jobs[OURS, "forward + backward"] = lambda: form.gradients(workload.image, workload.error)
    scores = form.forward(workload.image)
    for label, opponent in _opponents(net, "dense", options).items():
        if not _agrees(opponent, workload.image[None], scores[None], label):
            continue
        jobs[label, "forward"] = lambda o=opponent: o.forward(workload.image[None])
        if both:
            jobs[label, "forward + backward"] = lambda o=opponent: o.gradients(
                workload.image[None], workload.error[None]
            )
            jobs[label, "forward + backward"]()
    shared = {"net": name, "form": "dense", "labelled": size, "batch": None}
    job = {"net": name, "backend": options.backend, "seed": options.seed, "labelled": size}
    measured = {OURS: runners.DENSE} | {label: label for label in runners.TORCH} if both else {}
    peaks = {label: peak_memory(job | {"runner": name}) for label, name in measured.items()}
    return _rows(shared, _rounds(jobs, options), peaks)


def scanning(name, _, options):
    """Rows of a net's patches, one by one; each side with the batch size that is its fastest in the
    rounds. Called again and again, a small batch finds its patches in the caches, and seems faster.

    Raises:
        NotEqual: PyTorch gives other scores.
    """
    net = prepared(name, seed=options.seed, backend=options.backend)
    program, rng = Program(net, "patch"), np.random.default_rng(options.seed)
    memory, opponents = net.backend.memory, _opponents(net, "patch", options)
    jobs = {}

    def forward(x):
        return memory.to_host(program.forward(memory.to_device(x)))

    def both(x, error):
        _, tape = program.forward(memory.to_device(x), keep=True)
        gradients, _ = program.backward(tape, memory.to_device(error))
        return memory.all_to_host(gradients.values())

    for batch in batches(Workload(net, max(SIZES), options.seed), options.quick):
        x = rng.random((batch, net.channels, *net.patch), net.dtype)
        scores = forward(x)
        error = rng.standard_normal(scores.shape, net.dtype)
        jobs[OURS, "forward", batch] = partial(forward, x)
        jobs[OURS, "forward + backward", batch] = partial(both, x, error)
        for label, opponent in opponents.items():
            if _agrees(opponent, x, scores, label):
                jobs[label, "forward", batch] = partial(opponent.forward, x)
                jobs[label, "forward + backward", batch] = partial(opponent.gradients, x, error)
    jobs = {job: call for job, call in jobs.items() if _fits_memory(call)}
    longest = LONGEST * len({batch for *_, batch in jobs})
    rounds = _rounds(jobs, options, longest).items()
    seconds = {job: np.array(of_batches) / job[-1] for job, of_batches in rounds}
    best = {
        key: min((job for job in jobs if job[:2] == key), key=lambda job: np.median(seconds[job]))
        for key in dict.fromkeys(job[:2] for job in jobs)
    }
    shared = {"net": name, "form": "patch by patch", "labelled": None}
    rows = _rows(shared, {key: seconds[job] for key, job in best.items()}, {})
    return [row | {"batch": best[row["way"], row["pass"]][-1]} for row in rows]


def threads(name, _, options):
    """Forward + backward on one thread, on all, and on all beside a process that is busy."""
    net = prepared(name, seed=options.seed, backend=options.backend)
    size = sizes(name, options)[0]
    workload, form, most = Workload(net, size, options.seed), Dense(net), numba.get_num_threads()

    def on(threads):
        numba.set_num_threads(threads)
        try:
            return _seconds(lambda: form.gradients(workload.image, workload.error))
        finally:
            numba.set_num_threads(most)

    def beside_another():
        with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
            try:
                time.sleep(0.1)
                return on(most)
            finally:
                busy.kill()

    jobs = {"1 thread": lambda: on(1), f"{most} threads": lambda: on(most), BUSY: beside_another}
    rounds = _interleaved(jobs, options)
    shared = {"net": name, "form": THREADS, "labelled": size, "batch": None}
    shared |= {"pass": PASSES[1], "peak_bytes": None, "peak_method": None}
    ours = np.array(rounds[f"{most} threads"])
    return [
        shared | {"way": way} | spread(seconds) | spread(np.array(seconds) / ours, "ratio")
        for way, seconds in rounds.items()
    ]


def _agrees(opponent, x, scores, label):
    """Whether the opponent runs here; if so, its scores are compared. The call warms it up.

    Raises:
        NotEqual: its scores differ from ours.
    """
    try:
        theirs = opponent.forward(x)
    except Exception as error:  # torch.compile needs a C++ compiler, and has limits of its own
        if "compiled" not in label and not _is_out_of_memory(error):
            raise
        tqdm.write(f"{label} does not run here: {str(error).splitlines()[0]}")
        return False
    difference = relative_difference(theirs, scores)
    if not difference <= LIMIT:
        raise NotEqual(f"{label}: scores differ by {difference:.1e}; expected {LIMIT:.0e}")
    return True


def _fits_memory(call):
    """Whether it runs: the device's memory may be too small for PyTorch's."""
    try:
        call()
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        return False
    return True


def _is_out_of_memory(error):
    return type(error).__name__ == "OutOfMemoryError"


def _rounds(jobs, options, longest=LONGEST):
    """Seconds by job, round by round."""
    timed = {key: lambda job=job: _seconds(job) for key, job in jobs.items()}
    return _interleaved(timed, options, longest)


def _interleaved(jobs, options, longest=LONGEST):
    return interleaved(jobs, QUICKLY if options.quick else longest, ROUNDS, min_rounds=FEWEST)


def _seconds(call):
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _rows(shared, rounds, peaks):
    rows = []
    for (label, p), seconds in rounds.items():
        ratios = np.array(seconds) / np.array(rounds[OURS, p])
        unknown = {"peak_bytes": None, "peak_method": None}
        row = shared | {"pass": p, "way": label} | spread(seconds) | spread(ratios, "ratio")
        rows.append(row | peaks.get(label, {}).get(p, unknown))
    return rows
