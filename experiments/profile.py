"""The profiler of the CUDA kernels: see docs/profiling.md.

For each layer of a net, or for one operator: what its kernels are compiled to (static), how they
access memory (traced on the simulator), how long they should take on named devices by a roofline
model (model), what Python takes for a pass (host), and how long the kernels take (timed, on a GPU).
See ``experiments.profiling``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from time import perf_counter

from experiments.inputs.arguments import (
    LARGEST_BATCH,
    LARGEST_EXTENT,
    LARGEST_SIDE,
    folder,
    folder_name,
    integer,
    refused,
)

SOURCES = ("static", "traced", "model", "host", "timed")
FORMS = ("dense", "patch")
BATCH = 64
TITLE = "what the CUDA kernels are compiled to, how they access memory, how long they take"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m experiments profile``."""
    extent = integer(1, LARGEST_EXTENT)
    parser.add_argument("nets", nargs="*", metavar="NET", help="nets of the zoo")
    parser.add_argument(
        "--size", type=integer(1, LARGEST_SIDE), default=256, help="labelled pixels a side (256)"
    )
    parser.add_argument(
        "--form", nargs="+", choices=FORMS, default=["dense"], help="of the nets (dense)"
    )
    parser.add_argument(
        "--batch",
        type=integer(1, LARGEST_BATCH),
        default=BATCH,
        help=f"patches together, in the patch form ({BATCH})",
    )
    parser.add_argument("--backward", action="store_true", help="also the nets' pass back")
    parser.add_argument("--operator", metavar="NAME", help="such as convolution.forward")
    parser.add_argument(
        "--shape",
        type=extent,
        nargs=4,
        metavar=("N", "C", "H", "W"),
        help="of the operator's input",
    )
    parser.add_argument("--filters", type=extent, metavar="K", help="of a convolution")
    for name in ("kernel", "stride", "dilation"):
        help_ = f"{name} of the operator's window, y and x (1 1)"
        parser.add_argument(f"--{name}", type=extent, nargs=2, default=(1, 1), help=help_)
    parser.add_argument(
        "--activation",
        nargs="+",
        metavar="NAME",
        help="that the operator computes or ends in, and its parameter if it has one: elu 1.0",
    )
    parser.add_argument(
        "--sources",
        nargs="+",
        choices=SOURCES,
        help="what to find out (all that this machine can: timed takes a GPU)",
    )
    parser.add_argument(
        "--arch", default="sm_80,sm_90", help="architectures to compile for (sm_80,sm_90)"
    )
    parser.add_argument("--devices", nargs="+", metavar="DEVICE", help="of the model (all)")
    parser.add_argument(
        "--targets", action="store_true", help="all kernels against what is asked of them"
    )
    parser.add_argument(
        "--ncu", action="store_true", help="only print Nsight Compute's command for each launch"
    )
    parser.add_argument("--out", type=folder, default=Path("results/profile"), help="folder")
    parser.add_argument(
        "--name", type=folder_name, help="of the results' folder in it (made from the rest)"
    )


def views() -> dict:
    """The modules that make tables, captions and figures, by the ``experiment`` of a record."""
    from experiments.modelling import page
    from experiments.profiling import tables, targets

    return {"profile": tables, "targets": targets, "model": page}


def main(options) -> int:
    """Run the subcommand; returns the exit status."""
    from experiments.profiling import asked, facts, static, stored, tables, targets, timed
    from experiments.storing import results
    from kernels import BackendUnavailable

    try:
        jobs = asked.jobs(options)
        if options.ncu:
            every = [call for _, of_job in jobs for call in of_job]
            print("\n".join(line for call in every for line in timed.nsight_commands(call)))
            return 0
        chosen = asked.FactSources.of(options)
        place = options.out / (options.name or asked.folder_name(options))
        results.check_writable(f"--out is {options.out}", place)
    except (ValueError, TypeError, OSError, static.NotReadable, BackendUnavailable) as error:
        return refused(error)
    except MemoryError:
        return refused("--size, --batch or --shape is too large: the arrays do not fit into memory")
    started = perf_counter()
    if options.targets:
        rows = targets.measure(chosen.capabilities)
        stored.store("targets", targets, rows, chosen.names, place, perf_counter() - started)
        return 0
    try:
        rows = facts.profile(jobs, chosen)
    except MemoryError as error:
        return refused(f"--size, --batch or --shape is too large for this device: {error}")
    stored.store("profile", tables, rows, chosen.names, place, perf_counter() - started)
    return 0
