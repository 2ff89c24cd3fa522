"""The command line of the experiments. Nothing heavy is imported before the arguments are read."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from experiments import profile, tune

EXPERIMENTS = {
    "equality": "largest difference between dense and patch-by-patch results of every net",
    "networks": "time, speedup and memory of every net and layer, dense against patch-by-patch",
    "convolution": "the sparse convolution over image, kernel, d and channels, in GFLOP/s",
    "pooling": "the sparse max pooling over image, kernel, d and channels, in GB/s",
    "growth": "speedup against the size of the image and of the patch",
    "sampled": "time and memory of learning from n sampled pixels, and where the ways cross",
    "memory": "sectors and bytes that kernels ask of memory, dense against strided patch form",
    "segmentation": "a net trained on sampled pixels tells three textures apart",
    "methods": "against fragments, PyTorch's dilated layers and zero-filled kernels",
    "against-torch": "time and memory of the same work in PyTorch, dense and patch by patch",
}
APART = ("against-torch",)
"""Not part of ``all``: a benchmark that needs the extra ``bench``."""
BACKENDS = ("auto", "cuda", "simulator", "cpu")
FULL_OUT, QUICK_OUT = Path("results"), Path("results-quick")
KEPT = "kept"
"""Folder of an experiment's finished measurements."""


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; returns the exit status."""
    options = _parser().parse_args(arguments)
    if options.subcommand == "list":
        print("\n".join(f"{name:12}  {text}" for name, text in EXPERIMENTS.items()))
        return 0
    for tool in (tune, profile):
        if options.subcommand == tool.__name__.removeprefix("experiments."):
            return tool.main(options)
    options.out = options.out or (QUICK_OUT if options.quick else FULL_OUT)
    if options.subcommand == "report":
        return _report(options)
    every = [name for name in EXPERIMENTS if name not in APART]
    chosen = every if options.subcommand == "all" else [options.subcommand]
    if options.backend == "simulator":
        os.environ["NUMBA_ENABLE_CUDASIM"] = "1"
    if options.threads:
        os.environ["NUMBA_NUM_THREADS"] = str(options.threads)
    problem = _problem(options, chosen)
    if problem:
        print(f"experiments: error: {problem}", file=sys.stderr)
        return 2
    from experiments.kept import code_digest
    from experiments.timing import NotEqual

    options.code = {name: code_digest(name) for name in chosen}  # as it is loaded now
    wrong = False
    try:
        for name in chosen:
            try:
                _run(name, options)
            except NotEqual as error:
                print(f"experiments: error: {name} is not stored: {error}", file=sys.stderr)
                wrong = True
    except KeyboardInterrupt:
        print(
            "experiments: interrupted; finished measurements are kept, and the same command goes "
            "on from there",
            file=sys.stderr,
        )
        return 130
    status = _report(options)
    return 1 if wrong else status


def _run(name, options):
    """Run one experiment, store what it measured, and show its tables."""
    from experiments import kept, report, results
    from kernels import get_backend

    experiment = report.experiment_of(name)
    record = results.machine(get_backend(options.backend))
    folder = options.out / results.slug(record) / name
    same = ("backend", "cpu", "gpu", "threads", "python", "versions")
    shared = {key: record[key] for key in same}
    shared |= {"experiment": name, "code": options.code[name]}
    shared |= {"seed": options.seed, "quick": options.quick}
    made = {key: record[key] for key in ("utc", "commit", "dirty")}
    options.kept = kept.Kept(folder / KEPT, shared, made, fresh=options.fresh)
    started = time.perf_counter()
    rows, arrays = experiment.run(options)
    notes = options.kept.notes or [made]
    record |= {
        "experiment": name,
        "seed": options.seed,
        "quick": options.quick,
        "seconds": round(time.perf_counter() - started, 1),
        "first_utc": min(note["utc"] for note in notes),
        "commit": ", ".join(dict.fromkeys(note["commit"] for note in notes)),
        "dirty": any(note["dirty"] for note in notes),
        "measurements": {"made": len(notes) - options.kept.reused, "kept": options.kept.reused},
    }
    results.save(folder, rows, record, arrays)
    table = report.write(name, experiment, folder)
    print(table.read_text())


def _report(options) -> int:
    """Rebuild all tables, figures and pages from what is stored; pack them if asked for."""
    from experiments import report, results

    if not list(options.out.glob(f"*/*/{results.RECORD}")):
        print(f"experiments: error: --out is {options.out}; expected results", file=sys.stderr)
        return 2
    try:
        for path in report.everything(options.out, EXPERIMENTS):
            print(path)
        if options.out == FULL_OUT:
            print(report.reproduction(options.out, EXPERIMENTS, Path("docs/reproduction.md")))
            print(report.readme(options.out, EXPERIMENTS, Path("README.md")))
        if options.pack:
            print(report.pack(options.out))
    except results.BadResults as error:
        print(f"experiments: error: {error}", file=sys.stderr)
        return 1
    return 0


def _problem(options, chosen) -> str | None:
    """What is wrong with the options, before any work; resolves the backend."""
    from experiments import report, results
    from kernels import BackendUnavailable, get_backend
    from net.zoo import ZOO

    unknown = [name for name in options.nets or () if name not in ZOO]
    if unknown:
        return f"--nets names {', '.join(unknown)}; expected some of {', '.join(ZOO)}"
    timed = [name for name in chosen if report.experiment_of(name).TIMED]
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
    for name in APART:
        reason = name in chosen and report.experiment_of(name).unavailable(options.backend)
        if reason:
            return f"{name} cannot run: {reason}"
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
        help=f"folder for the results, one folder in it for each machine (default: {FULL_OUT}, or "
        f"{QUICK_OUT} with --quick)",
    )
    shared.add_argument(
        "--pack", action="store_true", help="put the result files into one archive, to send them"
    )
    measuring = argparse.ArgumentParser(add_help=False, parents=[shared])
    measuring.add_argument(
        "--fresh", action="store_true", help="forget finished measurements and make them again"
    )
    measuring.add_argument(
        "--backend",
        choices=BACKENDS,
        default="auto",
        help="where the operators run (default: auto, which is cuda where a device is found)",
    )
    measuring.add_argument(
        "--threads",
        type=_threads,
        metavar="N",
        help="threads of the host's operators (default: Numba's own choice, NUMBA_NUM_THREADS)",
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
    for tool in (tune, profile):
        name = tool.__name__.removeprefix("experiments.")
        tool.add_arguments(commands.add_parser(name, help=tool.TITLE, description=tool.__doc__))
    text = "every experiment, one after the other"
    commands.add_parser("all", parents=[measuring], help=text, description=text)
    text = "rebuild all tables and figures from the stored files"
    commands.add_parser("report", parents=[shared], help=text, description=text)
    text = "a line on each experiment"
    commands.add_parser("list", help=text, description=text)
    return parser


def _threads(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"is {text!r}; expected an int of at least 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
