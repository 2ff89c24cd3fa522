"""Small results, as experiments and the profiler store them."""

from experiments.inputs.arithmetic import DIRECTIONS
from experiments.measuring.compare import TOTAL
from experiments.storing import results

RECORD = {
    **{"utc": "2014-12-15T08:00:00+00:00", "commit": "c0ffee" * 6, "dirty": False},
    **{"backend": "cpu", "cpu": "A CPU", "cores": 2, "threads": 2, "gpu": None},
    **{"python": "3.11.7", "versions": {"numba": "0.68.1"}, "command": "python -m experiments all"},
    **{"seed": 0, "quick": False, "nets": None},
}
EQUALITY = {
    **{"net": "lenet28", "dtype": "float64", "border": "reflect", "gradients_worst": "conv1.bias"},
    **{"rows": 48, "columns": 56, "pixels": 16},
    **{"scores_difference": 0.0, "scores_equal_bits": 1.0, "gradients_difference": 1e-15},
}
TARGET = {"target": "local", "of": "every kernel", "case": "here", "value": 0}


def equality(**changed):
    """The rows of a net in both dtypes."""
    return [EQUALITY | {"dtype": dtype} | changed for dtype in ("float64", "float32")]


def growth():
    """The rows of two nets on images of one size, and of one of them on a second one."""
    rows = []
    for patch, size in ((16, 16), (16, 24), (32, 16)):
        for direction in DIRECTIONS:
            for form in ("scanning", "dense"):
                row = {"net": f"family-{patch}", "patch": patch, "labelled": size, "form": form}
                row |= {"direction": direction, "layer": TOTAL, "extrapolated": False}
                row |= {"timed_pixels": 9, "batch": 16, "multiply_adds": 1000 * patch}
                row |= dict.fromkeys(("seconds", "seconds_p20", "seconds_p80"), 0.5)
                row |= {"repeats": 5, "device_seconds": None}
                row |= dict.fromkeys(("speedup", "speedup_p20", "speedup_p80"), 2.0 * size)
                rows.append(row | {"peak_bytes": None, "peak_method": None})
    return rows


def store(out, rows=None, name="equality", machine="a-machine", arrays=None, **changed):
    """Store an experiment's results; returns their folder."""
    folder = out / machine / name
    rows = equality() if rows is None else rows
    results.save(folder, rows, RECORD | {"experiment": name} | changed, arrays or {})
    return folder


def store_profile(out, rows=None, name="here", experiment="targets", **changed):
    """Store results of the profiler; returns their folder."""
    folder = out / "profile" / name
    record = RECORD | {"experiment": experiment, "sources": ["static", "traced"]} | changed
    results.save(folder, rows or [TARGET], record, {})
    return folder
