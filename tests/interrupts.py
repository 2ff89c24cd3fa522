"""Interrupts of the processes that tests start."""

import signal


def heed():
    """Before a process starts: heed interrupts, which processes of tests that run in the background
    of a shell ignore."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
