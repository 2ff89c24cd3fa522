"""Merging branches: element-wise sum, and concatenation along the channels.

add: y = x_0 + x_1 + ...                    dx_i = e
concatenate: y[:, C_0 + ... + C_{i-1} + c] = x_i[:, c];   dx_i = the same slice of e
"""

from kernels import checks


def check_add(maps) -> None:
    """Refuse ``maps`` that cannot be added: none, or of unlike shape or dtype."""
    checks.sequence("maps", maps)
    checks.same_map(**{f"maps[{i}]": x for i, x in enumerate(maps)})


def concatenated_shape(maps) -> tuple[int, int, int, int]:
    """Shape of ``maps`` joined along their channels; checks the arguments."""
    checks.sequence("maps", maps)
    checks.array("maps[0]", maps[0], (None,) * 4)
    n, _, h, w = maps[0].shape
    for i, x in enumerate(maps):
        checks.array(f"maps[{i}]", x, (n, None, h, w))
    checks.same_dtype(**{f"maps[{i}]": x for i, x in enumerate(maps)})
    return (n, sum(x.shape[1] for x in maps), h, w)


def check_split(error, channels) -> None:
    """Check the arguments of a concatenation's gradient."""
    checks.array("error", error, (None,) * 4)
    checks.sequence("channels", channels)
    for i, number in enumerate(channels):
        checks.count(f"channels[{i}]", number, most=error.shape[1])
    if sum(channels) != error.shape[1]:
        raise ValueError(
            f"channels is {tuple(channels)}; expected positive ints that add up to {error.shape[1]}"
        )
