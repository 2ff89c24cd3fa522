"""How a page of results begins: what it serves, what it took, and what would change the verdict."""

from __future__ import annotations

from experiments.reporting.claims import CLAIMS
from experiments.reporting.markdown import code, escaped, link
from experiments.storing.results import Results

LIMITATIONS = "[Limitations](../../README.md#limitations) of all results stand in one place."
CLAIMS_PAGE = "../../../docs/reproduction.md"
NONE = "none of the abstract's, so no verdict depends on it"


def heading(results: Results) -> list[str]:
    """The lines, for a page two folders below the index.

    Args:
        results: the results; their record has a field ``quick`` if they are an experiment's, and
            not the profiler's, which serve no claim.
    """
    record, lines = results.record, []
    served = [
        (number, claim)
        for number, claim in enumerate(CLAIMS, 1)
        if record["experiment"] in claim.experiments
    ]
    if "quick" in record:
        texts = [f'{number}. "{claim.text}"' for number, claim in served]
        page = f" ({link('claim by claim', CLAIMS_PAGE)})" if served else ""
        lines.append(f"* **Claims served:** {'; '.join(texts) or NONE}{page}.")
    size = sum(map(len, results.contents.values()))
    took = [f"**command:** {_command(record)}", f"**time:** {_time(record)}"]
    took += [f"**disk:** {_size(size)}, pages and figures apart"]
    lines.append(f"* {'; '.join(took)}.".replace("**command", "**Command"))
    if served:
        changes = [f"{number}: {claim.changes}" for number, claim in served]
        lines.append(f"* **What would change the verdict:** {'; '.join(changes)}.")
    return [*lines, f"* {LIMITATIONS}"]


def state(record: dict) -> str:
    """The state of the code that results are of, as far as their record says, in Markdown."""
    digest = record.get("code")
    if type(digest) is str and digest:
        return f"code {escaped(digest[:12])}"
    commits = ", ".join(commit[:12] for commit in record["commit"].split(", "))
    return escaped(f"commit {commits}, no digest recorded")


def _command(record):
    """The command of the experiment, and the one that it was a part of."""
    alone = f"python -m experiments {record['experiment']}"
    whole = record["command"]
    if "quick" not in record or whole.startswith(alone):
        return code(whole)
    return f"{code(alone)} (here as part of {code(whole)})"


def _time(record):
    """Records without a digest do not count what was measured in an earlier run."""
    seconds, counts = record.get("seconds"), record.get("measurements")
    whole = type(counts) is not dict or not any(counts.get(k) for k in ("kept", "reused"))
    if type(seconds) not in (int, float) or not 0 <= seconds < 1e9:
        return "not recorded"
    if not (whole or record.get("code")):
        return "not recorded: part of it was measured in an earlier run"
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"


def _size(size):
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
