"""Nets, runs and images on the command line: train, label, and say what a file holds."""

from __future__ import annotations

import argparse
import os
import sys
import warnings

from kernels import BackendUnavailable
from net.commands import convert, info, label, train

COMMANDS = {"convert": convert, "info": info, "label": label, "train": train}
REFUSALS = (OSError, ValueError, TypeError, MemoryError, ModuleNotFoundError, BackendUnavailable)
INTERRUPTED = 130
"""As shells say it: 128 and the number of the signal."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        the exit status: 0; 1 where a file is not what it should be or cannot be read or written;
        130 after Ctrl-C. Wrong arguments exit with 2.
    """
    options = _parser().parse_args(arguments)
    name = f"python -m net {options.command}"
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *_: print(f"{name}: {message}", file=sys.stderr)
        try:
            status = COMMANDS[options.command].run(options)
            sys.stdout.flush()
            return status
        except KeyboardInterrupt:
            return INTERRUPTED
        except BrokenPipeError:  # whoever read the output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except REFUSALS as error:
            print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
            return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m net", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in COMMANDS.items():
        command = commands.add_parser(
            name, help=module.__doc__.splitlines()[0], description=module.__doc__
        )
        command.set_defaults(error=command.error)
        module.arguments(command)
    return parser


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text
    sys.exit(main())
