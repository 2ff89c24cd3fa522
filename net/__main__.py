"""``python -m net``: what can be done with nets and runs on the command line."""

from __future__ import annotations

import argparse
import sys

from net.learning.old_runs import convert


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        the exit status: 0, or 1 where a file is not what it should be or cannot be read or written.
        Wrong arguments exit with 2.
    """
    parser = argparse.ArgumentParser(prog="python -m net", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("convert", help="make a run in the old .npz format one of today")
    command.add_argument("old", help="the .npz file; it stays as it is")
    command.add_argument("new", help="the file to write; none may be there")
    options = parser.parse_args(arguments)
    try:
        convert(options.old, options.new)
    except (OSError, ValueError) as error:
        print(f"python -m net {options.command}: {error}", file=sys.stderr)
        return 1
    print(f"{options.new} holds the run of {options.old}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
