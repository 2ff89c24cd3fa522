"""Equality: dense against patch-by-patch, on a photograph, at sampled pixels and all corners.

For every net, in float64 and float32: the scores of the sampled pixels, and the parameter gradients
of an error map that is masked to them.
"""

from __future__ import annotations

from tqdm import tqdm

from experiments.inputs.nets import QUICK, affordable
from experiments.measuring.forms import BORDER, LIMITS, compared
from net.zoo import ZOO

TIMED = False
PIXELS = 200
SIZE, MOST = 256, 1.5e11
"""Rows and columns of the image, and the multiply-adds of a dense pass forward beyond which it is
halved."""
QUICK_PIXELS, QUICK_SIZE = 12, (48, 56)
COLUMNS = {
    **dict.fromkeys(("net", "dtype", "border", "gradients_worst"), str),
    **dict.fromkeys(("rows", "columns", "pixels"), int),
    **dict.fromkeys(("scores_difference", "scores_equal_bits", "gradients_difference"), float),
}


def run(options) -> tuple[list[dict], dict]:
    """One row for each net and dtype; no arrays.

    Raises:
        NotEqual: a difference is above its limit, or float32 scores are not bitwise equal.
    """
    sampled = QUICK_PIXELS if options.quick else PIXELS
    nets = options.nets or (QUICK if options.quick else ZOO)
    jobs = [(name, dtype) for name in nets for dtype in LIMITS]
    rows = []
    for name, dtype in tqdm(jobs, desc="equality", unit="net"):
        size = QUICK_SIZE if options.quick else _size(name, options.backend)
        parameters = {"net": name, "dtype": dtype, "size": size, "pixels": sampled}
        rows.append(
            options.cache.measured(
                parameters,
                lambda name=name, dtype=dtype, size=size: compared(
                    name, dtype, size, sampled, options.backend, seed=options.seed
                ),
            )
        )
    return rows, {}


def _size(name, backend):
    return affordable(name, (SIZE,), backend, MOST) * 2


def table(rows: list[dict]) -> str:
    """The Markdown table."""
    lines = [
        "| net | dtype | pixels | scores: largest relative difference | scores bitwise equal "
        "| gradients: largest relative difference | in |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['net']} | {row['dtype']} | {row['pixels']} of {row['rows'] * row['columns']} "
            f"| {row['scores_difference']:.1e} | {100 * row['scores_equal_bits']:g}% "
            f"| {row['gradients_difference']:.1e} | {row['gradients_worst']} |"
        )
    return "\n".join(lines)


def caption(record: dict) -> str:
    """What the table shows."""
    return (
        "Largest difference between the dense form and patch-by-patch scanning, and the share of "
        "scores that are the same bits, for nets of the zoo in float64 and float32. Scores, "
        "and the gradients of all parameters for a random error map masked to the sampled "
        "pixels.\n\n"
        f"On the photograph `astronaut`, border `{BORDER}`, at seeded random pixels and all four "
        "corners. Relative difference: max|a - b| / max|b| of a tensor; the worst parameter is "
        "named."
    )


def figure(rows: list[dict], record: dict, arrays: dict):
    """None: the table is enough."""
    return None
