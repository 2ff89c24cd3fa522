"""The memory that a pass takes, told before it runs: what each kind of pass makes, in a
``net.memory_plan``, beside the steps of its program."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numba
import numpy as np

from kernels.checks import Pair
from net.memory_plan import MemoryPlan
from net.nodes import IMAGE
from net.program import Program

REMEMBERED = 64
"""Passes of a program whose results are cached."""
MAX_COUNT = 2**62
"""Rows, columns, pixels or bytes: more than any array has."""


def forward_bytes(
    program: Program, border: str, labelled: Pair, *, threads: int | None = None
) -> int:
    """What ``Dense.forward`` takes for ``labelled`` rows and columns of pixels at most.

    Args:
        program: a net's dense form.
        border: border of the images.
        labelled: rows and columns of the scores.
        threads: number of threads that work at once; None is Numba's now.

    >>> from net import Dense, zoo
    >>> program = Dense(zoo.build("lenet28", backend="reference")).program
    >>> forward_bytes(program, "valid", (9, 9)) < forward_bytes(program, "valid", (90, 90))
    True
    """
    plan = MemoryPlan(program, threads=threads)
    plan.forward(*_framed(plan, border, labelled))
    return plan.ledger.peak


def predict_bytes(program: Program, border: str, labelled: Pair, tile: Pair) -> int:
    """What ``Dense.predict`` takes in parts of ``tile`` at most; other arguments as
    ``forward_bytes``.

    >>> from net import Dense, zoo
    >>> program = Dense(zoo.build("lenet28", backend="reference")).program
    >>> tiles = ((9, 9), (30, 30), (90, 90))
    >>> small, large, all_ = (predict_bytes(program, "zero", (90, 90), tile) for tile in tiles)
    >>> small < large < all_
    True
    """
    plan, net = MemoryPlan(program), program.net
    tile = tuple(map(min, tile, labelled))
    x = plan.ledger.make(0)
    if border != "valid":
        x = plan.replace(x, _input_shape(net, labelled, net.patch))
    shape = _input_shape(net, tile, net.receptive_field)
    cropped = tile != tuple(labelled) or net.patch != net.receptive_field
    plan.forward(plan.make(shape) if cropped else plan.ledger.hold(x), shape)
    if not net.gives_probabilities:
        plan.make((net.output.channels, *tile))
    pixel = net.output.channels * plan.itemsize
    results = prod(labelled) * (pixel + np.dtype(np.int64).itemsize)
    return results + prod(tile) * pixel + plan.ledger.peak  # NumPy looks for maxima in a copy


def gradients_bytes(
    program: Program,
    border: str,
    labelled: Pair,
    *,
    masked: bool = True,
    image: bool = False,
    threads: int | None = None,
) -> int:
    """What ``Dense.gradients`` takes at most; other arguments as ``forward_bytes``.

    Args:
        masked: the pass makes an error map of its own.
        image: also the gradient by the image.

    >>> from net import Dense, zoo
    >>> program = Dense(zoo.build("lenet28", backend="reference")).program
    >>> gradients_bytes(program, "valid", (90, 90)) > forward_bytes(program, "valid", (90, 90))
    True
    """
    plan, net = MemoryPlan(program, threads=threads), program.net
    plan.ledger.drop(plan.forward(*_framed(plan, border, labelled), keep=True))
    error = plan.make((net.output.channels, *labelled) if masked else (0,))
    by_image = plan.backward(error, image=image)
    if image and net.patch != net.receptive_field:
        by_image = plan.replace(by_image, _input_shape(net, labelled, net.patch))
    if image and border != "valid":
        plan.replace(by_image, (net.channels, *labelled))
    return plan.ledger.peak


def step_bytes(program: Program, border: str, labelled: Pair) -> int:
    """What a step of a ``Trainer`` in the dense form takes; arguments as ``forward_bytes``.

    >>> from net import Dense, zoo
    >>> program = Dense(zoo.build("lenet28", backend="reference")).program
    >>> step_bytes(program, "zero", (90, 90)) > forward_bytes(program, "zero", (90, 90))
    True
    """
    plan, net = MemoryPlan(program, learning=True), program.net
    _make_targets(plan, prod(labelled))
    scores = plan.forward(*_framed(plan, border, labelled), keep=True)
    plan.ledger.hold(scores)
    plan.backward(plan.make((net.output.channels, *labelled)))
    return plan.ledger.peak


LEARNING = (gradients_bytes, step_bytes)
PASSES = (forward_bytes, *LEARNING)


def scan_bytes(
    program: Program,
    border: str,
    labelled: Pair,
    pixels: int,
    batch: int,
    *,
    learning: bool = False,
    image: bool = False,
) -> int:
    """What ``Scan`` takes at most, and a step of a ``Trainer`` patch by patch.

    Args:
        program: a net's patch form.
        border: border of the images.
        labelled: rows and columns of all pixels of the image.
        pixels: number of chosen pixels.
        batch: patches that run together.
        learning: a pass forward and backward.
        image: also the gradient by the image.

    >>> from net import Scan, zoo
    >>> program = Scan(zoo.build("lenet28", backend="reference")).program
    >>> small, large = (scan_bytes(program, "zero", (90, 90), 500, batch) for batch in (64, 256))
    >>> small < large
    True
    """
    plan, net = MemoryPlan(program, learning=learning), program.net
    bordered, batch = _input_shape(net, labelled, net.patch), min(batch, pixels)
    if border != "valid":
        plan.make(bordered)
    plan.ledger.make(2 * pixels * np.dtype(np.int64).itemsize)
    patches = (batch, net.channels, *net.patch)
    if not learning:
        plan.make((pixels, net.output.channels))
        plan.forward(plan.make(patches), patches)
        return plan.ledger.peak
    _make_targets(plan, prod(labelled))
    if net.backend.name == "cuda":  # a copy of all error vectors
        plan.make((pixels, net.output.channels))
    for shapes in (node.parameters.values() for node in net.nodes.values()):
        for shape in shapes:  # the total so far, and its sum with the next gradient
            plan.replace(plan.make(shape), shape)
    if image:
        plan.make(bordered)
    plan.ledger.hold(plan.forward(plan.make(patches), patches, keep=True))
    by_patch = plan.backward(plan.make((batch, net.output.channels)), image=image)
    if image:  # added to the sum so far
        plan.replace(plan.replace(by_patch, bordered), bordered)
    return plan.ledger.peak


def needed_bytes(
    program: Program,
    cells: int,
    pixels: int,
    *,
    keep: bool = False,
    learning: bool = False,
    image: bool = False,
    threads: int | None = None,
) -> int:
    """What a pass over lists of cells takes at most (``net.needed_pass``), its tables apart.

    Args:
        program: a program over lists.
        cells: number of needed cells of the image.
        pixels: number of chosen pixels.
        keep: whether a backward pass follows.
        learning: whether dropout makes maps of its own.
        image: also the gradient by the image's cells.
        threads: as ``forward_bytes``.

    >>> from net import zoo
    >>> from net.needed_pass import NeededPass
    >>> net = zoo.build("lenet28", backend="reference")
    >>> some = NeededPass(net, "zero", np.array([[5, 7]]))
    >>> needed_bytes(some.program, 784, 1) < needed_bytes(some.program, 784, 1, keep=True)
    True
    """
    plan, net = MemoryPlan(program, learning=learning, threads=threads), program.net
    shape = (cells, net.channels, 1, 1)
    return _of_pixels(plan, plan.make(shape), shape, pixels, keep, image)


def patches_bytes(
    program: Program,
    pixels: int,
    *,
    keep: bool = False,
    learning: bool = False,
    image: bool = False,
    threads: int | None = None,
) -> int:
    """What a pass over the patches of chosen pixels takes at most (``net.patches_pass``), the
    places of their cells apart; arguments as ``needed_bytes``.

    Args:
        program: a net's patch form.

    >>> from net import Scan, zoo
    >>> program = Scan(zoo.build("lenet28", backend="reference")).program
    >>> patches_bytes(program, 1) < patches_bytes(program, 1, keep=True)
    True
    """
    plan, net = MemoryPlan(program, learning=learning, threads=threads), program.net
    shape = (pixels, net.channels, *net.patch)
    return _of_pixels(plan, plan.replace(plan.make(shape), shape), shape, pixels, keep, image)


def _of_pixels(plan, x, shape, pixels, keep, image):
    """The peak of a pass from ``x``, a block of ``shape``, to the scores of some pixels."""
    scores = plan.forward(x, shape, keep=keep)
    if keep:
        plan.ledger.hold(scores)
        plan.backward(plan.make((pixels, plan.program.net.output.channels)), image=image)
    return plan.ledger.peak


def calibration_bytes(program: Program, border: str, labelled: tuple[Pair, ...]) -> int:
    """What ``calibrate`` takes at most for images with ``labelled`` rows and columns of scores
    each; other arguments as ``forward_bytes``."""
    plan, runs, peak = MemoryPlan(program), [], 0
    for size in labelled:
        x, shape = _framed(plan, border, size)
        runs.append(({IMAGE: x}, {IMAGE: shape}))
    for step in program.steps:
        if step.normalizes:
            most = max(prod(shapes[step.inputs[0]]) for _, shapes in runs)
            peak = max(peak, plan.ledger.peak + most * np.dtype(np.float64).itemsize)
        for blocks, shapes in runs:
            plan.advance(step, blocks, shapes)
    return max(peak, plan.ledger.peak)


def _make_targets(plan, pixels):
    """Labels and a mask as the loss takes them, and what they were made from."""
    plan.ledger.make(2 * pixels * (np.dtype(np.int32).itemsize + np.dtype(bool).itemsize))


def _framed(plan, border, labelled):
    """(block, shape) of what the program reads; a block of 0 bytes where that is the caller's."""
    x, net = plan.ledger.make(0), plan.program.net
    if border != "valid":
        x = plan.replace(x, _input_shape(net, labelled, net.patch))
    shape = _input_shape(net, labelled, net.receptive_field)
    return plan.replace(x, shape) if net.patch != net.receptive_field else x, shape


def _input_shape(net, labelled, field):
    """Shape of an image in which each of ``labelled`` pixels sees a ``field``, rows and columns."""
    return (1, net.channels, *(n + f - 1 for n, f in zip(labelled, field)))


def remembered(plan: Callable, program: Program, *arguments, **options):
    """Cached result of ``plan``, a function of a program, sizes and the number of threads alone,
    such as those of this module."""
    plans = program.plans
    key = (plan, numba.get_num_threads(), arguments, *options.items())
    planned = plans.get(key)
    if planned is None:
        planned = plan(program, *arguments, **options)
        if len(plans) >= REMEMBERED:
            plans.clear()
        plans[key] = planned
    return planned
