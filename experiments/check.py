"""The short form of the first hour with a GPU, in about a minute: see docs/gpu.md.

It looks at device and compiler, runs each operator once against the NumPy reference, nets in both
forms and over lists of cells, and times one convolution, whose figures must make sense.
"""

from __future__ import annotations

import sys

from experiments.inputs.arguments import refused

TITLE = "a minute: device, compiler, every operator, a net's equality, a timing"
BACKENDS = ("cuda", "cpu")


def add_arguments(parser) -> None:
    """The options of ``python -m experiments check``."""
    parser.add_argument(
        "--backend",
        default="cuda",
        choices=BACKENDS,
        help="cuda; cpu makes the same checks of the host's operators",
    )


def main(options) -> int:
    """Run the subcommand.

    Returns:
        the exit status: 0 where all is well, 1 where a check failed, 2 where the backend cannot
        run.
    """
    from experiments.checking import equality, operators, place, timing
    from kernels import BackendUnavailable, get_backend

    try:
        ops = get_backend(options.backend)
    except BackendUnavailable as error:
        return refused(f"{error}. What it takes: docs/gpu.md")
    print("\n".join(f"found   {line}" for line in place.found(ops)))
    failed = 0
    for name, check in (*operators.checks(ops), *equality.checks(ops), *timing.checks(ops)):
        failed += not _passes(name, check)
    if failed:
        print(f"experiments: {failed} of the checks failed; see docs/gpu.md", file=sys.stderr)
    return 1 if failed else 0


def _passes(name, check) -> bool:
    """Print what a check found; whether it found no fault."""
    try:
        said, passes = check(), True
    except Exception as error:  # whatever it is, the other checks still say something
        said, passes = f"{type(error).__name__}: {error}", False
    print(f"{'ok' if passes else 'FAILED':7} {name}: {' '.join(str(said).split())}", flush=True)
    return passes
