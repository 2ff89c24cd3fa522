"""Measures every tile of the convolutions' tables on this machine's GPU, for layers of the zoo.

The convolutions are those of each net's dense form on an image and of the patch net on a batch of
patches, forward and backward. The times go to a file in the user's cache folder (XDG_CACHE_HOME or
~/.cache), from which the convolutions choose the fastest tile from then on. Without measurements of
the current device and the current kernels, a cost model chooses. The file can also be shipped, in
kernels/convolution/tiles.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial

import numpy as np

from experiments.inputs.arguments import LARGEST_BATCH, LARGEST_SIDE, integer, refused

TITLE = "measure the convolutions' tiles on a GPU, for the layers of the zoo"
WARM_UPS, REPEATS = 2, 9
TILED = ("convolution.forward", "convolution.gradient_input", "convolution.gradient_weights")


def add_arguments(parser) -> None:
    """Declare the options of ``tune``."""
    parser.add_argument("--nets", nargs="+", metavar="NET", help="nets of the zoo (default: all)")
    parser.add_argument(
        "--pixels",
        type=integer(1, LARGEST_SIDE),
        default=256,
        help="labelled pixels along an image (default 256)",
    )
    parser.add_argument(
        "--batch",
        type=integer(1, LARGEST_BATCH),
        default=256,
        help="patches that run together (default 256)",
    )
    parser.add_argument(
        "--backend",
        default="cuda",
        choices=("cuda", "simulator"),
        help="cuda: the simulator is refused, whose times say nothing about speed",
    )


def main(options) -> int:
    """Measure, print and store; returns the exit status."""
    problem = _problem(options)
    if problem:
        return refused(problem)
    from experiments.profiling.timed import interleaved
    from experiments.storing import machine
    from kernels import get_backend
    from kernels.convolution import cuda_tiles_measured as measured
    from kernels.device.api import device_name
    from net.files import write_atomically
    from net.zoo import ZOO

    try:
        cases = [
            case
            for name in options.nets or ZOO
            for case in cases_of(name, options.pixels, options.batch)
        ]
    except (ValueError, MemoryError) as error:
        return refused(f"--pixels or --batch is too large: {error}")
    measurements, record = [], machine.described(get_backend("cuda"))
    path = measured.user_folder() / measured.file_name(device_name())
    for case in dict.fromkeys(cases):
        try:
            times = measure(case, interleaved)
        except MemoryError as error:  # a smaller layer may fit
            print(f"{case}: not measured, as the outputs of all tiles do not fit: {error}")
            continue
        measurements += times
        print(verdict(case, times), flush=True)
        if times:  # at once, so that an interrupted run keeps them
            document = record | {"measurements": measurements}
            write_atomically(path, (json.dumps(document, indent=1) + "\n").encode())
    if not measurements:
        return refused("no convolution could be measured, so nothing is stored")
    print(path)
    return 0


def _problem(options) -> str | None:
    from experiments.storing.results import check_writable
    from kernels import BackendUnavailable, get_backend
    from kernels.convolution.cuda_tiles_measured import user_folder
    from net.zoo import ZOO

    if options.backend == "simulator":
        return "--backend is simulator; expected cuda: the simulator's times say nothing of speed"
    unknown = [name for name in options.nets or () if name not in ZOO]
    if unknown:
        return f"--nets names {', '.join(unknown)}; expected some of {', '.join(ZOO)}"
    try:
        get_backend("cuda")
        check_writable(f"tiles are stored in {user_folder()}", user_folder())
    except (OSError, BackendUnavailable) as error:
        return str(error)
    return None


def cases_of(name: str, pixels: int, batch: int) -> list:
    """The ``OperatorCase`` of each tiled convolution of one net of the zoo, in both forms."""
    from experiments.profiling import calls

    return [
        call.case
        for form in ("dense", "patch")
        for call in calls.of_net(name, pixels, form, batch=batch, backward=True)
        if call.operator in TILED
    ]


def measure(case, interleaved) -> list[dict]:
    """The median time of a convolution with each tile of its table; none if one is not measured.

    Args:
        case: one of those that ``cases_of`` gives.
        interleaved: measures functions on the device, as ``profiling.timed.interleaved`` does.
    """
    from experiments.profiling.calls import product_of
    from experiments.profiling.operators import Arrays, prepare
    from kernels import get_backend
    from kernels.convolution.cuda_tiles import tiles_on
    from kernels.device.multiprocessors import multiprocessors

    ops = get_backend("cuda")
    run = prepare(ops, case, Arrays(0, ops.memory.to_device))
    table, rows, columns = product_of(case)
    tiles = list(tiles_on(multiprocessors(), table))
    times = interleaved([partial(run, tile=tile) for tile in tiles], WARM_UPS, REPEATS)
    if None in times:
        return []
    return [
        {
            **{"table": table, "rows": rows, "columns": columns, "call": case.to_arguments()},
            **{"tile": asdict(tile), "seconds": float(np.median(seconds))},
        }
        for tile, seconds in zip(tiles, times)
    ]


def verdict(case, measurements: list[dict]) -> str:
    """A line on a convolution: its fastest tile, and the one that the cost model chooses."""
    if not measurements:
        return f"{case}: not measured, as the device was done before the host was"
    from experiments.profiling.calls import product_of
    from kernels.convolution.cuda_tile import Tile
    from kernels.convolution.cuda_tiles import modelled_tile
    from kernels.device.multiprocessors import multiprocessors

    times = {Tile(**m["tile"]): m["seconds"] for m in measurements}
    fastest = min(times, key=times.get)
    modelled = modelled_tile(*product_of(case), 4, multiprocessors())

    def shown(tile):
        return f"{tile.height} x {tile.width} {1e3 * times[tile]:.4g} ms"

    return f"{case}: fastest {shown(fastest)}; model {shown(modelled)}"
