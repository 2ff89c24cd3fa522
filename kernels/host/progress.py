"""What standard error says while the host's functions are compiled: minutes, on a busy machine."""

import sys
import time
from contextlib import suppress

from numba.core import event

SECONDS_BETWEEN_LINES = 10


class _Progress(event.Listener):
    """Counts the functions of this package: in place on a terminal, else in a line now and then."""

    def __init__(self):
        self.count, self.said, self.open = 0, float("-inf"), []

    def on_start(self, details):
        function = details.data["dispatcher"].py_func
        module, _, name = f"{function.__module__}.{function.__name__}".rpartition(".")
        self.open.append(module.startswith("kernels."))
        if self.open[-1]:
            self.count += 1
            functions = f"{self.count} function{'s' * (self.count > 1)} so far"
            where = module.removeprefix("kernels.")
            self._say(f"{functions} ({where} {name.strip('_')})")

    def on_end(self, details):
        ours = self.open.pop()
        if ours and not any(self.open):
            self._say("")

    def _say(self, functions):
        text = f"compiling kernels for this CPU, once: {functions}" if functions else ""
        with suppress(AttributeError, OSError, ValueError):  # it may be closed, or no file at all
            if sys.stderr.isatty():
                print(end=f"\r\033[K{text}", file=sys.stderr, flush=True)
            elif text and time.monotonic() - self.said >= SECONDS_BETWEEN_LINES:
                self.said = time.monotonic()
                print(text, file=sys.stderr, flush=True)


def report() -> None:
    """Report from now on."""
    event.register("numba:compile", _Progress())
