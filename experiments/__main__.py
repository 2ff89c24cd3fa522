"""The command line of the experiments. Nothing heavy is imported before the arguments are read."""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

from experiments import check, model, profile, tune
from experiments.inputs.arguments import (
    LARGEST_SEED,
    Parser,
    folder,
    integer,
    refused,
    threads,
)

EXPERIMENTS = {
    "demo": "a trained net labels a photograph: the same bits, and how many times faster",
    "equality": "largest difference between dense and patch-by-patch results of every net",
    "networks": "time, speedup and memory of every net and layer, dense against patch-by-patch",
    "convolution": "the sparse convolution over image, kernel, d and channels, in GFLOP/s",
    "pooling": "the sparse max pooling over image, kernel, d and channels, in GB/s",
    "growth": "speedup against the size of the image and of the patch",
    "sampled": "time and memory of learning from n pixels: patch-by-patch, dense, needed cells",
    "memory": "sectors and bytes that kernels ask of memory, dense against strided patch form",
    "large": "images of any size, region by region: megapixels per second, and peak memory",
    "host": "the host's time, launches and allocations of a pass on a GPU, without one",
    "segmentation": "a net trained on sampled pixels separates three textures",
    "scribbles": "a net and a random forest learn pixels from two dozen strokes",
    "methods": "against fragments, PyTorch's dilated layers and zero-filled kernels",
    "against_torch": "time and memory of the same work in PyTorch, dense and patch by patch",
    "layers": "every layer on one thread of the host, as a share of a matrix product beside it",
}
"""A line on each, by its name: that of its subcommand, its module and its folder of results."""
APART = ("against_torch", "layers", "scribbles")
"""Not part of ``all``: they need the extras ``bench`` and ``learn``, or the host as backend."""
TWICE = ("against_torch", "layers", "pooling")
"""What compares instruction sets: by itself, it runs on AVX2 as well on a processor with AVX-512.
"""
FIRST = ("demo", "pooling", "host")
"""What ``all`` begins with: they take seconds, and the first tables come soon."""
OF_NETS = (
    *("equality", "networks", "sampled", "memory", "host", "large"),
    *("segmentation", "methods", "against_torch", "layers"),
)
"""Experiments on nets of the zoo, which ``--nets`` chooses."""
TOOLS = {"profile": profile, "tune": tune, "model": model, "check": check}
"""Subcommands beside the experiments; each has its own options."""
BACKENDS = ("auto", "cuda", "simulator", "cpu")
ROOT = Path(__file__).parents[1]
FULL_OUT, QUICK_OUT = Path("results"), Path("results-quick")


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; returns the exit status."""
    options = _parser().parse_args(arguments)
    options.arguments = sys.argv[1:] if arguments is None else arguments
    try:
        return _run_subcommand(options)
    except OSError as error:  # such as a full disk, or a folder that cannot be written
        return refused(error)


def _run_subcommand(options) -> int:
    if options.subcommand == "list":
        titles = EXPERIMENTS | {name: tool.TITLE for name, tool in TOOLS.items()}
        print("\n".join(f"{name:13}  {text}" for name, text in titles.items()))
        return 0
    if options.subcommand in TOOLS:
        return TOOLS[options.subcommand].main(options)
    options.out = options.out or (QUICK_OUT if options.quick else FULL_OUT)
    if options.subcommand in ("report", "published"):
        return {"report": _report, "published": _published}[options.subcommand](options)
    every = [name for name in EXPERIMENTS if name not in APART]
    every.sort(key=lambda name: name not in FIRST)
    chosen = every if options.subcommand == "all" else [options.subcommand]
    if options.backend == "simulator":
        os.environ["NUMBA_ENABLE_CUDASIM"] = "1"
    if options.threads:
        os.environ["NUMBA_NUM_THREADS"] = str(options.threads)
    problem = _problem(options, chosen)
    if problem:
        return refused(problem)
    from experiments.measuring.exactness import NotEqual
    from experiments.storing.cache import code_digest, state_digest

    options.code = {
        name: code_digest(name) for name in chosen
    }  # now, while files and loaded code agree
    options.state = state_digest()
    options.gflops, options.bar = None, None
    if not options.quick:
        _forecast(chosen, options)
    wrong = False
    try:
        for name in chosen:
            try:
                _run(name, options)
            except (NotEqual, MemoryError) as error:
                refused(f"{name} is not stored: {error}")
                wrong = True
    except KeyboardInterrupt:
        print(
            "experiments: interrupted; finished measurements are cached, and the same command "
            "resumes there",
            file=sys.stderr,
        )
        return 130
    finally:
        if options.bar:
            options.bar.close()
    status = _report(options) or _run_with_avx2(options)
    return 1 if wrong else status


def _forecast(chosen, options):
    """Time a probe; print the forecast and start the progress bar."""
    import numba

    from experiments.reporting import forecast

    options.gflops = forecast.probe(numba.get_num_threads())
    if options.subcommand == "all":
        expected = forecast.Forecast(chosen, ROOT / FULL_OUT, options.backend, options.gflops)
        print(expected.message(), flush=True)
        options.bar = expected.bar()


def _run_with_avx2(options) -> int:
    """Compare on AVX2 as well where the processor has AVX-512: the same command once more, whose
    results go where those of another machine would."""
    from experiments.storing.instructions import narrower

    compares = options.subcommand in TWICE and options.backend == "cpu" and not options.quick
    environment = narrower() if compares else None
    if environment is None:
        return 0
    command = [sys.executable, "-m", "experiments", *options.arguments]
    return subprocess.run(command, env=environment).returncode


def modules() -> dict:
    """The modules of the experiments, by name."""
    return {name: importlib.import_module(f"experiments.{name}") for name in EXPERIMENTS}


def _run(name, options):
    """Run one experiment, store what it measured, and show its tables."""
    from tqdm import tqdm

    from experiments.reporting import printed, report, stored
    from experiments.storing import cache, machine, results
    from kernels import get_backend
    from net.files import write_atomically

    experiment = modules()[name]
    record = machine.described(get_backend(options.backend))
    folder = options.out / machine.slug(record) / name
    common = {key: record[key] for key in machine.DETERMINING}
    common |= {"experiment": name, "code": options.code[name]}
    common |= {"seed": options.seed, "quick": options.quick}
    provenance = {key: record[key] for key in ("utc", "commit", "dirty")}
    options.cache = cache.MeasurementCache(
        *(folder / cache.FOLDER, common, provenance),
        fresh=options.fresh,
        finished=options.bar and options.bar.step,
    )
    if options.bar:
        options.bar.begin(name)
    started = time.perf_counter()
    rows, arrays = experiment.run(options)
    used = options.cache.provenances or [provenance]
    record |= {
        "experiment": name,
        "code": options.state,
        "seed": options.seed,
        "quick": options.quick,
        "nets": options.nets,
        "seconds": round(time.perf_counter() - started + options.cache.saved, 1),
        "gflops": options.gflops,
        "first_utc": min(one["utc"] for one in used),
        "commit": ", ".join(dict.fromkeys(one["commit"] for one in used)),
        "dirty": any(one["dirty"] for one in used),
        "measurements": {
            "made": len(used) - options.cache.reused,
            "reused": options.cache.reused,
        },
    }
    results.save(folder, rows, record, arrays)
    made = report.shown(experiment, stored.load(folder, experiment))
    for path, content in made.items():
        write_atomically(path, content)
    if options.bar:
        options.bar.end()
    with tqdm.external_write_mode():  # where a bar is shown
        print(printed.fitted(made[folder / report.PAGE].decode(), str(folder / report.PAGE)))
        if folder / report.FIGURES["png"] in made:
            print(f"The picture: {folder / report.FIGURES['png']}\n")


def _report(options) -> int:
    """Rebuild all tables, figures and pages from what is stored; pack them if asked for."""
    from experiments.modelling import page
    from experiments.reporting import archive, headline, pages, published, report, stored
    from experiments.storing.results import BadResults
    from net.files import write_atomically

    experiments, views = modules(), profile.views()
    try:
        results = stored.read(options.out, experiments, views)
        made = report.everything(results, experiments, views)
        packed = {archive.place(options.out): archive.packed(results, made)} if options.pack else {}
        if options.out == FULL_OUT:
            claims, readme = Path("docs/reproduction.md"), Path("README.md")
            made[claims] = pages.reproduction(
                results.machines, page.notes(results.profiles)
            ).encode()
            made[Path("docs/published.md")] = published.page(results.machines).encode()
            text = pages.readme(results.machines, experiments, readme.read_text())
            made[readme] = headline.put(results.machines, text).encode()
    except (BadResults, ValueError) as error:
        return refused(error)
    for path, content in (made | packed).items():
        write_atomically(path, content)
        print(path)
    return 0


def _published(options) -> int:
    """Print the page of what others published, beside what is stored."""
    from experiments.reporting import printed, published, stored
    from experiments.storing.results import BadResults

    try:
        machines = stored.read(options.out, modules(), profile.views()).machines
        print(printed.fitted(published.page(machines)))
    except BadResults as error:
        return refused(error)
    return 0


def _problem(options, chosen) -> str | None:
    """What is wrong with the options, before any work; resolves the backend."""
    from experiments.reporting import archive
    from experiments.storing import cache, machine
    from experiments.storing.results import check_writable
    from kernels import BackendUnavailable, get_backend
    from net.zoo import ZOO

    unknown = [name for name in options.nets or () if name not in ZOO]
    if unknown:
        return f"--nets names {', '.join(unknown)}; expected some of {', '.join(ZOO)}"
    experiments = modules()
    timed = [name for name in chosen if experiments[name].TIMED]
    if options.backend == "simulator" and timed:
        return (
            f"--backend is simulator; expected cpu or cuda for {', '.join(timed)}: the simulator's "
            "times say nothing about speed"
        )
    try:
        backend = get_backend(options.backend)
        slug = machine.slug(machine.described(backend))
        for name in chosen:
            check_writable(f"--out is {options.out}", options.out / slug / name / cache.FOLDER)
        if options.pack:
            place = archive.place(options.out)
            check_writable(f"--pack writes {place}", place.parent)
    except (BackendUnavailable, OSError, ValueError) as error:
        return str(error)
    options.backend = backend.name
    for name in APART:
        reason = name in chosen and experiments[name].unavailable(options.backend)
        if reason:
            return f"{name} cannot run: {reason}"
    return None


def _reporting() -> argparse.ArgumentParser:
    """The options of all that writes results."""
    reporting = argparse.ArgumentParser(add_help=False)
    reporting.add_argument("--quick", action="store_true", help="tiny sizes, to see it work")
    reporting.add_argument(
        "--out",
        type=folder,
        help=f"folder for the results, one folder in it for each machine (default: {FULL_OUT}, or "
        f"{QUICK_OUT} with --quick)",
    )
    reporting.add_argument(
        "--pack", action="store_true", help="put the result files into one archive, to send them"
    )
    return reporting


def _measuring(reporting) -> argparse.ArgumentParser:
    """Those, and the options of all that measures."""
    measuring = argparse.ArgumentParser(add_help=False, parents=[reporting])
    measuring.add_argument(
        "--fresh", action="store_true", help="delete cached measurements and make them again"
    )
    measuring.add_argument(
        "--backend",
        choices=BACKENDS,
        default="auto",
        help="where the operators run (default: auto, which is cuda where a device is found)",
    )
    measuring.add_argument(
        "--threads",
        type=threads,
        metavar="N",
        help="threads of the host's operators, at most one for each core (default: Numba's own "
        "choice, NUMBA_NUM_THREADS)",
    )
    measuring.add_argument(
        "--seed",
        type=integer(0, LARGEST_SEED),
        default=0,
        help="of weights, pixels and error maps (default 0)",
    )
    measuring.set_defaults(nets=None, train=False)
    return measuring


def _of_nets(measuring) -> argparse.ArgumentParser:
    """Those, and which nets are measured."""
    of_nets = argparse.ArgumentParser(add_help=False, parents=[measuring])
    of_nets.add_argument(
        "--nets",
        nargs="+",
        metavar="NET",
        help="nets of the zoo (default: the experiment's own choice)",
    )
    return of_nets


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m experiments",
        description="Measures the dense form of patch nets against patch-by-patch scanning, and "
        "stores tables, figures and how they were made.",
    )
    reporting = _reporting()
    measuring = _measuring(reporting)
    of_nets = _of_nets(measuring)
    commands = parser.add_subparsers(dest="subcommand", required=True, metavar="EXPERIMENT")
    for name, text in EXPERIMENTS.items():
        parents = [of_nets if name in OF_NETS else measuring]
        command = commands.add_parser(name, parents=parents, help=text, description=text)
        if name == "demo":
            command.add_argument(
                "--train", action="store_true", help="make the trained weights anew, first"
            )
        if name == "sampled":
            command.add_argument(
                "--forms",
                nargs="+",
                choices=("scanning", "dense", "needed"),
                help="methods: patch by patch, every cell (the paper's), needed cells "
                "(default: all)",
            )
    for name, tool in TOOLS.items():
        tool.add_arguments(commands.add_parser(name, help=tool.TITLE, description=tool.__doc__))
    text = f"all experiments but {', '.join(APART[:-1])} and {APART[-1]}, one after the other"
    commands.add_parser("all", parents=[of_nets], help=text, description=text)
    text = "rebuild all tables and figures from the stored files"
    commands.add_parser("report", parents=[reporting], help=text, description=text)
    text = "what others published, beside what arithmetic alone gives and what was measured"
    published = commands.add_parser("published", help=text, description=text)
    published.add_argument("--out", type=folder, help=f"folder of the results ({FULL_OUT})")
    published.set_defaults(quick=False)
    text = "a line on each experiment"
    commands.add_parser("list", help=text, description=text)
    return parser


if __name__ == "__main__":
    sys.exit(main())
