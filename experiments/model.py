"""MODEL, not measured: how long both forms of the zoo's nets would take on named GPUs.

No GPU is needed, and none is asked. A roofline for each launch, with the code that the compiler
makes for the device and the sectors that the simulator counts (docs/profiling.md), the host's time
for each launch, as measured here, and for scanning the batch that the model finds fastest.
"""

from __future__ import annotations

import gc
import itertools
from pathlib import Path
from time import perf_counter

from experiments.inputs.arguments import LARGEST_SIDE, folder, folder_name, integer, refused

TITLE = "MODEL: times and speedups on named GPUs, none of them needed"
SIZE = 256


def add_arguments(parser) -> None:
    """The options of ``python -m experiments model``."""
    parser.add_argument("--nets", nargs="+", metavar="NET", help="nets of the zoo (all)")
    parser.add_argument("--devices", nargs="+", metavar="DEVICE", help="(all that are known)")
    parser.add_argument(
        "--size",
        type=integer(1, LARGEST_SIDE),
        default=SIZE,
        help=f"labelled pixels a side ({SIZE})",
    )
    parser.add_argument("--fresh", action="store_true", help="compile and count everything anew")
    parser.add_argument("--out", type=folder, default=Path("results/profile"), help="folder")
    parser.add_argument("--name", type=folder_name, default="model", help="of the folder in it")


def main(options) -> int:
    """Run the subcommand; returns the exit status."""
    from experiments.modelling import page
    from experiments.profiling import static, stored
    from experiments.profiling.devices import DEVICES
    from experiments.storing import cache, machine, results
    from kernels import get_backend
    from net.zoo import ZOO

    place = options.out / options.name
    try:
        for name, known in (("nets", ZOO), ("devices", DEVICES)):
            unknown = [one for one in getattr(options, name) or () if one not in known]
            if unknown:
                raise ValueError(
                    f"--{name} names {', '.join(unknown)}; expected some of {', '.join(known)}"
                )
        static.check()
        results.check_writable(f"--out is {options.out}", place)
    except (ValueError, OSError, static.NotReadable) as error:
        return refused(error)
    record = machine.described(get_backend("cpu"))
    common = {key: record[key] for key in ("cpu", "python", "versions")}
    common["code"] = cache.code_digest("modelling/counted")
    provenance = {key: record[key] for key in ("utc", "commit", "dirty")}
    measurements = cache.MeasurementCache(
        place / cache.FOLDER, common, provenance, fresh=options.fresh
    )
    devices = {name: DEVICES[name] for name in options.devices or DEVICES}
    started = perf_counter()
    try:
        rows = modelled(options.nets or list(ZOO), options.size, devices, measurements)
    except MemoryError:
        return refused(f"--size is {options.size}: the arrays of its batches have no addresses")
    seconds = perf_counter() - started + measurements.saved
    stored.store("model", page, rows, ["static", "traced", "model"], place, seconds)
    return 0


def modelled(nets: list[str], size: int, devices: dict, cache) -> list[dict]:
    """The rows of the model's results (see ``modelling.page.COLUMNS``).

    Args:
        nets: names of nets of the zoo.
        size: labelled pixels a side.
        devices: ``profiling.devices.Device`` by their short names.
        cache: a ``storing.cache.MeasurementCache`` for what is compiled, counted and measured.
    """
    from tqdm import tqdm

    from experiments.modelling import counted

    # Before the compilers make the host busy
    host = {name: counted.host_seconds(cache, name, size) for name in nets}
    rows = []
    with (
        counted.Codes(cache, nets, size, devices.values()) as codes,
        tqdm(nets, desc="model", unit="net", leave=False) as progress,
    ):
        for name in progress:
            progress.set_postfix_str(name)
            rows += _of_net(name, size, devices, host[name], cache, codes)
    return rows


def _of_net(name, size, devices, host, cache, codes):
    """The rows of a net: of each device and direction, the dense form, scanning with the batch that
    suits it best, and scanning one by one."""
    from net import zoo

    net, rows = zoo.build(name, backend="cpu"), []
    for short_name, device in devices.items():
        rows += _of_device(net, name, size, short_name, device, host, cache, codes)
        gc.collect()  # the arrays of its passes: they lie in cycles, and are gigabytes
    return rows


def _of_device(net, name, size, short_name, device, host, cache, codes):
    from experiments.modelling import counted, predicted

    pixels = size * size
    every, of_device = counted.passes(name, size, device), codes.of(name, device)
    cases = counted.traced_cases(every)
    lines = counted.lines(cache, itertools.chain(*cases))
    l2_bytes = predicted.counted_bytes(every, cases, lines)
    memory = [predicted.memory_of(net, size, one) for one in every]
    estimates = {}
    for one, code, l2, needed in zip(every, of_device, l2_bytes, memory):
        if needed > device.memory or one.batch > pixels:
            continue
        launches = predicted.launches_of(one, code, l2, device)
        time = predicted.repeated(launches, predicted.batches(pixels, one), host[one.backward])
        estimates[one.backward, one.form, one.batch] = time, one
    made_for = of_device[0][0].capability
    common = {
        "net": name,
        "size": size,
        "device": short_name,
        "stand_in": "" if made_for == device.capability else "sm_{}{}".format(*made_for),
    }
    for backward in (False, True):
        of_direction = {key[1:]: value for key, value in estimates.items() if key[0] == backward}
        yield from _of_direction(common, of_direction, host[backward], backward, pixels)


def _of_direction(common, estimates, host, backward, pixels):
    from experiments.modelling.counted import BATCHES, DENSE, PATCH
    from experiments.modelling.page import BATCH_OF_ONE, BEST, DIRECTIONS
    from experiments.modelling.predicted import TERMS, batches

    scans = {batch: value for (form, batch), value in estimates.items() if form == PATCH}
    if (DENSE, 1) not in estimates or not scans:
        return  # does not fit into the device's memory
    best = min(scans, key=lambda batch: scans[batch][0].seconds)
    chosen = [(DENSE, *estimates[DENSE, 1]), (BEST, *scans[best])]
    if BATCHES[0] in scans:
        chosen.append((BATCH_OF_ONE, *scans[BATCHES[0]]))
    dense = estimates[DENSE, 1][0].seconds
    for form, time, one in chosen:
        yield (
            common
            | {"direction": DIRECTIONS[backward], "form": form, "batch": one.batch}
            | {"launches": time.launches, "seconds": time.seconds, "host_seconds": host}
            | {term: time.terms[term] for term in TERMS}
            | {"multiply_adds": batches(pixels, one) * sum(c.multiply_adds for c in one.calls)}
            | {"speedup": None if form == DENSE else time.seconds / dense}
        )
