"""The command line of the experiments. Nothing heavy is imported before the arguments are read."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from pathlib import Path

from experiments import profile

EXPERIMENTS = {
    "equality": "largest difference between dense and patch-by-patch results of every net",
    "networks": "milliseconds and speedup of every layer, dense against patch-by-patch",
    "sampled": "time of learning from n sampled pixels, dense against patch-by-patch",
    "memory": "sectors and bytes that kernels ask of memory, dense against strided patch form",
    "segmentation": "a net trained on sampled pixels tells three textures apart",
}
BACKENDS = ("auto", "cuda", "simulator", "cpu")
FULL_OUT, QUICK_OUT = Path("results"), Path("results-quick")


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; returns the exit status."""
    options = _parser().parse_args(arguments)
    if options.subcommand == "list":
        print("\n".join(f"{name:10}  {text}" for name, text in EXPERIMENTS.items()))
        return 0
    if options.subcommand == "profile":
        return profile.main(options)
    options.out = options.out or (QUICK_OUT if options.quick else FULL_OUT)
    if options.subcommand == "report":
        return _report(options)
    chosen = list(EXPERIMENTS) if options.subcommand == "all" else [options.subcommand]
    if options.backend == "simulator":
        os.environ["NUMBA_ENABLE_CUDASIM"] = "1"
    problem = _problem(options, chosen)
    if problem:
        print(f"experiments: error: {problem}", file=sys.stderr)
        return 2
    try:
        for name in chosen:
            _run(name, options)
    except KeyboardInterrupt:
        print("experiments: interrupted; nothing half-written is left behind", file=sys.stderr)
        return 130
    return 0


def _run(name, options):
    """Run one experiment, store what it measured, and show its tables."""
    from experiments import report, results
    from kernels import get_backend

    experiment = importlib.import_module(f"experiments.{name}")
    record = results.machine(get_backend(options.backend))
    started = time.perf_counter()
    rows, arrays = experiment.run(options)
    record |= {
        "experiment": name,
        "seed": options.seed,
        "quick": options.quick,
        "seconds": round(time.perf_counter() - started, 1),
    }
    results.save(options.out / name, rows, record, arrays)
    table = report.write(name, experiment, options.out / name)
    print(table.read_text())


def _report(options) -> int:
    """Rebuild the tables and figures of every experiment that has stored something."""
    from experiments import report, results

    found = [name for name in EXPERIMENTS if (options.out / name).is_dir()]
    if not found:
        print(f"experiments: error: --out is {options.out}; expected results", file=sys.stderr)
        return 2
    for name in found:
        try:
            experiment = importlib.import_module(f"experiments.{name}")
            print(report.write(name, experiment, options.out / name))
        except results.BadResults as error:
            print(f"experiments: error: {error}", file=sys.stderr)
            return 1
    return 0


def _problem(options, chosen) -> str | None:
    """What is wrong with the options, before any work; resolves the backend."""
    from experiments import results
    from kernels import BackendUnavailable, get_backend
    from net.zoo import ZOO

    unknown = [name for name in options.nets or () if name not in ZOO]
    if unknown:
        return f"--nets names {', '.join(unknown)}; expected some of {', '.join(ZOO)}"
    timed = [name for name in chosen if importlib.import_module(f"experiments.{name}").TIMED]
    if options.backend == "simulator" and timed:
        return (
            f"--backend is simulator; expected cpu or cuda for {', '.join(timed)}: the simulator's "
            "times say nothing about speed"
        )
    try:
        options.backend = get_backend(options.backend).name
        results.check_writable(options.out)
    except (BackendUnavailable, OSError) as error:
        return str(error)
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments",
        description="Measures the dense form of patch nets against patch-by-patch scanning, and "
        "stores tables, figures and how they were made.",
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--quick", action="store_true", help="tiny sizes, to see it work")
    shared.add_argument(
        "--out",
        type=Path,
        help=f"folder for the results (default: {FULL_OUT}, or {QUICK_OUT} with --quick)",
    )
    measuring = argparse.ArgumentParser(add_help=False, parents=[shared])
    measuring.add_argument(
        "--backend",
        choices=BACKENDS,
        default="auto",
        help="where the operators run (default: auto, which is cuda where a device is found)",
    )
    measuring.add_argument(
        "--nets",
        nargs="+",
        metavar="NET",
        help="nets of the zoo (default: the experiment's own choice)",
    )
    measuring.add_argument(
        "--seed", type=int, default=0, help="of weights, pixels and error maps (default 0)"
    )
    commands = parser.add_subparsers(dest="subcommand", required=True, metavar="EXPERIMENT")
    for name, text in EXPERIMENTS.items():
        commands.add_parser(name, parents=[measuring], help=text, description=text)
    profile.add_arguments(
        commands.add_parser("profile", help=profile.TITLE, description=profile.__doc__)
    )
    text = "every experiment, one after the other"
    commands.add_parser("all", parents=[measuring], help=text, description=text)
    text = "rebuild all tables and figures from the stored files"
    commands.add_parser("report", parents=[shared], help=text, description=text)
    text = "a line on each experiment"
    commands.add_parser("list", help=text, description=text)
    return parser


if __name__ == "__main__":
    sys.exit(main())
