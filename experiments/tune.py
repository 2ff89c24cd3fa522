"""Measures every tile of the convolutions' tables on this machine's GPU, for layers of the zoo.

Each net runs in its dense form on an image and as patch net on a batch of patches, forward and
backward. The fastest tile of each matrix goes to the user's cache folder (XDG_CACHE_HOME or
~/.cache), where the convolutions look for it from then on. Where nothing was measured on a device,
or not with today's kernels, a cost model chooses. The file can be shipped, too: in
kernels/convolution/tiles.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from unittest import mock

import numpy as np

TITLE = "measure the convolutions' tiles on a GPU, for the layers of the zoo"
WARM_UPS, REPEATS = 2, 9


@dataclass(frozen=True)
class Call:
    """A call of a function of the convolution, and the choice of a tile that it makes.

    Attributes:
        function: ``forward``, ``gradient_input`` or ``gradient_weights``.
        arguments: its arguments; arrays stand as shapes, marked by ``Shaped``.
        options: its keyword arguments, as items.
        choice: what ``choose_tile`` is asked: (table, rows, columns, bytes of an element).
    """

    function: str
    arguments: tuple
    options: tuple
    choice: tuple

    def __str__(self):
        shapes = [" x ".join(map(str, a)) for a in self.arguments if isinstance(a, Shaped)]
        options = [f"{name} {value}" for name, value in self.options]
        return ", ".join([self.function, *shapes, *options])


class Shaped(tuple):
    """The shape of an array."""


def add_arguments(parser) -> None:
    """Declare the options of ``tune``."""
    parser.add_argument("--nets", nargs="+", metavar="NET", help="nets of the zoo (default: all)")
    parser.add_argument(
        "--pixels", type=int, default=256, help="labelled pixels along an image (default 256)"
    )
    parser.add_argument(
        "--batch", type=int, default=256, help="patches that run together (default 256)"
    )
    parser.add_argument(
        "--backend",
        default="cuda",
        choices=("cuda", "simulator"),
        help="cuda: the simulator is refused, whose times say nothing about speed",
    )


def main(options) -> int:
    """Measure, show and keep; returns the exit status."""
    problem = _problem(options)
    if problem:
        print(f"experiments: error: {problem}", file=sys.stderr)
        return 2
    from experiments import results
    from kernels import get_backend
    from kernels.convolution import cuda_tiles_measured as measured
    from kernels.device.api import device_name
    from net.files import write_atomically
    from net.zoo import ZOO

    calls = {}
    for name in options.nets or ZOO:
        calls |= dict.fromkeys(calls_of(name, options.pixels, options.batch))
    measurements = []
    for call in calls:
        found = measure(call, device_seconds)
        measurements += found
        print(verdict(call, found), flush=True)
    record = results.machine(get_backend("cuda")) | {"measurements": measurements}
    path = measured.user_folder() / measured.file_name(device_name())
    write_atomically(path, (json.dumps(record, indent=1) + "\n").encode())
    print(path)
    return 0


def _problem(options) -> str | None:
    from kernels import BackendUnavailable, get_backend
    from kernels.checks import count
    from net.zoo import ZOO

    if options.backend == "simulator":
        return "--backend is simulator; expected cuda: the simulator's times say nothing of speed"
    unknown = [name for name in options.nets or () if name not in ZOO]
    if unknown:
        return f"--nets names {', '.join(unknown)}; expected some of {', '.join(ZOO)}"
    try:
        count("--pixels", options.pixels)
        count("--batch", options.batch)
        get_backend("cuda")
    except (ValueError, BackendUnavailable) as error:
        return str(error)
    return None


def calls_of(name: str, pixels: int, batch: int) -> list[Call]:
    """The calls of one net of the zoo, in its dense form and as patch net; nothing is computed."""
    from kernels.convolution import cuda as convolution
    from kernels.device.launching import recorded
    from net import zoo
    from net.program import Program

    net = zoo.build(name, backend="cuda")
    found, choices = [], []

    def noted(function):
        def note(*arguments, **options):
            result = function(*arguments, **options)
            shapes = (Shaped(a.shape) if hasattr(a, "dtype") else a for a in arguments)
            found.append(
                Call(function.__name__, tuple(shapes), tuple(options.items()), choices.pop())
            )
            return result

        return note

    def choose(*choice):
        choices.append(choice)
        return convolution.modelled_tile(*choice)

    size = tuple(p + pixels - 1 for p in net.patch)
    empty = net.backend.memory.empty
    functions = (convolution.forward, convolution.gradient_input, convolution.gradient_weights)
    with (
        recorded(),
        mock.patch.multiple(
            convolution, choose_tile=choose, **{f.__name__: noted(f) for f in functions}
        ),
    ):
        for form, shape in (("dense", (1, *size)), ("patch", (batch, *net.patch))):
            program = Program(net, form)
            x = empty((shape[0], net.channels, *shape[1:]), net.dtype)
            y, tape = program.forward(x, keep=True)
            program.backward(tape, y)
    return found


def measure(call: Call, seconds) -> list[dict]:
    """The median time of a call with each tile that its table has.

    Args:
        seconds: gives the seconds that a function takes on the device.
    """
    from kernels.convolution import cuda as convolution
    from kernels.memory import cuda as memory

    rng = np.random.default_rng(0)
    arguments = [
        memory.to_device(rng.standard_normal(a, np.float32)) if isinstance(a, Shaped) else a
        for a in call.arguments
    ]
    table, rows, columns, _ = call.choice
    function, options = getattr(convolution, call.function), dict(call.options)

    def timed(tile):
        def run():
            function(*arguments, **options, tile=tile)

        for _ in range(WARM_UPS):
            run()
        return float(np.median([seconds(run) for _ in range(REPEATS)]))

    return [
        {
            **{"table": table, "rows": rows, "columns": columns, "call": str(call)},
            **{"tile": asdict(tile), "seconds": timed(tile)},
        }
        for tile in convolution.TILES[table]
    ]


def verdict(call: Call, measurements: list[dict]) -> str:
    """A line: the fastest tile of a call beside the one that the cost model chooses."""
    from kernels.convolution import cuda as convolution
    from kernels.convolution.cuda_tile import Tile

    times = {Tile(**m["tile"]): m["seconds"] for m in measurements}
    fastest, modelled = min(times, key=times.get), convolution.modelled_tile(*call.choice)

    def shown(tile):
        return f"{tile.height} x {tile.width} {1e3 * times[tile]:.4g} ms"

    return f"{call}: fastest {shown(fastest)}; model {shown(modelled)}"


def device_seconds(run) -> float:
    """The time of ``run`` on the device, by events."""
    from kernels.device.api import cuda
    from kernels.device.streams import stream

    begin, end = cuda.event(), cuda.event()
    begin.record(stream())
    run()
    end.record(stream())
    end.synchronize()
    return cuda.event_elapsed_time(begin, end) / 1e3
