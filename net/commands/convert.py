"""Make a run in the old .npz format one of today."""

from __future__ import annotations

import argparse

from net.learning import old_runs


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("old", help="the .npz file; it stays as it is")
    parser.add_argument("new", help="the file to write; none may be there")


def run(options: argparse.Namespace) -> int:
    """Convert the file."""
    old_runs.convert(options.old, options.new)
    print(f"{options.new} holds the run of {options.old}")
    return 0
