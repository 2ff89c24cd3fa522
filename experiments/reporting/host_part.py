"""The host's part of a pass, as a row of a table: for the page of ``host`` and the profiles."""

from __future__ import annotations

HEADS = (
    *("direction", "ms (p20 to p80)", "launches", "us a launch"),
    *("driver's allocations", "allocated MB", "numbers packed"),
)


def cells(row: dict, low: float, high: float) -> list[str]:
    """The cells below ``HEADS``.

    Args:
        row: with ``direction``, ``seconds`` and what ``measuring.host.COUNTED`` names.
        low, high: seconds that a fifth of the passes took less than, and more than.
    """
    seconds, launches = row["seconds"], row["launches"]
    return [
        row["direction"],
        f"{1e3 * seconds:.3g} ({1e3 * low:.3g} to {1e3 * high:.3g})",
        str(launches),
        f"{1e6 * seconds / launches:.3g}",
        str(row["allocations"]),
        f"{row['allocated'] / 1e6:.1f}",
        str(row["prepared"]),
    ]
