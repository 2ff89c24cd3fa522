"""Equality: dense against patch-by-patch, on a photograph, at sampled pixels and all corners.

For every net, in float64 and float32: the scores of the sampled pixels, and the parameter gradients
of an error map that is masked to them.
"""

from __future__ import annotations

import numpy as np
from tqdm import tqdm

from experiments.inputs.nets import prepared
from experiments.inputs.photographs import astronaut
from experiments.measuring.exactness import NotEqual, relative_difference
from net import Dense, Scan
from net.zoo import ZOO

TIMED = False
PIXELS = 200
SIZE = (512, 512)
QUICK_PIXELS, QUICK_SIZE = 12, (48, 56)
BORDER = "reflect"
COLUMNS = {
    **dict.fromkeys(("net", "dtype", "border", "gradients_worst"), str),
    **dict.fromkeys(("rows", "columns", "pixels"), int),
    **dict.fromkeys(("scores_difference", "scores_equal_bits", "gradients_difference"), float),
}
LIMITS = {"float64": 1e-12, "float32": 1e-5}


def run(options) -> tuple[list[dict], dict]:
    """One row for each net and dtype; no arrays.

    Raises:
        NotEqual: a difference is above its limit, or float32 scores are not bitwise equal.
    """
    size, sampled = (QUICK_SIZE, QUICK_PIXELS) if options.quick else (SIZE, PIXELS)
    jobs = [(name, dtype) for name in options.nets or ZOO for dtype in LIMITS]
    rows = []
    for name, dtype in tqdm(jobs, desc="equality", unit="net"):
        parameters = {"net": name, "dtype": dtype, "size": size, "pixels": sampled}
        rows.append(
            options.cache.measured(
                parameters,
                lambda name=name, dtype=dtype: compared(
                    name, dtype, size, sampled, options.backend, seed=options.seed
                ),
            )
        )
    return rows, {}


def compared(name: str, dtype: str, size, sampled: int, backend: str, *, seed: int) -> dict:
    """A row on both forms of a net of the zoo.

    Args:
        size: rows and columns of the image.
        sampled: pixels that are chosen at random.

    Raises:
        NotEqual: a difference is above its limit, or float32 scores are not bitwise equal.
    """
    net = prepared(name, seed=seed, backend=backend, dtype=dtype)
    image = astronaut(net.channels, size, dtype)
    pixels = _pixels(size, sampled, np.random.default_rng(seed))
    row = {"net": name, "dtype": dtype, "border": BORDER, "rows": size[0], "columns": size[1]}
    row |= {"pixels": len(pixels)} | _compare(net, image, pixels, seed)
    _check(row)
    return row


def _pixels(size, number, rng) -> np.ndarray:
    """``number`` random pixels and the four corners, each once."""
    corners = np.array([(y, x) for y in (0, size[0] - 1) for x in (0, size[1] - 1)])
    chosen = np.stack(np.unravel_index(rng.permutation(size[0] * size[1])[:number], size), axis=1)
    return np.unique(np.concatenate([corners, chosen]), axis=0)


def _compare(net, image, pixels, seed) -> dict:
    dense, scan = Dense(net, BORDER), Scan(net, BORDER)
    at = (slice(None), pixels[:, 0], pixels[:, 1])
    scores, by_patch = dense.forward(image), scan.forward(image, pixels)
    error = np.random.default_rng(seed + 1).standard_normal(scores.shape).astype(net.dtype)
    mask = np.zeros(scores.shape[1:], bool)
    mask[at[1:]] = True
    ours = dense.gradients(image, error, mask).parameters
    theirs = scan.gradients(image, np.ascontiguousarray(error[at].T), pixels).parameters
    differences = {name: relative_difference(ours[name], theirs[name]) for name in theirs}
    worst = max(differences, key=differences.get)
    return {
        "scores_difference": relative_difference(scores[at].T, by_patch),
        "scores_equal_bits": float((by_patch == scores[at].T).mean()),
        "gradients_difference": differences[worst],
        "gradients_worst": worst,
    }


def _check(row):
    limit = LIMITS[row["dtype"]]
    large = max(row["scores_difference"], row["gradients_difference"]) > limit
    if large or (row["dtype"] == "float32" and row["scores_equal_bits"] < 1):
        raise NotEqual(f"dense and patch-by-patch results differ: {row}")


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
        "scores that are the same bits, for every net of the zoo in float64 and float32. Scores, "
        "and the gradients of all parameters for a random error map masked to the sampled "
        "pixels.\n\n"
        f"On the photograph `astronaut`, border `{BORDER}`, at seeded random pixels and all four "
        "corners. Relative difference: max|a - b| / max|b| of a tensor; the worst parameter is "
        "named."
    )


def figure(rows: list[dict], record: dict, arrays: dict):
    """None: the table is enough."""
    return None
